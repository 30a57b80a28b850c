"""Drift detectors against SciPy, brute force, integrals and simulated nulls."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import (
    chisquare,
    false_discovery_control,
    ks_2samp,
    kstwobign,
    norm,
)

from genai_utils import drift


@pytest.mark.parametrize(("n", "m"), [(7, 12), (50, 50), (300, 41)])
def test_ks_distance_against_scipy_also_with_ties(n, m):
    rng = np.random.default_rng(n)
    for a, b in (
        (rng.normal(size=n), rng.normal(0.3, 1, m)),
        (rng.integers(0, 5, n), rng.integers(0, 6, m)),
    ):
        distance, p = drift.ks_test(a, b)
        assert distance == pytest.approx(ks_2samp(a, b).statistic, abs=1e-12)
        root = np.sqrt(n * m / (n + m))
        assert p == pytest.approx(kstwobign.sf(root * distance), rel=1e-9)


def test_ks_distance_is_symmetric_and_0_for_equal_samples():
    a, b = np.random.default_rng(0).normal(size=(2, 30))
    assert drift.ks_test(a, b) == drift.ks_test(b, a)
    assert drift.ks_test(a, a) == (0.0, 1.0)


def test_ks_p_value_is_close_to_the_exact_one_and_keeps_its_promise():
    rng = np.random.default_rng(1)
    ps = []
    for _ in range(2000):
        a, b = rng.normal(size=200), rng.normal(size=60)
        ps.append(drift.ks_test(a, b)[1])
    assert 0.025 < np.mean(np.array(ps) <= 0.05) < 0.058
    exact = ks_2samp(a, b, method="exact").pvalue
    assert ps[-1] == pytest.approx(exact, abs=0.05) and ps[-1] >= exact - 1e-3


def psi_by_loops(reference, new, bins):
    edges = [-np.inf, *np.quantile(reference, np.arange(1, bins) / bins), np.inf]
    total = 0.0
    for low, high in itertools.pairwise(edges):
        counts = [sum(low <= v < high for v in w) + 0.5 for w in (reference, new)]
        p = counts[0] / (len(reference) + 0.5 * bins)
        q = counts[1] / (len(new) + 0.5 * bins)
        total += (q - p) * np.log(q / p)
    return total


@pytest.mark.parametrize("bins", [2, 5, 10])
def test_stability_index_against_loops(bins):
    rng = np.random.default_rng(bins)
    reference, new = rng.normal(size=120), rng.normal(0.7, 1, 33)
    found = drift.population_stability_index(reference, new, bins)
    assert found == pytest.approx(psi_by_loops(reference, new, bins), rel=1e-12)


def test_stability_index_is_finite_where_bins_are_empty_and_counts_all_values():
    reference = np.arange(100.0)
    far = drift.population_stability_index(reference, np.full(20, 1e6))
    assert np.isfinite(far) and far > 2
    shares = drift._smooth_shares(np.array([-9.0, 0.0, 9.0]), np.array([0.0, 1.0]))
    assert shares == pytest.approx(np.array([1.5, 1.5, 1.5]) / 4.5)


def null_indices(n, m, trials=1500):
    rng = np.random.default_rng(2)
    draws = rng.normal(size=(trials, n + m))
    return np.array([drift.population_stability_index(d[n:], d[:n]) for d in draws])


def test_stability_index_under_no_drift_has_the_mean_and_tail_that_are_promised():
    n, m = 400, 1000
    found = null_indices(n, m)
    assert found.mean() == pytest.approx(9 * (1 / n + 1 / m), rel=0.06)
    for alpha, low, high in ((0.05, 0.03, 0.07), (0.2, 0.16, 0.24)):
        rate = (found > drift.psi_threshold(n, m, alpha=alpha)).mean()
        assert low < rate < high


def test_psi_threshold_is_that_of_a_chi_square_test():
    limit = drift.psi_threshold(80, 200, bins=6, alpha=0.01) / (1 / 80 + 1 / 200)
    # a Pearson statistic of this size over six equal cells has p = 0.01
    counts = 100.0 + np.sqrt(limit * 100 / 2) * np.array([1, -1, 0, 0, 0, 0])
    assert chisquare(counts).pvalue == pytest.approx(0.01, rel=1e-6)


def mmd_by_loops(a, b, h):
    def k(x, y):
        return np.exp(-((x - y) ** 2).sum() / (2 * h**2))

    def within(u):
        pairs = itertools.permutations(range(len(u)), 2)
        return sum(k(u[i], u[j]) for i, j in pairs) / (len(u) * (len(u) - 1))

    across = sum(k(x, y) for x in a for y in b) / (len(a) * len(b))
    return within(a) + within(b) - 2 * across


@pytest.mark.parametrize(("n", "m", "d"), [(2, 2, 1), (9, 14, 3), (20, 6, 2)])
def test_mmd_against_loops(n, m, d):
    rng = np.random.default_rng(n)
    a, b = rng.normal(size=(n, d)), rng.normal(0.5, 1, (m, d))
    found, _ = drift.mmd_test(a, b, bandwidth=0.8, permutations=3)
    assert found == pytest.approx(mmd_by_loops(a, b, 0.8), abs=1e-10)
    rows = np.concatenate([a, b])
    pairs = itertools.combinations(rows, 2)
    median = np.median([np.linalg.norm(x - y) for x, y in pairs])
    found, _ = drift.mmd_test(a, b, permutations=3)
    assert found == pytest.approx(mmd_by_loops(a, b, median), abs=1e-6)


def test_mmd_p_value_against_all_permutations():
    rng = np.random.default_rng(3)
    a, b = rng.normal(size=(4, 2)), rng.normal(1.0, 1, (5, 2))
    rows, values = np.concatenate([a, b]), []
    for chosen in itertools.combinations(range(9), 4):
        rest = [i for i in range(9) if i not in chosen]
        values.append(mmd_by_loops(rows[list(chosen)], rows[rest], 1.0))
    observed = mmd_by_loops(a, b, 1.0)
    exact = np.mean(np.array(values) >= observed - 1e-12)
    _, p = drift.mmd_test(a, b, bandwidth=1.0, permutations=6000)
    assert p == pytest.approx(exact, abs=0.025)


def test_mmd_keeps_its_rate_of_false_alarms_and_finds_a_shift():
    rng = np.random.default_rng(4)
    quiet, loud = [], []
    for seed in range(400):
        a, b = rng.normal(size=(25, 3)), rng.normal(size=(15, 3))
        quiet.append(drift.mmd_test(a, b, permutations=19, seed=seed)[1])
        loud.append(drift.mmd_test(a, b + 1, permutations=19, seed=seed)[1])
    assert 0.02 < np.mean(np.array(quiet) <= 0.05) < 0.085
    assert np.mean(np.array(loud) <= 0.05) > 0.8
    assert min(quiet + loud) == pytest.approx(1 / 20)


def test_mmd_is_0_on_average_where_nothing_has_changed():
    rng = np.random.default_rng(5)
    values = [
        drift.mmd_test(*rng.normal(size=(2, 12, 2)), bandwidth=1.0, permutations=1)[0]
        for _ in range(1500)
    ]
    assert abs(np.mean(values)) < 4 * np.std(values) / 1500**0.5


def test_corrections_for_many_tests_against_scipy():
    rng = np.random.default_rng(6)
    for _ in range(200):
        p = rng.uniform(size=12) ** rng.integers(1, 6)
        adjusted = false_discovery_control(p)
        assert (drift.benjamini_hochberg(p, 0.1) == (adjusted <= 0.1)).all()
        assert (drift.bonferroni(p, 0.1) == (np.minimum(1, p * 12) <= 0.1)).all()
    assert not drift.benjamini_hochberg(np.ones(4)).any()


def test_family_of_true_nulls_has_an_alarm_as_often_as_promised():
    p = np.random.default_rng(7).uniform(size=(20_000, 10))
    for rule in (drift.bonferroni, drift.benjamini_hochberg):
        rate = np.mean([rule(row, 0.1).any() for row in p])
        assert rate == pytest.approx(1 - (1 - 0.01) ** 10, abs=0.01)


def test_cusum_is_the_largest_sum_of_the_latest_values():
    z, chart = np.random.default_rng(8).normal(size=40), drift.Cusum(0.4, 3.0)
    for t, value in enumerate(z, 1):
        alarm = chart.update(value)
        up = max(0.0, *((z[s:t] - 0.4).sum() for s in range(t)))
        down = max(0.0, *((-z[s:t] - 0.4).sum() for s in range(t)))
        assert (chart.up, chart.down) == pytest.approx((up, down), abs=1e-12)
        assert alarm == (max(up, down) > 3.0)
    chart.reset()
    assert chart.up == chart.down == 0.0


def run_length_by_markov_chain(shift, k, h, cells=400):
    """Brook and Evans (1972): the sum on a grid, one side."""
    width = 2 * h / (2 * cells - 1)
    centres = width * np.arange(cells)
    edges = centres[None, :] - centres[:, None] + k - shift
    move = norm.cdf(edges + width / 2) - norm.cdf(edges - width / 2)
    move[:, 0] = norm.cdf(edges[:, 0] + width / 2)
    return np.linalg.solve(np.eye(cells) - move, np.ones(cells))[0]


@pytest.mark.parametrize("shift", [0.0, 0.5, 1.0, 1.5, -1.0])
@pytest.mark.parametrize("h", [4.0, 5.0])
def test_run_length_against_a_markov_chain(shift, h):
    sides = [run_length_by_markov_chain(s, 0.5, h) for s in (shift, -shift)]
    exact = 1 / (1 / sides[0] + 1 / sides[1])
    assert drift.cusum_run_length(shift, 0.5, h) == pytest.approx(exact, rel=0.05)
    assert drift.cusum_run_length(shift, 0.5, h) == drift.cusum_run_length(-shift, h=h)


def test_run_length_against_simulated_charts():
    rng, runs = np.random.default_rng(9), []
    for _ in range(300):
        chart, n = drift.Cusum(0.5, 4.0), 1
        while not chart.update(rng.normal(1.0)):
            n += 1
        runs.append(n)
    assert np.mean(runs) == pytest.approx(drift.cusum_run_length(1.0, 0.5, 4.0), 0.06)


def test_run_length_is_continuous_at_the_slack_and_never_overflows():
    near = [drift.cusum_run_length(0.5 + d) for d in (-1e-4, 0.0, 1e-4)]
    assert near == pytest.approx([near[1]] * 3, rel=1e-2)
    assert drift.cusum_run_length(0.0, 5.0, 500.0) == np.inf


def test_always_valid_p_against_a_numerical_mixture():
    x, sigma, tau = np.array([0.9, -0.2, 1.4, 2.0]), 1.3, 0.7
    found = drift.always_valid_p(x, sigma, tau)
    ratios = []
    for n in range(1, 5):

        def density(mean, n=n):
            given, null = (norm.pdf(x[:n], c, sigma).prod() for c in (mean, 0.0))
            return norm.pdf(mean, 0, tau) * given / null

        ratios.append(quad(density, -12, 12, epsabs=1e-11)[0])
    expected = np.minimum(1, 1 / np.maximum.accumulate(ratios))
    assert found == pytest.approx(expected, rel=1e-7)


def test_always_valid_p_survives_looking_all_the_time():
    x = np.random.default_rng(10).normal(size=(4000, 400))
    p = drift.always_valid_p(x, tau=0.3)
    assert 0.02 < (p[:, -1] <= 0.05).mean() <= 0.055
    assert (np.diff(p, axis=1) <= 0).all() and p.max() <= 1
    assert (drift.always_valid_p(x[:200] + 0.3, tau=0.3)[:, -1] < 0.05).mean() > 0.95
    assert drift.always_valid_p(1e3 * np.ones(5))[-1] == 0.0


BAD = {
    "two axes": (drift.ks_test, (np.zeros((2, 2)), np.zeros(2)), {}, "`a` must have"),
    "nan": (drift.ks_test, (np.zeros(2), [np.nan]), {}, "`b` must be finite"),
    "one bin": (
        drift.population_stability_index,
        (np.arange(9.0), np.arange(9.0), 1),
        {},
        "`bins` must be at least 2. Received: 1",
    ),
    "many bins": (
        drift.population_stability_index,
        (np.arange(9.0), np.arange(9.0), 10),
        {},
        "at most the 9 values",
    ),
    "alpha": (drift.psi_threshold, (9, 9), {"alpha": 1.0}, "Received: 1.0"),
    "zero rows": (drift.psi_threshold, (0, 9), {}, "`n` must be"),
    "one row": (
        drift.mmd_test,
        (np.zeros((1, 2)), np.zeros((5, 2))),
        {},
        "Received: 1 and 5",
    ),
    "widths": (drift.mmd_test, (np.zeros((4, 2)), np.zeros((4, 3))), {}, "`b` must"),
    "all equal": (
        drift.mmd_test,
        (np.zeros((4, 2)), np.zeros((4, 2))),
        {},
        "Pass a `bandwidth`",
    ),
    "p above 1": (drift.bonferroni, ([0.5, 1.2],), {}, "`p_values` must lie in"),
    "p below 0": (drift.benjamini_hochberg, ([-0.1],), {}, "`p_values` must lie in"),
    "k": (drift.Cusum, (0.0,), {}, "`k` must be"),
    "h": (drift.cusum_run_length, (0.0, 0.5, -1.0), {}, "`h` must be"),
    "z": (drift.Cusum().update, (np.inf,), {}, "`z` must be finite"),
    "sigma": (drift.always_valid_p, (np.ones(3), 0.0), {}, "`sigma` must be"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused_by_name(case):
    call, args, kwargs, message = BAD[case]
    with pytest.raises(ValueError, match=message.replace("(", r"\(")):
        call(*args, **kwargs)


def test_counts_must_be_whole():
    with pytest.raises(TypeError, match="`n` must be a whole number"):
        drift.psi_threshold(9.5, 10)
    with pytest.raises(TypeError, match="`permutations`"):
        drift.mmd_test(np.eye(3), np.eye(3), permutations=9.0)
