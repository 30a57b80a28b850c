"""Tests and error bars against loops, SciPy, closed forms and simulation."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from scipy.stats import binomtest, mannwhitneyu, norm
from sklearn.neighbors import KNeighborsClassifier

from genai_utils import metrics, two_sample

rng = np.random.default_rng(0)


def gaussians(n, shift, width, d=6, seed=0):
    draws = np.random.default_rng(seed)
    return draws.normal(size=(n, d)), draws.normal(shift, width, (n, d))


def test_frechet_infinity_removes_most_of_the_bias():
    exact = 6 * (0.3**2 + 0.2**2)  # (mean gap)^2 + (sd gap)^2 on each axis
    plain, cured = [], []
    for seed in range(20):
        a, b = gaussians(200, 0.3, 1.2, seed=seed)
        plain.append(metrics.frechet_distance(a, b))
        cured.append(two_sample.frechet_infinity(a, b, seed=seed)[0])
    error = np.std(cured) / 20**0.5
    assert np.mean(plain) - exact > 0.08  # too large
    assert abs(np.mean(cured) - exact) < 3 * error + 0.02


def test_slope_of_frechet_infinity_says_the_bias():
    found = [
        two_sample.frechet_infinity(*gaussians(600, 0, 1, d=4, seed=s), seed=s)
        for s in range(10)
    ]
    value, slope = np.mean(found, axis=0)
    draws = np.random.default_rng(7)
    plain = [
        metrics.frechet_distance(*draws.normal(size=(2, 100, 4))) for _ in range(200)
    ]
    assert abs(value) < 0.02
    assert slope / 100 == pytest.approx(np.mean(plain), rel=0.2)


def test_frechet_infinity_is_repeatable_silent_and_takes_sets_of_two_lengths():
    a, b = gaussians(90, 1, 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        one = two_sample.frechet_infinity(a, b[:60], points=3, repeats=2, seed=1)
    assert one == two_sample.frechet_infinity(a, b[:60], points=3, repeats=2, seed=1)
    assert one != two_sample.frechet_infinity(a, b[:60], points=3, repeats=2, seed=2)


def test_kid_error_against_leaving_out_one_by_one():
    a, b = rng.normal(size=(8, 3)), rng.normal(1, 1, (6, 3))
    squared = 0.0
    for x, other in ((a, b), (b, a)):
        left = [metrics.kid(np.delete(x, i, 0), other) for i in range(len(x))]
        squared += (len(x) - 1) * np.var(left)
    assert two_sample.kid_error(a, b) == pytest.approx(squared**0.5)


@pytest.mark.parametrize(("shift", "low", "high"), [(0.4, 0.85, 1.25), (0, 1.0, 1.6)])
def test_kid_error_against_the_spread_of_many_values(shift, low, high):
    draws = np.random.default_rng(1)
    pairs = [
        (draws.normal(size=(80, 4)), draws.normal(shift, 1, (60, 4)))
        for _ in range(400)
    ]
    spread = np.std([metrics.kid(a, b) for a, b in pairs])
    claimed = np.mean([two_sample.kid_error(a, b) for a, b in pairs])
    assert low < claimed / spread < high


def test_two_sample_test_against_scikit_learn_and_scipy():
    a, b = gaussians(101, 0.5, 1)
    accuracy, p_value = two_sample.two_sample_test(a, b, k=5, seed=3)
    draws = np.random.default_rng(3)
    a, b = draws.permutation(a), draws.permutation(b)
    origin = np.repeat([0, 1], 50)
    votes = KNeighborsClassifier(5).fit(np.concatenate([a[:50], b[:50]]), origin)
    right = (votes.predict(a[50:]) == 0).sum() + (votes.predict(b[50:]) == 1).sum()
    assert accuracy == pytest.approx(right / 102)
    exact = binomtest(int(right), 102, alternative="greater").pvalue
    assert p_value == pytest.approx(exact)


@pytest.mark.parametrize(("n", "m"), [(60, 60), (60, 200)])
def test_two_sample_test_is_calibrated(n, m):
    draws = np.random.default_rng(2)
    found = [
        two_sample.two_sample_test(draws.normal(size=(n, 3)), draws.normal(size=(m, 3)))
        for _ in range(600)
    ]
    accuracy, p_value = np.transpose(found)
    assert abs(accuracy.mean() - 0.5) < 4 * 0.5 / (600 * 60) ** 0.5
    assert 0.01 < (p_value < 0.05).mean() < 0.05 + 3 * (0.05 * 0.95 / 600) ** 0.5


def test_two_sample_test_sees_what_the_frechet_distance_does_not():
    draws = np.random.default_rng(4)
    signs = draws.choice([-1.0, 1.0], (400, 2))  # four corners: mean 0, covariance 1
    twin = draws.normal(size=(400, 2))
    assert metrics.frechet_distance(signs, twin) < 0.05
    accuracy, p_value = two_sample.two_sample_test(signs, twin)
    assert accuracy > 0.8 and p_value < 1e-20


def test_two_sample_test_of_sets_far_apart():
    a, b = rng.normal(size=(5, 2)), rng.normal(50, 1, (4, 2))
    assert two_sample.two_sample_test(a, b) == (1.0, pytest.approx(1 / 16))


def test_copying_test_against_a_loop_and_scipy():
    fake, held_out, train = (rng.normal(size=(n, 2, 2, 1)) for n in (30, 20, 25))

    def near(x):
        return [min(np.sqrt(((i - t) ** 2).sum()) for t in train) for i in x]

    d_fake, d_held = near(fake), near(held_out)
    share, z = two_sample.copying_test(fake, held_out, train)
    assert share == pytest.approx(np.mean([[f < h for h in d_held] for f in d_fake]))
    u = mannwhitneyu(d_held, d_fake, method="asymptotic", use_continuity=False)
    assert share == pytest.approx(u.statistic / (30 * 20))
    assert 2 * norm.sf(abs(z)) == pytest.approx(u.pvalue)


def test_copying_test_of_copiers_honest_models_and_noise():
    draws = np.random.default_rng(5)
    train, held_out, new = draws.normal(size=(3, 200, 8))
    assert two_sample.copying_test(train, held_out, train)[0] == 1
    assert two_sample.copying_test(held_out, held_out, train)[0] == 0.5  # all ties
    share, z = two_sample.copying_test(3 * new, held_out, train)
    assert share < 0.1 and z < -10
    found = [
        two_sample.copying_test(*draws.normal(size=(2, 100, 8)), train)[1]
        for _ in range(300)
    ]
    assert abs(np.mean(found)) < 4 / 300**0.5 and 0.88 < np.std(found) < 1.12


A = rng.normal(size=(12, 2))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: two_sample.frechet_infinity(A[:6], A),
            ValueError,
            "more than 3 rows for each of the 2 features. Received: 6 and 12",
        ),
        (
            lambda: two_sample.frechet_infinity(A, A, points=1),
            ValueError,
            "`points` must be at least 2",
        ),
        (
            lambda: two_sample.frechet_infinity(A, A, repeats=1.5),
            TypeError,
            "`repeats` must be a whole number",
        ),
        (
            lambda: two_sample.kid_error(A[:2], A),
            ValueError,
            "at least 3 rows each. Received: 2 and 12",
        ),
        (
            lambda: two_sample.two_sample_test(A[:3], A),
            ValueError,
            "at least 4 rows each. Received: 3 and 12",
        ),
        (
            lambda: two_sample.two_sample_test(A, A[:, :1]),
            ValueError,
            "`b` must have shape",
        ),
        (
            lambda: two_sample.two_sample_test(A, A, k=4),
            ValueError,
            "`k` must be odd and at most 12",
        ),
        (
            lambda: two_sample.two_sample_test(A, A, k=13),
            ValueError,
            "`k` must be odd and at most 12",
        ),
        (
            lambda: two_sample.two_sample_test(A, A, k=True),
            TypeError,
            "`k` must be a whole number",
        ),
        (
            lambda: two_sample.copying_test(A, A, A[:, :1]),
            ValueError,
            "`train` must have shape",
        ),
    ],
)
def test_two_sample_refuses(call, error, message):
    with pytest.raises(error, match=message) as found:
        call()
    assert "Received: " in str(found.value)
