"""Toy densities in the plane, most of them known in closed form."""

from __future__ import annotations

import math

import numpy as np

from genai_utils.checks import check_array, check_choice, check_positive

__all__ = ["TOYS", "toy", "toy_centers", "toy_log_density"]

TOYS = ("ring", "grid", "moons", "swiss_roll", "checkerboard")
_MODE_STD = {"ring": 0.1, "grid": 0.05}


def toy_centers(name: str) -> np.ndarray:
    """Return the centres of a toy mixture, shape ``(modes, 2)``.

    Args:
        name: ``"ring"`` (8 on a circle of radius 2) or ``"grid"`` (25 on the whole
            numbers from -2 to 2).
    """
    check_choice(name, "name", tuple(_MODE_STD))
    if name == "ring":
        angle = 2 * np.pi * np.arange(8) / 8
        return 2.0 * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    side = np.arange(-2.0, 3.0)
    return np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2)


def toy(name: str, n: int, seed: int = 0) -> np.ndarray:
    """Draw points in the plane from a toy density.

    Args:
        name: ``"ring"`` (8 Gaussians, standard deviation 0.1), ``"grid"`` (25
            Gaussians, 0.05), ``"moons"`` (two half circles with noise 0.1),
            ``"swiss_roll"`` (a spiral with noise 0.1) or ``"checkerboard"`` (uniform
            on the 8 dark squares of a 4 x 4 board on [-2, 2] squared).
        n: How many points, at least 1.
        seed: Seed of the draw.

    Returns:
        Points ``(n, 2)``, float32, roughly within [-2.5, 2.5].
    """
    check_choice(name, "name", TOYS)
    check_positive(n, "n")
    rng = np.random.default_rng(seed)
    if name in _MODE_STD:
        centers = toy_centers(name)
        noise = _MODE_STD[name] * rng.standard_normal((n, 2))
        points = centers[rng.integers(len(centers), size=n)] + noise
    elif name == "moons":
        angle, upper = np.pi * rng.random(n), rng.random(n) < 0.5
        x = np.where(upper, np.cos(angle), 1.0 - np.cos(angle)) - 0.5
        y = np.where(upper, np.sin(angle), 0.5 - np.sin(angle)) - 0.25
        points = np.stack([x, y], axis=1) * 1.5 + 0.1 * rng.standard_normal((n, 2))
    elif name == "swiss_roll":
        angle = 1.5 * np.pi * (1.0 + 2.0 * rng.random(n))
        spiral = np.stack([np.cos(angle), np.sin(angle)], axis=1)
        points = angle[:, None] * spiral / 6.5 + 0.1 * rng.standard_normal((n, 2))
    else:
        column = rng.integers(4, size=n)
        row = 2 * rng.integers(2, size=n) + column % 2
        points = np.stack([column, row], axis=1) - 2.0 + rng.random((n, 2))
    return points.astype("float32")


def toy_log_density(name: str, points: np.ndarray) -> np.ndarray:
    """Return the exact log-density of a toy set, in nats, shape ``(n,)``.

    Args:
        name: ``"ring"``, ``"grid"`` or ``"checkerboard"``; the others have no closed
            form.
        points: Points, shape ``(n, 2)``.
    """
    check_choice(name, "name", (*_MODE_STD, "checkerboard"))
    points = check_array(points, "points", shape=(None, 2)).astype("float64")
    if name == "checkerboard":
        column, row = np.floor(points + 2.0).T
        inside = (column >= 0) & (column < 4) & (row >= 0) & (row < 4)
        dark = (column - row) % 2 == 0
        return np.where(inside & dark, -math.log(8.0), -np.inf)
    centers, std = toy_centers(name), _MODE_STD[name]
    squares = ((points[:, None] - centers) ** 2).sum(axis=-1)  # (n, modes)
    log_p = -0.5 * squares / std**2 - math.log(2 * math.pi * std**2 * len(centers))
    top = log_p.max(axis=1, keepdims=True)
    return top[:, 0] + np.log(np.exp(log_p - top).sum(axis=1))
