"""Weights that come with the package: those of their recipes, on every backend."""

from __future__ import annotations

import json

import numpy as np
import pytest

from genai_utils import data
from genai_utils.judge import load_judge
from genai_utils.metrics import frechet_distance
from genai_utils.pretrained import load_pretrained
from genai_utils.recipes import get_recipe
from genai_utils.stored import WEIGHTS

LISTING = json.loads((WEIGHTS / "pretrained.json").read_text("utf-8"))
NAMES = tuple(LISTING)


@pytest.mark.parametrize("name", NAMES)
def test_the_weights_were_trained_as_the_recipe_says_today(name):
    recipe, entry = get_recipe(name), LISTING[name]
    for key in ("epochs", "batch_size", "rates", "memory", "arguments"):
        assert entry[key] == getattr(recipe, key), key
    assert (WEIGHTS / entry["file"]).stat().st_size < 1_200_000


@pytest.mark.engines
@pytest.mark.parametrize("name", NAMES)
def test_the_loss_is_that_of_a_trained_model(name):
    x, y = data.load("digits", "test")
    labels = (y[:256],) if "num_classes" in get_recipe(name).arguments else ()
    fresh, trained = get_recipe(name).model(), load_pretrained(name)
    before, after = (
        m.evaluate(x[:256], *labels, batch_size=256, verbose=0, return_dict=True)
        for m in (fresh, trained)
    )
    (key,) = (k for k in after if "loss" in k)
    assert after[key] < 0.45 * before[key]


@pytest.mark.parametrize("name", NAMES)
def test_the_samples_are_close_to_real_digits(name):
    judge = load_judge("digits")
    real = judge.features(data.load("digits", "test")[0])
    model = load_pretrained(name)
    labels = {"labels": np.arange(320) % 10} if model.condition else {}
    made = judge.features(model.sample(320, 1, steps=10, **labels))
    assert frechet_distance(made, real) < 1.0  # an untrained model's are beyond 10


def test_a_recipe_without_stored_weights_is_refused_with_those_that_have_some():
    with pytest.raises(ValueError, match="digits_flow"):
        load_pretrained("digits_dcgan")
