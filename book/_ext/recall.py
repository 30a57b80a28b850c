"""The directive ``recall``: an equation of a chapter, said once more.

::

    ```{recall} 9.3
    Where real data are twice as common as fakes, it says "real" in two cases of three.
    ```

Only the number is written; the formula is taken from the notebook, so the two cannot
differ.  The number leads to the chapter, as each number of an equation does.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

DISPLAY = re.compile(r"\$\$(.+?)\$\$", re.DOTALL)


def equation(root: Path, tag: str) -> tuple[str, Path]:
    """Return the LaTeX of an equation, without its tag, and the notebook it stands in.

    Args:
        root: The folder that holds ``notebooks/``.
        tag: Its number, such as ``9.3``.

    Raises:
        ValueError: If no notebook, or more than one formula, has that tag.
    """
    mark = rf"\tag{{{tag}}}"
    found = [
        (formula, path)
        for path in sorted(root.glob(f"notebooks/{int(tag.split('.')[0]):02d}-*.ipynb"))
        for cell in json.loads(path.read_text("utf-8"))["cells"]
        if cell["cell_type"] == "markdown"
        for formula in DISPLAY.findall("".join(cell["source"]))
        if mark in formula
    ]
    if len(found) != 1:
        raise ValueError(
            f"`recall` needs the number of one equation. Received: {tag}, which "
            f"{len(found)} formulas have. Give the number in a \\tag of a notebook."
        )
    formula, path = found[0]
    return formula.replace(mark, "").strip().rstrip(",.;:").rstrip(), path


class Recall(SphinxDirective):
    """An equation of a chapter, with a sentence that says it in words."""

    required_arguments = 1
    has_content = True

    def run(self) -> list[nodes.Node]:
        """Return the formula and the sentence, in one box."""
        tag = self.arguments[0]
        try:
            formula, path = equation(Path(self.env.srcdir), tag)
        except ValueError as error:
            raise self.error(str(error)) from error
        self.env.note_dependency(str(path))
        plain = {"nowrap": False, "number": None, "label": None}
        block = nodes.math_block(formula, formula, **plain)
        self.set_source_info(block)
        words = nodes.paragraph("", f"({tag}) ")
        for child in self.parse_content_to_nodes():
            words += child.children if isinstance(child, nodes.paragraph) else child
        return [nodes.container("", block, words, classes=["recall"])]


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directive."""
    app.add_directive("recall", Recall)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
