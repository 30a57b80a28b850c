"""Numbers that say how good samples are.  NumPy in, NumPy out.

A Frechet distance depends on the features it is computed in.  Ours come from the small
judges of :mod:`genai_utils.judge`: they are **not** Inception features, and no number
made here can be compared with a published FID.
"""

from __future__ import annotations

import math
import warnings

import numpy as np
from scipy.spatial.distance import cdist
from scipy.special import logsumexp

from genai_utils.checks import check_array, check_positive, check_whole

__all__ = [
    "ROWS_PER_FEATURE",
    "class_coverage",
    "class_shares",
    "density_coverage",
    "expected_total_variation",
    "frechet_distance",
    "inception_score",
    "kid",
    "mode_coverage",
    "nearest_neighbours",
    "precision_recall",
    "total_variation",
    "wasserstein_1d",
]

# Below so many rows for each feature `frechet_distance` warns.  Between disjoint halves
# of the real digits, 32 features wide, the distance is 8.8 for 10 rows in each, 1.3
# for 64, 0.25 for 320 and 0.17 for 500; it is 14.6, 2.4, 0.48 and 0.31 for MNIST.
ROWS_PER_FEATURE = 10


def frechet_distance(a: np.ndarray, b: np.ndarray) -> float:
    r"""Frechet distance between Gaussians fitted to two sets of features.

    .. math:: \lVert\mu_a-\mu_b\rVert^2
        + \operatorname{tr}\left(\Sigma_a+\Sigma_b-2(\Sigma_a\Sigma_b)^{1/2}\right)

    The value is too large on average, by an amount that shrinks like one over the
    number of rows and that differs from model to model.  So compare only values from
    sets of equal sizes, and read none from a small set.

    Args:
        a: Features ``(n, d)``, ``n`` at least 2; at least ``10 * d`` to be of use.
        b: Features ``(m, d)``, ``m`` likewise.

    Returns:
        A number, at least 0 (up to rounding); 0 for equal means and covariances.

    Raises:
        ValueError: If a set has fewer than two rows or the widths differ.

    Warns:
        UserWarning: If a set has fewer than ``ROWS_PER_FEATURE`` rows for each feature.

    Reference:
        Heusel et al. (2017), where the features are those of Inception.  Chong and
        Forsyth (2020), Effectively unbiased FID and Inception Score and where to find
        them, for the bias.
    """
    a, b = _two_sets(a, b)
    _warn_of_few_rows(len(a), len(b), a.shape[1])
    root_a = _root(np.cov(a, rowvar=False))
    cov_b = np.atleast_2d(np.cov(b, rowvar=False))
    # tr (A B)^(1/2) = tr (A^(1/2) B A^(1/2))^(1/2), whose inside is symmetric
    cross = np.linalg.eigvalsh(root_a @ cov_b @ root_a)
    covariances = np.trace(root_a @ root_a) + np.trace(cov_b)
    gap = ((a.mean(axis=0) - b.mean(axis=0)) ** 2).sum()
    return float(gap + covariances - 2 * np.sqrt(np.maximum(cross, 0.0)).sum())


def _warn_of_few_rows(n: int, m: int, width: int) -> None:
    enough = ROWS_PER_FEATURE * width
    if min(n, m) < enough:
        warnings.warn(
            f"The Frechet distance of {n} rows and {m} rows with {width} features is "
            "biased: it is too large, by an amount that shrinks like 1/rows and that "
            f"differs from model to model. Pass at least {enough} rows in `a` and in "
            f"`b` ({ROWS_PER_FEATURE} for each feature), or use `kid`, which is "
            "unbiased.",
            UserWarning,
            stacklevel=3,
        )


def _root(matrix: np.ndarray) -> np.ndarray:
    """Symmetric square root of a positive semi-definite matrix."""
    values, vectors = np.linalg.eigh(np.atleast_2d(matrix))
    return (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T


def kid(a: np.ndarray, b: np.ndarray) -> float:
    r"""Unbiased squared MMD with the kernel :math:`(x^\top y/d + 1)^3`.

    Args:
        a: Features ``(n, d)``, ``n`` at least 2.
        b: Features ``(m, d)``, ``m`` at least 2.

    Returns:
        A number; 0 on average where both sets come from the same distribution, so
        sometimes negative.

    Raises:
        ValueError: If a set has fewer than two rows or the widths differ.

    Reference:
        Binkowski et al. (2018), where the features are those of Inception.
    """
    a, b = _two_sets(a, b)
    aa, bb, ab = ((u @ v.T / a.shape[1] + 1) ** 3 for u, v in ((a, a), (b, b), (a, b)))
    n, m = len(a), len(b)
    within_a = (aa.sum() - np.trace(aa)) / (n * (n - 1))
    within_b = (bb.sum() - np.trace(bb)) / (m * (m - 1))
    return float(within_a + within_b - 2 * ab.mean())


def _two_sets(
    a: np.ndarray, b: np.ndarray, name_a: str = "a", name_b: str = "b"
) -> tuple[np.ndarray, np.ndarray]:
    a = check_array(a, name_a, ndim=2).astype("float64")
    b = check_array(b, name_b, shape=(None, a.shape[1])).astype("float64")
    if min(len(a), len(b)) < 2:
        raise ValueError(
            f"`{name_a}` and `{name_b}` must have at least 2 rows each. Received: "
            f"{len(a)} and {len(b)}. Draw more samples."
        )
    return a, b


def class_coverage(
    labels: np.ndarray,
    num_classes: int = 10,
    min_share: float = 0.01,
    sure: np.ndarray | None = None,
) -> int:
    """Count the classes that get at least a share of the samples.

    The count says that a class is there, and nothing about how often: 91 % of one class
    and 1 % of each other cover 10 of 10.  Ask :func:`total_variation` for the balance.
    Nor does a label mean that the sample shows anything: without ``sure``, noise covers
    up to 10 of 10 classes of the digits.

    Args:
        labels: Predicted classes ``(n,)``, whole numbers from 0.
        num_classes: How many classes there are.
        min_share: Share of all ``n`` samples that makes a class count, in (0, 1].
        sure: Which samples may count, ``(n,)``, True or False, as from
            :meth:`genai_utils.judge.Judge.sure`; all of them by default.

    Returns:
        A number from 0 to ``num_classes``.

    Raises:
        TypeError: If ``sure`` does not hold True and False.
        ValueError: If a label is not a class, ``min_share`` leaves its range, or
            ``sure`` has another length.
    """
    labels = _labels(labels, num_classes)
    if check_positive(min_share, "min_share") > 1:
        raise ValueError(
            f"`min_share` must lie in (0, 1]. Received: {min_share}. Pass 0.01 for 1 %."
        )
    counted = labels if sure is None else labels[_mask(sure, "sure", len(labels))]
    share = np.bincount(counted, minlength=num_classes) / len(labels)
    return int((share >= min_share).sum())


def class_shares(labels: np.ndarray, num_classes: int = 10) -> np.ndarray:
    """Return the share of each class, shape ``(num_classes,)``; they add up to 1.

    Args:
        labels: Classes ``(n,)``, whole numbers from 0.
        num_classes: How many classes there are.

    Raises:
        ValueError: If a label is not a class.
    """
    labels = _labels(labels, num_classes)
    return np.bincount(labels, minlength=num_classes) / len(labels)


def total_variation(labels: np.ndarray, shares: np.ndarray) -> float:
    r"""Total variation distance between the samples' classes and the real shares.

    .. math:: \frac12 \sum_k \left|\frac{n_k}{n} - p_k\right|

    It is the share of the samples that would have to change class to give the real
    shares.  A perfect model is not at 0 either: compare the distance with
    :func:`expected_total_variation`.

    Args:
        labels: Predicted classes of the samples ``(n,)``, whole numbers from 0.
        shares: Real share :math:`p_k` of each class ``(num_classes,)``, as from
            :func:`class_shares` of the judge's labels of real images.

    Returns:
        A number from 0 (the real shares) to 1 (only classes that are not there).

    Raises:
        ValueError: If a label is not a class, or the shares are negative or do not add
            up to 1.
    """
    shares = _shares(shares)
    return float(0.5 * np.abs(class_shares(labels, len(shares)) - shares).sum())


def expected_total_variation(shares: np.ndarray, n: int) -> float:
    r"""Mean total variation distance of ``n`` samples that do have the real shares.

    .. math:: \frac1n \sum_k \nu_k \binom{n}{\nu_k}
        p_k^{\nu_k} (1-p_k)^{n-\nu_k+1}, \qquad \nu_k = \lfloor n p_k \rfloor + 1

    This is the sampling error of :func:`total_variation`, without simulation.  By
    McDiarmid's inequality at most one set in a hundred lies more than
    ``1.52 / n**0.5`` above it.  Where the shares were themselves counted on only ``m``
    real samples, pass ``n * m // (n + m)`` for ``n``.

    Args:
        shares: Real share :math:`p_k` of each class ``(num_classes,)``.
        n: How many samples, at least 1.

    Returns:
        A number from 0 to 1.

    Raises:
        TypeError: If ``n`` is not a whole number.
        ValueError: If the shares are negative or do not add up to 1, or ``n`` is not
            above 0.

    Reference:
        Diaconis and Zabell (1991), equation (1.1), de Moivre's mean absolute deviation
        of a binomial variable; McDiarmid (1989).
    """
    shares, n = _shares(shares), check_whole(n, "n")
    total = 0.0
    for p in shares[(shares > 0) & (shares < 1)].tolist():
        v = min(math.floor(n * p) + 1, n)
        log_choose = math.lgamma(n + 1) - math.lgamma(v + 1) - math.lgamma(n - v + 1)
        logs = log_choose + v * math.log(p) + (n - v + 1) * math.log1p(-p)
        total += v * math.exp(logs) / n
    return total


def _labels(labels: np.ndarray, num_classes: int) -> np.ndarray:
    check_whole(num_classes, "num_classes")
    labels = check_array(labels, "labels", ndim=1, low=0, high=num_classes - 1)
    if (labels != np.floor(labels)).any():
        odd = labels[labels != np.floor(labels)][0]
        raise ValueError(
            f"`labels` must hold whole numbers. Received: {odd}. Pass classes, as from "
            "`judge.predict(x)`, not probabilities."
        )
    return labels.astype(int)


def _shares(shares: np.ndarray) -> np.ndarray:
    shares = check_array(shares, "shares", ndim=1, low=0.0, high=1.0)
    if abs(shares.sum() - 1) > 1e-6:
        raise ValueError(
            f"`shares` must add up to 1. Received: a sum of {shares.sum():g}. Divide "
            "the counts by their sum, or use `class_shares(labels)`."
        )
    return shares.astype("float64")


def _mask(mask: np.ndarray, name: str, n: int) -> np.ndarray:
    mask = check_array(mask, name, shape=(n,))
    if mask.dtype != bool:
        raise TypeError(
            f"`{name}` must hold True and False. Received: dtype {mask.dtype}. Compare "
            "with a threshold, as `judge.sure(x)` does."
        )
    return mask


def mode_coverage(
    points: np.ndarray, centers: np.ndarray, radius: float, min_count: int = 1
) -> tuple[int, float]:
    """Count the modes that samples reach, and the share of samples near a mode.

    Args:
        points: Samples ``(n, d)``.
        centers: Modes ``(k, d)``.
        radius: A sample within this Euclidean distance of its nearest mode is near.
        min_count: Near samples that a mode needs to count as covered, at least 1.

    Returns:
        ``(modes covered, share of samples that are near)``.

    Raises:
        TypeError: If ``min_count`` is not a whole number.
        ValueError: If the widths differ, or ``radius`` or ``min_count`` is not above 0.
    """
    points = check_array(points, "points", ndim=2)
    centers = check_array(centers, "centers", shape=(None, points.shape[1]))
    check_positive(radius, "radius")
    check_whole(min_count, "min_count")
    index, distance = nearest_neighbours(points, centers)
    near = distance <= radius
    counts = np.bincount(index[near], minlength=len(centers))
    return int((counts >= min_count).sum()), float(near.mean())


def nearest_neighbours(
    x: np.ndarray, train: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Find the training sample closest to each sample, in Euclidean distance.

    Args:
        x: Samples ``(n, ...)``.
        train: Training samples ``(m, ...)`` of the same shape.

    Returns:
        ``(indices, distances)``, each ``(n,)``.

    Raises:
        ValueError: If a set is empty or the shapes differ.
    """
    x = check_array(x, "x").astype("float64")
    train = check_array(train, "train", shape=(None, *x.shape[1:])).astype("float64")
    a, b = x.reshape(len(x), -1), train.reshape(len(train), -1)
    index = np.empty(len(a), dtype=int)
    for start in range(0, len(a), 500):
        part = a[start : start + 500]
        squares = (b**2).sum(axis=1) - 2 * part @ b.T  # (<= 500, m), up to a constant
        index[start : start + 500] = squares.argmin(axis=1)
    return index, np.linalg.norm(a - b[index], axis=1)


def precision_recall(
    real: np.ndarray, fake: np.ndarray, k: int = 3
) -> tuple[float, float]:
    """Return the share of fakes near real points, and of real points near fakes.

    A point is near a set if it lies within the distance of some member of the set to
    that member's ``k``-th nearest neighbour in the set.  Precision is low where samples
    look unreal, recall where a part of the real distribution is missing.  Both depend
    on the numbers of points and on ``k``: compare only values with equal ones.

    Args:
        real: Features ``(n, d)``, ``n`` above ``k``.
        fake: Features ``(m, d)``, ``m`` above ``k``.
        k: Which neighbour sets the radius, from 1.

    Returns:
        ``(precision, recall)``, each in [0, 1].

    Raises:
        TypeError: If ``k`` is not a whole number.
        ValueError: If a set has at most ``k`` rows, the widths differ, or ``k`` is not
            above 0.

    Reference:
        Kynkäänniemi et al. (2019), section 2; our ``real`` and ``fake`` are their
        feature sets of real and of generated images.
    """
    real, fake, k = _neighbour_sets(real, fake, k)
    return _share_near(fake, real, k), _share_near(real, fake, k)


def _neighbour_sets(
    real: np.ndarray, fake: np.ndarray, k: int
) -> tuple[np.ndarray, np.ndarray, int]:
    real, fake = _two_sets(real, fake, "real", "fake")
    k = check_whole(k, "k")
    if min(len(real), len(fake)) <= k:
        raise ValueError(
            f"`real` and `fake` must have more than k = {k} rows each. Received: "
            f"{len(real)} and {len(fake)}. Draw more samples, or lower `k`."
        )
    return real, fake, k


def _rows(members: np.ndarray) -> int:
    return max(1, 2**22 // len(members))  # at most 32 MiB of distances at a time


def _radii(members: np.ndarray, k: int) -> np.ndarray:
    """Distance of each member to its k-th nearest neighbour among the others."""
    radius, rows = np.empty(len(members)), _rows(members)
    for i in range(0, len(members), rows):
        distances = cdist(members[i : i + rows], members)  # (<= rows, members)
        distances.partition(k, axis=1)  # the nearest member to each, in 0, is itself
        radius[i : i + rows] = distances[:, k]
    return radius


def _share_near(points: np.ndarray, members: np.ndarray, k: int) -> float:
    """Share of the points within some member's distance to its k-th neighbour."""
    radius, rows, near = _radii(members, k), _rows(members), 0
    for i in range(0, len(points), rows):
        inside = cdist(points[i : i + rows], members) <= radius  # (<= rows, members)
        near += int(inside.any(axis=1).sum())
    return near / len(points)


def density_coverage(
    real: np.ndarray, fake: np.ndarray, k: int = 5
) -> tuple[float, float]:
    r"""Return how densely fakes sit among real points, and how many of these they meet.

    Around each real point :math:`a_i` lies a ball :math:`B_i` that reaches to its
    ``k``-th nearest neighbour among the real points; then, eq. (24.7),

    .. math:: \text{density} = \frac1{km}\sum_{j=1}^m\sum_{i=1}^n
        \mathbf 1[b_j\in B_i], \qquad
        \text{coverage} = \frac1n\sum_{i=1}^n \max_j \mathbf 1[b_j\in B_i]

    Only balls of real points count, so strange fakes cannot widen them, and one strange
    real point adds at most ``1 / k`` to the density.

    Args:
        real: Features ``(n, d)``, ``n`` above ``k``.
        fake: Features ``(m, d)``, ``m`` above ``k``.
        k: Which neighbour sets the radius, from 1.

    Returns:
        ``(density, coverage)``.  The density is at least 0, and 1 on average for equal
        distributions; above 1 the fakes crowd where real points are dense.  The
        coverage lies in [0, 1] and is about ``1 - 0.5**k`` for equal distributions
        and as many fakes as real points.

    Raises:
        TypeError: If ``k`` is not a whole number.
        ValueError: If a set has at most ``k`` rows, the widths differ, or ``k`` is not
            above 0.

    Reference:
        Naeem et al. (2020); our ``a`` is their ``X``, our ``b``
        their ``Y``.
    """
    real, fake, k = _neighbour_sets(real, fake, k)
    radius, rows = _radii(real, k), _rows(real)
    total, met = 0, np.zeros(len(real), dtype=bool)
    for i in range(0, len(fake), rows):
        inside = cdist(fake[i : i + rows], real) <= radius  # (<= rows, n)
        total += int(inside.sum())
        met |= inside.any(axis=0)
    return total / (k * len(fake)), float(met.mean())


def inception_score(logits: np.ndarray) -> float:
    r"""Inception score of a classifier's logits, eq. (24.8).

    .. math:: \exp\left(\frac1n\sum_i
        \mathrm{KL}\bigl(p(y\mid x_i)\,\|\,\bar p(y)\bigr)\right)

    Here :math:`\bar p` is the mean of the samples' class probabilities.  No real data
    enter: one good sample of each class, repeated, reaches the maximum.

    Args:
        logits: The classifier's logits of the samples ``(n, classes)``, as from
            :meth:`genai_utils.judge.Judge.logits`.

    Returns:
        A number from 1 (all alike, or all unsure) to the number of classes.

    Raises:
        ValueError: If ``logits`` is not a matrix of finite numbers.

    Reference:
        Salimans et al. (2016), section 4.  Barratt and Sharma (2018), A note on the
        Inception score, for what it cannot say.
    """
    logits = check_array(logits, "logits", ndim=2).astype("float64")
    logs = logits - logsumexp(logits, axis=1, keepdims=True)  # (n, classes)
    marginal = logsumexp(logs, axis=0) - np.log(len(logs))  # (classes,)
    return float(np.exp((np.exp(logs) * (logs - marginal)).sum(axis=1).mean()))


def wasserstein_1d(
    a: np.ndarray,
    b: np.ndarray,
    a_weights: np.ndarray | None = None,
    b_weights: np.ndarray | None = None,
) -> float:
    r"""Wasserstein-1, or earth mover's, distance of samples on a line, eq. (13.3).

    .. math:: W_1 = \int |F_a(x) - F_b(x)|\, dx

    Here :math:`F(x)` is the share of a sample that lies at ``x`` or to its left.

    Args:
        a: Numbers ``(n,)``.
        b: Numbers ``(m,)``.
        a_weights: How much each of ``a`` counts ``(n,)``, at least 0; alike by default.
        b_weights: The same for ``b``.

    Returns:
        A number, at least 0, in the unit of the samples; 0 for equal distributions.

    Raises:
        ValueError: If a sample is empty, or weights have another length, are negative
            or are all 0.

    Reference:
        Peyré and Cuturi (2019), section 2.6.
    """
    a, b = (check_array(v, n, ndim=1) for v, n in ((a, "a"), (b, "b")))
    mass = np.concatenate(
        [_mass(a_weights, "a_weights", len(a)), -_mass(b_weights, "b_weights", len(b))]
    )
    x = np.concatenate([a, b]).astype("float64")
    order = np.argsort(x)
    gap = np.cumsum(mass[order])[:-1]  # F_a - F_b between neighbours
    return float(np.abs(gap) @ np.diff(x[order]))


def _mass(weights: np.ndarray | None, name: str, n: int) -> np.ndarray:
    """Weights that add up to 1."""
    if weights is None:
        return np.full(n, 1 / n)
    weights = check_array(weights, name, shape=(n,), low=0.0).astype("float64")
    if weights.sum() == 0:
        raise ValueError(
            f"`{name}` must not all be 0. Received: {n} zeros. Give at least one "
            "sample a weight above 0."
        )
    return weights / weights.sum()
