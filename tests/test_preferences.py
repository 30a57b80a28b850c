"""Losses of preferences against SciPy, counting and closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from keras import ops
from scipy import optimize, special

from genai_utils import backends, losses

pytestmark = pytest.mark.engines
rng = np.random.default_rng(0)


def numpy(x):
    return ops.convert_to_numpy(x)


def tensor(x):
    return ops.convert_to_tensor(np.asarray(x, dtype="float32"))


def test_preference_nll_is_minus_the_log_of_a_logistic():
    chosen, rejected = rng.normal(0, 3, (2, 50))
    found = numpy(losses.preference_nll(tensor(chosen), tensor(rejected)))
    assert found.shape == (50,)
    exact = -special.log_expit(chosen - rejected)
    np.testing.assert_allclose(found, exact, rtol=1e-4, atol=1e-6)


def test_preference_nll_survives_large_gaps():
    found = numpy(losses.preference_nll(tensor([0.0, 300.0]), tensor([300.0, 0.0])))
    np.testing.assert_allclose(found, [300.0, 0.0], atol=1e-5)


def test_preference_nll_at_its_best_reproduces_how_often_each_one_won():
    wins = np.array([[0, 30, 45], [10, 0, 24], [5, 6, 0]])  # row beat column
    i, j = np.nonzero(wins)

    def total(r):
        nll = losses.preference_nll(tensor(r[i]), tensor(r[j]))
        return float((numpy(nll) * wins[i, j]).sum())

    best = optimize.minimize(total, np.zeros(3), method="Nelder-Mead").x
    games = wins + wins.T
    expected = (games * special.expit(best[:, None] - best[None])).sum(axis=1)
    np.testing.assert_allclose(expected, wins.sum(axis=1), rtol=5e-3)


def test_dpo_is_log_two_where_model_and_reference_agree():
    pair = rng.normal(-5, 2, (2, 9))
    found = numpy(losses.dpo(*map(tensor, pair), *map(tensor, pair), beta=0.7))
    np.testing.assert_allclose(found, np.log(2), rtol=1e-6)


def test_dpo_against_the_formula_in_probabilities():
    p, q, p_ref, q_ref = rng.uniform(0.05, 0.95, (4, 20))
    logs = [tensor(np.log(v)) for v in (p, q, p_ref, q_ref)]
    odds = (p / p_ref) ** 0.3 / (q / q_ref) ** 0.3
    found = numpy(losses.dpo(*logs, beta=0.3))
    np.testing.assert_allclose(found, -np.log(odds / (1 + odds)), rtol=1e-4)


def test_dpo_default_price_is_a_tenth():
    logs = [tensor([v]) for v in (-1.0, -4.0, -2.0, -3.0)]
    found = numpy(losses.dpo(*logs))
    np.testing.assert_allclose(found, -special.log_expit(0.1 * 2.0), rtol=1e-5)


def test_dpo_gradient_raises_the_chosen_and_lowers_the_rejected_alike():
    logs, ref = rng.normal(-4, 1, (2, 30, 2)).astype("float32")

    def loss(x):
        return losses.dpo(x[:, 0], x[:, 1], tensor(ref[:, 0]), tensor(ref[:, 1]), 0.5)

    found = numpy(backends.input_gradients(loss, tensor(logs)))
    margin = 0.5 * ((logs - ref)[:, 0] - (logs - ref)[:, 1])
    weight = 0.5 * special.expit(-margin)
    np.testing.assert_allclose(found, np.stack([-weight, weight], 1), atol=1e-5)


def test_dpo_with_all_pairs_finds_the_best_policy_under_a_price_on_divergence():
    reward, ref, beta = np.array([1.0, 0.0, -0.5]), np.array([0.2, 0.5, 0.3]), 0.5
    best = ref * np.exp(reward / beta)
    best /= best.sum()
    i, j = np.nonzero(~np.eye(3, dtype=bool))
    share = special.expit(reward[i] - reward[j])  # of i preferred to j

    def total(a):
        log_p = a - special.logsumexp(a)
        logs = [tensor(v) for v in (log_p[i], log_p[j], np.log(ref[i]), np.log(ref[j]))]
        return float((numpy(losses.dpo(*logs, beta=beta)) * share).sum())

    found = optimize.minimize(total, np.log(ref), method="Nelder-Mead").x
    np.testing.assert_allclose(special.softmax(found), best, atol=0.01)


def test_half_precision_is_computed_in_float32():
    logs = [ops.cast(tensor([v]), "float16") for v in (-300.0, -200.0, -10.0, -5.0)]
    found = numpy(losses.dpo(*logs, beta=1.0))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, 95.0, rtol=1e-3)
