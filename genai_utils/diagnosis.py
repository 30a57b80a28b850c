"""Numbers for a classifier that decides about people, and for their privacy.

NumPy in, NumPy out.  Equations are those of chapter 31.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.optimize import brentq, minimize_scalar
from scipy.stats import norm, rankdata

from genai_utils.checks import check_array, check_positive, check_whole

__all__ = [
    "binary_log_loss",
    "bootstrap",
    "calibration_error",
    "fit_temperature",
    "gaussian_delta",
    "gaussian_sigma",
    "reliability",
    "roc_auc",
    "roc_curve",
    "sensitivity_at",
]


def roc_auc(labels: np.ndarray, scores: np.ndarray) -> Any:
    r"""Area under the ROC curve: the chance that a positive outranks a negative.

    .. math:: \mathrm{AUC} = \frac1{n_+n_-}\sum_{i:y_i=1}\sum_{j:y_j=0}
        \Bigl(\mathbf 1[s_i>s_j] + \tfrac12\mathbf 1[s_i=s_j]\Bigr)

    Eq. (31.1), computed from ranks in n log n steps.

    Args:
        labels: 0 or 1 for each case, ``(n,)``, both present.
        scores: One score a case, ``(n,)``, or of several classifiers, ``(n, ...)``.

    Returns:
        A number in [0, 1], or an array of the shape ``scores.shape[1:]``.

    Raises:
        ValueError: If one class is missing, or the lengths differ.

    Reference:
        Hanley and McNeil (1982); Mann and Whitney (1947).
    """
    labels, scores = _cases(labels, scores)
    positive = int(labels.sum())
    ranks = rankdata(scores, axis=0)[labels].sum(axis=0)
    pairs = positive * (len(labels) - positive)
    return (ranks - positive * (positive + 1) / 2) / pairs


def _cases(labels: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Labels as True and False, and scores of the same length."""
    labels = _binary(labels)
    if labels.all() or not labels.any():
        raise ValueError(
            "`labels` must hold both classes. Received: "
            f"{int(labels.sum())} of {len(labels)} are 1. Check the split."
        )
    scores = check_array(scores, "scores")
    return labels, check_array(
        scores, "scores", shape=(len(labels), *scores.shape[1:])
    ).astype("float64")


def _binary(labels: np.ndarray) -> np.ndarray:
    labels = check_array(labels, "labels", ndim=1, low=0, high=1)
    if not np.isin(labels, (0, 1)).all():
        raise ValueError(
            f"`labels` must be 0 or 1. Received: {labels[~np.isin(labels, (0, 1))][0]}."
            " Pass classes, not probabilities."
        )
    return labels.astype(bool)


def roc_curve(labels: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return false-positive and true-positive rates, the threshold falling.

    Args:
        labels: 0 or 1, ``(n,)``, both present.
        scores: ``(n,)``; a case is called positive from the threshold upwards.

    Returns:
        ``(false_positive_rate, true_positive_rate)``, one entry for each different
        score and a first one of zeros; the last is one.

    Raises:
        ValueError: If one class is missing, or the shapes differ.
    """
    labels, scores = _cases(labels, check_array(scores, "scores", ndim=1))
    order = np.argsort(-scores, kind="stable")
    last = np.append(np.diff(scores[order]) != 0, True)  # of each group of equal scores
    hits, misses = np.cumsum(labels[order])[last], np.cumsum(~labels[order])[last]
    return (
        np.append(0.0, misses / (~labels).sum()),
        np.append(0.0, hits / labels.sum()),
    )


def sensitivity_at(
    labels: np.ndarray, scores: np.ndarray, specificity: float = 0.9
) -> Any:
    """Share of the sick who are found while most of the healthy are left in peace.

    The threshold is the lowest that leaves at least ``specificity`` of the negatives
    at or below it; a positive is found if its score is above.  Eq. (31.2).

    Args:
        labels: 0 or 1, ``(n,)``, both present.
        scores: ``(n,)``, or of several classifiers, ``(n, ...)``.
        specificity: Share of the negatives to leave, in (0, 1].

    Returns:
        A number in [0, 1], or an array of the shape ``scores.shape[1:]``.

    Raises:
        ValueError: If one class is missing, or ``specificity`` leaves its range.
    """
    labels, scores = _cases(labels, scores)
    if check_positive(specificity, "specificity") > 1:
        raise ValueError(
            f"`specificity` must lie in (0, 1]. Received: {specificity}. Pass 0.9 for "
            "90 %."
        )
    healthy = np.sort(scores[~labels], axis=0)
    leave = math.ceil(specificity * len(healthy) - 1e-9)
    return (scores[labels] > healthy[leave - 1]).mean(axis=0)


def bootstrap(
    statistic: Callable[..., Any],
    *arrays: np.ndarray,
    repeats: int = 200,
    seed: int = 0,
) -> np.ndarray:
    """Compute a statistic again on cases that are drawn with replacement.

    All arrays are drawn alike, so the difference of two classifiers on the same cases
    gets the error of a *paired* comparison.

    Args:
        statistic: Takes as many arrays as are given, returns a number or an array.
        *arrays: The same number of cases each, ``(n, ...)``.
        repeats: How many draws, at least 2.
        seed: Seed of the draws.

    Returns:
        The statistic of each draw, ``(repeats, ...)``; its standard deviation along
        the first axis is the standard error.

    Raises:
        ValueError: If the lengths differ, or no array is given.

    Reference:
        Efron (1979), Bootstrap methods: another look at the jackknife.
    """
    sizes = {len(a) for a in arrays}
    if len(sizes) != 1:
        raise ValueError(
            f"`arrays` must have one common length. Received: {sorted(sizes)}. Pass "
            "the labels and the scores of the same cases."
        )
    rng, n = np.random.default_rng(seed), sizes.pop()
    draws = rng.integers(n, size=(check_whole(repeats, "repeats", 2), n))
    return np.array([statistic(*(np.asarray(a)[i] for a in arrays)) for i in draws])


def binary_log_loss(
    labels: np.ndarray, logits: np.ndarray, temperature: float = 1.0
) -> float:
    """Mean negative log-likelihood of 0 and 1 under logits, in nats.

    Args:
        labels: 0 or 1, ``(n,)``.
        logits: ``(n,)``.
        temperature: What the logits are divided by, above 0.
    """
    sign = 2.0 * _binary(labels) - 1.0
    a = check_array(logits, "logits", shape=sign.shape)
    return float(
        np.logaddexp(0.0, -sign * a / check_positive(temperature, "temperature")).mean()
    )


def fit_temperature(labels: np.ndarray, logits: np.ndarray) -> float:
    """Find the temperature whose softened logits have the smallest log-loss.

    One number for all cases, so their order, and with it the AUC, stays as it is.
    Eq. (31.6).

    Args:
        labels: 0 or 1, ``(n,)``, of cases that were not trained on.
        logits: ``(n,)``.

    Returns:
        The temperature, between 0.05 and 20; above 1 the classifier was too sure.

    Reference:
        Guo, Pleiss, Sun and Weinberger (2017), section 4.2.
    """
    found = minimize_scalar(
        lambda log_t: binary_log_loss(labels, logits, math.exp(log_t)),
        bounds=(math.log(0.05), math.log(20.0)),
        method="bounded",
        options={"xatol": 1e-6},
    )
    return math.exp(found.x)


def reliability(
    labels: np.ndarray, probabilities: np.ndarray, bins: int = 10
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return what a classifier promised and what came, in bins of equal width.

    Args:
        labels: 0 or 1, ``(n,)``.
        probabilities: Of class 1, ``(n,)``, in [0, 1].
        bins: How many, at least 1.

    Returns:
        ``(promised, observed, count)``, each ``(bins,)``: mean probability, share of
        ones, and number of cases; the first two are NaN where a bin is empty.
    """
    labels = _binary(labels)
    p = check_array(
        probabilities, "probabilities", shape=labels.shape, low=0.0, high=1.0
    ).astype("float64")
    bins = check_whole(bins, "bins")
    where = np.minimum((p * bins).astype(int), bins - 1)
    count = np.bincount(where, minlength=bins)
    sums = (np.bincount(where, v, minlength=bins) for v in (p, labels))
    with np.errstate(invalid="ignore"):
        promised, observed = (s / count for s in sums)
    return promised, observed, count


def calibration_error(
    labels: np.ndarray, probabilities: np.ndarray, bins: int = 10
) -> float:
    r"""Expected calibration error: mean gap between promise and outcome.

    .. math:: \mathrm{ECE} = \sum_b \frac{n_b}{n}\,\lvert \bar y_b - \bar p_b\rvert

    Eq. (31.5).  It depends on the bins, and sampling noise alone makes it positive.

    Args:
        labels: 0 or 1, ``(n,)``.
        probabilities: Of class 1, ``(n,)``, in [0, 1].
        bins: How many bins of equal width.

    Returns:
        A number in [0, 1].

    Reference:
        Guo, Pleiss, Sun and Weinberger (2017), equation 3; theirs bins the confidence
        of the predicted class, ours the probability of class 1.
    """
    promised, observed, count = reliability(labels, probabilities, bins)
    some = count > 0
    gap = np.abs(observed[some] - promised[some])
    return float((gap * count[some]).sum() / count.sum())


def gaussian_delta(epsilon: float, sigma: float, sensitivity: float = 1.0) -> float:
    r"""Smallest delta for which Gaussian noise is (epsilon, delta)-private.

    .. math:: \delta(\varepsilon) = \Phi\Bigl(\frac{\Delta}{2\sigma}
        - \frac{\varepsilon\sigma}{\Delta}\Bigr) - e^{\varepsilon}\,
        \Phi\Bigl(-\frac{\Delta}{2\sigma} - \frac{\varepsilon\sigma}{\Delta}\Bigr)

    Eq. (31.9).

    Args:
        epsilon: At least 0.
        sigma: Standard deviation of the noise on each number, above 0.
        sensitivity: :math:`\Delta`, the largest Euclidean distance that one person
            can move the true answer, above 0.

    Returns:
        A number in [0, 1].

    Raises:
        ValueError: If an argument leaves its range.

    Reference:
        Balle and Wang (2018), theorem 8.
    """
    check_positive(epsilon, "epsilon", zero_ok=True)
    check_positive(sigma, "sigma")
    ratio = check_positive(sensitivity, "sensitivity") / sigma
    near, far = ratio / 2 - epsilon / ratio, -ratio / 2 - epsilon / ratio
    return float(max(norm.cdf(near) - math.exp(epsilon + norm.logcdf(far)), 0.0))


def gaussian_sigma(
    epsilon: float, delta: float = 1e-5, sensitivity: float = 1.0
) -> float:
    """Least noise that makes the answer (epsilon, delta)-private.

    Args:
        epsilon: Above 0.
        delta: In (0, 1); well below one over the number of people.
        sensitivity: As in :func:`gaussian_delta`.

    Returns:
        The standard deviation of the noise on each number.

    Raises:
        ValueError: If an argument leaves its range.

    Reference:
        Balle and Wang (2018), algorithm 1; found here by bisection.
    """
    check_positive(epsilon, "epsilon")
    check_positive(sensitivity, "sensitivity")
    if check_positive(delta, "delta") >= 1:
        raise ValueError(
            f"`delta` must lie in (0, 1). Received: {delta}. Pass 1e-5 or so."
        )

    def excess(log_sigma: float) -> float:
        return gaussian_delta(epsilon, math.exp(log_sigma)) - delta

    return sensitivity * math.exp(brentq(excess, -20.0, 20.0, xtol=1e-12))
