"""The directive ``playground``: a live demo, with a still picture until it runs.

    :::{playground} latent
    :model: decoder.bin
    :still: decoder.png
    :alt: What the still picture shows.

    The caption.
    :::

Model and still picture lie in ``assets/models``, the scripts in ``assets/playground``.
Model and scripts are copied under names that hold a hash of their contents, so that a
browser never mixes two editions; a page without a demo loads none of them.
"""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

#: Kinds of demo, and whether one needs a model.
KINDS = {"latent": True, "generator": True, "gan-lab": False}
WITHOUT_SCRIPT = "This picture is a still: the live demo needs JavaScript."


class playground(nodes.General, nodes.Element):
    """A demo; its children are the still picture and the caption."""


class Playground(SphinxDirective):
    """Place a demo of one kind on the page."""

    required_arguments = 1
    has_content = True
    option_spec = dict.fromkeys(("model", "still", "alt"), directives.unchanged)

    def run(self) -> list[nodes.Node]:
        """Check the options and return the node; an error fails a build with -W."""
        kind, options = self.arguments[0], self.options
        if kind not in KINDS:
            raise self.error(
                f"The kind must be one of {', '.join(KINDS)}. Received: {kind!r}."
            )
        if not options.get("alt", "").strip():
            raise self.error("`:alt:` must say what the still shows. Received: none.")
        if KINDS[kind] != bool(options.get("model")):
            must = "needs" if KINDS[kind] else "takes no"
            raise self.error(
                f"A demo of kind {kind!r} {must} `:model:`. Received: "
                f"{options.get('model')!r}."
            )
        node = playground(kind=kind)
        node["model"] = str(self._source("model")) if KINDS[kind] else ""
        self.set_source_info(node)
        uri = "/assets/models/" + self._source("still").name
        image = nodes.image(uri=uri, alt=options["alt"])
        note = nodes.paragraph(WITHOUT_SCRIPT, WITHOUT_SCRIPT)
        self.set_source_info(note)
        still = nodes.container(classes=["playground-still"])
        still += [image, *_between("noscript", [note])]
        node += still
        node += _between("figcaption", self.parse_content_to_nodes())
        return [node]

    def _source(self, option: str) -> Path:
        """Return the file that an option names, and make the page depend on it."""
        name = self.options.get(option, "")
        path = _assets(self.env.app) / "models" / name
        if not name or not path.is_file():
            raise self.error(
                f"`:{option}:` must name a file in assets/models. Received: {name!r}. "
                "Write it with: make demos"
            )
        self.env.note_dependency(str(path))
        return path


def _between(tag: str, children: list[nodes.Node]) -> list[nodes.Node]:
    """Return the children between an HTML tag; other builders see them alone."""
    start, end = (nodes.raw("", f"<{s}{tag}>", format="html") for s in ("", "/"))
    return [start, *children, end]


def _assets(app: Sphinx) -> Path:
    return Path(app.srcdir) / "assets"


def publish(app: Sphinx, source: Path) -> str:
    """Copy a file or folder into the built site, and return its path there.

    Args:
        app: The application.
        source: A file, or a folder of scripts.

    Returns:
        A path below the site's root, such as ``_static/demos/decoder.0a1b2c3d.bin``.
    """
    files = sorted(source.iterdir()) if source.is_dir() else [source]
    content = b"".join(f.name.encode() + f.read_bytes() for f in files)
    digest = hashlib.sha256(content).hexdigest()[:8]
    path = f"_static/demos/{source.stem}.{digest}{source.suffix}"
    goal = Path(app.outdir) / path
    goal.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, goal, dirs_exist_ok=True)
    else:
        shutil.copyfile(source, goal)
    return path


def visit_html(self: Any, node: playground) -> None:
    """Open the figure; the still picture stands in it until the demo starts."""
    attributes = {"data-kind": node["kind"]}
    if node["model"]:
        root = "../" * self.builder.current_docname.count("/")
        path = publish(self.builder.app, Path(node["model"]))
        attributes["data-model"] = root + path
    self.body.append(self.starttag(node, "figure", CLASS="playground", **attributes))


def depart_html(self: Any, node: playground) -> None:
    """Close the figure."""
    self.body.append("</figure>\n")


def load_scripts(app: Sphinx, page: str, template: str, context: dict, doctree) -> None:
    """Link the scripts and the style on a page that has a demo, and on no other."""
    if doctree is None or not any(doctree.findall(playground)):
        return
    folder = publish(app, _assets(app) / "playground").removeprefix("_static/")
    app.add_js_file(f"{folder}/main.js", type="module")
    app.add_css_file(f"{folder}/playground.css")


def keep_apart(app: Sphinx, config: Any) -> None:
    """Keep Sphinx from copying models and scripts a second time, without a hash."""
    config.exclude_patterns += ["models", "playground"]


def setup(app: Sphinx) -> dict:
    """Register the directive, its node and the hooks."""
    quiet = (lambda self, node: None, lambda self, node: None)
    others = dict.fromkeys(("latex", "text", "man", "texinfo"), quiet)
    app.add_node(playground, html=(visit_html, depart_html), **others)
    app.add_directive("playground", Playground)
    app.connect("html-page-context", load_scripts)
    app.connect("config-inited", keep_apart)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
