"""Which notebooks a change can have touched, on a small book in a repository."""

from __future__ import annotations

import subprocess

import nbformat
import pytest

from tools import changed

MODULES = {
    "__init__": "",
    "losses": "from genai_utils import backends",
    "plots": "",
    "backends/__init__": "from importlib import import_module\nimport_module('x')",
    "backends/jax": "",
    "models/__init__": "",
    "models/gan": "def make():\n    from genai_utils.losses import bce",
}
SOURCES = {
    "06-loss": "%matplotlib inline\nfrom genai_utils.losses import bce",
    "09-plot": "from genai_utils import plots\nx = (7\n    % 2)",
    "11-gan": "from genai_utils.models.gan import make",
    "15-alone": "import math",
}


def write(root, name, source, words="Words.", output="1"):
    cell = nbformat.v4.new_code_cell(source, execution_count=1)
    cell.outputs = [nbformat.v4.new_output("stream", text=output)]
    cells = [nbformat.v4.new_markdown_cell(words), cell]
    for i, c in enumerate(cells):
        c["id"] = str(i)
    nbformat.write(
        nbformat.v4.new_notebook(cells=cells), root / "notebooks" / f"{name}.ipynb"
    )


@pytest.fixture
def root(tmp_path):
    for name, source in MODULES.items():
        path = tmp_path / "genai_utils" / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)
    (tmp_path / "genai_utils" / "weights.npz").write_text("0")
    (tmp_path / "requirements.txt").write_text("keras==3")
    (tmp_path / "notebooks").mkdir()
    for name, source in SOURCES.items():
        write(tmp_path, name, source)
    git = ["git", "-c", "user.name=A", "-c", "user.email=a@b.c", "-C", str(tmp_path)]
    for command in (["init", "-q", "-b", "main"], ["add", "."], ["commit", "-qm", "x"]):
        subprocess.run([*git, *command], check=True)
    return tmp_path


def names(root):
    return [path[10:12] for path in changed.affected(root)]


def test_nothing_changed(root):
    assert names(root) == []


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ("genai_utils/plots.py", ["09"]),
        ("genai_utils/losses.py", ["06", "11"]),  # 11 through models/gan
        ("genai_utils/models/gan.py", ["11"]),
        ("genai_utils/models/__init__.py", ["11"]),
        ("genai_utils/backends/jax.py", ["06", "11"]),  # by import_module
        ("genai_utils/__init__.py", ["06", "09", "11"]),
        ("genai_utils/weights.npz", ["06", "09", "11"]),  # whoever may read it
        ("requirements.txt", ["06", "09", "11", "15"]),
        ("README.md", []),
    ],
)
def test_a_changed_file_reaches_those_that_import_it(root, file, expected):
    (root / file).write_text("x = 1")
    assert names(root) == expected
    subprocess.run(["git", "-C", str(root), "add", "."], check=True)
    git = ["git", "-c", "user.name=A", "-c", "user.email=a@b.c", "-C", str(root)]
    subprocess.run([*git, "checkout", "-q", "-b", "branch"], check=True)
    subprocess.run([*git, "commit", "-qm", "y"], check=True)
    assert names(root) == expected  # committed on a branch it counts as well


def test_words_do_not_count_and_cells_and_outputs_do(root):
    write(root, "06-loss", SOURCES["06-loss"], words="Other words.")
    assert names(root) == []
    write(root, "06-loss", SOURCES["06-loss"], output="2")
    write(root, "09-plot", "import math")
    write(root, "16-new", "import math")
    assert names(root) == ["06", "09", "16"]
    assert set(changed.affected(root).values()) == {"its cells changed"}


def test_a_module_that_was_removed(root):
    (root / "genai_utils" / "plots.py").unlink()
    assert names(root) == ["06", "09", "11"]


def test_a_base_that_does_not_exist_is_named(root):
    with pytest.raises(ValueError, match=r"nowhere.*Received.*BASE="):
        changed.affected(root, "nowhere")
