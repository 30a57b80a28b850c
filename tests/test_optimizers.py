"""The players' optimizers as one, and the average of weights that warms up."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import ops

from genai_utils.game import Game
from genai_utils.models.gan import GAN, make_toy_gan
from genai_utils.optimizers import AveragingAdam, PlayerOptimizers, one_for_each

pytestmark = pytest.mark.engines
X = np.random.default_rng(0).uniform(-1, 1, (40, 2)).astype("float32")


def number(x):
    return float(ops.convert_to_numpy(x))


def rates(model):
    return [number(o.learning_rate) for o in model.optimizer.players.values()]


def two_rates(**kwargs):
    gan = make_toy_gan(**kwargs)
    d, g = keras.optimizers.Adam(4e-4), keras.optimizers.Adam(1e-4)
    gan.compile({"discriminator": d, "generator": g})
    return gan


def scheduler(function):
    return keras.callbacks.LearningRateScheduler(function)


def plateau():
    return keras.callbacks.ReduceLROnPlateau(
        "generator_loss", factor=0.5, patience=0, min_delta=1e9, mode="min"
    )


@pytest.mark.parametrize(
    ("callback", "first"),
    [
        (scheduler(lambda epoch, rate: rate), 4e-4),
        (scheduler(lambda epoch, rate: rate / 2), 1e-4),
        (scheduler(lambda epoch: 1e-3), 1e-3),
        (plateau(), 2e-4),
    ],
    ids=["kept", "halved", "set", "plateau"],
)
def test_two_rates_keep_their_ratio(callback, first):
    gan = two_rates()
    gan.fit(X, epochs=2, callbacks=[callback], verbose=0)
    assert rates(gan) == pytest.approx([first, first / 4], rel=1e-5)


def test_the_ratio_survives_a_rate_of_zero():
    gan = two_rates()
    gan.optimizer.learning_rate = 0.0
    assert rates(gan) == [0.0, 0.0]
    gan.optimizer.learning_rate = 4e-4
    assert rates(gan) == pytest.approx([4e-4, 1e-4], rel=1e-5)


def test_a_schedule_cannot_be_overwritten_by_halves():
    gan = make_toy_gan()
    schedule = keras.optimizers.schedules.CosineDecay(1e-3, 10)
    g = keras.optimizers.Adam(schedule)
    gan.compile({"discriminator": keras.optimizers.Adam(1e-3), "generator": g})
    with pytest.raises(TypeError, match=r"generator.*schedule"):
        gan.optimizer.learning_rate = 0.5
    assert rates(gan)[0] == pytest.approx(1e-3)
    gan.fit(X, batch_size=8, epochs=2, verbose=0)
    assert rates(gan) == pytest.approx([1e-3, 0.0], abs=1e-8)


def test_iterations_count_rounds_and_players_count_turns():
    gan = two_rates(d_turns=2)
    gan.fit(X, batch_size=4, epochs=1, verbose=0)
    counts = [number(o.iterations) for o in gan.optimizer.players.values()]
    assert number(gan.optimizer.iterations) == 10 and counts == [20, 10]


def test_two_players_of_one_name_are_refused():
    class Twice(GAN):
        def players(self):
            d, g = super().players()
            return [d, d, g]

    toy = make_toy_gan()
    gan = Twice(toy.generator, toy.discriminator, data_range=(None, None))
    with pytest.raises(ValueError, match=r"different names.*turns=5"):
        gan.compile("adam")
    with pytest.raises(ValueError, match="`turns` of player"):
        make_toy_gan(d_turns=0).compile("adam")


def test_each_turn_draws_new_noise():
    class Noted(GAN):
        def _fakes(self, x, training, labels=()):
            fake = super()._fakes(x, training, labels)
            self.noted.append(ops.convert_to_numpy(fake))
            return fake

    toy = make_toy_gan()
    gan = Noted(toy.generator, toy.discriminator, d_turns=2, data_range=(None, None))
    gan.noted = []
    still = {"discriminator": "sgd", "generator": keras.optimizers.SGD(0.0)}
    gan.compile(still, run_eagerly=True)
    if keras.backend.backend() == "jax":  # nothing can be noted while it is traced
        for player in gan.players():
            for _ in range(player.turns):
                player.evaluate(ops.convert_to_tensor(X), True)
    else:
        gan.fit(X, batch_size=40, verbose=0)
    assert [len(n) for n in gan.noted] == [40, 40, 40]  # as many as real ones
    assert all(
        abs(a - b).max() > 0.01 for i, a in enumerate(gan.noted) for b in gan.noted[:i]
    )


def test_training_noise_has_the_distribution_that_sample_draws():
    same = keras.Sequential([keras.Input((6,)), keras.layers.Identity()])
    judge = keras.Sequential([keras.Input((6,)), keras.layers.Dense(1)])
    gan = GAN(same, judge, data_range=(None, None))  # its samples are its noise
    parts = [ops.convert_to_numpy(gan._fakes(ops.zeros((50, 6)), True))]
    parts += [ops.convert_to_numpy(gan._fakes(ops.zeros((9950, 6)), True))]
    assert [len(p) for p in parts] == [50, 9950]
    for z in (np.concatenate(parts), gan.sample(10_000)):
        assert abs(z.mean(axis=0)).max() < 5 / 100  # 5 standard errors
        np.testing.assert_allclose(np.cov(z.T), np.eye(6), atol=0.08)
        assert abs((np.abs(z) < 1).mean() - 0.6827) < 0.01  # a Gaussian, not uniform


def test_averaging_adam_follows_its_formula():
    gan = make_toy_gan()
    g = AveragingAdam(1e-2, memory=0.5)
    gan.compile({"discriminator": "adam", "generator": g})
    variable = gan.generator.trainable_variables[0]
    mean = None
    for t in range(6):
        gan.fit(X, batch_size=40, verbose=0)  # one step; then w is the average
        average = ops.convert_to_numpy(g._model_variables_moving_average[0])
        memory = min(0.5, (1 + t) / (10 + t)) if t else 0.0
        if mean is not None:
            # `fit` wrote the average into w, so the new w is what Adam made of it
            step = ops.convert_to_numpy(variable)
            np.testing.assert_allclose(step, average, atol=1e-7)
            assert abs(average - mean).max() > 0
        mean = average
        assert number(g.ema_momentum) == pytest.approx(
            min(0.5, (2 + t) / (11 + t)), rel=1e-6
        )
        assert memory <= 0.5


def test_the_average_warms_up_where_a_fixed_memory_has_hardly_begun():
    class Line(keras.layers.Layer):
        def __init__(self):
            super().__init__()
            self.w = self.add_weight((), "zeros", name="w")

    def distance(make):
        """How far the average is behind weights that move one step a step."""
        line = Line()
        optimizer = make()
        optimizer.build([line.w])
        for _ in range(100):
            optimizer.apply([ops.convert_to_tensor(np.float32(-1.0))], [line.w])
        average = optimizer._model_variables_moving_average[0]
        return number(line.w) - number(average)

    warm = distance(lambda: AveragingAdam(1.0, memory=0.998))
    cold = distance(
        lambda: keras.optimizers.Adam(1.0, use_ema=True, ema_momentum=0.998)
    )
    # a mean over the last tenth of the way, against one that stands at the start
    assert 5 < warm < 15 and cold > 80


def test_averaging_adam_is_saved_with_its_memory():
    again = AveragingAdam.from_config(AveragingAdam(1e-2, memory=0.9).get_config())
    assert again.memory == 0.9 and again.use_ema
    assert number(again.learning_rate) == pytest.approx(1e-2)


def test_swap_ema_weights_of_keras_works():
    gan = make_toy_gan()
    g = keras.optimizers.Adam(1e-2, use_ema=True, ema_momentum=0.5)
    gan.compile({"discriminator": "adam", "generator": g})
    own, lent = [], []

    class Look(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            own.append(ops.convert_to_numpy(gan.generator.trainable_variables[0]))

        def on_test_end(self, logs=None):
            lent.append(ops.convert_to_numpy(gan.generator.trainable_variables[0]))

    swap = keras.callbacks.SwapEMAWeights()
    gan.fit(X, validation_data=X, verbose=0, callbacks=[Look(), swap])
    average = ops.convert_to_numpy(g._model_variables_moving_average[0])
    np.testing.assert_allclose(lent[0], average, atol=1e-6)
    assert abs(own[0] - lent[0]).max() > 1e-5


def test_a_game_without_averages_refuses_to_swap_them():
    gan = two_rates()
    assert isinstance(gan, Game) and not gan.optimizer.use_ema


def test_losses_are_scaled_where_asked_and_never_twice():
    scaler = keras.optimizers.LossScaleOptimizer
    given = {
        "plain": keras.optimizers.Adam(),
        "scaled": scaler(keras.optimizers.Adam()),
        "fixed": keras.optimizers.Adam(loss_scale_factor=8.0),
    }
    found = one_for_each(list(given), given, True)
    assert list(found) == list(given)
    assert isinstance(found["plain"], scaler)
    assert found["plain"].inner_optimizer is given["plain"]
    assert found["scaled"] is given["scaled"] and found["fixed"] is given["fixed"]
    unscaled = one_for_each(list(given), given, False)
    assert all(unscaled[name] is given[name] for name in given)


def test_a_name_makes_one_optimizer_for_each_player():
    found = one_for_each(["a", "b"], "sgd", False)
    assert all(isinstance(o, keras.optimizers.SGD) for o in found.values())
    assert found["a"] is not found["b"]
    own = keras.optimizers.SGD(0.5)
    assert one_for_each(["a"], own, False) == {"a": own}


def test_the_players_optimizers_survive_a_configuration():
    joint = PlayerOptimizers(
        {"one": keras.optimizers.SGD(0.5), "two": AveragingAdam(0.25, memory=0.75)},
        name="both",
    )
    twin = PlayerOptimizers.from_config(joint.get_config())
    assert twin.name == "both" and list(twin.players) == ["one", "two"]
    one, two = twin.players.values()
    assert isinstance(one, keras.optimizers.SGD) and type(two) is AveragingAdam
    assert [number(o.learning_rate) for o in (one, two)] == [0.5, 0.25]
    assert two.memory == 0.75 and twin.use_ema
    assert number(twin.learning_rate) == 0.5  # the first player's


def test_averaging_adam_is_adam_unless_told_otherwise():
    plain, ours = keras.optimizers.Adam(), AveragingAdam()
    assert (ours.beta_1, ours.beta_2) == (plain.beta_1, plain.beta_2)
    assert number(ours.learning_rate) == pytest.approx(number(plain.learning_rate))
    assert ours.memory == 0.998
