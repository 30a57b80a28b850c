"""What every page of the site is checked for; each check returns its complaints."""

from __future__ import annotations

import gzip
from urllib.parse import urlsplit

from axe_playwright_python.base import AXE_SCRIPT
from playwright.sync_api import Page, Response

# What the theme decides; the other rules of axe say the same in the light and the dark.
THEME_RULES = ["color-contrast", "link-in-text-block", "image-alt", "svg-img-alt"]
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
PICTURES = """async () => {
  const all = [...document.images];
  await Promise.all(all.map(image => {
    image.loading = "eager";
    return image.complete || new Promise(r => { image.onload = image.onerror = r; });
  }));
  return all.filter(image => image.naturalWidth === 0)
    .map(image => image.getAttribute("src"));
}"""
# Contrast is four fifths of what axe needs.  Text that looks the same (its colours, its
# size, all that lies below it) is looked at in the first three places where it is seen,
# and anew in each box that is taken out of the flow and may lie on another ground.
LOOKS = """() => {
  const MOST = 3, PLAIN = "rgba(0, 0, 0, 0) none 1 none normal";
  const grounds = new Map([[null, ""]]), looks = new Map();
  let boxes = 0;
  const ground = e => {
    if (grounds.has(e)) return grounds.get(e);
    const s = getComputedStyle(e);
    const own = [s.backgroundColor, s.backgroundImage, s.opacity, s.filter,
      s.mixBlendMode].join(" ");
    const apart = /absolute|fixed|sticky/.test(s.position) ? ` box ${++boxes}` : "";
    const found = ground(e.parentElement) + (own === PLAIN ? "" : own) + apart;
    grounds.set(e, found);
    return found;
  };
  const look = e => {
    const s = getComputedStyle(e);
    return [ground(e), s.color, s.fontSize, s.fontWeight, s.textShadow].join(" ");
  };
  const controls = "input, select, textarea, button, label, option";
  const speaks = e => [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim());
  const seen = { opacityProperty: true, visibilityProperty: true };
  for (const e of document.querySelectorAll("[data-look]")) delete e.dataset.look;
  for (const e of document.body.querySelectorAll("*")) {
    const control = e.matches(controls);
    if (!control && !(speaks(e) && e.checkVisibility(seen))) continue;
    const key = control ? e : look(e), count = (looks.get(key) ?? 0) + 1;
    looks.set(key, count);
    if (count <= MOST) e.dataset.look = count;
  }
  axe.configure({ rules: [{ id: "color-contrast", selector: "[data-look]" }] });
}"""
DARK = "(document.documentElement.dataset.theme ?? 'dark') === 'dark'"
STILL = "*, ::before, ::after { transition: none !important }"
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


def open_page(page: Page, url: str, limit: float = 30_000) -> None:
    """Open an address within some milliseconds, and wait for formulas and fonts."""
    page.goto(url, timeout=limit)
    page.evaluate(READY)


def maths(page: Page) -> list[str]:
    """Formulas that MathJax refuses, and TeX that is left in the text."""
    return page.evaluate(MATHS)


def violations(page: Page, rules: list[str] | None = None) -> list[str]:
    """Violations of accessibility that axe finds, one line for each node.

    Args:
        page: The page, as it stands.
        rules: The rules of axe to apply; all if none are named.
    """
    if page.evaluate("!window.axe"):
        page.evaluate(AXE_SCRIPT)
    page.evaluate(LOOKS)
    options = {"resultTypes": ["violations"]} | ({"runOnly": rules} if rules else {})
    found = page.evaluate("async o => (await axe.run(o)).violations", options)
    return [
        f"{v['id']}: {n['html'][:120]} {n['failureSummary'].splitlines()[-1].strip()}"
        for v in found
        for n in v["nodes"]
    ]


def turn_dark(page: Page) -> None:
    """Change the theme of an open page as the reader's system does in the evening."""
    page.add_style_tag(content=STILL)
    page.emulate_media(color_scheme="dark")
    page.wait_for_function(DARK)


def pictures(page: Page) -> list[str]:
    """Pictures that could not be shown."""
    return page.evaluate(PICTURES)


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
