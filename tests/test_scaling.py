"""Power laws, costs and the ring, against oracles: truth, brute force, Keras' Adam."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from genai_utils.scaling import (
    fit_power_law,
    memory_plan,
    ring_all_reduce,
    training_flops,
)

SIZES = 10.0 ** np.arange(2, 6, 0.5)
LAWS = [(0.02, 0.8, 0.41), (1.7, 400.0, 0.34), (1e-9, 3.0, 0.13)]


@pytest.mark.parametrize(("floor", "scale", "exponent"), LAWS)
def test_a_curve_without_noise_gives_its_constants_back(floor, scale, exponent):
    law = fit_power_law(SIZES, floor + scale * SIZES**-exponent)
    assert law.floor == pytest.approx(floor, rel=1e-3, abs=1e-3)
    assert law.scale == pytest.approx(scale, rel=1e-3)
    assert law.exponent == pytest.approx(exponent, rel=1e-3)
    far, error = law.predict(np.array([1e7, 1e8]))
    true = floor + scale * np.array([1e7, 1e8]) ** -exponent
    np.testing.assert_allclose(far, true, rtol=1e-3)
    assert (error < 1e-3 * true).all()


def repeated(floor=0.02, noise=0.01, n=150):
    """Fits of the same law with fresh noise, and what is true at ten times the data."""
    rng, y = np.random.default_rng(0), floor + 0.8 * SIZES**-0.41
    fits = []
    for _ in range(n):
        noisy = y * np.exp(noise * rng.standard_normal(len(y)))
        fits.append(fit_power_law(SIZES, noisy, noise * y))
    return fits, floor + 0.8 * (10 * SIZES[-1]) ** -0.41


def test_the_errors_are_the_scatter_of_repeated_fits():
    fits, true = repeated()
    claimed = np.mean([f.errors for f in fits], axis=0)
    found = np.std([(f.floor, f.scale, f.exponent) for f in fits], axis=0)
    assert (claimed > 0.8 * found).all() and (claimed < 1.6 * found).all()
    guesses = [f.predict(np.array([10 * SIZES[-1]])) for f in fits]
    off = np.array([(g[0] - true) / s[0] for g, s in guesses])
    assert (abs(off) < 2).mean() > 0.9


def test_scatter_beyond_the_errors_widens_them():
    y = 0.02 + 0.8 * SIZES**-0.41
    bent = y * (1 + 0.1 * (-1.0) ** np.arange(len(y)))
    plain = fit_power_law(SIZES, y, 0.01 * y).errors[2]
    assert fit_power_law(SIZES, bent, 0.01 * y).errors[2] > 5 * plain
    assert fit_power_law(SIZES, bent).errors[2] > 5 * plain


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (SIZES[:3], SIZES[:3], "at least four"),
        (SIZES, -SIZES, "above 0"),
        (SIZES, SIZES[:-1], "shape"),
        (SIZES[:, None], SIZES[:, None], "at least four"),
    ],
)
def test_a_law_refuses(x, y, message):
    with pytest.raises(ValueError, match=message):
        fit_power_law(x, y)


def test_a_matrix_product_costs_six_operations_for_a_weight():
    """Count multiplications and additions of y = x W, x' and W' one by one."""
    n, a, b = 5, 3, 4
    forwards = sum(2 for _ in range(n) for _ in range(b) for _ in range(a))
    of_x = sum(2 for _ in range(n) for _ in range(a) for _ in range(b))
    of_w = sum(2 for _ in range(a) for _ in range(b) for _ in range(n))
    assert training_flops(a * b, n) == forwards + of_x + of_w
    with pytest.raises(ValueError, match="num_tokens"):
        training_flops(10, 0)


def test_the_plan_is_what_adam_keeps():
    dense = keras.layers.Dense(7)
    dense.build((None, 11))
    adam = keras.optimizers.Adam()
    adam.build(dense.trainable_variables)
    n = dense.count_params()
    kept = sum(4 * int(np.prod(v.shape)) for v in adam.variables)
    assert 0 <= kept - memory_plan(n)["optimizer"] <= 16  # a counter and the rate
    assert memory_plan(n)["total"] == 16 * n


def test_the_stages_share_what_they_say():
    n, p, mixed = 1000, 10, (2, 2, 12)
    totals = [memory_plan(n, p, k, bytes_each=mixed)["total"] for k in range(4)]
    assert totals == [16_000, 4_000 + 1_200, 2_000 + 1_400, 1_600]
    with pytest.raises(ValueError, match="`stage`"):
        memory_plan(n, p, 4)
    with pytest.raises(ValueError, match="three numbers"):
        memory_plan(n, bytes_each=(4, 4))


@pytest.mark.parametrize("p", [1, 2, 3, 5])
@pytest.mark.parametrize("shape", [(1,), (7, 2), (12,)])
def test_the_ring_sums_and_leaves_its_input_alone(p, shape):
    parts = [np.random.default_rng(r).integers(0, 9, shape) for r in range(p)]
    before = [x.copy() for x in parts]
    sums, sent = ring_all_reduce(parts)
    assert len(sums) == p
    for got, part, kept in zip(sums, parts, before, strict=True):
        np.testing.assert_array_equal(got, sum(before))
        np.testing.assert_array_equal(part, kept)
    assert sent.sum() == 2 * (p - 1) * np.prod(shape)


def test_no_replica_sends_twice_its_array():
    for p in (2, 4, 8):
        sent = ring_all_reduce(list(np.ones((p, 8 * p))))[1]
        assert (sent == 2 * (p - 1) * 8).all()


def test_the_ring_refuses():
    with pytest.raises(ValueError, match="`parts`"):
        ring_all_reduce([])
    with pytest.raises(ValueError, match="shape"):
        ring_all_reduce([np.ones(3), np.ones(4)])
