"""Detectors against numbers by hand: a linear discriminator, samples that are known."""

from __future__ import annotations

import warnings

import keras
import numpy as np
import pytest
from keras import layers, ops

from genai_utils import data, metrics
from genai_utils.models.gan import GAN, make_toy_gan
from genai_utils.watch import DiscriminatorWatch, ModeCoverage, mode_finder

pytestmark = pytest.mark.engines
RNG = np.random.default_rng(0)
RING, CENTERS = data.toy("ring", 400, seed=1), data.toy_centers("ring")


def adam():
    return {n: keras.optimizers.Adam(1e-3) for n in ("discriminator", "generator")}


def linear(weights, bias, places=((1.0, 0.0), (0.0, 1.0)), at=(0.0, 0.0)):
    """A game whose networks are x A + at and w x + b, and which never moves."""
    g = keras.Sequential([keras.Input((2,)), layers.Dense(2)])
    d = keras.Sequential([keras.Input((2,)), layers.Dense(1)])
    g.set_weights([np.array(places), np.array(at)])
    d.set_weights([np.array(weights)[:, None], np.array([bias])])
    gan = GAN(g, d, data_range=(None, None))
    still = {n: keras.optimizers.SGD(0.0) for n in ("discriminator", "generator")}
    gan.compile(still)
    return gan


def fit(gan, watch, epochs=1, x=RING):
    """Train; return what the watch warned of."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        gan.fit(x, epochs=epochs, batch_size=200, callbacks=[watch], verbose=0)
    return [str(w.message) for w in caught if w.category is UserWarning]


def test_modes_are_those_of_the_metric():
    points = np.concatenate([RING[:100], RNG.normal(0, 2, (100, 2))])
    found = mode_finder(CENTERS, 0.3)(points)
    covered, near = metrics.mode_coverage(points, CENTERS, 0.3)
    assert len(set(found) - {-1}) == covered
    assert (found >= 0).mean() == pytest.approx(near)
    np.testing.assert_array_equal(mode_finder(CENTERS, 0.3)(CENTERS), np.arange(8))


def test_mode_coverage_counts_what_the_generator_makes():
    watch = ModeCoverage(mode_finder(CENTERS, 0.3), 8, samples=500, seed=3)
    gan = linear([0.0, 0.0], 0.0)
    assert fit(gan, watch) == []  # patience is 10 looks
    points = np.random.default_rng(3).standard_normal((500, 2))
    covered, near = metrics.mode_coverage(points, CENTERS, 0.3, 5)
    assert watch.history["covered"] == [covered] and 0 < covered < 8
    assert watch.history["near"][0] == pytest.approx(near)
    assert watch.history["shares"][0].shape == (8,)


def test_a_collapse_is_told_once_with_its_numbers():
    watch = ModeCoverage(mode_finder(CENTERS, 0.3), 8, patience=2, every=2)
    gan = linear([0.0, 0.0], 0.0, np.zeros((2, 2)), at=CENTERS[3])
    (message,) = fit(gan, watch, epochs=9)
    assert message.startswith("Epoch 4: mode collapse. Samples cover 1 of 8 modes")
    assert "mode 3 gets 100% of the samples, 0% are near none" in message
    assert watch.history["epoch"] == [2, 4, 6, 8]
    assert watch.history["covered"] == [1, 1, 1, 1]
    assert len(fit(gan, watch, epochs=4)) == 1  # a new training, a new history
    assert watch.history["epoch"] == [2, 4]


def test_a_look_that_is_well_starts_the_count_again():
    answers = iter([0, 0, 4, 0, 0, 0])

    def modes_of(x):
        k = next(answers)
        return np.arange(len(x)) % 4 if k else np.zeros(len(x))

    watch = ModeCoverage(modes_of, 4, patience=3, samples=40)
    (message,) = fit(linear([0.0, 0.0], 0.0), watch, epochs=6)
    assert message.startswith("Epoch 6: mode collapse. Samples cover 1 of 4")
    assert watch.history["covered"] == [1, 1, 4, 1, 1, 1]


def test_the_discriminators_numbers_are_those_by_hand():
    w, b = np.array([0.3, -0.4]), 0.2
    held_out = RING[200:] + 0.5
    watch = DiscriminatorWatch(RING[:200], held_out, samples=100, seed=5)
    assert fit(linear(w, b), watch) == []
    fakes = np.random.default_rng(5).standard_normal((100, 2))
    real, held, fake = (x @ w + b for x in (RING[:100], held_out[:100], fakes))
    p, now = 1 / (1 + np.exp(-fake)), {k: v[0] for k, v in watch.history.items()}
    assert now["real_logit"] == pytest.approx(real.mean(), abs=1e-5)
    assert now["fake_logit"] == pytest.approx(fake.mean(), abs=1e-5)
    assert now["held_out_logit"] == pytest.approx(held.mean(), abs=1e-5)
    right = 0.5 * np.mean(real > 0) + 0.5 * np.mean(fake < 0)
    assert now["right"] == pytest.approx(right)
    assert now["minimax_gradient"] == pytest.approx(0.5 * p.mean(), rel=1e-4)
    assert now["non_saturating_gradient"] == pytest.approx(
        0.5 * (1 - p).mean(), rel=1e-4
    )
    assert now["memory"] == 0.0  # real and generated are not apart


def test_a_discriminator_that_wins_and_memorises_is_told():
    training, held_out = np.full((50, 2), 4.0), np.full((50, 2), 1.0)
    gan = linear([2.0, 0.0], -4.0, np.eye(2) * 0.01)  # logits 4, -2 and about -4
    watch = DiscriminatorWatch(training, held_out, patience=2)
    wins, memorises = fit(gan, watch, epochs=4)
    assert wins.startswith("Epoch 2: the discriminator wins. It is right on 100.0%")
    assert "is 0.036 with the minimax loss, 2 with the non-saturating" in wins
    assert memorises.startswith("Epoch 2: the discriminator memorises.")
    assert "6.0 above those of held-out ones, 75% of the way" in memorises
    assert watch.history["memory"][-1] == pytest.approx(0.75, abs=0.01)
    quiet = DiscriminatorWatch(training, patience=2, wins=1.1)
    assert fit(gan, quiet, epochs=4) == []
    assert "memory" not in quiet.history


def test_watching_changes_nothing():
    def trained(*callbacks):
        keras.utils.set_random_seed(0)
        gan = make_toy_gan(hidden=(8,), minibatch=True)
        gan.compile(adam())
        settings = {"epochs": 3, "batch_size": 100, "verbose": 0}
        gan.fit(RING, callbacks=list(callbacks), **settings)
        return gan.get_weights()

    watches = (
        ModeCoverage(mode_finder(CENTERS, 0.3), 8),
        DiscriminatorWatch(RING[:100], RING[100:]),
    )
    for a, b in zip(trained(), trained(*watches), strict=True):
        np.testing.assert_array_equal(a, b)
    assert len(watches[1].history["memory"]) == 3


def test_games_with_classes_and_nonsense_are_refused():
    with pytest.raises(ValueError, match="`held_out` must have shape"):
        DiscriminatorWatch(RING, np.zeros((3, 4)))
    with pytest.raises(ValueError, match="`patience` must be"):
        ModeCoverage(mode_finder(CENTERS, 0.3), 8, patience=0)
    z, y = keras.Input((2,)), keras.Input((1,), dtype="int32")
    both = layers.Concatenate()([z, ops.cast(y, "float32")])
    g, d = (keras.Model([z, y], layers.Dense(n)(both)) for n in (2, 1))
    gan = GAN(g, d, num_classes=3, data_range=(None, None))
    gan.compile(adam())
    labels = np.arange(400) % 3
    with pytest.raises(ValueError, match="looks at games without classes"):
        gan.fit(RING, labels, callbacks=[DiscriminatorWatch(RING)], verbose=0)
    watch = ModeCoverage(mode_finder(CENTERS, 0.3), 8, samples=30)
    gan.fit(RING, labels, callbacks=[watch], verbose=0)  # samples of all classes
    assert len(watch.history["covered"]) == 1
    wrong = ModeCoverage(lambda x: np.full(len(x), 9), 8)
    with pytest.raises(ValueError, match=r"`modes_of\(x\)` must lie in \[-1, 7\]"):
        gan.fit(RING, labels, callbacks=[wrong], verbose=0)
