"""What the book itself costs: notebooks, site, imports and tests, each with a budget.

``python -m benchmarks.book`` measures everything.  Name parts (``notebooks site imports
tests``) to measure only these; the others keep what this machine measured earlier.
The budgets are in ``budgets.json``, at the speed given there; this machine's speed is
measured beside each part.  The command fails if a budget is exceeded.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil

from benchmarks import budgets as limits
from benchmarks import page
from benchmarks.common import RESULTS, machine, matrix_product_speed, save
from tools.install_kernel import ENVIRONMENT as KERNEL_ENVIRONMENT

ROOT = Path(__file__).parent.parent
BIN = Path(sys.executable).parent
ENVIRONMENT = {"KERAS_BACKEND": "tensorflow", **KERNEL_ENVIRONMENT}
IMPORT = """
import sys, time
start = time.perf_counter()
import {name}
print(time.perf_counter() - start, "keras" in sys.modules)
"""


def memory(process: psutil.Process) -> int:
    """Return the resident bytes of a process and all that it started.

    Pages that two processes share count twice, so this is never too little.
    """
    total = 0
    try:
        family = [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0
    for member in family:
        try:
            total += member.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return total


def watched(command: Sequence[str | Path]) -> dict[str, Any]:
    """Run a command; return its seconds, its peak memory, and whether it passed."""
    environment = {**os.environ, **ENVIRONMENT}
    environment.pop("MPLBACKEND", None)  # the kernel chooses
    peak = 0
    with tempfile.TemporaryFile("w+") as log:
        start = time.perf_counter()
        process = psutil.Popen(
            list(map(str, command)),
            cwd=ROOT,
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        while process.poll() is None:
            peak = max(peak, memory(process))
            time.sleep(0.05)
        taken = time.perf_counter() - start
        if process.returncode:
            log.seek(0)
            print("".join(log.readlines()[-20:]), file=sys.stderr)
    return {
        "seconds": round(taken, 1),
        "gb": round(peak / 1e9, 2),
        "passed": process.returncode == 0,
    }


def notebooks(budgets: dict, known: list[dict], only: list[str]) -> list[dict]:
    """Run each notebook in a fresh kernel; what it prints is thrown away.

    With ``only`` (numbers such as 08) the others keep what is ``known`` of them.
    """
    rows, known_rows = [], {row["name"]: row for row in known}
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        if only and path.stem[:2] not in only:
            rows += [known_rows[path.stem]] if path.stem in known_rows else []
            continue
        cells = json.loads(path.read_text("utf-8"))["cells"]
        before = matrix_product_speed()
        with tempfile.TemporaryDirectory() as folder:
            row = watched(
                [BIN / "jupyter", "nbconvert", "--to", "notebook", "--execute"]
                + ["--log-level=ERROR", "--output-dir", folder, path]
            )
        rows.append(
            {
                "name": path.stem,
                **row,
                "gflops": round((before + matrix_product_speed()) / 2, 1),
                "cells": len(cells),
                "code_cells": sum(c["cell_type"] == "code" for c in cells),
                "kb": round(path.stat().st_size / 1000),
            }
        )
        print(rows[-1], flush=True)
    return rows


def site(budgets: dict) -> list[dict]:
    """Build the site in an empty folder, then again after one page has changed."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name in ("clean build", "one changed page"):
            if rows:  # a new time stamp is a change, as far as Sphinx can tell
                (ROOT / "book" / "notation.md").touch()
            row = watched(
                [BIN / "jupyter-book", "build", ".", "-W", "-n", "--keep-going"]
                + ["--quiet", "--path-output", folder]
            )
            rows.append({"name": name, **row})
            print(rows[-1], flush=True)
    return rows


def imports(budgets: dict) -> list[dict]:
    """Import the package and each light module in fresh processes: medians of 5."""
    rows = []
    for name in ("", *budgets["light_modules"]):
        full = f"genai_utils.{name}".strip(".")
        command = [sys.executable, "-c", IMPORT.format(name=full)]
        runs = [
            subprocess.check_output(command, cwd=ROOT, text=True).split()
            for _ in range(5)
        ]
        taken = statistics.median(float(run[0]) for run in runs)
        keras = runs[0][1] == "True"
        rows.append({"name": full, "seconds": round(taken, 3), "keras": keras})
        print(rows[-1], flush=True)
    return rows


def tests(budgets: dict) -> list[dict]:
    """Run ``make test``, one target after the other."""
    rows = []
    for name in limits.TARGETS:
        row = watched(["make", "--no-print-directory", name])
        rows.append({"name": name, **row})
        print(rows[-1], flush=True)
    return rows


PARTS = {"notebooks": notebooks, "site": site, "imports": imports, "tests": tests}


def earlier(here: dict) -> dict:
    """Return what this machine has measured before, with the dates."""
    path = RESULTS / "book.json"
    if not path.exists():
        return {"dates": {}}
    stored = json.loads(path.read_text("utf-8"))
    there = stored.pop("machine")
    same = all(there[k] == here[k] for k in ("processor", "cores", "python"))
    return stored if same else {"dates": {}}


def main() -> int:
    """Measure, store, fill the pages, compare; 1 if a budget is exceeded."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="part", help=", ".join(PARTS))
    parser.add_argument("--skip-tests", action="store_true", help="no make test")
    parser.add_argument("--only", nargs="*", default=[], help="notebooks, such as 08")
    options = parser.parse_args()
    wanted = options.parts or [
        p for p in PARTS if p != "tests" or not options.skip_tests
    ]
    if unknown := set(wanted) - set(PARTS):
        parser.error(f"expected parts among {', '.join(PARTS)}; received {unknown}")
    budgets = limits.read()
    results = earlier(machine())
    for part in wanted:
        before = matrix_product_speed()
        more = (results.get(part, []), options.only) if part == "notebooks" else ()
        results[part] = PARTS[part](budgets, *more)
        beside = (before + matrix_product_speed()) / 2
        results.setdefault("gflops", {})[part] = round(beside, 1)
        results["dates"][part] = time.strftime("%Y-%m-%d")
        save("book", results)
        page.main()  # the tests compare the pages with the results
    measured = {key: results[key] for key in ("gflops", *wanted)}
    faults = limits.complaints(measured, budgets)
    print("\n".join(faults) if faults else "Everything is within its budget.")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
