"""Draws, seeded weights and stacks of layers, against NumPy and finite differences."""

from __future__ import annotations

import itertools
import math

import keras
import numpy as np
import pytest
from keras import ops

from genai_utils import layers

pytestmark = pytest.mark.engines


def numpy(x):
    return ops.convert_to_numpy(x)


def tensor(x):
    return ops.convert_to_tensor(np.asarray(x, dtype="float32"))


def test_sample_gaussian_moments_and_fresh_noise():
    generator = keras.random.SeedGenerator(1)
    mean, log_var = (
        tensor(np.full((50_000, 1), 0.5)),
        tensor(np.full((50_000, 1), -1.0)),
    )
    first = numpy(layers.sample_gaussian(mean, log_var, generator))
    again = numpy(layers.sample_gaussian(mean, log_var, generator))
    assert first.mean() == pytest.approx(0.5, abs=0.02)
    assert first.std() == pytest.approx(math.exp(-0.5), abs=0.02)
    assert abs(np.corrcoef(first[:, 0], again[:, 0])[0, 1]) < 0.03


def test_noise_of_a_whole_number_is_the_same_whatever_mean_and_variance():
    means, log_vars = np.array([[0.0, 0.0]] * 3), np.array([[0.0, 0.0]] * 3)
    eps = numpy(layers.sample_gaussian(tensor(means), tensor(log_vars), seed=7))
    assert eps.shape == (3, 2) and len(np.unique(eps)) == 6
    means = np.array([[1.0, -2.0], [0.5, 0.0], [3.0, 1.0]])
    log_vars = np.array([[-1.0, 0.8], [0.0, 2.0], [-3.0, 0.1]])
    found = numpy(layers.sample_gaussian(tensor(means), tensor(log_vars), seed=7))
    np.testing.assert_allclose(found, means + np.exp(log_vars / 2) * eps, rtol=1e-4)


def test_draws_are_in_float32_whatever_the_network_returns():
    half = ops.convert_to_tensor(np.zeros((2, 2), "float16"))
    draws = layers.sample_gaussian(half, half, seed=0)
    assert keras.backend.standardize_dtype(draws.dtype) == "float32"


def test_each_layer_gets_the_next_seed():
    four = list(itertools.islice(layers.seeded(3), 4))
    assert [list(kwargs) for kwargs in four] == [["kernel_initializer"]] * 4
    initializers = [kwargs["kernel_initializer"] for kwargs in four]
    assert [i.seed for i in initializers] == [4, 5, 6, 7]
    assert all(type(i) is keras.initializers.GlorotUniform for i in initializers)
    asked = [next(layers.seeded(8, lambda s: s))["kernel_initializer"]]
    assert asked == [9]


def test_dense_stacks_are_matrices_and_zeros_below_zero():
    x = np.random.default_rng(0).normal(size=(6, 5)).astype("float32")
    first, second = layers.dense_stack([4, 3], layers.seeded(0))
    found = numpy(second(first(x)))
    h = x
    for layer in (first, second):
        kernel, bias = map(numpy, layer.weights)
        h = np.maximum(h @ kernel + bias, 0)
    assert found.shape == (6, 3) and (found == 0).any()
    np.testing.assert_allclose(found, h, atol=1e-5)


@pytest.mark.parametrize("kernel", [3, 4])
def test_half_and_twice_change_height_and_width(kernel):
    x = np.ones((2, 6, 10, 3), "float32")
    half = layers.conv_half(5, layers.seeded(0), kernel, activation="relu")
    twice = layers.conv_twice(7, layers.seeded(1), kernel, use_bias=False)
    assert half(x).shape == (2, 3, 5, 5) and twice(x).shape == (2, 12, 20, 7)
    assert half.kernel.shape == (kernel, kernel, 3, 5)
    assert twice.kernel.shape == (kernel, kernel, 7, 3)
    assert half.activation is keras.activations.relu and twice.bias is None
    assert half.kernel_initializer.seed == 1 and twice.kernel_initializer.seed == 2


def test_kernels_are_four_wide_unless_told_otherwise():
    for make in (layers.conv_half, layers.conv_twice):
        assert make(2, layers.seeded(0)).kernel_size == (4, 4)


def test_halved_divides_both_sides_or_says_which_number_must_divide_them():
    assert layers.halved((8, 12, 3), 2) == (2, 3, 3)
    assert layers.halved((5, 7, 1), 0) == (5, 7, 1)
    for shape in ((6, 8, 1), (8, 6, 1), (2, 6, 4)):
        with pytest.raises(ValueError, match=r"divisible by 4 with 2.*Received"):
            layers.halved(shape, 2)
