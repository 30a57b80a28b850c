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
    "backends": set(),
    "quiet": set(),
    "seeds": {"backends", "checks", "quiet"},
    "losses": {"backends"},
    "decoding": {"checks"},
    "layers": {"checks"},
    "gan_layers": {"checks"},
    "networks": {"layers"},
    "samplers": {"checks", "schedules"},
    "schedules": {"checks"},
    "callbacks": set(),
    "optimizers": set(),
    "players": set(),
    "feeding": {"backends", "checks"},
    "game": {"backends", "callbacks", "feeding", "optimizers", "players"},
    "models": {"checks", "decoding", "game", "gan_layers", "layers", "losses"}
    | {"networks", "samplers", "schedules"},
    "recipes": {"game", "models", "optimizers"},
    "pretrained": {"game", "recipes", "stored"},
    "stored": {"checks"},
    "data": {"checks"},
    "judge": {"checks", "stored"},
    "metrics": {"checks"},
    "plots": {"checks"},
    "watch": {"backends", "checks", "metrics"},
    "drift": {"checks"},
    "export": {"checks"},
    "meshes": {"checks"},
    "music": {"checks"},
    "audio": {"checks", "music"},
    "diagnosis": {"checks"},
    "png": {"checks"},
    "ranking": {"checks"},
    "scaling": {"checks"},
    "scoreboard": {"checks", "data", "judge", "metrics", "stored", "two_sample"},
    "serve": {"batching", "orders", "png"},
    "orders": {"checks"},
    "batching": {"orders"},
    "two_sample": {"checks", "metrics"},
    "worlds": {"checks"},
    "cli": {"data", "export", "judge", "metrics", "png", "recipes", "seeds", "serve"},
    "__main__": {"cli"},
}
FILES = sorted(PACKAGE.rglob("*.py"))


def unit(path: Path) -> str:
    """The module or sub-package that a file belongs to."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: write imports in full"
            names |= {f"{node.module}.{a.name}" for a in node.names} | {node.module}
        elif isinstance(node, ast.Import):
            names |= {a.name for a in node.names}
    return names


def arrows(name: str) -> set[str]:
    """What the files of a unit import from the other units of the package."""
    units = {unit(p) for p in FILES}
    names = {n for p in FILES if unit(p) == name for n in imported(p)}
    found = {n.split(".")[1] for n in names if n.startswith("genai_utils.")}
    return (found & units) - {name}


@pytest.mark.parametrize("name", sorted({unit(p) for p in FILES}))
def test_arrows_are_exactly_those_of_the_design(name):
    assert arrows(name) == ALLOWED[name]


def test_no_family_of_models_imports_another():
    for path in (PACKAGE / "models").glob("*.py"):
        assert not any(n.startswith("genai_utils.models") for n in imported(path))


@pytest.mark.parametrize(
    "name",
    [
        "batching",
        "checks",
        "data",
        "decoding",
        "drift",
        "export",
        "judge",
        "meshes",
        "metrics",
    ]
    + ["music", "orders", "plots", "png", "ranking", "scaling", "scoreboard", "serve"]
    + ["audio", "diagnosis", "two_sample", "worlds"],
)
def test_leaves_do_not_need_keras(name):
    names = {n for p in FILES if unit(p) == name for n in imported(p)}
    assert not any(n.split(".")[0] == "keras" for n in names)


def test_only_the_backends_ask_which_backend_runs():
    asking = {unit(p) for p in FILES if "backend.backend()" in p.read_text("utf-8")}
    assert asking <= {"backends"}


def test_importing_the_package_is_light():
    heavy = "keras", "tensorflow", "matplotlib", "sklearn", "scipy"
    code = f"import sys, genai_utils; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
