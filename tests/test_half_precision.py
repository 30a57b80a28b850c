"""Every model under mixed_float16 and mixed_bfloat16 trains as in float32."""

from __future__ import annotations

import functools

import keras
import numpy as np
import pytest
from keras import ops

from genai_utils import backends, losses
from genai_utils.models.gan import make_dcgan, make_dense_gan, make_toy_gan
from genai_utils.models.vae import make_conv_vae, make_dense_vae

pytestmark = pytest.mark.engines
SMALL = {"image_shape": (8, 8, 1), "latent_dim": 4}
rng = np.random.default_rng(0)
SLOPES = rng.uniform(-1, 1, (160, 2, 1, 1))
LINE = np.linspace(-1, 1, 8)
IMAGES = np.tanh(2 * (SLOPES[:, 0] * LINE + SLOPES[:, 1] * LINE[:, None]))
X = IMAGES[..., None].astype("float32")  # smooth 8 x 8 images with two factors
MODELS = {
    "dense VAE": lambda: make_dense_vae(**SMALL, hidden=(32,)),
    "dense VAE, Bernoulli": lambda: make_dense_vae(
        **SMALL, hidden=(32,), likelihood="bernoulli"
    ),
    "conv VAE": lambda: make_conv_vae(**SMALL, filters=(4, 8)),
    "toy GAN": make_toy_gan,
    "dense GAN": lambda: make_dense_gan(**SMALL, dropout=0.0),
    "DCGAN": lambda: make_dcgan(**SMALL, filters=(8, 4), dropout=0.0),
    "WGAN-GP": lambda: make_dense_gan(**SMALL, loss="wasserstein_gp", dropout=0.0),
}


@pytest.fixture
def policy(request):
    keras.config.set_dtype_policy(request.param)
    yield request.param
    keras.config.set_dtype_policy("float32")


def after_50_steps(name):
    keras.utils.set_random_seed(0)
    model = MODELS[name]()
    names = [p.name for p in model.players()]
    model.compile({n: keras.optimizers.Adam(5e-4) for n in names})
    x = X[:, 0, :2, 0] if name == "toy GAN" else X
    history = model.fit(x, batch_size=16, epochs=5, shuffle=False, verbose=0).history
    losses = {k: v[-1] for k, v in history.items() if k.endswith("loss")}
    return model, x, losses


@functools.cache
def in_float32(name):
    keras.config.set_dtype_policy("float32")
    return after_50_steps(name)[2]


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"], indirect=True)
def test_the_loss_after_50_steps_is_that_of_float32(name, policy):
    wanted = in_float32(name)
    keras.config.set_dtype_policy(policy)
    model, x, found = after_50_steps(name)
    for key, value in wanted.items():
        assert found[key] == pytest.approx(value, rel=0.05, abs=0.02), key
    drawn = model.sample(3)
    assert drawn.dtype == np.float32 and np.isfinite(drawn).all()
    scaled = [hasattr(o, "dynamic_scale") for o in model.optimizer.players.values()]
    assert scaled == [policy == "mixed_float16"] * len(scaled)
    if "VAE" in name:
        assert np.isfinite(model.log_likelihood(x[:4], 5)).all()


def share_of_zeros(model, x):
    """Zero gradients of the last player, as its optimizer would see them."""
    player = model.players()[-1]
    optimizer = model.optimizer.players[player.name]

    scale = optimizer.scale_loss(1e-6)  # small gradients, as late in training

    def objective():
        loss, logs = player.evaluate(ops.convert_to_tensor(x), True)
        return scale * loss, logs

    gradients = backends.value_and_gradients(objective, player.variables, model)[2]
    flat = [ops.convert_to_numpy(ops.cast(g, "float32")).ravel() for g in gradients]
    return (np.concatenate(flat) == 0).mean()


@pytest.mark.parametrize("policy", ["mixed_float16"], indirect=True)
def test_scaling_keeps_small_gradients_in_float16(policy):
    model, x, _ = after_50_steps("dense VAE")
    half = share_of_zeros(model, x)
    for optimizer in model.optimizer.players.values():
        optimizer.dynamic_scale.assign(1.0)
    unscaled = share_of_zeros(model, x)
    keras.config.set_dtype_policy("float32")
    single = share_of_zeros(after_50_steps("dense VAE")[0], x)
    assert abs(half - single) < 0.02 and unscaled > single + 0.1


def test_losses_are_computed_in_float32():
    a, b = (rng.normal(size=(8, 1)).astype("float16") for _ in range(2))
    for loss in (losses.minimax_d, losses.hinge_d, losses.wasserstein_d):
        value = loss(ops.convert_to_tensor(a), ops.convert_to_tensor(b))
        assert keras.backend.standardize_dtype(value.dtype) == "float32"
        exact = loss(a.astype("float32"), b.astype("float32"))
        assert float(value) == pytest.approx(float(exact), rel=1e-6)
    far = ops.convert_to_tensor(np.full((1, 4), 300.0, "float16"))  # 300^2 > 65504
    assert float(losses.gaussian_kl(far, 0 * far)[0]) == pytest.approx(2 * 300.0**2)
