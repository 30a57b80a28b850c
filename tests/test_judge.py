"""The judges: what they know, what they are sure of, and their arithmetic."""

from __future__ import annotations

import os
from importlib import resources

import numpy as np
import pytest

from genai_utils import data
from genai_utils.judge import SURE_SHARE, Judge, confidence_threshold, load_judge
from genai_utils.metrics import class_coverage

rng = np.random.default_rng(0)
needs_data = pytest.mark.skipif(
    "GENAI_DATA_DIR" not in os.environ, reason="needs $GENAI_DATA_DIR"
)


def test_judge_knows_digits_and_agrees_with_its_own_record():
    judge = load_judge("digits")
    x, y = data.digits("test")
    assert (judge.predict(x) == y).mean() == pytest.approx(judge.accuracy, abs=0.003)
    assert judge.accuracy > 0.98
    assert judge.features(x).shape == (500, 32) and judge.logits(x).shape == (500, 10)
    train = judge.features(data.digits("train")[0])
    assert (train**2).mean() == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_judges_of_larger_images(name):
    judge = load_judge(name)
    x = np.random.default_rng(0).uniform(-1, 1, (3, 28, 28, 1)).astype("float32")
    assert judge.image_shape == (28, 28, 1)
    assert judge.features(x).shape == (3, 32) and judge.predict(x).shape == (3,)
    assert judge.accuracy > {"mnist": 0.99, "fashion_mnist": 0.9}[name]
    file = resources.files("genai_utils") / "weights" / f"judge_{name}.npz"
    assert len(file.read_bytes()) < 200_000


@needs_data
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


def test_confidence_is_the_largest_softmax_output():
    judge = load_judge("digits")
    x = data.digits("test")[0][:50]
    logits = judge.logits(x).astype("float64")
    softmax = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(judge.confidence(x), softmax.max(axis=1), rtol=1e-6)
    np.testing.assert_array_equal(judge.sure(x), softmax.max(axis=1) >= judge.threshold)


DATA_SETS = [
    "digits",
    pytest.param("mnist", marks=needs_data),
    pytest.param("fashion_mnist", marks=needs_data),
]


@pytest.mark.parametrize("name", DATA_SETS)
def test_judges_are_sure_of_real_images_which_cover_every_class(name):
    judge = load_judge(name)
    x, _ = data.load(name, "test")
    confidence, sure = judge.confidence(x), judge.sure(x)
    assert sure.mean() == pytest.approx(SURE_SHARE, abs=0.003)
    assert judge.threshold == pytest.approx(confidence_threshold(confidence), abs=2e-4)
    assert class_coverage(judge.predict(x), sure=sure) == 10
    assert (
        judge.threshold
        == {
            "digits": 0.9769,
            "mnist": 0.9892,
            "fashion_mnist": 0.5502,
        }[name]
    )


def noises(shape, seed):
    """Images that show nothing: uniform, clipped Gaussian, black and white."""
    draw, n = np.random.default_rng(seed), 100 if shape[0] == 16 else 50
    yield draw.uniform(-1, 1, (n, *shape))
    yield np.clip(draw.normal(0, 0.5, (n, *shape)), -1, 1)
    yield np.clip(draw.normal(0, 1, (n, *shape)), -1, 1)
    yield np.sign(draw.normal(size=(n, *shape)))


@pytest.mark.parametrize("name", ["digits", "mnist", "fashion_mnist"])
def test_noise_does_not_cover_the_classes_among_sure_samples(name):
    judge = load_judge(name)
    for seed in range(20):
        for x in noises(judge.image_shape, seed):
            covered = class_coverage(judge.predict(x), sure=judge.sure(x))
            assert covered <= 8  # 7, 2 and 5 at the most, measured


def test_noise_covers_the_digits_where_unsure_samples_count():
    judge = load_judge("digits")
    x = (np.random.default_rng(s).uniform(-1, 1, (1000, 16, 16, 1)) for s in range(20))
    covered = [class_coverage(judge.predict(images)) for images in x]
    assert max(covered) == 10  # the fault that `sure` mends


def test_the_judge_for_mnist_is_sure_of_noise_as_its_docstring_says():
    judge = load_judge("mnist")
    x = np.random.default_rng(0).uniform(-1, 1, (300, 28, 28, 1))
    most = np.bincount(judge.predict(x)[judge.sure(x)]).max()
    assert most > 0.8 * len(x)


def test_a_judge_without_a_threshold_says_how_to_measure_one():
    known = load_judge("digits")
    judge = Judge(known.weights, known.image_shape, known.accuracy)
    x, _ = data.digits("test")
    with pytest.raises(ValueError, match=r"`threshold` must be .* Received: None"):
        judge.sure(x)
    assert confidence_threshold(judge.confidence(x)) == pytest.approx(
        known.threshold, abs=2e-4
    )
    assert confidence_threshold(np.linspace(0, 1, 101), 0.9) == 0.1


def test_judges_refuse_what_they_cannot_use():
    with pytest.raises(ValueError, match="one of 'digits'"):
        load_judge("cats")
    with pytest.raises(ValueError, match=r"lie in \[-1.0, 1.0\]"):
        load_judge().features(np.full((1, 16, 16, 1), 7.0))
    with pytest.raises(ValueError, match=r"`share` must lie in \(0, 1\]. Received: 95"):
        confidence_threshold(np.array([0.5]), 95)
    with pytest.raises(ValueError, match="`confidence` must lie in"):
        confidence_threshold(np.array([7.0]))
