"""Decoding against brute force: tiny vocabularies, every text enumerated."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import special, stats

from genai_utils import decoding

RNG = np.random.default_rng(0)
LOGITS = np.log(np.array([[0.1, 0.4, 0.3, 0.2], [0.7, 0.05, 0.05, 0.2]]))


def table(seed, vocab=3, spread=1.5):
    """A toy language model: the next token depends on the last two."""
    return np.random.default_rng(seed).normal(0, spread, (vocab, vocab, vocab))


def last_two(tokens):
    """Ids of the last two tokens of each prefix; what is missing is 0."""
    before = np.concatenate([[0], tokens[:-1]])
    return before, tokens


def scorer(logits):
    """Logits of the next token after each token, (T,) to (T, V)."""
    return lambda tokens: logits[last_two(np.asarray(tokens))]


def log_p_of(logits, prompt, text):
    """Log-probability of a continuation, term by term."""
    tokens, total = list(prompt), 0.0
    for token in text:
        row = special.log_softmax(scorer(logits)(tokens)[-1])
        total += row[token]
        tokens.append(token)
    return total


def test_log_softmax_and_probabilities_against_scipy():
    x = RNG.normal(0, 300, (5, 7))
    np.testing.assert_allclose(decoding.log_softmax(x), special.log_softmax(x, axis=-1))
    np.testing.assert_allclose(decoding.probabilities(x), special.softmax(x, axis=-1))
    assert decoding.probabilities(np.array([[0.0, -np.inf]])).tolist() == [[1.0, 0.0]]


@pytest.mark.parametrize("k", [1, 2, 4, 9])
def test_top_k_keeps_the_k_largest(k):
    x = RNG.normal(size=(30, 9))
    kept = np.isfinite(decoding.keep_top_k(x, k))
    for row, mask in zip(x, kept, strict=True):
        assert mask.sum() == k
        assert set(np.flatnonzero(mask)) == set(
            sorted(range(9), key=lambda i: -row[i])[:k]
        )
    np.testing.assert_array_equal(decoding.keep_top_k(x, k)[kept], x[kept])


def test_top_k_of_equal_logits_keeps_the_smaller_ids():
    kept = np.isfinite(decoding.keep_top_k(np.zeros((1, 5)), 2))
    assert kept.tolist() == [[True, True, False, False, False]]


@pytest.mark.parametrize("p", [0.05, 0.3, 0.65, 0.9, 1.0])
def test_top_p_keeps_the_smallest_likeliest_set_that_reaches_p(p):
    x = RNG.normal(0, 2, (30, 6))
    for row, filtered in zip(x, decoding.keep_top_p(x, p), strict=True):
        probs = special.softmax(row)
        order = np.argsort(-probs)
        n = next(n for n in range(1, 7) if probs[order[:n]].sum() >= p - 1e-12)
        assert set(np.flatnonzero(np.isfinite(filtered))) == set(order[:n])


def test_top_p_takes_one_token_more_only_where_p_is_not_reached():
    sizes = [
        np.isfinite(decoding.keep_top_p(LOGITS[:1], p)).sum() for p in (0.39, 0.41)
    ]
    assert sizes == [1, 2]


@pytest.mark.parametrize("p", [0.01, 0.3, 0.7, 1.0])
def test_min_p_compares_with_the_likeliest(p):
    x = RNG.normal(0, 2, (30, 6))
    probs = special.softmax(x, axis=-1)
    expected = probs >= p * probs.max(axis=-1, keepdims=True) - 1e-15
    np.testing.assert_array_equal(np.isfinite(decoding.keep_min_p(x, p)), expected)


def test_repetition_penalty_by_hand():
    x = np.array([[2.0, -2.0, 0.5, -0.5], [1.0, 1.0, 1.0, 1.0]])
    found = decoding.repetition_penalty(x, np.array([[0, 1, 1], [3, 3, 3]]), 2.0)
    assert found.tolist() == [[1.0, -4.0, 0.5, -0.5], [1.0, 1.0, 1.0, 0.5]]
    seen = np.array([[0], [1]])
    np.testing.assert_array_equal(decoding.repetition_penalty(x, seen, 1.0), x)
    with pytest.raises(ValueError, match=r"`penalty` must .*Received: 0.5"):
        decoding.repetition_penalty(x, seen, 0.5)


def test_greedy_takes_the_likeliest_and_of_equal_ones_the_first():
    choose = decoding.greedy()
    assert choose(np.array([[1.0, 3.0, 3.0], [2.0, 1.0, 0.0]]), None).tolist() == [1, 0]


@pytest.mark.parametrize(
    ("settings", "filtered"),
    [
        ({}, LOGITS[0]),
        ({"temperature": 0.5}, LOGITS[0] / 0.5),
        ({"temperature": 3.0}, LOGITS[0] / 3.0),
        ({"top_k": 2}, np.where([0, 1, 1, 0], LOGITS[0], -np.inf)),
        ({"top_p": 0.8}, np.where([0, 1, 1, 1], LOGITS[0], -np.inf)),
        ({"min_p": 0.6}, np.where([0, 1, 1, 0], LOGITS[0], -np.inf)),
        # 0.4, 0.3, 0.2 are 0.44, 0.33, 0.22 of what top-k leaves: two reach 0.77
        ({"top_k": 3, "top_p": 0.77}, np.where([0, 1, 1, 0], LOGITS[0], -np.inf)),
        # at temperature 0.5 the squares 16, 9, 4, 1 count: 4 is under 0.3 times 16
        (
            {"temperature": 0.5, "min_p": 0.3},
            np.where([0, 1, 1, 0], LOGITS[0] / 0.5, -np.inf),
        ),
    ],
)
def test_counts_of_draws_are_those_of_the_filtered_distribution(settings, filtered):
    n, expected = 20_000, special.softmax(filtered)
    choose = decoding.sample(**settings)
    ids = choose(np.tile(LOGITS[0], (n, 1)), np.random.default_rng(1))
    counts = np.bincount(ids, minlength=4)
    live = expected > 0
    assert counts[~live].sum() == 0
    if live.sum() > 1:
        assert stats.chisquare(counts[live], n * expected[live]).pvalue > 1e-3


def test_rows_are_drawn_on_their_own_and_a_seed_repeats_them():
    choose = decoding.sample()
    tiled = np.repeat(LOGITS, 5000, axis=0)
    ids = choose(tiled, np.random.default_rng(3))
    for part, row in zip(np.split(ids, 2), LOGITS, strict=True):
        counts = np.bincount(part, minlength=4)
        assert stats.chisquare(counts, 5000 * np.exp(row)).pvalue > 1e-3
    np.testing.assert_array_equal(ids, choose(tiled, np.random.default_rng(3)))


@pytest.mark.parametrize(
    "bad", [{"temperature": 0.0}, {"top_k": 0}, {"top_p": 0.0}, {"min_p": 1.5}]
)
def test_settings_out_of_range_are_refused_at_once(bad):
    with pytest.raises(ValueError, match="Received"):
        decoding.sample(**bad)


def test_pick_gives_the_text_to_choices_that_read_it():
    tokens = np.array([[5, 6], [7, 8]])
    echo = decoding.WithTokens(lambda logits, rng, text: text[:, -1])
    found = decoding.pick(echo, LOGITS, None, tokens)
    assert found.tolist() == [6, 8] and found.dtype == "int32"
    assert decoding.pick(decoding.greedy(), LOGITS, None, tokens).tolist() == [1, 0]


def test_only_allowed_tokens_are_drawn_with_their_relative_probabilities():
    def allowed(text):
        return [0, 3] if text[-1] == 9 else [2]

    choose = decoding.only(allowed)
    n = 10_000
    tokens = np.array([[1, 9]] * n + [[9, 1]] * n)
    ids = decoding.pick(choose, np.tile(LOGITS[0], (2 * n, 1)), RNG, tokens)
    counts = np.bincount(ids[:n], minlength=4)
    assert counts[[1, 2]].sum() == 0 and set(ids[n:]) == {2}
    assert stats.binomtest(int(counts[0]), n, 0.1 / 0.3).pvalue > 1e-3
    strict = decoding.only(lambda text: [0, 2], decoding.greedy())
    assert decoding.pick(strict, LOGITS, RNG, np.array([[1], [1]])).tolist() == [2, 0]
    with pytest.raises(ValueError, match=r"`allowed_fn` must .*none after \[4, 4\]"):
        decoding.pick(decoding.only(lambda t: []), LOGITS, RNG, np.array([[4, 4]] * 2))


def every_text(logits, prompt, length):
    """All continuations, best first, with their log-probabilities."""
    texts = itertools.product(range(logits.shape[-1]), repeat=length)
    scored = [(log_p_of(logits, prompt, t), t) for t in texts]
    return sorted(scored, key=lambda pair: -pair[0])


def batched(logits):
    """Log-probabilities of the next token, (n, T) to (n, V)."""
    return lambda tokens: np.stack(
        [special.log_softmax(scorer(logits)(row)[-1]) for row in tokens]
    )


@pytest.mark.parametrize("seed", range(4))
def test_a_beam_as_wide_as_all_texts_finds_them_in_order(seed):
    logits, prompt = table(seed), [1, 2]
    tokens, scores = decoding.beam_search(batched(logits), prompt, 81, 4)
    exact = every_text(logits, prompt, 4)
    assert tokens.shape == (81, 6) and (tokens[:, :2] == prompt).all()
    np.testing.assert_allclose(scores, [s for s, _ in exact], atol=1e-9)
    assert tuple(tokens[0, 2:]) == exact[0][1]


def narrow_beam(logits, prompt, width, length):
    """The same search, written with lists."""
    beams = [(0.0, tuple(prompt))]
    for _ in range(length):
        longer = []
        for score, text in beams:
            row = special.log_softmax(scorer(logits)(list(text))[-1])
            longer += [(score + row[i], (*text, i)) for i in range(len(row))]
        beams = sorted(longer, key=lambda pair: -pair[0])[:width]
    return beams


@pytest.mark.parametrize("width", [1, 2, 5])
def test_narrow_beams_against_lists(width):
    missed = 0
    for seed in range(12):
        logits, prompt = table(seed, 4), [3]
        tokens, scores = decoding.beam_search(batched(logits), prompt, width, 5)
        expected = narrow_beam(logits, prompt, width, 5)
        assert [tuple(t) for t in tokens] == [t for _, t in expected]
        np.testing.assert_allclose(scores, [s for s, _ in expected])
        missed += scores[0] < every_text(logits, prompt, 5)[0][0] - 1e-9
    assert missed > 0 if width == 1 else missed < 12  # greedy does not always win


def test_a_text_that_has_ended_keeps_its_score():
    logits = table(5)
    tokens, scores = decoding.beam_search(batched(logits), [1], 200, 4, stop=0)
    assert len({tuple(t) for t in tokens}) == len(tokens) == 1 + 2 + 4 + 8 + 16
    for text, score in zip(tokens[:, 1:].tolist(), scores, strict=True):
        end = text.index(0) + 1 if 0 in text else 4
        assert set(text[end:]) <= {0}
        assert score == pytest.approx(log_p_of(logits, [1], text[:end]))
    assert np.exp(scores).sum() == pytest.approx(1.0)


@pytest.mark.parametrize("ahead", [1, 2, 5])
def test_speculative_texts_are_distributed_as_the_targets(ahead):
    target, draft, prompt = table(1), table(2), [2]
    rng, n = np.random.default_rng(4), 6000
    counts, stayed = {}, 0
    for _ in range(n):
        tokens, seen = decoding.speculative(
            scorer(draft), scorer(target), prompt, 3, ahead, rng
        )
        counts[tuple(tokens[1:])] = counts.get(tuple(tokens[1:]), 0) + 1
        stayed += seen["accepted"] / seen["proposed"]
        assert seen["accepted"] + seen["calls"] >= 3
    texts = [text for _, text in every_text(target, prompt, 3)]
    expected = np.array([np.exp(log_p_of(target, prompt, t)) for t in texts]) * n
    found = np.array([counts.get(t, 0) for t in texts])
    often = expected >= 5  # the rare ones together
    found = np.append(found[often], found[~often].sum())
    expected = np.append(expected[often], expected[~often].sum())
    assert stats.chisquare(found, expected).pvalue > 1e-3
    wrong = np.array([np.exp(log_p_of(draft, prompt, t)) for t in texts]) * n
    wrong = np.append(wrong[often], wrong[~often].sum())
    assert stats.chisquare(found, wrong).pvalue < 1e-6  # the test can fail


def test_the_share_that_stays_is_one_minus_the_distance_of_the_distributions():
    target, draft = table(1), table(2)
    p, q = (special.softmax(scorer(t)([2])[-1]) for t in (target, draft))
    rng = np.random.default_rng(6)
    runs = [
        decoding.speculative(scorer(draft), scorer(target), [2], 1, 1, rng)[1]
        for _ in range(5000)
    ]
    kept = sum(run["accepted"] for run in runs)
    assert stats.binomtest(kept, 5000, np.minimum(p, q).sum()).pvalue > 1e-3


def test_a_perfect_draft_saves_calls():
    target = table(1)
    tokens, counts = decoding.speculative(
        scorer(target), scorer(target), [0], 12, 3, np.random.default_rng(0)
    )
    assert counts == {"proposed": 9, "accepted": 9, "calls": 3}
    assert tokens.shape == (13,) and tokens.dtype == "int32"
