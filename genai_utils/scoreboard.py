"""The scoreboard of chapter 25: its rules as a function, its results as data.

:func:`score` judges 500 images of digits, whoever made them; :func:`load_scoreboard`
returns what ``benchmarks/scoreboard.py`` measured.  Nothing here needs Keras.
"""

from __future__ import annotations

import functools
import json
import warnings

import numpy as np

from genai_utils import data
from genai_utils.checks import check_array
from genai_utils.judge import load_judge
from genai_utils.metrics import (
    density_coverage,
    frechet_distance,
    kid,
    nearest_neighbours,
    precision_recall,
)
from genai_utils.stored import WEIGHTS
from genai_utils.two_sample import copying_test

__all__ = ["METRICS", "SAMPLES", "load_scoreboard", "score"]

SAMPLES = 500  # images that are judged, as many as there are test digits
METRICS = {
    "frechet": "low",
    "kid": "low",
    "precision": "high",
    "recall": "high",
    "density": "high",
    "coverage": "high",
    "nearer": "half",
    "copying": "half",
}


@functools.cache
def _reference() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Training digits, as many of them as there are test digits, those, features."""
    train, test = data.load("digits")[0], data.load("digits", "test")[0]
    some = np.random.default_rng(0).permutation(train)[: len(test)]
    return train, some, test, load_judge("digits").features(test)


def score(samples: np.ndarray) -> dict[str, float]:
    """Judge images of digits by the rules of the scoreboard.

    They are compared with the 500 test digits, in the features of the book's judge;
    the two questions about memory are asked in pixels.

    Args:
        samples: Images ``(500, 16, 16, 1)`` in [-1, 1].  Fewer are taken too, at least
            6, but then no number can be compared with the board.

    Returns:
        One number for each of ``METRICS``, whose values say what is good: ``"low"``,
        ``"high"``, or one ``"half"``.  ``frechet`` and ``kid`` are distances;
        ``precision``, ``recall``, ``density`` and ``coverage`` are those of chapter
        24; ``nearer`` is the share of samples that are nearer to 500 training digits
        than to the test digits, and ``copying`` is that of (24.10), which takes all
        training digits.

    Raises:
        ValueError: If the samples have another shape, fewer than 6 rows, or leave
            [-1, 1].

    Warns:
        UserWarning: If there are not exactly 500.
    """
    x = check_array(samples, "samples", shape=(None, 16, 16, 1), low=-1.0, high=1.0)
    if len(x) < 6:
        raise ValueError(
            f"`samples` must hold at least 6 images. Received: {len(x)}. Draw 500."
        )
    if len(x) != SAMPLES:
        warnings.warn(
            f"The board judges {SAMPLES} samples. Received: {len(x)}. Distances and "
            "shares depend on the number: do not compare these with the board.",
            UserWarning,
            stacklevel=2,
        )
    train, some, test, real = _reference()
    fake = load_judge("digits").features(x)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # few rows: said above
        values = [frechet_distance(fake, real), kid(fake, real)]
    values += [*precision_recall(real, fake), *density_coverage(real, fake)]
    gaps = [nearest_neighbours(x, known)[1] for known in (some, test)]
    values += [float((gaps[0] < gaps[1]).mean()), copying_test(x, test, train)[0]]
    return dict(zip(METRICS, values, strict=True))


def load_scoreboard() -> tuple[dict, dict[str, np.ndarray]]:
    """Load what was measured: the table, and 64 images of each entrant.

    Returns:
        The table, as in ``benchmarks/results/scoreboard.json``, with ``"entrants"``
        from name to runs; and images ``(64, 16, 16, 1)``, float32 in [-1, 1], by name,
        stored with 256 grey levels.
    """
    table = json.loads((WEIGHTS / "scoreboard.json").read_text("utf-8"))
    with np.load(WEIGHTS / "scoreboard.npz") as stored:
        images = {k: (stored[k] / 127.5 - 1.0).astype("float32") for k in stored.files}
    return table, images
