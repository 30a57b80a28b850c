"""What every page of the site is checked for; each check returns its complaints."""

from __future__ import annotations

import gzip
from urllib.parse import urlsplit

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, Response

COMPRESSED = (".woff", ".woff2", ".png", ".jpg", ".webp", ".ico")
MATHS = r"""() => {
  const faults = [...document.querySelectorAll("mjx-merror, [data-mjx-error]")]
    .map(e => "MathJax: " + (e.dataset.mjxError || e.textContent));
  const skip = "script, style, noscript, pre, code, kbd, mjx-container, textarea";
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let n; (n = walker.nextNode()); )
    if (/\$|\\[a-zA-Z(\[]/.test(n.data) && !n.parentElement.closest(skip))
      faults.push("raw: " + n.data.trim().slice(0, 60));
  return faults;
}"""
OVERFLOW = """() => {
  const wide = document.scrollingElement.scrollWidth, room = innerWidth;
  if (wide <= room) return [];
  const scrolls = e => e && (getComputedStyle(e).overflowX !== "visible"
    || scrolls(e.parentElement));
  const guilty = [...document.querySelectorAll("main *")]
    .filter(e => e.getBoundingClientRect().right > room + 1
      && !scrolls(e.parentElement)).slice(0, 5)
    .map(e => e.tagName + "." + e.className + " " + e.textContent.trim().slice(0, 40));
  return [`${wide} px on a screen of ${room}: ${guilty.join("; ")}`];
}"""
FOCUS = """() => {
  const e = document.activeElement, s = getComputedStyle(e);
  if (e === document.body) return "";
  const seen = (s.outlineStyle !== "none" && parseFloat(s.outlineWidth) > 0)
    || s.boxShadow !== "none";
  return seen ? "seen" : e.outerHTML.slice(0, 80);
}"""
READY = """async () => {
  await window.MathJax?.startup?.promise;
  await document.fonts.ready;
}"""


def open_page(page: Page, url: str) -> None:
    """Open an address, and wait for formulas and fonts."""
    page.goto(url)
    page.evaluate(READY)


def maths(page: Page) -> list[str]:
    """Formulas that MathJax refuses, and TeX that is left in the text."""
    return page.evaluate(MATHS)


def violations(page: Page) -> list[str]:
    """Violations of accessibility that axe finds, one line for each node."""
    found = Axe().run(page, options={"resultTypes": ["violations"]})
    return [
        f"{v['id']}: {n['html'][:120]} {n['failureSummary'].splitlines()[-1].strip()}"
        for v in found.response["violations"]
        for n in v["nodes"]
    ]


def overflow(page: Page) -> list[str]:
    """Whether the whole page scrolls sideways, and what makes it do so."""
    return page.evaluate(OVERFLOW)


def headings(page: Page) -> list[str]:
    """Headings of the first level, unless there is exactly one."""
    found = page.locator("h1").all_inner_texts()
    return [] if len(found) == 1 else [f"{len(found)} h1: {found}"]


def hidden_focus(page: Page, steps: int) -> list[str]:
    """Elements that take the keyboard's focus and do not show it."""
    faults = []
    for _ in range(steps):
        page.keyboard.press("Tab")
        seen = page.evaluate(FOCUS)
        faults += [seen] if seen not in ("", "seen") else []
    return faults


def weight(responses: list[Response]) -> dict[str, int]:
    """Bytes of each file of a page as a server sends them compressed.

    The page's own figures are left out: they are what it is about.
    """
    sizes = {}
    for response in responses:
        path = urlsplit(response.url).path
        if "/_images/" not in path and response.ok:
            body = response.body()
            packed = path.endswith(COMPRESSED)
            sizes[path] = len(body) if packed else len(gzip.compress(body, 6))
    return sizes
