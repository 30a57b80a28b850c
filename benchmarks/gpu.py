"""What a graphics card does for the book, in one command and at most eight minutes.

On the card, for each backend that sees it: the tests of the models (those marked
`engines`); images a second of `Game.fit` and of the shortest loop written by hand, in
32 and 16 bits; peak memory; speed against batch size.  It needs Keras with JAX or
PyTorch, and pytest.  What the time does not suffice for is left out and named in the
results.  Without a card the same is done on the processor in a small version, whose
results never become the book's.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from operator import truediv
from pathlib import Path
from typing import Any

from benchmarks.common import RESULTS, save, seconds

SECONDS = 480
BACKENDS = ("torch", "jax", "tensorflow")  # the quickest to start first
POLICIES = {
    "float32": "float32",
    "bfloat16": "mixed_bfloat16",
    "float16": "mixed_float16",
}
ROOT = Path(__file__).parent.parent
CHAIN = 10  # products in one call, so that starting it costs nothing

#: What is done on a card: ``networks`` pairs a network with the side of its images,
#: ``halves`` are those that are also measured in 16 bits, ``round`` is how long one
#: timed run should take, ``least`` how many seconds must be left for a part to be
#: begun, ``tests`` the share of the time that they may take.
FULL: dict[str, Any] = {
    "networks": [["dense_gan", 28], ["dcgan", 28], ["dcgan", 64], ["conv_vae", 28]],
    "halves": [["dense_gan", 28], ["dcgan", 28], ["dcgan", 64], ["conv_vae", 28]],
    "threads": os.cpu_count() or 1,
    "batch": 128,
    "steps": 48,
    "rounds": 5,
    "round": 0.6,
    "product": 8192,
    "batches": [32, 128, 512, 2048, 8192],
    "batch_precisions": ["float32", "bfloat16"],
    "least": 15,
    "tests": 0.35,
}
SMALL: dict[str, Any] = {
    "networks": [["dense_gan", 8], ["dcgan", 8]],
    "halves": [["dense_gan", 8]],
    "threads": 1,
    "batch": 16,
    "steps": 16,
    "rounds": 2,
    "round": 0.05,
    "product": 128,
    "batches": [4, 64],
    "batch_precisions": ["float32"],
    "least": 1,
    "tests": 0.35,
}


def images(n: int, size: int) -> Any:
    """Return ``n`` random images (size, size, 1) in [-1, 1]."""
    import numpy as np

    rng = np.random.default_rng(0)
    return 2 * rng.random((n, size, size, 1), dtype="float32") - 1


def peak_mb() -> float:
    """Return the most memory of the card that was in use; on a CPU, of the process."""
    import keras

    from genai_utils import backends

    name = keras.backend.backend()
    if backends.device() == "CPU":
        import resource

        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6
    if name == "jax":
        import jax

        return jax.devices()[0].memory_stats()["peak_bytes_in_use"] / 1e6
    if name == "torch":
        import torch

        return torch.cuda.max_memory_allocated() / 1e6
    import tensorflow as tf

    return tf.config.experimental.get_memory_info("GPU:0")["peak"] / 1e6


def product_gflops(n: int, precision: str) -> float:
    """Return the speed of a product of two ``n`` x ``n`` matrices, in GFLOP/s.

    The numbers are random: with zeros a card is quicker than with anything else.
    """
    import numpy as np
    from keras import ops

    from benchmarks.parts import compiled, milliseconds

    a = np.random.default_rng(0).standard_normal((n, n)).astype("float32") / n**0.5
    a = ops.cast(ops.convert_to_tensor(a), precision)

    def chain(a: Any) -> Any:
        x = a
        for _ in range(CHAIN):
            x = ops.matmul(x, a)
        return ops.cast(x, "float32")  # TensorFlow hands out no bfloat16 scalar

    return 2e-6 * CHAIN * n**3 / max(milliseconds(compiled(chain), a), 0.01)


def survey(plan: dict, wanted: Sequence[str]) -> list[dict]:
    """Say what computes, and how fast it multiplies matrices in each precision."""
    from genai_utils import backends

    n = plan["product"] if backends.device() != "CPU" else SMALL["product"]
    speeds = {p: round(product_gflops(n, p), 1) for p in wanted}
    return [
        {
            "device": backends.device(),
            "software": backends.software(),
            "product_size": n,
            "product_gflops": speeds,
        }
    ]


def rounds(ways: dict[str, Callable], count: int) -> dict[str, list[float]]:
    """Time the ways in turn, so that a slow moment meets all; seconds by way."""
    took: dict[str, list[float]] = {way: [] for way in ways}
    for i in range(count):
        for way in list(ways)[:: -1 if i % 2 else 1]:
            took[way].append(seconds(ways[way]))
    return took


def speed(plan: dict, network: str, size: int, precision: str) -> list[dict]:
    """Measure `fit` and the hand-written loop of one network in one precision."""
    import keras

    from benchmarks.steps import LOOPS, make, round_flops
    from genai_utils.seeds import use_mixed_precision

    use_mixed_precision(POLICIES[precision])
    model = make(network, size)
    batch = plan["batch"]
    x = images(batch * plan["steps"], size)

    def fit(epochs: int = 1) -> None:
        model.fit(x, batch_size=batch, epochs=epochs, verbose=0)

    first = {"fit": seconds(fit)}
    peak = peak_mb()  # before the loop, which holds all images on the card
    loop = LOOPS[keras.backend.backend()]["loop"](model, batch)
    first["loop"] = seconds(lambda: loop(x))
    epochs = max(1, min(20, round(plan["round"] / seconds(fit))))
    ways: dict[str, Callable] = {"fit": lambda: fit(epochs)}
    ways["loop"] = lambda: [loop(x) for _ in range(epochs)]
    took = rounds(ways, plan["rounds"])
    rows = []
    for way, times in took.items():
        rates = [epochs * len(x) / t for t in times]
        rows.append(
            {"network": network, "size": size, "precision": precision, "way": way}
            | {"images_per_second": round(statistics.median(rates), 1)}
            | {"runs": [round(r, 1) for r in rates]}
            | {"mflop_an_image": round(round_flops(model) / 1e6, 4)}
            | {"first_call_seconds": round(first[way], 2)}
        )
    rows[0]["peak_mb"] = round(peak, 1)
    rows[0]["against_loop"] = round(
        statistics.median(map(truediv, took["loop"], took["fit"])), 3
    )
    return rows


def batches(plan: dict, precision: str) -> list[dict]:
    """Measure `fit` of the DCGAN for growing batches, the smallest first."""
    from benchmarks.steps import make
    from genai_utils.seeds import use_mixed_precision

    use_mixed_precision(POLICIES[precision])
    size = plan["networks"][1][1]
    model, rows = make("dcgan", size), []
    for batch in plan["batches"]:
        x = images(batch * 16, size)

        def fit(x: Any = x, batch: int = batch) -> None:
            model.fit(x, batch_size=batch, verbose=0)

        fit()
        times = rounds({"fit": fit}, plan["rounds"])["fit"]
        step = statistics.median(times) / 16
        rows.append(
            {"network": "dcgan", "size": size, "precision": precision, "batch": batch}
            | {"images_per_second": round(batch / step, 1)}
            | {"milliseconds_a_step": round(1e3 * step, 3)}
            | {"peak_mb": round(peak_mb(), 1)}
        )
    return rows


TASKS: dict[str, Callable[..., list[dict]]] = {
    "survey": survey,
    "speed": speed,
    "batches": batches,
}


def work(plan: dict, tasks: Sequence[Sequence]) -> None:
    """Do tasks in this process; print each row as a line of JSON."""
    from genai_utils.seeds import set_seed

    set_seed(threads=plan["threads"])
    for name, *arguments in tasks:
        try:
            rows = TASKS[name](plan, *arguments)
        except Exception as error:  # too little memory, a missing kernel: say it, go on
            lines = f"{type(error).__name__}: {error}".splitlines()
            what = " ".join(map(str, [name, *arguments]))
            rows, name = [{"what": what, "why": lines[0][:300]}], "failed"
        for row in rows:
            print("@" + json.dumps([name, row]), flush=True)


def command(arguments: list[str], limit: float, **variables: str) -> tuple[str, str]:
    """Run Python until ``limit`` seconds are over; return its output and what broke."""
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", **variables}
    environment.pop("PYTEST_XDIST_WORKER", None)  # where this is itself under test
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as wrong:
        process = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=ROOT,
            env=environment,
            stdout=out,
            stderr=wrong,
        )
        try:
            process.wait(max(limit, 0.1))
            broken = f"exit status {process.returncode}" if process.returncode else ""
        except subprocess.TimeoutExpired:
            broken = f"stopped after {limit:.0f} seconds"
        finally:
            process.kill()  # whatever ends this program ends the other one, too
            process.wait()
        out.seek(0)
        wrong.seek(0)
        said, complaint = out.read(), wrong.read()
    if broken.startswith("exit"):
        broken = (complaint or said).strip().rpartition("\n")[2][:300] or broken
    return said, broken


def ask(
    backend: str, plan: dict, tasks: list, limit: float
) -> tuple[dict[str, list], str]:
    """Have tasks done in a process of their own; return their rows, and what broke."""
    job = json.dumps({"plan": plan, "tasks": tasks})
    arguments = ["-m", "benchmarks.gpu", "--worker", job]
    threads = str(plan["threads"])
    out, broken = command(
        arguments, limit, KERAS_BACKEND=backend, OMP_NUM_THREADS=threads
    )
    rows: dict[str, list] = {}
    for line in out.splitlines():
        if line.startswith("@"):
            name, row = json.loads(line[1:])
            rows.setdefault(name, []).append(row)
            print(" ", row, flush=True)
    return rows, broken


def marked(small: bool) -> list[str]:
    """Return the files with tests marked `engines`; or a single, quick one."""
    if small:
        return ["tests/test_gpu_benchmark.py"]
    files = sorted((ROOT / "tests").glob("test_*.py"))
    found = [p for p in files if "mark.engines" in p.read_text("utf-8")]
    return [str(p.relative_to(ROOT)) for p in found]


def tests(backend: str, limit: float, small: bool = False) -> dict:
    """Run the tests marked `engines` on the card; count how they ended."""
    started = time.perf_counter()
    many = importlib.util.find_spec("xdist") and (os.cpu_count() or 1) >= 8
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "outcomes"
        path.touch()
        arguments = ["-m", "pytest", "-p", "benchmarks.outcomes", "-m", "engines", "-q"]
        arguments += ["-W", "default", "-p", "no:cacheprovider"]  # newer versions warn
        arguments += ["--continue-on-collection-errors", *(["-n", "6"] * bool(many))]
        _, broken = command(
            arguments + marked(small),
            limit,
            KERAS_BACKEND=backend,
            MPLBACKEND="Agg",
            OUTCOMES=str(path),
            XLA_PYTHON_CLIENT_PREALLOCATE="false",  # several processes on one card
        )
        lines = path.read_text("utf-8").splitlines()
        ended = [json.loads(line) for line in lines]
    found: dict[str, Any] = {
        kind: sum(outcome == kind for _, outcome, _ in ended)
        for kind in ("passed", "failed", "skipped")
    }
    found["failures"] = [f"{n}: {why}" for n, kind, why in ended if kind == "failed"]
    found["seconds"] = round(time.perf_counter() - started, 1)
    if broken and (broken.startswith("stopped") or not found["failures"]):
        found["incomplete"] = broken
    return found


def parts(plan: dict) -> list[tuple[str, list]]:
    """Return the parts of the measurement, the most telling first, with their tasks."""

    def fits(precision: str, which: str = "halves") -> list[tuple[str, list]]:
        return [
            (f"{network} {size}, {precision}", [["speed", network, size, precision]])
            for network, size in plan[which]
        ]

    series = [
        (f"batch size, {precision}", [["batches", precision]])
        for precision in plan["batch_precisions"]
    ]
    single = fits("float32", "networks")
    return [*single, ("tests", []), *fits("bfloat16"), *series, *fits("float16")]


def add_shares(found: dict) -> None:
    """Say what share of the matrix product's speed each network reaches."""
    for row in found["speed"]:
        product = found["product_gflops"][row["precision"]]
        gflops = row["images_per_second"] * row["mflop_an_image"] / 1e3
        row["gflops"] = round(gflops, 3)
        row["share_of_matrix_product"] = round(gflops / product, 6)


def measure(backend: str, plan: dict, until: float, small: bool) -> dict:
    """Measure one backend until the clock says ``until``; name what is left out."""
    found: dict[str, Any] = {"speed": [], "batches": [], "failed": [], "dropped": []}
    begun = time.monotonic()
    todo = [("survey", [["survey", list(POLICIES)]]), *parts(plan)]
    if small:  # one process for all: it starts once
        tasks = [task for _, inner in todo for task in inner]
        todo = [("everything", tasks), ("tests", [])]
    for name, tasks in todo:
        left = until - time.monotonic()
        if left < plan["least"]:
            found["dropped"].append(f"{name}: {max(left, 0):.0f} seconds were left")
            continue
        print(f"== {backend}: {name}", flush=True)
        if not tasks:
            share = plan["tests"] * (until - begun)
            found["tests"] = tests(backend, left if small else min(left, share), small)
            print(" ", found["tests"], flush=True)
            continue
        rows, broken = ask(backend, plan, tasks, left)
        if broken:
            found["failed"].append({"what": name, "why": broken})
        found |= rows.pop("survey", [{}])[0]
        for kind, more in rows.items():
            found[kind] += more
        if name in ("survey", "everything") and "device" not in found:
            return found
    add_shares(found)
    return found


def with_a_card(backends: Sequence[str], limit: float) -> tuple[list[str], list[str]]:
    """Return the backends that see a card, and all that can be imported."""
    code = "from genai_utils import backends; print('@' + backends.device())"
    cards, all_of_them = [], []
    for backend in backends:
        out, _ = command(["-c", code], limit, KERAS_BACKEND=backend)
        if "@" in out:
            all_of_them.append(backend)
            cards += [backend] if out.split("@")[1].strip() != "CPU" else []
    return cards, all_of_them


def where(out: Path | None, small: bool) -> Path:
    """Return the file to write; a small version's never is that of the book.

    Raises:
        SystemExit: If ``--out`` asks for it all the same.
    """
    mine = RESULTS / "gpu.json"
    if not small:
        return out or mine
    if out is not None and out.resolve() == mine.resolve():
        raise SystemExit(
            "`--out` must be another file than the book's for a small version, which "
            f"was not measured on a card. Received: {out}. Choose e.g. --out gpu.json "
            "in a folder of your own."
        )
    return out or Path(tempfile.mkdtemp()) / "gpu.json"


def earlier(path: Path, card: str) -> dict:
    """Return what a file holds of the same card, by backend."""
    if not path.exists():
        return {}
    found = json.loads(path.read_text("utf-8"))
    return found["backends"] if found.get("card") == card else {}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure each backend in its share of the time, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="budget")
    parser.add_argument("--backends", nargs="+", choices=BACKENDS, default=BACKENDS)
    parser.add_argument("--small", action="store_true", help="a small version")
    parser.add_argument("--out", type=Path, help="file to write")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    wanted = parser.parse_args(arguments)
    if wanted.worker:
        work(**json.loads(wanted.worker))
        return 0
    end = time.monotonic() + wanted.seconds
    cards, all_of_them = wanted.backends, wanted.backends
    if not wanted.small:
        cards, all_of_them = with_a_card(wanted.backends, wanted.seconds / 6)
    small = wanted.small or not cards
    path = where(wanted.out, small)
    chosen = [*all_of_them][:1] if small else cards
    if not chosen:
        print("Keras runs on none of", *wanted.backends)
        return 1
    found: dict[str, Any] = {}
    for i, backend in enumerate(chosen):
        share = (end - time.monotonic()) / (len(chosen) - i)
        until = time.monotonic() + share
        found[backend] = measure(backend, SMALL if small else FULL, until, small)
    names = [f["device"] for f in found.values() if "device" in f]
    if not names:
        print("Nothing could be measured:", *(f["failed"] for f in found.values()))
        return 1
    results = {"card": names[0], "small": small}
    results["backends"] = {**earlier(path, names[0]), **found}
    save("gpu", results, path)
    print(path)
    return int(any(f.get("tests", {}).get("failed", 0) for f in found.values()))


if __name__ == "__main__":
    sys.exit(main())
