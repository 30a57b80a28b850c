"""How the notebooks are tested: a made-up one whose data are, or are not, at hand."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture
def folder(tmp_path):
    """A folder with the book's conftest and two notebooks; one needs data."""
    shutil.copy(ROOT / "conftest.py", tmp_path)
    for name, tags in (("30-music", ["parameters", "data-jingles"]), ("06-plain", [])):
        cells = [
            nbformat.v4.new_code_cell(f"print({k})", metadata={"tags": tags})
            for k in range(3)
        ]
        for k, cell in enumerate(cells):
            cell.outputs = [nbformat.v4.new_output("stream", text=f"{k}\n")]
            cell.execution_count = k + 1
        nbformat.write(
            nbformat.v4.new_notebook(cells=cells), tmp_path / f"{name}.ipynb"
        )
    return tmp_path


def nbval(folder, *options, **environment):
    """Run nbval there, as the Makefile does; return the exit status and the text."""
    home = {"HOME": str(folder), "XDG_CACHE_HOME": str(folder / "cache")}
    gone = ("GENAI_DATA_DIR", "PYTEST_ADDOPTS", "PYTEST_XDIST_WORKER")
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "--nbval", "-ra", "-p", "no:warnings"]
        + [*options, str(folder)],
        cwd=folder,
        env={k: v for k, v in os.environ.items() if k not in gone} | home | environment,
        capture_output=True,
        text=True,
    )
    return ran.returncode, ran.stdout + ran.stderr


@pytest.mark.parametrize("options", [("-n", "2", "--dist", "loadfile"), ()])
def test_a_notebook_without_its_data_is_skipped_by_name(folder, options):
    data = {} if options else {"GENAI_DATA_DIR": "data"}
    (folder / "data" / "jingles").mkdir(parents=True)  # without a file
    status, text = nbval(folder, *options, **data)
    assert status == 0, text
    assert "3 passed, 1 skipped" in text
    (line,) = re.findall(r"^SKIPPED.*", text, re.M)
    assert "30-music.ipynb needs the data sets jingles. Received: GENAI_DATA" in line


def test_a_notebook_runs_where_its_data_are(folder):
    (folder / "data" / "jingles").mkdir(parents=True)
    (folder / "data" / "jingles" / "one.mid").touch()
    status, text = nbval(folder, GENAI_DATA_DIR=str(folder / "data"))
    assert status == 0 and "6 passed" in text and "skipped" not in text
