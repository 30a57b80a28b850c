"""Spectral norm against NumPy's SVD, minibatch deviation and shifts against loops."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers, ops

from genai_utils import backends, losses
from genai_utils.gan_layers import (
    Augmentation,
    MinibatchDeviation,
    SpectralNormalization,
)
from genai_utils.models.gan import GAN, make_dcgan, make_toy_gan

pytestmark = pytest.mark.engines
RNG = np.random.default_rng(0)


def numpy(tensor):
    return ops.convert_to_numpy(tensor)


def adam(rate):
    return {n: keras.optimizers.Adam(rate, 0.5) for n in ("discriminator", "generator")}


def spectral(layer, shape, calls=40):
    """The wrapped layer after some calls in training, and its kernel as a matrix."""
    wrapped = SpectralNormalization(layer, iterations=10)
    x = RNG.normal(size=(2, *shape)).astype("float32")
    for _ in range(calls):
        wrapped(x, training=True)
    kernel = numpy(wrapped.layer.kernel)
    return wrapped, kernel.reshape(-1, kernel.shape[-1])


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (layers.Dense(5, use_bias=False), (7,)),
        (layers.Conv2D(4, 3, strides=2, padding="same", use_bias=False), (8, 8, 2)),
    ],
    ids=["dense", "conv"],
)
def test_sigma_is_the_largest_singular_value(layer, shape):
    wrapped, matrix = spectral(layer, shape)
    largest = np.linalg.svd(matrix, compute_uv=False)[0]
    assert float(numpy(wrapped.sigma())) == pytest.approx(largest, rel=1e-3)
    wrapped.bias.assign(np.full(wrapped.bias.shape, 0.5))
    x = RNG.normal(size=(3, *shape)).astype("float32")
    expected = numpy(wrapped.layer(x)) / largest + 0.5
    np.testing.assert_allclose(numpy(wrapped(x)), expected, rtol=2e-3, atol=1e-4)


def test_one_iteration_a_call_and_none_at_inference():
    wrapped = SpectralNormalization(layers.Dense(4, use_bias=False), seed=3)
    x = RNG.normal(size=(2, 6)).astype("float32")
    wrapped(x)
    kernel, start = numpy(wrapped.layer.kernel), numpy(wrapped.u)
    v = kernel @ start / np.linalg.norm(kernel @ start)
    u = v @ kernel / np.linalg.norm(v @ kernel)
    wrapped(x)
    np.testing.assert_array_equal(numpy(wrapped.u), start)
    wrapped(x, training=True)
    np.testing.assert_allclose(numpy(wrapped.u), u, rtol=1e-4)
    assert float(numpy(wrapped.sigma(True))) > v @ kernel @ u - 1e-6  # it rises


def test_gradients_flow_through_sigma():
    wrapped, matrix = spectral(layers.Dense(3, use_bias=False), (4,), calls=200)
    x = RNG.normal(size=(5, 4)).astype("float32")
    left, values, right = np.linalg.svd(matrix)
    # d/dW of sum(x W / s) = x^T 1 / s - sum(x W) / s^2 * u v^T
    share = x.sum(axis=0)[:, None] * np.ones((1, 3)) / values[0]
    total = (x @ matrix).sum() / values[0] ** 2
    expected = share - total * np.outer(left[:, 0], right[0])
    _, _, (found,) = backends.value_and_gradients(
        lambda: (ops.sum(wrapped(ops.convert_to_tensor(x))), {}),
        [wrapped.layer.kernel],
        wrapped,
    )
    np.testing.assert_allclose(numpy(found), expected, rtol=2e-3, atol=2e-3)


def test_layers_with_a_bias_or_an_activation_are_refused():
    for layer in (layers.Dense(3), layers.Dense(3, "relu", use_bias=False)):
        with pytest.raises(ValueError, match=r"without bias\. Received: Dense"):
            SpectralNormalization(layer)


def test_minibatch_deviation_is_the_mean_of_numpys_deviations():
    for shape in ((8, 3), (6, 4, 5, 2)):
        x = RNG.normal(size=shape).astype("float32")
        out = numpy(MinibatchDeviation()(x))
        assert out.shape == (*shape[:-1], shape[-1] + 1)
        np.testing.assert_array_equal(out[..., :-1], x)
        np.testing.assert_allclose(out[..., -1], x.std(axis=0).mean(), rtol=1e-4)
    same = np.ones((4, 3), "float32")
    assert numpy(MinibatchDeviation()(same))[:, -1].max() < 2e-4


def test_shifted_images_are_those_of_a_loop():
    x = RNG.uniform(-1, 1, (64, 6, 7, 2)).astype("float32")
    out = numpy(Augmentation(shift=2, seed=1)(x))
    padded = np.pad(x, ((0, 0), (2, 2), (2, 2), (0, 0)), constant_values=-1.0)
    seen = set()
    for image, found in zip(padded, out, strict=True):
        fits = [
            (i, j)
            for i in range(5)
            for j in range(5)
            if np.allclose(image[i : i + 6, j : j + 7], found, atol=1e-6)
        ]
        assert len(fits) == 1
        seen.update(fits)
    assert len(seen) > 18  # of 25 shifts; 64 draws miss 2 of them on average


def test_cutout_covers_squares_and_brightness_moves_whole_images():
    x = RNG.uniform(-0.5, 0.5, (200, 8, 8, 1)).astype("float32")
    out = numpy(Augmentation(shift=0, cutout=0.5, seed=2)(x))
    covered = out[..., 0] == -1.0
    np.testing.assert_allclose(out[..., 0][~covered], x[..., 0][~covered], atol=1e-6)
    rows, columns = covered.any(axis=2), covered.any(axis=1)
    np.testing.assert_array_equal(covered, rows[:, :, None] & columns[:, None, :])
    sides = rows.sum(axis=1)
    assert sides.max() == 4 and sides.min() == 2  # it may hang over the edge
    out = numpy(Augmentation(shift=0, brightness=0.3, seed=2)(x))
    moved = (out - x).reshape(200, -1)
    np.testing.assert_allclose(moved, moved[:, :1].repeat(64, axis=1), atol=1e-6)
    assert abs(moved).max() <= 0.3 and moved.std() == pytest.approx(0.173, rel=0.15)


def test_gradients_pass_through_an_augmentation():
    layer = Augmentation(shift=1, seed=3)
    x = ops.convert_to_tensor(np.zeros((50, 4, 4, 1), "float32"))
    found = numpy(backends.input_gradients(lambda v: ops.sum(layer(v), (1, 2, 3)), x))
    assert set(np.unique(found)) == {0.0, 1.0}  # shifted out, or still to be seen
    assert found[:, 1:3, 1:3].min() == 1.0


def test_r1_of_a_known_function():
    x = RNG.normal(size=(20, 3)).astype("float32")
    found = losses.r1_penalty(
        lambda v: ops.sum(v**2, axis=-1), ops.convert_to_tensor(x)
    )
    by_hand = 0.5 * (4 * (x**2).sum(axis=1)).mean()
    assert float(numpy(found)) == pytest.approx(by_hand, rel=1e-5)


def test_smoothed_labels_are_a_cross_entropy_with_targets():
    real, fake = RNG.normal(size=(2, 9)).astype("float32")
    found = float(numpy(losses.minimax_d(real, fake, 0.1)))
    p, q = 1 / (1 + np.exp(-real)), 1 / (1 + np.exp(-fake))
    by_hand = -(0.9 * np.log(p) + 0.1 * np.log(1 - p)).mean() - np.log(1 - q).mean()
    assert found == pytest.approx(by_hand, rel=1e-5)


POINTS = RNG.normal(size=(60, 2)).astype("float32")
CURES = {
    "r1": {"r1_weight": 1.0},
    "smooth": {"smoothing": 0.1},
    "spectral": {"spectral": True},
    "minibatch": {"minibatch": True},
    "spectral_hinge": {"spectral": True, "loss": "hinge"},
}


@pytest.mark.parametrize("cure", CURES)
def test_every_cure_trains_and_is_saved(cure, tmp_path):
    gan = make_toy_gan(hidden=(8,), **CURES[cure])
    gan.compile(
        {n: keras.optimizers.Adam(1e-3) for n in ("discriminator", "generator")}
    )
    gan.fit(POINTS, batch_size=20, epochs=2, verbose=0)
    gan.save(tmp_path / "gan.keras")
    twin = keras.saving.load_model(tmp_path / "gan.keras")
    np.testing.assert_allclose(twin.sample(5), gan.sample(5), rtol=1e-5)
    first, second = (g.evaluate(POINTS, batch_size=60, verbose=0) for g in (gan, twin))
    np.testing.assert_allclose(first[0], second[0], rtol=1e-3)


def test_spectral_discriminators_stay_flat_in_training():
    gan = make_toy_gan(hidden=(16, 16), spectral=True, loss="hinge")
    gan.compile(
        {n: keras.optimizers.Adam(1e-2) for n in ("discriminator", "generator")}
    )
    gan.fit(POINTS, batch_size=20, epochs=30, verbose=0)
    for layer in gan.discriminator.layers:
        if isinstance(layer, SpectralNormalization):
            matrix = numpy(layer.layer.kernel) / float(numpy(layer.sigma()))
            assert np.linalg.svd(matrix, compute_uv=False)[0] < 1.1


def test_the_dcgan_takes_all_of_them_at_once():
    gan = make_dcgan(
        (8, 8, 1),
        4,
        (8,),
        spectral=True,
        minibatch=True,
        augmentation=Augmentation(shift=1),
    )
    kinds = [type(v).__name__ for v in gan.discriminator.layers]
    assert kinds.count("SpectralNormalization") == 3
    assert kinds.count("MinibatchDeviation") == 1
    gan.compile(
        {n: keras.optimizers.Adam(1e-3) for n in ("discriminator", "generator")}
    )
    x = RNG.uniform(-1, 1, (16, 8, 8, 1)).astype("float32")
    gan.fit(x, batch_size=8, epochs=1, verbose=0)
    twin = GAN.from_config(gan.get_config())
    assert twin.augmentation.shift == 1
    first = twin.discriminator.layers[0]
    assert isinstance(first, SpectralNormalization) and first.iterations == 1


class Shift(layers.Layer):
    """Adds a constant, so that it is seen where an augmentation is used."""

    def call(self, x):
        """Return ``x`` plus 10."""
        return x + 10.0


def test_both_kinds_are_augmented_in_training_alone():
    d = keras.Sequential([keras.Input((2,)), layers.Dense(1)])
    g = keras.Sequential([keras.Input((2,)), layers.Dense(2)])
    g.set_weights([np.zeros((2, 2)), np.array([1.0, 2.0])])
    d.set_weights([np.array([[0.01], [0.02]]), np.zeros(1)])
    gan = GAN(g, d, augmentation=Shift(), loss="hinge", data_range=(None, None))
    x = ops.convert_to_tensor(POINTS)
    for training, more in ((True, 0.3), (False, 0.0)):
        (d_loss, _), (g_loss, _) = (p.evaluate(x, training) for p in gan.players())
        fake = 0.05 + more
        real = POINTS @ [0.01, 0.02] + more
        assert float(numpy(g_loss)) == pytest.approx(-fake, rel=1e-4)
        by_hand = (1 - real).mean() + 1 + fake
        assert float(numpy(d_loss)) == pytest.approx(by_hand, rel=1e-4)


def conditional(**kwargs):
    """Class k has the mean (k, -k); the networks see labels one-hot."""
    z, y = keras.Input((2,)), keras.Input((1,), dtype="int32")
    one_hot = layers.CategoryEncoding(3, output_mode="one_hot")(y)
    made = layers.Dense(2)(layers.Concatenate()([z, one_hot]))
    x, y2 = keras.Input((2,)), keras.Input((1,), dtype="int32")
    one_hot = layers.CategoryEncoding(3, output_mode="one_hot")(y2)
    hidden = layers.Dense(16, "relu")(layers.Concatenate()([x, one_hot]))
    g = keras.Model([z, y], made)
    d = keras.Model([x, y2], layers.Dense(1)(hidden))
    return GAN(g, d, num_classes=3, data_range=(None, None), **kwargs)


@pytest.mark.parametrize(
    "extra", [{}, {"loss": "wasserstein_gp", "d_turns": 4}, {"r1_weight": 0.1}]
)
def test_a_game_with_classes_learns_the_means_of_its_classes(extra):
    keras.utils.set_random_seed(1)
    gan = conditional(**extra)
    labels = np.arange(600) % 3
    means = np.stack([2.0 * labels, -2.0 * labels], axis=1)
    x = means + 0.3 * np.random.default_rng(1).normal(size=(600, 2))
    gan.compile(adam(5e-3))
    gan.fit(x, labels, batch_size=100, epochs=60, verbose=0)
    first, _, last = (gan.sample(300, labels=k).mean(axis=0) for k in range(3))
    way = (last - first) @ [1.0, -1.0] / np.sqrt(2)  # 5.66 when it is learnt
    most = 12.0 if "d_turns" in extra else 8.0  # a young critic overshoots
    assert 2.0 < way < most, (first, last)
    cycled = gan.sample(4, seed=7)
    one_by_one = gan.sample(4, seed=7, labels=[0, 1, 2, 0])
    np.testing.assert_array_equal(cycled, one_by_one)


def test_labels_are_refused_where_they_have_no_use_or_no_class():
    gan = conditional()
    with pytest.raises(ValueError, match="labels"):
        gan.sample(2, labels=[0, 3])
    toy = make_toy_gan()
    with pytest.raises(ValueError, match="`labels` are for a game with classes"):
        toy.sample(2, labels=[0, 1])
    with pytest.raises(ValueError, match="must take 2 inputs"):
        GAN(toy.generator, toy.discriminator, num_classes=3)
    with pytest.raises(ValueError, match="`smoothing` must lie in"):
        GAN(toy.generator, toy.discriminator, loss="hinge", smoothing=0.1)
