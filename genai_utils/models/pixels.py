"""Autoregressive images: each pixel is predicted from those before it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from genai_utils import decoding
from genai_utils.checks import check_array, check_choice, check_positive
from genai_utils.game import Field, Game, Player
from genai_utils.layers import seeded

__all__ = ["MaskedConv2D", "PixelCNN", "make_pixelcnn"]


@keras.saving.register_keras_serializable("genai_utils")
class MaskedConv2D(layers.Layer):
    """A convolution that sees only what comes before, in reading order.

    Args:
        filters: Channels of the output.
        kernel: Side of the kernel, odd.
        sees_itself: Whether a position may look at itself; the first layer of a model
            must not, the later ones must.
        seed: Seed of the weights.
        **kwargs: Passed to ``keras.layers.Layer``.

    Reference:
        van den Oord, Kalchbrenner and Kavukcuoglu (2016), section 3.4: masks A and B.
    """

    def __init__(
        self,
        filters: int,
        kernel: int = 3,
        sees_itself: bool = True,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if kernel % 2 != 1:
            raise ValueError(
                f"`kernel` must be odd, so that it has a centre. Received: {kernel}. "
                "Choose 3, 5 or 7."
            )
        self.filters, self.size, self.sees_itself = filters, kernel, sees_itself
        self.seed = seed

    def build(self, shape: Any) -> None:
        """Make the kernel, the bias and the mask."""
        n = self.size
        self.kernel = self.add_weight(
            (n, n, shape[-1], self.filters),
            keras.initializers.HeNormal(self.seed),
            name="kernel",
        )
        self.bias = self.add_weight((self.filters,), "zeros", name="bias")
        order = np.arange(n * n).reshape(n, n, 1, 1)
        centre = n * n // 2
        self.mask = (order < centre + self.sees_itself).astype("float32")

    def call(self, x: Any) -> Any:
        """Return features ``(B, H, W, filters)`` of ``x``, ``(B, H, W, C)``."""
        kernel = self.kernel * ops.cast(self.mask, self.compute_dtype)
        return ops.conv(x, kernel, padding="same") + self.bias

    def compute_output_shape(self, shape: Any) -> Any:
        """Return ``(B, H, W, filters)``."""
        return (*shape[:-1], self.filters)

    def get_config(self) -> dict:
        """Return what is needed to make the layer again."""
        mine = {"filters": self.filters, "kernel": self.size, "seed": self.seed}
        return {**super().get_config(), **mine, "sees_itself": self.sees_itself}


@keras.saving.register_keras_serializable("genai_utils")
class PixelCNN(Game):
    r"""The chain rule for the pixels of an image, in reading order.

    .. math:: \log p(x) = \sum_i \log p(x_i \mid x_1, \dots, x_{i-1})

    Args:
        network: Maps grey levels scaled to [-1, 1], ``(B, H, W, 1)``, to logits
            ``(B, H, W, levels)``; it must not look ahead.
        levels: Number of grey levels.
        **kwargs: Passed to ``keras.Model``.

    Reference:
        van den Oord, Kalchbrenner and Kavukcuoglu (2016), section 2.
    """

    def __init__(self, network: keras.Model, levels: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if network.output_shape[-1] != levels:
            raise ValueError(
                "`network` must return one logit for each of the `levels`. Received: "
                f"{network.output_shape[-1]} and {levels}."
            )
        self.network, self.levels = network, levels
        self.data = Field("int32", 0, levels - 1)
        self.built = True

    def players(self) -> list[Player]:
        """Return the one player."""
        return [Player("pixels", [self.network], self._loss)]

    def _loss(self, x: Any, training: bool) -> Any:
        return ops.mean(self.nll(x, training))

    def nll(self, x: Any, training: bool = False) -> Any:
        """Return the negative log-likelihood of each pixel, in nats.

        Args:
            x: Grey levels as integers, shape ``(B, H, W, 1)``.
            training: Whether the network trains.

        Returns:
            Shape ``(B, H, W)``.
        """
        logits = ops.cast(self.logits(x, training), "float32")
        return ops.sparse_categorical_crossentropy(x[..., 0], logits, from_logits=True)

    def logits(self, x: Any, training: bool = False) -> Any:
        """Return the logits ``(B, H, W, levels)`` of each pixel given those before."""
        scaled = ops.cast(x, "float32") * (2.0 / (self.levels - 1)) - 1.0
        return self.network(scaled, training=training)

    def log_likelihood(self, x: np.ndarray) -> np.ndarray:
        """Return the log-likelihood of images, in nats, shape ``(n,)``.

        Args:
            x: Grey levels as integers, shape ``(n, H, W, 1)``.
        """
        x = self.data.check(check_array(x, "x", ndim=4), "x")
        parts = [
            ops.convert_to_numpy(self.nll(ops.convert_to_tensor(x[i : i + 500])))
            for i in range(0, len(x), 500)
        ]
        return -np.concatenate(parts).sum(axis=(1, 2))

    def sample(
        self, n: int, seed: int = 0, start: np.ndarray | None = None, known: int = 0
    ) -> np.ndarray:
        """Draw images pixel by pixel, int32, shape ``(n, H, W, 1)``.

        Args:
            n: How many, at least 1.
            seed: Seed of the draws.
            start: Images ``(n, H, W, 1)`` whose first pixels are kept.
            known: How many pixels of ``start`` are kept, in reading order.
        """
        check_positive(n, "n")
        height, width, _ = self.network.input_shape[1:]
        rng = np.random.default_rng(seed)
        x = np.zeros((n, height, width, 1), "int32") if start is None else start.copy()
        for i in range(known, height * width):
            row, column = divmod(i, width)
            scaled = x.astype("float32") * (2.0 / (self.levels - 1)) - 1.0
            logits = self.network.predict_on_batch(scaled)[:, row, column]
            x[:, row, column, 0] = decoding.sample()(logits, rng)
        return x

    def _settings(self) -> dict:
        return {"network": self.network, "levels": self.levels}


def make_pixelcnn(
    image_shape: Sequence[int] = (8, 8, 1),
    levels: int = 17,
    width: int = 32,
    depth: int = 3,
    *,
    first: int = 5,
    kind: str = "residual",
    seed: int = 0,
    **kwargs: Any,
) -> PixelCNN:
    """Make a small PixelCNN.

    Args:
        image_shape: ``(H, W, 1)``.
        levels: Number of grey levels.
        width: Channels.
        depth: Masked layers after the first.
        first: Side of the first kernel, odd.
        kind: ``"residual"``, where layers add to what they read, or ``"plain"``.
        seed: Seed of the weights.
        **kwargs: Passed to :class:`PixelCNN`.

    Returns:
        The model, not compiled.
    """
    check_choice(kind, "kind", ("residual", "plain"))
    weights = seeded(seed + depth + 1)
    x = layers.Input(image_shape)
    h = MaskedConv2D(width, first, sees_itself=False, seed=seed)(x)
    for i in range(depth):
        new = MaskedConv2D(width, 3, seed=seed + i + 1)(layers.Activation("silu")(h))
        h = layers.Add()([h, new]) if kind == "residual" else new
    h = layers.Dense(2 * width, "silu", **next(weights))(layers.Activation("silu")(h))
    network = keras.Model(x, layers.Dense(levels, **next(weights))(h), name="pixels")
    return PixelCNN(network, levels, **kwargs)
