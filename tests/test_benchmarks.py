"""The benchmarks' own measures against brute force."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.scale import bend

quality = pytest.importorskip("benchmarks.quality")


def test_precision_and_recall_against_loops():
    rng = np.random.default_rng(0)
    real, fake = rng.normal(size=(40, 3)), rng.normal(0.5, 0.5, size=(30, 3))

    def near(points, members, k):
        count = 0
        for p in points:
            for m in members:
                others = sorted(np.linalg.norm(m - o) for o in members)
                if np.linalg.norm(p - m) <= others[k]:
                    count += 1
                    break
        return count / len(points)

    found = quality.precision_recall(real, fake, k=2)
    assert np.allclose(found, (near(fake, real, 2), near(real, fake, 2)))


def test_precision_and_recall_of_a_missing_mode():
    rng = np.random.default_rng(1)
    one, two = rng.normal(0, 1, (200, 2)), rng.normal(50, 1, (200, 2))
    precision, recall = quality.precision_recall(np.concatenate([one, two]), one)
    assert precision == 1.0 and recall == 0.5


def test_what_was_not_run_is_said():
    def ran(epochs):
        return {"seeds": [{"points": [{"epochs": e}]} for e in epochs]}

    assert quality.not_run({}) == [
        "tutorial dcgan asks for 50 epochs; it was not run.",
        "keras vae asks for 30 epochs; it was not run.",
        "Anything on a GPU.",
    ]
    models = {"tutorial_dcgan": ran([13.0, 12.5]), "keras_vae": ran([30.0])}
    assert quality.not_run(models)[0].endswith("50 epochs; 12.5 were run.")
    assert quality.not_run(models)[1:] == ["Anything on a GPU."]


def test_each_variant_of_the_dcgan_changes_one_thing():
    def facts(model):
        g = model.optimizer.players["generator"]
        d = model.optimizer.players["discriminator"]
        rates = [round(float(o.learning_rate), 6) for o in (d, g)]
        layers = model.discriminator.layers
        rest = [o.beta_1 for o in (d, g)] + [o.beta_2 for o in (d, g)]
        drop = [v.rate for v in layers if isinstance(v, quality.keras.layers.Dropout)]
        kinds = sum(isinstance(v, quality.keras.layers.Conv2D) for v in layers)
        return [model.latent_dim, rates, rest, max(drop), kinds]

    book = facts(quality.dcgan(0))
    assert book == [16, [5e-4, 2e-3], [0.0, 0.0, 0.99, 0.99], 0.0, 3]
    for name, place in {
        "wide_noise": 0,
        "equal_rates": 1,
        "usual_adam": 2,
        "dropout": 3,
        "shallow": 4,
    }.items():
        other = facts(getattr(quality, f"{name}_dcgan")(0))
        assert [i for i in range(5) if other[i] != book[i]] == [place]


def test_averages_are_lent_and_taken_back():
    model = quality.dcgan(0)
    before = [v.numpy().copy() for v in model.generator.trainable_variables]
    adam = model.optimizer.players["generator"]
    for average in adam._model_variables_moving_average:
        average.assign(np.full(average.shape, 7.0))
    with quality.averaged(model):
        assert all((v.numpy() == 7).all() for v in model.generator.trainable_variables)
    after = [v.numpy() for v in model.generator.trainable_variables]
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))


@pytest.mark.parametrize(("fixed", "start"), [(0.0, 1), (8.0, 16), (30.0, 64)])
def test_the_bend_lies_where_the_fixed_cost_stops_to_matter(fixed, start):
    sizes = (1, 4, 16, 64, 256)
    rows = [
        {"varied": "batch", "value": n, "milliseconds_a_step": fixed + n, "work": n}
        for n in sizes
    ]
    line = bend(rows, "work")
    assert f"from {start} on" in line
    times = (fixed + 1) / (fixed + 256) * 256
    assert f"at 1 a step costs {times:.1f} times" in line
