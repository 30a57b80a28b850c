"""Data sets: shapes, ranges, known densities, and what happens to damaged files."""

from __future__ import annotations

import gzip
import hashlib

import numpy as np
import pytest
from sklearn.datasets import load_digits

from genai_utils import data


def test_digits_are_the_real_ones_split_once_and_for_all():
    x, y = data.digits("train")
    x_test, y_test = data.digits("test")
    everything, labels = data.digits("all")
    assert x.shape == (1297, 16, 16, 1) and x_test.shape == (500, 16, 16, 1)
    assert x.dtype == np.float32 and y.dtype == np.int64
    assert x.min() == -1 and x.max() == 1
    np.testing.assert_array_equal(everything, np.concatenate([x, x_test]))
    raw = load_digits()
    np.testing.assert_array_equal(np.bincount(labels), np.bincount(raw.target))
    # stratified: each class keeps its share to within one image
    share = np.bincount(raw.target) * 500 / 1797
    assert np.abs(np.bincount(y_test) - share).max() <= 1
    # averaged over 2 x 2 blocks, each image is one of the originals, nearly
    small = everything.reshape(-1, 8, 2, 8, 2).mean(axis=(2, 4)).reshape(1797, 64)
    original = (raw.images / 8 - 1).reshape(1797, 64)
    squares = ((small[:50, None] - original) ** 2).mean(axis=-1)
    assert squares.min(axis=1).max() < 0.05


def test_digits_are_copies():
    x, _ = data.digits("test")
    x[:] = 0
    assert data.digits("test")[0].any()


@pytest.mark.parametrize("name", data.TOYS)
def test_toys_are_seeded_and_centred(name):
    points = data.toy(name, 4000, seed=1)
    assert points.shape == (4000, 2) and points.dtype == np.float32
    np.testing.assert_array_equal(points, data.toy(name, 4000, seed=1))
    assert not np.array_equal(points, data.toy(name, 4000, seed=2))
    assert np.abs(points.mean(axis=0)).max() < 0.4 and np.abs(points).max() < 3.5


@pytest.mark.parametrize("name", ["ring", "grid", "checkerboard"])
def test_known_densities_integrate_to_one_and_fit_the_draws(name):
    side = np.linspace(-3, 3, 1201)[:-1] + 0.0025
    points = np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2)
    density = np.exp(data.toy_log_density(name, points))
    assert density.sum() * 0.005**2 == pytest.approx(1, abs=2e-3)
    # the mean log-density of draws is minus the entropy, by quadrature
    log_p = data.toy_log_density(name, data.toy(name, 20_000))
    inside = density > 0
    entropy = -(density[inside] * np.log(density[inside])).sum() * 0.005**2
    assert -log_p.mean() == pytest.approx(entropy, abs=0.03)


def test_ring_draws_each_mode_equally_often():
    centers = data.toy_centers("ring")
    points = data.toy("ring", 8000)
    gap = np.linalg.norm(points[:, None] - centers, axis=-1)
    assert np.abs(np.bincount(gap.argmin(axis=1)) - 1000).max() < 150
    assert gap.min(axis=1).std() < 0.1


def test_shapes_have_the_area_that_their_factors_say():
    x, factors = data.shapes(600, size=64, seed=3)
    assert x.shape == (600, 64, 64, 1) and x.min() == -1 and x.max() == 1
    area = (x[..., 0] + 1).sum(axis=(1, 2)) / 2 * (2 / 64) ** 2
    r2 = factors["scale"] ** 2
    of_kind = np.choose(factors["shape"], [2.0, np.pi, 0.75 * 3**0.5])
    np.testing.assert_allclose(area, of_kind * r2, rtol=0.06)
    # and the centre of mass where they say
    line = (np.arange(64) + 0.5) / 32 - 1
    mass = (x[..., 0] + 1) / (x[..., 0] + 1).sum(axis=(1, 2), keepdims=True)
    np.testing.assert_allclose(mass.sum(axis=1) @ line, factors["x"], atol=0.02)
    np.testing.assert_allclose(mass.sum(axis=2) @ line, factors["y"], atol=0.02)


@pytest.fixture
def fake_set(tmp_path, monkeypatch):
    """A two-image stand-in for MNIST, with the hashes of its own files."""
    monkeypatch.setenv("GENAI_DATA_DIR", str(tmp_path))
    monkeypatch.setattr("pooch.os_cache", lambda name: tmp_path / "cache")
    entry = {"files": {}}
    folder = tmp_path / "mnist"
    folder.mkdir()
    images = np.arange(2 * 28 * 28).reshape(2, 28, 28).astype("u1")
    for kind, value in (
        ("images-idx3", images),
        ("labels-idx1", np.array([3, 9], "u1")),
    ):
        header = bytes([0, 0, 8, value.ndim]) + np.array(value.shape, ">i4").tobytes()
        name = f"train-{kind}-ubyte.gz"
        (folder / name).write_bytes(gzip.compress(header + value.tobytes()))
        digest = hashlib.sha256((folder / name).read_bytes()).hexdigest()
        url = f"http://localhost:9/{name}"
        entry["files"][name] = {"name": name, "sha256": digest, "urls": [url]}
    monkeypatch.setattr("genai_utils.data.images.registry", lambda: {"mnist": entry})
    return folder, images


def test_load_reads_idx_files_from_the_data_directory(fake_set):
    x, y = data.load("mnist", "train")
    assert x.shape == (2, 28, 28, 1) and y.tolist() == [3, 9]
    np.testing.assert_allclose((x[..., 0] + 1) * 127.5, fake_set[1], atol=1e-3)


def test_load_refuses_a_damaged_file(fake_set):
    path = fake_set[0] / "train-labels-idx1-ubyte.gz"
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(ValueError, match="SHA-256"):
        data.load("mnist", "train")


def test_load_says_where_to_put_a_missing_file(fake_set, monkeypatch):
    def no_network(*args, **kwargs):
        raise OSError("no network")

    monkeypatch.setattr("pooch.retrieve", no_network)
    (fake_set[0] / "train-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(FileNotFoundError, match="GENAI_DATA_DIR") as error:
        data.load("mnist", "train")
    assert "train-labels-idx1-ubyte.gz" in str(error.value)
    assert "http://localhost:9" in str(error.value)


@pytest.mark.parametrize(
    "call",
    [
        lambda: data.load("cifar"),
        lambda: data.digits("valid"),
        lambda: data.toy("ring", 0),
        lambda: data.toy("star", 10),
        lambda: data.toy_log_density("moons", np.zeros((1, 2))),
        lambda: data.shapes(1, size=4),
    ],
)
def test_bad_arguments_are_refused(call):
    with pytest.raises(ValueError, match="Received"):
        call()
