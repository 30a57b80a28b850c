"""The messy digits, their truth, and the finders of copies, against other means."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.fft import dctn
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from genai_utils import data


@pytest.fixture(scope="module")
def mess():
    return data.messy_digits(400, seed=3)


def test_the_truth_is_true(mess):
    x, y, truth = mess
    kind, original = truth["kind"], truth["original"]
    counts = {k: int((kind == k).sum()) for k in data.FAULTS}
    assert counts == {k: round(share * 400) for k, share in data.FAULTS.items()}
    added = sum(counts[k] for k in ("exact_copy", "near_copy", "outlier"))
    assert x.shape == (400 + added, 16, 16, 1) and x.dtype == np.float32
    assert y.dtype == np.int64 and y.min() >= 0 and y.max() <= 9
    holes = np.isnan(x).any(axis=(1, 2, 3))
    np.testing.assert_array_equal(holes, kind == "missing")
    np.testing.assert_array_equal(np.isnan(x[holes]).sum(axis=(1, 2, 3)), 25)
    np.testing.assert_array_equal(
        np.nanmax(x, axis=(1, 2, 3)) > 1, kind == "other_scale"
    )
    np.testing.assert_array_equal(
        y != truth["label"], (kind == "wrong_label") | (kind == "outlier")
    )
    own = original == np.arange(len(x))
    np.testing.assert_array_equal(~own, np.isin(kind, ["exact_copy", "near_copy"]))
    assert (kind[original[~own]] == "sound").all()


def test_the_sound_rows_are_real_digits_and_copies_are_copies(mess):
    x, y, truth = mess
    real, labels = data.digits("train")
    known = {image.tobytes(): k for image, k in zip(real, labels, strict=True)}
    for kind in ("sound", "wrong_label"):
        for i in np.flatnonzero(truth["kind"] == kind):
            assert known[x[i].tobytes()] == truth["label"][i]
    for i in np.flatnonzero(truth["kind"] == "exact_copy"):
        assert x[i].tobytes() == x[truth["original"][i]].tobytes()
        assert y[i] == y[truth["original"][i]]
    scaled = x[truth["kind"] == "other_scale"] / 127.5 - 1
    distance = ((scaled[:, None] - real[None]) ** 2).sum(axis=(2, 3, 4)).min(axis=1)
    assert distance.max() < 1e-6


def test_the_mess_is_seeded():
    one, two, other = (data.messy_digits(150, seed=s)[0] for s in (1, 1, 2))
    np.testing.assert_array_equal(one, two)
    assert not np.array_equal(one, other, equal_nan=True)


@pytest.mark.parametrize("n", [50, 1298, 150.5])
def test_a_mess_of_impossible_size_is_refused(n):
    with pytest.raises(ValueError, match=r"`n` must .*Received: "):
        data.messy_digits(n)


def test_near_copies_stay_near_and_are_seeded():
    x = data.digits("test")[0][:60]
    copies = data.near_copies(x, seed=5)
    np.testing.assert_array_equal(copies, data.near_copies(x, seed=5))
    assert copies.shape == x.shape and copies.dtype == np.float32
    assert copies.min() >= -1 and copies.max() <= 1
    # one of five moves, undone by np.roll inside the frame, explains each copy
    moves = [(0, 0), (0, 1), (1, 0), (0, -1), (-1, 0)]
    inside = np.s_[1:-1, 1:-1, 0]
    for image, copy in zip(x, copies, strict=True):
        best = 0.0
        for move in moves:
            moved = np.roll(image, move, axis=(0, 1))
            r = np.corrcoef(moved[inside].ravel(), copy[inside].ravel())[0, 1]
            best = max(best, r)
        assert best > 0.98


def test_near_copies_refuse_what_is_no_image():
    with pytest.raises(ValueError, match=r"`x` must .*Received: "):
        data.near_copies(np.full((2, 16, 16, 1), 7.0))


def test_the_hash_is_that_of_scipys_cosine_transform():
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (9, 12, 10, 3))
    low = dctn(x.mean(axis=-1), axes=(1, 2))[:, :6, :6].reshape(9, -1)[:, 1:]
    expected = low > np.median(low, axis=1, keepdims=True)
    np.testing.assert_array_equal(data.perceptual_hash(x, size=6), expected)


def test_the_hash_forgives_paler_ink_but_not_another_digit():
    x = data.digits("test")[0][:100]
    bits = data.perceptual_hash(x)
    assert bits.shape == (100, 63) and bits.dtype == bool
    assert (bits != data.perceptual_hash(0.7 * x - 0.3)).mean() < 0.01
    assert (bits[1:] != bits[:-1]).mean() > 0.3


@pytest.mark.parametrize("size", [1, 17])
def test_a_hash_of_impossible_size_is_refused(size):
    with pytest.raises(ValueError, match=r"`size` must .*Received: "):
        data.perceptual_hash(np.zeros((1, 16, 16, 1)), size)


def test_near_duplicates_are_those_of_numpys_correlation():
    rng = np.random.default_rng(1)
    x = rng.uniform(-1, 1, (6, 9, 9, 1))
    x[4] = 0.5 * x[1] + 0.1  # the same up to its ink
    x[5] = -1.0
    x[5, 1:, :] = x[0, :-1, :]  # moved down by one pixel
    pairs, likeness = data.near_duplicates(x, threshold=0.95, max_shift=0)
    assert pairs.tolist() == [[1, 4]]
    expected = np.corrcoef(x[1].ravel(), x[4].ravel())[0, 1]
    assert likeness[0] == pytest.approx(expected, abs=1e-5)
    pairs, likeness = data.near_duplicates(x, threshold=0.95, max_shift=1)
    assert pairs.tolist() == [[0, 5], [1, 4]]
    assert likeness == pytest.approx([1, 1], abs=1e-5)


def test_near_duplicates_ignore_images_of_one_grey():
    x = np.concatenate([np.full((2, 8, 8, 1), g) for g in (-1.0, 0.2)])
    assert len(data.near_duplicates(x, 0.5)[0]) == 0


@pytest.mark.parametrize("threshold", [0.0, 1.5])
def test_an_impossible_threshold_is_refused(threshold):
    with pytest.raises(ValueError, match=r"`threshold` must .*Received: "):
        data.near_duplicates(np.zeros((2, 8, 8, 1)), threshold)


@pytest.mark.parametrize("shift", [-1, 1.5, 8])
def test_an_impossible_shift_is_refused(shift):
    with pytest.raises(ValueError, match=r"`max_shift` must .*Received: "):
        data.near_duplicates(np.zeros((2, 8, 8, 1)), max_shift=shift)


@pytest.mark.parametrize("seed", range(4))
def test_copies_are_found_with_precision_and_recall(seed):
    x, _, truth = data.messy_digits(1000, seed=seed)
    x[truth["kind"] == "other_scale"] = x[truth["kind"] == "other_scale"] / 127.5 - 1
    row = np.flatnonzero(truth["kind"] != "missing")
    pairs, _ = data.near_duplicates(x[row])
    found = {tuple(p) for p in row[pairs]}
    own = np.arange(len(x))
    copies = np.flatnonzero(truth["original"] != own)
    true = {tuple(sorted((i, truth["original"][i]))) for i in copies}
    assert len(found & true) >= 0.95 * max(len(found), len(true))


def test_groups_are_connected_components():
    rng = np.random.default_rng(2)
    pairs = rng.integers(0, 60, (35, 2))
    group = data.duplicate_groups(pairs, 60)
    graph = coo_matrix((np.ones(35), pairs.T), (60, 60))
    component = connected_components(graph, directed=False)[1]
    first = [np.flatnonzero(component == c).min() for c in component]
    np.testing.assert_array_equal(group, first)
    np.testing.assert_array_equal(data.duplicate_groups(np.empty((0, 2)), 3), range(3))


def test_groups_refuse_rows_that_do_not_exist():
    with pytest.raises(ValueError, match=r"`pairs` must .*Received: "):
        data.duplicate_groups([[0, 5]], 5)
    with pytest.raises(ValueError, match=r"`n` must .*Received: "):
        data.duplicate_groups([[0, 1]], 0)


def test_shifted_moves_as_roll_does_inside_the_frame():
    x = np.random.default_rng(4).uniform(-1, 1, (3, 7, 6, 2))
    moved = data.shifted(x, 2, -1)
    np.testing.assert_array_equal(moved[:, 2:, :-1], x[:, :-2, 1:])
    assert (moved[:, :2] == -1).all() and (moved[:, :, -1] == -1).all()
    np.testing.assert_array_equal(data.shifted(x, 0, 0), x)
    with pytest.raises(ValueError, match=r"`x` must .*Received: "):
        data.shifted(np.zeros((4, 4)), 1, 0)


def test_copy_pairs_are_those_of_the_truth(mess):
    _, _, truth = mess
    for kind in ("exact_copy", "near_copy"):
        pairs = data.copy_pairs(truth, kind)
        assert len(pairs) == (truth["kind"] == kind).sum()
        for a, b in pairs:
            assert a < b and kind in truth["kind"][[a, b]]
            assert a in truth["original"][[a, b]] or b in truth["original"][[a, b]]
    with pytest.raises(ValueError, match=r"`kind` must .*Received: "):
        data.copy_pairs(truth, "outlier")


def test_outliers_are_a_third_each_of_shapes_noise_and_negatives(mess):
    x, _, truth = mess
    outliers = x[truth["kind"] == "outlier"]  # 12
    tests = {image.tobytes() for image in data.digits("test")[0]}
    negative = np.array([(-image).tobytes() in tests for image in outliers])
    noise = (np.abs(outliers) < 1).mean(axis=(1, 2, 3)) == 1
    assert negative.sum() == 4 and noise.sum() == 4 and not (negative & noise).any()
    assert outliers[noise].std() == pytest.approx(3**-0.5, rel=0.05)
    filled = outliers[~negative & ~noise]
    assert (np.abs(filled) == 1).mean() > 0.7


def test_a_mess_of_the_smallest_and_of_the_largest_size():
    for n in (100, 1297):
        kind = data.messy_digits(n)[2]["kind"]
        added = ("exact_copy", "near_copy", "outlier")
        assert len(kind) == n + sum(round(data.FAULTS[k] * n) for k in added)


def test_near_copies_thin_the_ink_and_add_noise_as_much_as_they_say():
    grey = np.zeros((500, 16, 16, 1), "float32")  # halfway: no clipping
    copies = data.near_copies(grey, seed=2)[:, 1:-1, 1:-1, 0]
    level = copies.mean(axis=(1, 2)) + 1  # the gain
    assert copies.std(axis=(1, 2)).mean() == pytest.approx(0.06, rel=0.03)
    cuts = np.quantile(level, [0.02, 0.5, 0.98])
    np.testing.assert_allclose(cuts, [0.755, 0.875, 0.995], atol=0.015)
    dots = np.full((1000, 9, 9, 1), -1.0)
    dots[:, 4, 4] = 1.0
    place = data.near_copies(dots, seed=3).reshape(1000, 81).argmax(axis=1)
    counts = np.bincount(place, minlength=81)
    moves = [40, 41, 49, 39, 31]  # where it was; right, down, left, up
    assert counts[moves].sum() == 1000 and abs(counts[moves] - 200).max() < 65


@pytest.mark.parametrize("size", [2, 10])
def test_the_smallest_and_the_largest_hash(size):
    x = np.random.default_rng(6).uniform(-1, 1, (5, 12, 10, 1))
    low = dctn(x[..., 0], axes=(1, 2))[:, :size, :size].reshape(5, -1)[:, 1:]
    expected = low > np.median(low, axis=1, keepdims=True)
    np.testing.assert_array_equal(data.perceptual_hash(x, size=size), expected)


def test_a_threshold_of_one_finds_exact_copies_and_shifts_reach_two_pixels():
    x = np.random.default_rng(7).uniform(-1, 1, (4, 9, 9, 1))
    x[2] = x[0]
    pairs, likeness = data.near_duplicates(x, 1.0, max_shift=0)
    assert pairs.tolist() == [[0, 2]] and likeness == pytest.approx([1.0], abs=1e-5)
    x[3] = data.shifted(x[1], -2, 1)
    assert len(data.near_duplicates(x, 0.99, max_shift=1)[0]) == 1
    assert data.near_duplicates(x, 0.99, max_shift=2)[0].tolist() == [[0, 2], [1, 3]]
