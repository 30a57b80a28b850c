"""The directive ``playground``: a live demo, with a still picture until it runs.

    :::{playground} latent
    :model: decoder.bin
    :still: decoder.png
    :alt: What the still picture shows.

    The caption.
    :::

What the trainings took (``assets/models/training.json``) can be said on every page:
``{{ decoder_training }}``, and ``{{ decoder_time }}`` for the time alone.  A language
model also has ``{{ gpt_bits }}``, its bits per character of held-out text.

A film shows what stands as ``film_steps`` in the record that ``:film:`` names (the
generator's, if none), and plays by itself unless it has a ``:label:`` for its slider.
Models (names with blanks between them) and still picture lie in ``assets/models``, the
scripts in ``assets/playground``.
Model and scripts are copied under names that hold a hash of their contents, so that a
browser never mixes two editions; a page without a demo loads none of them.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

#: Kinds of demo, and whether one needs a model.
KINDS = {
    "latent": True,
    "generator": True,
    "gan-lab": False,
    "gpt": True,
    "diffusion": True,
    "scores": False,
    "film": False,
}
GFLOPS = 300  # of matrix product: the machine that the book's times are given for
WITHOUT_SCRIPT = "This picture is a still: the live demo needs JavaScript."


class playground(nodes.General, nodes.Element):
    """A demo; its children are the still picture and the caption."""


class Playground(SphinxDirective):
    """Place a demo of one kind on the page."""

    required_arguments = 1
    has_content = True
    option_spec = dict.fromkeys(
        ("model", "still", "alt", "film", "label"), directives.unchanged
    )

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
        names = options["model"].split() if KINDS[kind] else []
        node["models"] = [str(self._source("model", name)) for name in names]
        if kind == "film":
            record = options.get("film", "generator")
            steps = training(self.env.app).get(record, {}).get("film_steps")
            if not steps:
                raise self.error(
                    f"A film needs `film_steps` of {record!r} in assets/models/"
                    "training.json. Received: none. Write it with: make demos"
                )
            node["steps"] = " ".join(map(str, steps))
            node["label"] = options.get("label", "")
        self.set_source_info(node)
        still_name = options.get("still", "")
        uri = "/assets/models/" + self._source("still", still_name).name
        image = nodes.image(uri=uri, alt=options["alt"])
        note = nodes.paragraph(WITHOUT_SCRIPT, WITHOUT_SCRIPT)
        self.set_source_info(note)
        still = nodes.container(classes=["playground-still"])
        still += [image, *_between("noscript", [note])]
        node += still
        node += _between("figcaption", self.parse_content_to_nodes())
        return [node]

    def _source(self, option: str, name: str) -> Path:
        """Return a file that an option names, and make the page depend on it."""
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


def training(app: Sphinx) -> dict[str, dict]:
    """Return what the trainings of the demos took, by name."""
    log = _assets(app) / "models" / "training.json"
    return json.loads(log.read_text("utf-8")) if log.is_file() else {}


def duration(facts: dict) -> str:
    """Say how long a training takes at ``GFLOPS``, for people.

    Args:
        facts: With ``seconds`` and the machine's ``matrix_product_gflops``.
    """
    seconds = facts["seconds"] * facts["matrix_product_gflops"] / GFLOPS
    if seconds < 100:
        return f"{max(seconds, 1):.0f} second{'s' * (round(seconds) > 1)}"
    return f"{seconds / 60:.0f} minutes"


def substitutions(app: Sphinx) -> dict[str, str]:
    """Return the words that pages can take from the record of the trainings."""
    found = {}
    for name, facts in training(app).items():
        key = name.replace("-", "_")
        found[f"{key}_time"] = duration(facts)
        found[f"{key}_training"] = (
            f"{facts['epochs']} passes through {facts['samples']:,} samples, "
            f"{duration(facts)} on two processor cores (at {GFLOPS} GFLOP/s of matrix "
            "product, without a graphics card)"
        )
        if "bits" in facts:
            found[f"{key}_bits"] = f"{facts['bits']:.2f}"
    return found


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
    if node["models"]:
        root = "../" * self.builder.current_docname.count("/")
        paths = [publish(self.builder.app, Path(model)) for model in node["models"]]
        attributes["data-model"] = " ".join(root + path for path in paths)
    if "steps" in node:
        attributes["data-steps"] = node["steps"]
        if node["label"]:
            attributes["data-label"] = node["label"]
    self.body.append(self.starttag(node, "figure", CLASS="playground", **attributes))


def depart_html(self: Any, node: playground) -> None:
    """Close the figure."""
    self.body.append("</figure>\n")


def load_scripts(app: Sphinx, page: str, template: str, context: dict, doctree) -> None:
    """Link the scripts and the style on a page that has a demo, and on no other."""
    kinds = {n["kind"] for n in doctree.findall(playground)} if doctree else set()
    if not kinds:
        return
    source = _assets(app) / "playground"
    folder = publish(app, source).removeprefix("_static/")
    app.add_css_file(f"{folder}/playground.css")
    if "film" in kinds:
        app.add_js_file(f"{folder}/film.js")
    if kinds - {"film"}:
        app.add_js_file(f"{folder}/main.js", type="module")


def configure(app: Sphinx, config: Any) -> None:
    """Keep Sphinx from copying models and scripts twice, and pass on the record."""
    config.exclude_patterns += ["models", "playground"]
    words = substitutions(app)
    config.myst_substitutions = {**config.myst_substitutions, **words}


def setup(app: Sphinx) -> dict:
    """Register the directive, its node and the hooks."""
    quiet = (lambda self, node: None, lambda self, node: None)
    others = dict.fromkeys(("latex", "text", "man", "texinfo"), quiet)
    app.add_node(playground, html=(visit_html, depart_html), **others)
    app.add_directive("playground", Playground)
    app.connect("html-page-context", load_scripts)
    app.connect("config-inited", configure, priority=100)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
