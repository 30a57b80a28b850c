"""Games on every engine: whose variables move, what is saved, what is refused."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from genai_utils.backends import batches
from genai_utils.game import Game, Player
from genai_utils.models.gan import make_dcgan, make_dense_gan, make_toy_gan
from genai_utils.models.vae import make_conv_vae, make_dense_vae
from genai_utils.players import Scores

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


def test_a_players_logs_must_be_announced():
    net = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    player = Player("p", [net], lambda x, training: (x, {"extra": x}))
    with pytest.raises(ValueError, match="extra"):
        player.evaluate(1.0, True)


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


def test_several_turns_are_several_steps_and_are_logged_as_a_mean():
    class Twice(Mean):
        def players(self):
            return [Player("mean", [self.net], self.loss_of, ("size",), turns=2)]

    game = Twice()
    game.compile(keras.optimizers.SGD(0.1))
    x = np.array([[1.0], [2.0], [6.0]], dtype="float32")
    history = game.fit(x, batch_size=3, epochs=1, verbose=0).history
    bias = keras.ops.convert_to_numpy(game.net.trainable_variables[1])
    assert bias == pytest.approx([1.08], abs=1e-5)  # 0, 0.6, 1.08: as above
    losses = 41 / 3, 41 / 3 - 6 * 0.6 + 0.36
    assert history["loss"] == pytest.approx([np.mean(losses)], rel=1e-5)
    assert history["size"] == [3.0]
    assert int(keras.ops.convert_to_numpy(game.optimizer.iterations)) == 1


@pytest.mark.parametrize("turns", [0, -1, 1.5])
def test_turns_are_whole_numbers_above_zero(turns):
    class Odd(Mean):
        def players(self):
            return [Player("mean", [self.net], self.loss_of, ("size",), turns)]

    with pytest.raises(ValueError, match=rf"`turns` of.* Received: {turns}"):
        Odd().compile("sgd")


def test_losses_are_told_whether_they_train():
    flags = []

    class Noted(Mean):
        def loss_of(self, x, training):
            flags.append(training)
            return super().loss_of(x, training)

    game, x = Noted(), np.ones((4, 1), "float32")
    game.compile(keras.optimizers.SGD(0.01))
    game.fit(x, verbose=0)
    assert set(flags) == {True}
    flags.clear()
    game.evaluate(x, verbose=0)
    assert set(flags) == {False}


def test_a_game_with_one_number_evaluates_to_that_number():
    class Lone(Mean):
        def players(self):
            return [Player("mean", [self.net], lambda *xs: self.loss_of(*xs)[0])]

    game, x = Lone(), np.array([[1.0], [3.0]], dtype="float32")
    game.compile("sgd")
    assert game.evaluate(x, verbose=0) == pytest.approx(5.0)  # (1 + 9) / 2
    named = game.evaluate(x, verbose=0, return_dict=True)
    assert named == {"loss": pytest.approx(5.0)}


def test_scores_are_means_over_samples():
    scores = Scores(("a", "b"))
    found = {
        k: float(keras.ops.convert_to_numpy(v)) for k, v in scores.result().items()
    }
    assert found == {"a": 0.0, "b": 0.0}
    for a, b, count in ((1.0, -2.0, 3), (5.0, 2.0, 1)):
        scores.update_state({"a": a, "b": b}, count)
    found = {
        k: float(keras.ops.convert_to_numpy(v)) for k, v in scores.result().items()
    }
    assert found == {"a": pytest.approx(2.0), "b": pytest.approx(-1.0)}


def test_what_compile_was_told_is_told_again():
    gan = make_toy_gan()
    gan.compile(
        {"discriminator": keras.optimizers.SGD(0.5), "generator": adam(0.25)},
        run_eagerly=True,
    )
    twin = make_toy_gan()
    twin.compile_from_config(gan.get_compile_config())
    assert twin.run_eagerly
    for name, kind, rate in (
        ("discriminator", keras.optimizers.SGD, 0.5),
        ("generator", keras.optimizers.Adam, 0.25),
    ):
        optimizer = twin.optimizer.players[name]
        assert isinstance(optimizer, kind)  # PyTorch has its own SGD
        found = keras.ops.convert_to_numpy(optimizer.learning_rate)
        assert float(found) == pytest.approx(rate)
