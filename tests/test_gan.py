"""GANs against rounds done by hand, linear critics, and the papers' layers."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

from genai_utils.backends import value_and_gradients
from genai_utils.models.gan import GAN, make_dcgan, make_dense_gan, make_toy_gan

pytestmark = pytest.mark.engines
X = np.random.default_rng(0).uniform(-1, 1, (48, 8, 8, 1)).astype("float32")
SMALL = {"image_shape": (8, 8, 1), "latent_dim": 4}


def values(variables):
    return [keras.ops.convert_to_numpy(v).copy() for v in variables]


def changed(before, after):
    return [not np.array_equal(a, b) for a, b in zip(before, after, strict=True)]


def number(tensor):
    return float(keras.ops.convert_to_numpy(tensor))


def compiled(gan):
    adam = {n: keras.optimizers.Adam(1e-3, beta_1=0.5) for n in ("d", "g")}
    gan.compile({"discriminator": adam["d"], "generator": adam["g"]})
    return gan


def one_turn(game, who, x):
    """Let one player move, whatever the engine."""
    player = next(p for p in game.players() if p.name == who)
    _, _, gradients = value_and_gradients(
        lambda: player.evaluate(keras.ops.convert_to_tensor(x), True),
        player.variables,
        game,
    )
    game.optimizer.players[who].apply(gradients, player.variables)


@pytest.mark.parametrize(
    "loss", ["non_saturating", "minimax", "hinge", "wasserstein_gp"]
)
@pytest.mark.parametrize("who", ["discriminator", "generator"])
def test_a_turn_changes_only_that_players_variables(who, loss):
    gan = compiled(make_dense_gan(**SMALL, loss=loss))
    nets = {"discriminator": gan.discriminator, "generator": gan.generator}
    before = {k: values(n.trainable_variables) for k, n in nets.items()}
    one_turn(gan, who, X)
    for name, net in nets.items():
        moved = changed(before[name], values(net.trainable_variables))
        # the last bias of D cancels out of linear losses: +1 for real, -1 for fake
        still = loss in ("hinge", "wasserstein_gp")
        enough = sum(moved) >= len(moved) - still
        assert enough if name == who else not any(moved)


def test_state_moves_in_training_batchnorm_dropout_noise():
    gan = compiled(make_dense_gan(**SMALL))
    moving = [v for v in gan.generator.variables if "moving" in v.path]
    seeds = [v for v in gan.variables if v.name == "seed_generator_state"]
    assert len(moving) == 4 and len(seeds) == 3  # two BatchNorm; two dropout, one noise
    before = values(moving + seeds)
    gan.fit(X, batch_size=16, epochs=1, verbose=0)
    assert all(changed(before, values(moving + seeds)))


def test_gan_losses_are_those_of_the_logits():
    gan = compiled(make_toy_gan())
    x = np.random.default_rng(1).normal(size=(16, 2)).astype("float32")
    loss, logs = gan.players()[0].evaluate(keras.ops.convert_to_tensor(x), False)
    real = keras.ops.convert_to_numpy(gan.discriminator(x))
    by_hand = (1 / (1 + np.exp(-real))).mean()
    assert number(logs["d_real"]) == pytest.approx(by_hand, rel=1e-4)
    # softplus(-a) and softplus(a), averaged: the real half is known exactly
    assert number(loss) > np.log1p(np.exp(-real)).mean()


def test_networks_that_do_not_fit_are_refused():
    gan = make_toy_gan()
    with pytest.raises(ValueError, match="what `discriminator` takes"):
        GAN(gan.discriminator, gan.discriminator)
    with pytest.raises(ValueError, match="one logit"):
        GAN(gan.generator, gan.generator)
    with pytest.raises(ValueError, match="divisible by 4"):
        make_dcgan((9, 9, 1))


# A generator of a single point and a linear discriminator: every logit is known.
POINT, SLOPE, BIAS = np.array([0.5, -0.3]), np.array([0.6, -1.2]), 0.25
POINTS = np.random.default_rng(2).normal(size=(12, 2))


def one_point(**kwargs):
    generator = keras.Sequential([keras.Input((3,)), layers.Dense(2)])
    discriminator = keras.Sequential([keras.Input((2,)), layers.Dense(1)])
    generator.set_weights([np.zeros((3, 2)), POINT])
    discriminator.set_weights([SLOPE[:, None], np.array([BIAS])])
    return GAN(generator, discriminator, data_range=(None, None), **kwargs)


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


def softplus(a):
    return np.log1p(np.exp(a))


LOSSES = {  # of logits r of real points and f of the one fake: for D, for G
    "non_saturating": lambda r, f: (softplus(-r).mean() + softplus(f), softplus(-f)),
    "minimax": lambda r, f: (softplus(-r).mean() + softplus(f), -softplus(f)),
    "hinge": lambda r, f: (
        np.maximum(0, 1 - r).mean() + max(0, 1 + f),
        -f,
    ),
    "wasserstein_gp": lambda r, f: (f - r.mean(), -f),
}


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("loss", LOSSES)
def test_losses_of_a_linear_discriminator_are_those_by_hand(loss, training):
    gan = one_point(loss=loss, gp_weight=3.0)
    real, fake = POINTS @ SLOPE + BIAS, POINT @ SLOPE + BIAS
    d_loss, g_loss = LOSSES[loss](real, fake)
    if loss == "wasserstein_gp" and training:  # the gradient is SLOPE everywhere
        d_loss += 3.0 * (np.linalg.norm(SLOPE) - 1) ** 2
    x = keras.ops.convert_to_tensor(POINTS.astype("float32"))
    (found_d, logs), (found_g, none) = (p.evaluate(x, training) for p in gan.players())
    assert number(found_d) == pytest.approx(d_loss, rel=1e-4)
    assert number(found_g) == pytest.approx(g_loss, rel=1e-4) and none == {}
    assert number(logs["d_real"]) == pytest.approx(sigmoid(real).mean(), rel=1e-4)
    assert number(logs["d_fake"]) == pytest.approx(sigmoid(fake), rel=1e-4)


@pytest.mark.parametrize("turns", [1, 3])
def test_a_round_by_hand_d_moves_first_and_its_turns_are_logged_as_a_mean(turns):
    gan, rate = one_point(d_turns=turns), 0.3
    sgd = {n: keras.optimizers.SGD(rate) for n in ("discriminator", "generator")}
    gan.compile(sgd)
    history = gan.fit(POINTS, batch_size=12, epochs=1, verbose=0).history
    w, b, p, seen = SLOPE, BIAS, POINT, []
    for _ in range(turns):
        r, f = POINTS @ w + b, p @ w + b
        seen.append((LOSSES["non_saturating"](r, f)[0], sigmoid(r).mean(), sigmoid(f)))
        up, down = sigmoid(-r), sigmoid(f)  # how far each verdict is from right
        w, b = (
            w - rate * (down * p - (up[:, None] * POINTS).mean(axis=0)),
            b - rate * (down - up.mean()),
        )
    f = p @ w + b
    p = p + rate * sigmoid(-f) * w
    kernel, bias = values(gan.discriminator.trainable_variables)
    np.testing.assert_allclose(kernel[:, 0], w, rtol=1e-4)
    np.testing.assert_allclose(bias, [b], rtol=1e-4)
    np.testing.assert_allclose(
        values(gan.generator.trainable_variables)[1], p, rtol=1e-4
    )
    names = ("discriminator_loss", "d_real", "d_fake")
    for name, mean in zip(names, np.mean(seen, axis=0), strict=True):
        assert history[name] == pytest.approx([mean], rel=1e-4)
    assert history["generator_loss"] == pytest.approx([softplus(-f)], rel=1e-4)


class Probe(layers.Layer):
    """Passes everything on, and notes whether it was called in training."""

    def __init__(self, flags):
        super().__init__()
        self.note = flags.append

    def call(self, x, training=None):
        """Note the flag."""
        self.note(training)
        return x


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("loss", ["non_saturating", "wasserstein_gp"])
def test_both_networks_are_told_whether_they_train(loss, training):
    flags = {"generator": [], "discriminator": []}
    generator, discriminator = (
        keras.Sequential([keras.Input((2,)), Probe(flags[name]), layers.Dense(units)])
        for name, units in (("generator", 2), ("discriminator", 1))
    )
    gan = GAN(generator, discriminator, loss=loss)
    x = keras.ops.convert_to_tensor(POINTS.astype("float32"))
    penalty = loss == "wasserstein_gp" and training
    # D: one batch of fakes; real, fake and the penalty are judged. G: one of each
    for player, calls in zip(gan.players(), ((1, 2 + penalty), (1, 1)), strict=True):
        for seen in flags.values():
            seen.clear()
        player.evaluate(x, training)
        assert flags["generator"] == [training] * calls[0]
        assert flags["discriminator"] == [training] * calls[1]


def test_samples_are_what_the_generator_makes_of_numpys_noise():
    gan = make_toy_gan(latent_dim=3)
    z = np.random.default_rng(5).standard_normal((4, 3)).astype("float32")
    exact = keras.ops.convert_to_numpy(gan.generator(z))
    np.testing.assert_allclose(gan.sample(4, seed=5), exact, rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(gan.sample(2), gan.sample(2, seed=0))
    assert gan.sample(1).shape == (1, 2)
    with pytest.raises(ValueError, match=r"`n` must .* Received: 0"):
        gan.sample(0)


def first_fakes(gan):
    return keras.ops.convert_to_numpy(gan._fakes(keras.ops.zeros((5, 2)), True))


def test_settings_survive_the_way_through_a_configuration():
    gan = make_toy_gan(
        latent_dim=3,
        hidden=(5,),
        seed=4,
        loss="wasserstein_gp",
        gp_weight=7.0,
        d_turns=2,
        data_range=(-3.0, None),
    )
    twin = GAN.from_config(gan.get_config())
    for name in ("loss_name", "gp_weight", "d_turns", "data_range", "seed", "data"):
        assert getattr(twin, name) == getattr(gan, name), name
    assert twin.players()[0].turns == 2 and twin.latent_dim == 3
    twin.generator.set_weights(gan.generator.get_weights())
    np.testing.assert_array_equal(first_fakes(twin), first_fakes(gan))  # the same seed
    # Keras on PyTorch adds the count of draws to the seed: 5 would repeat 4, one later.
    other = make_toy_gan(latent_dim=3, hidden=(5,), seed=50)
    other.generator.set_weights(gan.generator.get_weights())
    assert abs(first_fakes(other) - first_fakes(gan)).max() > 1e-3


def test_the_defaults_are_those_of_the_papers():
    toy = make_toy_gan()
    gan = GAN(toy.generator, toy.discriminator)
    assert gan.loss_name == "non_saturating"  # Goodfellow et al., with k = 1
    assert gan.d_turns == 1 and gan.data_range == (-1.0, 1.0) and gan.seed == 0
    assert gan.gp_weight == 10.0  # Gulrajani et al., algorithm 1
    GAN(toy.generator, toy.discriminator, gp_weight=0.0)
    for refused in ({"gp_weight": -1.0}, {"loss": "l2"}):
        with pytest.raises(ValueError, match="Received"):
            GAN(toy.generator, toy.discriminator, **refused)


def stack(network):
    """The layers of a network: kind, and shape of what each returns."""
    return [(type(v).__name__, tuple(v.output.shape[1:])) for v in network.layers]


def of_kind(kind, *networks):
    return [v for n in networks for v in n.layers if isinstance(v, kind)]


def seeds_of_weights(*networks):
    kernels = (v for n in networks for v in n.layers if hasattr(v, "kernel"))
    return [v.kernel_initializer.seed for v in kernels]


def test_the_toy_gan_has_the_widths_that_were_asked_for():
    gan = make_toy_gan(latent_dim=3, hidden=(7, 5), seed=2)
    assert [s for _, s in stack(gan.generator)] == [(7,), (5,), (2,)]
    assert [s for _, s in stack(gan.discriminator)] == [(7,), (5,), (1,)]
    assert seeds_of_weights(gan.generator, gan.discriminator) == [3, 4, 5, 6, 7, 8]
    assert [s for _, s in stack(make_toy_gan().generator)] == [(64,), (64,), (2,)]
    assert make_toy_gan().latent_dim == 2 and make_toy_gan().seed == 0


def check_layers_of_images(gan, seed, rate):
    g, d = gan.generator, gan.discriminator
    for norm in of_kind(layers.BatchNormalization, g):
        assert norm.momentum == 0.9
        before = g.layers[g.layers.index(norm) - 1]
        if not isinstance(before, layers.Reshape):
            assert not before.use_bias  # the norm has one
    for leaky in of_kind(layers.LeakyReLU, g, d):
        assert leaky.negative_slope == pytest.approx(0.2)
    dropped = of_kind(layers.Dropout, d)
    assert {v.rate for v in dropped} == {rate}
    assert [v.seed for v in dropped] == list(range(seed, seed + len(dropped)))
    seeds = seeds_of_weights(g, d)
    assert seeds == list(range(seed + 1, seed + 1 + len(seeds)))
    outputs = [v for v in g.layers if hasattr(v, "activation")][-1], d.layers[-1]
    assert [v.activation.__name__ for v in outputs] == ["tanh", "linear"]
    assert not of_kind(layers.BatchNormalization, d)


def test_the_dense_gan_layer_by_layer():
    gan = make_dense_gan((4, 6, 2), 5, seed=3, dropout=0.4)
    shapes = [s for kind, s in stack(gan.generator) if kind in ("Dense", "Reshape")]
    assert shapes == [(256,), (512,), (48,), (4, 6, 2)]
    assert len(of_kind(layers.BatchNormalization, gan.generator)) == 2
    shapes = [s for kind, s in stack(gan.discriminator) if kind == "Dense"]
    assert shapes == [(512,), (256,), (1,)]
    check_layers_of_images(gan, 3, 0.4)
    plain = make_dense_gan()
    assert plain.sample(1).shape == (1, 16, 16, 1) and plain.latent_dim == 64
    check_layers_of_images(plain, 0, 0.3)


def test_the_dcgan_layer_by_layer():
    gan = make_dcgan((8, 16, 2), 64, (8, 4), seed=3, dropout=0.4)
    kinds = ("Dense", "Reshape", "Conv2D", "Conv2DTranspose")
    shapes = [s for kind, s in stack(gan.generator) if kind in kinds]
    assert shapes == [(64,), (2, 4, 8), (4, 8, 4), (8, 16, 2)]
    assert len(of_kind(layers.BatchNormalization, gan.generator)) == 2
    assert not gan.generator.layers[0].use_bias
    shapes = [s for kind, s in stack(gan.discriminator) if kind in kinds]
    assert shapes == [(4, 8, 4), (2, 4, 8), (1, 2, 16), (1,)]
    check_layers_of_images(gan, 3, 0.4)
    # Radford et al., section 4: weights from a normal distribution; here of width 0.05
    first = values(gan.generator.trainable_variables)[0]
    assert first.std() == pytest.approx(0.05, rel=0.06)
    assert abs(first.mean()) < 5 * 0.05 / 64
    plain = make_dcgan()
    assert plain.sample(1).shape == (1, 16, 16, 1) and plain.latent_dim == 64
    assert ("Reshape", (4, 4, 64)) in stack(plain.generator)
    check_layers_of_images(plain, 0, 0.3)
