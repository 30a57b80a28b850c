"""ROC, calibration, bootstrap and the Gaussian mechanism, against other ways."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import norm
from sklearn import metrics as oracle

from genai_utils.diagnosis import (
    binary_log_loss,
    bootstrap,
    calibration_error,
    fit_temperature,
    gaussian_delta,
    gaussian_sigma,
    reliability,
    roc_auc,
    roc_curve,
    sensitivity_at,
)


def cases(n=300, seed=0, ties=False):
    rng = np.random.default_rng(seed)
    labels = (rng.random(n) < 0.3).astype(int)
    scores = rng.normal(labels, 1.2)
    return labels, np.round(scores, 1) if ties else scores


@pytest.mark.parametrize("ties", [False, True])
def test_auc_is_that_of_scikit_learn(ties):
    labels, scores = cases(ties=ties)
    assert roc_auc(labels, scores) == pytest.approx(
        oracle.roc_auc_score(labels, scores), abs=1e-12
    )


def test_auc_of_several_classifiers_at_once():
    labels, scores = cases()
    both = np.stack([scores, -scores, np.ones_like(scores)], axis=1)[:, None]
    found = roc_auc(labels, both)
    assert found.shape == (1, 3)
    assert found[0, 0] + found[0, 1] == pytest.approx(1) and found[0, 2] == 0.5


@pytest.mark.parametrize("ties", [False, True])
def test_roc_curve_is_that_of_scikit_learn(ties):
    labels, scores = cases(ties=ties)
    theirs = oracle.roc_curve(labels, scores, drop_intermediate=False)
    for mine, other in zip(roc_curve(labels, scores), theirs[:2], strict=True):
        assert np.allclose(mine, other)
    area = np.trapezoid(*roc_curve(labels, scores)[::-1])
    assert area == pytest.approx(roc_auc(labels, scores))


@pytest.mark.parametrize("specificity", [0.5, 0.9, 0.95, 1.0])
@pytest.mark.parametrize("ties", [False, True])
def test_sensitivity_is_the_best_of_all_thresholds(specificity, ties):
    labels, scores = cases(ties=ties)
    best = max(
        np.mean(scores[labels == 1] > t)
        for t in scores
        if np.mean(scores[labels == 0] <= t) >= specificity
    )
    assert sensitivity_at(labels, scores, specificity) == best
    pair = sensitivity_at(labels, np.stack([scores, scores], 1), specificity)
    assert pair.tolist() == [best, best]


@pytest.mark.parametrize("function", [roc_auc, roc_curve, sensitivity_at])
def test_one_class_is_refused(function):
    with pytest.raises(ValueError, match="both classes"):
        function(np.ones(5), np.arange(5.0))
    with pytest.raises(ValueError, match="`scores` must have shape"):
        function(np.array([0, 1]), np.arange(5.0))
    with pytest.raises(ValueError, match="0 or 1"):
        function(np.array([0, 0.5, 1]), np.arange(3.0))


def test_specificity_has_a_range():
    with pytest.raises(ValueError, match="`specificity` must lie"):
        sensitivity_at(np.array([0, 1]), np.arange(2.0), 1.5)


def test_bootstrap_of_a_mean_has_its_standard_error():
    x = np.random.default_rng(1).normal(size=400)
    draws = bootstrap(np.mean, x, repeats=2000)
    assert draws.shape == (2000,)
    assert draws.std() == pytest.approx(x.std() / 20, rel=0.06)
    assert draws.mean() == pytest.approx(x.mean(), abs=4 * x.std() / 20 / 2000**0.5)


def test_bootstrap_draws_all_arrays_alike():
    labels, scores = cases()
    gaps = bootstrap(lambda a, b: a.mean() - b.mean(), scores, scores, repeats=5)
    assert np.abs(gaps).max() == 0
    same = bootstrap(roc_auc, labels, np.stack([scores] * 2, 1), repeats=5, seed=3)
    assert same.shape == (5, 2) and (same[:, 0] == same[:, 1]).all()
    again = bootstrap(roc_auc, labels, scores, repeats=5, seed=3)
    assert np.allclose(again, same[:, 0]) and len(np.unique(again)) == 5
    with pytest.raises(ValueError, match="one common length"):
        bootstrap(roc_auc, labels, scores[:-1])


def test_log_loss_is_that_of_scikit_learn():
    labels, logits = cases()
    p = 1 / (1 + np.exp(-logits / 2.5))
    assert binary_log_loss(labels, logits, 2.5) == pytest.approx(
        oracle.log_loss(labels, p)
    )


@pytest.mark.parametrize("true", [0.4, 1.0, 3.0])
def test_temperature_is_found_again(true):
    rng = np.random.default_rng(2)
    honest = rng.normal(0, 2, 40_000)
    labels = (rng.random(40_000) < 1 / (1 + np.exp(-honest))).astype(int)
    found = fit_temperature(labels, true * honest)
    assert found == pytest.approx(true, rel=0.05)
    slope = [binary_log_loss(labels, true * honest, found * f) for f in (0.99, 1.01)]
    assert min(slope) >= binary_log_loss(labels, true * honest, found)


def test_reliability_by_hand():
    labels = np.array([0, 1, 1, 1])
    p = np.array([0.05, 0.15, 0.55, 1.0])
    promised, observed, count = reliability(labels, p, bins=2)
    assert promised.tolist() == pytest.approx([0.1, 0.775])
    assert observed.tolist() == [0.5, 1.0] and count.tolist() == [2, 2]
    assert calibration_error(labels, p, bins=2) == pytest.approx(0.5 * (0.4 + 0.225))


def test_reliability_leaves_empty_bins_open():
    promised, observed, count = reliability(np.array([0, 1]), np.array([0.31, 0.39]))
    assert count.tolist() == [0, 0, 0, 2] + [0] * 6
    assert np.isnan(promised[0]) and observed[3] == 0.5
    found = calibration_error(np.array([0, 1]), np.array([0.31, 0.39]))
    assert found == pytest.approx(0.15)


def test_an_honest_classifier_is_calibrated():
    rng = np.random.default_rng(3)
    p = rng.random(100_000)
    labels = (rng.random(100_000) < p).astype(int)
    assert calibration_error(labels, p) < 0.01
    assert calibration_error(labels, p**2) > 0.1


def exceeding(epsilon, sigma, gap):
    """Mass of one normal above e^epsilon times another, by quadrature."""

    def density(x):
        p, q = norm.pdf(x, 0, sigma), norm.pdf(x, gap, sigma)
        return max(p - np.exp(epsilon) * q, 0.0)

    cut = gap / 2 - epsilon * sigma**2 / gap  # to its left p is larger
    return quad(density, cut - 12 * sigma, cut, limit=200)[0]


@pytest.mark.parametrize("epsilon, sigma, gap", [(0.0, 1, 1), (1, 2, 1), (3, 0.7, 2)])
def test_delta_is_the_exceeding_mass(epsilon, sigma, gap):
    assert gaussian_delta(epsilon, sigma, gap) == pytest.approx(
        exceeding(epsilon, sigma, gap), abs=1e-8
    )


def test_delta_of_large_epsilon_is_finite():
    assert 0 <= gaussian_delta(2000.0, 1.0) < 1e-12


@pytest.mark.parametrize("epsilon", [0.01, 1.0, 30.0])
def test_sigma_meets_its_delta_and_is_below_the_classical_bound(epsilon):
    sigma = gaussian_sigma(epsilon, 1e-5, 3.0)
    assert gaussian_delta(epsilon, sigma, 3.0) == pytest.approx(1e-5, rel=1e-4)
    if epsilon < 1:  # Dwork and Roth (2014), theorem A.1
        assert sigma < 3.0 * np.sqrt(2 * np.log(1.25e5)) / epsilon


def test_privacy_refuses_bad_arguments():
    with pytest.raises(ValueError, match="`delta` must lie"):
        gaussian_sigma(1.0, 1.0)
    with pytest.raises(ValueError, match="`epsilon`"):
        gaussian_sigma(0.0)
    with pytest.raises(ValueError, match="`sigma`"):
        gaussian_delta(1.0, 0.0)
