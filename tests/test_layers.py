"""Draws, stacks of layers and attention, against NumPy and Keras' own layers."""

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


RNG = np.random.default_rng(1)


def test_attention_by_hand_and_against_loops():
    q, k, v = (RNG.normal(size=(2, 3, n, 4)) for n in (5, 6, 6))
    mask = RNG.random((5, 6)) < 0.6
    mask[:, 0] = True
    found, weights = map(numpy, layers.attention(*map(tensor, (q, k, v)), mask))
    for b, h, i in itertools.product(range(2), range(3), range(5)):
        scores = [q[b, h, i] @ k[b, h, j] / 2.0 for j in range(6)]
        e = np.exp(scores) * mask[i]
        np.testing.assert_allclose(weights[b, h, i], e / e.sum(), atol=1e-5)
        mixed = (e / e.sum()) @ v[b, h]
        np.testing.assert_allclose(found[b, h, i], mixed, atol=1e-5)
    assert (weights[..., ~mask] == 0).all()
    one = np.eye(2)[None] * 1e3  # a query that finds its key takes its value
    value = np.array([[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]])
    np.testing.assert_allclose(
        numpy(layers.attention(tensor(one), tensor(one), tensor(value))[0]), value
    )


def test_attention_stays_finite_in_half_precision():
    q = ops.cast(tensor(np.full((1, 3, 64), 30.0)), "float16")
    out, weights = layers.attention(q, q, q, layers.causal_mask(3))
    assert keras.backend.standardize_dtype(out.dtype) == "float16"
    np.testing.assert_allclose(numpy(weights)[0, 2], [1 / 3] * 3, atol=1e-3)


def test_causal_masks():
    assert numpy(layers.causal_mask(3)).tolist() == np.tri(3, dtype=bool).tolist()
    later = numpy(layers.causal_mask(2, past=3))
    assert later.tolist() == [[True] * 4 + [False], [True] * 5]
    sized = numpy(layers.causal_mask(2, past=1, size=5))
    assert sized.tolist() == [[True] * 2 + [False] * 3, [True] * 3 + [False] * 2]


def test_sinusoids_are_those_of_the_formula():
    found = numpy(layers.sinusoids(40, 6))
    for p, i in itertools.product(range(40), range(3)):
        angle = p * 10000 ** (-2 * i / 6)
        assert found[p, 2 * i] == pytest.approx(math.sin(angle), abs=1e-5)
        assert found[p, 2 * i + 1] == pytest.approx(math.cos(angle), abs=1e-5)
    with pytest.raises(ValueError, match=r"`width` must be even.*Received: 5"):
        layers.sinusoids(4, 5)


def test_rotary_multiplies_complex_numbers_by_phases():
    x = RNG.normal(size=(2, 7, 6)).astype("float32")
    at = np.array([0, 1, 2, 5, 9, 30, 31])
    z = x[..., 0::2] + 1j * x[..., 1::2]
    z = z * np.exp(1j * at[:, None] * 10000.0 ** (-np.arange(3) / 3))
    expected = np.stack([z.real, z.imag], axis=-1).reshape(x.shape)
    np.testing.assert_allclose(numpy(layers.rotary(tensor(x), at)), expected, atol=1e-4)
    with pytest.raises(ValueError, match=r"`head_dim` must be even.*Received: 3"):
        layers.rotary(tensor(x[..., :3]), at)


def test_rotated_products_know_differences_only():
    q, k = (np.tile(RNG.normal(size=8), (20, 1)).astype("float32") for _ in range(2))
    turned = [numpy(layers.rotary(tensor(x), np.arange(20))) for x in (q, k)]
    products = turned[0] @ turned[1].T
    for shift in range(-19, 20):
        diagonal = np.diagonal(products, shift)
        np.testing.assert_allclose(diagonal, diagonal[0], atol=1e-4)
    assert np.ptp(products[0]) > 0.1  # they do know them


def shuffled(seed, width=12, heads=3, **kwargs):
    """A layer with biases that are not zero."""
    layer = layers.CausalSelfAttention(width, heads, seed=seed, **kwargs)
    for v in layer.trainable_variables:
        v.assign(np.random.default_rng(seed).normal(0, 0.5, v.shape))
    return layer


def test_self_attention_is_that_of_keras_with_the_same_weights():
    x, mine = RNG.normal(size=(2, 7, 12)).astype("float32"), shuffled(0)
    theirs = keras.layers.MultiHeadAttention(3, 4)
    theirs.build((2, 7, 12), (2, 7, 12))
    kernel, bias = map(numpy, mine.qkv.weights)
    weights = []
    for part, shift in zip(np.split(kernel, 3, 1), np.split(bias, 3), strict=True):
        weights += [part.reshape(12, 3, 4), shift.reshape(3, 4)]
    kernel, bias = map(numpy, mine.project.weights)
    theirs.set_weights([*weights, kernel.reshape(3, 4, 12), bias])
    out, maps = theirs(x, x, use_causal_mask=True, return_attention_scores=True)
    found, weights = map(numpy, mine(x, return_weights=True))
    np.testing.assert_allclose(found, numpy(out), atol=1e-5)
    np.testing.assert_allclose(weights, numpy(maps), atol=1e-5)
    np.testing.assert_allclose(numpy(mine(x)), found, atol=1e-6)


@pytest.mark.parametrize("positions", layers.POSITIONS)
def test_a_cache_gives_what_the_whole_pass_gives(positions):
    x = RNG.normal(size=(2, 9, 12)).astype("float32")
    for layer in (shuffled(1, positions=positions), block(positions)):
        whole, maps = map(numpy, layer(x, return_weights=True))
        cache = (tensor(np.zeros((2, 3, 11, 4))),) * 2
        for start, end in ((0, 4), (4, 5), (5, 9)):
            part, cache, weights = layer(
                x[:, start:end], cache=cache, past=start, return_weights=True
            )
            np.testing.assert_allclose(numpy(part), whole[:, start:end], atol=1e-5)
            row = numpy(weights)
            np.testing.assert_allclose(row[..., :9], maps[:, :, start:end], atol=1e-5)
            assert (row[..., 9:] == 0).all()


def block(positions="none", **kwargs):
    """A block whose weights are far from their start."""
    made = layers.Block(12, 3, positions=positions, seed=3, **kwargs)
    for i, v in enumerate(made.trainable_variables):
        v.assign(np.random.default_rng(i).normal(0, 0.4, v.shape))
    return made


def norm(x, layer):
    mean, var = x.mean(axis=-1, keepdims=True), x.var(axis=-1, keepdims=True)
    gamma, beta = map(numpy, layer.weights)
    return (x - mean) / np.sqrt(var + 1e-5) * gamma + beta


def test_a_block_is_two_branches_that_add():
    x, made = RNG.normal(size=(2, 5, 12)).astype("float32"), block()
    h = x + numpy(made.attention(tensor(norm(x, made.norm_1))))
    kernel, bias = map(numpy, made.expand.weights)
    hidden = norm(h, made.norm_2) @ kernel + bias
    erf = np.vectorize(math.erf)(hidden / math.sqrt(2))
    kernel, bias = map(numpy, made.contract.weights)
    h = h + (0.5 * hidden * (1 + erf)) @ kernel + bias
    np.testing.assert_allclose(numpy(made(x)), h, atol=1e-4)
    assert made.expand.kernel.shape == (12, 48)


def test_dropout_drops_in_training_only():
    x = RNG.normal(size=(2, 5, 12)).astype("float32")
    for made in (shuffled(2, dropout=0.5), block(dropout=0.5)):
        np.testing.assert_array_equal(numpy(made(x)), numpy(made(x)))
        first, again = (numpy(made(x, training=True)) for _ in range(2))
        assert abs(first - again).max() > 0.1
    dropped = numpy(shuffled(2, dropout=0.5)(x, training=True))
    kept = numpy(shuffled(2)(x))
    zero = dropped == 0
    assert 0.3 < zero.mean() < 0.7
    np.testing.assert_allclose(dropped[~zero], 2 * kept[~zero], rtol=1e-4)


def test_branches_start_small_and_seeds_give_other_weights():
    small, large = (layers.Block(32, 2, shrink=s, seed=1) for s in (0.25, 1.0))
    for a, b, factor in (
        (small.attention.qkv, large.attention.qkv, 1.0),
        (small.attention.project, large.attention.project, 0.25),
        (small.expand, large.expand, 1.0),
        (small.contract, large.contract, 0.25),
    ):
        expected = factor * numpy(b.kernel)
        np.testing.assert_allclose(numpy(a.kernel), expected, rtol=1e-4, atol=1e-7)
    other = layers.Block(32, 2, seed=2)
    assert abs(numpy(other.expand.kernel) - numpy(large.expand.kernel)).max() > 0.01


@pytest.mark.parametrize("make", [layers.CausalSelfAttention, layers.Block])
def test_layers_of_attention_survive_their_configuration(make):
    made = make(8, 2, positions="rotary", dropout=0.1, shrink=0.5, seed=4, name="a")
    twin = make.from_config(made.get_config())
    assert twin.get_config() == made.get_config() and twin.name == "a"
    for a, b in zip(made.weights, twin.weights, strict=True):
        np.testing.assert_array_equal(numpy(a), numpy(b))


def test_heads_that_do_not_fit_and_unknown_positions_are_refused():
    with pytest.raises(
        ValueError, match=r"`width` must be a multiple.*Received: 10, 3"
    ):
        layers.CausalSelfAttention(10, 3)
    with pytest.raises(ValueError, match=r"`positions` must be one of.*'alibi'"):
        layers.Block(8, 2, positions="alibi")
