"""What the models are built from: draws, seeded weights, attention, stacks."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from genai_utils.checks import check_choice

__all__ = [
    "POSITIONS",
    "Block",
    "CausalSelfAttention",
    "attention",
    "causal_mask",
    "conv_half",
    "conv_twice",
    "dense_stack",
    "halved",
    "rotary",
    "sample_gaussian",
    "seeded",
    "sinusoids",
]

#: How a Transformer may be told the order of its tokens.
POSITIONS = ("learned", "rotary", "sinusoidal", "none")


def sample_gaussian(
    z_mean: Any, z_log_var: Any, seed: keras.random.SeedGenerator | int | None = None
) -> Any:
    r"""Draw :math:`z = \mu + \sigma\odot\epsilon`, eq. (6.11), in float32.

    The noise does not depend on the parameters, so gradients flow through
    :math:`\mu` and :math:`\sigma = e^{s/2}`.

    Args:
        z_mean: Means :math:`\mu`, shape ``(B, latent_dim)``.
        z_log_var: Logarithms :math:`s` of the variances, same shape.
        seed: A seed generator (new noise each call), or a whole number (the same
            noise each call).

    Returns:
        One draw for each row, same shape.

    Reference:
        Kingma and Welling (2014), section 2.4.
    """
    z_mean, z_log_var = ops.cast(z_mean, "float32"), ops.cast(z_log_var, "float32")
    eps = keras.random.normal(ops.shape(z_mean), seed=seed)
    return z_mean + ops.exp(0.5 * z_log_var) * eps


def seeded(
    seed: int,
    make: Callable[[int], Any] = keras.initializers.GlorotUniform,
) -> Iterator[dict]:
    """Yield ``{"kernel_initializer": ...}``, each with the next seed.

    Args:
        seed: The first initializer gets ``seed + 1``.
        make: Maps a seed to an initializer.
    """
    while True:
        seed += 1
        yield {"kernel_initializer": make(seed)}


def dense_stack(widths: Sequence[int], weights: Iterator[dict]) -> list:
    """Return dense layers with ReLU, one for each width."""
    return [layers.Dense(w, "relu", **next(weights)) for w in widths]


def conv_half(filters: int, weights: Iterator[dict], kernel: int = 4, **kwargs) -> Any:
    """Return a convolution that halves height and width."""
    kwargs |= {"strides": 2, "padding": "same"} | next(weights)
    return layers.Conv2D(filters, kernel, **kwargs)


def conv_twice(filters: int, weights: Iterator[dict], kernel: int = 4, **kwargs) -> Any:
    """Return a transposed convolution that doubles height and width."""
    kwargs |= {"strides": 2, "padding": "same"} | next(weights)
    return layers.Conv2DTranspose(filters, kernel, **kwargs)


def halved(image_shape: Sequence[int], times: int) -> tuple[int, int, int]:
    """Return ``(height, width, channels)`` after halving height and width.

    Args:
        image_shape: ``(H, W, C)``.
        times: How often.

    Raises:
        ValueError: If the image cannot be halved that often.
    """
    height, width, channels = image_shape
    factor = 2**times
    if height % factor or width % factor:
        raise ValueError(
            f"`image_shape` must be divisible by {factor} with {times} `filters`. "
            f"Received: {tuple(image_shape)}. Use fewer `filters`, or pad the images."
        )
    return height // factor, width // factor, channels


def attention(q: Any, k: Any, v: Any, mask: Any = None) -> tuple[Any, Any]:
    r"""Scaled dot-product attention: every query looks at every key.

    .. math:: \operatorname{softmax}\!\left(\frac{QK^\top}{\sqrt d}\right) V

    Args:
        q: Queries, shape ``(..., T, head_dim)``.
        k: Keys, shape ``(..., S, head_dim)``; ``S`` is ``T`` in self-attention.
        v: Values, shape ``(..., S, any)``.
        mask: Boolean, shape ``(T, S)`` or one that broadcasts to ``(..., T, S)``; true
            where a query may look.  Each row needs a true entry.

    Returns:
        ``(output, weights)``: the mixed values ``(..., T, any)``, and the weights
        ``(..., T, S)``, whose rows sum to 1.

    Reference:
        Vaswani et al. (2017), equation 1.  Our ``head_dim`` is their :math:`d_k`.
    """
    scores = ops.matmul(q, ops.swapaxes(k, -1, -2))  # (..., T, S)
    scores = ops.cast(scores, "float32") / math.sqrt(q.shape[-1])
    if mask is not None:
        scores = ops.where(mask, scores, -1e30)
    weights = ops.cast(ops.softmax(scores, axis=-1), v.dtype)
    return ops.matmul(weights, v), weights


def causal_mask(length: Any, past: Any = 0, size: int | None = None) -> Any:
    """Return who may look at whom: a token sees itself and what came before it.

    Args:
        length: Number of queries ``T``.
        past: Number of keys that stand before the first query, as in a cache.
        size: Number of keys; ``past + T`` if none is given.  Keys from ``past + T`` on
            are hidden.

    Returns:
        Boolean, shape ``(T, size)``: entry ``[i, j]`` is true where
        ``j <= past + i``.
    """
    keys = ops.arange(past + length if size is None else size)
    queries = past + ops.arange(length)
    return keys[None, :] <= queries[:, None]


def sinusoids(length: int, width: int) -> Any:
    r"""Return sines and cosines that tell positions apart.

    .. math:: P_{p,2i} = \sin(p\,\omega_i), \quad P_{p,2i+1} = \cos(p\,\omega_i), \quad
        \omega_i = 10000^{-2i/d}

    Args:
        length: Number of positions ``T``.
        width: Number ``d`` of features, even.

    Returns:
        float32, shape ``(T, width)``.

    Raises:
        ValueError: If ``width`` is odd.

    Reference:
        Vaswani et al. (2017), section 3.5.
    """
    angles = _angles(ops.arange(length), width, "width")  # (T, width / 2)
    both = ops.stack([ops.sin(angles), ops.cos(angles)], axis=-1)
    return ops.reshape(both, (length, width))


def rotary(x: Any, positions: Any) -> Any:
    r"""Rotate pairs of features by angles that grow with the position.

    .. math:: \begin{pmatrix} x_{2i}' \\ x_{2i+1}' \end{pmatrix} =
        \begin{pmatrix} \cos p\omega_i & -\sin p\omega_i \\
        \sin p\omega_i & \cos p\omega_i \end{pmatrix}
        \begin{pmatrix} x_{2i} \\ x_{2i+1} \end{pmatrix}, \quad
        \omega_i = 10000^{-2i/d}

    The product of a rotated query and a rotated key depends on their positions only
    through the difference.

    Args:
        x: Queries or keys, shape ``(..., T, head_dim)``, ``head_dim`` even.
        positions: Positions :math:`p`, shape ``(T,)``.

    Returns:
        Same shape; the length of each vector is kept.

    Raises:
        ValueError: If ``head_dim`` is odd.

    Reference:
        Su et al. (2021), equation 15.
    """
    angles = _angles(positions, x.shape[-1], "head_dim")  # (T, head_dim / 2)
    cos, sin = ops.cast(ops.cos(angles), x.dtype), ops.cast(ops.sin(angles), x.dtype)
    even, odd = x[..., 0::2], x[..., 1::2]
    turned = ops.stack([even * cos - odd * sin, even * sin + odd * cos], axis=-1)
    return ops.reshape(turned, ops.shape(x))


def _angles(positions: Any, width: int, name: str) -> Any:
    """Position times frequency, ``(T, width / 2)``."""
    if width % 2:
        raise ValueError(
            f"`{name}` must be even, as features are taken in pairs. "
            f"Received: {width}. Choose another `width` or number of `heads`."
        )
    frequencies = 10000.0 ** (-np.arange(0, width, 2, dtype="float32") / width)
    return ops.outer(ops.cast(positions, "float32"), frequencies)


@keras.saving.register_keras_serializable("genai_utils")
class CausalSelfAttention(layers.Layer):
    """Several heads of causal self-attention, with a cache for generation.

    Args:
        width: Features of a token, a multiple of ``heads``.
        heads: Number of heads.
        positions: One of ``POSITIONS``.  ``"rotary"`` turns queries and keys by their
            positions; with the others this layer does not know the order.
        dropout: Share of the outputs that are set to zero in training.
        shrink: Factor on the initial weights of the output projection.
        seed: Seed of weights and dropout.
        **kwargs: Passed to ``keras.layers.Layer``.

    Reference:
        Vaswani et al. (2017), section 3.2; Radford et al. (2019) for ``shrink``.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        *,
        positions: str = "none",
        dropout: float = 0.0,
        shrink: float = 1.0,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_choice(positions, "positions", POSITIONS)
        if width % heads:
            raise ValueError(
                f"`width` must be a multiple of `heads`. Received: {width}, {heads}. "
                "Give each head the same whole number of features."
            )
        self.width, self.heads, self.positions = width, heads, positions
        self.rate, self.shrink, self.seed = dropout, shrink, seed
        self.qkv = _dense(width, 3 * width, seed)
        self.project = _dense(width, width, seed + 1, shrink)
        self.dropout = layers.Dropout(dropout, seed=seed + 2)
        self.built = True

    def call(
        self,
        x: Any,
        cache: tuple[Any, Any] | None = None,
        past: Any = 0,
        return_weights: bool = False,
        training: bool = False,
    ) -> Any:
        """Mix each token with those before it.

        Args:
            x: Tokens, shape ``(B, T, width)``.
            cache: Keys and values of earlier tokens, each ``(B, heads, S, head_dim)``,
                of which the first ``past`` are filled; ``past + T`` may not exceed S.
            past: How many tokens came before ``x``.
            return_weights: Whether to return the attention weights, too.
            training: Whether to drop outputs.

        Returns:
            The output ``(B, T, width)``; with a cache ``(output, cache)``, the new keys
            and values filled in; with weights also those, last, ``(B, heads, T, S)``.
        """
        q, k, v = self._split(self.qkv(x), past)  # each (B, heads, T, head_dim)
        length = ops.shape(x)[1]
        mask = causal_mask(length)
        if cache is not None:
            at = (0, 0, past, 0)
            cache = ops.slice_update(cache[0], at, k), ops.slice_update(cache[1], at, v)
            k, v = cache  # (B, heads, S, head_dim)
            mask = causal_mask(length, past, k.shape[2])
        mixed, weights = attention(q, k, v, mask)  # (B, heads, T, head_dim)
        mixed = ops.reshape(ops.swapaxes(mixed, 1, 2), ops.shape(x))  # (B, T, width)
        out = self.dropout(self.project(mixed), training=training)
        found = (out,) + (() if cache is None else (cache,))
        found += (weights,) if return_weights else ()
        return found if len(found) > 1 else out

    def _split(self, qkv: Any, past: Any) -> tuple[Any, Any, Any]:
        """Queries, keys and values of each head, each (B, heads, T, head_dim)."""
        batch, length, _ = ops.shape(qkv)
        parts = (batch, length, 3, self.heads, self.width // self.heads)
        q, k, v = ops.unstack(
            ops.transpose(ops.reshape(qkv, parts), (2, 0, 3, 1, 4)), 3
        )
        if self.positions == "rotary":
            positions = past + ops.arange(length)
            q, k = rotary(q, positions), rotary(k, positions)
        return q, k, v

    def get_config(self) -> dict:
        """Return what is needed to make the layer again."""
        names = ("width", "heads", "positions", "shrink", "seed")
        mine = {name: getattr(self, name) for name in names}
        return {**super().get_config(), **mine, "dropout": self.rate}


@keras.saving.register_keras_serializable("genai_utils")
class Block(layers.Layer):
    r"""A pre-norm Transformer block: tokens talk to each other, then each thinks alone.

    .. math:: x \leftarrow x + \mathrm{attention}(\mathrm{norm}(x)), \qquad
        x \leftarrow x + \mathrm{MLP}(\mathrm{norm}(x))

    The MLP has one hidden layer, four times as wide, with GELU.

    Args:
        width: Features of a token, a multiple of ``heads``.
        heads: Number of heads.
        positions: As in :class:`CausalSelfAttention`.
        dropout: Share of each branch's outputs that are set to zero in training.
        shrink: Factor on the initial weights of the two layers that write to ``x``.
        seed: Seed of weights and dropout; the block uses ``seed`` to ``seed + 5``.
        **kwargs: Passed to ``keras.layers.Layer``.

    Reference:
        Radford et al. (2019), section 2.3; Xiong et al. (2020) for norms that come
        before.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        *,
        positions: str = "none",
        dropout: float = 0.0,
        shrink: float = 1.0,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.attention = CausalSelfAttention(
            width, heads, positions=positions, dropout=dropout, shrink=shrink, seed=seed
        )
        self.norm_1, self.norm_2 = _norm(width), _norm(width)
        self.expand = _dense(width, 4 * width, seed + 3, activation="gelu")
        self.contract = _dense(4 * width, width, seed + 4, shrink)
        self.dropout = layers.Dropout(dropout, seed=seed + 5)
        self.built = True

    def call(
        self,
        x: Any,
        cache: tuple[Any, Any] | None = None,
        past: Any = 0,
        return_weights: bool = False,
        training: bool = False,
    ) -> Any:
        """Return the tokens after the block; arguments and results as in attention."""
        found = self.attention(
            self.norm_1(x),
            cache=cache,
            past=past,
            return_weights=return_weights,
            training=training,
        )
        mixed, *more = found if isinstance(found, tuple) else (found,)
        x = x + mixed
        hidden = self.contract(self.expand(self.norm_2(x)))
        x = x + self.dropout(hidden, training=training)
        return (x, *more) if more else x

    def get_config(self) -> dict:
        """Return what is needed to make the layer again."""
        return {**self.attention.get_config(), **super().get_config()}


def _dense(
    width: int, units: int, seed: int, shrink: float = 1.0, **kwargs: Any
) -> layers.Dense:
    """Return a dense layer that is built, its initial weights times ``shrink``."""
    start = keras.initializers.VarianceScaling(
        shrink**2, "fan_avg", "uniform", seed=seed
    )
    layer = layers.Dense(units, kernel_initializer=start, **kwargs)
    layer.build((None, None, width))
    return layer


def _norm(width: int) -> layers.LayerNormalization:
    """Return a layer norm that is built."""
    layer = layers.LayerNormalization(epsilon=1e-5)
    layer.build((None, None, width))
    return layer
