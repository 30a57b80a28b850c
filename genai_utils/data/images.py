"""Images: real digits, shapes with known factors, and published sets by name."""

from __future__ import annotations

import functools
import gzip
from pathlib import Path

import numpy as np

from genai_utils.checks import check_choice, check_positive
from genai_utils.data.fetch import fetch, registry

__all__ = ["digits", "load", "outlines", "shapes"]

_SPLITS = ("train", "test", "all")
_PUBLISHED = ("mnist", "fashion_mnist")  # in the format of MNIST


@functools.cache
def _all_digits() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    from scipy.ndimage import zoom
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    raw = load_digits()
    big = zoom(
        raw.images / 8.0 - 1.0, (1, 2, 2), order=3, mode="nearest", grid_mode=True
    )
    x = np.clip(big, -1.0, 1.0).astype("float32")[..., None]  # (1797, 16, 16, 1)
    y = raw.target.astype("int64")
    return tuple(train_test_split(x, y, test_size=500, random_state=0, stratify=y))


def digits(split: str = "train") -> tuple[np.ndarray, np.ndarray]:
    """Real handwritten digits, 16 x 16, from the copy inside scikit-learn.

    The 1,797 images of 8 x 8 pixels with 17 grey levels are doubled in size by cubic
    splines (``scipy.ndimage.zoom``, pixel centres kept) and clipped to the range.
    The split is fixed and stratified by class: 1,297 to train, 500 to test.  Writers
    are not recorded in this copy, so one writer can be in both parts.

    Args:
        split: ``"train"``, ``"test"`` or ``"all"`` (train, then test).

    Returns:
        Images ``(n, 16, 16, 1)``, float32 in [-1, 1] with -1 for paper and 1 for
        ink, and labels ``(n,)``, int64.

    Reference:
        Alpaydin and Kaynak (1998), Optical recognition of handwritten digits.
    """
    check_choice(split, "split", _SPLITS)
    x_train, x_test, y_train, y_test = _all_digits()
    if split == "all":
        return np.concatenate([x_train, x_test]), np.concatenate([y_train, y_test])
    chosen = (x_train, y_train) if split == "train" else (x_test, y_test)
    return chosen[0].copy(), chosen[1].copy()


def shapes(
    n: int, size: int = 16, seed: int = 0
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Draw squares, discs and triangles whose factors are known.

    Args:
        n: How many images, at least 1.
        size: Height and width in pixels, at least 8.
        seed: Seed of the draw.

    Returns:
        Images ``(n, size, size, 1)``, float32 in [-1, 1], edges smoothed over about a
        pixel; and a dictionary of factors, each ``(n,)``: ``"shape"`` (0 square,
        1 disc, 2 triangle), ``"scale"`` (radius in units of half the image, 0.3 to
        0.6), ``"x"`` and ``"y"`` (centre, -0.35 to 0.35), ``"angle"`` (radians, within
        the shape's symmetry; 0 for a disc).
    """
    edge, factors = _edges(n, size, np.random.default_rng(seed))
    return _pixels(-edge * size), factors


def outlines(
    n: int, size: int = 16, seed: int = 0, stripes: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """Draw pairs of images: the outline of a shape, and the same shape filled.

    The outline decides the filling, or, with stripes, all but their phase.  The shapes
    are those of :func:`shapes`.

    Args:
        n: How many pairs, at least 1.
        size: Height and width in pixels, at least 8.
        seed: Seed of the draw.
        stripes: Whether to fill with upright stripes, a cosine with a period of a
            quarter of the width and a phase drawn uniformly for each image, which goes
            from paper to ink; else with ink.

    Returns:
        Outlines and filled shapes, each ``(n, size, size, 1)``, float32 in [-1, 1].
    """
    rng = np.random.default_rng(seed)
    edge, _ = _edges(n, size, rng)
    outline, filled = _pixels(2.0 - np.abs(edge) * size), _pixels(-edge * size)
    if stripes:
        angle = 8 * np.pi * (np.arange(size) + 0.5) / size
        wave = np.cos(angle + rng.uniform(0, 2 * np.pi, (n, 1, 1)))  # (n, 1, size)
        filled = (0.5 * (filled + 1) * (wave[..., None] + 1) - 1).astype("float32")
    return outline, filled


def _pixels(ink: np.ndarray) -> np.ndarray:
    """Ink ``(n, H, W)``, cut to [-1, 1], as images."""
    return np.clip(ink, -1.0, 1.0).astype("float32")[..., None]


def _edges(
    n: int, size: int, rng: np.random.Generator
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """How far each pixel lies beyond the boundary of a shape, and the shapes' factors.

    Distances ``(n, size, size)`` are in units of half the image, negative inside.
    """
    check_positive(n, "n")
    if size < 8:
        raise ValueError(f"`size` must be at least 8. Received: {size}. Enlarge it.")
    kind = rng.integers(3, size=n)
    scale = rng.uniform(0.3, 0.6, n)
    cx, cy = rng.uniform(-0.35, 0.35, (2, n))
    angle = rng.random(n) * np.choose(kind, [np.pi / 2, 0.0, 2 * np.pi / 3])
    line = (np.arange(size) + 0.5) / size * 2 - 1
    u = line[None, None, :] - cx[:, None, None]  # (n, 1, size), along x
    v = line[None, :, None] - cy[:, None, None]  # (n, size, 1), along y
    edge = np.full((n, size, size), -np.inf)  # signed distance beyond the boundary
    for i, sides in enumerate((4, None, 3)):
        mine = kind == i
        r = scale[mine, None, None]
        if sides is None:
            edge[mine] = np.hypot(u[mine], v[mine]) - r
            continue
        for k in range(sides):
            a = angle[mine, None, None] + 2 * np.pi * k / sides
            side = u[mine] * np.cos(a) + v[mine] * np.sin(a)
            edge[mine] = np.maximum(edge[mine], side - r * np.cos(np.pi / sides))
    factors = {"shape": kind, "scale": scale, "x": cx, "y": cy, "angle": angle}
    return edge, factors


def load(name: str, split: str = "train") -> tuple[np.ndarray, np.ndarray]:
    """Load a data set of labelled images by name.

    A published set is looked for in ``$GENAI_DATA_DIR/<name>/``, then in the download
    cache.  If it is in neither, it is downloaded from the first of its mirrors that
    answers.  Its SHA-256 is checked each time.

    Args:
        name: ``"digits"`` (inside an installed package), ``"mnist"`` or
            ``"fashion_mnist"``.
        split: ``"train"``, ``"test"`` or ``"all"``.

    Returns:
        Images ``(n, H, W, 1)``, float32 in [-1, 1], and labels ``(n,)``, int64.

    Raises:
        ValueError: If the name is unknown or a file's SHA-256 is wrong.
        FileNotFoundError: If a file is not on this machine and no mirror gave it; the
            message says which file, what each mirror answered, and where to put the
            file by hand.
    """
    check_choice(name, "name", ("digits", *_PUBLISHED))
    check_choice(split, "split", _SPLITS)
    if name == "digits":
        return digits(split)
    files = registry()[name]["files"]
    kinds = {"train": ["train"], "test": ["t10k"], "all": ["train", "t10k"]}[split]
    images, labels = [], []
    for kind in kinds:
        images.append(_read_idx(fetch(name, files[f"{kind}-images-idx3-ubyte.gz"])))
        labels.append(_read_idx(fetch(name, files[f"{kind}-labels-idx1-ubyte.gz"])))
    x = np.concatenate(images)[..., None].astype("float32") / 127.5 - 1.0
    return x, np.concatenate(labels).astype("int64")


def _read_idx(path: Path) -> np.ndarray:
    """Read a gzip-packed IDX file of bytes."""
    content = gzip.decompress(path.read_bytes())
    ndim = content[3]
    shape = np.frombuffer(content, ">i4", count=ndim, offset=4)
    return np.frombuffer(content, "u1", offset=4 + 4 * ndim).reshape(shape)
