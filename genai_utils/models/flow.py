"""Flows: matched velocity fields, and coupling layers whose density is exact."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from genai_utils import losses, samplers
from genai_utils.checks import check_array, check_positive
from genai_utils.game import Field, Game, Player
from genai_utils.layers import dense_stack, seeded
from genai_utils.networks import (
    make_text_transformer,
    make_time_mlp,
    make_unet,
    predict_at,
)

__all__ = [
    "CouplingFlow",
    "FlowMatching",
    "make_coupling_flow",
    "make_image_flow",
    "make_point_flow",
    "make_text_flow",
]

_LOG_2PI = math.log(2 * math.pi)


@keras.saving.register_keras_serializable("genai_utils")
class FlowMatching(Game):
    r"""A velocity field that carries noise to data along nearly straight lines.

    .. math:: E\lVert v(x_t, t) - (x_1 - x_0)\rVert^2, \qquad
        x_t = (1 - t)\,x_0 + t\,x_1

    with :math:`x_0` noise, :math:`x_1` data and t uniform in [0, 1].

    Args:
        network: Takes ``[x_t, t]``, ``t`` of shape ``(B, 1)``, returns velocities.
        vocab_size: Number of tokens of a model that reads captions: ``fit`` is given
            ``(x, y)`` with ``y`` rows of tokens, and the network takes
            ``[x_t, t, tokens]``; ``None`` for a model without.  Token 0 is padding.
        text_dropout: Share of the captions that are replaced by padding in training,
            so that the model also learns to do without, in [0, 1).
        shift: How strongly training prefers times near the noise, at least 1: uniform
            times ``u`` become :math:`u / (u + s (1 - u))`.  Captions only matter
            there: later the image itself shows what it will be.
        paired: Whether ``fit`` is given pairs: ``(x, y)`` with ``y`` the noise that
            each ``x`` shall come from: by optimal transport, or by a first flow.
        data_range: Range that ``fit`` demands of its data; ``(None, None)`` for none.
        seed: Seed of noise and times.
        **kwargs: Passed to ``keras.Model``.

    Reference:
        Lipman et al. (2023), equation 23 with a smallest width of 0; Liu, Gong and Liu
        (2023), equation 1.  Time runs from noise to data in both.  Ho and Salimans
        (2022) for hidden captions; Esser et al. (2024), equation 23, for ``shift``.
    """

    def __init__(
        self,
        network: keras.Model,
        *,
        vocab_size: int | None = None,
        text_dropout: float = 0.1,
        shift: float = 1.0,
        paired: bool = False,
        data_range: tuple[float | None, float | None] = (-1.0, 1.0),
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_positive(text_dropout, "text_dropout", zero_ok=True)
        _check_reader(network, vocab_size, paired)
        self.network, self.paired, self.seed = network, paired, seed
        self.vocab_size, self.text_dropout = vocab_size, text_dropout
        self.shift = check_positive(shift, "shift")
        self.data_range = tuple(data_range)
        self.data = Field("float32", *self.data_range)
        self.condition = Field() if paired else None
        if vocab_size is not None:
            self.condition = Field("int32", 0, vocab_size - 1)
        self.seed_generator = keras.random.SeedGenerator(seed)
        self.built = True

    def players(self) -> list[Player]:
        """Return the one player."""
        return [Player("flow", [self.network], self._loss)]

    def _loss(self, x: Any, *rest: Any) -> Any:
        *given, training = rest
        seed = self.seed_generator
        x0 = given[0] if self.paired else keras.random.normal(ops.shape(x), seed=seed)
        t = keras.random.uniform((ops.shape(x)[0], 1), seed=seed)
        t = t / (t + self.shift * (1.0 - t))
        s = ops.reshape(t, (ops.shape(x)[0],) + (1,) * (len(x.shape) - 1))
        inputs = [(1.0 - s) * x0 + s * x, t]
        if self.vocab_size is not None:
            inputs.append(self._hidden(given[0]))
        found = ops.cast(self.network(inputs, training=training), "float32")
        return ops.mean(ops.square(found - (x - x0)))

    def _hidden(self, tokens: Any) -> Any:
        """Tokens (B, S), some rows of them replaced by padding."""
        u = keras.random.uniform((ops.shape(tokens)[0], 1), seed=self.seed_generator)
        return ops.where(u < self.text_dropout, ops.zeros_like(tokens), tokens)

    def velocity(self, x: np.ndarray, t: float, tokens: Any = None) -> np.ndarray:
        """Return the velocities at time ``t``, float64, in the shape of ``x``.

        Args:
            x: Points or images, shape ``(n, ...)``.
            t: In [0, 1]; 0 is noise, 1 data.
            tokens: Captions ``(n, S)``, or one ``(1, S)`` for all; ``None`` for none.
        """
        if self.vocab_size is None and tokens is not None:
            raise ValueError(
                "`tokens` are for a model that reads. Received: tokens for one that "
                "does not. Make it with `make_text_flow`."
            )
        return predict_at(self.network, x, t, self._tokens(tokens, len(x)))

    def _tokens(self, tokens: Any, n: int) -> np.ndarray | None:
        """Captions (n, S), all padding where there are none."""
        if self.vocab_size is None:
            return None
        words = self.network.input_shape[2][1]
        if tokens is None:
            return np.zeros((n, words), "int32")
        tokens = self.condition.check(tokens, "tokens")
        if tokens.shape not in ((1, words), (n, words)):
            raise ValueError(
                f"`tokens` must have shape ({n}, {words}), or (1, {words}) for all. "
                f"Received: {tokens.shape}. Give each image one row."
            )
        return np.broadcast_to(tokens, (n, words))

    def guided(self, tokens: Any, guidance: float = 1.0, instead: Any = None) -> Any:
        r"""Return ``velocity_fn(x, t)`` that exaggerates what a caption asks for.

        .. math:: v_w = v_\varnothing + w\,(v_y - v_\varnothing)

        Args:
            tokens: Captions :math:`y`, as in :meth:`velocity`.
            guidance: :math:`w`; 0 ignores the caption, 1 follows it.
            instead: A caption that takes the place of :math:`\varnothing`, from
                which the samples are pushed away; ``None`` for the empty one.

        Reference:
            Ho and Salimans (2022), equation 6; their :math:`w` is our :math:`w - 1`.
        """

        def told(x: np.ndarray, t: float) -> np.ndarray:
            return self.velocity(x, t, tokens)

        def plain(x: np.ndarray, t: float) -> np.ndarray:
            return self.velocity(x, t, instead)

        return told if guidance == 1 else samplers.guided(told, plain, guidance)

    def sample(
        self,
        n: int,
        seed: int = 0,
        *,
        steps: int = 20,
        method: str = "heun",
        tokens: Any = None,
        guidance: float = 1.0,
        instead: Any = None,
    ) -> np.ndarray:
        """Draw ``n`` samples, float32, in the data's range.

        Args:
            n: How many, at least 1.
            seed: Seed of the noise.
            steps: Steps of the solver.
            method: As in :func:`genai_utils.samplers.integrate`.
            tokens: As in :meth:`velocity`.
            guidance: As in :meth:`guided`.
            instead: As in :meth:`guided`.
        """
        check_positive(n, "n")
        rng = np.random.default_rng(seed)
        x = rng.standard_normal((n, *self.network.input_shape[0][1:]))
        field = self.guided(tokens, guidance, instead)
        x = samplers.integrate(field, x, steps, method)
        return np.clip(x, *self.data_range).astype("float32")

    def log_likelihood(self, x: np.ndarray, steps: int = 40) -> np.ndarray:
        r"""Return the log-density of points, by the continuous change of variables.

        .. math:: \log p_1(x_1) = \log p_0(x_0) - \int_0^1 \nabla\cdot v(x_t, t)\,dt

        The divergence is exact; it costs one gradient for each coordinate.

        Args:
            x: Points, shape ``(n, d)``, ``d`` small.
            steps: Steps of the solver (Heun).

        Returns:
            Nats, shape ``(n,)``.

        Reference:
            Chen et al. (2018), equation 8.
        """
        x = check_array(x, "x", ndim=2).astype("float64")
        total, h = np.zeros(len(x)), 1.0 / steps
        for i in range(steps):
            t = 1.0 - i * h
            v, div = self._with_divergence(x, t)
            v2, div2 = self._with_divergence(x - h * v, t - h)
            x, total = x - 0.5 * h * (v + v2), total + 0.5 * h * (div + div2)
        log_p0 = -0.5 * (x**2).sum(axis=1) - 0.5 * x.shape[1] * _LOG_2PI
        return log_p0 - total

    def _with_divergence(self, x: np.ndarray, t: float) -> tuple:
        """Velocities (n, d) and their divergences (n,)."""
        times = ops.full((len(x), 1), t, "float32")
        found = losses.divergence(
            lambda p: self.network([p, times], training=False),
            ops.convert_to_tensor(x.astype("float32")),
        )
        return self.velocity(x, t), ops.convert_to_numpy(found).astype("float64")

    def _settings(self) -> dict:
        names = ("network", "vocab_size", "text_dropout", "shift", "paired", "seed")
        settings = {name: getattr(self, name) for name in names}
        return settings | {"data_range": list(self.data_range)}


def _check_reader(network: keras.Model, vocab_size: int | None, paired: bool) -> None:
    if vocab_size is not None and (paired or len(network.inputs) != 3):
        raise ValueError(
            "`network` must take [x, t, tokens] where `vocab_size` is given, and "
            f"`paired` must be false. Received: {len(network.inputs)} inputs, "
            f"`paired={paired}`. See `genai_utils.networks.make_text_transformer`."
        )


@keras.saving.register_keras_serializable("genai_utils")
class CouplingFlow(Game):
    r"""A normalising flow: invertible layers from data to noise, with exact densities.

    .. math:: \log p(x) = \log\mathcal N(f(x); 0, I) + \log\left|\det J_f(x)\right|

    Each layer scales and shifts half of the coordinates by functions of the others:
    :math:`z_b = (x_b - t(x_a))\,e^{-s(x_a)}`, and the next layer swaps the halves.

    Args:
        nets: One network a layer, from ``(B, dim)`` with the moving half set to 0 to
            ``(B, 2 * dim)``: scales, then shifts.
        dim: Number of coordinates, at least 2.
        **kwargs: Passed to ``keras.Model``.

    Reference:
        Dinh, Sohl-Dickstein and Bengio (2017), section 3.  Their f runs from data to
        noise, as ours.
    """

    def __init__(self, nets: Sequence[keras.Model], dim: int = 2, **kwargs: Any):
        super().__init__(**kwargs)
        self.nets, self.dim = list(nets), dim
        self.built = True

    def players(self) -> list[Player]:
        """Return the one player."""
        return [Player("flow", self.nets, self._loss)]

    def _loss(self, x: Any, training: bool) -> Any:
        return -ops.mean(self.log_density(x))

    def log_density(self, x: Any) -> Any:
        """Return the log-densities ``(B,)`` of a tensor of points ``(B, dim)``."""
        z, log_det = self.to_noise(x)
        return -0.5 * ops.sum(z**2 + _LOG_2PI, axis=-1) + log_det

    def to_noise(self, x: Any) -> tuple[Any, Any]:
        """Return noise ``(B, dim)`` and log-determinants ``(B,)`` of points."""
        log_det = 0.0
        for i in range(len(self.nets)):
            scale, shift = self._coefficients(i, x)
            x = (x - shift) * ops.exp(-scale)
            log_det = log_det - ops.sum(scale, axis=-1)
        return x, log_det

    def to_data(self, z: Any) -> Any:
        """Return points ``(B, dim)`` of noise; the inverse of :meth:`to_noise`."""
        for i in reversed(range(len(self.nets))):
            scale, shift = self._coefficients(i, z)
            z = z * ops.exp(scale) + shift
        return z

    def _coefficients(self, i: int, x: Any) -> tuple[Any, Any]:
        """Scales and shifts of layer ``i``, zero where a coordinate stays."""
        stays = ops.cast(ops.arange(self.dim) % 2 == i % 2, x.dtype)
        scale, shift = ops.split(self.nets[i](x * stays), 2, axis=-1)
        moves = 1.0 - stays
        return 2.0 * ops.tanh(0.5 * scale) * moves, shift * moves

    def log_likelihood(self, x: np.ndarray) -> np.ndarray:
        """Return the log-densities of points, in nats, shape ``(n,)``.

        Args:
            x: Points, shape ``(n, dim)``.
        """
        x = check_array(x, "x", shape=(None, self.dim)).astype("float32")
        return ops.convert_to_numpy(self.log_density(ops.convert_to_tensor(x)))

    def sample(self, n: int, seed: int = 0) -> np.ndarray:
        """Draw ``n`` samples, shape ``(n, dim)``.

        Args:
            n: How many, at least 1.
            seed: Seed of the noise.
        """
        check_positive(n, "n")
        z = np.random.default_rng(seed).standard_normal((n, self.dim))
        made = self.to_data(ops.convert_to_tensor(z.astype("float32")))
        return ops.convert_to_numpy(made)

    def get_config(self) -> dict:
        """Return what is needed to make the model again."""
        nets = [keras.saving.serialize_keras_object(net) for net in self.nets]
        return {"nets": nets, "dim": self.dim, "name": self.name}

    @classmethod
    def from_config(cls, config: dict) -> CouplingFlow:
        """Make the model from :meth:`get_config`."""
        nets = config.pop("nets")
        made = [keras.saving.deserialize_keras_object(net) for net in nets]
        return cls(made, **config)


def make_coupling_flow(
    dim: int = 2,
    depth: int = 8,
    hidden: Sequence[int] = (64, 64),
    *,
    steepness: float = 8.0,
    seed: int = 0,
    **kwargs: Any,
) -> CouplingFlow:
    """Make a coupling flow; at the start it changes nothing.

    Scales and shifts must change fast where islands of data end.  So the first
    layers of the networks (tanh) start with steep steps, spread over the data; with
    gentle ones (ReLU, Glorot) a ring of spots is still badly matched after training.

    Args:
        dim: Number of coordinates, at least 2.
        depth: Number of layers, at least 2, so that every coordinate moves.
        hidden: Widths of the hidden layers of each network, at least one.
        steepness: Slope of the first steps for data of unit size, above 0.
        seed: Seed of the weights.
        **kwargs: Passed to :class:`CouplingFlow`.

    Returns:
        The model, not compiled.

    Raises:
        ValueError: If there are fewer than two coordinates or layers, or ``hidden``
            is empty.
    """
    if not hidden:
        raise ValueError(
            "`hidden` must hold at least one width: the first layer is the steep one. "
            f"Received: {hidden!r}. Give (64,) or more."
        )
    for value, name in ((dim, "dim"), (depth, "depth")):
        if value < 2:
            raise ValueError(
                f"`{name}` must be at least 2: one half moves while the other stays. "
                f"Received: {value}. Take more."
            )
    check_positive(steepness, "steepness")
    weights = seeded(seed)
    nets = [
        keras.Sequential(
            [
                layers.Input((dim,)),
                _steep(hidden[0], steepness / math.sqrt(0.5 * dim), seed + i),
                *dense_stack(hidden[1:], weights, activation="tanh"),
                layers.Dense(2 * dim, kernel_initializer="zeros"),
            ],
            name=f"coupling_{i}",
        )
        for i in range(depth)
    ]
    return CouplingFlow(nets, dim, **kwargs)


def _steep(width: int, slope: float, seed: int) -> Any:
    """A layer of steps with slopes of about ``slope``, somewhere within two units."""
    kernel = keras.initializers.RandomNormal(0.0, slope, seed)
    bias = keras.initializers.RandomUniform(-2 * slope, 2 * slope, seed + 1_000)
    return layers.Dense(width, "tanh", kernel_initializer=kernel, bias_initializer=bias)


def make_point_flow(
    dim: int = 2, hidden: Sequence[int] = (128, 128, 128), *, seed: int = 0, **kwargs
) -> FlowMatching:
    """Make a matched flow of points.

    Args:
        dim: Coordinates of a point.
        hidden: Widths of the hidden layers.
        seed: Seed of weights and noise.
        **kwargs: Those of :class:`FlowMatching`.

    Returns:
        The model, not compiled.
    """
    network = make_time_mlp(dim, hidden, seed=seed)
    return FlowMatching(network, seed=seed, **{"data_range": (None, None)} | kwargs)


def make_image_flow(
    image_shape: Sequence[int] = (16, 16, 1),
    widths: Sequence[int] = (32, 64),
    *,
    blocks: int = 1,
    patch: int = 1,
    seed: int = 0,
    **kwargs: Any,
) -> FlowMatching:
    """Make a matched flow of images, with the network of the diffusion model.

    Args:
        image_shape: ``(H, W, C)``.
        widths: Channels at each size.
        blocks: Residual blocks at each size.
        patch: Side of squares of pixels that are read as one position.
        seed: Seed of weights and noise.
        **kwargs: Those of :class:`FlowMatching`.

    Returns:
        The model, not compiled.
    """
    network = make_unet(image_shape, widths, blocks=blocks, patch=patch, seed=seed)
    return FlowMatching(network, seed=seed, **kwargs)


def make_text_flow(
    grid_shape: Sequence[int],
    vocab_size: int,
    max_words: int,
    *,
    seed: int = 0,
    text_dropout: float = 0.1,
    shift: float = 3.0,
    data_range: tuple[float | None, float | None] = (None, None),
    **kwargs: Any,
) -> FlowMatching:
    """Make a matched flow of grids of features that reads captions.

    Args:
        grid_shape: ``(H, W, C)``, of the codes of an autoencoder.
        vocab_size: Number of tokens, padding with it.
        max_words: Tokens in a caption.
        seed: Seed of weights and noise.
        text_dropout: As in :class:`FlowMatching`.
        shift: As in :class:`FlowMatching`.
        data_range: As in :class:`FlowMatching`.
        **kwargs: Those of :func:`genai_utils.networks.make_text_transformer`.

    Returns:
        The model, not compiled.
    """
    network = make_text_transformer(
        grid_shape, vocab_size, max_words, seed=seed, **kwargs
    )
    settings = {"text_dropout": text_dropout, "shift": shift, "seed": seed}
    return FlowMatching(
        network, vocab_size=vocab_size, data_range=data_range, **settings
    )
