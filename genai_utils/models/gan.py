"""Generative adversarial networks: a discriminator and a generator take turns."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from genai_utils import losses
from genai_utils.checks import check_choice, check_labels, check_positive
from genai_utils.game import Field, Game, Player
from genai_utils.gan_layers import (
    ConditionalBatchNormalization,
    MinibatchDeviation,
    Projection,
    SpectralNormalization,
)
from genai_utils.layers import (
    AppendClass,
    conv_half,
    conv_twice,
    dense_stack,
    fed,
    first_shape,
    halved,
    network,
    seeded,
)

__all__ = ["GAN", "WAYS", "make_dcgan", "make_dense_gan", "make_toy_gan"]

#: How a label may enter the networks of a conditional game.
WAYS = ("concatenate", "embedding", "projection")
_WIDTH = 8  # of an embedding that is appended

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
        generator: Maps noise ``(B, latent_dim)`` to samples; in a game with classes it
            takes ``[noise, labels]``, labels of shape ``(B, 1)``.
        discriminator: Maps samples to one logit each, shape ``(B, 1)``; in a game with
            classes it takes ``[samples, labels]``.
        loss: ``"non_saturating"``, ``"minimax"``, ``"hinge"`` or ``"wasserstein_gp"``.
        gp_weight: Weight of the gradient penalty (``"wasserstein_gp"`` only).
        d_turns: Turns of the discriminator in each round, each with new noise.
        r1_weight: Weight of the R1 penalty, at least 0; 0 for none.
        smoothing: By how much the label of real samples is below 1, in [0, 1); only
            with ``"non_saturating"`` and ``"minimax"``.
        augmentation: A layer that real and generated samples pass before the
            discriminator in training, such as
            :class:`genai_utils.gan_layers.Augmentation`; ``None`` for none.
        num_classes: Number of classes of a conditional game, whose ``fit`` takes
            ``(x, y)``, labels from 0 on; ``None`` for a game without.
        data_range: Range that ``fit`` demands of its data; ``(None, None)`` for none.
        seed: Seed of the model's noise.
        **kwargs: Passed to ``keras.Model``.

    Reference:
        Goodfellow et al. (2014), algorithm 1 with k = 1; Mirza and Osindero (2014) for
        the game with classes.
    """

    def __init__(
        self,
        generator: keras.Model,
        discriminator: keras.Model,
        *,
        loss: str = "non_saturating",
        gp_weight: float = 10.0,
        d_turns: int = 1,
        r1_weight: float = 0.0,
        smoothing: float = 0.0,
        augmentation: layers.Layer | None = None,
        num_classes: int | None = None,
        data_range: tuple[float | None, float | None] = (-1.0, 1.0),
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_choice(loss, "loss", _LOSSES)
        check_positive(gp_weight, "gp_weight", zero_ok=True)
        check_positive(r1_weight, "r1_weight", zero_ok=True)
        _check_smoothing(smoothing, loss)
        _check_networks(generator, discriminator, num_classes)
        self.generator, self.discriminator = generator, discriminator
        self.loss_name, self.gp_weight, self.seed = loss, gp_weight, seed
        self.d_turns, self.data_range = d_turns, tuple(data_range)
        self.r1_weight, self.smoothing = r1_weight, smoothing
        self.augmentation, self.num_classes = augmentation, num_classes
        self.data = Field("float32", *self.data_range)
        if num_classes is not None:
            self.condition = Field("int32", 0, num_classes - 1)
        self.latent_dim = first_shape(generator)[-1]
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

    def _fakes(self, x: Any, training: bool, labels: tuple = ()) -> Any:
        noise = (ops.shape(x)[0], self.latent_dim)
        z = keras.random.normal(noise, seed=self.seed_generator)
        fake = self.generator(fed(z, *labels), training=training)
        return self._augmented(fake, training)  # as many as there are in x

    def _augmented(self, x: Any, training: bool) -> Any:
        use = training and self.augmentation is not None
        return self.augmentation(x) if use else x

    def _d_loss(self, x: Any, *rest: Any) -> tuple[Any, dict]:
        *labels, training = rest  # a game with classes has labels (B,)
        labels = tuple(y[:, None] for y in labels)
        fake = ops.stop_gradient(self._fakes(x, training, labels))
        x = self._augmented(x, training)
        fake = ops.cast(fake, x.dtype)

        def judge(v: Any) -> Any:
            return self.discriminator(fed(v, *labels), training=training)

        real_logits, fake_logits = judge(x), judge(fake)
        smoothed = (self.smoothing,) if self.smoothing and training else ()
        loss = _LOSSES[self.loss_name][0](real_logits, fake_logits, *smoothed)
        if self.loss_name == "wasserstein_gp" and training:
            loss = loss + self.gp_weight * losses.gradient_penalty(
                judge, x, fake, self.seed_generator
            )
        if self.r1_weight and training:
            loss = loss + self.r1_weight * losses.r1_penalty(judge, x)
        d_real, d_fake = (
            ops.mean(ops.sigmoid(ops.cast(a, "float32")))
            for a in (real_logits, fake_logits)
        )
        return loss, {"d_real": d_real, "d_fake": d_fake}

    def _g_loss(self, x: Any, *rest: Any) -> Any:
        *labels, training = rest
        labels = tuple(y[:, None] for y in labels)
        fake = self._fakes(x, training, labels)
        logits = self.discriminator(fed(fake, *labels), training=training)
        return _LOSSES[self.loss_name][1](logits)

    def sample(self, n: int, seed: int = 0, labels: Any = None) -> np.ndarray:
        """Draw ``n`` samples from the generator, as NumPy.

        Args:
            n: How many, at least 1.
            seed: Seed of the noise.
            labels: Their classes ``(n,)``, or one for all; only in a game with classes,
                where ``None`` stands for 0, 1, 2, ... in turn.
        """
        check_positive(n, "n")
        rng = np.random.default_rng(seed)
        z = rng.standard_normal((n, self.latent_dim)).astype("float32")
        y = check_labels(labels, n, self.num_classes, in_turn=True)
        inputs = fed(z, y)
        made = self.generator.predict(inputs, batch_size=500, verbose=0)
        return made.astype("float32")

    def _settings(self) -> dict:
        names = ("generator", "discriminator", "gp_weight", "d_turns", "r1_weight")
        names += ("smoothing", "augmentation", "num_classes", "seed")
        settings = {name: getattr(self, name) for name in names}
        return settings | {"loss": self.loss_name, "data_range": list(self.data_range)}


def _check_networks(
    generator: keras.Model, discriminator: keras.Model, num_classes: int | None
) -> None:
    inputs = 1 if num_classes is None else 2
    for net, name in ((generator, "generator"), (discriminator, "discriminator")):
        if len(net.inputs) != inputs:
            raise ValueError(
                f"`{name}` must take {inputs} input{'s' * (inputs > 1)} with "
                f"`num_classes={num_classes}`. Received: a network that takes "
                f"{len(net.inputs)}. A game with classes feeds [x, labels]."
            )
    takes = first_shape(discriminator)[1:]
    if generator.output_shape[1:] != takes:
        raise ValueError(
            "`generator` must return what `discriminator` takes. Received: "
            f"{generator.output_shape[1:]} and {takes}. "
            "End the generator with a `Reshape`."
        )
    if discriminator.output_shape[1:] != (1,):
        raise ValueError(
            "`discriminator` must return one logit a sample, shape (B, 1). "
            f"Received: {discriminator.output_shape}. End it with `Dense(1)`."
        )


def _check_smoothing(smoothing: float, loss: str) -> None:
    check_positive(smoothing, "smoothing", zero_ok=True)
    fits = loss in ("non_saturating", "minimax")
    if smoothing >= 1 or (smoothing and not fits):
        raise ValueError(
            "`smoothing` must lie in [0, 1), and is for losses of probabilities. "
            f"Received: {smoothing} with loss={loss!r}. Usual is 0.1 with "
            "'non_saturating'."
        )


def make_toy_gan(
    latent_dim: int = 2,
    hidden: Sequence[int] = (64, 64),
    *,
    seed: int = 0,
    spectral: bool = False,
    minibatch: bool = False,
    num_classes: int | None = None,
    how: str = "concatenate",
    **kwargs: Any,
) -> GAN:
    """Make a GAN for points in the plane.

    Args:
        latent_dim: Number of noise coordinates, at least 1.
        hidden: Widths of the hidden layers of both networks.
        seed: Seed of weights and noise.
        spectral: Whether the discriminator's layers have spectral norm 1.
        minibatch: Whether the discriminator sees how much a batch varies.
        num_classes: Number of classes of a conditional game; ``None`` for a game
            without.
        how: How labels enter, one of ``WAYS``: appended to noise and points, one-hot
            (``"concatenate"``) or as a learnt ``"embedding"``; or appended to the noise
            one-hot, with a ``"projection"`` discriminator.
        **kwargs: Those of :class:`GAN`.

    Returns:
        The model, not compiled.
    """
    weights = seeded(seed)
    g = [*dense_stack(hidden, weights), layers.Dense(2, **next(weights))]
    linear = {"use_bias": False, "activation": None} if spectral else {}
    d: list = []
    for dense in dense_stack(hidden, weights, **linear):
        d += [_limited(dense, spectral)] + [layers.ReLU()] * spectral
    last = _logit(weights, spectral, num_classes, how)
    d += [MinibatchDeviation()] * minibatch + [last]
    g = _appended(num_classes, check_choice(how, "how", WAYS), True, seed) + g
    d = _appended(num_classes, how, False, seed + 1) + d
    generator = network(g, (latent_dim,), num_classes, "generator")
    discriminator = network(d, (2,), num_classes, "discriminator")
    free = {"data_range": (None, None), "num_classes": num_classes}
    return GAN(generator, discriminator, seed=seed, **free | kwargs)


def _limited(layer: layers.Layer, spectral: bool) -> layers.Layer:
    """The layer itself, or divided by its spectral norm."""
    return SpectralNormalization(layer) if spectral else layer


def _appended(num_classes: int | None, how: str, always: bool, seed: int) -> list:
    """A layer that appends labels to what comes in, where that is how they enter."""
    if num_classes is None or (how == "projection" and not always):
        return []
    return [AppendClass(num_classes, _WIDTH if how == "embedding" else None, seed)]


def _logit(weights: Any, spectral: bool, num_classes: int | None, how: str) -> Any:
    """The last layer of a discriminator, which may look at the labels."""
    units = [1] if num_classes is None or how != "projection" else [1, num_classes]
    linear = [
        _limited(layers.Dense(n, use_bias=n == 1 and not spectral, **w), spectral)
        for n, w in zip(units, weights, strict=False)
    ]
    return linear[0] if len(linear) == 1 else Projection(*linear)


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
    spectral: bool = False,
    minibatch: bool = False,
    num_classes: int | None = None,
    how: str = "projection",
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
        spectral: Whether the discriminator's layers have spectral norm 1.
        minibatch: Whether the discriminator sees how much a batch varies.
        num_classes: Number of classes of a conditional game; ``None`` for a game
            without.
        how: How labels enter, one of ``WAYS``.  ``"concatenate"`` appends them one-hot
            to noise and images.  The others give the generator class-conditional
            norms; the discriminator gets an ``"embedding"`` appended to the image, or
            is a ``"projection"`` discriminator.
        **kwargs: Those of :class:`GAN`.

    Returns:
        The model, not compiled.

    Raises:
        ValueError: If the image cannot be halved that often, or ``how`` is unknown.

    Reference:
        Radford, Metz and Chintala (2016), section 3.  BatchNorm stands in the
        generator alone, and dropout in the discriminator.  Its last convolution
        halves once more than the generator doubles.  Mirza and Osindero (2014), Miyato
        and Koyama (2018) for the labels.
    """
    height, width, channels = halved(image_shape, len(filters))
    check_choice(how, "how", WAYS)
    weights = seeded(seed, lambda s: keras.initializers.RandomNormal(0.0, 0.05, s))
    norm = layers.BatchNormalization
    if num_classes is not None and how != "concatenate":
        norm = functools.partial(ConditionalBatchNormalization, num_classes)
    g = _appended(num_classes, how, False, seed) if how == "concatenate" else []
    small = (height, width, filters[0])
    g += [
        layers.Dense(math.prod(small), use_bias=False, **next(weights)),
        layers.Reshape(small),  # (B, H / factor, W / factor, filters[0])
        norm(momentum=0.9),
        layers.ReLU(),
    ]
    for f in filters[1:]:
        g += [conv_twice(f, weights, use_bias=False), norm(momentum=0.9), layers.ReLU()]
    g += [conv_twice(channels, weights, activation="tanh")]
    d = _appended(num_classes, how, False, seed)
    for i, f in enumerate((*filters[::-1], 2 * filters[0])):
        d += [
            _limited(conv_half(f, weights, use_bias=not spectral), spectral),
            layers.LeakyReLU(0.2),
            layers.Dropout(dropout, seed=seed + i),
        ]
    last = _logit(weights, spectral, num_classes, how)
    d += [MinibatchDeviation()] * minibatch + [layers.Flatten(), last]
    generator = network(g, (latent_dim,), num_classes, "generator")
    discriminator = network(d, image_shape, num_classes, "discriminator")
    kwargs = {"num_classes": num_classes} | kwargs
    return GAN(generator, discriminator, seed=seed, **kwargs)
