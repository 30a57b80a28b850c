"""The programs on the pages about tools and bug reports run, each in a fresh Python.

A block whose packages are not installed here is skipped, by the name of its section.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

BOOK = Path(__file__).parent.parent / "book"
TOOLS = (BOOK / "tools.md").read_text("utf-8")
REPORT = (BOOK / "report-a-bug.md").read_text("utf-8")
FENCE = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
#: Tools whose block may be long: these many lines that are not empty.
LONGEST = 13


def blocks(page: str) -> dict[str, str]:
    """Return the Python programs of a page, by the heading that they stand under."""
    parts = re.split(r"^#+ (.+)$", page, flags=re.MULTILINE)
    pairs = zip(parts[1::2], parts[2::2], strict=True)
    found = [(title, code) for title, text in pairs for code in FENCE.findall(text)]
    assert len(dict(found)) == len(found), "two programs stand under one heading"
    return dict(found)


def packages(code: str) -> set[str]:
    """Return the names of the packages that a program imports."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(str(node.module).split(".")[0])
    return names


def absent(code: str) -> list[str]:
    """Return what a program imports and this Python does not have."""
    return sorted(name for name in packages(code) if find_spec(name) is None)


def run(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a program as a reader would, in an empty folder and without a network."""
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "HF_HUB_OFFLINE": "1"}
    (folder / "block.py").write_text(code, "utf-8")
    return subprocess.run(
        [sys.executable, "block.py"],
        cwd=folder,
        env={**os.environ, **quiet},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def cases() -> list:
    """Return one case a program; those for JAX and PyTorch also run beside these."""
    marks = {
        title: [pytest.mark.engines] if packages(code) & {"jax", "torch"} else []
        for title, code in blocks(TOOLS).items()
    }
    return [
        pytest.param(title, code, id=title, marks=marks[title])
        for title, code in blocks(TOOLS).items()
    ]


@pytest.mark.parametrize(("title", "code"), cases())
def test_tool_does_what_its_section_says(title, code, tmp_path):
    if lost := absent(code):
        pytest.skip(f"{title}: this Python lacks {', '.join(lost)}")
    done = run(code, tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]


def test_every_tool_has_a_short_program_that_asserts_its_result():
    found = blocks(TOOLS)
    table = re.findall(r"^\| \[[^]]+\]\(#([a-z0-9-]+)\)", TOOLS, re.MULTILINE)
    assert [re.sub(r"[^a-z0-9]+", "-", title.lower()) for title in found] == table
    for title, code in found.items():
        lines = [line for line in code.splitlines() if line.strip()]
        assert len(lines) <= LONGEST and max(map(len, lines)) <= 88, title
        assert isinstance(ast.parse(code).body[-1], ast.Assert), title


def test_report_names_versions_and_the_processor(tmp_path):
    (code,) = blocks(REPORT).values()
    done = run(code, tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    import keras

    assert keras.__version__ in done.stdout
    assert "{}.{}.{}".format(*sys.version_info) in done.stdout


def test_checker_finds_a_wrong_result_and_a_missing_package(tmp_path):
    page = "# One\n```python\nimport nowhere_at_all\nassert 1 == 2\n```\n# Two\n"
    (code,) = blocks(page).values()
    assert absent(code) == ["nowhere_at_all"]
    assert run("assert 1 == 2", tmp_path).returncode == 1
