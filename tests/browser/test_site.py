"""Every page of the built site in a browser: right, quick to load, open to everyone."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, Response, expect

from browser import page_checks as checks
from browser.conftest import SITE, serve, watch
from tools import make_pdf

MAX_WEIGHT = 600_000
MODEL_WEIGHT = 300_000
NAMES = sorted(
    path.relative_to(SITE).as_posix()
    for path in SITE.rglob("*.html")
    if "_static" not in path.parts and path != SITE / "index.html"
)
WITH_DEMO = [n for n in NAMES if 'class="playground' in (SITE / n).read_text("utf-8")]
HOME, CHAPTER = "book/index.html", "notebooks/07-vae-in-practice.html"
SHORT = "book/status.html"
every_page = pytest.mark.parametrize("name", NAMES)


def open_watched(
    browser: Browser, url: str, scheme: str, limit: float = 30_000
) -> tuple[Page, list[str], list[Response]]:
    """Open a page in one theme; return it, its faults and what it received."""
    page = browser.new_context(color_scheme=scheme).new_page()
    responses: list[Response] = []
    page.on("response", lambda response: responses.append(response))
    faults = watch(page)
    checks.open_page(page, url, limit)
    return page, faults, responses


def too_heavy(sizes: dict[str, int], name: str) -> list[str]:
    """Whether a page weighs too much, or nothing, and its heaviest files."""
    heavy = sorted(sizes.items(), key=lambda item: -item[1])[:5]
    most = MAX_WEIGHT + (MODEL_WEIGHT if name in WITH_DEMO else 0)
    total = sum(sizes.values())
    right = 10_000 < total <= most or name == "404.html"
    return [] if right else [f"{total} bytes, at most {most}: {heavy}"]


def look(browser: Browser, root: str, name: str) -> list[str]:
    """Load a page once and do every check on it, the dark and a narrow screen last.

    Returns:
        All that is wrong, a line each, which begins with the name of the check.
    """
    page, faults, responses = open_watched(browser, root + name, "light")
    found = {
        "formulas": checks.maths(page),
        "headings": checks.headings(page),
        "accessible in the light": checks.violations(page),
        "pictures": checks.pictures(page),
        "weight": too_heavy(checks.weight(responses), name),
    }
    checks.turn_dark(page)
    found["accessible in the dark"] = checks.violations(page, checks.THEME_RULES)
    page.set_viewport_size({"width": 320, "height": 640})
    found["sideways scrolling at 320 pixels"] = checks.overflow(page)
    page.context.close()
    found["errors and other hosts"] = faults
    return [f"{check}: {line}" for check, lines in found.items() for line in lines]


def test_site_was_built():
    assert HOME in NAMES and CHAPTER in NAMES, "build the site first: make book"


@every_page
def test_page(browser: Browser, site_url: str, name: str):
    found = look(browser, site_url, name)
    assert not found, "\n".join([f"{name}:", *found])


@pytest.mark.parametrize("name", [HOME, "book/benchmarks.html", "book/demo-gpt.html"])
def test_page_that_is_loaded_in_the_dark(browser: Browser, site_url: str, name: str):
    page, faults, _ = open_watched(browser, site_url + name, "dark")
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    assert not (found := checks.violations(page)), "\n".join(found)
    page.context.close()
    assert not faults, "\n".join(faults)


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


# Chapter numbers


def numbered() -> list[str]:
    """The pages of the chapters whose titles have their number."""
    names = [n for n in NAMES if n.startswith("notebooks/")]
    return [n for n in names if f"<h1>{n[10:12]} ·" in (SITE / n).read_text("utf-8")]


def test_the_number_of_a_chapter_is_seen_wherever_its_title_is(
    page: Page, site_url: str
):
    name = numbered()[1]
    number = name[10:12]
    page.goto(site_url + name)
    assert page.title().startswith(f"{number} · ")
    assert (
        page.locator("nav.bd-links .current.active").inner_text()[:4] == f"{number} ·"
    )
    before = page.locator("a.left-prev")
    assert before.inner_text().split("\n")[-1].startswith(f"{int(number) - 1:02} · ")
    page.goto(site_url + "search.html?q=" + page.title().split(" ")[2])
    found = page.locator("#search-results a", has_text=f"{number} · ")
    expect(found.first).to_be_visible()
    page.wait_for_load_state("networkidle")


def test_home_page_shows_every_chapter_as_a_card_with_its_picture(
    page: Page, site_url: str
):
    page.goto(site_url + HOME)
    cards = page.locator('.sd-card:has(a[href*="notebooks/"]) img.sd-card-img-top')
    shown = cards.evaluate_all("l => l.map(i => i.src.split('/').pop().slice(0, 2))")
    chapters = [n[10:12] for n in NAMES if n.startswith("notebooks/")]
    assert sorted(shown) == chapters
    assert page.locator(".sd-card", has_text="lanned").count() == 0


# Figures that open large


def figure_of(page: Page, site_url: str):
    """Open a chapter and return its first figure and the figure's button."""
    checks.open_page(page, site_url + CHAPTER)
    frame = page.locator(".figure-frame").first
    return frame.locator("img"), frame.get_by_role("button")


@pytest.mark.parametrize(("width", "least"), [(375, 250), (1280, 500)])
def test_a_drawing_is_as_wide_as_the_text(
    page: Page, site_url: str, width: int, least: int
):
    page.set_viewport_size({"width": width, "height": 800})
    checks.open_page(page, site_url + CHAPTER)
    drawings = page.locator('.figure-frame > img[src$=".svg"]')
    widths = drawings.evaluate_all("l => l.map(i => i.getBoundingClientRect().width)")
    assert widths and min(widths) > least  # no width of its own: it was 0 in a frame


@pytest.mark.parametrize("width", [375, 1280])
def test_figure_opens_large_by_keyboard(page: Page, site_url: str, width: int):
    page.set_viewport_size({"width": width, "height": 800})
    figure, button = figure_of(page, site_url)
    small, alt = figure.bounding_box()["width"], figure.get_attribute("alt")
    button.focus()
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog")
    expect(dialog).to_be_visible()
    large = dialog.get_by_role("img")
    assert large.get_attribute("alt") == alt and len(alt) > 20
    assert large.bounding_box()["width"] > 1.2 * small
    assert not checks.violations(page) and not checks.overflow(page)
    for _ in range(4):  # the focus stays inside, or is with the browser
        page.keyboard.press("Tab")
        outside = (
            "document.activeElement.closest('dialog, body > :not(dialog)')?.tagName"
        )
        assert page.evaluate(outside) in ("DIALOG", None)
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    assert button.evaluate("e => e === document.activeElement")


def test_figure_opens_large_by_mouse(page: Page, site_url: str):
    figure, button = figure_of(page, site_url)
    dialog = page.get_by_role("dialog")
    figure.click()
    expect(dialog).to_be_visible()
    dialog.get_by_role("button", name="Close").click()
    expect(dialog).to_be_hidden()
    assert button.evaluate("e => e === document.activeElement")
    figure.click()
    page.mouse.click(3, 3)  # beside it
    expect(dialog).to_be_hidden()


def test_figure_with_a_width_opens_in_the_page(page: Page, site_url: str):
    checks.open_page(page, site_url + "book/benchmarks.html")
    link = page.locator("a.image-reference").first
    link.focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog")).to_be_visible()
    assert page.url.endswith("benchmarks.html")
    page.keyboard.press("Escape")
    assert link.evaluate("e => e === document.activeElement")


# Formulas as TeX


def clipboard(page: Page) -> str:
    return page.evaluate("navigator.clipboard.readText()")


@pytest.mark.parametrize("way", ["keyboard", "mouse"])
def test_formula_is_copied_as_tex(page: Page, site_url: str, way: str):
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    checks.open_page(page, site_url + CHAPTER)
    button = page.get_by_role("button", name="Copy formula (7.1) as TeX")
    assert button.evaluate("e => getComputedStyle(e).opacity") == "0"
    if way == "keyboard":
        button.focus()
        assert button.evaluate("e => getComputedStyle(e).opacity") == "1"
        page.keyboard.press("Enter")
    else:
        page.locator(".formula", has=button).hover()
        button.click()
    expect(page.get_by_role("status").filter(has_text="Copied as TeX")).to_be_attached()
    text = clipboard(page)
    assert r"\tag{7.1}" in text and "$" not in text
    expect(button).to_have_text("TeX")  # and again


def test_every_displayed_formula_can_be_copied(page: Page, site_url: str):
    checks.open_page(page, site_url + CHAPTER)
    formulas = page.locator("div.math:has(mjx-container)").count()
    assert page.locator(".formula > .copy-tex").count() == formulas > 3


# Long outputs, and paper


def with_long_output(page: Page, lines: int) -> None:
    """Put an output of so many lines below the first cell of each page."""

    def handle(route) -> None:
        text = route.fetch().text()
        assert '<div class="cell_output' in text
        printed = "\n".join(f"line {i}" for i in range(lines))
        output = f'<div class="output stream highlight"><pre>{printed}\n</pre></div>'
        cell = f'<div class="cell_output docutils container">{output}</div>'
        body = text.replace(
            '<div class="cell_output', cell + '<div class="cell_output', 1
        )
        route.fulfill(body=body, content_type="text/html")

    page.route(f"**/{CHAPTER}", handle)


def test_long_output_is_folded_and_opens(page: Page, site_url: str):
    with_long_output(page, 60)
    page.goto(site_url + CHAPTER)
    details = page.locator("details.long-output")
    assert details.count() == 1
    summary = details.locator("summary")
    assert summary.inner_text() == "Output of 60 lines"
    line = page.get_by_text("line 59")
    expect(line).to_be_hidden()
    summary.focus()
    page.keyboard.press("Enter")
    expect(line).to_be_visible()
    summary.click()
    expect(line).to_be_hidden()


def test_short_output_is_not_folded(page: Page, site_url: str):
    with_long_output(page, 20)
    page.goto(site_url + CHAPTER)
    assert page.locator("details.long-output").count() == 0
    expect(page.get_by_text("line 19")).to_be_visible()


def test_on_paper_nothing_is_folded(page: Page, site_url: str):
    with_long_output(page, 60)
    checks.open_page(page, site_url + CHAPTER)
    folded = page.locator("details:not([open])")
    before = folded.count()
    assert before > 1
    page.emulate_media(media="print")
    expect(folded).to_have_count(0)
    expect(page.get_by_text("line 59")).to_be_visible()
    buttons = page.locator(".copy-tex, .figure-open")
    assert buttons.count() > 5
    assert not any(buttons.nth(i).is_visible() for i in range(5))
    page.emulate_media(media="screen")
    expect(folded).to_have_count(before)


# The page of benchmarks


@pytest.mark.parametrize("width", [375, 1280])
def test_benchmarks_begin_with_charts_and_clip_nothing(
    page: Page, site_url: str, width: int
):
    page.set_viewport_size({"width": width, "height": 800})
    checks.open_page(page, site_url + "book/benchmarks.html")
    assert not checks.overflow(page)
    charts = page.locator("article figure img")
    assert charts.count() >= 3
    for box in [charts.nth(i).bounding_box() for i in range(charts.count())]:
        assert box["x"] >= 0 and box["x"] + box["width"] <= width
        assert box["width"] > 250
    first = page.locator("article :is(figure, table)").first
    assert first.evaluate("e => e.tagName") == "FIGURE"
    assert not page.locator("details table").first.is_visible()
    for details in page.locator("article details").all():
        details.locator("summary").click()
    assert not checks.overflow(page)
    reached = page.locator("article details table").evaluate_all(
        """l => l.every(t => { for (let e = t; e; e = e.parentElement)
            if (getComputedStyle(e).overflowX === "auto") return true;
            return t.getBoundingClientRect().right <= innerWidth; })"""
    )
    assert reached


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


# All but the title page, the contents and two pages: printing takes minutes.
ALL_BUT_A_FEW = """ids => [...document.querySelectorAll("section.page")].slice(2)
    .filter(part => !ids.includes(part.id)).forEach(part => part.remove())"""


def test_whole_book_is_one_page_and_a_part_of_it_is_printed(
    browser: Browser, tmp_path: Path
):
    source = SITE / "whole-book.html"
    source.write_text(make_pdf.join(SITE), encoding="utf-8")
    try:
        # some 60 pages in one: a slow machine needs a minute for their formulas
        page, faults, _ = open_watched(browser, source.as_uri(), "light", 300_000)
        assert not faults and not checks.maths(page)
        kept = [make_pdf.anchor(name) for name in (CHAPTER, "book/benchmarks.html")]
        page.evaluate(ALL_BUT_A_FEW, kept)
        assert page.locator("section.page").count() == 2 + len(kept)
        make_pdf.print_page(page, tmp_path / "book.pdf")
        page.context.close()
    finally:
        source.unlink()
    pdf = (tmp_path / "book.pdf").read_bytes()
    assert pdf.startswith(b"%PDF") and len(pdf) > 200_000


# Each check must be able to fail: defects are seeded here.

GOOD = """<!DOCTYPE html><html lang="en"><head><title>A page</title></head><body><main>
<h1>Title</h1><p>Text</p>{}</main></body></html>"""
PALE = '<p style="color:#bbb;background:#fff">pale</p>'
BOX_ON_ANOTHER_GROUND = """<div style="position:relative">
<div style="background:#222;height:99px"></div>
<div style="position:absolute;top:9px"><p>Text</p></div></div>"""


@pytest.mark.parametrize(
    ("check", "defect"),
    [
        (checks.violations, '<img src="data:image/gif;base64,R0lGODlhAQABAAAAACw=">'),
        (checks.violations, PALE),
        (checks.violations, f"<details>{4 * PALE}</details>{PALE}"),
        (checks.violations, '<input value="x" aria-label="x" style="color:#bbb">'),
        (checks.violations, 4 * "<p>Text</p>" + BOX_ON_ANOTHER_GROUND),
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


NIGHT = "<style>html[data-theme=dark] .x {color: #444; background: #111}</style>"
DEFECTS = {
    "accessible in the light: image-alt: <img": '<img src="../_static/logo.svg">',
    "accessible in the light: color-contrast: <b": '<b style="color: #bbb">pale</b>',
    "accessible in the dark: color-contrast: <p": NIGHT + '<p class="x">by night</p>',
    "sideways scrolling at 320 pixels: ": '<div style="width: 2000px">wide</div>',
    "errors and other hosts: request to another host: https://example.invalid/x.js": (
        '<script src="https://example.invalid/x.js"></script>'
    ),
    "errors and other hosts: console error: no": "<script>console.error('no')</script>",
    "errors and other hosts: script error: unknown": "<script>unknown()</script>",
    "pictures: gone.png": '<img src="gone.png" alt="lost">',
    "formulas: raw: left over": "<p>left over: $x$</p>",
    "headings: 2 h1": "<h1>another</h1>",
    "weight: ": f"<!--{random.Random(0).randbytes(500_000).hex()}-->",
}


def test_page_with_every_defect_is_told_of_each(browser: Browser, tmp_path: Path):
    for name in ("_static", "_images", "404.html"):
        (tmp_path / name).symlink_to(SITE / name)
    text = (SITE / SHORT).read_text("utf-8")
    assert text.count("</article>") == 1
    text = text.replace("</article>", "".join(DEFECTS.values()) + "</article>")
    (tmp_path / SHORT).parent.mkdir()
    (tmp_path / SHORT).write_text(text, "utf-8")
    server = serve(tmp_path)
    found = look(browser, f"http://127.0.0.1:{server.server_port}/", SHORT)
    server.shutdown()
    server.server_close()
    for start in DEFECTS:
        assert any(line.startswith(start) for line in found), f"{start}\n{found}"
    in_the_light = [line for line in found if "the light: color" in line]
    assert len(in_the_light) == 1, "what is pale by night only is seen by night only"


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
