"""Recipes whose training somebody has already waited for."""

from __future__ import annotations

from genai_utils.game import Game
from genai_utils.recipes import get_recipe
from genai_utils.stored import load_arrays

__all__ = ["load_pretrained"]


def load_pretrained(name: str) -> Game:
    """Return the model of a recipe with trained weights that come with the package.

    They are what ``get_recipe(name).train(x, y, seed=0)`` leaves, rounded to 16 bits;
    ``tools/train_pretrained.py`` makes them.

    Args:
        name: ``"digits_conditional_diffusion"`` or ``"digits_flow"``.

    Returns:
        The model, compiled as its recipe says, so that it can be trained further.

    Raises:
        ValueError: If there are no weights for that name, or their file is damaged.
    """
    arrays, _ = load_arrays("pretrained.json", name)
    model = get_recipe(name).model(seed=0)
    values = iter(arrays.values())
    for player in model.players():
        for network in player.networks:
            network.set_weights([next(values) for _ in network.weights])
    return model
