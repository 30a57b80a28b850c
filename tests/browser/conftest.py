"""Fixtures of the browser tests: one Chromium, one server, pages that are watched."""

from __future__ import annotations

import functools
import http.server
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

SITE = Path(__file__).parent.parent.parent / "_build" / "html"
NAMES = ("chromium", "chromium-browser", "google-chrome")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep the tests of one page in one worker, and a file's others together."""
    for item in items:
        parameters = getattr(item, "callspec", None)
        name = parameters.params.get("name") if parameters else None
        group = name if isinstance(name, str) else item.path.name
        item.add_marker(pytest.mark.xdist_group(group))


def find_chromium() -> str | None:
    """Return the path of a Chromium: ``$CHROMIUM``, or one on the search path."""
    names = (os.environ.get("CHROMIUM"), *NAMES)
    return next((path for name in names if name and (path := shutil.which(name))), None)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """One headless Chromium for all tests; without one they are skipped."""
    path = find_chromium()
    if path is None:
        reason = f"no Chromium: set CHROMIUM, or install one of {', '.join(NAMES)}"
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(reason)
    with sync_playwright() as playwright:
        arguments = ["--no-sandbox", "--disable-dev-shm-usage"]
        yield playwright.chromium.launch(executable_path=path, args=arguments)


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serve a folder, quietly, below a prefix, with the site's own page for 404."""

    prefix = "/"

    def translate_path(self, path: str) -> str:
        """Return the file that an address means; none outside the prefix."""
        if not path.startswith(self.prefix):
            return os.path.join(self.directory, "missing")
        return super().translate_path("/" + path.removeprefix(self.prefix))

    def send_error(self, code: int, *args: object, **kwargs: object) -> None:
        """Answer with ``404.html``, as servers of static sites do."""
        body = (Path(self.directory) / "404.html").read_bytes()
        self.send_response(code)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        """Say nothing."""


def serve(folder: Path, prefix: str = "/") -> http.server.ThreadingHTTPServer:
    """Serve a folder from a free port, in a thread."""
    kind = type("PrefixHandler", (Handler,), {"prefix": prefix})
    handler = functools.partial(kind, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


@pytest.fixture(scope="session")
def serve_at() -> Iterator[Callable[[str], str]]:
    """Return a function that serves the site below a prefix, and its address."""
    servers = []

    def start(prefix: str) -> str:
        servers.append(serve(SITE, prefix))
        return f"http://127.0.0.1:{servers[-1].server_port}{prefix}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="session")
def site_url(serve_at: Callable[[str], str]) -> str:
    """Return the address of the built site; it ends in a slash."""
    return serve_at("/")


def watch(page: Page) -> list[str]:
    """Collect what a page must not do, from now on.

    Returns:
        A list that grows: errors of scripts and of the console, requests to other
        hosts, requests that failed.
    """
    faults: list[str] = []

    def request(url: str) -> None:
        if urlsplit(url).hostname not in (None, "127.0.0.1", "localhost"):
            faults.append(f"request to another host: {url}")

    def console(kind: str, text: str, where: dict) -> None:
        if kind == "error":
            faults.append(f"console error: {text} {where.get('url')}")

    def failed(url: str, reason: str) -> None:
        if "ERR_ABORTED" not in reason:  # the reader has gone to another page
            faults.append(f"request failed: {url} {reason}")

    page.on("request", lambda r: request(r.url))
    page.on("console", lambda m: console(m.type, m.text, m.location))
    page.on("pageerror", lambda e: faults.append(f"script error: {e}"))
    page.on("requestfailed", lambda r: failed(r.url, r.failure or ""))
    return faults


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """Give a new page; the test fails at its end if the page did what it must not."""
    context = browser.new_context()
    page = context.new_page()
    faults = watch(page)
    yield page
    context.close()
    assert not faults, "\n".join(faults)
