"""Labels in GANs and VAEs: layers and logits by hand, a likelihood in closed form."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers, ops
from scipy import stats

from genai_utils import data
from genai_utils.backends import value_and_gradients
from genai_utils.checks import check_labels
from genai_utils.gan_layers import (
    ConditionalBatchNormalization,
    Projection,
    SpectralNormalization,
)
from genai_utils.layers import AppendClass, first_shape, network
from genai_utils.models.gan import GAN, WAYS, make_dcgan, make_toy_gan
from genai_utils.models.vae import VAE, make_conv_vae, make_dense_vae

pytestmark = pytest.mark.engines
RNG = np.random.default_rng(0)
Y = np.array([2, 0, 1, 2, 2], "int32")


def numpy(tensor):
    return ops.convert_to_numpy(tensor)


def kinds(net):
    return [type(v).__name__ for v in net.layers]


@pytest.mark.parametrize("shape", [(4,), (6, 5, 2)])
def test_a_label_is_appended_one_hot_at_every_position(shape):
    x = RNG.normal(size=(5, *shape)).astype("float32")
    out = numpy(AppendClass(3)([x, Y[:, None]]))
    assert out.shape == (5, *shape[:-1], shape[-1] + 3)
    for image, label, found in zip(x, Y, out, strict=True):
        np.testing.assert_array_equal(found[..., : shape[-1]], image)
        assert (found[..., shape[-1] :] == np.eye(3)[label]).all()


def test_an_embedding_is_a_row_of_its_table():
    layer = AppendClass(3, width=2, seed=4)
    x = RNG.normal(size=(5, 2, 2, 1)).astype("float32")
    out, table = numpy(layer([x, Y[:, None]])), numpy(layer.table)
    assert table.shape == (3, 2) and abs(table).max() > 0.1
    for label, found in zip(Y, out, strict=True):
        np.testing.assert_allclose(
            found[..., 1:], np.tile(table[label], (2, 2, 1)), rtol=1e-6
        )
    twin = AppendClass.from_config(layer.get_config())
    np.testing.assert_array_equal(numpy(twin.table), table)
    assert len(layer.trainable_variables) == 1


def norm(shape, seed=1):
    layer = ConditionalBatchNormalization(3, momentum=0.9)
    layer.build([(None, *shape), (None, 1)])
    rng = np.random.default_rng(seed)
    layer.gamma.assign(rng.normal(1, 0.5, (3, shape[-1])))
    layer.beta.assign(rng.normal(0, 0.5, (3, shape[-1])))
    return layer


@pytest.mark.parametrize("shape", [(4,), (6, 5, 2)])
def test_each_class_has_its_own_scale_and_shift(shape):
    layer = norm(shape)
    gamma, beta = numpy(layer.gamma), numpy(layer.beta)
    h = RNG.normal(2, 3, size=(5, *shape)).astype("float32")
    axes = tuple(range(h.ndim - 1))
    m, v = h.mean(axes), h.var(axes)
    row = (5, *[1] * (h.ndim - 2), shape[-1])
    scale, shift = gamma[Y].reshape(row), beta[Y].reshape(row)
    by_hand = scale * (h - m) / np.sqrt(v + layer.norm.epsilon) + shift
    found = numpy(layer([h, Y[:, None]], training=True))
    np.testing.assert_allclose(found, by_hand, rtol=1e-3, atol=1e-4)
    m, v = 0.1 * m, 0.9 + 0.1 * v  # the averages began at 0 and 1
    by_hand = scale * (h - m) / np.sqrt(v + layer.norm.epsilon) + shift
    if h.ndim == 2:  # of images some backends average the unbiased variance
        np.testing.assert_allclose(
            numpy(layer([h, Y[:, None]])), by_hand, rtol=0.05, atol=0.05
        )


def test_one_class_of_a_conditional_norm_is_an_ordinary_one():
    h = RNG.normal(size=(8, 4)).astype("float32")
    layer = ConditionalBatchNormalization(3)
    plain = layers.BatchNormalization(momentum=0.9)
    for training in (True, False):
        mine = layer([h, np.zeros((8, 1), "int32")], training=training)
        np.testing.assert_allclose(
            numpy(mine), numpy(plain(h, training=training)), atol=1e-5
        )
    assert len(layer.trainable_variables) == 2


def test_the_logit_of_a_projection_by_hand():
    shared, classes = layers.Dense(1), layers.Dense(3, use_bias=False)
    layer = Projection(shared, classes)
    h = RNG.normal(size=(5, 4)).astype("float32")
    found = numpy(layer([h, Y[:, None]]))
    w, b = (numpy(v) for v in shared.weights)
    e = numpy(classes.kernel).T  # (3, 4)
    by_hand = [w[:, 0] @ v + b[0] + e[k] @ v for v, k in zip(h, Y, strict=True)]
    np.testing.assert_allclose(found[:, 0], by_hand, rtol=1e-4, atol=1e-5)
    twin = Projection.from_config(layer.get_config())
    twin.build([(None, 4), (None, 1)])
    assert [tuple(v.shape) for v in twin.weights] == [(4, 1), (1,), (4, 3)]


def test_a_projection_learns_the_ratio_of_two_joint_distributions():
    # real: x | y has the mean m_y; fake: x | y has the mean -m_y; all variances are 1
    means = np.array([[1.0, 0.0], [0.0, 1.0], [-0.5, -0.5]])
    labels = np.arange(12_000) % 3
    z = np.random.default_rng(1).normal(size=(2, 12_000, 2))
    real, fake = means[labels] + z[0], -means[labels] + z[1]
    x, y = layers.Input((2,)), layers.Input((1,), dtype="int32")
    top = Projection(layers.Dense(1), layers.Dense(3, use_bias=False))
    d = keras.Model([x, y], top([x, y]))
    bce = keras.losses.BinaryCrossentropy(from_logits=True)
    d.compile(keras.optimizers.Adam(0.05), bce)
    inputs = np.concatenate([real, fake]).astype("float32")
    both = np.tile(labels, 2)[:, None].astype("int32")
    answers = np.repeat([1.0, 0.0], 12_000)[:, None].astype("float32")
    keras.utils.set_random_seed(0)
    d.fit([inputs, both], answers, batch_size=1000, epochs=8, verbose=0)
    # log N(x; m, 1) - log N(x; -m, 1) = 2 m.x
    direction = numpy(top.shared.kernel) + numpy(top.classes.kernel)
    np.testing.assert_allclose(direction.T, 2 * means, atol=0.15)


def test_a_network_gives_labels_to_the_layers_that_take_them():
    parts = [AppendClass(3), layers.Dense(2)]
    net = network(parts, (4,), 3, "net")
    x = RNG.normal(size=(5, 4)).astype("float32")
    w, b = (numpy(v) for v in parts[1].weights)
    by_hand = x @ w[:4] + w[4:][Y] + b  # one-hot picks a row: a bias for each class
    np.testing.assert_allclose(
        numpy(net([x, Y[:, None]])), by_hand, rtol=1e-4, atol=1e-5
    )
    assert net.name == "net" and first_shape(net) == (None, 4)
    assert first_shape(network([layers.Dense(2)], (4,))) == (None, 4)


SMALL = {"image_shape": (8, 8, 1), "latent_dim": 4, "filters": (8,)}
LABELS = np.arange(24) % 3
X = RNG.uniform(-1, 1, (24, 8, 8, 1)).astype("float32")
G_KINDS = {"concatenate": "AppendClass", "embedding": "ConditionalBatchNormalization"}
G_KINDS["projection"] = G_KINDS["embedding"]
D_KINDS = {"concatenate": "AppendClass", "embedding": "AppendClass"}
D_KINDS["projection"] = "Projection"


@pytest.mark.parametrize(
    ("how", "spectral"),
    [("concatenate", False), ("embedding", False), ("projection", True)],
)
def test_every_way_trains_is_saved_and_hears_its_labels(how, spectral, tmp_path):
    gan = make_dcgan(**SMALL, num_classes=3, how=how, spectral=spectral)
    assert kinds(gan.generator).count(G_KINDS[how]) == 1
    assert kinds(gan.discriminator).count(D_KINDS[how]) == 1
    adam = {n: keras.optimizers.Adam(1e-2) for n in ("discriminator", "generator")}
    gan.compile(adam)
    gan.fit(X, LABELS, batch_size=8, epochs=2, verbose=0)
    one, two = gan.sample(3, labels=1), gan.sample(3, labels=2)
    assert one.shape == (3, 8, 8, 1) and abs(one - two).max() > 1e-4
    judged = [
        numpy(gan.discriminator([X[:3], np.full((3, 1), k, "int32")])) for k in (1, 2)
    ]
    assert abs(judged[0] - judged[1]).max() > 1e-5
    gan.save(tmp_path / "gan.keras")
    twin = keras.saving.load_model(tmp_path / "gan.keras")
    np.testing.assert_allclose(twin.sample(3, labels=1), one, rtol=1e-4, atol=1e-5)
    assert twin.num_classes == 3


def test_every_layer_of_a_spectral_projection_is_limited():
    gan = make_dcgan(**SMALL, num_classes=3, spectral=True)
    top = gan.discriminator.layers[-1]
    assert all(isinstance(v, SpectralNormalization) for v in (top.shared, top.classes))


@pytest.mark.parametrize("how", WAYS)
def test_the_toy_of_every_way_gives_its_generator_labels(how):
    gan = make_toy_gan(hidden=(8,), num_classes=3, how=how)
    assert kinds(gan.generator).count("AppendClass") == 1
    assert kinds(gan.discriminator).count(D_KINDS[how]) == 1
    assert gan.num_classes == 3 and gan.latent_dim == 2
    assert gan.sample(4, labels=[0, 1, 2, 0]).shape == (4, 2)


def test_unconditional_networks_stay_what_they_were():
    for gan in (make_dcgan(**SMALL), make_toy_gan()):
        assert isinstance(gan.generator, keras.Sequential)
        assert gan.num_classes is None and gan.condition is None
    for vae in (make_dense_vae(), make_conv_vae()):
        assert isinstance(vae.decoder, keras.Sequential) and vae.num_classes is None
    for make in (make_dcgan, make_toy_gan):
        with pytest.raises(ValueError, match="`how` must be one of 'concatenate'"):
            make(how="multiply")


def test_samples_of_a_class_do_not_depend_on_who_stands_beside():
    gan = make_dcgan(**SMALL, num_classes=3)
    adam = {n: keras.optimizers.Adam(1e-2) for n in ("discriminator", "generator")}
    gan.compile(adam)
    gan.fit(X, LABELS, batch_size=8, epochs=1, verbose=0)
    mixed = gan.sample(6, seed=3)
    alone = gan.sample(6, seed=3, labels=1)
    np.testing.assert_allclose(mixed[[1, 4]], alone[[1, 4]], atol=1e-5)


def test_labels_of_samples_are_checked():
    assert check_labels(None, 4, None) is None
    np.testing.assert_array_equal(check_labels(2, 3, 5), [[2], [2], [2]])
    turn = check_labels(None, 4, 3, in_turn=True)
    np.testing.assert_array_equal(turn, [[0], [1], [2], [0]])
    assert turn.dtype == np.int32
    for bad, n, classes, message in (
        ([0, 3], 2, 3, r"lie in \[0, 2\]"),
        ([0, 1, 2], 2, 3, "one class for each of the 2 samples"),
        (None, 2, 3, "must hold the classes of the 2 samples"),
        ([0, 1], 2, None, "for a game with classes"),
    ):
        with pytest.raises(ValueError, match=message):
            check_labels(bad, n, classes)
    with pytest.raises(TypeError, match="whole numbers"):
        check_labels([0.0, 1.0], 2, 3)


# x = W z + B_y + noise: log p(x|y) is Gaussian, and so is the posterior of z.
W = np.array([[0.6, 0.3, 0.0, 0.0], [0.0, 0.0, 0.2, -0.5]])
B = np.array([[0.1, -0.2, 0.05, 0.0], [0.4, 0.3, -0.3, 0.1], [0.0, 0.0, 0.6, -0.6]])
SIGMA = 0.5
PRECISION = 1 + (W**2).sum(axis=1) / SIGMA**2
IMAGES = np.random.default_rng(3).uniform(-0.9, 0.9, (6, 2, 2, 1)).astype("float32")
FLAT = IMAGES.reshape(6, 4)
CLASSES = np.array([0, 1, 2, 2, 1, 0])


def linear_vae(exact, **kwargs):
    """The model above; its encoder is the posterior, or the prior."""
    encode, decode = layers.Dense(4), layers.Dense(4)
    told = AppendClass(3), AppendClass(3)
    encoder = network([layers.Flatten(), told[0], encode], (2, 2, 1), 3)
    decoder = network([told[1], decode, layers.Reshape((2, 2, 1))], (2,), 3)
    to_mean = exact * W.T / SIGMA**2 / PRECISION  # (4, 2)
    kernel = np.concatenate([to_mean, np.zeros((4, 2))], axis=1)
    rows = np.concatenate([-B @ to_mean, np.zeros((3, 2))], axis=1)
    bias = np.concatenate([np.zeros(2), -exact * np.log(PRECISION)])
    encode.set_weights([np.concatenate([kernel, rows]), bias])
    decode.set_weights([np.concatenate([W, B]), np.zeros(4)])
    return VAE(encoder, decoder, **{"sigma": SIGMA, "num_classes": 3} | kwargs)


def log_p(labels):
    """Log p(x|y) of each image, in closed form."""
    cov = W.T @ W + SIGMA**2 * np.eye(4)
    pairs = zip(FLAT, np.broadcast_to(labels, 6), strict=True)
    return [stats.multivariate_normal(B[k], cov).logpdf(v) for v, k in pairs]


@pytest.mark.parametrize("labels", [CLASSES, 1])
def test_under_the_exact_posterior_the_bound_is_the_conditional_likelihood(labels):
    vae = linear_vae(1)
    for k, seed in ((1, 0), (5, 2)):
        found = vae.log_likelihood(IMAGES, k, seed=seed, labels=labels)
        np.testing.assert_allclose(found, log_p(labels), atol=2e-4)
    z_mean, _ = vae.encode(IMAGES, labels)
    by_hand = (FLAT - B[labels]) @ W.T / SIGMA**2 / PRECISION
    np.testing.assert_allclose(z_mean, by_hand, atol=1e-5)
    elbo = np.mean([vae.elbo(IMAGES, s, labels) for s in range(60)], axis=0)
    np.testing.assert_allclose(elbo, log_p(labels), atol=0.6)


def test_under_the_prior_the_bound_lies_below_and_rises():
    vae = linear_vae(0)
    one, many = (
        np.mean([vae.log_likelihood(IMAGES, k, s, CLASSES) for s in range(20)], 0)
        for k in (1, 200)
    )
    exact = np.array(log_p(CLASSES))
    assert one.mean() < many.mean() < exact.mean() + 0.02
    np.testing.assert_allclose(many, exact, atol=0.1)


def test_the_conditional_loss_is_minus_the_elbo_of_its_terms():
    vae = linear_vae(0, kl_weight=2.0)
    x, y = ops.convert_to_tensor(IMAGES), ops.convert_to_tensor(CLASSES)
    player = vae.players()[0]
    loss, logs = np.mean(
        [
            [float(numpy(v)) for v in (found[0], found[1]["nll"])]
            for found in (player.evaluate(x, y, True) for _ in range(300))
        ],
        axis=0,
    )
    squares = ((FLAT - B[CLASSES]) ** 2).sum(axis=1).mean() + (W**2).sum()
    nll = squares / (2 * SIGMA**2) + 2 * np.log(2 * np.pi * SIGMA**2)
    assert loss == pytest.approx(nll, abs=0.3)  # q is the prior, so the KL is 0
    assert logs == pytest.approx(loss, rel=1e-4)


def test_samples_of_a_conditional_vae_are_decoded_with_their_labels():
    vae = linear_vae(1)
    z = np.random.default_rng(5).standard_normal((6, 2))
    for labels, used in ((None, np.arange(6) % 3), (2, 2), (CLASSES, CLASSES)):
        by_hand = np.clip(z @ W + B[used], -1, 1).reshape(6, 2, 2, 1)
        found = vae.sample(6, seed=5, labels=labels)
        np.testing.assert_allclose(found, by_hand, atol=1e-5)
    z_mean, _ = vae.encode(IMAGES, CLASSES)
    by_hand = np.clip(z_mean @ W + B[CLASSES], -1, 1).reshape(6, 2, 2, 1)
    np.testing.assert_allclose(vae.reconstruct(IMAGES, CLASSES), by_hand, atol=1e-5)


def test_a_conditional_vae_asks_for_labels_and_others_refuse_them():
    vae = linear_vae(1)
    for ask in (vae.encode, vae.reconstruct, vae.elbo, vae.log_likelihood):
        with pytest.raises(ValueError, match="must hold the classes of the 6"):
            ask(IMAGES)
    plain = make_dense_vae((2, 2, 1), 2, (3,))
    for ask in (plain.encode, plain.elbo):
        with pytest.raises(ValueError, match="`labels` are for"):
            ask(IMAGES, labels=CLASSES)
    with pytest.raises(ValueError, match="`labels` are for"):
        plain.sample(2, labels=0)
    with pytest.raises(ValueError, match=r"`encoder` must take 2 inputs"):
        VAE(plain.encoder, plain.decoder, num_classes=3)
    vae.compile("adam")
    with pytest.raises(ValueError, match="`y` must hold the conditions"):
        vae.fit(IMAGES, verbose=0)


@pytest.mark.parametrize("make", [make_dense_vae, make_conv_vae])
def test_conditional_vaes_train_and_are_saved(make, tmp_path):
    vae = make((8, 8, 1), 3, (6,), num_classes=3, sigma="optimal")
    assert kinds(vae.encoder).count("AppendClass") == 1
    assert kinds(vae.decoder).count("AppendClass") == 1
    vae.compile(keras.optimizers.Adam(1e-2))
    vae.fit(X, LABELS, batch_size=8, epochs=2, verbose=0)
    vae.save(tmp_path / "vae.keras")
    twin = keras.saving.load_model(tmp_path / "vae.keras")
    assert twin.num_classes == 3
    np.testing.assert_allclose(twin.sample(4), vae.sample(4), atol=1e-5)
    one, two = vae.sample(3, labels=1), vae.sample(3, labels=2)
    assert abs(one - two).max() > 1e-4


def test_a_conditional_vae_learns_the_means_of_its_classes():
    keras.utils.set_random_seed(0)
    labels = np.arange(300) % 3
    x = np.random.default_rng(1).normal(B[labels], 0.1).clip(-1, 1)
    x = x.reshape(300, 2, 2, 1)
    vae = make_dense_vae((2, 2, 1), 1, (8,), num_classes=3, sigma=0.3)
    vae.compile(keras.optimizers.Adam(1e-2))
    vae.fit(x, labels, batch_size=50, epochs=40, verbose=0)
    for k in range(3):
        found = vae.sample(50, labels=k).reshape(50, 4).mean(axis=0)
        np.testing.assert_allclose(found, B[k], atol=0.1)


def test_a_turn_in_a_game_with_classes_moves_every_table():
    gan = make_dcgan(**SMALL, num_classes=3)
    labels = ops.convert_to_tensor(LABELS)
    for player in gan.players():
        _, _, gradients = value_and_gradients(
            lambda player=player: player.evaluate(
                ops.convert_to_tensor(X), labels, True
            ),
            player.variables,
            gan,
        )
        tables = [
            g
            for g, v in zip(gradients, player.variables, strict=True)
            if "conditional" in v.path or "projection" in v.path
        ]
        assert tables
        for gradient in tables:
            assert abs(numpy(gradient)).max() > 0


def test_settings_survive_the_way_through_a_configuration():
    gan = make_toy_gan(hidden=(5,), num_classes=3, how="projection", seed=4)
    twin = GAN.from_config(gan.get_config())
    assert twin.num_classes == 3 and twin.condition == gan.condition
    twin.generator.set_weights(gan.generator.get_weights())
    np.testing.assert_array_equal(twin.sample(3), gan.sample(3))


def test_outlines_are_those_of_the_shapes_that_fill_them():
    outline, filled = data.outlines(60, size=64, seed=3, stripes=False)
    x, factors = data.shapes(60, size=64, seed=3)
    np.testing.assert_array_equal(filled, x)
    assert outline.shape == x.shape and outline.dtype == np.float32
    inside = (filled == 1.0)[..., 0]
    near = np.zeros_like(inside)  # within three pixels of the other side
    for i in range(-3, 4):
        for j in range(-3, 4):
            near |= np.roll(inside, (i, j), (1, 2)) != inside
    assert near[outline[..., 0] == 1.0].all()
    # as long as the boundary, and two pixels wide
    ink = (outline[..., 0] + 1).sum(axis=(1, 2)) / 2 * (2 / 64)
    length = np.choose(factors["shape"], [4 * 2**0.5, 2 * np.pi, 3 * 3**0.5])
    ratio = ink / (length * factors["scale"])
    np.testing.assert_allclose(ratio, 2.0, atol=0.03)


def test_stripes_go_from_paper_to_ink_with_a_phase_of_their_own():
    outline, filled = data.outlines(400, size=32, seed=1)
    plain = data.outlines(400, size=32, seed=1, stripes=False)
    np.testing.assert_array_equal(outline, plain[0])
    inside = plain[1][..., 0] == 1.0
    values = filled[..., 0]
    assert (values[plain[1][..., 0] == -1.0] == -1.0).all()
    assert values[inside].min() < -0.99 and values[inside].max() > 0.99
    # the same in each column of a shape, and eight pixels on
    for v, here in zip(values[:50], inside[:50], strict=True):
        column = np.where(here, v, np.nan)
        seen = here.any(axis=0)
        top = np.nanmax(column[:, seen], axis=0)
        np.testing.assert_allclose(top, np.nanmin(column[:, seen], axis=0), atol=1e-5)
    both = inside & np.roll(inside, 8, axis=2)
    shifted = np.roll(values, 8, axis=2)
    np.testing.assert_allclose(values[both], shifted[both], atol=1e-5)
    # a cosine of a uniform phase: mean and median 0, mean square 1/2
    middle = values[:, 16, 16][inside[:, 16, 16]]
    assert abs(np.median(middle)) < 0.2 and abs((middle**2).mean() - 0.5) < 0.1
    with pytest.raises(ValueError, match="at least 8"):
        data.outlines(3, size=4)
