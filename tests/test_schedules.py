"""Schedules and samplers against loops, Gaussians and known solutions."""

from __future__ import annotations

import numpy as np
import pytest

from genai_utils import samplers, schedules

RNG = np.random.default_rng(0)
SCHEDULES = {
    "linear": schedules.linear_schedule,
    "cosine": schedules.cosine_schedule,
}


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("steps", [5, 20, 1000])
def test_schedules_fall_from_one_to_nearly_nothing(name, steps):
    a = SCHEDULES[name](steps)
    assert a.shape == (steps + 1,) and a[0] == 1 and (np.diff(a) < 0).all()
    assert 0 < a[-1] < 0.01
    product = 1.0
    for t, beta in enumerate(schedules.beta_of(a), start=1):
        product *= 1 - beta
        assert a[t] == pytest.approx(product, rel=1e-9)


def test_the_papers_numbers():
    beta = schedules.beta_of(schedules.linear_schedule(1000))
    assert beta[0] == pytest.approx(1e-4) and beta[-1] == pytest.approx(0.02)
    a = schedules.cosine_schedule(1000)
    f = np.cos((0.5 + 0.008) / 1.008 * np.pi / 2) ** 2
    assert a[500] == pytest.approx(f / np.cos(0.008 / 1.008 * np.pi / 2) ** 2)
    assert schedules.beta_of(a).max() <= 0.999 + 1e-12


def test_log_snr_and_kinds_go_there_and_back():
    a = np.array([0.9, 0.5, 0.1])[:, None]
    assert schedules.log_snr(0.5) == 0 and schedules.log_snr(0.9) > 0
    x0, eps = RNG.normal(size=(2, 3, 4))
    x_t = np.sqrt(a) * x0 + np.sqrt(1 - a) * eps
    wanted = {"eps": eps, "x0": x0, "v": np.sqrt(a) * eps - np.sqrt(1 - a) * x0}
    for kind, value in wanted.items():
        np.testing.assert_allclose(schedules.from_eps(eps, x_t, a, kind), value)
        np.testing.assert_allclose(schedules.to_eps(value, x_t, a, kind), eps)


def test_the_posterior_is_bayes_rule_on_a_grid():
    a = schedules.linear_schedule(10)
    t, x0, x_t = 4, 0.7, -0.2
    grid = np.linspace(-6, 6, 20001)
    beta = 1 - a[t] / a[t - 1]
    log_p = -((grid - np.sqrt(a[t - 1]) * x0) ** 2) / (2 * (1 - a[t - 1]))
    log_p -= (x_t - np.sqrt(1 - beta) * grid) ** 2 / (2 * beta)
    p = np.exp(log_p - log_p.max())
    p /= p.sum()
    mean, variance = schedules.posterior(x0, x_t, t, a)
    assert mean == pytest.approx((p * grid).sum(), abs=1e-6)
    assert variance == pytest.approx((p * (grid - mean) ** 2).sum(), rel=1e-4)


def test_bad_schedules_are_refused():
    for bad in ([1.0], [0.9, 0.5], [1.0, 0.5, 0.6], [1.0, 0.5, 0.0]):
        with pytest.raises(ValueError, match="`alpha_bar_t` must"):
            schedules.check_schedule(bad)
    with pytest.raises(ValueError, match="at most 10"):
        samplers.spaced(schedules.linear_schedule(10), 11)


# Data from a Gaussian N(MEAN, WIDTH^2): the best denoiser is linear and known.
MEAN, WIDTH = 1.5, 0.4


def exact(x, a):
    """E[eps | x_t] where data are Gaussian."""
    variance = a * WIDTH**2 + 1 - a
    return np.sqrt(1 - a) * (x - np.sqrt(a) * MEAN) / variance


def test_the_samplers_return_the_data_of_an_exact_denoiser():
    a = schedules.cosine_schedule(200)
    x = RNG.normal(size=(20000, 1))
    made = {
        "ancestral": samplers.ancestral(exact, x, a, np.random.default_rng(1)),
        "ddim": samplers.ddim(exact, x, a),
        "noisy ddim": samplers.ddim(exact, x, a, 1.0, np.random.default_rng(1)),
        "heun": samplers.heun(exact, x, samplers.karras_levels(40)),
    }
    for name, found in made.items():
        assert found.mean() == pytest.approx(MEAN, abs=0.02), name
        assert found.std() == pytest.approx(WIDTH, rel=0.06), name


def test_ddim_with_eta_one_is_ancestral_in_distribution_of_one_step():
    a = np.array([1.0, 0.8, 0.3])
    x = np.full((200000, 1), 0.5)
    one = samplers.ancestral(exact, x, a, np.random.default_rng(1))
    two = samplers.ddim(exact, x, a, 1.0, np.random.default_rng(2))
    assert one.mean() == pytest.approx(two.mean(), abs=5e-3)
    assert one.std() == pytest.approx(two.std(), abs=5e-3)


def test_a_perfect_oracle_returns_the_clean_data_and_ddim_encodes():
    x0, eps = RNG.normal(size=(2, 5, 3))
    a = schedules.cosine_schedule(50)
    x_t = np.sqrt(a[-1]) * x0 + np.sqrt(1 - a[-1]) * eps

    def oracle(x, level):
        return (x - np.sqrt(level) * x0) / np.sqrt(1 - level)

    np.testing.assert_allclose(samplers.ddim(oracle, x_t, a), x0, atol=1e-5)
    # there and back with the exact denoiser: only the discretisation differs
    gaps = []
    for steps in (100, 200):
        levels = schedules.cosine_schedule(steps)[steps // 50 :]
        noise = samplers.ddim(exact, x0, levels[::-1])
        gaps.append(abs(samplers.ddim(exact, noise, levels) - x0).max())
    assert gaps[0] < 0.2 and gaps[1] < 0.6 * gaps[0]


def test_heun_is_of_second_order_and_ddim_of_first():
    x = np.array([[1.0]])
    # between two noise levels, in sigma: the solution for Gaussian data in closed form
    sigma = np.array([0.5, 5.0])
    slope = (x[0, 0] * np.sqrt(1 + sigma[1] ** 2) - MEAN) / np.hypot(WIDTH, sigma[1])
    true = MEAN + slope * np.hypot(WIDTH, sigma[0])
    errors = {}
    for steps in (20, 40, 80):
        s = np.linspace(*sigma, steps + 1)
        a = 1 / (1 + s**2)
        for name, sampler in (("ddim", samplers.ddim), ("heun", samplers.heun)):
            found = sampler(exact, x, a)[0, 0] * np.sqrt(1 + sigma[0] ** 2)
            errors.setdefault(name, []).append(abs(found - true))
    orders = {n: np.log2(e[-2] / e[-1]) for n, e in errors.items()}
    assert orders["ddim"] == pytest.approx(1, abs=0.1), errors
    assert orders["heun"] == pytest.approx(2, abs=0.2), errors


def test_clipping_keeps_what_is_seen_in_range():
    x = 3 * RNG.normal(size=(50, 2))
    made = samplers.ddim(lambda v, a: 0 * v, x, np.array([1.0, 0.5]), clip=0.5)
    assert abs(made).max() <= 0.5 + 1e-12
    with pytest.raises(ValueError, match="`rng` must be"):
        samplers.ddim(exact, x, np.array([1.0, 0.5]), eta=1.0)


def test_guidance_is_a_line_through_two_predictions():
    eps_fn = samplers.guided(lambda x, a: x + 1, lambda x, a: x - 1, 3.0)
    np.testing.assert_allclose(eps_fn(np.zeros(2), 0.5), [5.0, 5.0])


def test_solvers_reach_their_order_on_a_rotation():
    x = np.array([[1.0, 0.0]])
    turn = np.array([[0.0, 2.0], [-2.0, 0.0]])

    def field(v, t):
        return (1 + t) * v @ turn

    angle = 2 * 1.5  # the integral of 2 (1 + t)
    true = np.array([np.cos(angle), np.sin(angle)])
    for method, order in (("euler", 1), ("heun", 2), ("rk4", 4)):
        gaps = [
            np.linalg.norm(samplers.integrate(field, x, n, method)[0] - true)
            for n in (40, 80)
        ]
        assert np.log2(gaps[0] / gaps[1]) == pytest.approx(order, abs=0.25), method
        back = samplers.integrate(field, true[None], 80, method, 1.0, 0.0)
        assert np.linalg.norm(back - x) < 3 * gaps[1] + 1e-9


def test_langevin_is_biased_by_its_step_and_metropolis_is_not():
    start = RNG.normal(size=(40000, 1))
    found = {}
    for exact_too in (False, True):
        log_p = (lambda v: -0.5 * (v**2).sum(axis=1)) if exact_too else None
        rng = np.random.default_rng(3)
        x = samplers.langevin(lambda v: -v, start, 0.5, 60, rng, log_p)
        found[exact_too] = x.var()
    # x <- (1 - h) x + sqrt(2 h) e has the variance 2h / (1 - (1 - h)^2) = 1 / (1 - h/2)
    assert found[False] == pytest.approx(1 / 0.75, rel=0.03)
    assert found[True] == pytest.approx(1.0, rel=0.03)
