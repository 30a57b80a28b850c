"""Metrics, judge, plots and checks against closed forms, SciPy and loops."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import resources

import matplotlib as mpl
import numpy as np
import pytest
from scipy.linalg import sqrtm

from genai_utils import data, metrics, plots
from genai_utils.checks import check_array, check_choice, check_positive
from genai_utils.judge import load_judge

mpl.use("agg")
rng = np.random.default_rng(0)


def test_frechet_distance_against_scipy():
    a = rng.normal(size=(300, 5)) @ rng.normal(size=(5, 5))
    b = rng.normal(size=(200, 5)) @ rng.normal(size=(5, 5)) + 1
    ca, cb = np.cov(a.T), np.cov(b.T)
    gap = ((a.mean(0) - b.mean(0)) ** 2).sum()
    exact = gap + np.trace(ca + cb - 2 * sqrtm(ca @ cb).real)
    assert metrics.frechet_distance(a, b) == pytest.approx(exact, rel=1e-8)
    assert metrics.frechet_distance(a, b) == pytest.approx(
        metrics.frechet_distance(b, a)
    )


def test_frechet_distance_of_known_gaussians():
    a = rng.normal(0, 1, (200_000, 1))
    b = rng.normal(3, 2, (200_000, 1))  # (3 - 0)^2 + (2 - 1)^2
    assert metrics.frechet_distance(a, b) == pytest.approx(10, abs=0.1)
    assert metrics.frechet_distance(a, a) == pytest.approx(0, abs=1e-9)


def test_frechet_distance_survives_constant_features():
    a = np.concatenate([rng.normal(size=(50, 2)), np.zeros((50, 1))], axis=1)
    assert metrics.frechet_distance(a, a) == pytest.approx(0, abs=1e-9)


def test_kid_against_a_loop():
    a, b = rng.normal(size=(7, 3)), rng.normal(1, 1, (5, 3))

    def k(u, v):
        return (u @ v / 3 + 1) ** 3

    aa = np.mean([k(a[i], a[j]) for i in range(7) for j in range(7) if i != j])
    bb = np.mean([k(b[i], b[j]) for i in range(5) for j in range(5) if i != j])
    ab = np.mean([k(u, v) for u in a for v in b])
    assert metrics.kid(a, b) == pytest.approx(aa + bb - 2 * ab)


def test_kid_is_zero_on_average_for_one_law():
    values = [metrics.kid(*rng.normal(size=(2, 50, 4))) for _ in range(400)]
    assert abs(np.mean(values)) < 4 * np.std(values) / 20


def test_class_coverage():
    labels = np.array([0] * 97 + [1, 1, 2])
    assert metrics.class_coverage(labels, min_share=0.01) == 3
    assert metrics.class_coverage(labels, min_share=0.02) == 2


def test_mode_coverage():
    centers = np.array([[0.0, 0.0], [5.0, 0.0], [0.0, 5.0]])
    points = np.array([[0.1, 0], [0, 0.2], [5.0, 0.1], [2.5, 2.5]])
    assert metrics.mode_coverage(points, centers, radius=0.5) == (2, 0.75)
    assert metrics.mode_coverage(points, centers, radius=0.5, min_count=2) == (1, 0.75)


def test_nearest_neighbours_against_a_loop():
    x, train = rng.normal(size=(600, 2, 2, 1)), rng.normal(size=(40, 2, 2, 1))
    index, distance = metrics.nearest_neighbours(x, train)
    for i in (0, 499, 500, 599):
        gaps = [np.sqrt(((x[i] - t) ** 2).sum()) for t in train]
        assert index[i] == np.argmin(gaps)
        assert distance[i] == pytest.approx(min(gaps))


def test_judge_knows_digits_and_agrees_with_its_own_record():
    judge = load_judge("digits")
    x, y = data.digits("test")
    assert (judge.predict(x) == y).mean() == pytest.approx(judge.accuracy, abs=0.003)
    assert judge.accuracy > 0.98
    assert judge.features(x).shape == (500, 32) and judge.logits(x).shape == (500, 10)
    train = judge.features(data.digits("train")[0])
    assert (train**2).mean() == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_judges_of_larger_pictures(name):
    judge = load_judge(name)
    x = np.random.default_rng(0).uniform(-1, 1, (3, 28, 28, 1)).astype("float32")
    assert judge.image_shape == (28, 28, 1)
    assert judge.features(x).shape == (3, 32) and judge.predict(x).shape == (3,)
    assert judge.accuracy > {"mnist": 0.99, "fashion_mnist": 0.9}[name]
    file = resources.files("genai_utils") / "weights" / f"judge_{name}.npz"
    assert len(file.read_bytes()) < 200_000


@pytest.mark.skipif("GENAI_DATA_DIR" not in os.environ, reason="needs $GENAI_DATA_DIR")
@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_judges_keep_their_word_on_the_test_set(name):
    judge = load_judge(name)
    x, y = data.load(name, "test")
    assert abs(np.mean(judge.predict(x) == y) - judge.accuracy) < 0.001
    x, _ = data.load(name, "train")
    mean_square = (judge.features(x[:5000]) ** 2).mean()
    assert 0.9 < mean_square < 1.1  # what the docstring says of the scale


def test_judge_convolution_against_keras():
    import keras

    from genai_utils.judge import _conv_half

    x, w = rng.normal(size=(2, 8, 8, 3)), rng.normal(size=(4, 4, 3, 5))
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0))).astype("float32")
    found = keras.ops.conv(padded, w.astype("float32"), strides=2, padding="valid")
    found = keras.ops.convert_to_numpy(found)
    np.testing.assert_allclose(_conv_half(x, w), found, atol=1e-4)


def test_metrics_refuse_what_they_cannot_use():
    with pytest.raises(ValueError, match="at least 2 rows"):
        metrics.frechet_distance(np.ones((1, 3)), np.ones((5, 3)))
    with pytest.raises(ValueError, match="`b` must have shape"):
        metrics.kid(np.ones((4, 3)), np.ones((4, 2)))
    with pytest.raises(ValueError, match="one of 'digits'"):
        load_judge("cats")
    with pytest.raises(ValueError, match=r"lie in \[-1.0, 1.0\]"):
        load_judge().features(np.full((1, 16, 16, 1), 7.0))


def test_image_grid_puts_each_image_in_its_place():
    images = rng.uniform(-1, 1, (7, 4, 5, 1)).astype("float32")
    page = plots.image_grid(images, ncols=3).images[0].get_array()
    assert page.shape == (3 * 5 - 1, 3 * 6 - 1)
    np.testing.assert_allclose(page[5:9, 6:11], -images[4, ..., 0])  # ink is dark
    assert (page[4] == 1).all() and (page[10:, 6:] == 1).all()


def test_plots_return_axes_with_what_they_were_given():
    z, labels = rng.normal(size=(60, 2)), np.arange(60) % 10
    ax = plots.latent_map(z, labels)
    assert {t.get_text() for t in ax.texts} == {str(k) for k in range(10)}
    ax = plots.loss_curves({"a": [3.0, 2.0], "b": [1.0, 1.5]})
    assert [line.get_ydata().tolist() for line in ax.lines] == [[3, 2], [1, 1.5]]
    assert len({line.get_linestyle() for line in ax.lines}) == 2
    ax = plots.scatter2d(z, reference=z + 1)
    np.testing.assert_allclose(ax.collections[1].get_offsets(), z)
    mpl.pyplot.close("all")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: check_array([], "a"), "`a` must hold at least one value"),
        (lambda: check_array([np.nan], "a"), "`a` must be finite"),
        (lambda: check_array([2.0], "a", high=1), "`a` must lie in"),
        (lambda: check_array([1.0], "a", ndim=2), "`a` must have 2 axes"),
        (lambda: check_array([[1.0]], "a", shape=(None, 2)), "`a` must have shape"),
        (lambda: check_choice("c", "a", ("b",)), "`a` must be one of 'b'"),
        (lambda: check_positive(0, "a"), "`a` must be a finite number above 0"),
        (lambda: check_positive(float("inf"), "a"), "`a` must be a finite number"),
    ],
)
def test_checks_name_argument_expectation_and_what_came(call, message):
    with pytest.raises(ValueError, match=message) as error:
        call()
    assert "Received: " in str(error.value)


def test_checks_refuse_what_is_no_number():
    with pytest.raises(TypeError, match="`a` must hold real numbers"):
        check_array(["x"], "a")
    with pytest.raises(TypeError, match="`a` must be a number"):
        check_positive(True, "a")


SEEDS = """
import warnings
import numpy as np
from genai_utils.seeds import set_seed
set_seed(7)
import keras
first = np.random.rand(), float(keras.random.normal(())[...].numpy())
with warnings.catch_warnings():
    warnings.simplefilter("error")
    set_seed(7)
again = np.random.rand(), float(keras.random.normal(())[...].numpy())
assert first == again
try:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        set_seed(7, threads=1)
except RuntimeWarning as late:
    assert "Restart the kernel" in str(late)
    print("ok")
"""


def test_set_seed_repeats_and_warns_when_late():
    done = subprocess.run(
        [sys.executable, "-c", SEEDS], capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "ok", done.stderr[-2000:]


SUBNORMAL = """
from genai_utils.seeds import set_seed
set_seed()
import keras
import numpy as np
x = keras.ops.convert_to_tensor(np.full(10**6, 1e-38, "float32"))  # for every thread
print(np.count_nonzero(keras.ops.convert_to_numpy(x * 0.1)))
"""


@pytest.mark.engines
def test_after_set_seed_every_engine_takes_subnormal_numbers_as_zero():
    done = subprocess.run(
        [sys.executable, "-c", SUBNORMAL], capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "0", done.stdout + done.stderr[-2000:]


def test_set_seed_refuses_fractions():
    from genai_utils.seeds import set_seed

    with pytest.raises(TypeError, match="`seed` must be a whole number"):
        set_seed(0.5)
    with pytest.raises(ValueError, match="`threads` must be"):
        set_seed(0, threads=0)
