"""Diffusion models: one player that learns to see the noise in noisy data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from genai_utils import samplers
from genai_utils.checks import check_choice, check_labels, check_positive
from genai_utils.game import Field, Game, Player
from genai_utils.networks import make_time_mlp, make_unet, predict_at
from genai_utils.schedules import (
    KINDS,
    check_schedule,
    cosine_schedule,
    from_eps,
    to_eps,
)

__all__ = ["Diffusion", "make_image_diffusion", "make_point_diffusion", "noise_time"]


@keras.saving.register_keras_serializable("genai_utils")
class Diffusion(Game):
    r"""A network that is shown noisy data at every noise level, and cleans them.

    Its loss is the mean square of what it gets wrong, which for ``kind="eps"`` is
    :math:`E\lVert\epsilon-\hat\epsilon(x_t, t)\rVert^2` over the number of values,
    with t uniform in 1, ..., T.

    Args:
        network: Takes ``[x_t, time]``, or ``[x_t, time, labels]``; the time,
            ``(B, 1)``, is :func:`noise_time` of the noise level.
        alpha_bar_t: The schedule, of ``genai_utils.schedules``.
        kind: What the network predicts: ``"eps"``, ``"x0"`` or ``"v"``.
        num_classes: Number of classes of a model that is fed ``(x, y)``; ``None`` for a
            model without.
        label_dropout: Share of the labels that are hidden in training, so that the
            model also learns to do without, in [0, 1).
        data_range: Range that ``fit`` demands of its data; samples are cut to it.
            ``(None, None)`` for none.
        seed: Seed of noise, times and hidden labels.
        **kwargs: Passed to ``keras.Model``.

    Reference:
        Ho, Jain and Abbeel (2020), algorithm 1; Salimans and Ho (2022) for ``"v"``; Ho
        and Salimans (2022) for hidden labels.
    """

    def __init__(
        self,
        network: keras.Model,
        alpha_bar_t: Sequence[float],
        *,
        kind: str = "eps",
        num_classes: int | None = None,
        label_dropout: float = 0.1,
        data_range: tuple[float | None, float | None] = (-1.0, 1.0),
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_choice(kind, "kind", KINDS)
        check_positive(label_dropout, "label_dropout", zero_ok=True)
        _check_inputs(network, num_classes)
        self.network, self.kind, self.seed = network, kind, seed
        self.schedule = check_schedule(alpha_bar_t)
        self.num_classes, self.label_dropout = num_classes, label_dropout
        self.data_range = tuple(data_range)
        self.data = Field("float32", *self.data_range)
        if num_classes is not None:
            self.condition = Field("int32", 0, num_classes - 1)
        self.seed_generator = keras.random.SeedGenerator(seed)
        self.built = True

    @property
    def num_steps(self) -> int:
        """The number T of steps."""
        return len(self.schedule) - 1

    def players(self) -> list[Player]:
        """Return the one player."""
        return [Player("diffusion", [self.network], self._loss)]

    def _loss(self, x: Any, *rest: Any) -> Any:
        *labels, training = rest
        batch = ops.shape(x)[0]
        t = keras.random.randint(
            (batch,), 1, self.num_steps + 1, seed=self.seed_generator
        )
        levels = ops.take(ops.convert_to_tensor(self.schedule.astype("float32")), t)
        table = noise_time(self.schedule).astype("float32")
        times = ops.take(ops.convert_to_tensor(table), t)
        a = ops.reshape(levels, (batch,) + (1,) * (len(x.shape) - 1))
        eps = keras.random.normal(ops.shape(x), seed=self.seed_generator)
        x_t = ops.sqrt(a) * x + ops.sqrt(1.0 - a) * eps
        inputs = [x_t, times[:, None], *(self._hidden(y) for y in labels)]
        found = ops.cast(self.network(inputs, training=training), "float32")
        return ops.mean(ops.square(found - from_eps(eps, x_t, a, self.kind)))

    def _hidden(self, labels: Any) -> Any:
        """Labels (B, 1), some of them replaced by the one that says nothing."""
        u = keras.random.uniform(ops.shape(labels), seed=self.seed_generator)
        hidden = ops.full_like(labels, self.num_classes)
        return ops.where(u < self.label_dropout, hidden, labels)[:, None]

    def predict_noise(
        self, x_t: np.ndarray, alpha_bar: float, labels: Any = None
    ) -> np.ndarray:
        r"""Return the noise :math:`\hat\epsilon` that the network sees.

        Args:
            x_t: Noisy data, shape ``(n, ...)``.
            alpha_bar: The noise level, in (0, 1); it need not be one of the schedule's.
            labels: Classes ``(n,)``, or one for all; ``None`` hides them.

        Returns:
            float64, same shape.
        """
        x_t = np.asarray(x_t, "float64")
        classes = self._labels(labels, len(x_t))
        found = predict_at(self.network, x_t, noise_time(alpha_bar), classes)
        return to_eps(found, x_t, alpha_bar, self.kind)

    def _labels(self, labels: Any, n: int) -> np.ndarray | None:
        """Labels ``(n, 1)``, the one that says nothing where they are hidden."""
        if labels is None and self.num_classes is not None:
            return np.full((n, 1), self.num_classes, "int32")
        return check_labels(labels, n, self.num_classes)

    def denoiser(self, labels: Any = None, guidance: float = 1.0) -> Any:
        """Return ``eps_fn(x_t, alpha_bar)`` for the functions of ``samplers``.

        Args:
            labels: Classes ``(n,)``, or one for all; ``None`` for a model without.
            guidance: 1 follows the labels, above 1 exaggerates them.
        """

        def plain(x: np.ndarray, a: float) -> np.ndarray:
            return self.predict_noise(x, a)

        if labels is None:
            return plain

        def told(x: np.ndarray, a: float) -> np.ndarray:
            return self.predict_noise(x, a, labels)

        return told if guidance == 1 else samplers.guided(told, plain, guidance)

    def sample(
        self,
        n: int,
        seed: int = 0,
        *,
        steps: int | None = None,
        sampler: str = "ancestral",
        labels: Any = None,
        guidance: float = 1.0,
    ) -> np.ndarray:
        """Draw ``n`` samples, as NumPy.

        Args:
            n: How many, at least 1.
            seed: Seed of all noise.
            steps: Steps of the sampler; ``None`` for all of the schedule, or 20 of
                ``"heun"``, which chooses levels of its own.
            sampler: ``"ancestral"``, ``"ddim"`` or ``"heun"``.
            labels: As in :meth:`denoiser`.
            guidance: As in :meth:`denoiser`.

        Returns:
            float32, shape ``(n, ...)``, in the data's range.
        """
        check_positive(n, "n")
        check_choice(sampler, "sampler", ("ancestral", "ddim", "heun"))
        rng = np.random.default_rng(seed)
        x = rng.standard_normal((n, *self.network.input_shape[0][1:]))
        eps_fn = self.denoiser(labels, guidance)
        clip = 1.0 if self.data_range == (-1.0, 1.0) else None
        if sampler == "heun":
            x = samplers.heun(eps_fn, x, samplers.karras_levels(steps or 20))
        else:
            levels = samplers.spaced(self.schedule, steps or self.num_steps)
            if sampler == "ancestral":
                x = samplers.ancestral(eps_fn, x, levels, rng, clip)
            else:
                x = samplers.ddim(eps_fn, x, levels, clip=clip)
        return np.clip(x, *self.data_range).astype("float32")

    def _settings(self) -> dict:
        names = ("network", "kind", "num_classes", "label_dropout", "seed")
        settings = {name: getattr(self, name) for name in names}
        settings["alpha_bar_t"] = self.schedule.tolist()
        return settings | {"data_range": list(self.data_range)}


def noise_time(alpha_bar: Any) -> np.ndarray:
    r"""Return a time in [0, 1] for a noise level, the same for every schedule.

    .. math:: \frac2\pi\arccos\sqrt{\bar\alpha}

    Args:
        alpha_bar: In [0, 1], any shape.

    Returns:
        Same shape; 0 for clean data, 1 for pure noise.
    """
    return 2 / np.pi * np.arccos(np.sqrt(alpha_bar))


def _check_inputs(network: keras.Model, num_classes: int | None) -> None:
    wanted = 2 if num_classes is None else 3
    if len(network.inputs) != wanted:
        names = "[x, time]" if num_classes is None else "[x, time, labels]"
        raise ValueError(
            f"`network` must take {names}. Received: {len(network.inputs)} inputs with "
            f"`num_classes={num_classes}`. See `genai_utils.networks`."
        )


def make_point_diffusion(
    dim: int = 2,
    hidden: Sequence[int] = (128, 128, 128),
    num_steps: int = 100,
    *,
    num_classes: int | None = None,
    seed: int = 0,
    **kwargs: Any,
) -> Diffusion:
    r"""Make a diffusion model of points that predicts v, with a cosine schedule.

    Where almost no signal is left, the clean data that a predicted noise implies are
    its error divided by :math:`\sqrt{\bar\alpha}`: images are clipped, points are not.

    Args:
        dim: Coordinates of a point.
        hidden: Widths of the hidden layers.
        num_steps: Steps of the schedule.
        num_classes: As in :class:`Diffusion`.
        seed: Seed of weights and noise.
        **kwargs: Those of :class:`Diffusion`.

    Returns:
        The model, not compiled.
    """
    network = make_time_mlp(dim, hidden, num_classes=num_classes, seed=seed)
    settings = {"kind": "v", "data_range": (None, None)}
    settings |= {"alpha_bar_t": cosine_schedule(num_steps)}
    settings |= {"num_classes": num_classes, "seed": seed} | kwargs
    return Diffusion(network, **settings)


def make_image_diffusion(
    image_shape: Sequence[int] = (16, 16, 1),
    widths: Sequence[int] = (32, 64),
    num_steps: int = 200,
    *,
    blocks: int = 1,
    patch: int = 1,
    num_classes: int | None = None,
    seed: int = 0,
    **kwargs: Any,
) -> Diffusion:
    """Make a diffusion model of images, a small U-Net with a cosine schedule.

    Args:
        image_shape: ``(H, W, C)``.
        widths: Channels at each size.
        num_steps: Steps of the schedule.
        blocks: Residual blocks at each size.
        patch: Side of squares of pixels that are read as one position.
        num_classes: As in :class:`Diffusion`.
        seed: Seed of weights and noise.
        **kwargs: Those of :class:`Diffusion`.

    Returns:
        The model, not compiled.
    """
    network = make_unet(
        image_shape,
        widths,
        blocks=blocks,
        patch=patch,
        num_classes=num_classes,
        seed=seed,
    )
    settings = {"alpha_bar_t": cosine_schedule(num_steps)}
    settings |= {"num_classes": num_classes, "seed": seed} | kwargs
    return Diffusion(network, **settings)
