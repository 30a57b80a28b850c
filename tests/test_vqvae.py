"""VQ-VAEs against brute force, k-means, and gradients by hand."""

from __future__ import annotations

import subprocess
import sys

import keras
import numpy as np
import pytest
from keras import layers, ops

from genai_utils.backends import input_gradients, value_and_gradients
from genai_utils.layers import VectorQuantizer
from genai_utils.models.vqvae import VQVAE, make_vqvae

pytestmark = pytest.mark.engines
rng = np.random.default_rng(0)
X = np.tanh(rng.normal(size=(48, 8, 8, 1))).astype("float32")
SMALL = {"image_shape": (8, 8, 1), "num_codes": 6, "dim": 3, "filters": (4, 8)}


def numpy(tensor):
    return ops.convert_to_numpy(tensor)


def number(tensor):
    return float(numpy(tensor))


def quantizer(codes, **kwargs):
    """A quantizer whose codes are given."""
    codes = np.asarray(codes, "float32")
    layer = VectorQuantizer(*codes.shape, **kwargs)
    if layer.mode == "loss":
        layer.codes.assign(codes)
    else:
        layer.sums.assign(codes * numpy(layer.counts)[:, None])
    return layer


def brute_force(z, codes):
    """Number of the nearest code of each vector, by all distances."""
    return ((z[..., None, :] - codes) ** 2).sum(axis=-1).argmin(axis=-1)


@pytest.mark.parametrize("update", ["ema", "loss"])
def test_the_nearest_code_is_that_of_brute_force(update):
    codes, z = rng.normal(size=(7, 3)), rng.normal(size=(5, 4, 2, 3)).astype("float32")
    layer = quantizer(codes, update=update)
    np.testing.assert_allclose(numpy(layer.codebook), codes, rtol=1e-5)
    found = numpy(layer.nearest(z))
    assert found.dtype == np.int32
    np.testing.assert_array_equal(found, brute_force(z, codes))
    np.testing.assert_allclose(numpy(layer.lookup(found)), codes[found], rtol=1e-5)
    np.testing.assert_allclose(numpy(layer(z)), codes[found], atol=1e-5)


def test_the_gradient_goes_straight_through():
    codes, z = rng.normal(size=(4, 2)), rng.normal(size=(6, 2)).astype("float32")
    layer, w = quantizer(codes), np.array([[0.5], [-2.0]], "float32")
    target = 0.3

    def loss(value):
        return ops.square(ops.matmul(layer(value), w)[:, 0] - target)

    e = codes[brute_force(z, codes)]
    by_hand = 2 * (e @ w - target) * w.T  # of the loss by e, at e
    np.testing.assert_allclose(numpy(input_gradients(loss, z)), by_hand, rtol=1e-4)


def lloyd(z, codes):
    """One step of k-means; a code that nobody chose stays."""
    chosen = brute_force(z, codes)
    return np.stack(
        [
            z[chosen == k].mean(axis=0) if (chosen == k).any() else code
            for k, code in enumerate(codes)
        ]
    )


def test_without_memory_the_moving_average_is_k_means():
    z = rng.normal(size=(300, 2)).astype("float32")
    codes = np.concatenate([z[:5], [[50.0, 50.0]]])  # the last is never chosen
    layer = quantizer(codes, memory=0.0, restart_below=0.0)
    for _ in range(6):
        layer.follow(z, layer.nearest(z))
        codes = lloyd(z, codes)
        np.testing.assert_allclose(numpy(layer.codebook), codes, rtol=1e-4)
    assert numpy(layer.codebook)[-1] == pytest.approx([50.0, 50.0])


def test_the_moving_average_weighs_old_batches_by_powers_of_its_memory():
    layer = quantizer([[0.0], [10.0]], memory=0.8, restart_below=0.0)
    sums, counts = np.zeros(2), np.zeros(2)
    for low, high in ((1.0, 9.0), (3.0, 8.0), (2.0, 12.0)):
        z = np.array([[low], [low], [high]], "float32")
        layer.follow(z, layer.nearest(z))
        sums = 0.8 * sums + 0.2 * np.array([2 * low, high])
        counts = 0.8 * counts + 0.2 * np.array([2, 1])
        np.testing.assert_allclose(numpy(layer.counts), counts, rtol=1e-4)
        np.testing.assert_allclose(numpy(layer.codebook)[:, 0], sums / counts, 1e-4)


def test_a_code_out_of_use_for_long_stays_a_number():
    layer = quantizer([[0.0], [10.0]], memory=0.5, restart_below=0.0)
    z = np.array([[1.0], [9.0]], "float32")
    layer.follow(z, layer.nearest(z))
    for _ in range(300):
        layer.follow(z[:1], layer.nearest(z[:1]))
    np.testing.assert_allclose(numpy(layer.codebook), [[1.0], [9.0]], rtol=1e-4)
    layer.follow(z, layer.nearest(z))
    assert numpy(layer.counts)[1] > 0.4  # and it can come back


def test_dead_codes_are_put_on_vectors_of_the_batch():
    codes = [[0.0, 0.0], [90.0, 90.0], [99.0, 99.0]]
    layer = quantizer(codes, memory=0.9, restart_below=0.5)
    layer.counts.assign([20.0, 0.4, 0.2])
    layer.sums.assign(np.array(codes) * np.array([[20.0], [0.4], [0.2]]))
    z = rng.normal(size=(40, 2)).astype("float32")
    layer.follow(z, layer.nearest(z))
    found = numpy(layer.codebook)
    mean = (0.1 * z.sum(axis=0)) / (0.9 * 20 + 0.1 * 40)
    np.testing.assert_allclose(found[0], mean, rtol=1e-4, atol=1e-6)
    for code in found[1:]:
        assert abs(z - code).sum(axis=1).min() < 1e-5
    np.testing.assert_allclose(numpy(layer.counts), [22.0, 1.0, 1.0], rtol=1e-5)
    seen = set()
    for _ in range(20):  # other vectors each time
        layer.counts.assign([20.0, 0.4, 0.2])
        layer.follow(z, layer.nearest(z))
        seen.add(round(float(numpy(layer.codebook)[1, 0]), 4))
    assert len(seen) > 5


def linear(update="ema", commitment=0.25):
    """A VQ-VAE whose encoder and decoder are products with numbers."""
    half = {"use_bias": False, "kernel_initializer": keras.initializers.Constant(0.5)}
    encoder = keras.Sequential([keras.Input((1, 2, 1)), layers.Dense(1, **half)])
    decoder = keras.Sequential([keras.Input((1, 2, 1)), layers.Dense(1, **half)])
    codes = quantizer([[-0.2], [0.3]], update=update, restart_below=0.0)
    return VQVAE(encoder, decoder, codes, commitment=commitment)


@pytest.mark.parametrize("update", ["ema", "loss"])
def test_loss_and_gradients_are_those_by_hand(update):
    vqvae = linear(update)
    x = rng.uniform(-1, 1, (9, 1, 2, 1)).astype("float32")
    z = 0.5 * x
    codes = brute_force(z, np.array([[-0.2], [0.3]]))
    e = np.array([-0.2, 0.3])[codes][..., None]
    error, commit = ((x - 0.5 * e) ** 2).mean(), ((z - e) ** 2).mean()
    player = vqvae.players()[0]
    variables = player.variables
    loss, logs, gradients = value_and_gradients(
        lambda: player.evaluate(ops.convert_to_tensor(x), False), variables, vqvae
    )
    extra = commit if update == "loss" else 0.0
    assert number(loss) == pytest.approx(error + 0.25 * commit + extra, rel=1e-4)
    assert number(logs["error"]) == pytest.approx(error, rel=1e-4)
    assert number(logs["commit"]) == pytest.approx(commit, rel=1e-4)
    p = np.bincount(codes.ravel(), minlength=2) / codes.size
    assert number(logs["used"]) == pytest.approx(np.prod(p**-p), rel=1e-4)
    slope = -2 * (x - 0.5 * e)  # of the squared error by the decoder's output
    by_hand = [((slope * 0.5 + 0.25 * 2 * (z - e)) * x).mean(), (slope * e).mean()]
    if update == "loss":  # each code towards the vectors that chose it
        pull = 2 * (e - z) / z.size
        by_hand.append([pull[codes == 0].sum(), pull[codes == 1].sum()])
    assert len(gradients) == len(by_hand)
    for found, wanted in zip(gradients, by_hand, strict=True):
        np.testing.assert_allclose(numpy(found).ravel(), wanted, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("update", ["ema", "loss"])
def test_only_training_moves_the_codes(update):
    vqvae = make_vqvae(**SMALL, update=update, seed=1)
    vqvae.compile(keras.optimizers.Adam(1e-2))
    before = numpy(vqvae.quantizer.codebook)
    vqvae.evaluate(X, verbose=0)
    np.testing.assert_array_equal(numpy(vqvae.quantizer.codebook), before)
    history = vqvae.fit(X, batch_size=16, epochs=8, verbose=0).history
    assert abs(numpy(vqvae.quantizer.codebook) - before).max() > 0.01
    assert history["error"][-1] < history["error"][0]
    assert set(history) == {"loss", "error", "commit", "used"}


def test_fit_keeps_a_frozen_encoders_codes_at_the_means_of_their_cells():
    vqvae = make_vqvae(**SMALL, seed=1, memory=0.0, restart_below=0.0)
    vqvae.encoder.trainable = False
    vqvae.compile("adam")
    z = vqvae.encoder.predict(X, verbose=0).reshape(-1, 3)
    codes = z[:6].copy()
    layer = vqvae.quantizer
    layer.sums.assign(codes * numpy(layer.counts)[:, None])
    vqvae.fit(X, batch_size=len(X), epochs=5, verbose=0)  # the whole set each time
    for _ in range(5):
        codes = lloyd(z, codes)
    np.testing.assert_allclose(numpy(layer.codebook), codes, rtol=1e-3, atol=1e-5)


def test_codes_images_and_perplexity():
    vqvae = make_vqvae(**SMALL, seed=2)
    vqvae.compile("adam")
    vqvae.fit(X, batch_size=16, epochs=2, verbose=0)
    codes = vqvae.encode(X)
    assert codes.shape == (48, 2, 2) and codes.dtype == np.int32
    z = vqvae.encoder.predict(X, verbose=0)
    book = numpy(vqvae.quantizer.codebook)
    np.testing.assert_array_equal(codes, brute_force(z, book))
    images = vqvae.decode(codes)
    exact = np.clip(numpy(vqvae.decoder(book[codes])), -1, 1)
    np.testing.assert_allclose(images, exact, atol=1e-5)
    np.testing.assert_allclose(vqvae.reconstruct(X), images, atol=1e-6)
    p = np.bincount(codes.ravel(), minlength=6) / codes.size
    p = p[p > 0]
    assert vqvae.perplexity(X) == pytest.approx(np.prod(p**-p), rel=1e-4)
    drawn = np.random.default_rng(5).integers(6, size=(4, 2, 2))
    np.testing.assert_allclose(vqvae.sample(4, seed=5), vqvae.decode(drawn), atol=1e-6)


@pytest.mark.parametrize("update", ["ema", "loss"])
def test_saving_keeps_everything(update, tmp_path):
    vqvae = make_vqvae(**SMALL, seed=3, update=update, commitment=0.5, memory=0.9)
    vqvae.compile(keras.optimizers.Adam(1e-3))
    vqvae.fit(X, batch_size=16, epochs=2, verbose=0)
    vqvae.save(tmp_path / "vqvae.keras")
    twin = keras.saving.load_model(tmp_path / "vqvae.keras")
    assert twin.commitment == 0.5
    assert twin.quantizer.get_config() == vqvae.quantizer.get_config()
    np.testing.assert_array_equal(twin.encode(X), vqvae.encode(X))
    np.testing.assert_allclose(twin.reconstruct(X), vqvae.reconstruct(X), atol=1e-6)
    for model in (vqvae, twin):  # and go on alike, restarts included
        model.fit(X, batch_size=16, epochs=2, shuffle=False, verbose=0)
    books = [numpy(m.quantizer.codebook) for m in (vqvae, twin)]
    np.testing.assert_allclose(*books, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_half_precision_trains_as_float32(policy):
    def trained(name):
        keras.config.set_dtype_policy(name)
        try:
            keras.utils.set_random_seed(0)
            vqvae = make_vqvae(**SMALL, seed=0)
            vqvae.compile(keras.optimizers.Adam(2e-3))
            fit = {"batch_size": 16, "epochs": 5, "shuffle": False, "verbose": 0}
            return vqvae, vqvae.fit(X, **fit).history["error"][-1]
        finally:
            keras.config.set_dtype_policy("float32")

    wanted = trained("float32")[1]
    vqvae, found = trained(policy)
    assert found == pytest.approx(wanted, rel=0.05)
    assert (
        vqvae.quantizer.codebook.dtype == trained("float32")[0].quantizer.codebook.dtype
    )
    assert vqvae.sample(3).dtype == np.float32


def test_what_cannot_work_is_refused():
    good = make_vqvae(**SMALL)
    with pytest.raises(ValueError, match=r"must fit. Received: vectors of shape"):
        VQVAE(good.encoder, good.decoder, VectorQuantizer(6, 4))
    for bad in (
        {"memory": 1.0},
        {"memory": -0.1},
        {"update": "sgd"},
        {"restart_below": -1.0},
        {"num_codes": 0},
        {"dim": 0},
    ):
        with pytest.raises(ValueError, match="Received"):
            VectorQuantizer(**{"num_codes": 4, "dim": 2} | bad)
    with pytest.raises(ValueError, match=r"`commitment`.*Received: -1"):
        make_vqvae(**SMALL, commitment=-1.0)
    with pytest.raises(ValueError, match=r"`image_shape` must be divisible by 4"):
        make_vqvae((9, 8, 1))
    with pytest.raises(ValueError, match=r"`codes` must have shape"):
        good.decode(np.zeros((1, 3, 2), int))
    with pytest.raises(ValueError, match=r"`codes` must lie in \[0, 5\]"):
        good.decode(np.full((1, 2, 2), 6))
    with pytest.raises(TypeError, match=r"`codes` must hold whole numbers"):
        good.decode(np.zeros((1, 2, 2)))
    with pytest.raises(ValueError, match=r"`x` must .*Received"):
        good.encode(X * 2)


REPLICAS = """
import contextlib
import keras, numpy as np, tensorflow as tf
from genai_utils.models.vqvae import make_vqvae

cpu = tf.config.list_physical_devices("CPU")[0]
two = [tf.config.LogicalDeviceConfiguration()] * 2
tf.config.set_logical_device_configuration(cpu, two)
x = np.tanh(np.random.default_rng(0).normal(size=(32, 8, 8, 1))).astype("float32")
both = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope()
for scope in (contextlib.nullcontext(), both):
    with scope:
        vqvae = make_vqvae((8, 8, 1), 6, 3, (4, 8), restart_below=0.0, spread=0.1)
        vqvae.compile(keras.optimizers.SGD(0.1))
    vqvae.fit(x, batch_size=32, epochs=3, verbose=0, shuffle=False)
    print(*keras.ops.convert_to_numpy(vqvae.quantizer.codebook).ravel())
"""


@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="replicas of tf.distribute"
)
def test_two_replicas_move_the_codes_as_one_process_does():
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", REPLICAS],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    one, two = (np.array(line.split(), float) for line in done.stdout.splitlines())
    assert abs(one).max() > 0.05
    np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-6)
