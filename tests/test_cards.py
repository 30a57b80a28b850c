"""Links from terms, equations and papers: on a site of three pages, and on the book."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from bs4 import BeautifulSoup
from pybtex.database import parse_file, parse_string

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "book" / "_ext"))
import cards  # noqa: E402

CONF = f"""
import sys
sys.path.insert(0, {str(ROOT / "book" / "_ext")!r})
extensions = ["myst_parser", "sphinx.ext.mathjax", "sphinxcontrib.bibtex", "cards"]
bibtex_bibfiles = ["book/references.bib"]
myst_enable_extensions = ["dollarmath"]
root_doc = "book/index"
"""
HOME = """# Home

A **noise**, a **Critics** of many, a **noise** again and a **stranger**. See (9.1), or
(9.2) and [a paper](https://arxiv.org/abs/1406.2661v2), and `(9.1)`, and
[another](https://doi.org/10.1000/unknown).

```{toctree}
glossary
nine
```
"""
GLOSSARY = """# Glossary

```{glossary}
critic
评论家
  A network that
  scores.

noise
噪声
  Random **noise**, of course.
```
"""
NINE = "# Nine\n\n$$ x = 1 \\tag{9.1} $$\n\nBy (9.1).\n"
BIB = """@inproceedings{a,
  title = {Generative {Nets}},
  author = {Ada, A. and van der Bee, B. and Cee, C. and Dee, D.},
  booktitle = {A Place},
  year = {2014},
  eprint = {1406.2661}
}
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The three pages, built with warnings as errors."""
    folder = tmp_path_factory.mktemp("cards")
    (folder / "book").mkdir()
    (folder / "conf.py").write_text(CONF)
    pages = {"index.md": HOME, "glossary.md": GLOSSARY, "nine.md": NINE}
    for name, text in (pages | {"references.bib": BIB}).items():
        (folder / "book" / name).write_text(text)
    command = [sys.executable, "-m", "sphinx", "-q", "-W", folder, folder / "out"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return folder / "out" / "book"


def links(site, page, kind):
    """The links of one kind on a page, as text, address and card."""
    soup = BeautifulSoup((site / page).read_text("utf-8"), "html.parser")
    found = soup.select(f"a.card-{kind}")
    return [(a.get_text(), a["href"], a["title"]) for a in found]


def test_the_first_bold_use_of_a_term_leads_to_the_glossary(site):
    assert links(site, "index.html", "term") == [
        ("noise", "glossary.html#term-noise", "noise · 噪声: Random noise, of course."),
        (
            "Critics",
            "glossary.html#term-critic",
            "critic · 评论家: A network that scores.",
        ),
    ]
    assert links(site, "glossary.html", "term") == []


def test_the_number_of_an_equation_leads_to_it(site):
    other = ("(9.1)", "nine.html#eq-9-1", "Equation (9.1), in chapter 9")
    assert links(site, "index.html", "equation") == [other]  # (9.2) does not exist
    assert links(site, "nine.html", "equation") == [
        ("(9.1)", "#eq-9-1", "Equation (9.1)")
    ]
    assert 'id="eq-9-1"' in (site / "nine.html").read_text("utf-8")


def test_a_paper_has_the_entry_of_the_bibliography(site):
    [(text, _, card)] = links(site, "index.html", "paper")
    assert text == "a paper"
    assert card == "Ada and others: Generative Nets. A Place, 2014"


def test_two_authors_are_both_named():
    bib = BIB.replace(" and Cee, C. and Dee, D.", "")
    entry = parse_string(bib, "bibtex").entries["a"]
    assert cards.describe(entry).startswith("Ada and van der Bee: ")


def test_every_work_of_the_bibliography_has_a_short_card():
    entries = parse_file(str(ROOT / "book" / "references.bib")).entries
    assert len(entries) > 200
    for key, entry in entries.items():
        card = cards.describe(entry)
        assert 15 < len(card) < 320 and ": " in card, key
        assert not set("{}\\") & set(card), key
