"""Run notebooks from a fresh kernel and store their outputs.

A notebook is edited through its view ``.jupytext/NAME.py`` (py:percent, not committed):
``make views`` writes the views, ``make notebooks`` takes each view that is newer than
its notebook, runs the notebook in the environment of the tests and stores it.
"""

from __future__ import annotations

import argparse
import base64
import io
import os
import re
import time
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient
from PIL import Image

ROOT = Path(__file__).parent.parent
VIEWS = ROOT / ".jupytext"
THUMBNAILS = ROOT / "assets" / "thumbnails"
WIDTH = 480  # pixels of a thumbnail, at the most
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}
LANGUAGE = {"name": "python", "file_extension": ".py", "pygments_lexer": "ipython3"}


def view_of(path: Path) -> Path:
    """The view that belongs to a notebook."""
    return VIEWS / f"{path.stem}.py"


def settled(text: str) -> str:
    """Return what a terminal shows in the end: a progress bar's last state."""
    lines = text.replace("\x08", "").split("\n")
    seen = [
        next((p for p in line.split("\r")[::-1] if p.strip()), "") for line in lines
    ]
    last = [a for a, b in zip(seen, [*seen[1:], ""], strict=True) if not _grows(a, b)]
    return "\n".join(last)


def _grows(line: str, following: str) -> bool:
    """Say whether the following line is the same progress bar, further on."""
    bar = re.compile(r"(\x1b\[1m)? *\d+/(\d+)\b")
    a, b = bar.match(line), bar.match(following)
    return bool(a and b and a[2] == b[2])


def cleaned(book: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Drop what changes from run to run: timings, stderr, random cell names."""
    book.metadata = {"kernelspec": KERNEL, "language_info": LANGUAGE}
    for i, cell in enumerate(book.cells):
        cell["id"] = f"cell-{i:02d}"
        cell.metadata.pop("execution", None)
        cell.metadata.pop("lines_to_next_cell", None)
        if cell.cell_type == "code":
            cell.outputs = [o for o in cell.outputs if o.get("name") != "stderr"]
            _settle(cell.outputs)
    return book


def _settle(outputs: list) -> None:
    """Join what was printed in pieces, and keep what it came to."""
    for i in range(len(outputs) - 1, 0, -1):
        if outputs[i].get("name") == outputs[i - 1].get("name") == "stdout":
            outputs[i - 1].text += outputs.pop(i).text
    for output in outputs:
        if output.get("name") == "stdout" and "\r" in output.text:
            output.text = settled(output.text)


def write_thumbnail(path: Path, book: nbformat.NotebookNode) -> None:
    """Store the picture of the cell tagged ``thumbnail`` as the chapter's card."""
    pictures = [
        output.data["image/png"]
        for cell in book.cells
        if "thumbnail" in cell.metadata.get("tags", [])
        for output in cell.get("outputs", [])
        if "image/png" in output.get("data", {})
    ]
    if not pictures:
        return
    picture = Image.open(io.BytesIO(base64.b64decode(pictures[-1]))).convert("RGB")
    picture.thumbnail((WIDTH, 2 * WIDTH))
    THUMBNAILS.mkdir(exist_ok=True)
    picture.save(THUMBNAILS / f"{path.stem[:2]}.png", optimize=True)


def run(path: Path) -> None:
    """Take over the view if it is newer, execute, store."""
    view = view_of(path)
    fresh = view.exists() and (
        not path.exists() or view.stat().st_mtime > path.stat().st_mtime
    )
    book = jupytext.read(view) if fresh else nbformat.read(path, 4)
    start = time.perf_counter()
    client = NotebookClient(book, timeout=600, kernel_name="python3")
    client.execute(cwd=str(path.parent))
    nbformat.write(cleaned(book), path)
    write_thumbnail(path, book)
    print(f"{path.name}: {time.perf_counter() - start:.0f} s", flush=True)


def write_view(path: Path) -> None:
    """Write the view of a notebook, without its outputs; keep one that is newer."""
    view = view_of(path)
    if view.exists() and view.stat().st_mtime > path.stat().st_mtime:
        print(f"{view.name}: newer than its notebook, left alone", flush=True)
        return
    VIEWS.mkdir(exist_ok=True)
    jupytext.write(nbformat.read(path, 4), view, fmt="py:percent")
    stamp = path.stat().st_mtime  # as old as the notebook: nothing to take over yet
    os.utime(view, (stamp, stamp))


def write_student_copy(path: Path) -> None:
    """Write a copy without solutions and outputs into ``student/``."""
    book = nbformat.read(path, 4)
    book.cells = [c for c in book.cells if "solution" not in c.metadata.get("tags", [])]
    for cell in book.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    target = ROOT / "student"
    target.mkdir(exist_ok=True)
    nbformat.write(book, target / path.name)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--views", action="store_true", help="write the views")
    parser.add_argument("--student", action="store_true", help="strip the solutions")
    parser.add_argument("notebooks", nargs="+", type=Path)
    arguments = parser.parse_args()
    job = run
    if arguments.views:
        job = write_view
    elif arguments.student:
        job = write_student_copy
    for path in arguments.notebooks:
        job(path)


if __name__ == "__main__":
    main()
