"""Detectors for a GAN that falls ill: callbacks that warn, with numbers, and remember.

Each looks at the game after an epoch, keeps what it measured in ``history``, and warns
once for each illness.  They change nothing: a game trains as it would without them.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from genai_utils import backends
from genai_utils.checks import check_array, check_positive
from genai_utils.metrics import nearest_neighbours

__all__ = ["DiscriminatorWatch", "ModeCoverage", "mode_finder"]


def mode_finder(centers: Any, radius: float) -> Callable[[np.ndarray], np.ndarray]:
    """Return what :class:`ModeCoverage` asks for, for modes with known centres.

    Args:
        centers: Modes ``(k, d)``.
        radius: A sample within this Euclidean distance of its nearest mode is there.

    Returns:
        A function from samples ``(n, d)`` to the number of each one's mode ``(n,)``,
        -1 where no mode is near.
    """
    centers = check_array(centers, "centers", ndim=2)
    check_positive(radius, "radius")

    def modes_of(x: np.ndarray) -> np.ndarray:
        index, distance = nearest_neighbours(x, centers)
        return np.where(distance <= radius, index, -1)

    return modes_of


class _Watch(keras.callbacks.Callback):
    """Looks after every few epochs, and warns once for each illness that lasts."""

    def __init__(self, samples: int, every: int, patience: int, seed: int) -> None:
        super().__init__()
        for value, name in (
            (samples, "samples"),
            (every, "every"),
            (patience, "patience"),
        ):
            check_positive(value, name)
        self.samples, self.every = samples, every
        self.patience, self.seed = patience, seed

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Begin a new history."""
        self.history: dict[str, list] = {"epoch": []}
        self._ill: dict[str, int] = {}

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Look, if it is time."""
        if (epoch + 1) % self.every:
            return
        for name, value in {"epoch": epoch + 1, **self.look()}.items():
            self.history.setdefault(name, []).append(value)
        self.judge()

    def look(self) -> dict[str, Any]:
        """Return what is measured now, by name."""
        raise NotImplementedError

    def judge(self) -> None:
        """Compare the history with the limits, and warn."""
        raise NotImplementedError

    def _now(self, name: str) -> Any:
        return self.history[name][-1]

    def _note(self, illness: str, found: bool, message: str) -> None:
        """Warn when an illness has been found ``patience`` times in a row, once."""
        before = self._ill.get(illness, 0)
        self._ill[illness] = before + 1 if found or before >= self.patience else 0
        if self._ill[illness] == self.patience:
            when = f"Epoch {self._now('epoch')}: "
            warnings.warn(when + message, UserWarning, stacklevel=2)

    def _fakes(self) -> np.ndarray:
        """Samples from the same noise each time, shape ``(samples, ...)``."""
        if getattr(self.model, "num_classes", None) is not None:
            return self.model.sample(self.samples, seed=self.seed)
        noise = (self.samples, self.model.latent_dim)
        z = np.random.default_rng(self.seed).standard_normal(noise).astype("float32")
        made = self.model.generator(ops.convert_to_tensor(z), training=False)
        return ops.convert_to_numpy(made).astype("float32")


class ModeCoverage(_Watch):
    """Count the modes that a generator's samples reach, and warn of mode collapse.

    ``history`` holds ``epoch``, ``covered`` (how many modes), ``near`` (share of the
    samples that belong to some mode) and ``shares`` (of each mode, ``(num_modes,)``).

    Args:
        modes_of: Maps samples ``(n, ...)`` to the number of each one's mode ``(n,)``,
            from 0; -1 where a sample belongs to none.  :func:`mode_finder` makes one
            for points; for images ask a judge.
        num_modes: How many modes there are.
        min_share: Share of the samples that a mode needs to count as covered.
        alarm: Warn below this share of the modes.
        patience: Looks in a row that must be below before it warns.
        samples: How many samples to draw.
        every: Epochs from one look to the next.
        seed: Seed of the noise, which is the same at each look.

    Warns:
        UserWarning: Once, with the count, when the alarm has lasted.
    """

    def __init__(
        self,
        modes_of: Callable[[np.ndarray], np.ndarray],
        num_modes: int,
        *,
        min_share: float = 0.01,
        alarm: float = 0.5,
        patience: int = 10,
        samples: int = 2000,
        every: int = 1,
        seed: int = 0,
    ) -> None:
        super().__init__(samples, every, patience, seed)
        for value, name in (
            (num_modes, "num_modes"),
            (min_share, "min_share"),
            (alarm, "alarm"),
        ):
            check_positive(value, name)
        self.modes_of, self.num_modes = modes_of, num_modes
        self.min_share, self.alarm = min_share, alarm

    def look(self) -> dict[str, Any]:
        """Draw samples and count."""
        found = np.asarray(self.modes_of(self._fakes()))
        found = check_array(
            found, "modes_of(x)", ndim=1, low=-1, high=self.num_modes - 1
        )
        counts = np.bincount(found[found >= 0].astype(int), minlength=self.num_modes)
        shares = counts / len(found)
        covered = int((shares >= self.min_share).sum())
        return {"covered": covered, "near": float(shares.sum()), "shares": shares}

    def judge(self) -> None:
        """Warn of mode collapse."""
        covered, shares = self._now("covered"), self._now("shares")
        largest = f"mode {shares.argmax()} gets {shares.max():.0%} of the samples"
        self._note(
            "collapse",
            covered < self.alarm * self.num_modes,
            f"mode collapse. Samples cover {covered} of {self.num_modes} modes, for "
            f"{self.patience} looks in a row; {largest}, {1 - shares.sum():.0%} are "
            "near none. Let the generator learn more slowly than the discriminator, "
            "or set `r1_weight`.",
        )


class DiscriminatorWatch(_Watch):
    r"""Ask whether a discriminator still teaches: has it won, does it memorise?

    ``history`` holds ``epoch`` and, each a mean over samples at inference,
    ``real_logit``, ``fake_logit``, ``right`` (share of both that it gets right), the
    norms ``minimax_gradient`` and ``non_saturating_gradient`` of either loss's
    gradient with respect to one generated sample, eq. (12.9),

    .. math:: \sigma(a)\,\lVert\nabla_x a\rVert, \qquad
        (1-\sigma(a))\,\lVert\nabla_x a\rVert,

    and, if there are held-out samples, ``held_out_logit`` and ``memory``, eq. (12.10),

    .. math:: r = \frac{E\,a(x_{train}) - E\,a(x_{held\ out})}
                       {E\,a(x_{train}) - E\,a(x_{fake})}.

    Args:
        real: Samples that the discriminator is trained on, ``(n, ...)``.
        held_out: Real samples that it never sees, or ``None``.
        wins: Warn when it is right on at least this share of real and generated
            samples.
        memorises: Warn when ``memory`` is at least this: 0 where held-out samples are
            judged as training samples are, 1 where they are judged as fakes.
        patience: Looks in a row that must be over a limit before it warns.
        samples: At most so many samples of each kind.
        every: Epochs from one look to the next.
        seed: Seed of the noise, which is the same at each look.

    Raises:
        ValueError: If the samples are not finite or differ in shape, or, when training
            begins, if the game has classes.

    Warns:
        UserWarning: Once for each of the two, with the numbers.

    Reference:
        Karras et al. (2020), Training generative adversarial networks with limited
        data, equation 1, for ``memory``, which they call :math:`r_v`.
    """

    def __init__(
        self,
        real: Any,
        held_out: Any = None,
        *,
        wins: float = 0.98,
        memorises: float = 0.5,
        patience: int = 5,
        samples: int = 500,
        every: int = 1,
        seed: int = 0,
    ) -> None:
        super().__init__(samples, every, patience, seed)
        self.real = check_array(real, "real")[:samples].astype("float32")
        self.held_out = held_out
        if held_out is not None:
            shape = (None, *self.real.shape[1:])
            held_out = check_array(held_out, "held_out", shape=shape)
            self.held_out = held_out[:samples].astype("float32")
        check_positive(wins, "wins")
        check_positive(memorises, "memorises")
        self.wins, self.memorises = wins, memorises

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Refuse a game with classes, and begin a new history."""
        if getattr(self.model, "num_classes", None) is not None:
            raise ValueError(
                "`DiscriminatorWatch` looks at games without classes. Received: a "
                f"game with {self.model.num_classes}. Use `ModeCoverage`, or write "
                "a callback that passes the labels."
            )
        super().on_train_begin(logs)

    def _logits(self, x: np.ndarray) -> np.ndarray:
        logits = self.model.discriminator(ops.convert_to_tensor(x), training=False)
        return ops.convert_to_numpy(logits).astype("float64").ravel()

    def look(self) -> dict[str, Any]:
        """Measure logits and gradients."""
        fakes = self._fakes()
        real, fake = self._logits(self.real), self._logits(fakes)
        gradient = backends.input_gradients(
            lambda x: self.model.discriminator(x, training=False),
            ops.convert_to_tensor(fakes),
        )
        gradient = ops.convert_to_numpy(gradient).reshape(len(fakes), -1)
        norms = np.linalg.norm(gradient.astype("float64"), axis=1)
        trusted = 0.5 * (1 + np.tanh(0.5 * fake))  # sigmoid, without overflow
        found = {
            "real_logit": real.mean(),
            "fake_logit": fake.mean(),
            "right": 0.5 * ((real > 0).mean() + (fake < 0).mean()),
            "minimax_gradient": (trusted * norms).mean(),
            "non_saturating_gradient": ((1 - trusted) * norms).mean(),
        }
        if self.held_out is not None:
            held_out = self._logits(self.held_out).mean()
            apart = real.mean() - fake.mean()
            memory = (real.mean() - held_out) / apart if apart > 0.5 else 0.0
            found |= {"held_out_logit": held_out, "memory": memory}
        return {name: float(value) for name, value in found.items()}

    def judge(self) -> None:
        """Warn of a discriminator that wins, and of one that memorises."""
        self._note(
            "wins",
            self._now("right") >= self.wins,
            f"the discriminator wins. It is right on {self._now('right'):.1%} of real "
            f"and generated samples, for {self.patience} looks in a row. The gradient "
            f"that reaches a sample is {self._now('minimax_gradient'):.2g} with the "
            f"minimax loss, {self._now('non_saturating_gradient'):.2g} with the "
            "non-saturating one. Slow it down, or set `r1_weight`.",
        )
        if self.held_out is None:
            return
        gap = self._now("real_logit") - self._now("held_out_logit")
        self._note(
            "memorises",
            self._now("memory") >= self.memorises,
            f"the discriminator memorises. Logits of training samples are {gap:.1f} "
            f"above those of held-out ones, {self._now('memory'):.0%} of the way down "
            "to the generated. Give it more data, dropout or an `augmentation`.",
        )
