"""What the models are built from: draws, weights, attention, codebooks, stacks."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from genai_utils.checks import check_choice, check_positive

__all__ = [
    "POSITIONS",
    "AppendClass",
    "Block",
    "CausalSelfAttention",
    "CrossAttention",
    "VectorQuantizer",
    "attention",
    "causal_mask",
    "code_width",
    "conv_half",
    "conv_twice",
    "dense_stack",
    "fed",
    "first_shape",
    "halved",
    "network",
    "rotary",
    "sample_gaussian",
    "seeded",
    "sinusoids",
]

#: How a Transformer may be told the order of its tokens.
POSITIONS = ("learned", "rotary", "sinusoidal", "none")

_FEW = 1e-6  # what a count of uses may not fall below


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


def dense_stack(widths: Sequence[int], weights: Iterator[dict], **kwargs: Any) -> list:
    """Return dense layers, one for each width, with ReLU unless told otherwise."""
    kwargs = {"activation": "relu"} | kwargs
    return [layers.Dense(w, **kwargs, **next(weights)) for w in widths]


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


def network(
    parts: Sequence[layers.Layer],
    shape: Sequence[int],
    num_classes: int | None = None,
    name: str | None = None,
) -> keras.Model:
    """Return layers in a row as one network, into which labels may enter.

    Args:
        parts: The layers.  With classes, those that have ``takes_labels`` are called
            with ``[x, labels]``.
        shape: Shape of one sample.
        num_classes: Number of classes, or ``None`` for a network without.
        name: Name of the network.

    Returns:
        A network that takes ``x``, or with classes ``[x, labels]``, labels of shape
        ``(B, 1)``.
    """
    if num_classes is None:
        return keras.Sequential([layers.Input(shape), *parts], name=name)
    x = samples = layers.Input(shape)
    labels = layers.Input((1,), dtype="int32")
    for part in parts:
        x = part([x, labels] if getattr(part, "takes_labels", False) else x)
    return keras.Model([samples, labels], x, name=name)


def fed(x: Any, labels: Any = None) -> Any:
    """Return what a network takes: ``x``, or with labels ``[x, labels]``."""
    return x if labels is None else [x, labels]


def first_shape(net: keras.Model) -> tuple:
    """Return the shape of a network's first input, whether it has one or several."""
    shape = net.input_shape
    return shape[0] if isinstance(shape[0], (list, tuple)) else shape


def code_width(encoder: keras.Model, decoder: keras.Model) -> int:
    """Return how many latent coordinates an encoder and a decoder share.

    Args:
        encoder: Returns means, then logarithms of variances.
        decoder: Takes a latent point.

    Raises:
        ValueError: If the encoder does not return twice what the decoder takes.
    """
    takes = first_shape(decoder)[-1]
    if encoder.output_shape[-1] != 2 * takes:
        raise ValueError(
            "`encoder` must return twice as many values as `decoder` takes. "
            f"Received: {encoder.output_shape[-1]} and {takes}. "
            "End the encoder with `Dense(2 * latent_dim)`."
        )
    return takes


@keras.saving.register_keras_serializable("genai_utils")
class AppendClass(layers.Layer):
    r"""Append to ``x`` what is known of its class, the same at every position.

    .. math:: (x, y) \mapsto [x;\, t_y]

    :math:`t_y` is the row :math:`y` of the unit matrix (one-hot), or of a table that
    is learnt (an embedding).  Before a dense layer this is eq. (14.5).

    Args:
        num_classes: Number of classes.
        width: Features of the embedding; ``None`` for one-hot.
        seed: Seed of the embedding's start.
        **kwargs: Passed to ``keras.layers.Layer``.

    Reference:
        Mirza and Osindero (2014).
    """

    takes_labels = True

    def __init__(
        self, num_classes: int, width: int | None = None, seed: int = 0, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.num_classes = check_positive(num_classes, "num_classes")
        self.width, self.seed = width, seed
        if width is not None:
            start = keras.initializers.RandomNormal(0.0, 1.0, seed)
            self.table = self.add_weight((num_classes, width), start, name="table")
        self.built = True

    def call(self, inputs: Any) -> Any:
        """Return ``x`` ``(B, ..., C)`` with further channels.

        Args:
            inputs: ``[x, labels]``, labels of shape ``(B, 1)``.
        """
        x, labels = inputs
        y = ops.cast(labels[:, 0], "int32")
        if self.width is None:
            told = ops.one_hot(y, self.num_classes, dtype=x.dtype)  # (B, K)
        else:
            told = ops.cast(ops.take(self.table, y, axis=0), x.dtype)  # (B, width)
        told = ops.reshape(told, (-1, *[1] * (len(x.shape) - 2), told.shape[-1]))
        everywhere = ops.ones_like(x[..., :1])  # (B, ..., 1)
        return ops.concatenate([x, told * everywhere], axis=-1)

    def compute_output_shape(self, shapes: Any) -> Any:
        """Return the shape of ``x`` with more channels."""
        more = self.num_classes if self.width is None else self.width
        return (*shapes[0][:-1], shapes[0][-1] + more)

    def get_config(self) -> dict:
        """Return what is needed to make the layer again."""
        names = ("num_classes", "width", "seed")
        return {**super().get_config(), **{n: getattr(self, n) for n in names}}


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
        _check_heads(width, heads)
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


@keras.saving.register_keras_serializable("genai_utils")
class CrossAttention(layers.Layer):
    r"""Several heads of attention from one sequence to another, eq. (27.4).

    .. math:: \operatorname{softmax}\!\left((XW_Q)(YW_K)^\top/\sqrt d\right) YW_V

    Queries come from ``x``, for instance positions of an image; keys and values from
    ``y``, for instance the words of a caption.

    Args:
        width: Features of ``x``, a multiple of ``heads``.
        heads: Number of heads.
        other: Features of ``y``; ``None`` for ``width``.
        shrink: Factor on the initial weights of the output projection.
        seed: Seed of the weights.
        **kwargs: Passed to ``keras.layers.Layer``.

    Reference:
        Vaswani et al. (2017), section 3.2.3; Rombach et al. (2022), section 3.3, for
        images that look at words.
    """

    def __init__(
        self,
        width: int,
        heads: int = 4,
        *,
        other: int | None = None,
        shrink: float = 1.0,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        _check_heads(width, heads)
        self.width, self.heads, self.other = width, heads, other or width
        self.shrink, self.seed = shrink, seed
        self.query = _dense(width, width, seed)
        self.key = _dense(self.other, width, seed + 1)
        self.value = _dense(self.other, width, seed + 2)
        self.project = _dense(width, width, seed + 3, shrink)
        self.built = True

    def call(self, x: Any, y: Any, return_weights: bool = False) -> Any:
        """Return what each position of ``x`` takes from ``y``.

        Args:
            x: Shape ``(B, T, width)``.
            y: Shape ``(B, S, other)``.
            return_weights: Whether to return the attention weights, too.

        Returns:
            Shape ``(B, T, width)``; with weights a pair, those ``(B, heads, T, S)``.
        """
        q, k, v = self._split(self.query(x)), self._split(self.key(y)), self.value(y)
        mixed, weights = attention(q, k, self._split(v))  # (B, heads, T, head_dim)
        mixed = ops.reshape(ops.swapaxes(mixed, 1, 2), (-1, *x.shape[1:]))
        out = self.project(mixed)
        return (out, weights) if return_weights else out

    def _split(self, x: Any) -> Any:
        """(B, T, width) as (B, heads, T, head_dim)."""
        parts = (-1, x.shape[1], self.heads, self.width // self.heads)
        return ops.swapaxes(ops.reshape(x, parts), 1, 2)

    def compute_output_shape(self, shape: Any, *_: Any) -> Any:
        """Return the shape of ``x``."""
        return shape

    def get_config(self) -> dict:
        """Return what is needed to make the layer again."""
        names = ("width", "heads", "other", "shrink", "seed")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


def _check_heads(width: int, heads: int) -> None:
    if width % heads:
        raise ValueError(
            f"`width` must be a multiple of `heads`. Received: {width}, {heads}. "
            "Give each head the same whole number of features."
        )


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


@keras.saving.register_keras_serializable("genai_utils")
class VectorQuantizer(layers.Layer):
    r"""A codebook: each vector is replaced by the nearest of ``num_codes`` vectors.

    .. math:: k(z) = \arg\min_k \lVert z - e_k \rVert^2, \qquad z_q = e_{k(z)}

    Eq. (8.1).  Forwards it returns :math:`z_q`; backwards the gradient of
    :math:`z_q` is that of ``z``, unchanged (straight-through, eq. (8.2)).

    Args:
        num_codes: Number ``K`` of codes.
        dim: Length of each vector.
        update: ``"ema"``: each code is the moving average of the vectors that chose it,
            eq. (8.4), and moves in :meth:`follow`; ``"loss"``: the codes are weights
            that a codebook loss trains.
        memory: What the average keeps in each step, in [0, 1) (``"ema"`` only).
        restart_below: A code that on average is chosen less often than this in a batch
            is put on a random vector of the batch; 0 for never (``"ema"`` only).
        spread: Standard deviation of the codes at the start.  With restarts the first
            batch replaces them.
        seed: Seed of the codes and of the restarts.
        **kwargs: Passed to ``keras.layers.Layer``.

    Reference:
        van den Oord, Vinyals and Kavukcuoglu (2017), section 3 and appendix A.1, where
        ``memory`` is their :math:`\gamma`; Dhariwal et al. (2020) for restarts.
    """

    def __init__(
        self,
        num_codes: int,
        dim: int,
        *,
        update: str = "ema",
        memory: float = 0.95,
        restart_below: float = 1.0,
        spread: float = 1.0,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**{"dtype": "float32"} | kwargs)
        for name, value in {"num_codes": num_codes, "dim": dim}.items():
            check_positive(value, name)
        check_choice(update, "update", ("ema", "loss"))
        check_positive(restart_below, "restart_below", zero_ok=True)
        if check_positive(memory, "memory", zero_ok=True) >= 1:
            raise ValueError(
                f"`memory` must lie in [0, 1). Received: {memory}. At 1 no code would "
                "ever move; take 0.95 or 0.99."
            )
        self.num_codes, self.dim, self.mode = num_codes, dim, update
        self.memory, self.restart_below, self.spread = memory, restart_below, spread
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)
        start = keras.initializers.RandomNormal(0.0, spread, seed)
        shape = (num_codes, dim)
        if update == "loss":
            self.codes = self.add_weight(shape, start, name="codes")
        else:  # codes = sums / counts; so small that the first batch counts in full
            few = keras.initializers.Constant(_FEW)
            kind = {"trainable": False, "aggregation": "mean"}  # over replicas
            self.counts = self.add_weight((num_codes,), few, name="counts", **kind)
            self.sums = self.add_weight(shape, start, name="sums", **kind)
            self.sums.assign(self.sums * _FEW)
        self.built = True

    @property
    def codebook(self) -> Any:
        """The codes, shape ``(K, dim)``."""
        if self.mode == "loss":
            return ops.convert_to_tensor(self.codes)
        return self.sums / _column(self.counts)

    def nearest(self, z: Any) -> Any:
        """Return the number of the nearest code of each vector, int32, ``(...,)``.

        Args:
            z: Vectors, shape ``(..., dim)``.
        """
        z, e = ops.cast(z, "float32"), self.codebook
        scores = ops.sum(ops.square(e), axis=1) - 2.0 * ops.matmul(z, ops.transpose(e))
        return ops.cast(ops.argmin(scores, axis=-1), "int32")

    def lookup(self, codes: Any) -> Any:
        """Return the vectors of codes ``(...,)``, shape ``(..., dim)``."""
        return ops.take(self.codebook, codes, axis=0)

    def call(self, z: Any) -> Any:
        """Return :math:`z_q`, with the gradient straight through to ``z``.

        Args:
            z: Vectors, shape ``(..., dim)``.
        """
        z = ops.cast(z, "float32")
        return z + ops.stop_gradient(self.lookup(self.nearest(z)) - z)

    def follow(self, z: Any, codes: Any) -> None:
        """Move the codes towards the vectors that chose them, eq. (8.4), and restart.

        Args:
            z: Vectors of a batch, shape ``(..., dim)``.
            codes: What they chose, from :meth:`nearest`, shape ``(...,)``.
        """
        if self.mode == "loss":
            return
        z = ops.reshape(ops.stop_gradient(ops.cast(z, "float32")), (-1, self.dim))
        chosen = ops.one_hot(ops.reshape(codes, (-1,)), self.num_codes, dtype="float32")
        found = ops.sum(chosen, axis=0)  # (K,)
        # what fades to nothing stops fading: sums / counts stays a number
        lasts = (self.memory * self.counts > _FEW) | (found > 0)
        keep = ops.where(lasts, self.memory, 1.0)
        new = ops.matmul(ops.transpose(chosen), z)  # (K, dim)
        sums = _column(keep) * self.sums + (1.0 - self.memory) * new
        counts = keep * self.counts + (1.0 - self.memory) * found
        if self.restart_below:
            sums, counts = self._restarted(sums, counts, z)
        self.sums.assign(sums)
        self.counts.assign(counts)

    def _restarted(self, sums: Any, counts: Any, z: Any) -> tuple[Any, Any]:
        """Put codes that were out of use before this batch on vectors ``z`` of it."""
        dead = self.counts < self.restart_below
        seed, top = self.seed_generator, ops.shape(z)[0]
        rows = keras.random.uniform((self.num_codes,), seed=seed)
        rows = ops.cast(rows * ops.cast(top, "float32"), "int32")
        rows = ops.minimum(rows, top - 1)
        count = 2.0 * self.restart_below  # time to find vectors of its own
        moved = count * ops.take(z, rows, axis=0)
        return (
            ops.where(_column(dead), moved, sums),
            ops.where(dead, count, counts),
        )

    def get_config(self) -> dict:
        """Return what is needed to make the layer again."""
        names = ("num_codes", "dim", "memory", "restart_below", "spread", "seed")
        mine = {name: getattr(self, name) for name in names}
        return {**super().get_config(), **mine, "update": self.mode}


def _column(values: Any) -> Any:
    """(K,) as (K, 1)."""
    return ops.expand_dims(values, 1)
