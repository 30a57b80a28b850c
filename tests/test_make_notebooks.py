"""What is stored of a notebook that was run, and how other backends run it."""

from __future__ import annotations

import base64
import io

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from PIL import Image

from tools import make_notebooks, run_backends


def picture(colour, size=(900, 300)):
    """An output that holds a picture of one colour."""
    memory = io.BytesIO()
    Image.new("RGBA", size, colour).save(memory, "PNG")
    text = base64.b64encode(memory.getvalue()).decode()
    return new_output("display_data", {"image/png": text, "text/plain": "<Figure>"})


def cell(*outputs, source="draw()", **metadata):
    return new_code_cell(source, outputs=list(outputs), metadata=metadata)


@pytest.fixture
def thumbnails(tmp_path, monkeypatch):
    monkeypatch.setattr(make_notebooks, "THUMBNAILS", tmp_path / "thumbnails")
    return tmp_path / "thumbnails"


def test_the_last_picture_of_the_tagged_cell_becomes_the_card(thumbnails, tmp_path):
    printed = new_output("stream", text="words")
    book = new_notebook(
        cells=[
            new_markdown_cell("# Title", metadata={"tags": ["thumbnail"]}),
            cell(picture("red")),
            cell(printed, picture("lime"), picture("blue"), tags=["thumbnail"]),
            cell(picture("white")),
        ]
    )
    make_notebooks.write_thumbnail(tmp_path / "12-when-gans-fail.ipynb", book)
    assert [p.name for p in thumbnails.iterdir()] == ["12.png"]
    with Image.open(thumbnails / "12.png") as card:
        assert (card.size, card.mode) == ((480, 160), "RGB")
        assert card.getpixel((240, 80)) == (0, 0, 255)


def test_a_small_picture_is_not_enlarged_and_a_tall_one_is_bounded(
    thumbnails, tmp_path
):
    for size, expected in (((90, 60), (90, 60)), ((400, 4000), (96, 960))):
        book = new_notebook(cells=[cell(picture("red", size), tags=["thumbnail"])])
        make_notebooks.write_thumbnail(tmp_path / "03-data.ipynb", book)
        with Image.open(thumbnails / "03.png") as card:
            assert card.size == expected


def test_without_a_tagged_picture_nothing_is_written(thumbnails, tmp_path):
    for one in (cell(picture("red")), cell(tags=["thumbnail"])):
        make_notebooks.write_thumbnail(
            tmp_path / "03-data.ipynb", new_notebook(cells=[one])
        )
    assert not thumbnails.exists()


def test_what_changes_from_run_to_run_is_dropped():
    red = new_output("stream", name="stderr", text="red text")
    kept = [new_output("stream", text="0.1"), picture("red")]
    times = {"iopub.execute_input": "2026-01-01"}
    meta = {"tags": ["parameters", "data-mnist"], "mystnb": {"image": {"alt": "x"}}}
    ran = cell(red, *kept, execution=times, lines_to_next_cell=2, **meta)
    book = new_notebook(cells=[new_markdown_cell("# Title"), ran])
    book.metadata = {"widgets": {"state": 1}, "language_info": {"version": "3.11.7"}}
    book = make_notebooks.cleaned(book)
    assert [c["id"] for c in book.cells] == ["cell-00", "cell-01"]
    assert book.cells[1].outputs == kept
    assert book.cells[1].metadata == meta
    assert book.metadata == {
        "kernelspec": make_notebooks.KERNEL,
        "language_info": make_notebooks.LANGUAGE,
    }
    nbformat.validate(book)


def test_cleaning_twice_changes_nothing():
    book = new_notebook(cells=[cell(picture("red")), new_markdown_cell("# Title")])
    once = nbformat.writes(make_notebooks.cleaned(book))
    assert nbformat.writes(make_notebooks.cleaned(nbformat.reads(once, 4))) == once


def test_other_backends_leave_out_what_only_tensorflow_can_run():
    only = {"tags": ["tensorflow-only"]}
    cells = [cell(source="import keras"), cell(source="tf.x", metadata=only)]
    cells[1].metadata = only
    book = run_backends.without_tensorflow(new_notebook(cells=cells))
    assert [c.source for c in book.cells] == ["import keras"]
    assert run_backends.without_tensorflow(new_notebook(cells=cells[::-1])) is None


def test_cells_that_fail_are_told_by_number(tmp_path):
    sources = ["import os", "print(os.environ['KERAS_BACKEND'])", "1 / 0", "os.sep"]
    sources += ["assert os.environ['KERAS_BACKEND'] == 'torch', 'which?'", "x"]
    cells = [new_markdown_cell("# Title"), *(cell(source=s) for s in sources)]
    cells[-1].metadata = {"tags": ["raises-exception"]}
    path = tmp_path / "06-x.ipynb"
    nbformat.write(new_notebook(cells=cells), path)
    before = path.read_bytes()
    words, faults = run_backends.run(path, "jax")
    assert words.startswith("4 of 6 cells pass")
    assert faults[0] == "cell 3 (1 / 0): ZeroDivisionError: division by zero"
    assert faults[1].endswith("AssertionError: which?") and len(faults) == 2
    assert path.read_bytes() == before


def test_of_a_progress_bar_only_the_last_state_is_stored():
    shown = "Epoch 1/2\n\r 1/9 ━ 1s\x08\x08\r 5/9 ━ 1s\n\r 9/9 ━ 0s - loss: 0.1\n"
    shown += "Epoch 2/2\n\r 2/9 ━\r 9/9 ━ 0s - loss: 0.05\nnear 8/9\n"
    kept = "Epoch 1/2\n 9/9 ━ 0s - loss: 0.1\nEpoch 2/2\n 9/9 ━ 0s - loss: 0.05\n"
    assert make_notebooks.settled(shown) == kept + "near 8/9\n"
