"""Games on every engine: whose variables move, what is saved, what is refused."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from genai_utils import losses
from genai_utils.backends import batches, value_and_gradients
from genai_utils.game import Game, Player
from genai_utils.models.gan import GAN, make_dcgan, make_dense_gan, make_toy_gan
from genai_utils.models.vae import make_conv_vae, make_dense_vae

pytestmark = pytest.mark.engines
X = np.random.default_rng(0).uniform(-1, 1, (48, 8, 8, 1)).astype("float32")
SMALL = {"image_shape": (8, 8, 1), "latent_dim": 4}


def values(variables):
    return [keras.ops.convert_to_numpy(v).copy() for v in variables]


def changed(before, after):
    return [not np.array_equal(a, b) for a, b in zip(before, after, strict=True)]


def adam(rate=1e-3):
    return keras.optimizers.Adam(rate, beta_1=0.5)


def compiled(gan):
    gan.compile({"discriminator": adam(), "generator": adam()})
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


def test_evaluating_learns_nothing():
    gan = compiled(make_dense_gan(**SMALL))
    before = values(gan.trainable_variables)
    logs = gan.evaluate(X, batch_size=16, verbose=0, return_dict=True)
    assert not any(changed(before, values(gan.trainable_variables)))
    assert logs["discriminator_loss"] > 0


def test_a_frozen_layer_stands_still_until_the_game_is_compiled_again():
    gan = make_dense_gan(**SMALL)
    first, *others = (layer for layer in gan.generator.layers if layer.weights)
    for trainable in (False, True):
        first.trainable = trainable
        compiled(gan)
        before = values(first.weights), values(others[-1].weights)
        gan.fit(X, batch_size=16, epochs=1, verbose=0)
        assert set(changed(before[0], values(first.weights))) == {trainable}
        assert all(changed(before[1], values(others[-1].weights)))


class Mean(Game):
    """One variable that learns the mean of the data: its step can be done by hand."""

    def __init__(self):
        super().__init__()
        self.net = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])

    def players(self):
        return [Player("mean", [self.net], self.loss_of, logs=("size",))]

    def loss_of(self, x, training):
        zero = keras.ops.zeros_like(x)
        loss = keras.ops.mean(keras.ops.square(self.net(zero) - x))
        return loss, {"size": keras.ops.cast(keras.ops.shape(x)[0], "float32")}


def test_fit_takes_the_step_that_is_done_by_hand():
    game = Mean()
    game.compile(keras.optimizers.SGD(0.1))
    x = np.array([[1.0], [2.0], [6.0]], dtype="float32")
    history = game.fit(x, batch_size=3, epochs=2, shuffle=False, verbose=0).history
    bias = float(keras.ops.convert_to_numpy(game.net.trainable_variables[1])[0])
    # b <- b - 0.1 * 2 (b - 3), from 0: 0.6, then 1.08; losses are E (x - b)^2
    assert bias == pytest.approx(1.08, abs=1e-5)
    assert history["loss"] == pytest.approx([41 / 3, 41 / 3 - 6 * 0.6 + 0.36], rel=1e-5)


def test_logs_are_means_over_samples_not_batches():
    game = Mean()
    game.compile(keras.optimizers.SGD(0.0))
    x = np.array([[0.0], [0.0], [0.0], [2.0]], dtype="float32")
    history = game.fit(x, batch_size=3, epochs=1, shuffle=False, verbose=0).history
    assert history["loss"][0] == pytest.approx(1.0)  # (0 + 0 + 0 + 4) / 4
    assert history["size"][0] == pytest.approx((3 * 3 + 1) / 4)


def test_evaluate_gives_its_numbers_in_the_players_order():
    gan = compiled(make_dense_gan(**SMALL))
    keywords = {"batch_size": 16, "verbose": 0}
    named = gan.evaluate(X, return_dict=True, **keywords)
    assert list(named) == ["discriminator_loss", "d_real", "d_fake", "generator_loss"]
    # the verdicts on the data have no noise in them (dropout is off)
    verdicts = 1 / (1 + np.exp(-keras.ops.convert_to_numpy(gan.discriminator(X))))
    assert named["d_real"] == pytest.approx(verdicts.mean(), rel=1e-4)
    listed = gan.evaluate(X, **keywords)
    assert listed[1] == pytest.approx(named["d_real"], rel=1e-4)
    assert len(listed) == 4


def test_evaluate_looks_at_its_data():
    game = Mean()
    game.compile(keras.optimizers.SGD(0.0))
    x = np.array([[0.0], [np.nan]], dtype="float32")
    with pytest.raises(ValueError, match="NaN"):
        game.evaluate(x, verbose=0)
    with pytest.raises(ValueError, match="`x` must hold samples"):
        game.evaluate()


def test_validation_data_are_evaluated_after_each_epoch():
    game = Mean()
    game.compile(keras.optimizers.SGD(0.1))
    x, other = (np.array([[v]], dtype="float32") for v in (3.0, 5.0))
    fit = game.fit(x, epochs=2, validation_data=other, verbose=0)
    # after the steps b = 0.6, then 1.08, as by hand above
    expected = [(5 - 0.6) ** 2, (5 - 1.08) ** 2]
    assert fit.history["val_loss"] == pytest.approx(expected, rel=1e-5)


def number(tensor):
    return float(keras.ops.convert_to_numpy(tensor))


def test_gan_losses_are_those_of_the_logits():
    gan = compiled(make_toy_gan())
    x = np.random.default_rng(1).normal(size=(16, 2)).astype("float32")
    loss, logs = gan.players()[0].evaluate(keras.ops.convert_to_tensor(x), False)
    real = keras.ops.convert_to_numpy(gan.discriminator(x))
    by_hand = (1 / (1 + np.exp(-real))).mean()
    assert number(logs["d_real"]) == pytest.approx(by_hand, rel=1e-4)
    # softplus(-a) and softplus(a), averaged: the real half is known exactly
    assert number(loss) > np.log1p(np.exp(-real)).mean()


MODELS = {
    "dense VAE": lambda: make_dense_vae(**SMALL, hidden=(16,)),
    "conv VAE": lambda: make_conv_vae(**SMALL, filters=(4, 8)),
    "dense GAN": lambda: make_dense_gan(**SMALL),
    "DCGAN": lambda: make_dcgan(**SMALL, filters=(8, 4)),
}


@pytest.mark.parametrize("name", MODELS)
def test_saved_and_loaded_it_continues_identically(name, tmp_path):
    keras.utils.set_random_seed(0)
    model = MODELS[name]()
    names = [p.name for p in model.players()]
    model.compile({n: adam() for n in names})
    model.fit(X, batch_size=16, epochs=1, verbose=0)
    model.save(tmp_path / "model.keras")
    twin = keras.saving.load_model(tmp_path / "model.keras")
    histories = [
        m.fit(X, batch_size=16, epochs=2, shuffle=False, verbose=0).history
        for m in (model, twin)
    ]
    for key in histories[0]:
        np.testing.assert_array_equal(histories[0][key], histories[1][key])
    for a, b in zip(values(model.variables), values(twin.variables), strict=True):
        np.testing.assert_array_equal(a, b)


def test_callbacks_of_keras_work():
    vae = make_dense_vae(**SMALL, hidden=(16,))
    vae.compile(adam(1e-2))
    stop = keras.callbacks.EarlyStopping("val_loss", patience=0, min_delta=1e9)
    rates = keras.callbacks.LearningRateScheduler(lambda epoch: 0.5 / (epoch + 1))
    history = vae.fit(
        X, validation_data=X[:8], epochs=9, verbose=0, callbacks=[stop, rates]
    )
    assert len(history.history["val_loss"]) == 2
    rate = keras.ops.convert_to_numpy(vae.optimizer.players["vae"].learning_rate)
    assert rate == pytest.approx(0.25)


def test_averaged_weights_are_written_after_fit():
    gan = make_dense_gan(**SMALL)
    g = keras.optimizers.Adam(1e-2, use_ema=True, ema_momentum=0.5)
    gan.compile({"discriminator": adam(), "generator": g})
    gan.fit(X, batch_size=16, epochs=1, verbose=0)
    averages = values(g._model_variables_moving_average)
    assert not any(changed(averages, values(gan.generator.trainable_variables)))


BAD_DATA = {
    "NaN": np.full_like(X, np.nan),
    "at least one value": X[:0],
    "lie in": X * 255,
}


@pytest.mark.parametrize("message", BAD_DATA)
@pytest.mark.parametrize("make", [make_dense_gan, make_dense_vae])
def test_fit_refuses_bad_data_and_keeps_what_was(message, make):
    model = make(**SMALL)
    model.compile({p.name: adam() for p in model.players()})
    before = values(model.variables)
    with pytest.raises(ValueError, match=message) as error:
        model.fit(BAD_DATA[message], epochs=1, verbose=0)
    assert "`x`" in str(error.value) and "Received" in str(error.value)
    assert not any(changed(before, values(model.variables)))


def test_fit_refuses_targets_and_nothing():
    model = compiled(make_dense_gan(**SMALL))
    for extra in ("y", "sample_weight", "class_weight"):
        for method in (model.fit, model.evaluate):
            with pytest.raises(TypeError, match=f"no targets.*`{extra}`"):
                method(X, **{extra: X})
    with pytest.raises(ValueError, match="Received: None"):
        model.fit()


def test_a_loss_that_explodes_is_reported():
    game = Mean()
    game.compile(keras.optimizers.SGD(1e30))
    with pytest.raises(FloatingPointError, match="epoch"):
        game.fit(np.ones((4, 1), "float32"), epochs=5, verbose=0)


def test_a_loss_that_explodes_ends_the_epoch_early():
    game, seen = Mean(), []
    game.compile(keras.optimizers.SGD(1e30))
    note = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: seen.append(batch)
    )
    with pytest.raises(FloatingPointError, match="epoch 1"):
        game.fit(
            np.ones((400, 1), "float32"), batch_size=1, callbacks=[note], verbose=0
        )
    assert len(seen) < 40


def test_compile_refuses_what_it_cannot_honour():
    gan = make_toy_gan()
    with pytest.raises(ValueError, match="must be a dictionary"):
        gan.compile(adam())
    with pytest.raises(ValueError, match="must name exactly"):
        gan.compile({"discriminator": adam()})
    with pytest.raises(ValueError, match="loss"):
        gan.compile("adam", loss="mse")


def test_networks_that_do_not_fit_are_refused():
    gan = make_toy_gan()
    with pytest.raises(ValueError, match="what `discriminator` takes"):
        GAN(gan.discriminator, gan.discriminator)
    with pytest.raises(ValueError, match="one logit"):
        GAN(gan.generator, gan.generator)
    with pytest.raises(ValueError, match="divisible by 4"):
        make_dcgan((9, 9, 1))


def test_a_players_logs_must_be_announced():
    net = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    player = Player("p", [net], lambda x, training: (x, {"extra": x}))
    with pytest.raises(ValueError, match="extra"):
        player.evaluate(1.0, True)


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
    from scipy.stats import multivariate_normal

    from genai_utils.models.vae import VAE

    vae = VAE(encoder, decoder, sigma=0.5)
    x = rng.uniform(-0.5, 0.5, (6, 2, 2, 1)).astype("float32")
    exact = multivariate_normal(b, w.T @ w + 0.25 * np.eye(4)).logpdf(x.reshape(6, 4))
    np.testing.assert_allclose(vae.log_likelihood(x, 400), exact, atol=0.1)
    bounds = [
        np.mean([vae.log_likelihood(x, k, seed=s).mean() for s in range(20)])
        for k in (1, 5)
    ]
    elbo = np.mean([vae.elbo(x, seed=s).mean() for s in range(20)])
    # with q = prior: ELBO = E_z log p(x|z), in closed form
    squares = ((x.reshape(6, 4) - b) ** 2).sum(axis=1) + (w**2).sum()
    closed = (-squares / 0.5 - 2 * np.log(2 * np.pi * 0.25)).mean()
    assert elbo == pytest.approx(closed, abs=0.15)
    assert bounds[0] == pytest.approx(elbo, abs=0.15)  # K = 1 is the ELBO
    assert bounds[0] < bounds[1] < exact.mean() + 0.02


def test_bernoulli_vae_draws_probabilities():
    vae = make_dense_vae(**SMALL, hidden=(16,), likelihood="bernoulli")
    a = keras.ops.convert_to_numpy(vae.decoder(np.zeros((1, 4), "float32")))
    expected = 2 / (1 + np.exp(-a)) - 1
    np.testing.assert_allclose(vae.decode(np.zeros((1, 4))), expected, atol=1e-5)
    nll = keras.ops.convert_to_numpy(vae.nll(keras.ops.ones((1, 8, 8, 1)), a))
    exact = losses.bernoulli_nll(keras.ops.ones((1, 8, 8, 1)), a)
    np.testing.assert_allclose(nll, keras.ops.convert_to_numpy(exact), rtol=1e-5)


def test_bernoulli_vae_has_no_scale_to_learn():
    vae = make_dense_vae(**SMALL, hidden=(16,), likelihood="bernoulli")
    vae.compile("adam")
    vae.fit(np.zeros((8, 8, 8, 1), "float32"), verbose=0)  # warnings are errors here
    assert vae.scale.trainable_variables == []
    assert float(vae.scale.sigma()) == 1.0


def test_unshuffled_fit_sees_the_batches_that_keras_would_cut():
    x = np.random.default_rng(0).uniform(-1, 1, (21, 8, 8, 1)).astype("float32")
    weights = []
    for fit in (Game.fit, keras.Model.fit):
        keras.utils.set_random_seed(1)
        vae = make_dense_vae(**SMALL, hidden=(16,))
        vae.compile("adam")
        # the last batch holds 5
        fit(vae, x, batch_size=8, epochs=3, shuffle=False, verbose=0)
        weights.append([keras.ops.convert_to_numpy(w) for w in vae.weights])
    for ours, theirs in zip(*weights, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_validation_split_holds_out_the_last_samples():
    x = np.arange(8, dtype="float32")[:, None]
    seen = []
    for kwargs in ({"validation_split": 0.25}, {"validation_data": x[6:]}):
        game = Mean()
        game.compile(keras.optimizers.SGD(0.01))
        data = x if "validation_split" in kwargs else x[:6]
        seen.append(
            game.fit(data, batch_size=3, shuffle=False, verbose=0, **kwargs).history
        )
    assert seen[0] == seen[1] and "val_loss" in seen[0]
    for share in (1.0, 1.5, -0.5):
        with pytest.raises(ValueError, match="validation_split"):
            game.fit(x, validation_split=share, verbose=0)


def test_validation_in_a_tuple_is_checked_before_training():
    model = compiled(make_dense_gan(**SMALL))
    before = values(model.variables)
    with pytest.raises(TypeError, match="`y`"):
        model.fit(X, validation_data=(X, X), verbose=0)
    with pytest.raises(ValueError, match="`validation_data` must be finite"):
        model.fit(X, validation_data=(X * np.nan,), verbose=0)
    assert not any(changed(before, values(model.variables)))
    logs = model.fit(X, validation_data=(X, None), verbose=0).history
    assert "val_generator_loss" in logs


@pytest.mark.parametrize("size", [0, -1, 2.5])
def test_fit_refuses_a_batch_size_that_is_none(size):
    model = compiled(make_dense_gan(**SMALL))
    with pytest.raises(ValueError, match="`batch_size` must be a whole number"):
        model.fit(X, batch_size=size, verbose=0)


def test_fit_takes_flipped_and_read_only_arrays_and_a_lone_callback():
    x = np.ascontiguousarray(X)
    x.setflags(write=False)
    seen = []
    note = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: seen.append(epoch)
    )
    model = compiled(make_dense_gan(**SMALL))
    model.fit(x[:, ::-1], callbacks=note, verbose=0)
    model.fit(x, batch_size=np.int64(16), verbose=0)
    assert seen == [0]


def test_validation_is_cut_like_training_unless_told_otherwise():
    x = np.ones((6, 1), "float32")
    for extra, size in (({}, 2), ({"validation_batch_size": 3}, 3)):
        game = Mean()
        game.compile(keras.optimizers.SGD(0.01))
        kwargs = {"batch_size": 2, "validation_data": x, "verbose": 0, **extra}
        assert game.fit(x, **kwargs).history["val_size"] == [size]


@pytest.mark.skipif(
    batches((X,), 1, True) is None, reason="Keras cuts the data for this backend"
)
def test_each_epoch_is_a_new_permutation_and_a_seed_repeats_it():
    x = np.arange(300, dtype="float32")

    def two_epochs(seed):
        keras.utils.set_random_seed(seed)
        epoch = batches((x,), 64, shuffle=True)
        assert len(epoch) == 5
        return [[b.numpy() for (b,) in epoch] for _ in range(2)]

    epochs = two_epochs(1)
    for epoch in epochs:
        assert [len(b) for b in epoch] == [64, 64, 64, 64, 44]
        np.testing.assert_array_equal(np.sort(np.concatenate(epoch)), x)
    first, second = (np.concatenate(e) for e in epochs)
    assert (first != second).mean() > 0.9 and (first != x).mean() > 0.9
    # where a sample lands does not depend on where it stood
    assert abs(np.corrcoef(first, x)[0, 1]) < 0.25
    np.testing.assert_array_equal(np.concatenate(two_epochs(1)[0]), first)
    assert (np.concatenate(two_epochs(2)[0]) != first).mean() > 0.9


def test_a_method_whose_name_keras_takes_is_refused_and_told():
    for name in ("loss", "metrics", "optimizer", "history", "variables"):
        taken = type("Taken", (Mean,), {name: lambda self, x, training: 0.0})
        with pytest.raises((ValueError, AttributeError), match=name) as error:
            taken().compile("sgd")
        if isinstance(error.value, ValueError):
            assert f"{name}_of" in str(error.value)


def test_the_names_that_keras_takes_are_those_that_a_training_sets():
    from genai_utils.players import _TAKEN

    plain = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    before = set(vars(plain))
    plain.compile("sgd", "mse")
    plain.fit(np.ones((2, 1)), np.ones((2, 1)), verbose=0)
    made = {n for n in set(vars(plain)) - before if not n.startswith("_")}
    assert {"loss", "history", "stop_training"} <= _TAKEN
    assert made - {"loss_weights"} <= _TAKEN


def test_predict_and_export_say_what_to_use():
    gan = compiled(make_toy_gan())
    for use in (gan.predict, gan.export, gan):
        with pytest.raises(NotImplementedError, match=r"model\.generator\.export"):
            use(np.zeros((1, 2), "float32"))


def test_a_game_with_a_call_of_its_own_predicts():
    class Called(Mean):
        def call(self, x):
            return 2 * x

    assert Called().predict(np.ones((2, 1)), verbose=0).tolist() == [[2.0], [2.0]]
