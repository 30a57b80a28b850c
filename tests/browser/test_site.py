"""Every page of the built site in a browser: right, quick to load, open to everyone."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, Response, expect

from browser import page_checks as checks
from browser.conftest import SITE, watch
from tools import make_pdf

MAX_WEIGHT = 600_000
NAMES = sorted(
    path.relative_to(SITE).as_posix()
    for path in SITE.rglob("*.html")
    if "_static" not in path.parts and path != SITE / "index.html"
)
WITH_DEMO = [n for n in NAMES if 'class="playground' in (SITE / n).read_text("utf-8")]
HOME, CHAPTER = "book/index.html", "notebooks/07-vae-in-practice.html"
every_page = pytest.mark.parametrize("name", NAMES)


@dataclasses.dataclass
class Visit:
    """What was seen on one page, once in the light and once in the dark."""

    faults: list[str]
    maths: list[str]
    headings: list[str]
    light: list[str]
    dark: list[str]
    overflow: list[str]
    weight: dict[str, int]


def open_watched(
    browser: Browser, url: str, scheme: str
) -> tuple[Page, list[str], list[Response]]:
    """Open a page in one theme; return it, its faults and what it received."""
    page = browser.new_context(color_scheme=scheme).new_page()
    responses: list[Response] = []
    page.on("response", lambda response: responses.append(response))
    faults = watch(page)
    checks.open_page(page, url)
    return page, faults, responses


def look(browser: Browser, url: str) -> Visit:
    """Open a page in both themes, and do every check."""
    page, dark_faults, _ = open_watched(browser, url, "dark")
    dark = checks.violations(page)
    page.context.close()
    page, faults, responses = open_watched(browser, url, "light")
    light, weight = checks.violations(page), checks.weight(responses)
    maths, headings = checks.maths(page), checks.headings(page)
    page.set_viewport_size({"width": 320, "height": 640})
    overflow = checks.overflow(page)
    page.context.close()
    faults = dark_faults + faults
    return Visit(faults, maths, headings, light, dark, overflow, weight)


@pytest.fixture(scope="session")
def visit(browser: Browser, site_url: str) -> Callable[[str], Visit]:
    """Return a function that looks at a page once and remembers what it saw."""
    memory: dict[str, Visit] = {}

    def remember(name: str) -> Visit:
        if name not in memory:
            memory[name] = look(browser, site_url + name)
        return memory[name]

    return remember


def test_site_was_built():
    assert HOME in NAMES and CHAPTER in NAMES, "build the site first: make book"


@every_page
def test_no_error_and_no_other_host(visit, name):
    assert not visit(name).faults


@every_page
def test_maths_is_rendered(visit, name):
    assert not visit(name).maths


@every_page
def test_one_heading_of_the_first_level(visit, name):
    assert not visit(name).headings


@every_page
def test_accessible_in_the_light(visit, name):
    assert not visit(name).light, "\n".join(visit(name).light)


@every_page
def test_accessible_in_the_dark(visit, name):
    assert not visit(name).dark, "\n".join(visit(name).dark)


@every_page
def test_no_sideways_scrolling_at_320_pixels(visit, name):
    assert not visit(name).overflow


@pytest.mark.parametrize("name", [n for n in NAMES if n not in WITH_DEMO])
def test_weight(visit, name):
    sizes = visit(name).weight
    heavy = sorted(sizes.items(), key=lambda item: -item[1])[:5]
    assert 10_000 < sum(sizes.values()) <= MAX_WEIGHT or name == "404.html", heavy


# What a reader does


def test_front_door_leads_to_the_home_page(page: Page, site_url: str):
    page.goto(site_url)
    page.wait_for_url(site_url + HOME)


def test_formulas_and_their_numbers_are_there(page: Page, site_url: str):
    checks.open_page(page, site_url + CHAPTER)
    assert page.locator("mjx-container").count() > 50
    assert page.locator("mjx-mtext", has=page.locator("mjx-c.mjx-c28")).count() > 0


def test_a_formula_that_is_too_wide_begins_at_its_left_end(page: Page, site_url: str):
    page.set_viewport_size({"width": 320, "height": 800})
    checks.open_page(page, site_url + CHAPTER)
    starts = page.evaluate(
        """() => [...document.querySelectorAll("div.math")]
            .filter(box => box.scrollWidth > box.clientWidth + 1)
            .map(box => box.firstElementChild.getBoundingClientRect().left
                - box.getBoundingClientRect().left)"""
    )
    assert len(starts) > 3
    assert min(starts) >= 0


@pytest.mark.parametrize("word", ["collapse", "saturation"])
def test_search_finds_a_word(page: Page, site_url: str, word: str):
    page.goto(site_url + HOME)
    page.keyboard.press("Control+k")
    page.locator("#pst-search-dialog input").fill(word)
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile(f"search.html.*q={word}"))
    expect(page.locator("#search-results a").first).to_be_visible()
    page.wait_for_load_state("networkidle")  # the excerpts


def test_search_does_not_find_what_is_not_there(page: Page, site_url: str):
    page.goto(site_url + "search.html?q=xylophonist")
    expect(page.locator("#search-results")).to_contain_text("did not match")
    assert page.locator("#search-results li").count() == 0


def test_solution_is_folded_and_opens(page: Page, site_url: str):
    checks.open_page(page, site_url + CHAPTER)
    solution = page.locator(".cell.tag_solution details").first
    assert not solution.evaluate("e => e.open")
    solution.locator("summary").focus()
    page.keyboard.press("Enter")
    assert solution.evaluate("e => e.open")


def test_theme_switch_stays(page: Page, site_url: str):
    page.emulate_media(color_scheme="light")
    page.goto(site_url + HOME)
    theme = "document.documentElement.dataset.theme"
    ground = "getComputedStyle(document.body).backgroundColor"
    before = page.evaluate(ground)
    for _ in range(3):
        if page.evaluate(theme) != "dark":
            page.get_by_role("button", name="Color mode").click()
    assert page.evaluate(ground) != before
    page.goto(site_url + CHAPTER)
    assert page.evaluate(theme) == "dark"


def test_copy_buttons_and_download(page: Page, site_url: str):
    checks.open_page(page, site_url + CHAPTER)
    cells = page.locator("div.cell_input pre").count()
    assert page.locator("div.cell_input button.copybtn").count() == cells > 0
    with page.expect_download() as download:
        page.get_by_role("link", name="Download notebook").click()
    assert download.value.suggested_filename == "07-vae-in-practice.ipynb"


@pytest.mark.parametrize("width", [375, 1280])
@pytest.mark.parametrize("name", [HOME, CHAPTER])
def test_focus_is_visible(page: Page, site_url: str, name: str, width: int):
    page.set_viewport_size({"width": width, "height": 800})
    checks.open_page(page, site_url + name)
    assert not checks.hidden_focus(page, 40)


@pytest.mark.parametrize("name", [HOME, CHAPTER, "book/api.html"])
def test_works_below_any_path(page: Page, serve_at: Callable, name: str):
    checks.open_page(page, serve_at("/some/deep/path/") + name)
    assert page.locator(".navbar-brand img").evaluate("e => e.naturalWidth") > 0


@pytest.mark.parametrize("name", [HOME, CHAPTER])
def test_works_from_a_disk(page: Page, name: str):
    checks.open_page(page, (SITE / name).as_uri())
    assert not checks.maths(page)


@pytest.mark.parametrize("lost", ["gone.html", "notebooks/gone.html", "book/a/b/c"])
def test_page_that_does_not_exist(browser: Browser, serve_at: Callable, lost: str):
    root = serve_at("/deep/path/")
    page = browser.new_page()
    assert page.goto(root + lost).status == 404
    page.get_by_role("link", name="contents").click()
    assert page.url == root + HOME
    page.close()


def test_pdf_is_printed(browser: Browser, tmp_path: Path):
    source = SITE / "whole-book.html"
    source.write_text(make_pdf.join(SITE), encoding="utf-8")
    try:
        page, faults, _ = open_watched(browser, source.as_uri(), "light")
        assert not faults and not checks.maths(page)
        make_pdf.print_page(page, tmp_path / "book.pdf")
        page.context.close()
    finally:
        source.unlink()
    pdf = (tmp_path / "book.pdf").read_bytes()
    assert pdf.startswith(b"%PDF") and len(pdf) > 500_000


# Each check must be able to fail: defects are seeded here.

GOOD = """<!DOCTYPE html><html lang="en"><head><title>A page</title></head><body><main>
<h1>Title</h1><p>Text</p>{}</main></body></html>"""


@pytest.mark.parametrize(
    ("check", "defect"),
    [
        (checks.violations, '<img src="data:image/gif;base64,R0lGODlhAQABAAAAACw=">'),
        (checks.violations, '<p style="color:#bbb;background:#fff">pale</p>'),
        (checks.violations, "<h4>skips two levels</h4>"),
        (checks.violations, "<button></button>"),
        (checks.maths, "<p>left over: $x$</p>"),
        (checks.maths, r"<p>left over: \frac{1}{2}</p>"),
        (checks.maths, "<mjx-merror>Undefined control sequence</mjx-merror>"),
        (checks.overflow, '<div style="width:3000px">wide</div>'),
        (checks.headings, "<h1>another</h1>"),
        (lambda p: checks.hidden_focus(p, 1), '<a href="#" style="outline:0">x</a>'),
    ],
)
def test_checks_see_a_defect(page: Page, check: Callable, defect: str):
    page.set_content(GOOD.format(""))
    assert not check(page)
    page.set_content(GOOD.format(defect))
    assert check(page)


def test_maths_check_sees_what_mathjax_refuses(page: Page, site_url: str):
    checks.open_page(page, site_url + CHAPTER)
    page.evaluate(r"document.querySelector('h1').append('\\(\\nonsense\\)')")
    page.evaluate("MathJax.typesetPromise()")
    assert any("nonsense" in fault for fault in checks.maths(page))


@pytest.mark.parametrize(
    "defect",
    [
        "<script>console.error('no')</script>",
        "<script>undefinedFunction()</script>",
        '<img alt="" src="http://example.invalid/pixel.png">',
        '<link rel="stylesheet" href="https://example.invalid/font.css">',
    ],
)
def test_watch_sees_a_defect(browser: Browser, defect: str):
    page = browser.new_page()
    faults = watch(page)
    page.set_content(GOOD.format(defect))
    page.close()
    assert faults


def test_weight_counts(browser: Browser, site_url: str):
    page, _, responses = open_watched(browser, site_url + CHAPTER, "light")
    sizes = checks.weight(responses)
    assert any(path.endswith("mathjax.js") for path in sizes)
    assert not any("/_images/" in path for path in sizes)
    page.context.close()
