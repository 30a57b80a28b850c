"""Generative adversarial networks: a discriminator and a generator take turns."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from genai_utils import losses
from genai_utils.checks import check_choice, check_positive
from genai_utils.game import Field, Game, Player
from genai_utils.layers import conv_half, conv_twice, dense_stack, halved, seeded

__all__ = ["GAN", "make_dcgan", "make_dense_gan", "make_toy_gan"]

_LOSSES = {
    "non_saturating": (losses.minimax_d, losses.non_saturating_g),
    "minimax": (losses.minimax_d, losses.minimax_g),
    "hinge": (losses.hinge_d, losses.hinge_g),
    "wasserstein_gp": (losses.wasserstein_d, losses.wasserstein_g),
}


@keras.saving.register_keras_serializable("genai_utils")
class GAN(Game):
    """The game of a generator and a discriminator, eq. (9.2).

    The discriminator moves first in each round.  Each player draws its own noise, and
    changes only its own trainable variables; the moving averages of a BatchNorm layer
    follow whatever batch passes through it in training, as everywhere in Keras.

    Args:
        generator: Maps noise ``(B, latent_dim)`` to samples.
        discriminator: Maps samples to one logit each, shape ``(B, 1)``.
        loss: ``"non_saturating"``, ``"minimax"``, ``"hinge"`` or ``"wasserstein_gp"``.
        gp_weight: Weight of the gradient penalty (``"wasserstein_gp"`` only).
        d_turns: Turns of the discriminator in each round, each with new noise.
        data_range: Range that ``fit`` demands of its data; ``(None, None)`` for none.
        seed: Seed of the model's noise.
        **kwargs: Passed to ``keras.Model``.

    Reference:
        Goodfellow et al. (2014), algorithm 1 with k = 1.
    """

    def __init__(
        self,
        generator: keras.Model,
        discriminator: keras.Model,
        *,
        loss: str = "non_saturating",
        gp_weight: float = 10.0,
        d_turns: int = 1,
        data_range: tuple[float | None, float | None] = (-1.0, 1.0),
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_choice(loss, "loss", _LOSSES)
        check_positive(gp_weight, "gp_weight", zero_ok=True)
        if generator.output_shape[1:] != discriminator.input_shape[1:]:
            raise ValueError(
                "`generator` must return what `discriminator` takes. Received: "
                f"{generator.output_shape[1:]} and {discriminator.input_shape[1:]}. "
                "End the generator with a `Reshape`."
            )
        if discriminator.output_shape[1:] != (1,):
            raise ValueError(
                "`discriminator` must return one logit a sample, shape (B, 1). "
                f"Received: {discriminator.output_shape}. End it with `Dense(1)`."
            )
        self.generator, self.discriminator = generator, discriminator
        self.loss_name, self.gp_weight, self.seed = loss, gp_weight, seed
        self.d_turns, self.data_range = d_turns, tuple(data_range)
        self.data = Field("float32", *self.data_range)
        self.latent_dim = generator.input_shape[-1]
        self.seed_generator = keras.random.SeedGenerator(seed)
        self.built = True

    def players(self) -> list[Player]:
        """Return the discriminator and the generator."""
        d, g = [self.discriminator], [self.generator]
        return [
            Player(
                "discriminator", d, self._d_loss, ("d_real", "d_fake"), self.d_turns
            ),
            Player("generator", g, self._g_loss),
        ]

    def _fakes(self, x: Any, training: bool) -> Any:
        noise = (ops.shape(x)[0], self.latent_dim)
        z = keras.random.normal(noise, seed=self.seed_generator)
        return self.generator(z, training=training)  # as many as there are in x

    def _d_loss(self, x: Any, training: bool) -> tuple[Any, dict]:
        fake = ops.cast(ops.stop_gradient(self._fakes(x, training)), x.dtype)
        real_logits = self.discriminator(x, training=training)
        fake_logits = self.discriminator(fake, training=training)
        loss = _LOSSES[self.loss_name][0](real_logits, fake_logits)
        if self.loss_name == "wasserstein_gp" and training:
            loss = loss + self.gp_weight * losses.gradient_penalty(
                lambda v: self.discriminator(v, training=training),
                x,
                fake,
                self.seed_generator,
            )
        d_real, d_fake = (
            ops.mean(ops.sigmoid(ops.cast(a, "float32")))
            for a in (real_logits, fake_logits)
        )
        return loss, {"d_real": d_real, "d_fake": d_fake}

    def _g_loss(self, x: Any, training: bool) -> Any:
        logits = self.discriminator(self._fakes(x, training), training=training)
        return _LOSSES[self.loss_name][1](logits)

    def sample(self, n: int, seed: int = 0) -> np.ndarray:
        """Draw ``n`` samples from the generator, as NumPy.

        Args:
            n: How many, at least 1.
            seed: Seed of the noise.
        """
        check_positive(n, "n")
        rng = np.random.default_rng(seed)
        z = rng.standard_normal((n, self.latent_dim)).astype("float32")
        return self.generator.predict(z, batch_size=500, verbose=0).astype("float32")

    def _settings(self) -> dict:
        names = ("generator", "discriminator", "gp_weight", "d_turns", "seed")
        settings = {name: getattr(self, name) for name in names}
        return settings | {"loss": self.loss_name, "data_range": list(self.data_range)}


def make_toy_gan(
    latent_dim: int = 2, hidden: Sequence[int] = (64, 64), *, seed: int = 0, **kwargs
) -> GAN:
    """Make a GAN for points in the plane.

    Args:
        latent_dim: Number of noise coordinates, at least 1.
        hidden: Widths of the hidden layers of both networks.
        seed: Seed of weights and noise.
        **kwargs: Those of :class:`GAN`.

    Returns:
        The model, not compiled.
    """
    weights = seeded(seed)

    def network(inputs: int, outputs: int, name: str) -> keras.Model:
        body = dense_stack(hidden, weights)
        last = layers.Dense(outputs, **next(weights))
        return keras.Sequential([layers.Input((inputs,)), *body, last], name=name)

    nets = network(latent_dim, 2, "generator"), network(2, 1, "discriminator")
    return GAN(*nets, seed=seed, **{"data_range": (None, None)} | kwargs)


def make_dense_gan(
    image_shape: Sequence[int] = (16, 16, 1),
    latent_dim: int = 64,
    *,
    seed: int = 0,
    dropout: float = 0.3,
    **kwargs: Any,
) -> GAN:
    """Make a GAN of dense layers: the article's networks, with their faults mended.

    Args:
        image_shape: ``(H, W, C)``.
        latent_dim: Number of noise coordinates, at least 1.
        seed: Seed of weights, dropout and noise.
        dropout: Share of the discriminator's units that is dropped, in [0, 1).
        **kwargs: Those of :class:`GAN`.

    Returns:
        The model, not compiled.
    """
    weights = seeded(seed)
    g: list = [layers.Input((latent_dim,))]
    for units in (256, 512):
        g += [
            layers.Dense(units, use_bias=False, **next(weights)),
            layers.BatchNormalization(momentum=0.9),
            layers.LeakyReLU(0.2),
        ]
    g += [
        layers.Dense(math.prod(image_shape), "tanh", **next(weights)),
        layers.Reshape(image_shape),
    ]
    d: list = [layers.Input(image_shape), layers.Flatten()]
    for i, units in enumerate((512, 256)):
        d += [
            layers.Dense(units, **next(weights)),
            layers.LeakyReLU(0.2),
            layers.Dropout(dropout, seed=seed + i),
        ]
    d += [layers.Dense(1, **next(weights))]  # a logit
    generator = keras.Sequential(g, name="generator")
    return GAN(
        generator, keras.Sequential(d, name="discriminator"), seed=seed, **kwargs
    )


def make_dcgan(
    image_shape: Sequence[int] = (16, 16, 1),
    latent_dim: int = 64,
    filters: Sequence[int] = (64, 32),
    *,
    seed: int = 0,
    dropout: float = 0.3,
    **kwargs: Any,
) -> GAN:
    """Make a convolutional GAN that doubles the image once for each width.

    Args:
        image_shape: ``(H, W, C)``; H and W divisible by ``2 ** len(filters)``.
        latent_dim: Number of noise coordinates, at least 1.
        filters: Channels of the generator from the smallest image upwards; the
            discriminator has them in reverse, and one more layer, twice as wide.
        seed: Seed of weights, dropout and noise.
        dropout: Share of the discriminator's units that is dropped, in [0, 1).
        **kwargs: Those of :class:`GAN`.

    Returns:
        The model, not compiled.

    Raises:
        ValueError: If the image cannot be halved that often.

    Reference:
        Radford, Metz and Chintala (2016), section 3.  BatchNorm stands in the
        generator alone, and dropout in the discriminator.  Its last convolution
        halves once more than the generator doubles.
    """
    height, width, channels = halved(image_shape, len(filters))
    weights = seeded(seed, lambda s: keras.initializers.RandomNormal(0.0, 0.05, s))
    small = (height, width, filters[0])
    g: list = [
        layers.Input((latent_dim,)),
        layers.Dense(math.prod(small), use_bias=False, **next(weights)),
        layers.Reshape(small),  # (B, H / factor, W / factor, filters[0])
        layers.BatchNormalization(momentum=0.9),
        layers.ReLU(),
    ]
    for f in filters[1:]:
        g += [
            conv_twice(f, weights, use_bias=False),
            layers.BatchNormalization(momentum=0.9),
            layers.ReLU(),
        ]
    g += [conv_twice(channels, weights, activation="tanh")]
    d: list = [layers.Input(image_shape)]
    for i, f in enumerate((*filters[::-1], 2 * filters[0])):
        d += [
            conv_half(f, weights),
            layers.LeakyReLU(0.2),
            layers.Dropout(dropout, seed=seed + i),
        ]
    d += [layers.Flatten(), layers.Dense(1, **next(weights))]
    generator = keras.Sequential(g, name="generator")
    return GAN(
        generator, keras.Sequential(d, name="discriminator"), seed=seed, **kwargs
    )
