"""The scoreboard: its rules, its file, and a very short run of its benchmark."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest

from benchmarks import scoreboard as bench
from benchmarks.common import RESULTS
from genai_utils import data
from genai_utils.judge import load_judge
from genai_utils.metrics import (
    density_coverage,
    frechet_distance,
    kid,
    nearest_neighbours,
    precision_recall,
)
from genai_utils.recipes import get_recipe
from genai_utils.scoreboard import METRICS, SAMPLES, load_scoreboard, score
from genai_utils.stored import WEIGHTS
from genai_utils.two_sample import copying_test


@pytest.fixture(scope="module")
def digits():
    return data.load("digits")[0], data.load("digits", "test")[0]


@pytest.fixture(scope="module")
def board():
    return load_scoreboard()


# score


def test_score_is_what_the_metrics_say(digits):
    train, test = digits
    rng = np.random.default_rng(1)
    x = np.clip(train[:500] + rng.normal(0, 0.2, (500, 16, 16, 1)), -1, 1)
    x = x.astype("float32")
    found, judge = score(x), load_judge("digits")
    a, b = judge.features(x), judge.features(test)
    assert list(found) == list(METRICS)
    assert found["frechet"] == frechet_distance(a, b)
    assert found["kid"] == kid(a, b)
    assert (found["precision"], found["recall"]) == precision_recall(b, a)
    assert (found["density"], found["coverage"]) == density_coverage(b, a)
    assert found["copying"] == copying_test(x, test, train)[0]


def test_score_knows_the_test_digits_and_copies(digits):
    train, test = digits
    same = score(test)
    assert abs(same["frechet"]) < 1e-3 and same["precision"] == same["recall"] == 1
    assert same["nearer"] == 0 and same["copying"] == 0.5
    copies = score(train[:500])
    assert copies["copying"] == 1 and copies["frechet"] < 0.2


def test_nearer_compares_with_as_many_of_each(digits):
    train, test = digits
    x = np.full((500, 16, 16, 1), -1.0, "float32")
    x[:250] = test[:250]
    some = np.random.default_rng(0).permutation(train)[:500]
    x[250:] = some[:250]
    assert score(x)["nearer"] == 0.5
    assert nearest_neighbours(x[250:], some)[1].max() == 0


def test_score_warns_of_another_number_and_refuses_other_shapes(digits):
    with pytest.warns(UserWarning, match="500"):
        score(digits[0][:50])
    with pytest.raises(ValueError, match="samples"):
        score(np.zeros((500, 28, 28, 1), "float32"))
    with pytest.raises(ValueError, match="samples"):
        score(np.full((500, 16, 16, 1), 2.0, "float32"))
    with pytest.raises(ValueError, match="at least 6"):
        score(digits[0][:5])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        score(digits[0][:SAMPLES])


# The file


def test_the_package_ships_what_the_benchmark_wrote(board):
    table, walls = board
    measured = json.loads((RESULTS / "scoreboard.json").read_text("utf-8"))
    measured.pop("machine")
    assert table == measured
    assert set(walls) == set(table["entrants"]) == set(bench.facts())
    for images in walls.values():
        assert images.shape == (bench.SHOWN, 16, 16, 1)
        assert images.min() >= -1 and images.max() <= 1


def test_the_images_are_small():
    path = WEIGHTS / "scoreboard.npz"
    assert len(path.read_bytes()) < 400_000


def test_every_entrant_has_every_seed_and_every_mark(board):
    table, _ = board
    assert (table["budget"], table["samples"]) == (bench.MARKS[-1], SAMPLES)
    assert tuple(table["marks"]) == bench.MARKS and 2 <= table["seeds"] <= bench.SEEDS
    for name, facts in table["entrants"].items():
        assert len({run["seed"] for run in facts["runs"]}) == table["seeds"]
        assert facts["label"] and facts["settings"]
        for run in facts["runs"]:
            last = run["points"][-1]
            wanted = set(METRICS)
            if name == "real":
                wanted -= {"nearer", "copying"}
            assert wanted <= set(last)
            assert ("bits" in last) == (facts["bits"] != "none")
            if facts["family"] != "baseline":
                marks = [point["mark"] for point in run["points"]]
                assert marks == sorted(marks) and marks[-1] == bench.MARKS[-1]
                assert last["seconds"] >= bench.MARKS[-1]
                assert run["parameters"] > 0 < run["milliseconds"]


def test_nobody_overruns_the_bell_by_much(board):
    for name, facts in board[0]["entrants"].items():
        for run in facts["runs"]:
            spent = run["points"][-1].get("seconds", 0)
            assert spent < 1.5 * bench.MARKS[-1], name


def test_shares_are_shares(board):
    for facts in board[0]["entrants"].values():
        for run in facts["runs"]:
            for point in run["points"]:
                for name in ("precision", "recall", "coverage", "nearer", "copying"):
                    assert 0 <= point.get(name, 0) <= 1
                assert point["frechet"] > -1e-3


# The benchmark


def test_grey_levels_enlarged_are_the_images_of_the_board():
    for split in ("train", "test"):
        made = bench.enlarge(bench.grey(split))
        assert np.allclose(made, data.load("digits", split)[0], atol=1e-6)


def test_noise_around_whole_numbers_rounds_back():
    levels = bench.grey("test")[:100]
    points = bench.around(levels, 0, 2)
    assert points.shape == (200, 64) and abs(points).max() <= 1
    back = np.floor((points.astype("float64") + 1) * 8.5).reshape(2, 100, 8, 8, 1)
    assert (back == levels).mean() > 0.999


def test_a_model_that_guesses_pays_log2_of_17():
    class Uniform:
        def log_likelihood(self, x):
            return np.full(len(x), 64 * np.log(0.5))  # density 1/2 on [-1, 1]

    assert bench.bits(np.full(9, -64 * np.log(17)), 64) == pytest.approx(np.log2(17))
    assert bench.coupling_bits(Uniform()) == pytest.approx(np.log2(17))


def test_settings_are_those_of_chapters_and_recipes():
    pixels = {"levels": 17, "width": 32, "depth": 3, "first": 5}
    assert bench.PIXELCNN.arguments == pixels
    prior = {"width": 64, "depth": 1, "heads": 4, "dropout": 0.1}
    assert bench.PRIOR.arguments == prior | {"vocab_size": 33, "context": 16}
    assert bench.PRIOR.rates == {"gpt": 5e-3}
    for name in ("dense_vae", "conv_vae", "vqvae", "dense_gan", "dcgan", "wgan_gp"):
        assert name in bench.ENTRANTS and get_recipe(f"digits_{name}")
        assert f"digits_{name}" in bench.ENTRANTS[name].settings
    assert get_recipe("digits_vqvae").arguments["num_codes"] == 32  # start letter
    images = [bench.facts()[n]["family"] for n in bench.facts()]
    assert len(images) == 15


def test_baselines_are_images_of_the_board():
    for _, draw, _ in bench.BASELINES.values():
        x = draw(20, 0)
        assert x.shape == (20, 16, 16, 1) and x.dtype == "float32"
        assert abs(x).max() <= 1


def test_budget_stops_at_the_first_epoch_after_the_last_mark():
    seen = []
    clock = bench.Budget((0.01, 0.02), lambda model, last: seen.append(last))
    recipe = get_recipe("digits_dense_vae")
    fit = {"epochs": 1000, "callbacks": [clock]}
    recipe.train(bench.images()[:64], 0, **fit)
    assert seen[-1] and not clock.marks and len(seen) <= 2
    assert clock.points[-1]["epochs"] < 1000
    assert clock.points[-1]["seconds"] <= clock.spent() + 0.1


def test_a_short_run_writes_after_each_entrant_and_merges(tmp_path, monkeypatch):
    monkeypatch.setattr(bench, "SAMPLES", 20)
    monkeypatch.setattr(bench, "SHOWN", 4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of few samples
        bench.play(0, ["dense_vae"], (0.1,), tmp_path)
    table = bench.merge(tmp_path, (0.1,))
    assert list(table["entrants"])[-1] == "dense_vae" and table["seeds"] == 1
    (run,) = table["entrants"]["dense_vae"]["runs"]
    assert run["points"][-1]["mark"] == 0.1 and run["parameters"] > 1000
    assert any("dense VAE" in line for line in bench.lines(table))
    with np.load(tmp_path / "seed0.npz") as shots:
        assert shots["dense_vae"].shape == (4, 16, 16, 1)
