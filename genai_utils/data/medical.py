"""Chest X-rays: PneumoniaMNIST, reduced by a third party, without its repeats."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from genai_utils.checks import check_array, check_choice, check_whole
from genai_utils.data.fetch import fetch, registry

__all__ = ["NAMES", "PARTS", "chest_xrays", "read_xrays", "shrunk", "without_repeats"]

#: Names of the two classes, in the order of their labels.
NAMES = ("normal", "pneumonia")
#: The parts of the file, in the order in which a repeated image keeps its place.
PARTS = ("train", "val", "test")


def chest_xrays(
    size: int = 14, repeats: bool = False
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return chest X-rays of children, normal or with pneumonia, in three parts.

    The file is PneumoniaMNIST of MedMNIST v2 after a third party had left out most of
    its normal training images: 388 of them against 3,494 with pneumonia.  It is not
    the official file, and it does not say which images show the same patient.

    Args:
        size: Side of the images: 28 as in the file, or a divisor of it.
        repeats: Whether to keep images that occur more than once.  By default only the
            first stays, in the order of :data:`PARTS`.

    Returns:
        A dictionary that maps ``"train"``, ``"val"`` and ``"test"`` to ``(x, y)``,
        with x float32 in [-1, 1] of shape ``(n, size, size, 1)`` and y int64 of shape
        ``(n,)``, 0 for normal and 1 for pneumonia.

    Raises:
        FileNotFoundError: If the file is not on this machine and cannot be fetched.
        ValueError: If ``size`` does not divide 28, or the file is damaged.

    Reference:
        Yang et al. (2023), MedMNIST v2; Kermany et al. (2018).  CC BY 4.0.
    """
    name = "pneumoniamnist_subset"
    path = fetch(name, registry()[name]["files"]["pneumoniamnist.npz"])
    with np.load(path, allow_pickle=False) as stored:
        parts = read_xrays({key: stored[key] for key in stored.files})
    if not repeats:
        parts = without_repeats(parts)
    return {k: (shrunk(x, size), y) for k, (x, y) in parts.items()}


def read_xrays(
    arrays: Mapping[str, Any],
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Take the arrays of a MedMNIST file apart.

    Args:
        arrays: ``train_images``, ``val_images`` and ``test_images`` of shape
            ``(n, H, W)`` with values from 0 to 255, and ``train_labels`` and so on of
            shape ``(n, 1)`` with values 0 and 1.

    Returns:
        A dictionary of ``(x, y)`` for each of :data:`PARTS`, x uint8 ``(n, H, W)``, y
        int64 ``(n,)``.

    Raises:
        ValueError: If a part is missing, or has another shape or range.
    """
    parts = {}
    for part in PARTS:
        keys = f"{part}_images", f"{part}_labels"
        for key in keys:
            check_choice(key, "name of an array", tuple(arrays))
        x = check_array(arrays[keys[0]], keys[0], ndim=3, low=0, high=255)
        y = check_array(arrays[keys[1]], keys[1], shape=(len(x), 1), low=0, high=1)
        parts[part] = x.astype("uint8"), y[:, 0].astype("int64")
    return parts


def without_repeats(
    parts: Mapping[str, tuple[np.ndarray, np.ndarray]],
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Keep the first of each group of equal images, across all parts.

    So an image of the training set that comes back in a later part is left out there.

    Args:
        parts: ``(x, y)`` for each part, the one that shall keep its images first.

    Returns:
        The same, shorter where there were repeats.
    """
    seen: set[bytes] = set()
    kept = {}
    for part, (x, y) in parts.items():
        new = np.zeros(len(x), bool)
        for i, image in enumerate(x):
            key = image.tobytes()
            new[i] = key not in seen
            seen.add(key)
        kept[part] = x[new], y[new]
    return kept


def shrunk(x: np.ndarray, size: int) -> np.ndarray:
    """Average squares of pixels, and scale to [-1, 1].

    Args:
        x: Images ``(n, H, H)`` with values from 0 to 255.
        size: Side of the new images, a divisor of ``H``.

    Returns:
        float32, shape ``(n, size, size, 1)``.

    Raises:
        ValueError: If ``size`` does not divide ``H``.
    """
    x = check_array(x, "x", ndim=3, low=0, high=255)
    side = x.shape[1] // check_whole(size, "size")
    if x.shape[1:] != (side * size, side * size):
        raise ValueError(
            f"`size` must divide the side of the images, {x.shape[1]}. Received: "
            f"{size}. Pass 7, 14 or 28."
        )
    squares = x.reshape(len(x), size, side, size, side).astype("float32")
    return (squares.mean(axis=(2, 4)) / 127.5 - 1.0)[..., None]
