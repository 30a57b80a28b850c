"""VAEs against linear-Gaussian models whose likelihood and posterior are known."""

from __future__ import annotations

import math

import keras
import numpy as np
import pytest
from keras import layers
from scipy import optimize, stats

from genai_utils import losses
from genai_utils.backends import value_and_gradients
from genai_utils.models import vae as module
from genai_utils.models.vae import VAE, make_conv_vae, make_dense_vae

pytestmark = pytest.mark.engines
X = np.random.default_rng(0).uniform(-1, 1, (48, 8, 8, 1)).astype("float32")
SMALL = {"image_shape": (8, 8, 1), "latent_dim": 4}


def numpy(tensor):
    return keras.ops.convert_to_numpy(tensor)


def number(tensor):
    return float(numpy(tensor))


def test_vae_loss_is_minus_the_elbo_of_its_terms():
    vae = make_dense_vae(**SMALL, hidden=(16,), kl_weight=2.0, sigma=0.5)
    loss, logs = vae.players()[0].evaluate(keras.ops.convert_to_tensor(X), False)
    total = number(logs["nll"]) + 2 * number(logs["kl"])
    assert number(loss) == pytest.approx(total, rel=1e-5)
    z_mean, z_log_var = vae.encode(X)
    kl = 0.5 * (z_mean**2 + np.exp(z_log_var) - 1 - z_log_var).sum(axis=1).mean()
    assert number(logs["kl"]) == pytest.approx(kl, rel=1e-3)


def test_vae_likelihood_against_an_exact_linear_model():
    # decoder x = W z + b: log p(x) is Gaussian; the encoder is far from the posterior
    rng = np.random.default_rng(2)
    w, b = rng.normal(0, 0.2, (1, 4)), rng.normal(0, 0.2, 4)
    dense = keras.layers.Dense(4)
    decoder = keras.Sequential(
        [keras.Input((1,)), dense, keras.layers.Reshape((2, 2, 1))]
    )
    dense.set_weights([w, b])
    encoder = keras.Sequential(
        [keras.Input((2, 2, 1)), keras.layers.Flatten(), keras.layers.Dense(2)]
    )
    encoder.layers[-1].set_weights([np.zeros((4, 2)), np.zeros(2)])  # q = prior
    vae = VAE(encoder, decoder, sigma=0.5)
    x = rng.uniform(-0.5, 0.5, (6, 2, 2, 1)).astype("float32")
    exact = stats.multivariate_normal(b, w.T @ w + 0.25 * np.eye(4)).logpdf(
        x.reshape(6, 4)
    )
    np.testing.assert_allclose(vae.log_likelihood(x, 400), exact, atol=0.1)
    often = np.tile(x, (20, 1, 1, 1))  # twenty draws for each
    bounds = [vae.log_likelihood(often, k).mean() for k in (1, 5)]
    elbo = vae.elbo(often).mean()
    # with q = prior: ELBO = E_z log p(x|z), in closed form
    squares = ((x.reshape(6, 4) - b) ** 2).sum(axis=1) + (w**2).sum()
    closed = (-squares / 0.5 - 2 * np.log(2 * np.pi * 0.25)).mean()
    assert elbo == pytest.approx(closed, abs=0.15)
    assert bounds[0] == pytest.approx(elbo, abs=0.15)  # K = 1 is the ELBO
    assert bounds[0] < bounds[1] < exact.mean() + 0.02


def test_bernoulli_vae_draws_probabilities():
    vae = make_dense_vae(**SMALL, hidden=(16,), likelihood="bernoulli")
    z = np.full((1, 4), 1.5, "float32")
    a = keras.ops.convert_to_numpy(vae.decoder(z))
    expected = 2 / (1 + np.exp(-a)) - 1
    assert abs(expected).max() > 0.05
    np.testing.assert_allclose(vae.decode(z), expected, atol=1e-5)
    nll = keras.ops.convert_to_numpy(vae.nll(keras.ops.ones((1, 8, 8, 1)), a))
    exact = losses.bernoulli_nll(keras.ops.ones((1, 8, 8, 1)), a)
    np.testing.assert_allclose(nll, keras.ops.convert_to_numpy(exact), rtol=1e-5)


def test_asking_a_vae_prints_no_progress_bar(capsys):
    vae = make_dense_vae(**SMALL, hidden=(16,))
    vae.decode(vae.encode(X)[0])
    vae.log_likelihood(X[:2], 3)
    assert capsys.readouterr().out == ""


def test_bernoulli_vae_has_no_scale_to_learn():
    vae = make_dense_vae(**SMALL, hidden=(16,), likelihood="bernoulli")
    vae.compile("adam")
    vae.fit(np.zeros((8, 8, 8, 1), "float32"), verbose=0)  # warnings are errors here
    assert vae.scale.trainable_variables == []
    assert float(vae.scale.sigma()) == 1.0


# x = W z + b + noise; the rows of W are orthogonal, so the posterior is diagonal too.
W = np.array([[0.6, 0.3, 0.0, 0.0], [0.0, 0.0, 0.2, -0.5]])
B = np.array([0.1, -0.2, 0.05, 0.0])
SIGMA = 0.5
PRECISION = 1 + (W**2).sum(axis=1) / SIGMA**2
IMAGES = np.random.default_rng(3).uniform(-0.9, 0.9, (6, 2, 2, 1)).astype("float32")
FLAT = IMAGES.reshape(6, 4)


class Probe(layers.Layer):
    """Passes everything on, and notes what it was called with."""

    def __init__(self, seen):
        super().__init__()
        self.note = seen.append

    def call(self, x, training=None):
        """Note the input and the flag."""
        self.note((x, training))
        return x


def linear_vae(kernel, bias, probes=((), ()), w=W, **kwargs):
    """A VAE whose encoder is ``x @ kernel + bias`` and whose decoder is the model."""
    encode, decode = layers.Dense(4), layers.Dense(4)
    encoder = keras.Sequential(
        [keras.Input((2, 2, 1)), layers.Flatten(), *map(Probe, probes[0]), encode]
    )
    decoder = keras.Sequential(
        [keras.Input((2,)), *map(Probe, probes[1]), decode, layers.Reshape((2, 2, 1))]
    )
    encode.set_weights([kernel, bias])
    decode.set_weights([w, B])
    for seen in (*probes[0], *probes[1]):
        seen.clear()  # what was noted while the networks were built
    return VAE(encoder, decoder, **{"sigma": SIGMA} | kwargs)


def with_exact_posterior():
    to_mean = W.T / SIGMA**2 / PRECISION
    kernel = np.concatenate([to_mean, np.zeros((4, 2))], axis=1)
    return linear_vae(kernel, np.concatenate([-B @ to_mean, -np.log(PRECISION)]))


def with_constant_posterior(z_mean, z_log_var, **kwargs):
    return linear_vae(np.zeros((4, 4)), np.array([*z_mean, *z_log_var]), **kwargs)


def test_under_the_exact_posterior_every_weight_is_the_likelihood():
    vae = with_exact_posterior()
    exact = stats.multivariate_normal(B, W.T @ W + SIGMA**2 * np.eye(4)).logpdf(FLAT)
    for k, seed in ((1, 0), (1, 7), (5, 2)):  # p(x|z) p(z) / q(z|x) = p(x) for any z
        found = vae.log_likelihood(IMAGES, k, seed=seed)
        np.testing.assert_allclose(found, exact, atol=2e-4)
    z_mean, z_log_var = vae.encode(IMAGES)
    exact = (FLAT - B) @ W.T / SIGMA**2 / PRECISION
    np.testing.assert_allclose(z_mean, exact, atol=1e-5)
    np.testing.assert_allclose(z_log_var, np.tile(-np.log(PRECISION), (6, 1)), 1e-4)


def by_hand(z_mean, z_log_var, k, seed):
    """Log weights and NLL, each (K, n), and KL, of the draws that a seed gives."""
    sd = np.exp(np.array(z_log_var) / 2)
    eps = np.random.default_rng(seed).standard_normal((k, 6, 2))
    z = z_mean + sd * eps
    nll = -stats.norm.logpdf(FLAT, z @ W + B, SIGMA).sum(axis=-1)
    prior, posterior = stats.norm.logpdf(z), stats.norm.logpdf(z, z_mean, sd)
    kl = 0.5 * (np.square(z_mean) + sd**2 - 1 - 2 * np.log(sd)).sum()
    return (prior - posterior).sum(axis=-1) - nll, nll, kl


def test_bounds_are_those_of_the_draws_by_hand():
    z_mean, z_log_var = (0.3, -0.4), (-0.5, 0.2)  # far from the posterior
    vae = with_constant_posterior(z_mean, z_log_var)
    for seed in (0, 3):
        log_w, nll, kl = by_hand(z_mean, z_log_var, 1, seed)
        np.testing.assert_allclose(vae.elbo(IMAGES, seed=seed), -nll[0] - kl, atol=1e-3)
        log_w = by_hand(z_mean, z_log_var, 9, seed)[0]
        exact = np.log(np.exp(log_w).mean(axis=0))
        found = vae.log_likelihood(IMAGES, 9, seed=seed)
        np.testing.assert_allclose(found, exact, atol=1e-3)
    np.testing.assert_array_equal(vae.elbo(IMAGES), vae.elbo(IMAGES, seed=0))
    np.testing.assert_array_equal(
        vae.log_likelihood(IMAGES), vae.log_likelihood(IMAGES, 100, seed=0)
    )
    with pytest.raises(ValueError, match=r"`num_samples` must .* Received: 0"):
        vae.log_likelihood(IMAGES, 0)


@pytest.mark.parametrize("at_once", [0, 1, 2, 4])
def test_the_bound_does_not_depend_on_how_many_draws_are_decoded_at_once(
    at_once, monkeypatch
):
    vae = with_constant_posterior((0.3, -0.4), (-0.5, 0.2))
    whole = vae.log_likelihood(IMAGES, 5)
    monkeypatch.setattr(module, "_MOST", at_once * IMAGES.size)
    np.testing.assert_allclose(vae.log_likelihood(IMAGES, 5), whole, rtol=1e-5)


def test_a_likelihood_far_below_what_floats_hold_stays_finite():
    vae = with_constant_posterior((0.0, 0.0), (0.0, 0.0), sigma=0.01)
    found = vae.log_likelihood(IMAGES, 5)  # exp of it is zero
    assert np.isfinite(found).all() and found.min() < -800


def test_training_draws_new_latents_from_the_posterior():
    seen, mean, log_var = [], np.array([0.5, -1.0]), np.array([-1.0, 0.6])
    vae = with_constant_posterior(mean, log_var, probes=((), (seen,)))
    x = keras.ops.zeros((20_000, 2, 2, 1))
    for _ in range(2):
        vae.players()[0].evaluate(x, True)
    first, again = (numpy(z) for z, _ in seen)
    eps = (first - mean) / np.exp(log_var / 2)
    assert abs(eps.mean(axis=0)).max() < 5 / 20_000**0.5
    np.testing.assert_allclose(np.cov(eps.T), np.eye(2), atol=0.05)
    assert abs((np.abs(eps) < 1).mean() - 0.6827) < 0.015  # a Gaussian
    for a in first.T:
        for b in again.T:
            assert abs(np.corrcoef(a, b)[0, 1]) < 0.04  # new noise


@pytest.mark.parametrize("training", [True, False])
def test_both_networks_are_told_whether_they_train(training):
    seen = [], []
    vae = with_constant_posterior(
        (0.0, 0.0), (0.0, 0.0), probes=((seen[0],), (seen[1],))
    )
    vae.players()[0].evaluate(keras.ops.convert_to_tensor(IMAGES), training)
    assert [[flag for _, flag in part] for part in seen] == [[training], [training]]


@pytest.mark.parametrize("kl_weight", [0.0, 1.0, 3.0])
def test_the_loss_is_known_where_the_decoder_ignores_its_input(kl_weight):
    vae = with_constant_posterior(
        (0.5, -1.0), (-1.0, 0.6), w=np.zeros((2, 4)), kl_weight=kl_weight
    )
    loss, logs = vae.players()[0].evaluate(keras.ops.convert_to_tensor(IMAGES), True)
    nll = -stats.norm.logpdf(FLAT, B, SIGMA).sum(axis=1).mean()
    kl = 0.5 * (0.25 + 1.0 + math.exp(-1.0) + math.exp(0.6) - 2 + 1.0 - 0.6)
    assert number(logs["nll"]) == pytest.approx(nll, rel=1e-4)
    assert number(logs["kl"]) == pytest.approx(kl, rel=1e-4)
    assert number(loss) == pytest.approx(nll + kl_weight * kl, rel=1e-4)


def test_the_learned_scale_descends_towards_the_size_of_the_errors():
    vae = with_constant_posterior(
        (0.0, 0.0), (0.0, 0.0), w=np.zeros((2, 4)), sigma="learned"
    )
    player, log_sigma = vae.players()[0], vae.scale.log_sigma
    assert any(v is log_sigma for v in player.variables)
    assert number(vae.scale.sigma()) == 1.0
    squares = ((FLAT - B) ** 2).sum(axis=1).mean()
    x = keras.ops.convert_to_tensor(IMAGES)
    for sigma in (1.0, 0.4):
        log_sigma.assign(math.log(sigma))
        _, logs, gradients = value_and_gradients(
            lambda: player.evaluate(x, True), [log_sigma], vae
        )
        # nll = squares / (2 sigma^2) + 4 log sigma + const, by log sigma
        assert number(gradients[0]) == pytest.approx(4 - squares / sigma**2, rel=1e-3)
        nll = -stats.norm.logpdf(FLAT, B, sigma).sum(axis=1).mean()
        assert number(logs["nll"]) == pytest.approx(nll, rel=1e-4)


def test_a_scale_that_is_given_stands_still():
    vae = with_constant_posterior((0.0, 0.0), (0.0, 0.0), sigma=0.3)
    assert vae.scale.trainable_variables == []
    assert number(vae.scale.sigma()) == pytest.approx(0.3)
    assert len(vae.players()[0].variables) == 4


def test_the_optimal_scale_follows_the_errors_of_the_training_batches():
    vae = with_constant_posterior(
        (0.0, 0.0), (0.0, 0.0), w=np.zeros((2, 4)), sigma="optimal"
    )
    player, x = vae.players()[0], keras.ops.convert_to_tensor(IMAGES)
    assert vae.scale.trainable_variables == [] and len(player.variables) == 4
    errors = ((FLAT - B) ** 2).mean()  # the decoder ignores its input
    for steps in (1, 2):
        player.evaluate(x, True)
        variance = 0.95**steps + (1 - 0.95**steps) * errors
        assert number(vae.scale.sigma()) ** 2 == pytest.approx(variance, rel=1e-4)
    player.evaluate(x, False)  # a look changes nothing
    assert number(vae.scale.sigma()) ** 2 == pytest.approx(variance, rel=1e-4)
    for _ in range(400):
        _, logs = player.evaluate(x, True)
    best = optimize.minimize_scalar(
        lambda s: -stats.norm.logpdf(FLAT, B, s).sum(axis=1).mean(), (0.1, 1.0)
    )
    assert number(vae.scale.sigma()) == pytest.approx(best.x, rel=1e-3)
    assert number(logs["nll"]) == pytest.approx(best.fun, abs=1e-3)


def test_no_gradient_comes_back_through_the_optimal_scale():
    shifts = []
    for sigma in ("optimal", 0.7):
        vae = with_constant_posterior(
            (0.0, 0.0), (0.0, 0.0), w=np.zeros((2, 4)), sigma=sigma
        )
        errors = ((FLAT - B) ** 2).mean()  # so that one step leads to 0.7
        start = (0.49 - 0.05 * errors) / 0.95 if sigma == "optimal" else 0.49
        vae.scale.log_sigma.assign(0.5 * math.log(start))
        player, x = vae.players()[0], keras.ops.convert_to_tensor(IMAGES)
        bias = player.variables[-1]
        _, _, gradients = value_and_gradients(
            lambda player=player, x=x: player.evaluate(x, True), [bias], vae
        )
        shifts.append(numpy(gradients[0]))
    exact = (B - FLAT).mean(axis=0) / 0.49  # of the squared errors alone
    np.testing.assert_allclose(shifts, [exact, exact], rtol=1e-3, atol=1e-5)


def test_fit_moves_the_optimal_scale_and_saving_keeps_it(tmp_path):
    vae = make_dense_vae(**SMALL, hidden=(16,), sigma="optimal")
    vae.compile("adam")
    vae.fit(X, batch_size=8, epochs=30, verbose=0)
    z_mean, z_log_var = vae.encode(X)
    eps = np.random.default_rng(0).standard_normal((50, *z_mean.shape))
    draws = (z_mean + np.exp(0.5 * z_log_var) * eps).reshape(-1, 4)
    errors = (np.tile(X, (50, 1, 1, 1)) - vae.decode(draws)) ** 2
    sigma = number(vae.scale.sigma())
    assert sigma == pytest.approx(errors.mean() ** 0.5, rel=0.03)
    vae.save(tmp_path / "vae.keras")
    twin = keras.saving.load_model(tmp_path / "vae.keras")
    assert twin.sigma == "optimal"
    assert number(twin.scale.sigma()) == pytest.approx(sigma)


def test_bernoulli_pixels_leave_the_optimal_scale_alone():
    vae = make_dense_vae(**SMALL, hidden=(16,), sigma="optimal", likelihood="bernoulli")
    vae.players()[0].evaluate(keras.ops.convert_to_tensor(X), True)
    assert number(vae.scale.sigma()) == 1.0


def test_bernoulli_pixels_are_mapped_to_probabilities():
    vae = with_constant_posterior((0.0, 0.0), (0.0, 0.0), likelihood="bernoulli")
    x, logits = np.array([[-1.0, 1.0, 0.0, 0.5]]), np.array([[0.3, -0.7, 1.5, -2.0]])
    p, log_p = (x + 1) / 2, -np.log1p(np.exp(-logits))  # log sigmoid(a)
    exact = -(p * log_p + (1 - p) * (log_p - logits)).sum()
    shaped = (v.reshape(1, 2, 2, 1).astype("float32") for v in (x, logits))
    found = numpy(vae.nll(*map(keras.ops.convert_to_tensor, shaped)))
    assert found == pytest.approx([exact], rel=1e-5)


def test_samples_and_reconstructions_are_the_decoders_clipped_means():
    vae = with_exact_posterior()
    z = np.random.default_rng(5).standard_normal((40, 2))
    exact = (2 * z @ W + B).reshape(40, 2, 2, 1)
    assert (abs(exact) > 1).any()
    np.testing.assert_allclose(vae.decode(2 * z), np.clip(exact, -1, 1), atol=1e-5)
    exact = np.clip(z @ W + B, -1, 1).reshape(40, 2, 2, 1)
    np.testing.assert_allclose(vae.sample(40, seed=5), exact, atol=1e-5)
    np.testing.assert_array_equal(vae.sample(3), vae.sample(3, seed=0))
    z_mean = (FLAT - B) @ W.T / SIGMA**2 / PRECISION
    exact = np.clip(z_mean @ W + B, -1, 1).reshape(6, 2, 2, 1)
    np.testing.assert_allclose(vae.reconstruct(IMAGES), exact, atol=1e-5)
    assert vae.sample(1).shape == (1, 2, 2, 1)
    with pytest.raises(ValueError, match=r"`n` must .* Received: 0"):
        vae.sample(0)


def test_vae_refuses_what_it_cannot_use():
    good = make_dense_vae(**SMALL, hidden=(3,))
    wide = keras.Sequential([keras.Input((3,)), layers.Dense(2)])
    with pytest.raises(ValueError, match=r"twice as many.* Received: 8 and 3"):
        VAE(good.encoder, wide)
    for bad in (
        {"kl_weight": -1.0},
        {"sigma": 0.0},
        {"sigma": "best"},
        {"likelihood": "poisson"},
    ):
        with pytest.raises(ValueError, match="Received"):
            VAE(good.encoder, good.decoder, **bad)
    for x in (X * 1.5, X[..., 0]):
        with pytest.raises(ValueError, match=r"`x` must .*Received"):
            good.encode(x)
    with pytest.raises(ValueError, match=r"`z` must have shape \(None, 4\)"):
        good.decode(np.zeros((1, 3)))


def test_settings_survive_the_way_through_a_configuration():
    vae = with_constant_posterior(
        (0.0, 0.0), (0.0, 0.0), kl_weight=0.5, sigma=0.3, likelihood="bernoulli", seed=7
    )
    twin = VAE.from_config(vae.get_config())
    for name in ("kl_weight", "sigma", "likelihood", "seed", "latent_dim", "name"):
        assert getattr(twin, name) == getattr(vae, name), name
    plain = VAE(vae.encoder, vae.decoder)
    assert (plain.kl_weight, plain.sigma, plain.seed) == (1.0, "learned", 0)
    assert plain.likelihood == "gaussian"


def stack(network):
    """The layers of a network: kind, and shape of what each returns."""
    return [(type(v).__name__, tuple(v.output.shape[1:])) for v in network.layers]


def seeds_of_weights(*networks):
    kernels = (v for n in networks for v in n.layers if hasattr(v, "kernel"))
    return [v.kernel_initializer.seed for v in kernels]


def activations(network):
    named = (v for v in network.layers if hasattr(v, "activation"))
    return [v.activation.__name__ for v in named]


@pytest.mark.parametrize(
    ("likelihood", "last"), [("gaussian", "tanh"), ("bernoulli", "linear")]
)
def test_the_dense_vae_layer_by_layer(likelihood, last):
    vae = make_dense_vae((4, 6, 2), 3, (9, 5), seed=2, likelihood=likelihood)
    widths = [s for kind, s in stack(vae.encoder) if kind == "Dense"]
    assert widths == [(9,), (5,), (6,)]
    widths = [s for kind, s in stack(vae.decoder) if kind == "Dense"]
    assert widths == [(5,), (9,), (48,)]
    assert stack(vae.decoder)[-1] == ("Reshape", (4, 6, 2))
    assert activations(vae.encoder) == ["relu", "relu", "linear"]
    assert activations(vae.decoder) == ["relu", "relu", last]
    seeds = seeds_of_weights(vae.encoder, vae.decoder)
    assert seeds == list(range(3, 3 + len(seeds))) and vae.seed == 2


@pytest.mark.parametrize(
    ("likelihood", "last"), [("gaussian", "tanh"), ("bernoulli", "linear")]
)
def test_the_conv_vae_layer_by_layer(likelihood, last):
    vae = make_conv_vae((8, 16, 2), 3, (4, 6, 8), seed=2, likelihood=likelihood)
    assert stack(vae.encoder) == [
        ("Conv2D", (4, 8, 4)),
        ("Conv2D", (2, 4, 6)),
        ("Conv2D", (1, 2, 8)),
        ("Flatten", (16,)),
        ("Dense", (128,)),
        ("Dense", (6,)),
    ]
    assert stack(vae.decoder) == [
        ("Dense", (128,)),
        ("Dense", (16,)),
        ("Reshape", (1, 2, 8)),
        ("Conv2DTranspose", (2, 4, 6)),
        ("Conv2DTranspose", (4, 8, 4)),
        ("Conv2DTranspose", (8, 16, 2)),
    ]
    assert activations(vae.encoder) == ["relu"] * 4 + ["linear"]
    assert activations(vae.decoder) == ["relu"] * 4 + [last]
    kernels = [v for n in (vae.encoder, vae.decoder) for v in n.layers]
    sizes = [v.kernel_size for v in kernels if hasattr(v, "kernel_size")]
    assert sizes == [(3, 3)] * 3 + [(4, 4)] * 3
    seeds = seeds_of_weights(vae.encoder, vae.decoder)
    assert sorted(seeds) == list(range(3, 3 + len(seeds))) and vae.seed == 2


def test_the_defaults_of_the_builders():
    dense, conv = make_dense_vae(), make_conv_vae()
    assert (dense.latent_dim, conv.latent_dim) == (2, 8)
    widths = [s for kind, s in stack(dense.encoder) if kind == "Dense"]
    assert widths == [(256,), (128,), (4,)]
    assert stack(conv.encoder)[:2] == [("Conv2D", (8, 8, 16)), ("Conv2D", (4, 4, 32))]
    for vae in (dense, conv):
        assert vae.decoder.output_shape == (None, 16, 16, 1) and vae.seed == 0
