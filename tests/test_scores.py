"""Langevin's samplers against known densities, and where a step goes astray."""

from __future__ import annotations

import numpy as np
import pytest

from genai_utils import data, samplers


def log_quartic(x):
    return -0.25 * (x**4).sum(axis=1)


def test_metropolis_refuses_steps_to_where_nothing_is_defined():
    # exp(-x^4 / 4) has steep walls: at 1e80 the density and that of the
    # step from there are both 0, and the ratio of acceptance is no number
    start = np.array([[1e80], [0.5]])
    with np.errstate(over="ignore", invalid="ignore"):
        x = samplers.langevin(
            lambda v: -(v**3), start, 0.1, 5, np.random.default_rng(0), log_quartic
        )
    assert np.isfinite(x).all()
    assert x[0, 0] == 1e80
    assert x[1, 0] != 0.5


def test_metropolis_keeps_points_on_the_dark_squares():
    # the density is zero off the squares; at a start off them the ratio is no number
    rng = np.random.default_rng(1)
    start = np.concatenate([data.toy("checkerboard", 500), [[9.0, 9.0]]])

    def log_density(x):
        return data.toy_log_density("checkerboard", x)

    with np.errstate(invalid="ignore"):
        x = samplers.langevin(np.zeros_like, start, 0.01, 50, rng, log_density)
    assert np.isfinite(log_density(x[:500])).all()
    assert (x[500] == 9.0).all()


def test_metropolis_finds_the_variance_of_a_steep_density():
    # of exp(-x^4 / 4): 2 Gamma(3/4) / Gamma(1/4) = 0.67598
    start = np.random.default_rng(2).uniform(-1, 1, (20_000, 1))
    rng = np.random.default_rng(3)
    x = samplers.langevin(lambda v: -(v**3), start, 0.3, 80, rng, log_quartic)
    assert x.var() == pytest.approx(0.67598, rel=0.03)
