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
