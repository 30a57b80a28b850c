"""What the benchmark of Part V races against, and how ways are timed in turn."""

from __future__ import annotations

import math

import numpy as np
import pytest
from keras import ops

from benchmarks.common import faster, take_turns

diffusion = pytest.importorskip("benchmarks.diffusion")


def test_the_ways_take_turns_and_change_their_order():
    calls = []
    ways = {name: lambda name=name: calls.append(name) for name in "ab"}
    first, took = take_turns(ways, rounds=3, limit=0.0)
    assert "".join(calls) == "ab" + "ba" + "ab" + "ba"
    assert set(first) == {"a", "b"} and [len(took[w]) for w in "ab"] == [3, 3]


def test_faster_is_the_median_of_the_rounds():
    assert faster([1.0, 2.0, 4.0], [2.0, 2.0, 2.0]) == 1.0
    assert faster([1.0], [2.0]) == 2.0  # half the time: twice as fast


def test_the_waves_are_sines_and_cosines_from_one_to_a_thousand():
    power = np.array([0.3, 0.7], "float32").reshape(2, 1, 1, 1)
    found = ops.convert_to_numpy(diffusion.Waves()(ops.convert_to_tensor(power)))
    speeds = [1000 ** (k / 15) for k in range(16)]
    wanted = [
        [f(2 * math.pi * s * p) for f in (math.sin, math.cos) for s in speeds]
        for p in power.ravel()
    ]
    assert found.shape == (2, 1, 1, 32)
    np.testing.assert_allclose(found[:, 0, 0], wanted, atol=2e-3)


def test_the_examples_sampler_returns_the_image_of_a_perfect_network(monkeypatch):
    model = diffusion.KerasDiffusion()
    assert model.network.output_shape == (None, 28, 28, 1)
    wanted = np.random.default_rng(3).uniform(-1, 1, (28, 28, 1))
    clean = (wanted - model.mean) / model.std
    assert [math.cos(a) for a in model.arc] == pytest.approx([0.95, 0.02])
    asked = []

    class Perfect:
        def predict(self, inputs, **kwargs):
            x, power = (v.astype("float64") for v in inputs)
            asked.append(float(power[0].item()))
            return (x - np.sqrt(1 - power) * clean) / np.sqrt(power)

    object.__setattr__(model, "network", Perfect())
    samples = model.sample(2)
    np.testing.assert_allclose(samples, np.stack([wanted, wanted]), atol=1e-4)
    assert len(asked) == 20 and asked[0] == pytest.approx(1 - 0.02**2)


def test_the_example_loses_the_mean_absolute_error_of_a_network_that_says_nothing():
    model = diffusion.keras_ddim()
    x = ops.convert_to_tensor(np.zeros((256, 28, 28, 1), "float32"))
    first = float(model._loss(x, True))  # the last kernel starts at zero
    assert first == pytest.approx(math.sqrt(2 / math.pi), abs=0.02)
