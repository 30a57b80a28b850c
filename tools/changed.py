"""Print the notebooks that a change can have touched, beside a branch (``main``).

A notebook is named if one of its code cells differs from the one on the branch (source,
tags or stored output), if a file of ``genai_utils`` that it imports differs, directly
or through other files, or if what holds for all notebooks differs: pinned packages, the
comparison.  What ``make test-changed`` leaves out this way, ``make test`` still runs.
"""

from __future__ import annotations

import argparse
import ast
import json
import re
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
PACKAGE = "genai_utils"
FOR_ALL = ("requirements.txt", "conftest.py", "tools/install_kernel.py")


def git(root: Path, *arguments: str) -> str:
    """Run git there and return what it prints.

    Raises:
        ValueError: If git fails, as for a branch that does not exist.
    """
    ran = subprocess.run(
        ["git", *arguments], cwd=root, capture_output=True, encoding="utf-8"
    )
    if ran.returncode:
        raise ValueError(
            f"`git {' '.join(arguments)}` must work. Received: {ran.stderr.strip()}. "
            "Name a branch or commit that exists: make test-changed BASE=..."
        )
    return ran.stdout


def changed_files(root: Path, base: str) -> set[str]:
    """Return the files that differ from a branch, those that git does not know too."""
    common = git(root, "merge-base", base, "HEAD").strip()
    known = git(root, "diff", "--name-only", "--no-renames", "-z", common)
    new = git(root, "ls-files", "--others", "--exclude-standard", "-z")
    return set((known + new).split("\0")) - {""}


def code_cells(text: str) -> list[Any]:
    """Return what a test of a notebook depends on: its code cells and their outputs."""
    return [
        ["".join(c["source"]), c.get("outputs"), c["metadata"].get("tags", [])]
        for c in json.loads(text)["cells"]
        if c["cell_type"] == "code"
    ]


def cells_changed(root: Path, base: str, name: str) -> bool:
    """Tell whether a notebook's code cells differ from those on a branch."""
    common = git(root, "merge-base", base, "HEAD").strip()
    if not git(root, "ls-tree", "--name-only", common, name):
        return True
    before = git(root, "show", f"{common}:{name}")
    return code_cells(before) != code_cells((root / name).read_text("utf-8"))


def modules(root: Path) -> dict[str, Path]:
    """Return the files of the package by the name of the module."""
    found = {}
    for path in sorted((root / PACKAGE).rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def parsed(source: str) -> ast.Module:
    """Parse Python, or a notebook's cell with magic lines, which are left out."""
    try:
        return ast.parse(source)
    except SyntaxError:
        return ast.parse(re.sub(r"^(\s*)[%!].*", r"\1pass", source, flags=re.M))


def imported(source: str, known: Iterable[str], package: str = "") -> set[str]:
    """Return the modules of the package that a source imports, anywhere in it.

    Nobody can tell what ``import_module`` loads: all modules below ``package`` count
    where the source is its ``__init__``, and otherwise all there are.
    """
    names: set[str] = set()
    for node in ast.walk(parsed(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{a.name}" for a in node.names)}
    if "import_module(" in source:
        names |= {n for n in known if not package or n.startswith(f"{package}.")}
    parents = {n.rsplit(".", k)[0] for n in names for k in range(n.count(".") + 1)}
    return parents & set(known)


def reached(names: Iterable[str], files: dict[str, Path]) -> set[str]:
    """Return the modules that are loaded with some, directly or through others."""
    seen: set[str] = set()
    todo = list(names)
    while todo:
        if (name := todo.pop()) in seen:
            continue
        seen.add(name)
        package = name if files[name].name == "__init__.py" else ""
        todo += imported(files[name].read_text("utf-8"), files, package)
    return seen


def affected(root: Path, base: str = "main") -> dict[str, str]:
    """Return the notebooks that a change can have touched, each with the reason.

    Args:
        root: The folder of the book.
        base: What to compare the working tree with: a branch or a commit.
    """
    changed = changed_files(root, base)
    files = modules(root)
    changed_modules = {
        n for n, p in files.items() if str(p.relative_to(root)) in changed
    }
    gone = {n for n in changed if n.startswith(f"{PACKAGE}/")} - {
        str(files[n].relative_to(root)) for n in changed_modules
    }  # weights, registries, and modules that were removed
    everywhere = sorted(changed & set(FOR_ALL))
    found = {}
    for path in sorted((root / "notebooks").glob("*.ipynb")):
        name = str(path.relative_to(root))
        cells = code_cells(path.read_text("utf-8"))
        loaded = reached({m for c in cells for m in imported(c[0], files)}, files)
        if everywhere:
            found[name] = f"{everywhere[0]} changed"
        elif name in changed and cells_changed(root, base, name):
            found[name] = "its cells changed"
        elif loaded & changed_modules:
            found[name] = f"{min(loaded & changed_modules)} changed"
        elif loaded and gone:
            found[name] = f"{min(gone)} changed"
    return found


def main() -> None:
    """Read the command line; print the names, or with ``--why`` the reasons too."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base", default="main", help="a branch or a commit")
    parser.add_argument("--why", action="store_true", help="print the reasons")
    options = parser.parse_args()
    try:
        found = affected(ROOT, options.base)
    except ValueError as error:
        parser.error(str(error))
    for name, reason in found.items():
        print(f"{name}: {reason}" if options.why else name)


if __name__ == "__main__":
    main()
