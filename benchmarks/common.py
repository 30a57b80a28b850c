"""What every benchmark shares: the machine's description, the clock, the results."""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from importlib import metadata
from operator import truediv
from pathlib import Path
from typing import Any

import numpy as np

RESULTS = Path(__file__).parent / "results"


def seconds(action: Callable[[], Any]) -> float:
    """Return how long one call of ``action`` takes, in seconds."""
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def take_turns(
    ways: dict[str, Callable[[], Any]], rounds: int, limit: float
) -> tuple[dict[str, float], dict[str, list[float]]]:
    """Time several ways to do one thing, round after round, in changing order.

    A slow moment of the machine then meets all of them.

    Args:
        ways: What each way does, by name.
        rounds: At least so many of each.
        limit: Seconds to spend, at least.

    Returns:
        Seconds of the first call of each, which are not among the others, and of all
        later calls.
    """
    first = {way: round(seconds(action), 2) for way, action in ways.items()}
    took: dict[str, list[float]] = {way: [] for way in ways}
    done, spent = 0, 0.0
    while done < rounds or spent < limit:
        for way in list(ways)[:: 1 if done % 2 else -1]:
            took[way].append(seconds(ways[way]))
            spent += took[way][-1]
        done += 1
    return first, took


def faster(times: list[float], others: list[float]) -> float:
    """Return how fast one way is against another: the median over rounds."""
    return round(statistics.median(map(truediv, others, times)), 3)


def matrix_product_speed(n: int = 2048, repeats: int = 7) -> float:
    """Return the machine's single-precision matrix-product speed in GFLOP/s.

    Args:
        n: Rows and columns of the two matrices.
        repeats: The median of so many products is taken, after one to warm up.
    """
    a = np.ones((n, n), "float32")
    a @ a
    return (
        2e-9 * n**3 / statistics.median(seconds(lambda: a @ a) for _ in range(repeats))
    )


def machine() -> dict:
    """Describe processor, memory, Python and the versions of the backends."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    models = [x.split(":")[1].strip() for x in lines if x.startswith("model name")]
    flags = next((x for x in lines if x.startswith("flags")), "")
    versions = {}
    for name in ("keras", "tensorflow", "tensorflow-cpu", "jax", "torch", "numpy"):
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "processor": models[0] if models else platform.processor(),
        "cores": len(os.sched_getaffinity(0)),
        "vector_instructions": [
            f for f in ("avx2", "avx512f", "amx_tile") if f in flags.split()
        ],
        "memory_gib": round(pages / 2**30, 1),
        "matrix_product_gflops": round(matrix_product_speed(), 1),
        "python": platform.python_version(),
        "versions": versions,
        "date": time.strftime("%Y-%m-%d"),
    }


def save(name: str, results: dict, path: Path | None = None) -> Path:
    """Write ``results`` and the machine's description to ``results/NAME.json``.

    Args:
        name: Name of the benchmark.
        results: What it found.
        path: Another file to write to.
    """
    path = path or RESULTS / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"machine": machine(), **results}, indent=1)
    path.write_text(text + "\n", encoding="utf-8")
    return path
