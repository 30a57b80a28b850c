"""Put faults into a copy of the package, at random, and see whether a test falls.

`make mutants` draws ``--number`` places from each group of modules, and for each place
one of the faults that cosmic-ray knows (another operator, constant, comparison, ...).
It writes it into a copy of the package and runs the tests of that group there, on
TensorFlow.  A fault that no test notices is printed: write a test for it, or say why it
changes nothing.

The work tree is never touched.  Each run is a fork of one process that has imported
TensorFlow already, which saves the start of Python a hundred times (not on Windows).
"""

from __future__ import annotations

import argparse
import ast
import importlib
import os
import random
import shutil
import signal
import site
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parent.parent
SEED, NUMBER = 2026, 12
GROUPS = {  # modules: tests that hold them; the cheap ones first
    "losses": (["losses"], ["losses"]),
    "metrics": (["metrics"], ["metrics"]),
    "data": (
        ["data/toys", "data/images", "data/mess", "data/fetch"],
        ["data", "data_mess", "fetch"],
    ),
    "judge": (["judge"], ["judge"]),
    "layers": (["layers"], ["layers"]),
    "vae": (["models/vae"], ["vae", "game"]),
    "gan": (["models/gan"], ["gan", "game"]),
    "game": (
        ["game", "players", "feeding", "optimizers", "callbacks"],
        ["game", "feeding", "optimizers", "callbacks"],
    ),
}
SLOW = [  # tests of seconds that repeat what faster ones say
    "real_from_real",
    "noise_does_not_cover",
    "noise_covers_the_digits",
    "found_with_precision_and_recall",
]


def annotations(source: str) -> list[tuple]:
    """Return where annotations start and end: nothing in them is ever run."""
    found = []
    for node in ast.walk(ast.parse(source)):
        for name in ("annotation", "returns"):
            part = getattr(node, name, None)
            if part is not None:
                start, end = (part.lineno, part.col_offset), part.end_lineno
                found.append((start, (end, part.end_col_offset)))
    return found


def places(path: Path) -> dict[tuple, list]:
    """Map each place of a file to the faults that cosmic-ray knows for it."""
    from cosmic_ray.ast import ast_nodes, get_ast
    from cosmic_ray.operators.provider import OperatorProvider

    source = path.read_text("utf-8")
    nodes, idle = list(ast_nodes(get_ast(source))), annotations(source)
    found = defaultdict(list)
    provider = OperatorProvider()
    for name in sorted(provider):
        operator = provider[name]
        if operator.arguments() or name == "NoOp":
            continue
        positions = (at for node in nodes for at in operator().mutation_positions(node))
        for occurrence, (start, end) in enumerate(positions):
            if not any(low <= start < high for low, high in idle):
                found[path, start, end].append((name, occurrence))
    return found


def drawn(package: Path, modules: list[str], number: int, seed: str) -> list[tuple]:
    """Draw places without repetition, and a fault for each."""
    known = {}
    for module in modules:
        known |= places(package / f"{module}.py")
    rng = random.Random(seed)
    chosen = rng.sample(sorted(known), min(number, len(known)))
    return [(place, *rng.choice(known[place])) for place in chosen]


def mutated(source: str, name: str, occurrence: int) -> str:
    """Return the source with a fault in it."""
    from cosmic_ray.mutating import mutate_code
    from cosmic_ray.operators.provider import OperatorProvider

    return mutate_code(source, OperatorProvider()[name](), occurrence)


def run_tests(copy: Path, tests: list[str], limit: float) -> str:
    """Run tests in a fork of this process: ``"passed"``, ``"failed"`` or ``"late"``."""
    pid = os.fork()
    if pid == 0:
        os.setsid()
        os.chdir(copy)
        sys.path.insert(0, str(copy))
        quiet = os.open(copy / "output.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(quiet, 1)
        os.dup2(quiet, 2)
        code = 70
        try:
            import pytest

            files = [f"tests/test_{t}.py" for t in tests]
            files = [f for f in files if Path(f).exists()]
            only = "not (" + " or ".join(SLOW) + ")"
            plain = ["-x", "-q", "-p", "no:cacheprovider", "-k", only]
            code = int(pytest.main([*files, *plain]))
        finally:
            os._exit(code)
    end = time.monotonic() + limit
    while time.monotonic() < end:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return "failed" if os.waitstatus_to_exitcode(status) else "passed"
        time.sleep(0.05)
    os.killpg(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return "late"


def try_group(name: str, copy: Path, number: int, seed: int) -> list[str]:
    """Try a group's mutants; return a line for each that survived."""
    modules, tests = GROUPS[name]
    start = time.monotonic()
    if run_tests(copy, tests, 3600) != "passed":
        sys.exit(f"{name}: the tests fail without a fault:\n" + tail(copy))
    limit = 60 + 5 * (time.monotonic() - start)
    survivors = []
    for place, operator, occurrence in drawn(
        copy / "genai_utils", modules, number, f"{seed} {name}"
    ):
        path, (line, _), _ = place
        source = path.read_text("utf-8")
        path.write_text(mutated(source, operator, occurrence), "utf-8")
        changed = path.read_text("utf-8").split("\n")[line - 1].strip()
        try:
            outcome = run_tests(copy, tests, limit)
        finally:
            path.write_text(source, "utf-8")
        verdict = "SURVIVED" if outcome == "passed" else "killed"
        told = f"{verdict:8} {path.relative_to(copy)}:{line} {operator}: {changed}"
        by = "timeout" if outcome == "late" else tail(copy)
        print(told if outcome == "passed" else f"{told}  # {by}", flush=True)
        if outcome == "passed":
            survivors.append(told)
    return survivors


def tail(copy: Path) -> str:
    """Name the test that fell."""
    lines = (copy / "output.txt").read_text("utf-8", "replace").split("\n")
    fallen = [line for line in lines if line.startswith(("FAILED", "ERROR"))]
    return fallen[0][:120] if fallen else "\n".join(lines[-4:])


def main() -> int:
    """Try the mutants of the groups that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("groups", nargs="*", default=list(GROUPS))
    parser.add_argument("--number", type=int, default=NUMBER, help="mutants a group")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--list", action="store_true", help="draw, run nothing")
    asked = parser.parse_args()
    os.environ |= {"MPLBACKEND": "Agg", "KERAS_BACKEND": "tensorflow"}
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.dont_write_bytecode = True  # two faults within a second look alike to a cache
    for folder in ROOT.glob(".venv-mutants/lib/python*/site-packages"):
        site.addsitedir(str(folder))  # cosmic-ray, behind what .venv has
    if not asked.list:  # imported here, each fork has them
        for name in ("keras", "pytest", "scipy.stats", "sklearn.datasets"):
            importlib.import_module(name)
    survivors, tried = [], 0
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        for part in ("genai_utils", "tests"):
            dropped = shutil.ignore_patterns("__pycache__", "browser")
            shutil.copytree(ROOT / part, copy / part, ignore=dropped)
        for part in ("conftest.py", "pyproject.toml"):
            shutil.copy(ROOT / part, copy)
        for name in asked.groups:
            if asked.list:
                package = copy / "genai_utils"
                for (path, (line, _), _), operator, occurrence in drawn(
                    package, GROUPS[name][0], asked.number, f"{asked.seed} {name}"
                ):
                    source = path.read_text("utf-8")
                    fault = mutated(source, operator, occurrence).split("\n")[line - 1]
                    print(f"{path.relative_to(copy)}:{line} {operator}")
                    print("   ", source.split("\n")[line - 1].strip())
                    print("   ", fault.strip())
                continue
            survivors += try_group(name, copy, asked.number, asked.seed)
            tried += asked.number
    if not asked.list:
        print(f"{len(survivors)} of about {tried} survived, seed {asked.seed}:")
        print("\n".join(survivors))
    return 0


if __name__ == "__main__":
    sys.exit(main())
