"""Losses against closed forms, SciPy, Monte Carlo and finite differences."""

from __future__ import annotations

import math

import keras
import numpy as np
import pytest
from keras import ops
from scipy import integrate, stats

from genai_utils import losses

pytestmark = pytest.mark.engines
rng = np.random.default_rng(0)


def numpy(x):
    return ops.convert_to_numpy(x)


def tensor(x):
    return ops.convert_to_tensor(np.asarray(x, dtype="float32"))


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


def test_gaussian_kl_against_quadrature():
    mean, log_var = 0.7, -0.9
    q, p = stats.norm(mean, math.exp(log_var / 2)), stats.norm(0, 1)
    exact, _ = integrate.quad(lambda z: q.pdf(z) * (q.logpdf(z) - p.logpdf(z)), -9, 9)
    found = numpy(losses.gaussian_kl(tensor([[mean]]), tensor([[log_var]])))
    assert found.shape == (1,)
    assert found[0] == pytest.approx(exact, rel=1e-4)


def test_gaussian_kl_sums_coordinates_and_keeps_samples_apart():
    mean, log_var = rng.normal(size=(2, 5, 3))
    found = numpy(losses.gaussian_kl(tensor(mean), tensor(log_var)))
    loop = [
        sum(
            0.5 * (m**2 + math.exp(s) - 1 - s)
            for m, s in zip(mean[i], log_var[i], strict=True)
        )
        for i in range(5)
    ]
    np.testing.assert_allclose(found, loop, rtol=1e-4)


def test_gaussian_kl_against_monte_carlo():
    mean, log_var = np.array([[0.5, -1.0]]), np.array([[0.3, -0.4]])
    sd = np.exp(log_var / 2)
    z = mean + sd * np.random.default_rng(1).standard_normal((200_000, 2))
    draws = (stats.norm.logpdf(z, mean, sd) - stats.norm.logpdf(z)).sum(axis=1)
    found = numpy(losses.gaussian_kl(tensor(mean), tensor(log_var)))[0]
    assert found == pytest.approx(draws.mean(), abs=5 * draws.std() / 200_000**0.5)


@pytest.mark.parametrize("sigma", [0.2, 1.0, 3.0])
def test_gaussian_nll_against_scipy(sigma):
    x, x_hat = rng.uniform(-1, 1, (2, 4, 3, 3, 1))
    exact = -stats.norm.logpdf(x, x_hat, sigma).sum(axis=(1, 2, 3))
    found = numpy(losses.gaussian_nll(tensor(x), tensor(x_hat), sigma))
    np.testing.assert_allclose(found, exact, rtol=1e-4)


def test_bernoulli_nll_against_scipy_and_far_out():
    x, a = rng.integers(2, size=(4, 6)), rng.normal(0, 3, (4, 6))
    exact = -stats.bernoulli.logpmf(x, sigmoid(a)).sum(axis=1)
    found = numpy(losses.bernoulli_nll(tensor(x), tensor(a)))
    np.testing.assert_allclose(found, exact, rtol=1e-4)
    far = numpy(losses.bernoulli_nll(tensor([[1.0]]), tensor([[-200.0]])))
    assert far[0] == pytest.approx(200.0)


def test_elbo_is_below_the_exact_likelihood_and_reaches_it():
    # x | z ~ N(z, 1), z ~ N(0, 1): x ~ N(0, 2), and z | x ~ N(x / 2, 1 / 2)
    x = 1.3
    exact = stats.norm.logpdf(x, 0, math.sqrt(2))
    for mean, var in ((x / 2, 0.5), (0.0, 1.0)):
        nll = 0.5 * math.log(2 * math.pi) + 0.5 * ((x - mean) ** 2 + var)
        kl = losses.gaussian_kl(tensor([[mean]]), tensor([[math.log(var)]]))
        bound = numpy(losses.elbo(tensor([nll]), kl))[0]
        gap = 0.5 * (2 * var + 2 * (mean - x / 2) ** 2 - 1 - math.log(2 * var))
        assert bound == pytest.approx(exact - gap, abs=1e-5)


def test_elbo_weighs_the_kl_term_alone():
    found = numpy(losses.elbo(tensor([2.0]), tensor([3.0]), 4.0))
    assert found[0] == -14.0


REAL, FAKE = rng.normal(0, 2, (2, 50, 1))
ORACLES = {
    "minimax_d": lambda: (
        -np.log(sigmoid(REAL)).mean() - np.log(1 - sigmoid(FAKE)).mean()
    ),
    "hinge_d": lambda: np.maximum(0, 1 - REAL).mean() + np.maximum(0, 1 + FAKE).mean(),
    "wasserstein_d": lambda: FAKE.mean() - REAL.mean(),
    "minimax_g": lambda: np.log(1 - sigmoid(FAKE)).mean(),
    "non_saturating_g": lambda: -np.log(sigmoid(FAKE)).mean(),
    "hinge_g": lambda: -FAKE.mean(),
    "wasserstein_g": lambda: -FAKE.mean(),
}


@pytest.mark.parametrize("name", ORACLES)
def test_gan_losses_against_their_definitions(name):
    scores = (tensor(REAL), tensor(FAKE)) if name.endswith("_d") else (tensor(FAKE),)
    found = numpy(getattr(losses, name)(*scores))
    assert found.shape == ()
    assert found == pytest.approx(ORACLES[name](), rel=1e-4)


@pytest.mark.parametrize("name", ["minimax_d", "minimax_g", "non_saturating_g"])
def test_gan_losses_stay_finite_where_sigmoids_round(name):
    far = tensor([[-120.0], [120.0]])
    scores = (far, far) if name.endswith("_d") else (far,)
    assert np.isfinite(numpy(getattr(losses, name)(*scores)))


def test_minimax_d_against_keras():
    bce = keras.losses.BinaryCrossentropy(from_logits=True)
    both = bce(np.ones((50, 1)), REAL) + bce(np.zeros((50, 1)), FAKE)
    found = losses.minimax_d(tensor(REAL), tensor(FAKE))
    assert float(numpy(found)) == pytest.approx(float(numpy(both)), rel=1e-4)


def test_gradient_penalty_of_a_linear_critic():
    w = np.array([[3.0], [4.0]], dtype="float32")  # the gradient is w, of length 5
    real, fake = (tensor(rng.normal(size=(6, 2))) for _ in range(2))
    found = losses.gradient_penalty(lambda x: ops.matmul(x, w), real, fake, seed=0)
    assert float(numpy(found)) == pytest.approx(16.0, rel=1e-4)


def test_gradient_penalty_draws_uniform_places_once_a_sample():
    seen = []

    def critic(x):
        seen.append(x)
        return ops.sum(ops.square(x), axis=-1) / 2  # gradient x, so the norm is |x|

    real, fake = tensor(np.ones((4000, 3))), tensor(np.zeros((4000, 3)))
    found = float(numpy(losses.gradient_penalty(critic, real, fake, seed=0)))
    # every coordinate of a sample is the same t ~ U(0, 1): E (sqrt(3) t - 1)^2
    assert found == pytest.approx(1 - math.sqrt(3) + 1, abs=0.03)


def info_nce_loop(a, b, temperature):
    total = 0.0
    for i in range(len(a)):
        cosines = [
            sum(a[i] * b[j]) / math.sqrt(sum(a[i] ** 2) * sum(b[j] ** 2))
            for j in range(len(b))
        ]
        weights = [math.exp(c / temperature) for c in cosines]
        total -= math.log(weights[i] / sum(weights))
    return total / len(a)


@pytest.mark.parametrize("temperature", [0.1, 0.5, 2.0])
def test_info_nce_against_a_loop(temperature):
    a, b = np.random.default_rng(2).normal(size=(2, 7, 3))
    found = numpy(losses.info_nce(tensor(a), tensor(b), temperature))
    assert found.shape == ()
    assert found == pytest.approx(info_nce_loop(a, b, temperature), rel=1e-4)
    other_way = numpy(losses.info_nce(tensor(b), tensor(a), temperature))
    assert abs(found - other_way) > 1e-3  # a asks, b answers


def test_info_nce_of_a_collapse_and_of_a_perfect_match():
    same = tensor(np.ones((6, 4)))
    assert numpy(losses.info_nce(same, same, 0.1)) == pytest.approx(math.log(6), 1e-5)
    apart = tensor(np.eye(6))
    exact = math.log(math.exp(10) + 5) - 10  # cosine 1 to the partner, 0 to the others
    assert numpy(losses.info_nce(apart, apart, 0.1)) == pytest.approx(exact, abs=1e-5)
    assert np.isfinite(numpy(losses.info_nce(tensor(np.zeros((3, 2))), same[:3, :2])))


def test_numbers_that_are_left_out_are_those_of_the_docstrings():
    x, x_hat = tensor(rng.normal(size=(2, 3))), tensor(rng.normal(size=(2, 3)))
    by_default, named = (
        losses.gaussian_nll(x, x_hat),
        losses.gaussian_nll(x, x_hat, 1.0),
    )
    np.testing.assert_array_equal(numpy(by_default), numpy(named))
    a, b = np.random.default_rng(3).normal(size=(2, 5, 4))
    found = numpy(losses.info_nce(tensor(a), tensor(b)))
    assert found == pytest.approx(info_nce_loop(a, b, 0.1), rel=1e-4)


@pytest.mark.parametrize("shape", [(2,), (2, 1, 1)])
def test_gradient_penalty_lies_on_the_line_from_fake_to_real(shape):
    real, fake = np.array([3.0, 0.0]), np.array([0.0, 4.0])
    pairs = [
        tensor(np.tile(v.reshape(shape), (6000, *[1] * len(shape))))
        for v in (real, fake)
    ]

    def critic(x):  # the gradient is x itself
        return ops.sum(ops.square(ops.reshape(x, (-1, 2))), axis=-1) / 2

    def term(t):
        return (np.linalg.norm(t * real + (1 - t) * fake) - 1) ** 2

    exact, _ = integrate.quad(term, 0, 1)
    squares, _ = integrate.quad(lambda t: term(t) ** 2, 0, 1)
    error = math.sqrt((squares - exact**2) / 6000)
    found = float(numpy(losses.gradient_penalty(critic, *pairs, seed=1)))
    assert found == pytest.approx(exact, abs=5 * error)
