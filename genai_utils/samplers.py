r"""From a denoiser to samples: NumPy functions that know no model.

A *denoiser* is a callable ``eps_fn(x_t, alpha_bar)``: noisy data ``(n, ...)`` and one
number in (0, 1) in, the noise :math:`\hat\epsilon` in them out, same shape.  A *field*
is a callable ``velocity_fn(x, t)`` with ``t`` in [0, 1].
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np

from genai_utils.checks import check_choice, check_positive
from genai_utils.schedules import posterior

__all__ = [
    "ancestral",
    "ddim",
    "guided",
    "heun",
    "integrate",
    "karras_levels",
    "langevin",
    "spaced",
]

Denoiser = Callable[[np.ndarray, float], np.ndarray]


def spaced(alpha_bar_t: np.ndarray, steps: int) -> np.ndarray:
    """Return a schedule of fewer steps, evenly spaced among the old ones.

    Args:
        alpha_bar_t: A schedule, shape ``(num_steps + 1,)``.
        steps: How many steps to keep, from 1 to ``num_steps``.

    Returns:
        Shape ``(steps + 1,)``; the first and the last entry stay.

    Raises:
        ValueError: If there are not so many steps.
    """
    check_positive(steps, "steps")
    most = len(alpha_bar_t) - 1
    if steps > most:
        raise ValueError(
            f"`steps` must be at most {most}. Received: {steps}. A schedule cannot "
            "have more steps than it was made with."
        )
    return alpha_bar_t[np.linspace(0, most, int(steps) + 1).round().astype(int)]


def karras_levels(
    steps: int, smallest: float = 0.01, largest: float = 80.0, rho: float = 7.0
) -> np.ndarray:
    r"""Return noise levels that crowd where there is little noise.

    .. math:: \sigma_i^{1/\rho} = \sigma_{\min}^{1/\rho}
        + \tfrac{i}{N-1}\left(\sigma_{\max}^{1/\rho} - \sigma_{\min}^{1/\rho}\right),
        \qquad \bar\alpha_i = \frac1{1+\sigma_i^2}

    Args:
        steps: Number N of steps, at least 1.
        smallest: The smallest :math:`\sigma`, before the last step to 0.
        largest: The largest, where a sampler starts.
        rho: How much they crowd; 1 spaces them evenly.

    Returns:
        A schedule ``alpha_bar_t``, shape ``(steps + 1,)``, from 1 downwards.

    Reference:
        Karras et al. (2022), equation 5.
    """
    check_positive(steps, "steps")
    low, high = smallest ** (1 / rho), largest ** (1 / rho)
    sigma = np.linspace(low, high, int(steps)) ** rho if steps > 1 else largest
    return np.concatenate([[1.0], np.ravel(1 / (1 + np.square(sigma)))])


def ancestral(
    eps_fn: Denoiser,
    x: np.ndarray,
    alpha_bar_t: np.ndarray,
    rng: np.random.Generator,
    clip: float | None = None,
) -> np.ndarray:
    r"""Walk back step by step, with new noise in each: the sampler of DDPM.

    .. math:: x_{t-1} \sim q(x_{t-1} \mid x_t, \hat x_0), \qquad \hat x_0 =
        \frac{x_t - \sqrt{1-\bar\alpha_t}\,\hat\epsilon}{\sqrt{\bar\alpha_t}}

    Args:
        eps_fn: The denoiser.
        x: Noise to start from, shape ``(n, ...)``.
        alpha_bar_t: A schedule; see :func:`spaced` for fewer steps.
        rng: Where the noise comes from.
        clip: Largest size of the values of :math:`\hat x_0`; ``None`` for no limit.

    Returns:
        Samples, same shape.

    Reference:
        Ho, Jain and Abbeel (2020), algorithm 2, with the smaller variance.
    """
    for t in range(len(alpha_bar_t) - 1, 0, -1):
        x0, _ = _both(eps_fn, x, alpha_bar_t[t], clip)
        mean, variance = posterior(x0, x, t, alpha_bar_t)
        x = mean + np.sqrt(variance) * rng.standard_normal(x.shape)
    return x


def ddim(
    eps_fn: Denoiser,
    x: np.ndarray,
    alpha_bar_t: np.ndarray,
    eta: float = 0.0,
    rng: np.random.Generator | None = None,
    clip: float | None = None,
) -> np.ndarray:
    r"""Walk back along straight lines from :math:`\hat x_0` through the noise.

    .. math:: x_{s} = \sqrt{\bar\alpha_s}\,\hat x_0
        + \sqrt{1-\bar\alpha_s-\sigma^2}\,\hat\epsilon + \sigma\,\epsilon'

    With ``eta=0`` nothing is drawn: the same noise gives the same sample, and the walk
    is Euler's method for an ordinary differential equation.

    Args:
        eps_fn: The denoiser.
        x: Noise to start from, shape ``(n, ...)``.
        alpha_bar_t: A schedule.  A rising one, reversed, walks from data to noise.
        eta: Share of the noise of :func:`ancestral`, in [0, 1].
        rng: Where noise comes from; needed where ``eta`` is above 0.
        clip: As in :func:`ancestral`.

    Returns:
        Samples, same shape.

    Reference:
        Song, Meng and Ermon (2021), equation 12.
    """
    if eta and rng is None:
        raise ValueError(
            "`rng` must be a NumPy generator where `eta` is above 0. Received: None. "
            "Pass `np.random.default_rng(0)`."
        )
    for now, after in _pairs(alpha_bar_t):
        x0, eps = _both(eps_fn, x, now, clip)
        variance = eta**2 * (1 - after) / (1 - now) * (1 - now / after)
        x = np.sqrt(after) * x0 + np.sqrt(max(1 - after - variance, 0.0)) * eps
        if variance:
            x = x + np.sqrt(variance) * rng.standard_normal(x.shape)
    return x


def heun(
    eps_fn: Denoiser,
    x: np.ndarray,
    alpha_bar_t: np.ndarray,
) -> np.ndarray:
    r"""Solve the same equation as :func:`ddim` with a method of second order.

    In :math:`\bar x = x/\sqrt{\bar\alpha}` and
    :math:`\sigma = \sqrt{(1-\bar\alpha)/\bar\alpha}` it reads
    :math:`d\bar x/d\sigma = \hat\epsilon`.  The slope is averaged over both ends of
    each step; the last step, to :math:`\sigma = 0`, is one of Euler.

    Args:
        eps_fn: The denoiser; it is called twice a step, once in the last.
        x: Noise to start from, shape ``(n, ...)``.
        alpha_bar_t: A schedule; :func:`karras_levels` suits it, while one that ends at
            nearly no signal makes its first steps too long.

    Returns:
        Samples, same shape.

    Reference:
        Karras et al. (2022), algorithm 1.
    """
    for now, after in _pairs(alpha_bar_t):
        here, there = (np.sqrt((1 - a) / a) for a in (now, after))
        slope = eps_fn(x, now)
        x_bar = x / np.sqrt(now) + (there - here) * slope
        if after < 1:
            second = eps_fn(np.sqrt(after) * x_bar, after)
            x_bar = x_bar + 0.5 * (there - here) * (second - slope)
        x = np.sqrt(after) * x_bar
    return x


def _pairs(alpha_bar_t: np.ndarray) -> Any:
    """Noise levels before and after each step, from the noisiest on."""
    falling = alpha_bar_t[::-1]
    return itertools.pairwise(falling)


def _both(
    eps_fn: Denoiser, x: np.ndarray, alpha_bar: float, clip: float | None
) -> tuple[np.ndarray, np.ndarray]:
    """The clean data that a denoiser sees, clipped, and the noise that goes with it."""
    signal, noise = np.sqrt(alpha_bar), np.sqrt(1 - alpha_bar)
    if noise == 0:  # on the way from data to noise nothing is known yet
        raise ValueError(
            "`alpha_bar_t` must be below 1 where a step begins. Received: 1. From data "
            "to noise, begin at the first noisy level."
        )
    eps = eps_fn(x, alpha_bar)
    x0 = (x - noise * eps) / signal
    if clip is not None:
        x0 = np.clip(x0, -clip, clip)
        eps = (x - signal * x0) / noise
    return x0, eps


def guided(with_labels: Denoiser, without: Denoiser, scale: float) -> Denoiser:
    r"""Return a denoiser that is pushed away from what it would do without labels.

    .. math:: \hat\epsilon = \hat\epsilon_\varnothing
        + w\,(\hat\epsilon_y - \hat\epsilon_\varnothing)

    Args:
        with_labels: The denoiser that knows the labels.
        without: The one that does not.
        scale: :math:`w`; 0 ignores the labels, 1 follows them, above 1 exaggerates.

    Returns:
        The denoiser.

    Reference:
        Ho and Salimans (2022), equation 6; their :math:`w` is our :math:`w - 1`.
    """

    def eps_fn(x: np.ndarray, alpha_bar: float) -> np.ndarray:
        plain = without(x, alpha_bar)
        return plain + scale * (with_labels(x, alpha_bar) - plain)

    return eps_fn


def integrate(
    velocity_fn: Callable[[np.ndarray, float], np.ndarray],
    x: np.ndarray,
    steps: int,
    method: str = "heun",
    start: float = 0.0,
    end: float = 1.0,
) -> np.ndarray:
    r"""Solve :math:`dx/dt = v(x, t)` from ``start`` to ``end``.

    Args:
        velocity_fn: Maps ``x`` and a time to velocities.
        x: Points to start from, shape ``(n, ...)``.
        steps: Steps of equal length, at least 1.
        method: ``"euler"`` (one call a step, order 1), ``"heun"`` (two, order 2) or
            ``"rk4"`` (four, order 4).
        start: The time to start at.
        end: The time to end at; below ``start`` it runs backwards.

    Returns:
        Where the points have got to, same shape.
    """
    check_positive(steps, "steps")
    check_choice(method, "method", ("euler", "heun", "rk4"))
    h = (end - start) / steps
    for i in range(int(steps)):
        t = start + i * h
        a = velocity_fn(x, t)
        if method == "euler":
            x = x + h * a
        elif method == "heun":
            x = x + 0.5 * h * (a + velocity_fn(x + h * a, t + h))
        else:
            b = velocity_fn(x + 0.5 * h * a, t + 0.5 * h)
            c = velocity_fn(x + 0.5 * h * b, t + 0.5 * h)
            x = x + h / 6 * (a + 2 * b + 2 * c + velocity_fn(x + h * c, t + h))
    return x


def langevin(
    score_fn: Callable[[np.ndarray], np.ndarray],
    x: np.ndarray,
    step: float,
    steps: int,
    rng: np.random.Generator,
    log_density_fn: Callable[[np.ndarray], np.ndarray] | None = None,
) -> np.ndarray:
    r"""Wander uphill with noise, until the points are distributed as the density.

    .. math:: x \leftarrow x + \eta\,\nabla_x\log p(x) + \sqrt{2\eta}\,\epsilon

    Args:
        score_fn: Maps points ``(n, d)`` to :math:`\nabla_x \log p(x)`, same shape.
        x: Points to start from.
        step: :math:`\eta`, above 0.
        steps: How many steps, at least 1.
        rng: Where the noise comes from.
        log_density_fn: Maps points to ``log p`` up to a constant, ``(n,)``; with it
            each step is accepted or refused so that the distribution is exact. A step
            whose odds are not a number is refused.

    Returns:
        Where the points have got to, ``(n, d)``.

    Reference:
        Roberts and Tweedie (1996), for both, and for when they converge.
    """
    check_positive(step, "step")
    check_positive(steps, "steps")
    for _ in range(int(steps)):
        noise = rng.standard_normal(x.shape)
        new = x + step * score_fn(x) + np.sqrt(2 * step) * noise
        if log_density_fn is not None:
            back = x - new - step * score_fn(new)
            there = (noise**2).sum(axis=-1) / 2  # minus log of the proposal's density
            here = (back**2).sum(axis=-1) / (4 * step)
            log_ratio = log_density_fn(new) - log_density_fn(x) + there - here
            stay = ~(np.log(rng.random(len(x))) < log_ratio)  # NaN stays, too
            new = np.where(stay[:, None], x, new)
        x = new
    return x
