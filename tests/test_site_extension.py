"""The website's own Sphinx extension, on its functions and on a site of three pages."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from bs4 import BeautifulSoup

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "book" / "_ext"))
import book_site  # noqa: E402

URL, REPOSITORY = "https://example.org/the/book", "https://github.com/name/repo"
PIXEL = base64.b64decode("R0lGODlhAQABAAAAACwAAAAAAQABAAA=")
CONF = f"""
import sys
sys.path.insert(0, {str(ROOT / "book" / "_ext")!r})
project = "Three pages"
extensions = ["myst_nb", "sphinx.ext.mathjax", "book_site"]
html_theme = "sphinx_book_theme"
html_favicon = "book/pixel.gif"
html_theme_options = {{"use_download_button": False}}
templates_path = [{str(ROOT / "book" / "_templates")!r}]
mathjax_path = "mathjax/mathjax.js"
myst_enable_extensions = ["dollarmath"]
nb_execution_mode = "off"
root_doc = "book/index"
"""
HOME = """# Home

The first paragraph of the
home page.

![What is to be seen](pixel.gif)

```{toctree}
setup
/notebooks/01-one
```
"""


def notebook(alt: str) -> str:
    """Return a notebook of one cell, whose output is a picture with an alt text."""
    output = {
        "output_type": "display_data",
        "metadata": {},
        "data": {"image/gif": base64.b64encode(PIXEL).decode()},
    }
    cell = {
        "cell_type": "code",
        "id": "code",
        "execution_count": 1,
        "metadata": {"mystnb": {"image": {"alt": alt}}} if alt else {},
        "source": "plot()",
        "outputs": [output],
    }
    title = {"cell_type": "markdown", "id": "title", "metadata": {}}
    title["source"] = "# One\n\n$x^2$"
    python = {
        "kernelspec": {"name": "python3", "display_name": "Python 3"},
        "language_info": {"name": "python", "pygments_lexer": "ipython3"},
    }
    content = {"cells": [title, cell], "metadata": python}
    return json.dumps({**content, "nbformat": 4, "nbformat_minor": 5})


def build(
    folder: Path, extra: str = "", alt: str = "A dot", **settings: str
) -> tuple[subprocess.CompletedProcess, Path]:
    """Build the three pages with warnings as errors; return result and output."""
    for name in ("book", "notebooks"):
        (folder / name).mkdir()
    (folder / "conf.py").write_text(CONF)
    (folder / "book" / "pixel.gif").write_bytes(PIXEL)
    (folder / "book" / "index.md").write_text(HOME + extra)
    (folder / "book" / "setup.md").write_text("# Set-up\n\n## Colab and Binder\n\nBoth")
    (folder / "notebooks" / "01-one.ipynb").write_text(notebook(alt))
    environment = {k: v for k, v in os.environ.items() if not k.startswith("BOOK_")}
    result = subprocess.run(
        [
            sys.executable,
            "-m",
            "sphinx",
            "-q",
            "-W",
            "--keep-going",
            folder,
            folder / "out",
        ],
        env={**environment, **settings},
        capture_output=True,
        text=True,
    )
    return result, folder / "out"


def soup(path: Path) -> BeautifulSoup:
    """Return a page, parsed."""
    return BeautifulSoup(path.read_text("utf-8"), "html.parser")


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> Path:
    """The three pages, built without an address."""
    result, out = build(tmp_path_factory.mktemp("plain"))
    assert result.returncode == 0, result.stderr
    return out


@pytest.fixture(scope="module")
def published(tmp_path_factory) -> Path:
    """The three pages, built with both addresses."""
    settings = {"BOOK_URL": URL + "/", "BOOK_REPOSITORY": REPOSITORY}
    result, out = build(tmp_path_factory.mktemp("published"), **settings)
    assert result.returncode == 0, result.stderr
    return out


def test_site_without_an_address_names_none(plain):
    chapter = soup(plain / "notebooks" / "01-one.html")
    assert chapter.select_one('meta[property="og:title"]')["content"] == "One"
    assert not chapter.select('meta[property="og:url"], meta[property="og:image"]')
    assert not chapter.select('link[rel="canonical"]')
    assert not (plain / "sitemap.xml").exists()
    links = [a["href"] for a in chapter.select(".chapter-tools a")]
    assert links[0] == "../_sources/notebooks/01-one.ipynb"
    assert links[1:] == ["../book/setup.html#colab-and-binder"]


def test_site_with_an_address_names_it(published):
    chapter = soup(published / "notebooks" / "01-one.html")
    page = f"{URL}/notebooks/01-one.html"
    assert chapter.select_one('meta[property="og:url"]')["content"] == page
    assert chapter.select_one('link[rel="canonical"]')["href"] == page
    addresses = [e.text for e in ElementTree.parse(published / "sitemap.xml").iter()]
    assert [a for a in addresses if a and a.strip()] == [
        f"{URL}/book/index.html",
        f"{URL}/book/setup.html",
        page,
    ]
    links = [a["href"] for a in chapter.select(".chapter-tools a")]
    notebook_path = "blob/main/notebooks/01-one.ipynb"
    colab = f"https://colab.research.google.com/github/name/repo/{notebook_path}"
    assert links[1] == colab
    assert links[2].startswith("https://mybinder.org/v2/gh/name/repo/main?urlpath=")
    assert soup(published / "404.html").select_one("a")["href"].startswith(URL)


def test_mathjax_is_only_where_formulas_are(plain):
    assert soup(plain / "notebooks" / "01-one.html").select('script[src*="mathjax.js"]')
    assert not soup(plain / "book" / "index.html").select('script[src*="mathjax"]')
    size = sum(p.stat().st_size for p in (plain / "_static" / "mathjax").rglob("*.*"))
    assert 300_000 < size < 1_500_000
    assert not list((plain / "_static").rglob("fontawesome.js*"))


def test_front_door_has_the_head_of_the_home_page(plain):
    door = soup(plain / "index.html")
    wanted = "The first paragraph of the home page."
    assert door.select_one('meta[name="description"]')["content"] == wanted
    assert door.select_one("a")["href"] == "book/index.html"
    icon = plain / door.select_one('link[rel="icon"]')["href"]
    assert icon.is_file()


def test_only_the_home_page_leaves_out_the_title_of_the_book(plain):
    pages = ("index.html", "book/index.html", "notebooks/01-one.html")
    door, home, other = (soup(plain / page).title.string for page in pages)
    assert door == home == "Home"
    assert other.startswith("One \N{EM DASH} Three pages")


@pytest.mark.parametrize(
    ("extra", "alt"),
    [
        ("\n![](pixel.gif)\n", "A dot"),
        ("\n```{figure} pixel.gif\nA caption is no alt text.\n```\n", "A dot"),
        ('\n<p><img src="pixel.gif"></p>\n', "A dot"),
        ("", ""),
    ],
)
def test_build_fails_without_alt_text(tmp_path, extra, alt):
    result, _ = build(tmp_path, extra, alt)
    assert result.returncode != 0
    assert "a picture has no alt text" in result.stderr


@pytest.mark.parametrize("url", ["example.org", "ftp://example.org", "https://"])
def test_setting_refuses_half_an_address(monkeypatch, url):
    monkeypatch.setenv("BOOK_URL", url)
    with pytest.raises(ValueError, match=r"book_url .* Received: "):
        book_site.setting("book_url", "")


def test_environment_goes_before_the_configuration(monkeypatch):
    monkeypatch.delenv("BOOK_URL", raising=False)
    assert book_site.setting("book_url", "http://a.example/x/") == "http://a.example/x"
    monkeypatch.setenv("BOOK_URL", "https://b.example")
    assert book_site.setting("book_url", "http://a.example") == "https://b.example"


@pytest.mark.parametrize(
    "repository", ["", "https://example.org/name/repo", "https://github.com/name"]
)
def test_no_launch_links_where_they_would_not_work(repository):
    assert book_site.launch_links(repository, "main", "notebooks/01-one.ipynb") == {}
