"""How good is a list?  Metrics of recommendations, NumPy in and out."""

from __future__ import annotations

from typing import Any

import numpy as np

from genai_utils.checks import check_array, check_positive

__all__ = [
    "bootstrap_error",
    "catalogue_coverage",
    "draw_lists",
    "gini",
    "mean_popularity",
    "ndcg_at_k",
    "recall_at_k",
    "report",
    "rivals_above",
    "top_k",
]


def top_k(scores: Any, k: int, seen: Any = None) -> np.ndarray:
    """Return the ``k`` items with the highest scores, the best one first.

    Args:
        scores: Shape ``(n, I)``; larger is better.
        k: Length of the lists, at least 1.
        seen: What each user knows already, not to be shown again: anything but 0 at
            these items, shape ``(n, I)``.

    Returns:
        Indices of items, int64, shape ``(n, k)``.  Of equal scores the smaller index
        comes first.

    Raises:
        ValueError: If a user has fewer than ``k`` items left.
    """
    scores = check_array(scores, "scores", ndim=2).astype("float64")
    check_positive(k, "k")
    left = scores.shape[1]
    if seen is not None:
        seen = check_array(seen, "seen", shape=scores.shape) != 0
        scores = np.where(seen, -np.inf, scores)
        left -= int(seen.sum(axis=1).max())
    if k > left:
        raise ValueError(
            f"`k` must be at most {left}, the items that every user has left. "
            f"Received: {k}. Ask for shorter lists."
        )
    return np.argsort(-scores, axis=1, kind="stable")[:, :k]


def draw_lists(
    scores: Any,
    k: int,
    temperature: float = 1.0,
    seen: Any = None,
    seed: int = 0,
) -> np.ndarray:
    r"""Draw lists without repetition from a softmax of the scores, eq. (32.13).

    One item after the other is drawn from :math:`\mathrm{softmax}(a/T)` over the items
    that are left.  Adding Gumbel noise to :math:`a/T` and taking the ``k`` largest
    gives lists of the same distribution in one go.

    Args:
        scores: Logits :math:`a`, shape ``(n, I)``.
        k: Length of the lists, at least 1.
        temperature: :math:`T`, at least 0; 0 gives :func:`top_k`.
        seen: As in :func:`top_k`.
        seed: Seed of the noise.

    Returns:
        Indices of items in the order of the draws, int64, shape ``(n, k)``.

    Reference:
        Kool, van Hoof and Welling (2019), section 2.
    """
    check_positive(temperature, "temperature", zero_ok=True)
    scores = check_array(scores, "scores", ndim=2).astype("float64")
    if temperature > 0:
        noise = np.random.default_rng(seed).gumbel(size=scores.shape)
        scores = scores / temperature + noise
    return top_k(scores, k, seen)


def _hits(lists: Any, hidden: Any) -> tuple[np.ndarray, np.ndarray]:
    """Which entries of the lists were liked ``(n, k)``; how many likes there are."""
    lists = check_array(lists, "lists", ndim=2, low=0)
    hidden = check_array(hidden, "hidden", shape=(len(lists), None)) != 0
    if lists.max() >= hidden.shape[1]:
        raise ValueError(
            f"`lists` must hold indices below {hidden.shape[1]}, the number of items. "
            f"Received: {int(lists.max())}. Make them with `top_k`."
        )
    likes = hidden.sum(axis=1)
    if likes.min() < 1:
        raise ValueError(
            "`hidden` must hold a like of every user. Received: "
            f"{int((likes < 1).sum())} rows without. Drop these users."
        )
    return np.take_along_axis(hidden, lists, axis=1), likes


def recall_at_k(lists: Any, hidden: Any) -> np.ndarray:
    r"""Return the share of the hidden likes that the list found, eq. (32.2).

    .. math:: \frac{|L \cap H|}{\min(k, |H|)}

    Args:
        lists: Indices of items :math:`L`, no item twice, shape ``(n, k)``.
        hidden: Zeros and ones, shape ``(n, I)``: what each user liked in truth,
            :math:`H`.

    Returns:
        In [0, 1] for each user, shape ``(n,)``.

    Reference:
        Liang et al. (2018), section 4.2.
    """
    hits, likes = _hits(lists, hidden)
    return hits.sum(axis=1) / np.minimum(hits.shape[1], likes)


def ndcg_at_k(lists: Any, hidden: Any) -> np.ndarray:
    r"""Return the normalised discounted cumulative gain, eq. (32.3).

    .. math:: \frac{\sum_{r=1}^k [L_r \in H] / \log_2(r + 1)}
        {\sum_{r=1}^{\min(k, |H|)} 1 / \log_2(r + 1)}

    Args:
        lists: As in :func:`recall_at_k`; the best item stands first.
        hidden: As in :func:`recall_at_k`.

    Returns:
        In [0, 1] for each user, shape ``(n,)``; 1 if all likes stand on top.

    Reference:
        Järvelin and Kekäläinen (2002).
    """
    hits, likes = _hits(lists, hidden)
    k = hits.shape[1]
    gain = 1 / np.log2(np.arange(2, k + 2))
    best = np.cumsum(gain)[np.minimum(k, likes) - 1]
    return (hits * gain).sum(axis=1) / best


def catalogue_coverage(lists: Any, num_items: int) -> float:
    """Return the share of the catalogue that somebody gets to see, eq. (32.4).

    Args:
        lists: Indices of items, any shape.
        num_items: Size of the catalogue.
    """
    lists = check_array(lists, "lists", low=0, high=num_items - 1)
    return len(np.unique(lists)) / num_items


def mean_popularity(lists: Any, popularity: Any) -> float:
    """Return how popular the recommended items are on average.

    Args:
        lists: Indices of items, any shape.
        popularity: A number for each item, such as its likes, shape ``(I,)``.
    """
    popularity = check_array(popularity, "popularity", ndim=1)
    lists = check_array(lists, "lists", low=0, high=len(popularity) - 1)
    return float(popularity[lists].mean())


def gini(counts: Any) -> float:
    r"""Return the Gini coefficient of how often each item is shown, eq. (32.5).

    .. math:: \frac{\sum_{i<j} |c_i - c_j|}{I \sum_i c_i}

    Args:
        counts: At least 0, not all 0, shape ``(I,)``.

    Returns:
        0 where all are shown alike; ``1 - 1/I`` where one takes everything.
    """
    counts = check_array(counts, "counts", ndim=1, low=0).astype("float64")
    if not counts.sum():
        raise ValueError(
            "`counts` must not all be 0. Received: zeros. Count something first."
        )
    n = len(counts)
    rank = np.arange(1, n + 1)
    total = ((2 * rank - n - 1) * np.sort(counts)).sum()
    return float(total / (n * counts.sum()))


def rivals_above(
    scores: Any, hidden: Any, seen: Any = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return how many films that the user does not like rank above each hidden like.

    Args:
        scores: Shape ``(n, I)``; larger is better.
        hidden: Zeros and ones, shape ``(n, I)``: what each user liked in truth.
        seen: As in :func:`top_k`.

    Returns:
        ``(above, size)``, one entry for each hidden like, row by row.  ``size`` is how
        many films of this user are neither hidden nor seen, so ``above`` is from 0 to
        ``size``.  Of equal scores the smaller index ranks higher.
    """
    scores = check_array(scores, "scores", ndim=2).astype("float64")
    hidden = check_array(hidden, "hidden", shape=scores.shape) != 0
    out = hidden.copy()
    if seen is not None:
        out |= check_array(seen, "seen", shape=scores.shape) != 0
    order = np.argsort(-scores, axis=1, kind="stable")
    rivals = np.take_along_axis(~out, order, axis=1).cumsum(axis=1)
    above = np.empty_like(rivals)
    np.put_along_axis(above, order, rivals, axis=1)
    return above[hidden], np.repeat((~out).sum(axis=1), hidden.sum(axis=1))


def report(lists: Any, hidden: Any, popularity: Any) -> dict[str, float]:
    """Return all that should be asked of a recommender, in one dictionary.

    Args:
        lists: Indices of items, the best one first, shape ``(n, k)``.
        hidden: As in :func:`recall_at_k`.
        popularity: A number for each item, such as its likes, shape ``(I,)``.

    Returns:
        A dictionary with ``recall``, its bootstrap ``error``, ``ndcg``, ``coverage``,
        ``popularity`` (the mean of what is shown) and ``gini``.
    """
    recall = recall_at_k(lists, hidden)
    num_items = np.shape(hidden)[1]
    counts = np.bincount(np.ravel(lists), minlength=num_items)
    return {
        "recall": float(recall.mean()),
        "error": bootstrap_error(recall),
        "ndcg": float(ndcg_at_k(lists, hidden).mean()),
        "coverage": catalogue_coverage(lists, num_items),
        "popularity": mean_popularity(lists, popularity),
        "gini": gini(counts),
    }


def bootstrap_error(values: Any, draws: int = 1000, seed: int = 0) -> float:
    """Return the standard error of a mean over users, by drawing the users again.

    For two recommenders give the differences of their values, user by user: their
    errors have much in common, and it cancels.

    Args:
        values: One number for each user, shape ``(n,)``.
        draws: How often ``n`` users are drawn, with repetition.
        seed: Seed of the draws.

    Reference:
        Efron (1979).
    """
    values = check_array(values, "values", ndim=1).astype("float64")
    check_positive(draws, "draws")
    rng = np.random.default_rng(seed)
    share = rng.multinomial(len(values), np.full(len(values), 1 / len(values)), draws)
    return float((share @ values / len(values)).std())
