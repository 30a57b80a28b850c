"""The judges: what they know, what they are sure of, and their arithmetic."""

from __future__ import annotations

import os

import numpy as np
import pytest

from genai_utils import data
from genai_utils.judge import SURE_SHARE, Judge, confidence_threshold, load_judge
from genai_utils.metrics import class_coverage
from genai_utils.stored import WEIGHTS

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
    file = WEIGHTS / f"judge_{name}.npz"
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
    with pytest.raises(ValueError, match=r"`share` .* in \(0, 1\]. Received: 1.5"):
        confidence_threshold(np.array([0.5]), 1.5)
    with pytest.raises(ValueError, match="`confidence` must lie in"):
        confidence_threshold(np.array([1.5]))


def test_a_threshold_is_rounded_down_and_lets_the_share_pass():
    confidence = np.array([0.123456, 0.9, 0.98765, 0.5])
    assert confidence_threshold(confidence, 1.0) == 0.1234
    assert confidence_threshold(confidence, 0.75) == 0.5
    assert confidence_threshold(confidence, 0.25) == 0.9876
    assert confidence_threshold(confidence, 0.3) == 0.9  # 2 of 4: no fewer than 1.2
    many = np.random.default_rng(1).uniform(size=1000)
    by_default = confidence_threshold(many)
    assert (many >= by_default).mean() == pytest.approx(0.95, abs=1e-3)
    with pytest.raises(ValueError, match="`share` must be"):
        confidence_threshold(confidence, 0.0)


def test_a_judge_by_hand_is_a_sum_over_windows():
    draw = np.random.default_rng(2)
    shapes = {"conv1": (4, 4, 1, 2), "conv2": (4, 4, 2, 3), "dense": (12, 5)}
    weights = {f"{k}_w": draw.normal(size=s) / 3 for k, s in shapes.items()}
    weights["logits_w"] = draw.normal(size=(5, 4))
    for name in (*shapes, "logits"):
        weights[f"{name}_b"] = draw.normal(size=weights[f"{name}_w"].shape[-1])
    judge = Judge(weights, (8, 8, 1), 1.0, 0.5)
    x = draw.uniform(-1, 1, (3, 8, 8, 1)).astype("float32")
    h = x
    for name in ("conv1", "conv2"):
        padded = np.pad(h, ((0, 0), (1, 1), (1, 1), (0, 0)))
        n, side = len(h), h.shape[1] // 2
        out = np.zeros((n, side, side, shapes[name][-1]))
        for i in range(side):
            for j in range(side):
                window = padded[:, 2 * i : 2 * i + 4, 2 * j : 2 * j + 4]
                out[:, i, j] = np.einsum("nijc,ijcf->nf", window, weights[f"{name}_w"])
        h = np.maximum(out + weights[f"{name}_b"], 0)
    h = np.maximum(h.reshape(3, -1) @ weights["dense_w"] + weights["dense_b"], 0)
    logits = h @ weights["logits_w"] + weights["logits_b"]
    np.testing.assert_allclose(judge.features(x), h, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(judge.logits(x), logits, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(judge.predict(x), logits.argmax(axis=1))


def test_images_are_judged_alike_alone_and_among_many():
    judge = load_judge()
    x = data.digits("train")[0][:501]
    many = judge.features(x)
    assert many.shape == (501, 32)
    for i in (0, 499, 500):
        np.testing.assert_allclose(many[i], judge.features(x[i : i + 1])[0], atol=1e-4)


def test_a_damaged_judge_is_refused(tmp_path, monkeypatch):
    for name in ("judges.json", "judge_digits.npz"):
        (tmp_path / name).write_bytes((WEIGHTS / name).read_bytes())
    monkeypatch.setattr("genai_utils.stored.WEIGHTS", tmp_path)
    assert load_judge().weights["conv1_w"].dtype == np.float32
    with open(tmp_path / "judge_digits.npz", "ab") as file:
        file.write(b"x")
    with pytest.raises(ValueError, match=r"SHA-256 .* Received: .* again"):
        load_judge()
