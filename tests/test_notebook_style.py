"""The anatomy of a chapter, checked on every notebook; and the checker, on bad ones."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from statistics import median

import nbformat
import pytest

from genai_utils.data.fetch import registry

ROOT = Path(__file__).parent.parent
ASSETS = ROOT / "assets"
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
WORDS = (1200, 2500)
# Lines of the median code cell, and cells beside the solutions.
CELLS = {"05": (10, 62), "15": (10, 45), "17": (10, 50), "19": (10, 53)}  # many topics
CELLS |= {
    "24": (10, 45),
    "26": (12, 50),
    "27": (13, 53),
    "28": (12, 50),
    "29": (12, 53),
    "31": (14, 53),
    "33": (10, 50),
    "35": (10, 52),
    "36": (10, 53),
}
LONG = {"09": 2800, "10": 3400}  # proofs in words; the listing has many faults
DIRECTIVE = re.compile(r"^\s*(```+|:::+)\s*\{|\{[a-z][a-z:-]*\}`", re.MULTILINE)
PATHS = re.compile(r"(?<![\w/.])(/(home|root|work|tmp|Users)\b|[A-Z]:\\\\?\w)")
PLUMBING = re.compile(r"sys\.path|^\s*[!%]\s*pip", re.MULTILINE)
TAG = re.compile(r"\\tag\{([^}]*)\}")
CHECKS = re.compile(r"#\s*checks\s+(.*)")
NUMBER = re.compile(r"\((\d+\.\d+)\)")
IMAGE = re.compile(r"!\[([^\]]*)\]\(\.\./assets/([^)\s]+)\)")
ASSERT = re.compile(r"^\s*(assert\b|(np|numpy)\.testing\.assert_)", re.MULTILINE)


def tags(cell) -> list[str]:
    return cell.metadata.get("tags", [])


def figures(cell) -> list:
    outputs = cell.get("outputs", [])
    return [o for o in outputs if "image/png" in o.get("data", {})]


def printed(output) -> str:
    """The text of an output, wherever nbformat keeps it."""
    data = output.get("data", {})
    shown = [output.get("text", ""), data.get("text/plain", "")]
    return "\n".join([*shown, data.get("text/html", "")])


def prints_text(cell) -> bool:
    return any(
        o.output_type == "stream" or set(o.get("data", {})) == {"text/plain"}
        for o in cell.get("outputs", [])
    )


def problems(book, chapter: str, assets: Path = ASSETS) -> list[str]:
    """Everything that is wrong with one notebook, a line each."""
    cells = book.cells
    code = [c for c in cells if c.cell_type == "code"]
    text = "\n\n".join(c.source for c in cells if c.cell_type == "markdown")
    return [
        *run_problems(code),
        *length_problems(cells, code, chapter),
        *figure_problems(cells),
        *band_problems(cells),
        *detector_problems(code),
        *equation_problems(code, text, chapter),
        *text_problems(cells, text),
        *opening_problems(cells, text, chapter, assets),
    ]


def run_problems(code):
    counts = [c.execution_count for c in code]
    if counts != list(range(1, len(code) + 1)):
        yield "execution counts are not 1..n: run it from a fresh kernel"
    for c in code:
        failed = any(o.output_type == "error" for o in c.outputs)
        if failed and "raises-exception" not in tags(c):
            yield f"cell {c.execution_count} holds an error"


def length_problems(cells, code, chapter):
    lengths = [len(c.source.splitlines()) for c in code]
    middle, cells_at_most = CELLS.get(chapter, (8, 45))
    if max(lengths, default=0) > 30:
        yield f"a code cell has {max(lengths)} lines, more than 30"
    if lengths and median(lengths) > middle:
        yield f"the median code cell has {median(lengths)} lines, more than {middle}"
    lesson = [c for c in cells if "solution" not in tags(c)]
    if not 25 <= len(lesson) <= cells_at_most:
        yield f"{len(lesson)} cells beside the solutions, not 25 to {cells_at_most}"
    text = "\n".join(c.source for c in lesson if c.cell_type == "markdown")
    text = re.sub(r"^# \d\d · ", "", re.sub(r"\$[^$]*\$", " x ", text))
    words = len(text.split())
    most = LONG.get(chapter, WORDS[1])
    if not WORDS[0] <= words <= most:
        yield f"{words} words of prose, not {WORDS[0]} to {most}"
    row = 0
    for c in cells:
        lesson = c.cell_type == "code" and "solution" not in tags(c)
        row = row + 1 if lesson else 0
        if row == 3:
            yield f"three code cells in a row, the last is {c.execution_count}"


def figure_problems(cells):
    for i, c in enumerate(cells):
        if not figures(c):
            continue
        meta = c.metadata.get("mystnb", {})
        caption = meta.get("figure", {}).get("caption", "")
        alt = meta.get("image", {}).get("alt", "")
        if not caption or len(alt) < 40:
            yield f"figure of cell {c.execution_count} lacks a caption or alt text"
        near = [n for n in cells[i : i + 5] if n.cell_type == "code"][:3]
        if not any(ASSERT.search(n.source) for n in near):
            yield f"nothing is asserted on what cell {c.execution_count} draws"


def band_problems(cells):
    for i, c in enumerate(cells):
        if "nbval-ignore-output" not in tags(c):
            continue
        after = [n for n in cells[i + 1 : i + 4] if n.cell_type == "code"][:1]
        if prints_text(c) and not any(ASSERT.search(n.source) for n in after):
            yield f"cell {c.execution_count} is ignored and no assert follows"


def detector_problems(code):
    """Detectors that swallow their own failure, and values shown without rounding."""
    broad = {None, "Exception", "BaseException", "AssertionError"}
    for c in code:
        for node in ast.walk(ast.parse(re.sub(r"^[%!].*", "", c.source, flags=re.M))):
            if not isinstance(node, ast.Try):
                continue
            raised = [n for s in node.body for n in ast.walk(s)]
            ours = [n for n in raised if isinstance(n, ast.Raise) and n.exc]
            caught = {getattr(h.type, "id", None) for h in node.handlers}
            if caught & broad and any("AssertionError" in ast.dump(n) for n in ours):
                yield f"cell {c.execution_count} catches its own AssertionError"
        shown = any(o.output_type == "execute_result" for o in c.outputs)
        if shown and "nbval-ignore-output" not in tags(c):
            yield f"cell {c.execution_count} shows a bare value: print it, rounded"


def equation_problems(code, text, chapter):
    found = TAG.findall(text)
    for tag in found:
        if not tag.startswith(f"{int(chapter)}.") or found.count(tag) > 1:
            yield f"\\tag{{{tag}}} is not unique, or of another chapter"
    lines = [m for c in code for m in CHECKS.findall(c.source)]
    checked = {n for line in lines for n in NUMBER.findall(line)}
    if len(checked) < 3:
        yield "fewer than three equations are checked by a cell"
    unknown = checked - set(found)
    if unknown:
        yield f"cells check equations that do not stand here: {sorted(unknown)}"
    for block in re.findall(r"\$\$(.*?)\$\$", text, re.DOTALL):
        if "\\\\" in block and TAG.search(block):  # Sphinx splits it; tags fail there
            yield f"a line break beside \\tag{{{TAG.search(block)[1]}}}"
    referred = {n for n in NUMBER.findall(text) if n.startswith(f"{int(chapter)}.")}
    if referred - set(found):
        yield f"the prose refers to missing equations: {sorted(referred - set(found))}"


def opening_problems(cells, text, chapter, assets):
    """Title, thumbnail, diagrams, and the way on."""
    if not re.match(rf"# {chapter} · \w", text):
        yield f"the title does not begin with # {chapter} ·"
    marked = [c for c in cells if "thumbnail" in tags(c)]
    if len(marked) != 1:
        yield f"{len(marked)} cells are tagged thumbnail, not one"
    elif not figures(marked[0]):
        yield "the cell tagged thumbnail draws nothing"
    first = next((i for i, c in enumerate(cells) if c.cell_type == "code"), len(cells))
    opening = "\n".join(c.source for c in cells[:first])
    name = f"thumbnails/{chapter}.png"
    if name not in [path for _, path in IMAGE.findall(opening)]:
        yield f"the opening does not show ../assets/{name}"
    images = IMAGE.findall(text)
    if not any(path.startswith("diagrams/") for _, path in images):
        yield "no diagram from ../assets/diagrams/"
    for alt, path in images:
        if len(" ".join(alt.split())) < 40:
            yield f"the alt text of {path} has {len(alt)} characters, not 40 or more"
        if not (assets / path).is_file():
            yield f"the file assets/{path} is missing"
    if not re.search(
        r"^(#+ |\*\*)Where to go next", text, re.MULTILINE | re.IGNORECASE
    ):
        yield "section Where to go next is missing"


def text_problems(cells, text):
    for heading in ("Summary", "Exercises", "References"):
        if not re.search(rf"^## {heading}", text, re.MULTILINE):
            yield f"section {heading} is missing"
    count = len(re.findall(r"^#+ Exercise \d", text, re.MULTILINE))
    if not 3 <= count <= 5:
        yield f"{count} exercises, not 3 to 5"
    if DIRECTIVE.search(text):
        yield f"a MyST directive or role: {DIRECTIVE.search(text).group()!r}"
    for c in cells:
        outputs = "\n".join(printed(o) for o in c.get("outputs", []))
        if PATHS.search(c.source) or PATHS.search(outputs):
            yield f"an absolute path: {c.source[:60]!r}"
        if PLUMBING.search(c.source):
            yield f"package plumbing: {c.source[:60]!r}"
        if "solution" in tags(c) and "hide-cell" not in tags(c):
            yield f"a solution that is not folded: {c.source[:60]!r}"
        sets = {t.removeprefix("data-") for t in tags(c) if t.startswith("data-")}
        if sets - set(registry()):
            yield f"a data set that is not registered: {sorted(sets - set(registry()))}"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_chapter(path):
    found = problems(nbformat.read(path, 4), path.stem[:2])
    assert not found, "\n".join([path.name, *found])
    assert path.stat().st_size <= 1_000_000, f"{path.name} is larger than 1 MB"


def test_tags_are_unique_across_the_book():
    found = [t for p in NOTEBOOKS for t in TAG.findall(p.read_text("utf-8"))]
    assert len(found) == len(set(found))


def markdown(source, **meta):
    return nbformat.v4.new_markdown_cell(source, metadata=meta)


def python(source, n=1, outputs=(), **meta):
    return nbformat.v4.new_code_cell(
        source, execution_count=n, outputs=list(outputs), metadata=meta
    )


PICTURE = nbformat.v4.new_output("display_data", {"image/png": "x"})
PRINTED = nbformat.v4.new_output("stream", text="0.1")
FAILED = nbformat.v4.new_output("error", ename="E", evalue="", traceback=[])
THUMBNAIL = (
    "![Two rows of digits, the upper one real and the lower one made by the model.]"
    "(../assets/thumbnails/12.png)"
)
DIAGRAM = (
    "![Noise goes into the generator; its image and a real one into the judge.]"
    "(../assets/diagrams/net.svg)"
)
BAD = {
    "execution counts": [python("x", 2)],
    "holds an error": [python("x", 1, [FAILED])],
    "more than 30": [python("\n".join("x" * 31))],
    "median code cell": [python("\n".join("x" * 9))],
    "not 25 to 45": [python("x")],
    "beside the solutions": [markdown("x") for _ in range(46)],
    "words of prose": [markdown("few")],
    "three code cells": [python("x"), python("y"), python("z")],
    "lacks a caption": [python("x", 1, [PICTURE])],
    "nothing is asserted": [python("x", 1, [PICTURE])],
    "no assert follows": [python("x", 1, [PRINTED], tags=["nbval-ignore-output"])],
    "of another chapter": [markdown(r"$$x \tag{7.1}$$")],
    "line break beside": [markdown(r"$$ x \\ y \tag{12.1} $$")],
    "not unique": [markdown(r"$$x \tag{12.1}$$"), markdown(r"$$x \tag{12.1}$$")],
    "fewer than three": [python("# checks (12.1)")],
    "do not stand here": [python("# checks (12.1)")],
    "refers to missing": [markdown("see (12.1)")],
    "section Summary": [markdown("# Title")],
    "exercises, not": [markdown("## Exercise 1")],
    "MyST directive": [markdown("```{note}\nx\n```")],
    "or role": [markdown("see {ref}`x`")],
    "absolute path": [python("open('/home/me/x')")],
    "an absolute": [python(r"open(r'C:\data\x')")],
    "path: 'print(p)'": [
        python(
            "print(p)",
            1,
            [nbformat.v4.new_output("execute_result", {"text/plain": "'/root/x'"})],
        )
    ],
    "package plumbing": [python("import sys\nsys.path.append('..')")],
    "its own AssertionError": [
        python("try:\n    f()\n    raise AssertionError\nexcept Exception:\n    pass")
    ],
    "a bare value": [
        python("x", 1, [nbformat.v4.new_output("execute_result", {"text/plain": "1"})])
    ],
    "not folded": [python("x", tags=["solution"])],
    "not registered": [python("x", tags=["data-mnits"])],
    "0 cells are tagged thumbnail": [python("x", 1, [PICTURE])],
    "2 cells are tagged thumbnail": [
        python("x", k, [PICTURE], tags=["thumbnail"]) for k in (1, 2)
    ],
    "draws nothing": [python("x", tags=["thumbnail"])],
    "opening does not show": [python("x"), markdown(THUMBNAIL)],
    "show ../assets/thumbnails/12.png": [markdown(THUMBNAIL.replace("12", "13"))],
    "no diagram": [markdown(THUMBNAIL)],
    "alt text of diagrams/net.svg": [markdown("![A net](../assets/diagrams/net.svg)")],
    "assets/diagrams/lost.svg is": [markdown(DIAGRAM.replace("net.svg", "lost.svg"))],
    "section Where to go next": [markdown("# Title")],
    "does not begin with # 12": [markdown("# Title")],
}


def good_chapter():
    """The smallest chapter that breaks no rule: each bad one differs from it."""
    words = "word " * 60
    figure = {
        "figure": {"caption": "A square."},
        "image": {"alt": "A black square on a white ground, in the middle."},
    }
    cells = [markdown(f"# 12 · Title\n\n{THUMBNAIL}")]
    for k in range(1, 13):
        cells.append(markdown(f"{words}\n\n$$x \\tag{{12.{k}}}$$ See (12.{k})."))
        cells.append(python(f"# checks (12.{k})\nassert True", k))
    cells.append(python("draw()", 13, [PICTURE], mystnb=figure, tags=["thumbnail"]))
    cells += [markdown(f"{words * 8}\n\n{DIAGRAM}"), python("assert True", 14)]
    cells += [python("loss", 15, [PRINTED], tags=["nbval-ignore-output"])]
    cells += [markdown("Band."), python("assert True", 16)]
    cells += [markdown("## Summary"), markdown("## Exercises")]
    for k in range(1, 4):
        cells.append(markdown(f"### Exercise 12.{k}"))
        cells.append(python("pass", 16 + k, tags=["solution", "hide-cell"]))
    cells += [markdown("## Where to go next"), markdown("## References")]
    return nbformat.v4.new_notebook(cells=cells)


@pytest.fixture
def assets(tmp_path):
    """A folder with the two files that the good chapter shows."""
    for name in ("thumbnails/12.png", "diagrams/net.svg"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    return tmp_path


def test_checker_accepts_a_good_chapter(assets):
    assert problems(good_chapter(), "12", assets) == []


def test_checker_sees_one_bad_cell_in_a_good_chapter(assets):
    book = good_chapter()
    drawing = next(c for c in book.cells if c.source == "draw()")
    drawing.metadata["mystnb"]["image"]["alt"] = "too short"
    assert problems(book, "12", assets) == [
        "figure of cell 13 lacks a caption or alt text"
    ]
    book = good_chapter()
    band = next(c for c in book.cells if c.get("execution_count") == 16)
    band.source = "# assert nothing\npass"
    assert problems(book, "12", assets) == ["cell 15 is ignored and no assert follows"]
    (assets / "thumbnails" / "12.png").unlink()
    found = problems(good_chapter(), "12", assets)
    assert found == ["the file assets/thumbnails/12.png is missing"]


@pytest.mark.parametrize("message", BAD)
def test_checker_sees(message, assets):
    book = nbformat.v4.new_notebook(cells=BAD[message])
    assert any(message in line for line in problems(book, "12", assets))
