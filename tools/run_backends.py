"""Run notebooks on other backends, and report which cells pass; nothing is stored.

The notebooks run in a temporary copy, to the end even if a cell fails.  Cells tagged
``tensorflow-only`` are left out; on a notebook's first code cell the tag leaves out
the whole notebook.  The bands are asserted as they are: random numbers differ from
backend to backend, so a band may be left although nothing is broken.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import sys
import tempfile
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellTimeoutError, DeadKernelError

ROOT = Path(__file__).parent.parent
TAG = "tensorflow-only"
BACKENDS = ("tensorflow", "jax", "torch")
COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def without_tensorflow(book: nbformat.NotebookNode) -> nbformat.NotebookNode | None:
    """Leave out what only TensorFlow can run; None if nothing is left to run."""
    code = [c for c in book.cells if c.cell_type == "code"]
    if not code or TAG in code[0].metadata.get("tags", []):
        return None
    book.cells = [c for c in book.cells if TAG not in c.metadata.get("tags", [])]
    return book


def failures(book: nbformat.NotebookNode) -> list[str]:
    """Say of each cell that failed, although it should not, which one it is and how."""
    lines = []
    code = [c for c in book.cells if c.cell_type == "code"]
    for number, cell in enumerate(code, 1):
        if "raises-exception" in cell.metadata.get("tags", []):
            continue
        for output in cell.outputs:
            if output.output_type == "error":
                value = COLOUR.sub("", output.evalue).strip().split("\n")[0]
                start = cell.source.strip().split("\n")[0]
                lines.append(f"cell {number} ({start}): {output.ename}: {value}"[:200])
    return lines


def run(path: Path, backend: str, timeout: int = 900) -> tuple[str, list[str]]:
    """Run one notebook of a folder that may be written to.

    Args:
        path: The notebook.
        backend: Of Keras: ``"tensorflow"``, ``"jax"`` or ``"torch"``.
        timeout: Seconds for one cell.

    Returns:
        What happened, in a few words, and a line for each cell that failed.
    """
    book = nbformat.read(path, 4)
    total = sum(c.cell_type == "code" for c in book.cells)
    if backend != "tensorflow" and (book := without_tensorflow(book)) is None:
        return "left out: it is about TensorFlow", []
    client = NotebookClient(book, timeout=timeout, kernel_name="python3")
    client.allow_errors = True
    environment = {k: v for k, v in os.environ.items() if k != "MPLBACKEND"}
    environment["KERAS_BACKEND"] = backend
    start = time.perf_counter()
    try:
        client.execute(cwd=str(path.parent), env=environment)
    except (CellTimeoutError, DeadKernelError) as error:
        return "stopped", [f"{type(error).__name__}: {str(error).splitlines()[0]}"]
    count = sum(c.cell_type == "code" for c in book.cells)
    faults = failures(book)
    text = f"{count - len(faults)} of {count} cells pass"
    if count < total:
        text += f", {total - count} are only for TensorFlow"
    return f"{text}, {time.perf_counter() - start:.0f} s", faults


def main() -> int:
    """Read the command line; 1 if a cell failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backend", choices=BACKENDS, action="append")
    parser.add_argument("notebooks", nargs="+", type=Path)
    options = parser.parse_args()
    failed = False
    for backend in options.backend or BACKENDS[1:]:
        for path in options.notebooks:
            with tempfile.TemporaryDirectory() as folder:
                for name in ("notebooks", "assets"):
                    shutil.copytree(ROOT / name, Path(folder) / name)
                copy = Path(folder) / "notebooks" / path.name
                shutil.copy(path, copy)
                words, faults = run(copy, backend)
            print(f"{path.stem} on {backend}: {words}", *faults, sep="\n    ")
            sys.stdout.flush()
            failed |= bool(faults)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
