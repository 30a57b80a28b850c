"""The benchmark of cures: what chapter 12 quotes is what was measured."""

from __future__ import annotations

import json
from pathlib import Path

import nbformat
import numpy as np
import pytest

from benchmarks import cures
from benchmarks.common import RESULTS

CHAPTER = Path(__file__).parent.parent / "notebooks" / "12-when-gans-fail.ipynb"


@pytest.fixture(scope="module")
def measured():
    return json.loads((RESULTS / "cures.json").read_text("utf-8"))


@pytest.fixture(scope="module")
def prose():
    cells = nbformat.read(CHAPTER, 4).cells
    return "\n\n".join(c.source for c in cells if c.cell_type == "markdown")


def rows_of(measured, toy):
    return {r["cure"]: r for r in measured["toys"] if r["toy"] == toy}


def test_every_line_of_the_chapters_table_was_measured(measured, prose):
    lines = cures.table(measured["toys"])
    assert "\n".join(lines) in prose
    assert len(lines) == 2 + len(cures.CURES)


def test_the_claims_that_stand_on_five_seeds(measured):
    assert measured["seeds"] == cures.SEEDS
    ring, grid = rows_of(measured, "ring"), rows_of(measured, "grid")
    assert max(ring["none"]["modes"]) <= 3
    assert ring["two rates"]["modes"] == [8] * 5
    assert sum(n >= 24 for n in grid["two rates, R1, averaged weights"]["modes"]) >= 4


def test_the_table_shows_each_seed_and_the_mean_share():
    rows = [
        {"toy": "ring", "cure": cure, "modes": [k, k + 1], "near": [0.25, 0.5]}
        for k, cure in enumerate(cures.CURES)
    ]
    lines = cures.table(rows)
    assert lines[0].count("|") == lines[1].count("|") == lines[2].count("|") == 6
    assert lines[3] == "| two rates | 1 2 | 0.38 | – | – |"


def test_digits_with_and_without_augmentation(measured, prose):
    plain, augmented = measured["digits"]
    assert not plain["augmentation"] and augmented["augmentation"]
    for row in (plain, augmented):
        assert len(row["frechet"]) == len(row["gap"]) == measured["seeds"]
        assert f"{np.mean(row['frechet']):.2f}" in prose


def test_one_game_of_a_few_steps():
    toy = cures.Toy("ring", 200, 100, 1, 0.3, (1e-3, 5e-3), 1.0)
    modes, near = cures.play(cures.Cure(memory=0.9), toy, 0)
    assert 0 <= modes <= 8 and 0 <= near <= 1


def test_a_cure_exchanges_the_rates_and_the_sick_game_is_hasty():
    for cure, ratio in ((cures.CURES["none"], 5), (cures.CURES["two rates"], 0.2)):
        players = cures.optimizers(cure, cures.RING)
        d, g = (float(players[name].learning_rate) for name in cures.PLAYERS)
        assert g / d == pytest.approx(ratio)
