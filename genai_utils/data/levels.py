"""Levels of a platform game as text: the tiles, and columns from left to right."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from genai_utils.data.fetch import fetch, registry

__all__ = [
    "SOLID",
    "TILES",
    "draw",
    "from_columns",
    "mario_levels",
    "solid",
    "to_columns",
]

#: Characters of a level and what they mean, in the order of their token ids.
TILES = {
    "-": "air",
    "X": "ground",
    "S": "brick",
    "?": "question block",
    "Q": "empty block",
    "E": "enemy",
    "o": "coin",
    "<": "pipe, top left",
    ">": "pipe, top right",
    "[": "pipe, left",
    "]": "pipe, right",
    "B": "cannon",
    "b": "cannon, foot",
}
#: Tiles that carry a player, and stop one.
SOLID = frozenset("XS?Q<>[]Bb")
_FOLDER = "super_mario_bros/"
_FACES = ["eaf3fb", "c89f74", "e0ad7b", "f5d06b", "d8c6a6", "ef8f86", "fff6bf"]
_FACES += ["9fd09c"] * 4 + ["a3a3b5"] * 2  # pipes and cannons


def mario_levels() -> dict[str, str]:
    """Return 15 levels of Super Mario Bros. from the Video Game Level Corpus.

    Each level is a text of 14 lines of one length, the sky first; see :data:`TILES`.

    Returns:
        A dictionary that maps a name such as ``"1-1"`` to its text, sorted by name.

    Raises:
        FileNotFoundError: If the files are not on this machine and cannot be fetched.
        ValueError: If a file is damaged, or its legend disagrees with :data:`SOLID`.

    Reference:
        Summerville, Snodgrass, Mateas and Ontañón (2016), the VGLC. MIT licence of the
        text; the game belongs to its publisher.
    """
    files = registry()["vglc"]["files"]
    names = sorted(name for name in files if name.startswith(_FOLDER))
    found = {name: fetch("vglc", files[name]).read_text("ascii") for name in names}
    _check_legend(json.loads(found.pop(_FOLDER + "smb.json")))
    short = {name[len(_FOLDER + "mario-") : -len(".txt")]: name for name in found}
    return {key: "\n".join(found[name].split()) for key, name in short.items()}


def _check_legend(legend: dict) -> None:
    """Refuse a legend that names other tiles, or other solid ones, than ours."""
    tiles = legend["tiles"]
    theirs = {tile for tile, words in tiles.items() if "solid" in words}
    if set(tiles) != set(TILES) or theirs != SOLID:
        raise ValueError(
            "`smb.json` must name the tiles of `TILES` and call those of `SOLID` "
            f"solid. Received: tiles {sorted(tiles)}, solid {sorted(theirs)}. "
            "Take the file of the registered version."
        )


def to_columns(text: str) -> list[str]:
    """Cut a level into columns.

    Args:
        text: Lines of one length, the top one first.

    Returns:
        One string for each column from left to right; each runs from the *bottom* up.

    Raises:
        ValueError: If the lines differ in length, or a tile is unknown.
    """
    rows = text.split("\n")
    lengths = {len(row) for row in rows}
    unknown = sorted(set(text) - set(TILES) - {"\n"})
    if len(lengths) != 1 or unknown or not text:
        raise ValueError(
            "`text` must hold lines of one length, made of the tiles of `TILES`. "
            f"Received: lengths {sorted(lengths)}, unknown tiles {unknown}. Take out "
            "empty lines and other characters."
        )
    return ["".join(column) for column in zip(*rows[::-1], strict=True)]


def from_columns(columns: Sequence[str]) -> str:
    """Put columns together again, the inverse of :func:`to_columns`.

    Args:
        columns: Strings of one length, each from the bottom up.

    Returns:
        The level's lines, the top one first.
    """
    if len({len(column) for column in columns}) != 1:
        raise ValueError(
            "`columns` must hold strings of one length, at least one. Received: "
            f"lengths {sorted({len(column) for column in columns})}. Cut or fill them."
        )
    rows = ["".join(row) for row in zip(*columns, strict=True)]
    return "\n".join(rows[::-1])


def solid(text: str) -> np.ndarray:
    """Say which tiles of a level are solid.

    Args:
        text: Lines of one length, the top one first.

    Returns:
        bool, shape ``(H, W)``, the top row first.
    """
    rows = from_columns(to_columns(text)).split("\n")
    return np.array([[tile in SOLID for tile in row] for row in rows])


def draw(
    ax: Any,
    text: str,
    path: Sequence[tuple[int, int]] = (),
    *,
    title: str = "",
    size: float = 6.0,
) -> None:
    """Draw a level as coloured tiles, each with its character.

    Args:
        ax: Matplotlib's axes.
        text: Lines of one length, the top one first.
        path: Rows and columns of a way through the level, such as ``find_path`` gives.
        title: What stands above, on the left.
        size: Of the characters, in points.
    """
    rows = from_columns(to_columns(text)).split("\n")
    colors = np.array([list(bytes.fromhex(face)) for face in _FACES], "uint8")
    ids = {tile: i for i, tile in enumerate(TILES)}
    ax.imshow(colors[[[ids[tile] for tile in row] for row in rows]])
    for (row, column), tile in np.ndenumerate([list(row) for row in rows]):
        if tile != "-":
            ax.text(column, row, tile, ha="center", va="center", fontsize=size)
    if len(path):
        ax.plot(*np.transpose(path)[::-1], color="#12355b", lw=1.6)
    ax.set_title(title, loc="left", fontsize=9)
    ax.axis("off")
