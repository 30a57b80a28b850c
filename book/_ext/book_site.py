"""What the website needs beyond its theme, as one Sphinx extension.

- MathJax as one script: only the parts that the pages use.
- A warning, so with ``-W`` an error, for every picture without alt text.
- Solutions in words are folded, as those in code are.
- A description of each page, Open Graph tags, links to Colab and Binder.
- A sitemap, a page for addresses that do not exist, and a tidy output folder.

Two settings in ``_config.yml``, both empty until the book has a home:
``book_url`` (the address of the website) and ``book_repository`` (its fork on GitHub).
The environment variables ``BOOK_URL`` and ``BOOK_REPOSITORY`` go before them.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit
from xml.sax.saxutils import escape

from bs4 import BeautifulSoup
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.util import logging

logger = logging.getLogger(__name__)

#: In this order: the first one starts MathJax when the others have been read.
MATHJAX_PARTS = (
    "startup",
    "core",
    "input/tex-base",
    "input/tex/extensions/ams",
    "output/chtml",
    "output/chtml/fonts/tex",
    "a11y/assistive-mml",
)
MATHJAX_NAMES = (
    *("core", "input/tex-base", "[tex]/ams", "output/chtml"),
    *("output/chtml/fonts/tex.js", "a11y/assistive-mml"),
)
MATHJAX_FONTS = "output/chtml/fonts/woff-v2"
#: The theme ships these, and no page of the book asks for them.
UNUSED = ("scripts/fontawesome.js*", "**/*.map", "**/*webpack-macros.html", "locales")
#: A page has MathJax if it has one of these.
MATHS = (nodes.math, nodes.math_block)
#: Short scripts inside the pages need this one at once.
EARLY = "documentation_options.js"
NOT_LISTED = {"404", "search", "genindex", "py-modindex"}
DESCRIPTION_LENGTH = 200
FENCE = ":" * 8


def setting(name: str, value: str) -> str:
    """Return an address from the environment or the configuration, or ``""``.

    Args:
        name: The name of the setting; the variable has the same name in capitals.
        value: What the configuration says.

    Raises:
        ValueError: The address is not a complete one.
    """
    url = (os.environ.get(name.upper()) or value or "").strip()
    parts = urlsplit(url)
    if url and (parts.scheme not in ("http", "https") or not parts.netloc):
        raise ValueError(
            f"{name} must be empty or a complete address such as "
            f"https://example.org/book/. Received: {url!r}"
        )
    return url.rstrip("/")


def read_settings(app: Sphinx, config: Config) -> None:
    """Check the two settings, and tell Sphinx the address of the site."""
    config.book_url = setting("book_url", config.book_url)
    config.book_repository = setting("book_repository", config.book_repository)
    config.html_baseurl = config.book_url and config.book_url + "/"
    config.html_context = {**config.html_context, "default_mode": "auto"}


# MathJax


def bundle(source: Path) -> str:
    """Join the parts of MathJax that the book uses to one script."""
    first, *rest = ((source / f"{p}.js").read_text("utf-8") for p in MATHJAX_PARTS)
    names = ",".join(json.dumps(name) for name in MATHJAX_NAMES)
    return "\n;".join([first, f"MathJax.loader.preLoad({names})", *rest])


def install_mathjax(app: Sphinx) -> None:
    """Write ``mathjax/mathjax.js`` and its fonts into the static folder."""
    package = importlib.util.find_spec("sphinx-mathjax-offline")
    if app.builder.format != "html" or package is None:
        return
    source = Path(package.origin).parent / "static" / "mathjax"
    target = Path(app.outdir) / "_static" / "mathjax"
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source / MATHJAX_FONTS, target / MATHJAX_FONTS)
    (target / "mathjax.js").write_text(bundle(source), encoding="utf-8")


# Pictures


def without_alt(doctree: nodes.document) -> list[nodes.Element]:
    """Return the pictures of a page that have no alt text, raw HTML included."""
    bad: list[nodes.Element] = [
        image
        for image in doctree.findall(nodes.image)
        if not image.get("alt", "").strip() or image["alt"] == image["uri"]
    ]
    for raw in doctree.findall(nodes.raw):
        if "<img" in raw.astext():
            images = BeautifulSoup(raw.astext(), "html.parser").select("img")
            if not all(image.get("alt", "").strip() for image in images):
                bad.append(raw)
    return bad


def check_alt(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Warn of each picture without alt text."""
    for node in without_alt(doctree):
        logger.warning(
            "a picture has no alt text: say what is to be seen, in ':alt:' of the "
            "figure, or in 'mystnb.image.alt' of the cell's metadata. Received: %s",
            node.get("uri") or node.astext()[:80],
            location=(docname, node.line),
            type="book",
            subtype="alt",
        )


# Solutions


def folded(cell: dict[str, Any]) -> str:
    """Return the text of a cell; a solution in words in something that opens."""
    text = "".join(cell["source"])
    if "solution" not in cell["metadata"].get("tags", []):
        return text
    return (
        f"{FENCE}{{dropdown}} Solution\n:class-container: solution\n\n{text}\n{FENCE}\n"
    )


def fold_solutions(app: Sphinx, docname: str, source: list[str]) -> None:
    """Fold the solutions that are Markdown cells: MyST-NB folds cells of code alone."""
    if app.env.doc2path(docname).endswith(".ipynb"):
        notebook = json.loads(source[0])
        for cell in notebook["cells"]:
            if cell["cell_type"] == "markdown":
                cell["source"] = folded(cell)
        source[0] = json.dumps(notebook)


# Pages


def description(doctree: nodes.document | None) -> str:
    """Return the first paragraph of a page as plain text, cut at a word."""
    for paragraph in doctree.findall(nodes.paragraph) if doctree else ():
        text = " ".join(paragraph.astext().split())
        if len(text) > DESCRIPTION_LENGTH:
            return text[:DESCRIPTION_LENGTH].rsplit(" ", 1)[0].rstrip(",;:") + " …"
        return text
    return ""


def launch_links(repository: str, branch: str, notebook: str) -> dict[str, str]:
    """Return the addresses at which Colab and Binder open a notebook.

    Args:
        repository: Such as ``https://github.com/NAME/REPOSITORY``; may be empty.
        branch: The branch of the repository.
        notebook: The path of the notebook in it.

    Returns:
        Addresses by name; none where Colab and Binder do not find the repository.
    """
    host, path = urlsplit(repository).netloc, urlsplit(repository).path.strip("/")
    if host != "github.com" or path.count("/") != 1:
        return {}
    path, notebook = quote(path.removesuffix(".git")), quote(notebook)
    colab, binder = "https://colab.research.google.com", "https://mybinder.org"
    return {
        "Colab": f"{colab}/github/{path}/blob/{branch}/{notebook}",
        "Binder": f"{binder}/v2/gh/{path}/{branch}?urlpath=lab/tree/{notebook}",
    }


def add_context(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: Any
) -> None:
    """Give the templates what they show, and let every script wait for the page."""
    context["book_url"] = app.config.book_url
    context["description"] = description(doctree)
    for role in ("doc-biblioentry", "doc-endnote"):  # withdrawn from the standard
        context["body"] = context.get("body", "").replace(role, "listitem")
    context["folders"] = sorted(
        {name.split("/")[0] for name in app.env.found_docs if "/" in name}
    )
    if doctree is not None and not any(map(doctree.next_node, MATHS)):
        context["script_files"] = [
            s for s in context["script_files"] if "mathjax" not in str(s).lower()
        ]
    for script in context.get("script_files", []):
        name = str(getattr(script, "filename", None) or EARLY)
        if EARLY not in name and "async" not in script.attributes:
            script.attributes["defer"] = "defer"
    if page not in app.env.found_docs:
        return
    source = Path(app.env.doc2path(page, base=False))
    if source.suffix == ".ipynb":
        context["notebook"] = source.as_posix()
        context["launch"] = launch_links(
            app.config.book_repository, app.config.book_branch, source.as_posix()
        )


def extra_pages(app: Sphinx) -> list[tuple[str, dict[str, Any], str]]:
    """Add the page for addresses that do not exist."""
    return [("404", {}, "404.html")]


# After the build


def sitemap(book_url: str, pages: list[str]) -> str:
    """Return a sitemap of the pages; the protocol wants complete addresses."""
    lines = [
        f"<url><loc>{escape(f'{book_url}/{quote(p)}.html')}</loc></url>" for p in pages
    ]
    space = "http://www.sitemaps.org/schemas/sitemap/0.9"
    head = f'<?xml version="1.0" encoding="utf-8"?>\n<urlset xmlns="{space}">'
    return "\n".join([head, *lines, "</urlset>", ""])


def front_door(home: str) -> str:
    """Return ``index.html``: the head of the home page, and a way to it.

    Args:
        home: The HTML of the home page, which stands in another folder.
    """
    page = BeautifulSoup(home, "html.parser")
    keep = [tag for tag in page.head.select("title, meta") if not tag.get("http-equiv")]
    for icon in page.head.select('link[rel="icon"]'):  # else browsers ask /favicon.ico
        icon["href"] = icon["href"].removeprefix("../")
        keep.append(icon)
    title = page.title.string
    return (
        f'<!DOCTYPE html>\n<html lang="{page.html.get("lang", "en")}">\n<head>\n'
        + "\n".join(str(tag) for tag in keep)
        + '\n<meta http-equiv="refresh" content="0; url=book/index.html">\n</head>\n'
        f"<body>\n<main>\n<h1>{escape(title)}</h1>\n"
        '<p><a href="book/index.html">To the book</a></p>\n</main>\n</body>\n</html>\n'
    )


def finish(app: Sphinx, error: Exception | None) -> None:
    """Write sitemap and front door, and remove what no page asks for."""
    if error or app.builder.name != "html":
        return
    out = Path(app.outdir)
    for pattern in UNUSED:
        for path in list((out / "_static").glob(pattern)):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    home = out / "book" / "index.html"
    if home.exists():
        html = front_door(home.read_text("utf-8"))
        (out / "index.html").write_text(html, encoding="utf-8")
    target = out / "sitemap.xml"
    target.unlink(missing_ok=True)
    if app.config.book_url:
        pages = sorted(set(app.env.found_docs) - NOT_LISTED)
        target.write_text(sitemap(app.config.book_url, pages), encoding="utf-8")


def setup(app: Sphinx) -> dict[str, Any]:
    """Connect everything to Sphinx."""
    app.add_config_value("book_url", "", "html")
    app.add_config_value("book_repository", "", "html")
    app.add_config_value("book_branch", "main", "html")
    app.connect("config-inited", read_settings)
    app.connect("builder-inited", install_mathjax)
    app.connect("source-read", fold_solutions)
    app.connect("doctree-resolved", check_alt)
    app.connect("html-collect-pages", extra_pages)
    app.connect("html-page-context", add_context, priority=900)
    app.connect("build-finished", finish, priority=900)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
