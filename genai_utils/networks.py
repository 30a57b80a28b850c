"""Networks that are told a time: a small U-Net for images, a dense one for points.

Both take ``[x, t]``, or ``[x, t, labels]``, with ``t`` of shape ``(B, 1)`` in [0, 1]
and labels ``(B, 1)``, and return what has the shape of ``x``.  A Transformer for grids
of features reads captions, too: its labels are rows of tokens, ``(B, words)``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from genai_utils.layers import CrossAttention, halved, seeded

__all__ = [
    "AddVectors",
    "TimeFeatures",
    "attention_maps",
    "make_text_encoder",
    "make_text_transformer",
    "make_time_mlp",
    "make_unet",
    "predict_at",
]

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
        labels: Classes ``(n, 1)`` or tokens ``(n, words)``, where the network takes
            them.

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
            inputs.append(np.resize(labels[i : i + size], (size, *labels.shape[1:])))
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


@keras.saving.register_keras_serializable("genai_utils")
class AddVectors(layers.Layer):
    """Add a learnt vector to each position: here is left, there right.

    Args:
        length: Number of positions ``T``.
        width: Features of a vector.
        seed: Seed of the vectors.
        **kwargs: Passed to ``keras.layers.Layer``.
    """

    def __init__(self, length: int, width: int, *, seed: int = 0, **kwargs: Any):
        super().__init__(**kwargs)
        self.length, self.width, self.seed = length, width, seed
        start = keras.initializers.RandomNormal(0.0, 0.5, seed)
        self.vectors = self.add_weight((length, width), start, name="vectors")
        self.built = True

    def call(self, h: Any) -> Any:
        """Return features ``(B, T, width)`` that know their position."""
        return h + self.vectors

    def get_config(self) -> dict:
        """Return what is needed to make the layer again."""
        names = ("length", "width", "seed")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


def make_text_encoder(
    vocab_size: int,
    max_words: int,
    width: int = 64,
    *,
    ordered: bool = True,
    heads: int = 4,
    seed: int = 0,
) -> keras.Model:
    """Make a Transformer of one block in which all words of a caption see each other.

    Padding is not hidden: it is a word that says nothing, and something to look at
    where there is nothing to look for.

    Args:
        vocab_size: Number of tokens, padding with it.
        max_words: Tokens in a row.
        width: Features of a word, a multiple of ``heads``.
        ordered: Whether words know their positions; without, "red circle, blue square"
            is "blue circle, red square".
        heads: Heads of attention.
        seed: Seed of the weights.

    Returns:
        A network from tokens ``(B, max_words)`` to vectors ``(B, max_words, width)``.
    """
    weights, tokens = seeded(seed + 50), layers.Input((max_words,), dtype="int32")
    start = keras.initializers.RandomNormal(0.0, 0.5, seed + 51)
    h = layers.Embedding(vocab_size, width, embeddings_initializer=start)(tokens)
    if ordered:
        h = AddVectors(max_words, width, seed=seed + 52)(h)
    seen = _norm()(h)
    h = layers.Add()([h, CrossAttention(width, heads, seed=seed + 60)(seen, seen)])
    h = layers.Add()([h, _think(h, width, weights)])
    return keras.Model(tokens, _norm()(h), name="text_encoder")


def make_text_transformer(
    grid_shape: Sequence[int],
    vocab_size: int,
    max_words: int,
    *,
    width: int = 96,
    depth: int = 3,
    heads: int = 4,
    attend: bool = True,
    ordered: bool = True,
    text_width: int = 64,
    seed: int = 0,
) -> keras.Model:
    """Make a Transformer that reads a caption and paints a grid of features.

    In each block the positions look at each other, then at the words, then each thinks
    alone; the time scales and shifts what they look at.

    Args:
        grid_shape: ``(H, W, C)``; every position is one token.
        vocab_size: Number of tokens of captions, padding with it.
        max_words: Tokens in a caption.
        width: Features of a position, a multiple of ``heads``.
        depth: Number of blocks.
        heads: Heads of all attention.
        attend: Whether positions look at the words; else all are told the mean of the
            words' vectors, as they are told the time.
        ordered: As in :func:`make_text_encoder`.
        text_width: Features of a word, a multiple of ``heads``.
        seed: Seed of the weights.

    Returns:
        The network; it takes ``[x, t, tokens]``.  Its layers ``look_0``, ``look_1``,
        ... are those that read.

    Reference:
        Peebles and Xie (2023), who found that looking at the condition by attention
        works, and telling it like the time works better, for classes; Rombach et al.
        (2022), section 3.3, for words.
    """
    weights, (rows, columns, channels) = seeded(seed), grid_shape
    x, known, inputs = _inputs(grid_shape, None, width, weights)
    tokens = layers.Input((max_words,), dtype="int32", name="tokens")
    words = make_text_encoder(
        vocab_size, max_words, text_width, ordered=ordered, heads=heads, seed=seed
    )(tokens)  # (B, S, text_width)
    if not attend:
        told = layers.Dense(width, **next(weights))(ops.mean(words, axis=1))
        known = layers.Add()([known, told])
    h = layers.Reshape((rows * columns, channels))(x)
    h = layers.Dense(width, **next(weights))(h)
    h = AddVectors(rows * columns, width, seed=seed + 40)(h)
    for i in range(depth):
        seen = _told(_norm()(h), known, width, weights)
        around = CrossAttention(width, heads, seed=seed + 100 + 20 * i)
        h = layers.Add()([h, around(seen, seen)])
        if attend:
            look = CrossAttention(
                width,
                heads,
                other=text_width,
                seed=seed + 110 + 20 * i,
                name=f"look_{i}",
            )
            h = layers.Add()([h, look(_norm()(h), words)])
        h = layers.Add()([h, _think(h, width, weights)])
    out = layers.Dense(channels, kernel_initializer="zeros")(_norm()(h))
    out = layers.Reshape(tuple(grid_shape))(out)
    return keras.Model([*inputs, tokens], out, name="text_transformer")


def attention_maps(
    network: keras.Model, x: np.ndarray, t: float, tokens: np.ndarray
) -> np.ndarray:
    """Return how much each position looks at each word, in every block and head.

    Args:
        network: From :func:`make_text_transformer`, with ``attend``.
        x: Grids ``(n, H, W, C)``.
        t: The time, in [0, 1].
        tokens: Captions ``(n, S)``, or one ``(1, S)`` for all.

    Returns:
        Shape ``(depth, n, heads, H * W, S)``; each row sums to 1.
    """
    looks = [layer for layer in network.layers if layer.name.startswith("look_")]
    probe = keras.Model(network.inputs, [look.input for look in looks])
    n, x = len(x), np.asarray(x, "float32")
    tokens = np.broadcast_to(tokens, (n, np.shape(tokens)[1]))
    seen = probe([x, np.full((n, 1), t, "float32"), tokens.astype("int32")])
    if len(looks) == 1:
        seen = [seen]
    found = [
        look(*s, return_weights=True)[1] for look, s in zip(looks, seen, strict=True)
    ]
    return np.stack([ops.convert_to_numpy(weights) for weights in found])


def _told(h: Any, known: Any, width: int, weights: Iterator[dict]) -> Any:
    """Scale and shift features (B, T, width) by what is known of time and caption."""
    told = layers.Reshape((1, 2 * width))(
        layers.Dense(2 * width, **next(weights))(known)
    )
    scale, shift = ops.split(told, 2, axis=-1)
    return h * (1.0 + scale) + shift


def _think(h: Any, width: int, weights: Iterator[dict]) -> Any:
    """What each position makes of its own features: one hidden layer."""
    new = layers.Dense(2 * width, "gelu", **next(weights))(_norm()(h))
    return layers.Dense(width, **next(weights))(new)
