"""Data sets: real digits, toy densities that are known, shapes with known factors.

Nothing but :func:`load` of a published set ever asks the network.
"""

from __future__ import annotations

import functools
import gzip
import hashlib
import json
import math
import os
from importlib import resources
from pathlib import Path

import numpy as np

from genai_utils.checks import check_array, check_choice, check_positive

__all__ = [
    "TOYS",
    "digits",
    "load",
    "shapes",
    "toy",
    "toy_centers",
    "toy_log_density",
]

TOYS = ("ring", "grid", "moons", "swiss_roll", "checkerboard")
_MODE_STD = {"ring": 0.1, "grid": 0.05}
_SPLITS = ("train", "test", "all")


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
    check_positive(n, "n")
    if size < 8:
        raise ValueError(f"`size` must be at least 8. Received: {size}. Enlarge it.")
    rng = np.random.default_rng(seed)
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
    x = np.clip(-edge * size, -1.0, 1.0).astype("float32")[..., None]
    factors = {"shape": kind, "scale": scale, "x": cx, "y": cy, "angle": angle}
    return x, factors


def load(name: str, split: str = "train") -> tuple[np.ndarray, np.ndarray]:
    """Load a data set of labelled images by name.

    A published set is looked for in ``$GENAI_DATA_DIR/<name>/``, then in the download
    cache, then at its address; its SHA-256 is checked each time.

    Args:
        name: ``"digits"`` (inside an installed package), ``"mnist"`` or
            ``"fashion_mnist"``.
        split: ``"train"``, ``"test"`` or ``"all"``.

    Returns:
        Images ``(n, H, W, 1)``, float32 in [-1, 1], and labels ``(n,)``, int64.

    Raises:
        ValueError: If the name is unknown or a file's SHA-256 is wrong.
        FileNotFoundError: If a file is neither here nor to be had; the message says
            which file, which address, and where to put it by hand.
    """
    registry = _registry()
    check_choice(name, "name", ("digits", *registry))
    check_choice(split, "split", _SPLITS)
    if name == "digits":
        return digits(split)
    files = registry[name]["files"]
    kinds = {"train": ["train"], "test": ["t10k"], "all": ["train", "t10k"]}[split]
    images, labels = [], []
    for kind in kinds:
        images.append(_read_idx(_fetch(name, files[f"{kind}-images-idx3-ubyte.gz"])))
        labels.append(_read_idx(_fetch(name, files[f"{kind}-labels-idx1-ubyte.gz"])))
    x = np.concatenate(images)[..., None].astype("float32") / 127.5 - 1.0
    return x, np.concatenate(labels).astype("int64")


@functools.cache
def _registry() -> dict:
    text = (resources.files("genai_utils") / "registry.json").read_text("utf-8")
    sets = json.loads(text)
    for entry in sets.values():
        entry["files"] = {f["name"]: f for f in entry["files"]}
    return sets


def _fetch(name: str, file: dict) -> Path:
    """Return the path of a file whose SHA-256 has been checked."""
    folder = os.environ.get("GENAI_DATA_DIR")
    if folder:
        path = Path(folder) / name / file["name"]
        if path.is_file():
            return _verified(path, file)
    import pooch

    cache = Path(pooch.os_cache("genai_utils")) / name
    path = cache / file["name"]
    if path.is_file():
        return _verified(path, file)
    try:
        return Path(
            pooch.retrieve(
                file["url"], f"sha256:{file['sha256']}", file["name"], path=cache
            )
        )
    except (OSError, ValueError) as error:
        raise FileNotFoundError(
            f"`{name}` needs the file {file['name']}. Received: {error}. Download "
            f"{file['url']} on a machine with a network, put it at "
            f"{Path('$GENAI_DATA_DIR') / name / file['name']} (or at {path}), and set "
            f"the environment variable GENAI_DATA_DIR to the folder that holds {name}/."
        ) from error


def _verified(path: Path, file: dict) -> Path:
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest != file["sha256"]:
        raise ValueError(
            f"`{path}` must have the SHA-256 {file['sha256']}. Received: {digest}. "
            "The file is damaged or another one: delete it and load again."
        )
    return path


def _read_idx(path: Path) -> np.ndarray:
    """Read a gzip-packed IDX file of bytes."""
    content = gzip.decompress(path.read_bytes())
    ndim = content[3]
    shape = np.frombuffer(content, ">i4", count=ndim, offset=4)
    return np.frombuffer(content, "u1", offset=4 + 4 * ndim).reshape(shape)
