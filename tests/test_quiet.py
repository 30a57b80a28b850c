"""A student who opens a chapter sees no red text, but does see a warning that matters.

Each kernel starts without what the Makefile sets, as one does that JupyterLab starts.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from jupyter_client.manager import KernelManager
from nbclient import NotebookClient

from tools.install_kernel import ENVIRONMENT, START

ROOT = Path(__file__).parent.parent
KERAS_FIRST = """import keras
import numpy as np
from genai_utils.seeds import set_seed
set_seed(0)"""
PACKAGE_FIRST = """from genai_utils.seeds import set_seed
set_seed(0)
import keras
import numpy as np"""
TRAIN = """model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
model.compile(loss="mse")
model.fit(np.ones((8, 3)), np.ones((8, 1)), epochs=2, verbose=0)"""
PREDICT = "for n in range(4, 8):\n    model.predict(np.ones((n, 3)), verbose=0)"
WARN = "import warnings\nwarnings.warn('look here')"
STUDENT = {
    k: v
    for k, v in os.environ.items()
    if k not in {*ENVIRONMENT, "MPLBACKEND"} and not k.startswith(("PYTEST", "MAKE"))
} | {"KERAS_BACKEND": "tensorflow"}


class Plain(KernelSpecManager):
    """Knows only a kernel that carries no environment, as VS Code and Colab have."""

    def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
        argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        return KernelSpec(argv=argv, display_name=kernel_name, language="python")


def stderr_of(specs: KernelSpecManager, *cells: str) -> list[str]:
    """Run cells in a fresh kernel; return what each wrote to stderr."""
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in cells])
    manager = KernelManager(kernel_name="python3", kernel_spec_manager=specs)
    client = NotebookClient(book, km=manager, timeout=300)
    client.owns_km = True  # it also stops the kernel
    client.execute(env=STUDENT, cwd=str(ROOT / "notebooks"))
    return [
        "".join(o.text for o in cell.outputs if o.get("name") == "stderr")
        for cell in book.cells
    ]


@pytest.mark.parametrize(
    ("specs", "first"),
    [(KernelSpecManager, KERAS_FIRST), (Plain, KERAS_FIRST), (Plain, PACKAGE_FIRST)],
    ids=["setup-keras", "plain-keras", "plain-package"],
)
def test_a_chapter_is_quiet_and_a_warning_shows(specs, first):
    *quiet, loud = stderr_of(specs(), first, TRAIN, PREDICT, WARN)
    assert quiet == ["", "", ""], "run again: make setup"
    assert "UserWarning: look here" in loud


def test_a_script_is_quiet_when_set_seed_comes_first():
    code = "\n".join([PACKAGE_FIRST, TRAIN, PREDICT])
    ran = subprocess.run(
        [sys.executable, "-c", code], env=STUDENT, capture_output=True, text=True
    )
    assert (ran.returncode, ran.stderr) == (0, "")


def test_notes_are_dropped_and_warnings_passed_on(tmp_path):
    (tmp_path / "tensorflow.py").write_text(
        "import os\n"
        "os.write(2, b'WARNING: All log messages before absl::InitializeLog()\\n')\n"
        "os.write(2, b'I0000 00:00:1.2 34 port.cc:153] oneDNN is on.\\n')\n"
        "os.write(2, b'E0000 00:00:1.2 34 card.cc:1] no memory\\n')\n"
    )
    code = (
        "from genai_utils.quiet import hush_tensorflow as hush\n"
        "import sys\nbefore = list(sys.meta_path)\nhush()\nhush()\n"
        "assert len(sys.meta_path) == len(before) + 1\nimport tensorflow\n"
        "assert sys.meta_path == before\nprint('after', file=sys.stderr)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code],
        env=STUDENT | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert ran.stderr == "E0000 00:00:1.2 34 card.cc:1] no memory\nafter\n"


def test_the_kernel_has_the_environment_of_the_tests():
    text = (ROOT / "Makefile").read_text("utf-8")
    assert dict(re.findall(r"^export (\w+) := (\S+)$", text, re.M)) == ENVIRONMENT


def test_the_start_leaves_no_name_behind():
    nodes = ast.parse(START.read_text("utf-8")).body
    assert all(isinstance(node, ast.Expr) for node in nodes)
