"""Figures of the book: NumPy in, Matplotlib axes out; the caller shows them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from genai_utils.checks import check_array, check_images, check_positive

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["image_grid", "latent_map", "loss_curves", "scatter2d"]

_LINES = ("-", "--", ":", "-.")
_MARKS = "osD^v<>ph*"


def _axes(ax: Axes | None, figsize: tuple[float, float]) -> Axes:
    if ax is not None:
        return ax
    import matplotlib.pyplot as plt

    return plt.subplots(figsize=figsize, layout="constrained")[1]


def image_grid(
    images: np.ndarray,
    ncols: int = 10,
    ax: Axes | None = None,
    title: str | None = None,
    row_labels: Sequence[str] | None = None,
) -> Axes:
    """Show images side by side, row by row, each pixel as a sharp square.

    Args:
        images: Images ``(n, H, W, 1)`` or ``(n, H, W, 3)`` in [-1, 1].
        ncols: Images in a row, at least 1.
        ax: Where to draw; a new figure by default.
        title: A line above the grid.
        row_labels: A word for each row, written to its left.

    Returns:
        The axes; ``ax.images[0]`` holds the whole grid.

    Raises:
        ValueError: If there is not one label for each row, or ``ncols`` is not above 0.
    """
    images = check_images(images, "images")
    n, h, w, c = images.shape
    ncols = min(check_positive(ncols, "ncols"), n)
    nrows = -(-n // ncols)
    if row_labels is not None and len(row_labels) != nrows:
        raise ValueError(
            f"`row_labels` must hold one word for each of the {nrows} rows. "
            f"Received: {list(row_labels)}. Add or remove labels, or change `ncols`."
        )
    page = np.full((nrows, h + 1, ncols, w + 1, c), 1.0)  # white lines between
    for i, image in enumerate(images):
        page[i // ncols, :h, i % ncols, :w] = -image if c == 1 else image
    page = page.reshape(nrows * (h + 1), ncols * (w + 1), c)[:-1, :-1]
    margin = 0.09 * max(map(len, row_labels or ("",)))  # inches for the labels
    height = 0.7 * nrows * h / w + 0.1 + 0.3 * bool(title)
    ax = _axes(ax, (0.7 * ncols + 0.1 + margin, height))
    shown = page[..., 0] if c == 1 else 0.5 * (page + 1)
    ax.imshow(shown, cmap="gray", vmin=-1, vmax=1, interpolation="nearest")
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    ax.set(xticks=[], yticks=[(h + 1) * (i + 0.5) - 1 for i in range(nrows)])
    ax.set_yticklabels(row_labels or [""] * nrows, fontsize=9)
    if title:
        ax.set_title(title, fontsize=10)
    return ax


def latent_map(z: np.ndarray, labels: np.ndarray, ax: Axes | None = None) -> Axes:
    """Show where each class lies in a two-dimensional latent space.

    Each class has a colour, a marker and its number at the median of its points.

    Args:
        z: Latent points ``(n, 2)``.
        labels: Classes ``(n,)``, whole numbers from 0.
        ax: Where to draw; a new figure by default.

    Returns:
        The axes.
    """
    z = check_array(z, "z", shape=(None, 2))
    labels = check_array(labels, "labels", shape=(len(z),)).astype(int)
    ax = _axes(ax, (5.5, 5.0))
    import matplotlib.pyplot as plt

    classes = np.unique(labels)
    colours = plt.get_cmap("tab10").colors
    for i, k in enumerate(classes):
        mine = z[labels == k]
        mark = _MARKS[i % len(_MARKS)]
        ax.scatter(
            *mine.T, s=12, color=colours[i % 10], marker=mark, alpha=0.6, label=str(k)
        )
        ax.text(
            *np.median(mine, axis=0),
            str(k),
            fontsize=13,
            weight="bold",
            ha="center",
            va="center",
            bbox={"boxstyle": "circle,pad=0.15", "fc": "white", "alpha": 0.85},
        )
    ax.set(xlabel="$z_1$", ylabel="$z_2$", aspect="equal")
    return ax


def loss_curves(
    history: Mapping[str, Sequence[float]],
    ax: Axes | None = None,
    ylabel: str = "nats",
) -> Axes:
    """Show training curves, one line style each, named at their right end.

    Args:
        history: Name to values, one value an epoch (``fit(...).history``).
        ax: Where to draw; a new figure by default.
        ylabel: What the values measure.

    Returns:
        The axes.
    """
    ax = _axes(ax, (6.0, 3.2))
    for i, (name, values) in enumerate(history.items()):
        values = check_array(values, name, ndim=1)
        epochs = np.arange(1, len(values) + 1)
        ax.plot(epochs, values, _LINES[i % len(_LINES)], label=name)
    ax.set(xlabel="epoch", ylabel=ylabel)
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False)
    return ax


def scatter2d(
    points: np.ndarray,
    reference: np.ndarray | None = None,
    ax: Axes | None = None,
    title: str | None = None,
) -> Axes:
    """Show generated points, over real ones if these are given.

    Args:
        points: Generated points ``(n, 2)``, drawn as orange crosses.
        reference: Real points ``(m, 2)``, drawn as grey dots.
        ax: Where to draw; a new figure by default.
        title: A line above.

    Returns:
        The axes.
    """
    points = check_array(points, "points", shape=(None, 2))
    ax = _axes(ax, (4.2, 4.2))
    if reference is not None:
        reference = check_array(reference, "reference", shape=(None, 2))
        ax.scatter(*reference.T, s=6, color="0.6", marker="o", label="real")
    ax.scatter(*points.T, s=14, color="C1", marker="x", lw=0.8, label="generated")
    ax.set(xlabel="$x_1$", ylabel="$x_2$", aspect="equal")
    if reference is not None:
        ax.legend(frameon=False, loc="upper right", fontsize=8)
    if title:
        ax.set_title(title, fontsize=10)
    return ax
