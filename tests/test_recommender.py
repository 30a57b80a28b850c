"""The VAE over items against SciPy, and against data whose structure is known."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from scipy.special import gammaln, log_softmax
from scipy.stats import multinomial

from genai_utils.models.recommender import MultVAE, make_mult_vae, multinomial_nll

pytestmark = pytest.mark.engines
RNG = np.random.default_rng(0)
X = (RNG.random((24, 12)) < 0.3).astype("float32")


def numpy(tensor):
    return keras.ops.convert_to_numpy(tensor)


def small(**kwargs):
    return make_mult_vae(12, 3, 16, seed=1, **kwargs)


def groups(n=400, seed=0):
    """Users of two tastes: each likes four films of one half of the catalogue."""
    rng = np.random.default_rng(seed)
    x = np.zeros((n, 12), "float32")
    for u in range(n):
        x[u, rng.choice(6, 4, replace=False) + 6 * (u % 2)] = 1
    return x


def test_multinomial_nll_against_scipy():
    counts = RNG.integers(0, 5, (8, 6)).astype("float32")
    logits = RNG.normal(0, 3, (8, 6)).astype("float32")
    pi = np.exp(log_softmax(logits.astype("float64"), axis=1))
    pi /= pi.sum(axis=1, keepdims=True)
    n = counts.sum(axis=1)
    coefficient = gammaln(n + 1) - gammaln(counts + 1).sum(axis=1)
    exact = [
        multinomial.logpmf(c, int(k), p) for c, k, p in zip(counts, n, pi, strict=True)
    ]
    nll = numpy(multinomial_nll(counts, logits))
    np.testing.assert_allclose(coefficient - nll, exact, rtol=1e-4, atol=1e-4)


def test_multinomial_nll_of_logits_that_are_far_apart():
    nll = numpy(multinomial_nll([[1.0, 1.0]], [[500.0, -500.0]]))
    assert nll[0] == pytest.approx(1000.0)


def test_loss_is_made_of_its_terms_and_the_ramp():
    vae = small(kl_weight=0.5, anneal_steps=4)
    x = keras.ops.convert_to_tensor(X)
    for step in range(6):  # the weight of this step, then the count goes up
        loss, logs = vae.players()[0].evaluate(x, True)
        nll, kl = (float(numpy(logs[name])) for name in ("nll", "kl"))
        expected = nll + 0.5 * min(1.0, step / 4) * kl
        assert float(numpy(loss)) == pytest.approx(expected, rel=1e-5)
    assert float(numpy(vae.ramp.count)) == 6
    loss, logs = vae.players()[0].evaluate(x, False)  # testing has the whole weight
    total = float(numpy(logs["nll"])) + 0.5 * float(numpy(logs["kl"]))
    assert float(numpy(loss)) == pytest.approx(total, rel=1e-5)
    assert float(numpy(vae.ramp.count)) == 6


def test_the_ramp_counts_what_fit_trains():
    vae = small(anneal_steps=100)
    vae.compile("adam")
    vae.fit(X, epochs=3, batch_size=8, verbose=0)
    assert float(numpy(vae.ramp.count)) == 9


def test_encoder_sees_directions_not_lengths():
    vae = small()
    one, three = vae.encode(X[:4])[0], vae.encode(3 * X[:4])[0]
    np.testing.assert_allclose(one, three, atol=1e-5)
    assert np.isfinite(vae.scores(np.zeros((1, 12)))).all()  # a complete stranger


def test_scores_are_the_decoded_means():
    vae = small()
    z_mean, _ = vae.encode(X)
    np.testing.assert_allclose(vae.scores(X), numpy(vae.decoder(z_mean)), atol=1e-5)


def test_sampled_scores_scatter_as_the_posterior_does():
    vae = small()
    # a decoder that returns its first three logits as they are
    vae.decoder.layers[0].activation = keras.activations.linear
    vae.decoder.layers[0].set_weights([np.eye(3, 16), np.zeros(16)])
    vae.decoder.layers[1].set_weights([np.eye(16, 12), np.zeros(12)])
    z_mean, z_log_var = vae.encode(X[:2])
    draws = vae.sample_scores(X[:2], 4000, seed=2)[..., :3]
    assert draws.shape == (4000, 2, 3)
    std = np.exp(0.5 * z_log_var)
    np.testing.assert_allclose(draws.mean(axis=0), z_mean, atol=5 * std.max() / 63)
    np.testing.assert_allclose(draws.std(axis=0), std, rtol=0.06)
    assert (vae.sample_scores(X, 1, 3) == vae.sample_scores(X, 1, 3)).all()


def test_vae_learns_two_tastes():
    vae = make_mult_vae(12, 2, 32, kl_weight=0.2, anneal_steps=50, seed=0)
    vae.compile(keras.optimizers.Adam(1e-2))
    losses = vae.fit(groups(), epochs=25, batch_size=50, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    known = np.eye(12, dtype="float32")[[0, 7]]  # one like each
    pi = np.exp(log_softmax(vae.scores(known), axis=1))
    assert pi[0, :6].sum() > 0.9 and pi[1, 6:].sum() > 0.9


def test_a_saved_model_returns_the_same_scores(tmp_path):
    vae = small(kl_weight=0.3, anneal_steps=7)
    vae.compile("adam")
    vae.fit(X, epochs=1, batch_size=8, verbose=0)
    vae.save(tmp_path / "vae.keras")
    again = keras.saving.load_model(tmp_path / "vae.keras")
    assert isinstance(again, MultVAE)
    assert (again.kl_weight, again.anneal_steps) == (0.3, 7)
    assert float(numpy(again.ramp.count)) == 3
    np.testing.assert_allclose(again.scores(X), vae.scores(X), rtol=1e-5, atol=1e-6)


def test_bad_input_is_refused():
    vae = small()
    with pytest.raises(ValueError, match="kl_weight"):
        small(kl_weight=-1)
    with pytest.raises(ValueError, match="anneal_steps"):
        small(anneal_steps=-1)
    with pytest.raises(ValueError, match="twice as many"):
        MultVAE(vae.encoder, vae.encoder)
    with pytest.raises(ValueError, match="`x`"):
        vae.scores(X[:, :5])
    vae.compile("adam")
    with pytest.raises(ValueError, match="`x`"):
        vae.fit(-X, verbose=0)
