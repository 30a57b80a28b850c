"""Chest X-rays: a file taken apart, repeats left out, pixels averaged."""

from __future__ import annotations

import io

import numpy as np
import pytest

from genai_utils.data import medical
from genai_utils.data.fetch import fetch, registry
from genai_utils.data.medical import (
    PARTS,
    chest_xrays,
    read_xrays,
    shrunk,
    without_repeats,
)


def made_up(sizes=(6, 4, 3), side=28, seed=0):
    """Arrays as in a MedMNIST file."""
    rng, arrays = np.random.default_rng(seed), {}
    for part, n in zip(PARTS, sizes, strict=True):
        arrays[f"{part}_images"] = rng.integers(0, 256, (n, side, side), "uint8")
        arrays[f"{part}_labels"] = (np.arange(n) % 2).astype("uint8")[:, None]
    return arrays


def test_a_file_is_taken_apart():
    parts = read_xrays(made_up())
    assert list(parts) == list(PARTS)
    assert [len(y) for _, y in parts.values()] == [6, 4, 3]
    x, y = parts["val"]
    assert x.dtype == "uint8" and y.dtype == "int64" and y.tolist() == [0, 1, 0, 1]
    assert (x == made_up()["val_images"]).all()


@pytest.mark.parametrize(
    "name, value",
    [
        ("train_images", np.zeros((6, 28), "uint8")),
        ("train_labels", np.zeros((5, 1), "uint8")),
        ("test_labels", np.full((3, 1), 2, "uint8")),
        ("val_images", np.full((4, 28, 28), 300)),
    ],
)
def test_a_file_of_another_form_is_refused(name, value):
    with pytest.raises(ValueError, match=f"`{name}` must .* Received"):
        read_xrays(made_up() | {name: value})


def test_a_missing_part_is_named():
    arrays = made_up()
    del arrays["val_labels"]
    with pytest.raises(ValueError, match="Received: 'val_labels'"):
        read_xrays(arrays)


def test_repeats_keep_their_first_place_and_label():
    arrays = made_up()
    arrays["train_images"][4] = arrays["train_images"][1]
    arrays["val_images"][2] = arrays["train_images"][0]
    arrays["test_images"][0] = arrays["val_images"][3]
    parts = without_repeats(read_xrays(arrays))
    assert [len(y) for _, y in parts.values()] == [5, 3, 2]
    for part, keep in (
        ("train", [0, 1, 2, 3, 5]),
        ("val", [0, 1, 3]),
        ("test", [1, 2]),
    ):
        assert (parts[part][0] == arrays[f"{part}_images"][keep]).all()
        assert (parts[part][1] == arrays[f"{part}_labels"][keep, 0]).all()


def test_without_repeats_nothing_is_lost():
    parts = read_xrays(made_up())
    kept = without_repeats(parts)
    assert all((kept[p][0] == parts[p][0]).all() for p in PARTS)


def test_pixels_are_averaged_in_squares():
    x = np.zeros((1, 4, 4))
    x[0, :2, :2] = [[0, 255], [255, 0]]  # mean 127.5, which is 0
    x[0, 2:, 2:] = 255
    small = shrunk(x, 2)
    assert small.shape == (1, 2, 2, 1) and small.dtype == "float32"
    assert np.allclose(small[0, :, :, 0], [[0, -1], [-1, 1]])
    full = shrunk(x, 4)
    assert np.allclose(full[0, :, :, 0], x[0] / 127.5 - 1)


@pytest.mark.parametrize("size", [3, 5, 28])
def test_a_size_that_does_not_divide_is_refused(size):
    with pytest.raises(ValueError, match="`size` must divide"):
        shrunk(np.zeros((2, 4, 4)), size)


def test_the_loader_reads_a_file(tmp_path, monkeypatch):
    arrays = made_up()
    arrays["val_images"][1] = arrays["train_images"][2]
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    path = tmp_path / "pneumoniamnist.npz"
    path.write_bytes(stream.getvalue())
    monkeypatch.setattr(medical, "fetch", lambda name, file: path)
    parts = chest_xrays()
    assert parts["train"][0].shape == (6, 14, 14, 1) and len(parts["val"][0]) == 3
    whole = chest_xrays(28, repeats=True)
    assert whole["val"][0].shape == (4, 28, 28, 1)
    pixels = (whole["test"][0][..., 0] + 1) * 127.5
    assert np.allclose(pixels, arrays["test_images"], atol=1e-3)


def test_the_published_set_has_the_counts_of_the_chapter():
    name = "pneumoniamnist_subset"
    try:
        fetch(name, registry()[name]["files"]["pneumoniamnist.npz"], timeout=0.1)
    except FileNotFoundError:
        pytest.skip("pneumoniamnist_subset is not on this machine")
    raw, parts = chest_xrays(28, repeats=True), chest_xrays()
    counts = {k: np.bincount(y).tolist() for k, (_, y) in raw.items()}
    assert counts == {"train": [388, 3494], "val": [135, 389], "test": [234, 390]}
    assert [len(y) for _, y in parts.values()] == [3865, 516, 621]
