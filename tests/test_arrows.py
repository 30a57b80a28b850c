"""Which module may import which: the arrows of the package go one way."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "genai_utils"
ALLOWED = {
    "__init__": set(),
    "checks": set(),
    "seeds": set(),
    "gradients": set(),
    "losses": {"gradients"},
    "layers": {"checks"},
    "game": {"checks", "gradients"},
    "vae": {"checks", "game", "layers", "losses"},
    "gan": {"checks", "game", "losses", "layers"},
    "data": {"checks"},
    "judge": {"checks"},
    "metrics": {"checks"},
    "plots": {"checks"},
}


def imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level == 0:
            names |= {f"{node.module}.{a.name}" for a in node.names} | {node.module}
        elif isinstance(node, ast.Import):
            names |= {a.name for a in node.names}
    return names


@pytest.mark.parametrize("path", sorted(PACKAGE.glob("*.py")), ids=lambda p: p.stem)
def test_arrows(path):
    modules = {p.stem for p in PACKAGE.glob("*.py")}
    names = {n.split(".")[1] for n in imported(path) if n.startswith("genai_utils.")}
    assert names & modules <= ALLOWED[path.stem]


@pytest.mark.parametrize("name", ["data", "judge", "metrics", "plots", "checks"])
def test_leaves_do_not_need_keras(name):
    names = imported(PACKAGE / f"{name}.py")
    assert not any(n.split(".")[0] == "keras" for n in names)


def test_importing_the_package_is_light():
    heavy = "keras", "tensorflow", "matplotlib", "sklearn", "scipy"
    code = f"import sys, genai_utils; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
