"""The built site, read from its files; ``tests/browser`` opens it in a browser."""

from __future__ import annotations

import dataclasses
import functools
import json
import re
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from bs4 import BeautifulSoup

from tools import make_pdf

SITE = Path(__file__).parent.parent / "_build" / "html"
OTHER_HOST = r"(https?:)?//"
# The theme leaves templates in _static; they are no pages.
PAGES = sorted(p for p in SITE.rglob("*.html") if "_static" not in p.parts)


@dataclasses.dataclass(frozen=True)
class Facts:
    """What the tests ask of one page; it is parsed once."""

    links: list[str]
    places: set[str]
    without_alt: list[str]
    outside: list[str]
    unsaid: list[str]
    following: str | None


@functools.cache
def facts(page: Path) -> Facts:
    """Read a page."""
    text = page.read_text("utf-8")
    soup = BeautifulSoup(text, "html.parser")
    links = [n[key] for key in ("href", "src") for n in soup.select(f"[{key}]")]
    places = {n["id"] for n in soup.select("[id]")}
    places |= {n["name"] for n in soup.select("a[name]")}
    following = soup.select_one("a.right-next")
    return Facts(
        links=links,
        places=places,
        without_alt=without_alt(soup),
        outside=loaded_by_tags(soup) + loaded_by_styles(text),
        unsaid=unsaid(soup, page.parent.name in ("book", "notebooks")),
        following=following and following["href"],
    )


def without_alt(soup: BeautifulSoup) -> list[str]:
    """Figures of a page that say nothing to those who do not see them."""
    alts = [
        (n.get("src"), n.get("alt", "").strip()) for n in soup.select("article img")
    ]
    return [src for src, alt in alts if not alt or alt.startswith("../")]


def loaded_by_tags(soup: BeautifulSoup) -> list[str]:
    """Addresses of other hosts that the tags of a page would load by themselves."""
    urls = [n["src"] for n in soup.select("[src]")]
    links = soup.select("link[href]")
    urls += [n["href"] for n in links if "canonical" not in n["rel"]]
    return [url for url in urls if re.match(OTHER_HOST, url)]


def loaded_by_styles(text: str) -> list[str]:
    """Addresses of other hosts that styles would load, in a page or a style sheet."""
    urls = re.findall(r"""(?:@import|url\()\s*["']?([^"')\s]+)""", text)
    return [url for url in urls if re.match(OTHER_HOST, url)]


def unsaid(soup: BeautifulSoup, of_the_book: bool) -> list[str]:
    """What the head of a page does not say."""
    said = {
        "title": soup.title and soup.title.get_text(strip=True),
        "lang": soup.html and soup.html.get("lang") == "en",
    }
    if of_the_book:
        for key in ("og:title", "og:description", "og:type", "og:site_name"):
            tag = soup.select_one(f'meta[property="{key}"]')
            said[key] = tag and tag["content"].strip()
        said["icon"] = soup.select('link[rel="icon"]')
    return [key for key, value in said.items() if not value]


def broken_links(page: Path) -> list[str]:
    """Links of a page that lead nowhere inside the site."""
    bad = []
    for link in facts(page).links:
        url = urlsplit(link)
        if url.scheme or url.netloc:
            continue
        target = (page.parent / unquote(url.path)).resolve() if url.path else page
        if target.is_dir():
            target = target / "index.html"
        inside = url.fragment if target.suffix == ".html" else ""
        lost = not target.exists()
        if lost or (inside and unquote(inside) not in facts(target).places):
            bad.append(link)
    return bad


def complaints(look: Callable[[Path], list[str]]) -> str:
    """What is found on the pages, a line each; empty if nothing is."""
    return "\n".join(f"{page.name}: {found}" for page in PAGES for found in look(page))


def test_site_was_built():
    assert (SITE / "index.html").exists(), "build the site first: make book"
    assert len(PAGES) > 10


def test_every_link_inside_the_site_resolves():
    assert not (bad := complaints(broken_links)), bad


def test_every_figure_has_alt_text():
    assert not (bad := complaints(lambda page: facts(page).without_alt)), bad


def test_no_page_or_style_sheet_loads_from_another_host():
    assert not (bad := complaints(lambda page: facts(page).outside)), bad
    sheets = list(SITE.rglob("*.css"))
    bad = {p.name: f for p in sheets if (f := loaded_by_styles(p.read_text("utf-8")))}
    assert sheets and not bad


def test_every_page_says_what_it_is():
    assert not (bad := complaints(lambda page: facts(page).unsaid)), bad


def test_previous_and_next_lead_through_the_book():
    page, seen = SITE / "book" / "index.html", []
    while page not in seen:
        seen.append(page)
        if not (link := facts(page).following):
            break
        page = (page.parent / link).resolve()
    chapters = {p for p in PAGES if p.parent.name in ("book", "notebooks")}
    assert set(seen) == chapters


def test_joined_book_for_the_pdf_is_whole():
    soup = BeautifulSoup(make_pdf.join(SITE), "html.parser")
    ids = [node["id"] for node in soup.select("[id]")]
    assert len(ids) == len(set(ids)), "an id occurs twice"
    links = [a["href"][1:] for a in soup.select('a[href^="#"]')]
    assert len(links) > 50 and not set(links) - set(ids)
    files = [n[key] for key in ("src", "href") for n in soup.select(f"[{key}]")]
    inside = [f for f in files if not re.match(r"#|https?:|mailto:|data:", f)]
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
def test_checker_sees_another_host(tmp_path, defect):
    page = tmp_path / "page.html"
    page.write_text(f'<a href="https://doi.org/">fine</a><img src="p.png">{defect}')
    assert len(facts(page).outside) == 1
    fine = tmp_path / "fine.html"
    fine.write_text('<a href="https://doi.org/">fine</a><img src="p.png">')
    assert not facts(fine).outside


def test_checker_sees_a_figure_and_a_page_that_say_nothing(tmp_path):
    page = tmp_path / "book" / "page.html"
    page.parent.mkdir()
    page.write_text('<html lang="en"><article><img src="a.png" alt=" "></article>')
    assert facts(page).without_alt == ["a.png"]
    assert "title" in facts(page).unsaid and "og:title" in facts(page).unsaid
    assert "lang" not in facts(page).unsaid


@pytest.mark.parametrize("link", ["missing.html", "#nowhere", "/absolute.html"])
def test_checker_sees_a_broken_link(tmp_path, link):
    page = tmp_path / "page.html"
    page.write_text(f'<a href="{link}">x</a>')
    assert broken_links(page)


def test_checker_accepts_links_that_resolve(tmp_path):
    page = tmp_path / "page.html"
    page.write_text(
        '<a href="#here" id="here">x</a><a href="a%20b.html#there">y</a>'
        '<a href="https://doi.org/">z</a><img src="p.png">'
    )
    (tmp_path / "a b.html").write_text('<a name="there"></a>')
    (tmp_path / "p.png").touch()
    assert broken_links(page) == []


def test_solutions_in_words_are_folded():
    """As many folded solutions as Markdown cells that are tagged so."""
    root = SITE.parent.parent
    for path in sorted((root / "notebooks").glob("*.ipynb")):
        cells = json.loads(path.read_text("utf-8"))["cells"]
        tags = [
            c["metadata"].get("tags", []) for c in cells if c["cell_type"] != "code"
        ]
        page = (SITE / "notebooks" / f"{path.stem}.html").read_text("utf-8")
        found = BeautifulSoup(page, "html.parser").select("details.solution")
        assert len(found) == sum("solution" in t for t in tags), path.name
        assert all(len(n.get_text(strip=True)) > 40 for n in found), path.name
        assert not any(n.has_attr("open") for n in found), path.name
