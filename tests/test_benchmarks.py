"""The benchmarks' own measures against brute force."""

from __future__ import annotations

import pytest

from benchmarks.scale import knee
from benchmarks.steps import ratios

quality = pytest.importorskip("benchmarks.quality")


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


@pytest.mark.parametrize(("fixed", "start"), [(0.0, 1), (8.0, 16), (30.0, 64)])
def test_the_knee_lies_where_the_fixed_cost_stops_to_matter(fixed, start):
    sizes = (1, 4, 16, 64, 256)
    rows = [
        {"varied": "batch", "value": n, "milliseconds_a_step": fixed + n, "work": n}
        for n in sizes
    ]
    line = knee(rows, "work")
    assert f"from {start} on" in line
    times = (fixed + 1) / (fixed + 256) * 256
    assert f"at 1 a step costs {times:.1f} times" in line


def test_a_ratio_compares_within_a_round_and_takes_the_median():
    def row(way, runs):
        return {"network": "dcgan", "engine": "torch", "way": way, "runs": runs}

    rows = [
        row("fit", [90, 45, 300]),
        row("loop", [100, 50, 100]),
        row("loop, Adam of Keras", [45, 45, 300]),
    ]
    assert ratios(rows) == {
        "dcgan torch": 0.9,
        "dcgan torch, Adam of Keras": 1.0,
    }


def test_the_race_counts_from_the_first_time_a_distance_is_reached():
    wgan = pytest.importorskip("benchmarks.wgan")
    book = [{"seconds": t, "frechet": f} for t, f in ((1, 9.0), (2, 4.0), (3, 5.0))]
    rival = [{"seconds": t, "frechet": f} for t, f in ((10, 9.5), (20, 4.5), (40, 3.0))]
    rows = wgan.outrun(book, rival)
    assert [r["book"] for r in rows] == [1, 2, None]
    assert [r["share"] for r in rows] == [0.1, 0.1, None]


def test_the_keras_wgan_gp_is_rebuilt_layer_for_layer():
    wgan = pytest.importorskip("benchmarks.wgan")
    model = wgan.keras_wgan_gp()
    # what `summary` says of the example's networks
    assert model.discriminator.count_params() == 4_305_409
    assert model.generator.count_params() == 910_660
    rate = float(model.optimizer.players["generator"].learning_rate)
    assert (model.d_turns, round(rate, 6), model.latent_dim) == (3, 2e-4, 128)
