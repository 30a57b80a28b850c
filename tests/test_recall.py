"""Equations said once more: taken from the notebooks, by their numbers."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from bs4 import BeautifulSoup

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "book" / "_ext"))
from recall import equation  # noqa: E402

CONF = f"""
import sys
sys.path.insert(0, {str(ROOT / "book" / "_ext")!r})
extensions = ["myst_parser", "sphinx.ext.mathjax", "recall"]
myst_enable_extensions = ["dollarmath"]
"""
PAGE = "# Sheet\n\n```{recall} 9.1\nOne, or **so**.\n```\n"


def notebook(folder, *texts):
    cells = [{"cell_type": "markdown", "source": [text]} for text in texts]
    (folder / "notebooks").mkdir(exist_ok=True)
    path = folder / "notebooks" / "09-nine.ipynb"
    path.write_text(json.dumps({"cells": cells}), "utf-8")
    return path


def test_the_formula_comes_without_its_tag_and_its_comma(tmp_path):
    first = "Before $$ a $$ and\n$$\nx = \\frac{1}{2}\n+ 1, \\tag{9.1} $$ then"
    text = first + " $$ y \\tag{9.10} $$"
    path = notebook(tmp_path, "Nothing.", text)
    assert equation(tmp_path, "9.1") == ("x = \\frac{1}{2}\n+ 1", path)
    assert equation(tmp_path, "9.10") == ("y", path)


@pytest.mark.parametrize("texts", [["$$ x \\tag{9.2} $$"], ["$$ x \\tag{9.1} $$"] * 2])
def test_a_number_that_no_or_two_formulas_have_is_refused(tmp_path, texts):
    notebook(tmp_path, *texts)
    with pytest.raises(ValueError, match=r"Received: 9\.1, .* Give the number"):
        equation(tmp_path, "9.1")


def build(folder):
    (folder / "conf.py").write_text(CONF)
    (folder / "index.md").write_text(PAGE)
    command = [sys.executable, "-m", "sphinx", "-q", "-W", folder, folder / "out"]
    return subprocess.run(command, capture_output=True, text=True)


def test_a_page_shows_the_formula_and_says_its_number(tmp_path):
    notebook(tmp_path, "$$ x = 1. \\tag{9.1} $$")
    result = build(tmp_path)
    assert result.returncode == 0, result.stderr
    page = (tmp_path / "out" / "index.html").read_text("utf-8")
    box = BeautifulSoup(page, "html.parser").select_one("div.recall")
    assert "x = 1\\]" in box.select_one("div.math").get_text()
    assert box.p.get_text() == "(9.1) One, or so." and box.p.strong


def test_a_page_with_a_wrong_number_is_not_built(tmp_path):
    notebook(tmp_path, "$$ x \\tag{9.2} $$")
    result = build(tmp_path)
    assert result.returncode and "Received: 9.1" in result.stderr
