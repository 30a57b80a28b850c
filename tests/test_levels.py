"""Levels as text: cutting into columns, the legend, and the published levels."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from genai_utils.data import fetch, levels

TINY = "--o-\n-<>E\nX[]X"
HERE = Path(os.environ.get("GENAI_DATA_DIR", "nowhere")) / "vglc"


def test_columns_run_from_the_bottom_up():
    assert levels.to_columns(TINY) == ["X--", "[<-", "]>o", "XE-"]


def test_columns_and_text_are_inverse():
    rng = np.random.default_rng(0)
    rows = rng.choice(list(levels.TILES), (14, 30))
    text = "\n".join("".join(row) for row in rows)
    assert levels.from_columns(levels.to_columns(text)) == text
    columns = levels.to_columns(text)
    assert [c[0] for c in columns] == list(rows[-1])


def test_solid_tiles():
    found = levels.solid(TINY)
    assert found.tolist() == [[False] * 4, [False, True, True, False], [True] * 4]
    assert found.dtype == bool


@pytest.mark.parametrize("text", ["", "--\n-", "-#", "--\n--\n"])
def test_bad_levels_are_refused(text):
    with pytest.raises(ValueError, match="`text` must hold lines of one length"):
        levels.to_columns(text)


@pytest.mark.parametrize("columns", [[], ["X-", "X"]])
def test_bad_columns_are_refused(columns):
    with pytest.raises(ValueError, match="Received"):
        levels.from_columns(columns)


def fake_corpus(monkeypatch, folder, legend):
    """A corpus of one level, in a folder of its own."""
    (folder / "smb.json").write_text(legend, "ascii")
    (folder / "mario-1-1.txt").write_text(TINY + "\n", "ascii")
    names = ("super_mario_bros/smb.json", "super_mario_bros/mario-1-1.txt", "zelda/a")
    files = {name: {"name": name} for name in names}
    monkeypatch.setattr(levels, "registry", lambda: {"vglc": {"files": files}})

    def find(name, file):
        assert name == "vglc"
        return folder / file["name"].split("/")[1]

    monkeypatch.setattr(levels, "fetch", find)


def legend(solid):
    tiles = {t: ["solid"] if t in solid else ["passable"] for t in levels.TILES}
    return str({"tiles": tiles}).replace("'", '"')


def test_loader_reads_the_files_of_one_game(monkeypatch, tmp_path):
    fake_corpus(monkeypatch, tmp_path, legend(levels.SOLID))
    assert levels.mario_levels() == {"1-1": TINY}


def test_a_legend_that_disagrees_is_refused(monkeypatch, tmp_path):
    fake_corpus(monkeypatch, tmp_path, legend(levels.SOLID - {"B"}))
    with pytest.raises(ValueError, match=r"smb\.json"):
        levels.mario_levels()


def test_the_registered_set_is_asked_for(monkeypatch, tmp_path):
    monkeypatch.setenv("GENAI_DATA_DIR", str(tmp_path))
    folder = tmp_path / "vglc" / "super_mario_bros"
    folder.mkdir(parents=True)
    for name in fetch.registry()["vglc"]["files"]:
        if name.startswith("super_mario_bros/"):
            (tmp_path / "vglc" / name).write_text("not it")
    with pytest.raises(ValueError, match="SHA-256"):
        levels.mario_levels()


def test_drawing_shows_each_tile_with_its_character():
    from matplotlib.figure import Figure

    ax = Figure().add_subplot()
    levels.draw(ax, TINY, [(0, 0), (1, 0)], title="tiny")
    assert [t.get_text() for t in ax.texts] == list(
        TINY.replace("-", "").replace("\n", "")
    )
    pixels = ax.images[0].get_array()
    assert pixels.shape == (3, 4, 3)
    assert (
        len({tuple(p) for p in pixels.reshape(-1, 3).tolist()}) == 5
    )  # kinds of tiles
    assert ax.lines[0].get_xydata().tolist() == [[0, 0], [0, 1]]
    assert ax.get_title(loc="left") == "tiny"


@pytest.mark.skipif(not HERE.is_dir(), reason=f"the set vglc is not in {HERE.parent}")
def test_published_levels():
    found = levels.mario_levels()
    assert len(found) == 15 and list(found) == sorted(found)
    assert all(len(level.split("\n")) == 14 for level in found.values())
    assert sum(len(levels.to_columns(level)) for level in found.values()) == 2923
    assert set("".join(found.values())) - {"\n"} == set(levels.TILES)
