"""Cats: splits without copies, and photographs from JPEG files or from records."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from genai_utils.data import cats

HERE = Path(os.environ.get("GENAI_DATA_DIR", "nowhere"))


@pytest.fixture
def album(monkeypatch, tmp_path):
    """Files of made-up drawings; the second file of cats has 3 of 8 that are known."""
    rng = np.random.default_rng(0)
    packed = {k: rng.integers(0, 256, (1200, 1, 784), np.uint8) for k in cats.KINDS}
    more = rng.integers(0, 256, (8, 784), np.uint8)
    more[[1, 4, 6]] = packed["cat"][[7, 0, 1199], 0]
    for kind, x in packed.items():
        np.save(tmp_path / f"{kind}.npy", x)
    more.tofile(tmp_path / "cats1000.bin")
    names = [f"{kind}.npy" for kind in cats.KINDS] + ["cats1000.bin"]
    files = {name: {"name": name} for name in names}
    monkeypatch.setattr(cats, "registry", lambda: {"quickdraw": {"files": files}})
    monkeypatch.setattr(cats, "fetch", lambda _, file: tmp_path / file["name"])
    return packed | {"more": more}


def rows(x):
    """Images as a set of their bytes, from 0 to 255."""
    return {np.round((a + 1) * 127.5).astype(np.uint8).tobytes() for a in x}


def test_a_file_keeps_its_order_and_its_pixels(album):
    x = cats.drawing_file("cat.npy")
    assert x.shape == (1200, 28, 28, 1) and x.dtype == np.float32
    back = np.round((x + 1) * 127.5).astype(np.uint8)
    assert np.array_equal(back.reshape(1200, 1, 784), album["cat"])
    assert x.min() == -1 and x.max() == 1
    assert cats.drawing_file("cats1000.bin").shape == (8, 28, 28, 1)


@pytest.mark.parametrize(("kind", "sizes"), [("cat", (700, 500, 5)), ("fish", None)])
def test_the_parts_share_nothing_and_lose_nothing(album, kind, sizes):
    parts = [cats.drawings(kind, split) for split in ("train", "val", "test")]
    assert tuple(map(len, parts)) == (sizes or (200, 500, 500))
    found = [rows(x) for x in parts]
    whole = {a.tobytes() for a in album[kind]}
    if kind == "cat":
        whole |= {a.tobytes() for a in album["more"]}
    assert set.union(*found) == whole
    assert sum(map(len, found)) == len(whole)  # disjoint


def test_copies_leave_the_test_set_in_order(album):
    test = np.round((cats.drawings("cat", "test") + 1) * 127.5).astype(np.uint8)
    assert np.array_equal(test.reshape(5, 784), album["more"][[0, 2, 3, 5, 7]])


def test_the_split_is_shuffled_and_always_the_same(album):
    first, again = cats.drawings("cat", "val"), cats.drawings("cat", "val")
    assert np.array_equal(first, again)
    assert not np.array_equal(first, cats.drawing_file("cat.npy")[:500])


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: cats.drawings("dog"), "kind"),
        (lambda: cats.drawings("cat", "all"), "split"),
        (lambda: cats.drawing_file("dog.npy"), "name"),
        (lambda: cats.photographs("val"), "split"),
    ],
)
def test_unknown_names_are_refused(album, call, name):
    with pytest.raises(ValueError, match=f"`{name}` must be one of.*Received"):
        call()


def batch(labels, seed=0):
    """Records of CIFAR-10 and the images in them, written pixel by pixel."""
    rng, data, images = np.random.default_rng(seed), b"", []
    for label in labels:
        image = rng.integers(0, 256, (32, 32, 3), np.uint8)
        planes = b"".join(
            bytes(int(image[i, j, c]) for i in range(32) for j in range(32))
            for c in range(3)
        )
        data += bytes([label]) + planes
        images.append(image)
    return data, np.stack(images)


def test_records_give_the_cats_in_colour():
    data, images = batch([3, 0, 9, 3, 3])
    assert np.array_equal(cats.records(data), images[[0, 3, 4]])
    assert np.array_equal(cats.records(data, label=9), images[[2]])
    assert cats.records(data, label=1).shape == (0, 32, 32, 3)


@pytest.mark.parametrize("data", [b"", b"\x03" * 3072, b"\x03" * 3074])
def test_a_torn_batch_is_refused(data):
    with pytest.raises(ValueError, match="`data` must hold records of 3073 bytes"):
        cats.records(data)


def test_photographs_from_batches(tmp_path):
    for number, labels in ((1, [3, 2]), (2, [3, 3])):
        path = tmp_path / f"data_batch_{number}.bin"
        path.write_bytes(batch(labels, number)[0])
    (tmp_path / "test_batch.bin").write_bytes(batch([5, 3], 3)[0])
    x = cats.photographs("train", tmp_path)
    want = np.concatenate([batch([3, 2], 1)[1][:1], batch([3, 3], 2)[1]])
    assert x.shape == (3, 32, 32, 3) and x.dtype == np.float32
    assert np.allclose(x, want / 127.5 - 1, atol=1e-6)
    test = cats.photographs("test", str(tmp_path))
    assert np.allclose(test[0], batch([5, 3], 3)[1][1] / 127.5 - 1, atol=1e-6)


def test_photographs_from_jpeg_files(tmp_path):
    (tmp_path / "train").mkdir()
    colours = {"0001": (200, 30, 90), "0000": (10, 250, 60)}
    for name, colour in colours.items():
        Image.new("RGB", (32, 32), colour).save(tmp_path / "train" / f"{name}.jpg")
    x = cats.photographs("train", tmp_path)
    want = np.array([colours["0000"], colours["0001"]]) / 127.5 - 1
    assert x.shape == (2, 32, 32, 3)
    assert np.abs(x - want[:, None, None]).max() < 0.05  # JPEG is not exact
    with pytest.raises(FileNotFoundError, match="`folder` must hold test"):
        cats.photographs("test", tmp_path)


def test_a_photograph_of_another_size_is_refused(tmp_path):
    (tmp_path / "train").mkdir()
    Image.new("RGB", (32, 31)).save(tmp_path / "train" / "0.jpg")
    with pytest.raises(ValueError, match=r"`0\.jpg` must have 32 x 32 pixels"):
        cats.photographs("train", tmp_path)


@pytest.mark.skipif(not (HERE / "quickdraw").is_dir(), reason="no drawings here")
def test_the_published_drawings():
    found = {k: [len(cats.drawings(k, s)) for s in cats._SPLITS] for k in cats.KINDS}
    assert found["cat"] == [2500, 500, 970]
    assert found["fish"] == found["apple"] == [2000, 500, 500]


@pytest.mark.skipif(not (HERE / "cat_photos").is_dir(), reason="no photographs here")
def test_the_published_photographs():
    x = cats.photographs("test")
    assert x.shape == (1000, 32, 32, 3) and -1 <= x.min() < -0.9 < 0.9 < x.max() <= 1
