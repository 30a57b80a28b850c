"""Recipes: what they make trains, and says what it needs."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import numpy as np
import pytest
from keras import ops

from genai_utils import data
from genai_utils.optimizers import AveragingAdam
from genai_utils.recipes import RECIPES, get_recipe

pytestmark = pytest.mark.engines
ROOT = Path(__file__).parent.parent


TEXTS = ("additions", "english")


def samples(recipe):
    """Four samples such as a recipe is made for."""
    if recipe.data == "ring":
        return data.toy("ring", 4)
    if recipe.data == "additions":
        return data.Characters("0123456789+=.").encode(data.additions(4))
    if recipe.data == "english":
        text = data.english()
        characters = data.Characters("".join(sorted(set(text))))
        assert characters.vocab_size == recipe.arguments["vocab_size"]
        return data.windows(characters.encode(text[:133]), 33)
    shape = recipe.arguments.get("image_shape", (16, 16, 1))
    return np.tanh(np.random.default_rng(0).normal(size=(4, *shape)))


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_makes_a_model_that_trains_on_its_data(name):
    recipe = get_recipe(name)
    model = recipe.model(seed=3)
    x = samples(recipe)
    y = np.arange(4) if "num_classes" in recipe.arguments else None
    history = model.fit(x, y, batch_size=4, verbose=0).history
    assert all(np.isfinite(v).all() for v in history.values())
    for player, optimizer in model.optimizer.players.items():
        rate = float(ops.convert_to_numpy(optimizer.learning_rate))
        assert rate == pytest.approx(recipe.rates[player])
        assert isinstance(optimizer, AveragingAdam) == (player in recipe.memory)
    if recipe.data in TEXTS:
        assert model.generate(x[:2, :3], 4).shape == (2, 7)
    else:
        assert model.sample(2).shape == (2, *x.shape[1:])


def test_one_seed_gives_one_model():
    recipe = get_recipe("ring_gan")
    x = data.toy("ring", 400)
    first, again, other = (recipe.train(x, s, epochs=2).sample(5) for s in (1, 1, 2))
    np.testing.assert_allclose(first, again, atol=1e-6)
    assert abs(first - other).max() > 1e-3


def test_an_unknown_recipe_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="digits_dcgan"):
        get_recipe("dcgan")


def chapter_knobs(number):
    """What a chapter's cell of hyperparameters sets."""
    path = next((ROOT / "notebooks").glob(f"{number}-*.ipynb"))
    cells = json.loads(path.read_text("utf-8"))["cells"]
    source = next(
        "".join(c["source"])
        for c in cells
        if "parameters" in c["metadata"].get("tags", [])
    )
    knobs = {}
    for line in ast.parse(source).body:
        names, value = line.targets[0], ast.literal_eval(line.value)
        if isinstance(names, ast.Tuple):
            knobs |= zip((n.id for n in names.elts), value, strict=True)
        else:
            knobs[names.id] = value
    return knobs


@pytest.mark.parametrize(
    ("number", "name"),
    [
        ("07", "digits_dense_vae"),
        ("07", "digits_conv_vae"),
        ("08", "digits_vqvae"),
        ("09", "ring_gan"),
        ("11", "digits_dcgan"),
        ("14", "digits_conditional_gan"),
        ("13", "digits_wgan_gp"),
        ("23", "digits_flow"),
    ],
)
def test_the_chapters_show_the_settings_of_the_recipes(number, name):
    knobs, recipe = chapter_knobs(number), get_recipe(name)
    assert (knobs["EPOCHS"], knobs["BATCH_SIZE"]) == (recipe.epochs, recipe.batch_size)
    if name == "digits_vqvae":
        wanted = {"num_codes": knobs["NUM_CODES"], "dim": knobs["DIM"]}
        assert (recipe.arguments, recipe.rates["vqvae"]) == (wanted, knobs["RATE"])
    if "D_RATE" in knobs:
        assert recipe.rates["discriminator"] == knobs["D_RATE"]
        assert recipe.rates["generator"] == knobs["G_RATE"]


def test_chapter_16_shows_the_settings_of_both_gpts():
    knobs = chapter_knobs("16")
    english, sums = get_recipe("english_gpt"), get_recipe("additions_gpt")
    for recipe, prefix in ((english, ""), (sums, "SUM_")):
        assert recipe.rates["gpt"] == knobs[f"{prefix}RATE"]
        assert recipe.arguments["width"] == knobs["WIDTH"]
        for name in ("depth", "heads"):
            assert recipe.arguments[name] == knobs[f"{prefix}{name.upper()}"]
    assert english.batch_size == knobs["BATCH_SIZE"]
    assert english.arguments["context"] == knobs["CONTEXT"]
    assert (sums.batch_size, sums.epochs) == (knobs["SUM_BATCH"], knobs["SUM_EPOCHS"])


def test_chapter_10_trains_in_stages_as_long_as_its_recipe():
    knobs, recipe = chapter_knobs("10"), get_recipe("digits_dense_gan")
    path = ROOT / "notebooks" / "10-the-articles-gan-debugged.ipynb"
    found = re.search(r"STAGES = \(([\d, ]+)\) if DATASET", path.read_text("utf-8"))
    stages = found[1]
    assert sum(map(int, stages.split(","))) == recipe.epochs
    assert knobs["BATCH_SIZE"] == recipe.batch_size
