"""Metrics of recommendations against loops, closed forms and scikit-learn."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from sklearn.metrics import ndcg_score

from genai_utils import ranking

RNG = np.random.default_rng(0)
SCORES = RNG.normal(size=(40, 30))
HIDDEN = (RNG.random((40, 30)) < 0.15).astype(float)
HIDDEN[:, 3] = 1
SEEN = ((RNG.random((40, 30)) < 0.2) & (HIDDEN == 0)).astype(float)


def test_top_k_is_sorted_and_leaves_out_what_was_seen():
    lists = ranking.top_k(SCORES, 7, SEEN)
    for row, scores, seen in zip(lists, SCORES, SEEN, strict=True):
        left = [i for i in range(30) if not seen[i]]
        assert row.tolist() == sorted(left, key=lambda i: -scores[i])[:7]


def test_equal_scores_come_in_the_order_of_the_items():
    assert ranking.top_k(np.zeros((1, 5)), 3).tolist() == [[0, 1, 2]]


@pytest.mark.parametrize("seen", [None, np.eye(2, 4)])
def test_lists_that_are_too_long_are_refused(seen):
    with pytest.raises(ValueError, match="`k` must be at most"):
        ranking.top_k(np.ones((2, 4)), 5 if seen is None else 4, seen)


def test_recall_against_sets():
    lists = ranking.top_k(SCORES, 6)
    expected = []
    for row, liked in zip(lists, HIDDEN, strict=True):
        truth = set(np.flatnonzero(liked))
        expected.append(len(truth & set(row)) / min(6, len(truth)))
    np.testing.assert_allclose(ranking.recall_at_k(lists, HIDDEN), expected)


def test_ndcg_against_scikit_learn():
    lists = ranking.top_k(SCORES, 6)
    expected = [
        ndcg_score(HIDDEN[u : u + 1], SCORES[u : u + 1], k=6) for u in range(40)
    ]
    np.testing.assert_allclose(ranking.ndcg_at_k(lists, HIDDEN), expected)


def test_the_perfect_list_scores_one():
    lists = ranking.top_k(HIDDEN, 6)
    assert (ranking.recall_at_k(lists, HIDDEN) == 1).all()
    np.testing.assert_allclose(ranking.ndcg_at_k(lists, HIDDEN), 1)


def test_metrics_refuse_what_cannot_be_scored():
    with pytest.raises(ValueError, match="a like of every user"):
        ranking.recall_at_k([[0]], [[0, 0]])
    with pytest.raises(ValueError, match="indices below 2"):
        ranking.ndcg_at_k([[2]], [[0, 1]])
    with pytest.raises(ValueError, match="hidden"):
        ranking.recall_at_k([[0], [1]], [[0, 1]])


def test_coverage_and_popularity():
    lists = [[0, 1], [1, 3]]
    assert ranking.catalogue_coverage(lists, 5) == 3 / 5
    assert ranking.mean_popularity(lists, [10, 4, 99, 2, 99]) == (10 + 4 + 4 + 2) / 4
    with pytest.raises(ValueError, match="lists"):
        ranking.catalogue_coverage(lists, 3)


def test_gini_against_all_pairs():
    counts = RNG.integers(0, 50, 31)
    gaps = abs(counts[:, None] - counts).sum() / 2
    assert ranking.gini(counts) == pytest.approx(gaps / 31 / counts.sum())
    assert ranking.gini([4, 4, 4]) == pytest.approx(0)
    assert ranking.gini([0, 0, 0, 7]) == pytest.approx(3 / 4)
    assert ranking.gini([1, 2, 3]) == pytest.approx(ranking.gini([30, 10, 20]))
    with pytest.raises(ValueError, match="not all be 0"):
        ranking.gini([0, 0])


def test_rivals_above_against_a_loop():
    above, size = ranking.rivals_above(SCORES, HIDDEN, SEEN)
    expected, sizes = [], []
    for u, i in np.argwhere(HIDDEN):
        rivals = [j for j in range(30) if not HIDDEN[u, j] and not SEEN[u, j]]
        expected.append(sum(SCORES[u, j] > SCORES[u, i] for j in rivals))
        sizes.append(len(rivals))
    assert above.tolist() == expected and size.tolist() == sizes


def test_rivals_above_among_equal_scores():
    above, size = ranking.rivals_above(np.zeros((1, 5)), [[0, 0, 1, 0, 1]])
    assert above.tolist() == [2, 3] and size.tolist() == [3, 3]


def test_draw_lists_follow_the_formula():
    a, temperature = np.array([0.9, 0.0, -0.7, 0.4]), 0.6
    seen = np.tile([0, 0, 0, 1], (60_000, 1))
    lists = ranking.draw_lists(np.tile(a, (60_000, 1)), 2, temperature, seen, seed=5)
    w = np.exp(a[:3] / temperature)
    for first, second in permutations(range(3), 2):
        chance = w[first] / w.sum() * w[second] / (w.sum() - w[first])
        rate = (lists == (first, second)).all(axis=1).mean()
        assert rate == pytest.approx(chance, abs=4 * np.sqrt(chance / 60_000))


def test_temperature_zero_is_the_best_list():
    cold = ranking.draw_lists(SCORES, 5, 0.0, SEEN)
    assert (cold == ranking.top_k(SCORES, 5, SEEN)).all()
    a, b = (ranking.draw_lists(SCORES, 5, seed=s) for s in (1, 2))
    assert (a != b).any() and (a == ranking.draw_lists(SCORES, 5, seed=1)).all()
    with pytest.raises(ValueError, match="temperature"):
        ranking.draw_lists(SCORES, 5, -1.0)


def test_bootstrap_error_is_that_of_a_mean():
    values = RNG.exponential(size=500)
    exact = values.std() / np.sqrt(500)
    assert ranking.bootstrap_error(values, 4000) == pytest.approx(exact, rel=0.06)
    assert ranking.bootstrap_error(np.ones(5)) == pytest.approx(0, abs=1e-12)


def test_report_holds_every_metric():
    lists, popularity = ranking.top_k(SCORES, 6), HIDDEN.sum(axis=0)
    found = ranking.report(lists, HIDDEN, popularity)
    assert found == {
        "recall": ranking.recall_at_k(lists, HIDDEN).mean(),
        "error": ranking.bootstrap_error(ranking.recall_at_k(lists, HIDDEN)),
        "ndcg": ranking.ndcg_at_k(lists, HIDDEN).mean(),
        "coverage": len(set(lists.ravel())) / 30,
        "popularity": popularity[lists].mean(),
        "gini": ranking.gini([(lists == i).sum() for i in range(30)]),
    }
