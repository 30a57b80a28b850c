"""Recipes: a name stands for a model, its optimizers, batch size and epochs.

The chapters show these settings; benchmarks, tools and the demos read them here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import keras

from genai_utils.game import Game
from genai_utils.models.diffusion import make_image_diffusion
from genai_utils.models.flow import make_image_flow
from genai_utils.models.gan import make_dcgan, make_dense_gan, make_toy_gan
from genai_utils.models.gpt import make_gpt
from genai_utils.models.vae import make_conv_vae, make_dense_vae
from genai_utils.models.vqvae import make_vqvae
from genai_utils.optimizers import AveragingAdam

__all__ = ["RECIPES", "Recipe", "get_recipe"]


@dataclass(frozen=True)
class Recipe:
    """What it takes to train one model.

    Args:
        make: Makes the model, not compiled, from ``arguments`` and ``seed``.
        data: A name that ``data.load`` or ``data.toy`` knows, ``"additions"`` or
            ``"english"``.
        rates: Maps each player's name to the learning rate of its Adam.
        batch_size: Samples a batch.
        epochs: Passes through the data.
        betas: Adam's ``beta_1`` and ``beta_2``.
        memory: Maps a player's name to the memory of its averaged weights, where it
            keeps an average.
        arguments: Those of ``make``.
    """

    make: Callable[..., Game]
    data: str
    rates: Mapping[str, float]
    batch_size: int
    epochs: int
    betas: tuple[float, float] = (0.9, 0.999)
    memory: Mapping[str, float] = field(default_factory=dict)
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def optimizers(self) -> dict[str, keras.optimizers.Optimizer]:
        """Return a new optimizer for each player."""
        return {
            name: AveragingAdam(rate, *self.betas, memory=self.memory[name])
            if name in self.memory
            else keras.optimizers.Adam(rate, *self.betas)
            for name, rate in self.rates.items()
        }

    def model(self, seed: int = 0) -> Game:
        """Return the model, compiled.

        Args:
            seed: Seed of weights, noise and the order of the data.
        """
        keras.utils.set_random_seed(seed)
        model = self.make(**self.arguments, seed=seed)
        model.compile(self.optimizers())
        return model

    def train(self, x: Any, seed: int = 0, **kwargs: Any) -> Game:
        """Return the model, trained on ``x``.

        Args:
            x: Samples ``(n, ...)``.
            seed: As in :meth:`model`.
            **kwargs: Those of ``Game.fit``, such as the labels ``y`` of a conditional
                game; they replace the recipe's.
        """
        settings = {"batch_size": self.batch_size, "epochs": self.epochs, "verbose": 0}
        model = self.model(seed)
        model.fit(x, **settings | kwargs)
        return model


_VAE = {"vae": 1e-3}
_DCGAN = {"discriminator": 5e-4, "generator": 2e-3}
_MNIST = {"image_shape": (28, 28, 1)}
_DIFFUSION = Recipe(
    make_image_diffusion,
    "digits",
    {"diffusion": 2e-3},
    64,
    16,
    (0.9, 0.99),
    {"diffusion": 0.99},
    {"patch": 2, "kind": "v"},
)
RECIPES = {
    "ring_gan": Recipe(
        make_toy_gan, "ring", dict.fromkeys(_DCGAN, 1e-3), 200, 60, (0.5, 0.999)
    ),
    "digits_dense_vae": Recipe(
        make_dense_vae, "digits", _VAE, 64, 60, arguments={"latent_dim": 2}
    ),
    "digits_conv_vae": Recipe(
        make_conv_vae, "digits", _VAE, 64, 60, arguments={"latent_dim": 8}
    ),
    "digits_vqvae": Recipe(
        make_vqvae,
        "digits",
        {"vqvae": 2e-3},
        64,
        20,
        arguments={"num_codes": 32, "dim": 8},
    ),
    "digits_dense_gan": Recipe(
        make_dense_gan, "digits", dict.fromkeys(_DCGAN, 2e-4), 64, 60, (0.5, 0.999)
    ),
    "digits_dcgan": Recipe(
        make_dcgan, "digits", _DCGAN, 64, 20, (0.5, 0.999), {"generator": 0.99}
    ),
    "digits_wgan_gp": Recipe(
        make_dcgan,
        "digits",
        {"discriminator": 5e-4, "generator": 1e-3},
        64,
        6,
        (0.5, 0.9),
        arguments={
            "filters": (32, 16),
            "dropout": 0.0,
            "loss": "wasserstein_gp",
            "d_turns": 5,
            "gp_weight": 10.0,
        },
    ),
    "digits_conditional_gan": Recipe(
        make_dcgan,
        "digits",
        _DCGAN,
        64,
        20,
        (0.5, 0.999),
        {"generator": 0.99},
        {"num_classes": 10},
    ),
    "digits_diffusion": _DIFFUSION,
    "digits_conditional_diffusion": replace(
        _DIFFUSION, arguments={**_DIFFUSION.arguments, "num_classes": 10}
    ),
    "digits_flow": Recipe(
        make_image_flow,
        "digits",
        {"flow": 2e-3},
        64,
        16,
        (0.9, 0.99),
        {"flow": 0.99},
        {"patch": 2},
    ),
    "mnist_conv_vae": Recipe(
        make_conv_vae,
        "mnist",
        _VAE,
        64,
        10,
        arguments={**_MNIST, "latent_dim": 16, "likelihood": "bernoulli"},
    ),
    "mnist_dense_gan": Recipe(
        make_dense_gan,
        "mnist",
        dict.fromkeys(_DCGAN, 2e-4),
        64,
        10,
        (0.5, 0.999),
        {"generator": 0.998},
        {**_MNIST, "latent_dim": 64},
    ),
    "mnist_dcgan": Recipe(
        make_dcgan,
        "mnist",
        _DCGAN,
        64,
        10,
        (0.0, 0.99),
        {"generator": 0.998},
        {**_MNIST, "latent_dim": 16, "dropout": 0.0},
    ),
    "mnist_diffusion": Recipe(
        make_image_diffusion,
        "mnist",
        {"diffusion": 2e-3},
        64,
        2,
        (0.9, 0.99),
        {"diffusion": 0.998},
        {**_MNIST, "patch": 2, "kind": "v"},
    ),
    # 9,600 windows of 33 characters of `data.english`, 62 different ones
    "english_gpt": Recipe(
        make_gpt,
        "english",
        {"gpt": 5e-3},
        16,
        1,
        (0.9, 0.99),
        arguments={
            "vocab_size": 62,
            "context": 32,
            "width": 64,
            "depth": 2,
            "heads": 4,
            "positions": "rotary",
        },
    ),
    # "12+34=64..", digits of the answer reversed, 13 characters, answers only
    "additions_gpt": Recipe(
        make_gpt,
        "additions",
        {"gpt": 3e-3},
        64,
        5,
        (0.9, 0.99),
        arguments={
            "vocab_size": 13,
            "context": 9,
            "width": 64,
            "depth": 1,
            "heads": 8,
        },
    ),
}


def get_recipe(name: str) -> Recipe:
    """Return a recipe by name.

    Args:
        name: A key of ``RECIPES``.

    Raises:
        ValueError: If there is no such recipe.
    """
    if name not in RECIPES:
        raise ValueError(
            f"`name` must be one of {sorted(RECIPES)}. Received: {name!r}. "
            "Check the spelling."
        )
    return RECIPES[name]
