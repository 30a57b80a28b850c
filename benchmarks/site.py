"""The website from a reader's side: how heavy each page is, and how soon it is seen.

``python -m benchmarks.site`` opens every page of the built site from localhost in
Chromium, with the processor slowed four times, and writes ``results/site.json``.  It
fails if a page is above its budget.
"""

from __future__ import annotations

import statistics
import sys
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Response, sync_playwright

from benchmarks.common import save

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))
from browser import page_checks as checks  # noqa: E402
from browser.conftest import SITE, find_chromium, serve  # noqa: E402

SLOWER = 4
REPEATS = 3
BUDGET = {"lcp_seconds": 1.5, "kilobytes": 600}
LARGEST_PAINT = """() => new Promise(done => {
  let last = 0;
  new PerformanceObserver(list => {
    for (const entry of list.getEntries()) last = entry.startTime;
  }).observe({type: "largest-contentful-paint", buffered: true});
  setTimeout(() => done(last), 300);
})"""


def visit(browser: Browser, url: str) -> tuple[float, float]:
    """Open a page as a new reader does, on a slow processor.

    Returns:
        Seconds until the largest thing on the screen was painted, and the compressed
        size of the page without its figures, in 1000 bytes.
    """
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    page = context.new_page()
    responses: list[Response] = []
    page.on("response", lambda response: responses.append(response))
    session = context.new_cdp_session(page)
    session.send("Emulation.setCPUThrottlingRate", {"rate": SLOWER})
    page.goto(url)
    milliseconds = page.evaluate(LARGEST_PAINT)
    session.send("Emulation.setCPUThrottlingRate", {"rate": 1})
    page.evaluate(checks.READY)
    size = sum(checks.weight(responses).values())
    context.close()
    return milliseconds / 1000, size / 1000


def measure(browser: Browser, base: str, name: str) -> dict[str, Any]:
    """Measure one page: medians of a few visits."""
    visits = [visit(browser, base + name) for _ in range(REPEATS)]
    paint, size = map(statistics.median, zip(*visits, strict=True))
    demo = 'class="playground' in (SITE / name).read_text("utf-8")
    row = {"name": name, "lcp_seconds": round(paint, 2), "kilobytes": round(size, 1)}
    print(row, flush=True)
    return {**row, "demo": demo}


def complaints(rows: list[dict[str, Any]]) -> list[str]:
    """Say which pages are above the budget; a page with a demo may weigh more."""
    return [
        f"{row['name']}: measured {key} {row[key]}, budget {limit}"
        for row in rows
        for key, limit in BUDGET.items()
        if row[key] > limit and not (key == "kilobytes" and row["demo"])
    ]


def main() -> int:
    """Measure every page; 1 if one is above its budget."""
    chromium = find_chromium()
    names = sorted(
        path.relative_to(SITE).as_posix()
        for folder in ("book", "notebooks")
        for path in (SITE / folder).glob("*.html")
    )
    if chromium is None or not names:
        sys.exit("This needs a built site (make book) and a Chromium (or $CHROMIUM).")
    server = serve(SITE)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium, args=["--no-sandbox"]
        )
        base = f"http://127.0.0.1:{server.server_port}/"
        visit(browser, base + names[0])  # the browser warms up
        rows = [measure(browser, base, name) for name in names]
        browser.close()
    server.shutdown()
    save("site", {"processor_slowed": SLOWER, "budget": BUDGET, "pages": rows})
    faults = complaints(rows)
    print("\n".join(faults) if faults else "Every page is within its budget.")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
