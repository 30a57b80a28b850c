"""Metrics against closed forms, SciPy and loops."""

from __future__ import annotations

import tracemalloc
import warnings

import numpy as np
import pytest
from scipy.linalg import sqrtm
from scipy.optimize import linprog
from scipy.special import rel_entr
from scipy.stats import wasserstein_distance

from genai_utils import data, metrics
from genai_utils.judge import load_judge

rng = np.random.default_rng(0)


def test_frechet_distance_against_scipy():
    a = rng.normal(size=(300, 5)) @ rng.normal(size=(5, 5))
    b = rng.normal(size=(200, 5)) @ rng.normal(size=(5, 5)) + 1
    ca, cb = np.cov(a.T), np.cov(b.T)
    gap = ((a.mean(0) - b.mean(0)) ** 2).sum()
    exact = gap + np.trace(ca + cb - 2 * sqrtm(ca @ cb).real)
    assert metrics.frechet_distance(a, b) == pytest.approx(exact, rel=1e-8)
    assert metrics.frechet_distance(a, b) == pytest.approx(
        metrics.frechet_distance(b, a)
    )


def test_frechet_distance_of_known_gaussians():
    a = rng.normal(0, 1, (200_000, 1))
    b = rng.normal(3, 2, (200_000, 1))  # (3 - 0)^2 + (2 - 1)^2
    assert metrics.frechet_distance(a, b) == pytest.approx(10, abs=0.1)
    assert metrics.frechet_distance(a, a) == pytest.approx(0, abs=1e-9)


def test_frechet_distance_survives_constant_features():
    a = np.concatenate([rng.normal(size=(50, 2)), np.zeros((50, 1))], axis=1)
    assert metrics.frechet_distance(a, a) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(("n", "m"), [(10, 500), (500, 64), (319, 319)])
def test_frechet_distance_warns_of_few_rows_and_says_how_many_are_enough(n, m):
    a, b = rng.normal(size=(n, 32)), rng.normal(size=(m, 32))
    with pytest.warns(UserWarning, match="biased") as found:
        metrics.frechet_distance(a, b)
    message = str(found[0].message)
    assert f"{n} rows and {m} rows" in message and "at least 320 rows" in message
    assert "kid" in message and found[0].filename == __file__
    metrics.frechet_distance(rng.normal(size=(320, 32)), rng.normal(size=(320, 32)))


def test_frechet_distance_of_real_from_real_shows_why_it_warns():
    features = load_judge("digits").features(data.digits("all")[0])
    mixed, means = np.random.default_rng(0), {}
    for n in (10, 64, 320):
        orders = [mixed.permutation(len(features)) for _ in range(10)]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            means[n] = np.mean(
                [
                    metrics.frechet_distance(features[o[:n]], features[o[n : 2 * n]])
                    for o in orders
                ]
            )
    assert means[10] > 5 and means[64] > 1 and means[320] < 0.4  # all should be 0
    # the bias shrinks like one over the number of rows
    assert means[64] / means[320] == pytest.approx(320 / 64, rel=0.25)


def test_kid_against_a_loop():
    a, b = rng.normal(size=(7, 3)), rng.normal(1, 1, (5, 3))

    def k(u, v):
        return (u @ v / 3 + 1) ** 3

    aa = np.mean([k(a[i], a[j]) for i in range(7) for j in range(7) if i != j])
    bb = np.mean([k(b[i], b[j]) for i in range(5) for j in range(5) if i != j])
    ab = np.mean([k(u, v) for u in a for v in b])
    assert metrics.kid(a, b) == pytest.approx(aa + bb - 2 * ab)


def test_kid_is_zero_on_average_for_one_distribution():
    values = [metrics.kid(*rng.normal(size=(2, 50, 4))) for _ in range(400)]
    assert abs(np.mean(values)) < 4 * np.std(values) / 20


def test_class_coverage():
    labels = np.array([0] * 97 + [1, 1, 2])
    assert metrics.class_coverage(labels, min_share=0.01) == 3
    assert metrics.class_coverage(labels, min_share=0.02) == 2


def test_class_coverage_counts_only_sure_samples_but_shares_of_all():
    labels, sure = np.array([0, 0, 1, 2]), np.array([True, True, True, False])
    assert metrics.class_coverage(labels, 3) == 3
    assert metrics.class_coverage(labels, 3, sure=sure) == 2
    assert metrics.class_coverage(labels, 3, min_share=0.3, sure=sure) == 1  # 1 / 4
    assert metrics.class_coverage(labels, 3, sure=~sure) == 1
    assert metrics.class_coverage(labels, 3, sure=np.zeros(4, bool)) == 0


def test_total_variation_flags_the_set_that_coverage_passes():
    labels = np.repeat(np.arange(10), [10, 910] + [10] * 8)  # 91 % ones, 1 % the rest
    real = metrics.class_shares(data.digits("all")[1])
    assert metrics.class_coverage(labels) == 10
    limit = metrics.expected_total_variation(real, 1000) + 1.52 / 1000**0.5
    assert metrics.total_variation(labels, real) == pytest.approx(0.81, abs=0.01)
    assert limit < 0.1
    # and it passes real labels, however they are drawn
    for seed in range(20):
        some = np.random.default_rng(seed).choice(data.digits("all")[1], 1000)
        assert metrics.total_variation(some, real) < limit


def test_total_variation_by_hand():
    shares = np.array([0.5, 0.25, 0.25])
    assert metrics.total_variation(np.array([0, 0, 1, 2]), shares) == 0
    assert metrics.total_variation(np.array([0, 0, 0, 0]), shares) == 0.5
    assert metrics.total_variation(np.array([1, 1]), [1.0, 0.0]) == 1
    np.testing.assert_array_equal(
        metrics.class_shares(np.array([0, 2, 2, 1]), 4), [0.25, 0.25, 0.5, 0]
    )


@pytest.mark.parametrize("n", [1, 2, 40, 1000])
@pytest.mark.parametrize(
    "shares", [[0.1] * 10, [0.91] + [0.01] * 9, [0.5, 0.5], [0.999, 0.001, 0.0]]
)
def test_expected_total_variation_against_draws(shares, n):
    draws = np.random.default_rng(1).multinomial(n, shares, size=20_000) / n
    found = 0.5 * np.abs(draws - shares).sum(axis=1)
    expected = metrics.expected_total_variation(shares, n)
    assert abs(found.mean() - expected) < 4 * found.std() / 20_000**0.5 + 1e-12
    assert (found > expected + 1.52 / n**0.5).mean() <= 0.01  # as the docstring says


def test_expected_total_variation_of_shares_that_were_counted_themselves():
    n, m, p = 1000, 500, np.full(10, 0.1)
    mixed = np.random.default_rng(2)
    ours, theirs = (mixed.multinomial(k, p, size=5000) / k for k in (n, m))
    found = 0.5 * np.abs(ours - theirs).sum(axis=1).mean()
    expected = metrics.expected_total_variation(p, n * m // (n + m))
    assert found == pytest.approx(expected, rel=0.02)
    assert metrics.expected_total_variation([1.0, 0.0], 7) == 0


def test_mode_coverage():
    centers = np.array([[0.0, 0.0], [5.0, 0.0], [0.0, 5.0]])
    points = np.array([[0.1, 0], [0, 0.2], [5.0, 0.1], [2.5, 2.5]])
    assert metrics.mode_coverage(points, centers, radius=0.5) == (2, 0.75)
    assert metrics.mode_coverage(points, centers, radius=0.5, min_count=2) == (1, 0.75)


def test_nearest_neighbours_against_a_loop():
    x, train = rng.normal(size=(600, 2, 2, 1)), rng.normal(size=(40, 2, 2, 1))
    index, distance = metrics.nearest_neighbours(x, train)
    for i in (0, 499, 500, 599):
        gaps = [np.sqrt(((x[i] - t) ** 2).sum()) for t in train]
        assert index[i] == np.argmin(gaps)
        assert distance[i] == pytest.approx(min(gaps))


@pytest.mark.parametrize("k", [1, 3])
def test_precision_and_recall_against_loops(k):
    real, fake = rng.normal(size=(40, 3)), rng.normal(0.5, 0.5, size=(30, 3))

    def near(points, members):
        count = 0
        for p in points:
            for m in members:
                others = sorted(np.linalg.norm(m - o) for o in members)
                if np.linalg.norm(p - m) <= others[k]:
                    count += 1
                    break
        return count / len(points)

    found = metrics.precision_recall(real, fake, k=k)
    assert found == pytest.approx((near(fake, real), near(real, fake)))


def test_precision_and_recall_of_a_missing_mode_and_of_equal_sets():
    one, two = rng.normal(0, 1, (200, 2)), rng.normal(50, 1, (200, 2))
    assert metrics.precision_recall(np.concatenate([one, two]), one) == (1.0, 0.5)
    assert metrics.precision_recall(one, np.concatenate([one, two])) == (0.5, 1.0)
    assert metrics.precision_recall(one, one) == (1.0, 1.0)
    assert metrics.precision_recall(one, two) == (0.0, 0.0)


def test_precision_and_recall_need_bounded_memory():
    real, fake = rng.normal(size=(6000, 4)), rng.normal(size=(3000, 4))
    tracemalloc.start()
    precision, recall = metrics.precision_recall(real, fake)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100e6  # one full matrix would be 288 MB
    assert precision > 0.9 and recall > 0.9


def test_metrics_refuse_what_they_cannot_use():
    with pytest.raises(ValueError, match="at least 2 rows"):
        metrics.frechet_distance(np.ones((1, 3)), np.ones((5, 3)))
    with pytest.raises(ValueError, match="`b` must have shape"):
        metrics.kid(np.ones((4, 3)), np.ones((4, 2)))


SOME, REAL = np.array([0, 1, 1]), np.ones((5, 2))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: metrics.class_coverage(np.array([0.5, 1.0])),
            ValueError,
            "`labels` must hold whole numbers",
        ),
        (
            lambda: metrics.class_coverage(np.array([0, 3]), 3),
            ValueError,
            r"`labels` must lie in \[0, 2\]",
        ),
        (
            lambda: metrics.class_coverage(SOME, min_share=1.5),
            ValueError,
            r"`min_share` must lie in \(0, 1\]",
        ),
        (
            lambda: metrics.class_coverage(SOME, sure=np.array([True])),
            ValueError,
            r"`sure` must have shape \(3,\)",
        ),
        (
            lambda: metrics.class_coverage(SOME, sure=np.array([0, 1, 1])),
            TypeError,
            "`sure` must hold True and False",
        ),
        (
            lambda: metrics.class_shares(SOME, 2.5),
            TypeError,
            "`num_classes` must be a whole number",
        ),
        (
            lambda: metrics.total_variation(SOME, [0.5, 0.6]),
            ValueError,
            "`shares` must add up to 1",
        ),
        (
            lambda: metrics.total_variation(SOME, [1.5, -0.5]),
            ValueError,
            "`shares` must lie in",
        ),
        (
            lambda: metrics.expected_total_variation([0.5, 0.5], 0),
            ValueError,
            "`n` must be a finite number above 0",
        ),
        (
            lambda: metrics.expected_total_variation([0.5, 0.5], 1e3),
            TypeError,
            "`n` must be a whole number",
        ),
        (
            lambda: metrics.mode_coverage(REAL, REAL, 1.0, min_count=0),
            ValueError,
            "`min_count` must be",
        ),
        (
            lambda: metrics.precision_recall(REAL, np.ones((3, 2))),
            ValueError,
            "more than k = 3 rows each. Received: 5 and 3",
        ),
        (
            lambda: metrics.precision_recall(REAL, np.ones((5, 3))),
            ValueError,
            "`fake` must have shape",
        ),
        (
            lambda: metrics.precision_recall(REAL, REAL, k=0),
            ValueError,
            "`k` must be a finite number above 0",
        ),
        (
            lambda: metrics.precision_recall(REAL, REAL, k=True),
            TypeError,
            "`k` must be a whole number",
        ),
    ],
)
def test_metrics_name_argument_expectation_and_what_came(call, error, message):
    with pytest.raises(error, match=message) as found:
        call()
    assert "Received: " in str(found.value)


def test_limits_belong_to_what_they_limit():
    line = np.array([[0.0], [1.0]])  # each has its neighbour at 1
    beside, outside = np.array([[-1.0], [2.0]]), np.array([[-1.5], [2.5]])
    assert metrics.precision_recall(line, beside, k=1) == (1.0, 1.0)
    assert metrics.precision_recall(line, outside, k=1) == (0.0, 1.0)
    assert metrics.mode_coverage(line, np.array([[2.0]]), radius=1.0) == (1, 0.5)
    assert metrics.class_coverage(np.array([1, 1]), 2, min_share=1.0) == 1
    assert metrics.class_coverage(np.array([1, 1, 0]), 2, min_share=1.0) == 0
    with pytest.raises(ValueError, match=r"more than k = 3 .* Received: 2 and 9"):
        metrics.precision_recall(line, np.ones((9, 1)))


def test_two_rows_are_enough():
    a, b = np.array([[1.0, 0.0], [0.0, 2.0]]), np.array([[1.0, 1.0], [-1.0, 3.0]])
    # d = 2: (a1 a2 / 2 + 1)^3 = 1, (b1 b2 / 2 + 1)^3 = 8; crossed 1.5, 0.5, 2, 4
    crossed = np.mean(np.array([1.5, 0.5, 2.0, 4.0]) ** 3)
    assert metrics.kid(a, b) == pytest.approx(1 + 8 - 2 * crossed)
    with pytest.warns(UserWarning, match="biased"):
        found = metrics.frechet_distance(a, b)
    # covariances u u' and v v', u = (1, -2) / sqrt 2 and v = (2, -2) / sqrt 2
    exact = (0.5**2 + 1) + 2.5 + 4 - 2 * 3  # 3 = u v
    assert found == pytest.approx(exact, abs=1e-6)


def test_one_class_is_a_class():
    assert metrics.class_coverage(np.zeros(3, int), 1) == 1
    np.testing.assert_array_equal(metrics.class_shares(np.zeros(3, int), 1), [1.0])
    shares = metrics.class_shares(np.array([0, 9]))
    assert len(shares) == 10 and shares[9] == 0.5
    assert metrics.expected_total_variation([0.5, 0.5], 1) == pytest.approx(0.5)
    with pytest.raises(ValueError, match="`shares` must add up to 1"):
        metrics.total_variation(SOME, [0.5, 0.5001])


def cheapest_plan(x, y, p, q):
    """The transport problem as a linear programme over all plans."""
    n, m = len(x), len(y)
    rows, columns = np.kron(np.eye(n), np.ones(m)), np.kron(np.ones(n), np.eye(m))
    costs = abs(x[:, None] - y).ravel()
    return linprog(costs, A_eq=np.vstack([rows, columns]), b_eq=np.append(p, q)).fun


def test_wasserstein_1d_against_a_linear_programme_and_scipy():
    for n, m in ((1, 1), (5, 8), (30, 12)):
        x, y = rng.normal(size=n), rng.normal(1, 2, m)
        u, v = rng.uniform(0.1, 1, n), rng.uniform(0.1, 1, m)
        found = metrics.wasserstein_1d(x, y, u, v)
        assert found == pytest.approx(wasserstein_distance(x, y, u, v))
        assert found == pytest.approx(cheapest_plan(x, y, u / u.sum(), v / v.sum()))
        plain = wasserstein_distance(x, y)
        assert metrics.wasserstein_1d(x, y) == pytest.approx(plain)
        assert metrics.wasserstein_1d(y, x) == pytest.approx(plain)


def test_wasserstein_1d_by_hand():
    x = np.array([3, 1, 2])
    assert metrics.wasserstein_1d(x, x[::-1]) == 0
    assert metrics.wasserstein_1d(x, x + 4) == pytest.approx(4)
    assert metrics.wasserstein_1d([0, 0, 0, 9], [0, 9, 9, 9]) == pytest.approx(4.5)
    assert metrics.wasserstein_1d([0, 5], [0, 5], [3, 1], [1, 3]) == pytest.approx(2.5)
    assert metrics.wasserstein_1d([0, 5], [0], [1, 0]) == 0  # no weight, no way
    a, b = rng.normal(size=(2, 200))
    by_order = abs(np.sort(a) - np.sort(b)).mean()
    assert metrics.wasserstein_1d(a, b) == pytest.approx(by_order)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([[1.0]], [1.0]), "`a` must have 1 axes"),
        (([1.0], [np.nan]), "`b` must"),
        (([1.0], [1.0], [1.0, 2.0]), "`a_weights` must have shape"),
        (([1.0], [1.0], None, [-1.0]), "`b_weights` must"),
        (([1.0, 2.0], [1.0], [0.0, 0.0]), "`a_weights` must not all be 0"),
    ],
)
def test_wasserstein_1d_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        metrics.wasserstein_1d(*arguments)


@pytest.mark.parametrize("k", [1, 3])
def test_density_and_coverage_against_loops(k):
    real, fake = rng.normal(size=(40, 3)), rng.normal(0.5, 0.7, size=(30, 3))
    inside, met = 0, 0
    for r in real:
        radius = sorted(np.linalg.norm(r - o) for o in real)[k]
        gaps = [np.linalg.norm(r - f) for f in fake]
        inside += sum(g <= radius for g in gaps)
        met += min(gaps) <= radius
    found = metrics.density_coverage(real, fake, k=k)
    assert found == pytest.approx((inside / (k * 30), met / 40))


def test_density_and_coverage_of_equal_distributions_are_those_of_the_paper():
    draws = np.random.default_rng(3)
    found = [
        metrics.density_coverage(*draws.normal(size=(2, 300, 5))) for _ in range(20)
    ]
    density, coverage = np.mean(found, axis=0)
    # coverage: 1 - prod (n - i) / (2 n - i) for i below k, close to 1 - 0.5^k
    exact = 1 - np.prod([(300 - i) / (600 - i) for i in range(1, 6)])
    assert density == pytest.approx(1, abs=0.05)
    assert coverage == pytest.approx(exact, abs=0.01)


def test_an_outlier_breaks_precision_and_not_density_or_coverage():
    real, fake = rng.normal(size=(300, 2)), rng.normal(6, 0.2, (300, 2))
    spoilt = np.append(real, [[8.0, 8.0]], axis=0)
    assert metrics.precision_recall(real, fake)[0] == 0
    assert metrics.precision_recall(spoilt, fake)[0] == 1
    density, coverage = metrics.density_coverage(spoilt, fake, k=5)
    assert density == pytest.approx(1 / 5) and coverage == pytest.approx(1 / 301)


def test_density_and_coverage_do_not_depend_on_the_chunks():
    real, fake = rng.normal(size=(3000, 2)), rng.normal(size=(4000, 2))
    density, coverage = metrics.density_coverage(real, fake)
    part = [metrics.density_coverage(real, half) for half in np.split(fake, 2)]
    assert density == pytest.approx(np.mean([p[0] for p in part]))
    assert coverage >= max(p[1] for p in part)


def test_inception_score_against_scipy_and_its_limits():
    logits = rng.normal(0, 2, (200, 4))
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    exact = np.exp(rel_entr(p, p.mean(axis=0)).sum(axis=1).mean())
    assert metrics.inception_score(logits) == pytest.approx(exact)
    assert metrics.inception_score(logits + 500) == pytest.approx(exact)  # no overflow
    sure = 1e4 * np.eye(4)[np.arange(40) % 4]
    assert metrics.inception_score(sure) == pytest.approx(4)
    assert metrics.inception_score(sure[:1].repeat(9, axis=0)) == pytest.approx(1)
    assert metrics.inception_score(np.zeros((5, 4))) == pytest.approx(1)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: metrics.density_coverage(REAL, np.ones((9, 2)), k=5),
            ValueError,
            "more than k = 5 rows each. Received: 5 and 9",
        ),
        (
            lambda: metrics.density_coverage(REAL, np.ones((9, 3)), k=1),
            ValueError,
            "`fake` must have shape",
        ),
        (
            lambda: metrics.density_coverage(REAL, REAL, k=1.0),
            TypeError,
            "`k` must be a whole number",
        ),
        (
            lambda: metrics.inception_score(np.ones(3)),
            ValueError,
            "`logits` must have 2 axes",
        ),
    ],
)
def test_density_coverage_and_inception_score_refuse(call, error, message):
    with pytest.raises(error, match=message) as found:
        call()
    assert "Received: " in str(found.value)
