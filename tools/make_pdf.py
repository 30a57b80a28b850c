"""Print the whole built site into one PDF, with Chromium: ``_build/book.pdf``.

The articles of all pages are joined to one page, in the order of the contents.  Each
id gets the name of its page in front, so that links inside the book find their place.
"""

from __future__ import annotations

import os
import posixpath
import shutil
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

from bs4 import BeautifulSoup, SoupStrainer, Tag
from playwright.sync_api import Page, sync_playwright

ROOT = Path(__file__).parent.parent
SITE = ROOT / "_build" / "html"
TARGET = ROOT / "_build" / "book.pdf"
NAMES = ("chromium", "chromium-browser", "google-chrome")
HOME = "book/index.html"
NOT_PRINTED = ".headerlink, script, noscript, .sd-tab-set > input, #searchbox"
REFERRING = ("for", "aria-labelledby", "aria-describedby")
STYLE = """
html { font-size: 80%; }
body { margin: 0; }
section.page { break-before: page; }
section.page:first-of-type { break-before: auto; }
#contents li { list-style: none; margin: 0.3rem 0; }
.title-page { padding-top: 25vh; }
.title-page img { width: 100%; }
"""
FOOTER = (
    '<div style="width:100%;text-align:center;font:8px sans-serif;color:#333">'
    '<span class="pageNumber"></span></div>'
)


def read(site: Path, name: str, only: SoupStrainer | None = None) -> BeautifulSoup:
    """Return one page of the site, or some of its tags only, parsed."""
    text = (site / name).read_text("utf-8")
    return BeautifulSoup(text, "html.parser", parse_only=only)


def order(site: Path) -> list[str]:
    """Return the names of the pages, from the home page on by the links to the next."""
    names, only = [HOME], SoupStrainer("a", class_="right-next")
    while link := read(site, names[-1], only).a:
        names.append(beside(names[-1], link["href"]))
    return names


def beside(name: str, path: str) -> str:
    """Return a path that is relative to a page as one that is relative to the site."""
    return posixpath.normpath(posixpath.join(posixpath.dirname(name), path))


def anchor(name: str, fragment: str = "") -> str:
    """Return the id that a place of a page has in the joined page."""
    return name.removesuffix(".html").replace("/", "-") + (fragment and "--" + fragment)


def relocate(tag: Tag, key: str, name: str, names: list[str]) -> None:
    """Make a link of a page valid in the joined page, which stands at the root."""
    url = urlsplit(tag[key])
    if url.scheme or url.netloc:
        return
    path = beside(name, url.path)
    target = path if url.path else name
    if target in names:
        tag[key] = "#" + anchor(target, unquote(url.fragment))
    elif key == "href":
        del tag[key]  # the index, the search: not in the PDF
    else:
        tag[key] = path


def article(site: Path, name: str, names: list[str]) -> Tag:
    """Return the article of one page, ready to stand beside the others."""
    body = read(site, name).select_one("article.bd-article")
    for tag in body.select(NOT_PRINTED):
        tag.decompose()
    for tag in body.select("details"):
        tag["open"] = ""
    for tag in body.select("[id]"):
        tag["id"] = anchor(name, tag["id"])
    for key in REFERRING:
        for tag in body.select(f"[{key}]"):
            tag[key] = " ".join(anchor(name, part) for part in tag[key].split())
    for key in ("href", "src"):
        for tag in body.select(f"[{key}]"):
            relocate(tag, key, name, names)
    body.name, body["id"] = "section", anchor(name)
    body["class"] = [*body["class"], "page"]
    return body


def frame(site: Path, name: str) -> BeautifulSoup:
    """Return a page with its style sheets and MathJax, and with an empty body."""
    page = read(site, name)
    page.html["data-theme"] = page.html["data-mode"] = "light"
    for tag in page.head.select("script"):
        if "mathjax" not in str(tag).lower():
            tag.decompose()
    for key in ("href", "src"):
        for tag in page.head.select(f"[{key}]"):
            tag[key] = beside(name, urlsplit(tag[key]).path)
    page.title.string = page.select_one(".logo__title").get_text(strip=True)
    page.head.append(BeautifulSoup(f"<style>{STYLE}</style>", "html.parser"))
    page.body.clear()
    return page


def join(site: Path) -> str:
    """Return the whole book as one page.

    Args:
        site: The folder of the built site.

    Returns:
        The HTML; its addresses are relative to that folder.
    """
    names = order(site)
    page = frame(site, next((n for n in names if read(site, n).select(".math")), HOME))
    main = page.new_tag("main", attrs={"class": "bd-content"})
    page.body.append(main)
    articles = [article(site, name, names) for name in names]
    main.extend([articles[0], contents(names, articles), *articles[1:]])
    return str(page)


def contents(names: list[str], articles: list[Tag]) -> Tag:
    """Return the table of contents."""
    lines = [
        f'<li><a href="#{anchor(name)}">{body.select_one("h1").get_text()}</a></li>'
        for name, body in zip(names, articles, strict=True)
    ]
    html = (
        '<section class="page bd-article" id="contents"><h1>Contents</h1><ul>'
        + "".join(lines)
        + "</ul></section>"
    )
    return BeautifulSoup(html, "html.parser").section


def print_page(page: Page, target: Path) -> None:
    """Print an open page, with page numbers and an outline, when its formulas stand."""
    page.evaluate("() => window.MathJax.startup.promise")
    page.evaluate("() => document.fonts.ready")
    page.pdf(
        path=target,
        format="A4",
        margin=dict.fromkeys(("top", "bottom", "left", "right"), "18mm"),
        print_background=True,
        display_header_footer=True,
        header_template="<span></span>",
        footer_template=FOOTER,
        outline=True,
        tagged=True,
    )


def print_pdf(source: Path, target: Path, chromium: str) -> None:
    """Print a file with Chromium."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        page = browser.new_page(color_scheme="light")
        page.goto(source.as_uri(), timeout=300_000)  # slow machines need a minute
        print_page(page, target)
        browser.close()


def main() -> None:
    """Join the built site and print it."""
    names = (os.environ.get("CHROMIUM"), *NAMES)
    chromium = next((p for n in names if n and (p := shutil.which(n))), None)
    if chromium is None:
        sys.exit(
            "The PDF is printed by Chromium or Chrome. Install one, or put its path "
            f"into CHROMIUM. Received: none of {', '.join(NAMES)} on the search path."
        )
    if not (SITE / HOME).exists():
        sys.exit(f"Build the site first: make book. Received: no file {SITE / HOME}")
    source = SITE / "whole-book.html"  # beside the files that it uses
    try:
        source.write_text(join(SITE), encoding="utf-8")
        print_pdf(source, TARGET, chromium)
    finally:
        source.unlink(missing_ok=True)
    print(f"{TARGET.relative_to(ROOT)}: {TARGET.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
