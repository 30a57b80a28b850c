"""Networks that are told a time: a small U-Net for images, a dense one for points.

Both take ``[x, t]``, or ``[x, t, labels]``, with ``t`` of shape ``(B, 1)`` in [0, 1]
and labels ``(B, 1)``, and return what has the shape of ``x``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from genai_utils.layers import halved, seeded

__all__ = ["TimeFeatures", "make_time_mlp", "make_unet", "predict_at"]

_ROWS = 512  # at most so many at once


@keras.saving.register_keras_serializable("genai_utils")
class TimeFeatures(layers.Layer):
    r"""Sines and cosines of a time, so that a network can tell close times apart.

    .. math:: \left(t,\ \sin \pi 2^{k} t,\ \cos \pi 2^{k} t\right)_{k=0,\dots,K-1}

    Args:
        count: Number ``K`` of frequencies.
        **kwargs: Passed to ``keras.layers.Layer``.

    Reference:
        Vaswani et al. (2017), section 3.5, with frequencies for times in [0, 1].
    """

    def __init__(self, count: int = 6, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.count = count

    def call(self, t: Any) -> Any:
        """Return features ``(B, 2 K + 1)`` of times ``(B, 1)``."""
        angles = ops.concatenate([t * (math.pi * 2**k) for k in range(self.count)], -1)
        return ops.concatenate([t, ops.sin(angles), ops.cos(angles)], axis=-1)

    def compute_output_shape(self, shape: Any) -> Any:
        """Return ``(B, 2 K + 1)``."""
        return (*shape[:-1], 2 * self.count + 1)

    def get_config(self) -> dict:
        """Return what is needed to make the layer again."""
        return {**super().get_config(), "count": self.count}


def predict_at(
    network: keras.Model, x: np.ndarray, t: float, labels: np.ndarray | None = None
) -> np.ndarray:
    """Run a network of this module on any number of rows, all at one time.

    Rows are filled up to powers of two: few shapes, few compilations.

    Args:
        network: Takes ``[x, t]``, or ``[x, t, labels]``.
        x: Shape ``(n, ...)``.
        t: The time, in [0, 1].
        labels: Classes ``(n, 1)``, where the network takes them.

    Returns:
        float64, in the shape of ``x``.
    """
    size, parts = min(1 << (len(x) - 1).bit_length(), _ROWS), []
    for i in range(0, len(x), size):
        rows = x[i : i + size].astype("float32")
        inputs = [
            np.resize(rows, (size, *x.shape[1:])),
            np.full((size, 1), t, "float32"),
        ]
        if labels is not None:
            inputs.append(np.resize(labels[i : i + size], (size, 1)))
        parts.append(network.predict_on_batch(inputs)[: len(rows)])
    return np.concatenate(parts).astype("float64")


def make_time_mlp(
    dim: int = 2,
    hidden: Sequence[int] = (128, 128, 128),
    *,
    num_classes: int | None = None,
    seed: int = 0,
) -> keras.Model:
    """Make a dense network for points, which sees the time in every layer.

    Args:
        dim: Coordinates of a point.
        hidden: Widths of the hidden layers.
        num_classes: Number of classes, where labels are given; the label
            ``num_classes`` stands for "unknown".
        seed: Seed of the weights.

    Returns:
        The network.
    """
    weights = seeded(seed)
    x, known, inputs = _inputs((dim,), num_classes, hidden[0], weights)
    h = x
    for width in hidden:
        h = layers.Dense(width, **next(weights))(h)
        h = layers.Add()([h, layers.Dense(width, **next(weights))(known)])
        h = layers.Activation("silu")(h)
    out = layers.Dense(dim, kernel_initializer="zeros")(h)
    return keras.Model(inputs, out, name="time_mlp")


def make_unet(
    image_shape: Sequence[int] = (16, 16, 1),
    widths: Sequence[int] = (32, 64),
    *,
    blocks: int = 1,
    patch: int = 1,
    num_classes: int | None = None,
    seed: int = 0,
) -> keras.Model:
    """Make a small U-Net: down to a coarse image, up again, with shortcuts across.

    Args:
        image_shape: ``(H, W, C)``; H and W divisible by
            ``patch * 2 ** (len(widths) - 1)``.
        widths: Channels at each size, from the finest to the coarsest.
        blocks: Residual blocks at each size, on the way down and on the way up.
        patch: Side of squares of pixels that are read as one position; 2 makes the
            network four times cheaper.
        num_classes: As in :func:`make_time_mlp`.
        seed: Seed of the weights.

    Returns:
        The network.

    Raises:
        ValueError: If the image cannot be halved that often.

    Reference:
        Ronneberger, Fischer and Brox (2015) for the shape; Ho, Jain and Abbeel (2020),
        appendix B, for residual blocks that are told the time. Their normalisation by
        groups is one by root mean square here, which a processor does faster (Zhang
        and Sennrich, 2019).
    """
    halved(image_shape, len(widths) - 1 + int(math.log2(patch)))
    weights, channels = seeded(seed), image_shape[-1]
    x, known, inputs = _inputs(image_shape, num_classes, 4 * widths[0], weights)
    h = layers.Conv2D(widths[0], patch + 2, patch, "same", **next(weights))(x)
    kept = [h]
    for i, width in enumerate(widths):
        if i:
            h = layers.Conv2D(width, 3, 2, "same", **next(weights))(h)
            kept.append(h)
        for _ in range(blocks):
            h = _residual(h, known, width, weights)
            kept.append(h)
    h = _residual(h, known, widths[-1], weights)
    for i, width in reversed(list(enumerate(widths))):
        for _ in range(blocks + 1):
            h = layers.Concatenate()([h, kept.pop()])
            h = _residual(h, known, width, weights)
        if i:
            h = layers.UpSampling2D()(h)
            h = layers.Conv2D(widths[i - 1], 3, padding="same", **next(weights))(h)
    h = layers.Activation("silu")(_norm()(h))
    out = layers.Conv2DTranspose(
        channels, patch + 2, patch, "same", kernel_initializer="zeros"
    )(h)
    return keras.Model(inputs, out, name="unet")


def _inputs(
    shape: Sequence[int], num_classes: int | None, width: int, weights: Iterator[dict]
) -> tuple[Any, Any, list]:
    """The input, what is known of time and label ``(B, width)``, and all inputs."""
    x, t = layers.Input(shape, name="x"), layers.Input((1,), name="t")
    known = layers.Dense(width, **next(weights))(TimeFeatures()(t))
    inputs = [x, t]
    if num_classes is not None:
        labels = layers.Input((1,), dtype="int32", name="labels")
        table = layers.Embedding(num_classes + 1, width)(labels)  # (B, 1, width)
        known = layers.Add()([known, layers.Reshape((width,))(table)])
        inputs.append(labels)
    return x, layers.Activation("silu")(known), inputs


def _residual(h: Any, known: Any, width: int, weights: Iterator[dict]) -> Any:
    """Two convolutions; between them features are scaled and shifted by the time."""
    new = layers.Activation("silu")(_norm()(h))
    new = layers.Conv2D(width, 3, padding="same", **next(weights))(new)
    told = layers.Dense(2 * width, **next(weights))(known)
    scale, shift = (
        layers.Reshape((1, 1, width))(part) for part in ops.split(told, 2, axis=-1)
    )
    new = _norm()(new) * (1.0 + scale) + shift
    new = layers.Activation("silu")(new)
    new = layers.Conv2D(width, 3, padding="same", kernel_initializer="zeros")(new)
    if h.shape[-1] != width:
        h = layers.Conv2D(width, 1, **next(weights))(h)
    return layers.Add()([h, new])


def _norm() -> layers.Layer:
    return layers.RMSNormalization()
