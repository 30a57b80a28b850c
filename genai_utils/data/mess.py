"""A messy copy of the digits whose faults are known, and finders for copies."""

from __future__ import annotations

import numpy as np

from genai_utils.checks import (
    check_array,
    check_choice,
    check_images,
    check_positive,
)
from genai_utils.data.images import digits, shapes

__all__ = [
    "FAULTS",
    "copy_pairs",
    "duplicate_groups",
    "messy_digits",
    "near_copies",
    "near_duplicates",
    "perceptual_hash",
    "shifted",
]

FAULTS = {  # kind of fault: how many of them for each sound image asked for
    "missing": 0.03,
    "wrong_label": 0.05,
    "exact_copy": 0.05,
    "near_copy": 0.10,
    "other_scale": 0.03,
    "outlier": 0.03,
}


def messy_digits(
    n: int = 1000, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """Spoil a copy of the training digits in six known ways.

    ``n`` different digits are drawn. Some lose a 5 x 5 patch of pixels (NaN), some get
    a wrong label, some are stored from 0 to 255 instead of from -1 to 1. Then copies,
    near-copies (``near_copies``) and images that are no digits are added, and the
    rows are shuffled. No row has two faults, and no faulty row is copied.

    Args:
        n: How many different digits, from 100 to 1,297.
        seed: Seed of the draw.

    Returns:
        Images ``(m, 16, 16, 1)``, float32; labels ``(m,)``, int64; and the truth, a
        dictionary of arrays ``(m,)``: ``"kind"`` (``"sound"`` or a key of
        ``FAULTS``), ``"original"`` (the row that a copy was made from, else the
        row itself) and ``"label"`` (the right label, -1 for an outlier). Of the digits
        a share of ``FAULTS`` is spoilt, or added, by each kind.

    Raises:
        ValueError: If ``n`` is outside its range.
    """
    x, y = digits("train")
    if not 100 <= check_positive(n, "n") <= len(x) or n != int(n):
        raise ValueError(
            f"`n` must be a whole number from 100 to {len(x)}. Received: {n}. "
            "Choose another number."
        )
    rng = np.random.default_rng(seed)
    chosen = rng.permutation(len(x))[: int(n)]
    x, y = x[chosen], y[chosen]
    count = {kind: round(share * n) for kind, share in FAULTS.items()}
    sizes = np.cumsum([count[k] for k in FAULTS if k != "outlier"])
    parts = np.split(rng.permutation(int(n)), sizes)
    rows = dict(zip((k for k in FAULTS if k != "outlier"), parts, strict=False))
    kind = np.full(int(n), "sound", dtype="<U11")
    right = y.copy()
    for name in ("missing", "wrong_label", "other_scale"):
        kind[rows[name]] = name
    for i, (top, left) in zip(
        rows["missing"], rng.integers(2, 10, (count["missing"], 2)), strict=True
    ):
        x[i, top : top + 5, left : left + 5] = np.nan
    wrong = rows["wrong_label"]
    y[wrong] = (y[wrong] + rng.integers(1, 10, len(wrong))) % 10
    twins, near = rows["exact_copy"], rows["near_copy"]
    added = [
        x[twins],
        near_copies(x[near], seed=int(rng.integers(2**31))),
        _no_digits(count["outlier"], rng),
    ]
    x[rows["other_scale"]] = 127.5 * (x[rows["other_scale"]] + 1)
    nothing = np.full(count["outlier"], -1)
    x = np.concatenate([x, *added])
    y = np.concatenate([y, y[twins], y[near], rng.integers(0, 10, count["outlier"])])
    right = np.concatenate([right, right[twins], right[near], nothing])
    kind = np.concatenate(
        [kind, *(np.full(count[k], k) for k in ("exact_copy", "near_copy", "outlier"))]
    )
    own = np.arange(len(x))
    original = np.concatenate(
        [own[: int(n)], twins, near, own[len(x) - count["outlier"] :]]
    )
    order = rng.permutation(len(x))
    place = np.argsort(order)  # where each row went
    truth = {"kind": kind[order], "original": place[original[order]]}
    return x[order], y[order], truth | {"label": right[order]}


def _no_digits(n: int, rng: np.random.Generator) -> np.ndarray:
    """Filled shapes, pixels without order, and digits in white on black."""
    third = -(-n // 3)
    filled, _ = shapes(third, seed=int(rng.integers(2**31)))
    noise = rng.uniform(-1.0, 1.0, (third, 16, 16, 1)).astype("float32")
    negative = -digits("test")[0][rng.permutation(500)[:third]]
    return np.concatenate([filled, noise, negative])[:n]


def near_copies(x: np.ndarray, seed: int = 0) -> np.ndarray:
    """Copy each image with small changes that a person would hardly notice.

    A copy is moved by at most one pixel along one axis, its ink is thinned by up to a
    quarter, and noise of standard deviation 0.06 is added; it stays in [-1, 1].

    Args:
        x: Images ``(n, H, W, C)`` in [-1, 1], -1 for paper.
        seed: Seed of the changes.

    Returns:
        As many images, float32.
    """
    x = check_images(x)
    rng = np.random.default_rng(seed)
    steps = np.array([(0, 0), (0, 1), (1, 0), (0, -1), (-1, 0)])
    moves = steps[rng.integers(0, 5, len(x))]
    moved = np.stack([shifted(a, *m) for a, m in zip(x, moves, strict=True)])
    gain = rng.uniform(0.75, 1.0, (len(x), 1, 1, 1))
    noise = rng.normal(0.0, 0.06, x.shape)
    return np.clip((moved + 1) * gain - 1 + noise, -1, 1).astype("float32")


def shifted(x: np.ndarray, down: int, right: int) -> np.ndarray:
    """Move images; paper comes in at the edge that they leave.

    Args:
        x: Images ``(..., H, W, C)``, -1 for paper.
        down: Pixels to move down, negative for up.
        right: Pixels to move right, negative for left.

    Returns:
        The moved images, as a view of a padded copy.

    Raises:
        ValueError: If ``x`` has fewer than three axes.
    """
    x = np.asarray(x)
    if x.ndim < 3:
        raise ValueError(
            "`x` must have at least the axes (H, W, C). Received: shape "
            f"{x.shape}. Add the missing axis with `x[..., None]`."
        )
    h, w = x.shape[-3:-1]
    pad = max(abs(down), abs(right))
    edges = [(0, 0)] * (x.ndim - 3) + [(pad, pad), (pad, pad), (0, 0)]
    page = np.pad(x, edges, constant_values=-1.0)
    return page[..., pad - down : pad - down + h, pad - right : pad - right + w, :]


def copy_pairs(truth: dict[str, np.ndarray], kind: str) -> set[tuple[int, int]]:
    """List which row was copied from which, by the truth of ``messy_digits``.

    Args:
        truth: The truth.
        kind: ``"exact_copy"`` or ``"near_copy"``.

    Returns:
        Pairs of row numbers, the smaller first.

    Raises:
        ValueError: If ``kind`` is another word.
    """
    check_choice(kind, "kind", ("exact_copy", "near_copy"))
    rows = np.flatnonzero(truth["kind"] == kind)
    return {tuple(sorted((int(r), int(truth["original"][r])))) for r in rows}


def perceptual_hash(x: np.ndarray, size: int = 8) -> np.ndarray:
    r"""Describe each image by bits that survive small changes of its pixels.

    The bits say which of the lowest ``size`` x ``size`` coefficients of the cosine
    transform, the constant one left out, lie above their median. Channels are averaged.

    Args:
        x: Images ``(n, H, W, C)`` in [-1, 1].
        size: Frequencies along each axis, from 2 to ``min(H, W)``.

    Returns:
        Bits ``(n, size**2 - 1)``, bool. Two hashes are compared by how many differ.

    Raises:
        ValueError: If ``size`` is outside its range.

    Reference:
        Zauner (2010), Implementation and benchmarking of perceptual image hash
        functions, where the image is first brought to 32 x 32.
    """
    x = check_images(x).mean(axis=-1)
    if not 2 <= size <= min(x.shape[1:]):
        raise ValueError(
            f"`size` must lie from 2 to {min(x.shape[1:])}, the side of the images. "
            f"Received: {size}. Choose another size."
        )
    down, across = (
        np.cos(np.pi / m * np.outer(np.arange(size), np.arange(m) + 0.5))
        for m in x.shape[1:]
    )
    low = (down @ x @ across.T).reshape(len(x), -1)[:, 1:]
    return low > np.median(low, axis=1, keepdims=True)


def near_duplicates(
    x: np.ndarray, threshold: float = 0.992, max_shift: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    r"""Find all pairs of images that are the same up to a small shift and their ink.

    The similarity is the largest correlation of pixels over all shifts of one image by
    up to ``max_shift`` pixels.  All pairs are compared: fine for some thousands.

    Args:
        x: Images ``(n, H, W, C)`` in [-1, 1].
        threshold: Smallest similarity of a pair, in (0, 1].
        max_shift: Largest shift along each axis in pixels, at least 0.

    Returns:
        Pairs ``(k, 2)`` of row numbers, the smaller first, in rising order; and their
        similarities ``(k,)``.  An image of one grey level has no pair.

    Raises:
        ValueError: If the threshold or the shift is outside its range.
    """
    x = check_images(x).astype("float32")
    check_positive(max_shift, "max_shift", zero_ok=True)
    if max_shift != int(max_shift) or max_shift >= min(x.shape[1:3]):
        raise ValueError(
            "`max_shift` must be a whole number of pixels below the side of the "
            f"images. Received: {max_shift}. Choose another shift."
        )
    if not 0 < check_positive(threshold, "threshold") <= 1:
        raise ValueError(
            f"`threshold` must lie in (0, 1]. Received: {threshold}. A correlation "
            "cannot exceed 1."
        )
    still = _standardised(x)
    best = np.full((len(x), len(x)), -1.0, dtype="float32")
    reach = range(-int(max_shift), int(max_shift) + 1)
    for down in reach:
        for right in reach:
            moved = _standardised(shifted(x, down, right))
            np.maximum(best, still @ moved.T, out=best)
    best = np.maximum(best, best.T)
    pairs = np.argwhere(np.triu(best >= threshold - 1e-6, 1))
    return pairs, best[tuple(pairs.T)]


def _standardised(x: np.ndarray) -> np.ndarray:
    """Rows of mean 0 and length 1, so that a product of two is their correlation."""
    flat = x.reshape(len(x), -1)
    flat = flat - flat.mean(axis=1, keepdims=True)
    return flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-6)


def duplicate_groups(pairs: np.ndarray, n: int) -> np.ndarray:
    """Number the groups that pairs join: copies of copies fall into one group.

    Args:
        pairs: Row numbers ``(k, 2)``, as ``near_duplicates`` returns them; ``k``
            may be 0.
        n: How many rows there are.

    Returns:
        For each row the smallest row number of its group, ``(n,)``, int64: a row that
        is its own number is kept when duplicates are removed.

    Raises:
        ValueError: If a row number is outside 0 to ``n - 1``.
    """
    check_positive(n, "n")
    group = np.arange(int(n))
    if np.size(pairs) == 0:
        return group
    pairs = check_array(pairs, "pairs", shape=(None, 2), low=0, high=n - 1)
    while True:  # each pass carries the smallest number one pair further
        before = group.copy()
        smaller = group[pairs].min(axis=1)
        np.minimum.at(group, pairs[:, 0], smaller)
        np.minimum.at(group, pairs[:, 1], smaller)
        if np.array_equal(before, group):
            return group
