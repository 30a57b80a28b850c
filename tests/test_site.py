"""The built site: every link, picture and anchor inside it must resolve."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from bs4 import BeautifulSoup

SITE = Path(__file__).parent.parent / "_build" / "html"
# The theme leaves templates in _static; they are no pages.
PAGES = sorted(p for p in SITE.rglob("*.html") if "_static" not in p.parts)


def broken_links(page: Path, anchors: dict[Path, set[str]]) -> list[str]:
    """Links of a page that lead nowhere inside the site."""
    soup = BeautifulSoup(page.read_text("utf-8"), "html.parser")
    bad = []
    for node, key in [(n, "href") for n in soup.select("[href]")] + [
        (n, "src") for n in soup.select("[src]")
    ]:
        url = urlsplit(node[key])
        if url.scheme or url.netloc:
            continue
        target = (page.parent / unquote(url.path)).resolve() if url.path else page
        if target.is_dir():
            target = target / "index.html"
        if not target.exists():
            bad.append(f"{page.name}: {node[key]}")
        elif url.fragment and target.suffix == ".html":
            if target not in anchors:
                html = BeautifulSoup(target.read_text("utf-8"), "html.parser")
                anchors[target] = {n["id"] for n in html.select("[id]")} | {
                    n["name"] for n in html.select("a[name]")
                }
            if unquote(url.fragment) not in anchors[target]:
                bad.append(f"{page.name}: {node[key]}")
    return bad


def test_site_was_built():
    assert (SITE / "index.html").exists(), "build the site first: make book"
    assert len(PAGES) > 10


def test_every_link_inside_the_site_resolves():
    anchors: dict[Path, set[str]] = {}
    bad = [line for page in PAGES for line in broken_links(page, anchors)]
    assert not bad, "\n".join(bad)


def test_every_figure_has_alt_text():
    bad = []
    for page in PAGES:
        soup = BeautifulSoup(page.read_text("utf-8"), "html.parser")
        for image in soup.select("article img"):
            if not image.get("alt", "").strip() or image["alt"].startswith("../"):
                bad.append(f"{page.name}: {image.get('src')}")
    assert not bad, "\n".join(bad)


@pytest.mark.parametrize("link", ["missing.html", "#nowhere", "/absolute.html"])
def test_checker_sees_a_broken_link(tmp_path, link):
    page = tmp_path / "page.html"
    page.write_text(f'<a href="{link}">x</a>')
    assert broken_links(page, {})


def test_checker_accepts_links_that_resolve(tmp_path):
    page = tmp_path / "page.html"
    page.write_text(
        '<a href="#here" id="here">x</a><a href="a%20b.html#there">y</a>'
        '<a href="https://doi.org/">z</a><img src="p.png">'
    )
    (tmp_path / "a b.html").write_text('<a name="there"></a>')
    (tmp_path / "p.png").touch()
    assert broken_links(page, {}) == []
