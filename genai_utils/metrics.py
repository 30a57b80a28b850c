"""Numbers that say how good samples are.  NumPy in, NumPy out.

A Frechet distance depends on the features it is computed in.  Ours come from the small
judges of :mod:`genai_utils.judge`: they are **not** Inception features, and no number
made here can be compared with a published FID.
"""

from __future__ import annotations

import numpy as np

from genai_utils.checks import check_array, check_positive

__all__ = [
    "class_coverage",
    "frechet_distance",
    "kid",
    "mode_coverage",
    "nearest_neighbours",
]


def frechet_distance(a: np.ndarray, b: np.ndarray) -> float:
    r"""Frechet distance between Gaussians fitted to two sets of features.

    .. math:: \lVert\mu_a-\mu_b\rVert^2
        + \operatorname{tr}\left(\Sigma_a+\Sigma_b-2(\Sigma_a\Sigma_b)^{1/2}\right)

    Args:
        a: Features ``(n, d)``, ``n`` at least 2; more than ``d`` to be of use.
        b: Features ``(m, d)``.

    Returns:
        A number, at least 0 (up to rounding); 0 for equal means and covariances.

    Raises:
        ValueError: If a set has fewer than two rows or the widths differ.

    Reference:
        Heusel et al. (2017), where the features are those of Inception.
    """
    a, b = _two_sets(a, b)
    root_a = _root(np.cov(a, rowvar=False))
    cov_b = np.atleast_2d(np.cov(b, rowvar=False))
    # tr (A B)^(1/2) = tr (A^(1/2) B A^(1/2))^(1/2), whose inside is symmetric
    cross = np.linalg.eigvalsh(root_a @ cov_b @ root_a)
    covariances = np.trace(root_a @ root_a) + np.trace(cov_b)
    gap = ((a.mean(axis=0) - b.mean(axis=0)) ** 2).sum()
    return float(gap + covariances - 2 * np.sqrt(np.maximum(cross, 0.0)).sum())


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
        A number; 0 on average where both sets come from one law, so sometimes negative.

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


def _two_sets(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    a = check_array(a, "a", ndim=2).astype("float64")
    b = check_array(b, "b", shape=(None, a.shape[1])).astype("float64")
    if min(len(a), len(b)) < 2:
        raise ValueError(
            "`a` and `b` must have at least 2 rows each. Received: "
            f"{len(a)} and {len(b)}. Draw more samples."
        )
    return a, b


def class_coverage(
    labels: np.ndarray, num_classes: int = 10, min_share: float = 0.01
) -> int:
    """Count the classes that get at least a share of the samples.

    Args:
        labels: Predicted classes ``(n,)``, whole numbers from 0.
        num_classes: How many classes there are.
        min_share: Share of the samples that makes a class count, in (0, 1].

    Returns:
        A number from 0 to ``num_classes``.
    """
    labels = check_array(labels, "labels", ndim=1, low=0, high=num_classes - 1)
    check_positive(min_share, "min_share")
    share = np.bincount(labels.astype(int), minlength=num_classes) / len(labels)
    return int((share >= min_share).sum())


def mode_coverage(
    points: np.ndarray, centers: np.ndarray, radius: float, min_count: int = 1
) -> tuple[int, float]:
    """Count the modes that samples reach, and the share of samples near a mode.

    Args:
        points: Samples ``(n, d)``.
        centers: Modes ``(k, d)``.
        radius: A sample within this Euclidean distance of its nearest mode is near.
        min_count: Near samples that a mode needs to count as covered.

    Returns:
        ``(modes covered, share of samples that are near)``.
    """
    points = check_array(points, "points", ndim=2)
    centers = check_array(centers, "centers", shape=(None, points.shape[1]))
    check_positive(radius, "radius")
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
