"""Is a difference between two sets real?  Tests, error bars and extrapolation.

NumPy in, NumPy out.  The distances themselves stand in :mod:`genai_utils.metrics`.
"""

from __future__ import annotations

import math
import warnings

import numpy as np
from scipy.spatial.distance import cdist
from scipy.special import bdtrc

from genai_utils.checks import check_array, check_whole
from genai_utils.metrics import frechet_distance, nearest_neighbours

__all__ = ["copying_test", "frechet_infinity", "kid_error", "two_sample_test"]


def frechet_infinity(
    a: np.ndarray, b: np.ndarray, points: int = 6, repeats: int = 10, seed: int = 0
) -> tuple[float, float]:
    r"""Extrapolate the Frechet distance to sets without end, eq. (24.4).

    .. math:: \mathbb E\,d^2(n) \approx d^2_\infty + \frac{c}{n}

    Subsets of ``n`` rows of both sets are compared for several ``n``, evenly spaced in
    ``1 / n`` from a third of the shorter set up to all of it; a straight line in
    ``1 / n`` through the means gives both constants.  The extrapolation takes away
    bias and adds noise: repeat it on other samples to see how much.

    Args:
        a: Features ``(n, d)``, more than ``3 * d`` rows.
        b: Features ``(m, d)``, likewise.
        points: How many sizes, at least 2.
        repeats: Random subsets for each size, at least 1.
        seed: Seed of the subsets.

    Returns:
        ``(d2_infinity, c)``.  The first is the distance without bias to first order, so
        sometimes below 0; ``c / n`` is the bias of ``n`` rows in each set.

    Raises:
        TypeError: If ``points`` or ``repeats`` is not a whole number.
        ValueError: If the widths differ, the rows are too few, ``points`` is below 2 or
            ``repeats`` below 1.

    Reference:
        Chong and Forsyth (2020), who vary only the number of generated
        images; we shrink both sets, so the bias of the real one goes as well.
    """
    a, b = _pair(a, b)
    points, repeats = check_whole(points, "points", 2), check_whole(repeats, "repeats")
    most = min(len(a), len(b))
    if most <= 3 * a.shape[1]:
        raise ValueError(
            f"`a` and `b` must have more than 3 rows for each of the {a.shape[1]} "
            f"features. Received: {len(a)} and {len(b)} rows. Draw more samples."
        )
    rng = np.random.default_rng(seed)
    sizes = np.round(1 / np.linspace(3 / most, 1 / most, points)).astype(int)
    means = [_mean_frechet(a, b, int(n), repeats, rng) for n in sizes]
    slope, value = np.polyfit(1 / sizes, means, 1)
    return float(value), float(slope)


def _mean_frechet(
    a: np.ndarray, b: np.ndarray, n: int, repeats: int, rng: np.random.Generator
) -> float:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # few rows are the point here
        found = [
            frechet_distance(rng.permutation(a)[:n], rng.permutation(b)[:n])
            for _ in range(repeats)
        ]
    return float(np.mean(found))


def kid_error(a: np.ndarray, b: np.ndarray) -> float:
    r"""Standard error of :func:`genai_utils.metrics.kid`, by the jackknife.

    Each row of ``a`` and of ``b`` is left out once, and the spread of the values that
    remain is scaled up:

    .. math:: \frac{n-1}{n}\sum_i (t_{-i} - \bar t)^2
        + \frac{m-1}{m}\sum_j (t_{-j} - \bar t)^2

    is the squared error.  Where both sets come from one distribution it is too large,
    by up to a factor of about 1.5, and so on the safe side.

    Args:
        a: Features ``(n, d)``, ``n`` at least 3.
        b: Features ``(m, d)``, ``m`` at least 3.

    Returns:
        A number, at least 0.

    Raises:
        ValueError: If a set has fewer than three rows or the widths differ.

    Reference:
        Efron and Stein (1981), The jackknife estimate of variance, for the bias.
    """
    a, b = _pair(a, b, 3)
    aa, bb, ab = ((u @ v.T / a.shape[1] + 1) ** 3 for u, v in ((a, a), (b, b), (a, b)))
    return math.sqrt(_left_out(aa, ab) + _left_out(bb, ab.T))


def _left_out(within: np.ndarray, across: np.ndarray) -> float:
    """Jackknife variance of the KID over the rows of one set; the other stays whole."""
    n = len(within)
    row, gap = within.sum(axis=1) - np.diag(within), across.mean(axis=1)
    inner = (row.sum() - 2 * row) / ((n - 1) * (n - 2))  # pairs without row i
    left = inner - 2 * (gap.sum() - gap) / (n - 1)  # (n,), up to a constant
    return float((n - 1) / n * ((left - left.mean()) ** 2).sum())


def two_sample_test(
    a: np.ndarray, b: np.ndarray, k: int | None = None, seed: int = 0
) -> tuple[float, float]:
    r"""Classifier two-sample test by nearest neighbours, eq. (24.9).

    Half of the rows, as many of each set, are shown with their origin; each of the
    other rows asks its ``k`` nearest among them which set it is from.  If both sets
    come from one distribution, every answer is a coin toss, and :math:`C` right answers
    out of :math:`n` have the p-value

    .. math:: P\bigl(\mathrm{Bin}(n, \tfrac12) \ge C\bigr)

    A large p-value says that *this* classifier found no difference, and no more.

    Args:
        a: Features ``(n, d)``, at least 4 rows; of a longer set only as many rows as
            the shorter one has are used, drawn at random.
        b: Features ``(m, d)``, likewise.
        k: How many neighbours vote, an odd number; about the square root of the rows
            shown by default.
        seed: Seed of the division.

    Returns:
        ``(accuracy, p_value)``, each in [0, 1].

    Raises:
        TypeError: If ``k`` is not a whole number.
        ValueError: If a set has fewer than four rows, the widths differ, or ``k`` is
            even or larger than the number of rows shown.

    Reference:
        Lopez-Paz and Oquab (2017), section 3.
    """
    a, b = _pair(a, b, 4)
    rng, n = np.random.default_rng(seed), min(len(a), len(b))
    a, b, half = rng.permutation(a)[:n], rng.permutation(b)[:n], n // 2
    shown = np.concatenate([a[:half], b[:half]])
    k = math.isqrt(len(shown) - 1) | 1 if k is None else _odd(k, len(shown))
    for_a, for_b = (_votes(x[half:], shown, k) for x in (a, b))  # voices for b
    right = int((for_a < k / 2).sum() + (for_b > k / 2).sum())
    asked = 2 * (n - half)
    return right / asked, float(bdtrc(right - 1, asked, 0.5))


def _votes(x: np.ndarray, shown: np.ndarray, k: int) -> np.ndarray:
    """How many of the k nearest shown rows lie in the second half of them."""
    votes, rows = np.empty(len(x), dtype=int), max(1, 2**22 // len(shown))
    for i in range(0, len(x), rows):
        nearest = cdist(x[i : i + rows], shown).argpartition(k - 1, axis=1)[:, :k]
        votes[i : i + rows] = (nearest >= len(shown) // 2).sum(axis=1)
    return votes


def copying_test(
    fake: np.ndarray, held_out: np.ndarray, train: np.ndarray
) -> tuple[float, float]:
    r"""Ask whether samples lie nearer to the training set than new data do.

    The share of pairs in which the sample is nearer, eq. (24.10), ties by halves:

    .. math:: S = P\bigl(d(b, T) < d(a, T)\bigr), \qquad
        d(x, T) = \min_{t\in T}\lVert x - t\rVert

    It is 1/2 for a perfect model, towards 1 for a copier, and below 1/2 for samples
    farther out than real data.  Samples that keep to the middle of the data can lie
    near everything and look like copies: read it beside a measure of quality.

    Args:
        fake: Samples ``(n, ...)``.
        held_out: Real data that the model has not seen ``(m, ...)``.
        train: Its training set ``(t, ...)``, of the same shape.

    Returns:
        ``(S, z)``; ``z`` is the distance of ``S`` from 1/2 in standard errors, those of
        the Mann-Whitney test.  Take it seriously above 3.

    Raises:
        ValueError: If a set is empty or the shapes differ.

    Reference:
        Meehan, Chaudhuri and Dasgupta (2020), without their division into cells; our
        ``z`` has the opposite sign of theirs.
    """
    near = nearest_neighbours(fake, train)[1]
    far = np.sort(nearest_neighbours(held_out, train)[1])
    n, m = len(near), len(far)
    below, upto = (np.searchsorted(far, near, side=s) for s in ("left", "right"))
    share = 1 - float((below + upto).mean()) / (2 * m)
    return share, (share - 0.5) / math.sqrt((n + m + 1) / (12 * n * m))


def _pair(a: np.ndarray, b: np.ndarray, rows: int = 2) -> tuple[np.ndarray, np.ndarray]:
    a = check_array(a, "a", ndim=2).astype("float64")
    b = check_array(b, "b", shape=(None, a.shape[1])).astype("float64")
    if min(len(a), len(b)) < rows:
        raise ValueError(
            f"`a` and `b` must have at least {rows} rows each. Received: {len(a)} and "
            f"{len(b)}. Draw more samples."
        )
    return a, b


def _odd(k: int, most: int) -> int:
    k = check_whole(k, "k")
    if k % 2 == 0 or k > most:
        raise ValueError(
            f"`k` must be odd and at most {most}, the rows shown. Received: {k}. An "
            "odd number of votes has no draw."
        )
    return k
