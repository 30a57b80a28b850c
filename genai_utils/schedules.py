r"""Noise schedules of diffusion models, and the three names of one prediction.

A schedule is an array ``alpha_bar_t`` of ``num_steps + 1`` numbers that fall from 1 (no
noise) to nearly 0.  The noisy data are
:math:`x_t = \sqrt{\bar\alpha_t}\,x_0 + \sqrt{1-\bar\alpha_t}\,\epsilon`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from genai_utils.checks import check_array, check_choice, check_positive

__all__ = [
    "KINDS",
    "beta_of",
    "check_schedule",
    "cosine_schedule",
    "from_eps",
    "linear_schedule",
    "log_snr",
    "posterior",
    "to_eps",
]

#: A network may predict the noise, the clean data, or their mixture ``v``.
KINDS = ("eps", "x0", "v")


def linear_schedule(
    num_steps: int = 1000, first: float = 1e-4, last: float = 0.02
) -> np.ndarray:
    r"""Return ``alpha_bar_t`` where :math:`\beta_t` rises along a line.

    Args:
        num_steps: Steps T, at least 1.  With fewer than 1000 each step adds more noise,
            so that the end is nearly the same.
        first: :math:`\beta_1` of a schedule with 1000 steps.
        last: :math:`\beta_T` of a schedule with 1000 steps.

    Returns:
        float64, shape ``(num_steps + 1,)``, from 1 downwards.

    Reference:
        Ho, Jain and Abbeel (2020), section 4.
    """
    check_positive(num_steps, "num_steps")
    beta = np.linspace(first, last, num_steps) * (1000 / num_steps)
    return _products(1 - np.minimum(beta, 0.999))


def cosine_schedule(num_steps: int = 1000, offset: float = 0.008) -> np.ndarray:
    r"""Return ``alpha_bar_t`` that falls like a squared cosine.

    .. math:: \bar\alpha_t = \frac{f(t)}{f(0)}, \qquad
        f(t) = \cos^2\!\left(\frac{t/T + s}{1 + s}\cdot\frac\pi2\right)

    with no step's :math:`\beta_t` above 0.999.

    Args:
        num_steps: Steps T, at least 1.
        offset: :math:`s`, which keeps the first steps from being too small.

    Returns:
        float64, shape ``(num_steps + 1,)``, from 1 downwards.

    Reference:
        Nichol and Dhariwal (2021), equation 17.
    """
    check_positive(num_steps, "num_steps")
    share = (np.arange(num_steps + 1) / num_steps + offset) / (1 + offset)
    f = np.cos(0.5 * np.pi * share) ** 2
    return _products(np.maximum(f[1:] / f[:-1], 0.001))


def _products(alpha: np.ndarray) -> np.ndarray:
    return np.concatenate([[1.0], np.cumprod(alpha)])


def beta_of(alpha_bar_t: np.ndarray) -> np.ndarray:
    r"""Return the noise that each step adds, :math:`\beta_t`.

    .. math:: \beta_t = 1 - \bar\alpha_t / \bar\alpha_{t-1}

    Args:
        alpha_bar_t: A schedule, shape ``(num_steps + 1,)``.

    Returns:
        Shape ``(num_steps,)``; entry ``t - 1`` belongs to step ``t``.
    """
    return 1 - alpha_bar_t[1:] / alpha_bar_t[:-1]


def log_snr(alpha_bar: Any) -> np.ndarray:
    r"""Return the logarithm of the signal-to-noise ratio.

    .. math:: \log\frac{\bar\alpha}{1-\bar\alpha}

    Args:
        alpha_bar: In (0, 1), any shape.

    Returns:
        Same shape; 0 where signal and noise are equally strong.
    """
    return np.log(alpha_bar) - np.log1p(-np.asarray(alpha_bar))


def posterior(
    x0: np.ndarray, x_t: np.ndarray, t: int, alpha_bar_t: np.ndarray
) -> tuple[np.ndarray, float]:
    r"""Return mean and variance of :math:`q(x_{t-1}\mid x_t, x_0)`.

    .. math:: \frac{\sqrt{\bar\alpha_{t-1}}\,\beta_t}{1-\bar\alpha_t}\,x_0
        + \frac{\sqrt{1-\beta_t}\,(1-\bar\alpha_{t-1})}{1-\bar\alpha_t}\,x_t,
        \qquad \frac{1-\bar\alpha_{t-1}}{1-\bar\alpha_t}\,\beta_t

    Args:
        x0: Clean data, any shape.
        x_t: Noisy data, same shape.
        t: The step, from 1 on.
        alpha_bar_t: The schedule.

    Returns:
        ``(mean, variance)``: the mean in the shape of ``x0``, the variance a number.

    Reference:
        Ho, Jain and Abbeel (2020), equation 7.
    """
    now, before = alpha_bar_t[t], alpha_bar_t[t - 1]
    beta = 1 - now / before
    clean = np.sqrt(before) * beta / (1 - now)
    noisy = np.sqrt(1 - beta) * (1 - before) / (1 - now)
    return clean * x0 + noisy * x_t, float((1 - before) / (1 - now) * beta)


def to_eps(prediction: Any, x_t: Any, alpha_bar: Any, kind: str) -> Any:
    r"""Turn a network's prediction into the noise :math:`\hat\epsilon` that it implies.

    ``v`` is :math:`\sqrt{\bar\alpha}\,\epsilon - \sqrt{1-\bar\alpha}\,x_0`.

    Args:
        prediction: What the network returned, an array or a tensor.
        x_t: Noisy data, same shape.
        alpha_bar: In (0, 1), of a shape that broadcasts.
        kind: One of ``KINDS``.

    Returns:
        Same shape.

    Reference:
        Salimans and Ho (2022), section 4.
    """
    check_choice(kind, "kind", KINDS)
    signal, noise = alpha_bar**0.5, (1 - alpha_bar) ** 0.5
    if kind == "eps":
        return prediction
    if kind == "x0":
        return (x_t - signal * prediction) / noise
    return signal * prediction + noise * x_t


def from_eps(eps: Any, x_t: Any, alpha_bar: Any, kind: str) -> Any:
    """Turn noise into what a network of this kind should predict.

    Args:
        eps: The noise, an array or a tensor.
        x_t: Noisy data, same shape.
        alpha_bar: In (0, 1), of a shape that broadcasts.
        kind: One of ``KINDS``.

    Returns:
        Same shape; :func:`to_eps` undoes it.
    """
    check_choice(kind, "kind", KINDS)
    signal, noise = alpha_bar**0.5, (1 - alpha_bar) ** 0.5
    if kind == "eps":
        return eps
    if kind == "x0":
        return (x_t - noise * eps) / signal
    return (eps - noise * x_t) / signal


def check_schedule(alpha_bar_t: Any) -> np.ndarray:
    """Return a schedule as float64, or say what is wrong with it.

    Args:
        alpha_bar_t: Numbers in (0, 1] that start at 1 and fall.

    Raises:
        ValueError: If they do not.
    """
    values = check_array(alpha_bar_t, "alpha_bar_t", ndim=1, low=0.0, high=1.0)
    values = values.astype("float64")
    if len(values) < 2 or values[0] != 1 or (np.diff(values) >= 0).any():
        raise ValueError(
            "`alpha_bar_t` must start at 1 and fall. Received: "
            f"{values[:3].round(4).tolist()} ... {values[-1]:.4g}. Use "
            "`cosine_schedule` or `linear_schedule`."
        )
    if values[-1] <= 0:
        raise ValueError(
            "`alpha_bar_t` must stay above 0. Received: 0 at the end. Keep a trace of "
            "the signal, such as 1e-5."
        )
    return values
