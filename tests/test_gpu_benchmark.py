"""The benchmark for a graphics card, in its small version; counts against loops."""

from __future__ import annotations

import itertools
import json
import time
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from keras import layers

from benchmarks import gpu, steps


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What one run finds on the backend of this process."""
    path = tmp_path_factory.mktemp("gpu") / "out.json"
    backend = keras.backend.backend()
    arguments = ["--small", "--backends", backend, "--out", str(path)]
    assert gpu.main([*arguments, "--seconds", "1500"]) == 0
    results = json.loads(path.read_text("utf-8"))
    assert results["small"] and list(results["backends"]) == [backend]
    return results["backends"][backend]


def rows(found, way):
    return [r for r in found["speed"] if r["way"] == way]


def test_everything_was_measured(found):
    assert found["failed"] == [] and found["dropped"] == []
    cases = [(*pair, "float32") for pair in gpu.SMALL["networks"]]
    halves = [p for p in gpu.POLICIES if p != "float32"]
    cases += [(*pair, p) for p in halves for pair in gpu.SMALL["halves"]]
    for way in ("fit", "loop"):
        measured = {(r["network"], r["size"], r["precision"]) for r in rows(found, way)}
        assert measured == set(cases)
    assert [r["batch"] for r in found["batches"]] == gpu.SMALL["batches"]


def test_the_loop_is_as_fast_as_one_step_timed_by_itself(found):
    """Within a factor of eight: the machine may have other work meanwhile."""
    row = rows(found, "loop")[0]
    batch = gpu.SMALL["batch"]
    loop = steps.LOOPS[keras.backend.backend()]["loop"](
        steps.make(row["network"], row["size"]), batch
    )
    x = gpu.images(batch, row["size"])
    loop(x)
    times = []
    for _ in range(9):
        start = time.perf_counter()
        loop(x)
        times.append(time.perf_counter() - start)
    direct = batch / np.median(times)
    assert direct / 8 < row["images_per_second"] < 8 * direct


def test_fit_and_loop_are_compared_within_rounds(found):
    for fit, loop in zip(rows(found, "fit"), rows(found, "loop"), strict=True):
        ratios = np.divide(fit["runs"], loop["runs"])
        assert fit["against_loop"] == pytest.approx(np.median(ratios), rel=0.01)
        assert 0.02 < fit["against_loop"] < 5


def test_shares_follow_from_what_was_measured(found):
    for row in found["speed"]:
        product = found["product_gflops"][row["precision"]]
        assert row["share_of_matrix_product"] > 0 and product > 0.01
        if row["precision"] == "float32":  # CPUs differ widely in what 16 bits cost
            assert row["share_of_matrix_product"] < 3
        rate = row["images_per_second"] * row["mflop_an_image"] * 1e6
        share = rate / (1e9 * product)
        assert row["share_of_matrix_product"] == pytest.approx(share, rel=0.01)


def test_memory_holds_at_least_the_weights_and_a_larger_batch_is_quicker(found):
    for row in rows(found, "fit"):
        model = steps.make(row["network"], row["size"])
        weights = sum(np.prod(v.shape) for v in model.trainable_variables)
        assert 3 * 4e-6 * weights < row["peak_mb"] < 64_000  # with Adam's moments
    small, large = (r["images_per_second"] for r in found["batches"])
    assert small < large


def test_the_marked_tests_were_run_and_counted(found):
    assert found["tests"]["failed"] == 0, found["tests"]["failures"]
    assert found["tests"]["passed"] == 4 and "incomplete" not in found["tests"]


def test_a_small_version_never_becomes_the_book_s(tmp_path):
    mine = gpu.RESULTS / "gpu.json"
    assert gpu.where(None, small=False) == mine
    assert gpu.where(None, small=True) != mine
    with pytest.raises(SystemExit, match=r"Received: .*gpu\.json\. Choose"):
        gpu.where(mine.parent / ".." / "results" / "gpu.json", small=True)


def test_what_the_time_does_not_suffice_for_is_named():
    found = gpu.measure("jax", gpu.FULL, time.monotonic() + 0.9, small=False)
    names = ["survey", *(name for name, _ in gpu.parts(gpu.FULL))]
    assert found["dropped"] == [f"{name}: 1 seconds were left" for name in names]


def test_a_process_is_stopped_at_its_limit_and_what_it_said_is_kept():
    code = "import time; print('@first', flush=True); time.sleep(600)"
    start = time.perf_counter()
    out, broken = gpu.command(["-c", code], 8.0)
    assert time.perf_counter() - start < 60
    assert out.strip() == "@first" and broken == "stopped after 8 seconds"


def test_results_of_another_card_are_not_kept(tmp_path):
    path = tmp_path / "gpu.json"
    assert gpu.earlier(path, "abacus") == {}
    path.write_text(json.dumps({"card": "abacus", "backends": {"jax": {"speed": []}}}))
    assert gpu.earlier(path, "abacus") == {"jax": {"speed": []}}
    assert gpu.earlier(path, "other") == {}


def dense(x, kernel):
    """A dense layer by loops: its output, and how many operations made it."""
    out, count = np.zeros(kernel.shape[1]), 0
    for i, o in itertools.product(*map(range, kernel.shape)):
        out[o] += x[i] * kernel[i, o]
        count += 2
    return out, count


def conv(x, kernel):
    """A 4 x 4 convolution of stride 2 by loops, on an image with its padding."""
    height, width, _ = x.shape
    padded = np.pad(x, [(1, 1), (1, 1), (0, 0)])
    out, count = np.zeros((height // 2, width // 2, kernel.shape[3])), 0
    for r, c in itertools.product(range(height // 2), range(width // 2)):
        for a, b, i, o in itertools.product(*map(range, kernel.shape)):
            out[r, c, o] += padded[2 * r + a, 2 * c + b, i] * kernel[a, b, i, o]
            count += 2
    return out, count


def conv_transposed(x, kernel):
    """Its transpose by loops: each pixel sends the kernel out, the rim is cut off."""
    height, width, _ = x.shape
    out, count = np.zeros((2 * height + 2, 2 * width + 2, kernel.shape[2])), 0
    for r, c in itertools.product(range(height), range(width)):
        for a, b, o, i in itertools.product(*map(range, kernel.shape)):
            out[2 * r + a, 2 * c + b, o] += x[r, c, i] * kernel[a, b, o, i]
            count += 2
    return out[1:-1, 1:-1], count


LAYERS = {
    "dense": (lambda: layers.Dense(3), (5,), dense),
    "conv": (lambda: layers.Conv2D(3, 4, 2, "same"), (6, 4, 2), conv),
    "transposed": (
        lambda: layers.Conv2DTranspose(3, 4, 2, "same"),
        (3, 2, 2),
        conv_transposed,
    ),
}


@pytest.mark.engines
@pytest.mark.parametrize("name", LAYERS)
def test_counted_operations_are_those_of_loops(name):
    make, shape, by_loops = LAYERS[name]
    layer = make()
    network = keras.Sequential([layers.Input(shape), layer])
    x = np.random.default_rng(0).normal(size=shape).astype("float32")
    wanted, count = by_loops(x, keras.ops.convert_to_numpy(layer.kernel))
    found = keras.ops.convert_to_numpy(network(x[None]))[0]
    np.testing.assert_allclose(found, wanted, atol=1e-4)
    assert steps.forward_flops(network) == count


@pytest.mark.engines
def test_a_round_of_the_gan_counts_its_passes():
    """D's turn: G once, D twice with gradients; G's: both with, D for its input."""
    g = keras.Sequential([layers.Input((2,)), layers.Dense(3)])  # 12 operations
    d = keras.Sequential([layers.Input((3,)), layers.Dense(1)])  # 6
    passes = [12, 3 * 6, 3 * 6, 3 * 12, 2 * 6]
    model = SimpleNamespace(generator=g, discriminator=d)
    assert steps.round_flops(model) == sum(passes)
