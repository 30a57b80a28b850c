"""The built site, read from its files; ``tests/browser`` opens it in a browser."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from bs4 import BeautifulSoup

from tools import make_pdf

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


def outside(text: str) -> list[str]:
    """Addresses of other hosts that a page or style sheet would load by itself."""
    soup = BeautifulSoup(text, "html.parser")
    urls = [n["src"] for n in soup.select("[src]")]
    urls += [
        n["href"] for n in soup.select("link[href]") if "canonical" not in n["rel"]
    ]
    urls += re.findall(r"""(?:@import|url\()\s*["']?([^"')\s]+)""", text)
    return [url for url in urls if re.match(r"(https?:)?//", url)]


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


def test_no_page_or_style_sheet_loads_from_another_host():
    files = [*PAGES, *SITE.rglob("*.css")]
    bad = {p.name: found for p in files if (found := outside(p.read_text("utf-8")))}
    assert not bad


def test_every_page_says_what_it_is():
    for page in PAGES:
        soup = BeautifulSoup(page.read_text("utf-8"), "html.parser")
        assert soup.title.get_text(strip=True), page.name
        assert soup.html.get("lang") == "en", page.name
        if page.parent.name in ("book", "notebooks"):
            for key in ("og:title", "og:description", "og:type", "og:site_name"):
                tag = soup.select_one(f'meta[property="{key}"]')
                assert tag and tag["content"].strip(), f"{page.name}: {key}"
            assert soup.select('link[rel="icon"]'), page.name


def test_previous_and_next_lead_through_the_book():
    page, seen = SITE / "book" / "index.html", []
    while page not in seen:
        seen.append(page)
        soup = BeautifulSoup(page.read_text("utf-8"), "html.parser")
        if not (link := soup.select_one("a.right-next")):
            break
        page = (page.parent / link["href"]).resolve()
    chapters = {p for p in PAGES if p.parent.name in ("book", "notebooks")}
    assert set(seen) == chapters


def test_joined_book_for_the_pdf_is_whole():
    soup = BeautifulSoup(make_pdf.join(SITE), "html.parser")
    ids = [node["id"] for node in soup.select("[id]")]
    assert len(ids) == len(set(ids)), "an id occurs twice"
    links = [a["href"][1:] for a in soup.select('a[href^="#"]')]
    assert len(links) > 50 and not set(links) - set(ids)
    files = [n[key] for key in ("src", "href") for n in soup.select(f"[{key}]")]
    inside = [f for f in files if not re.match(r"#|https?:|mailto:", f)]
    assert inside and all((SITE / unquote(f)).exists() for f in inside)
    titles = [s.h1.get_text() for s in soup.select("section.page")]
    assert len(titles) == len(make_pdf.order(SITE)) + 1


@pytest.mark.parametrize(
    "defect",
    [
        '<script src="https://cdn.example/x.js"></script>',
        '<link rel="stylesheet" href="//cdn.example/x.css">',
        '<style>@import "https://cdn.example/x.css";</style>',
        "<style>p { background: url(http://cdn.example/x.png) }</style>",
    ],
)
def test_checker_sees_another_host(defect):
    assert outside(f'<a href="https://doi.org/">fine</a>{defect}')
    assert not outside('<a href="https://doi.org/">fine</a><img src="p.png">')


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
