"""Data sets: shapes, ranges, known densities, and what happens to damaged files."""

from __future__ import annotations

import gzip
import hashlib

import matplotlib.path
import numpy as np
import pytest
from sklearn.datasets import load_digits

from genai_utils import data
from genai_utils.data import images


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


def test_load_joins_the_parts_that_a_split_names(monkeypatch):
    greys = {"train": np.array([0, 255], "u1"), "t10k": np.array([51], "u1")}
    made = {}
    for part, grey in greys.items():
        made[f"{part}-images-idx3-ubyte.gz"] = np.tile(grey[:, None, None], (1, 3, 2))
        made[f"{part}-labels-idx1-ubyte.gz"] = grey // 51
    monkeypatch.setattr(images, "fetch", lambda name, file: file["name"])
    monkeypatch.setattr(images, "_read_idx", made.__getitem__)
    wanted = {"train": [-1.0, 1.0], "test": [-0.6], "all": [-1.0, 1.0, -0.6]}
    for split, grey in wanted.items():
        x, y = data.load("mnist", split)
        assert x.shape == (len(grey), 3, 2, 1) and x.dtype == np.float32
        np.testing.assert_allclose(x[:, 2, 1, 0], grey, atol=1e-6)
        assert y.dtype == np.int64
        np.testing.assert_array_equal(y, np.round((np.array(grey) + 1) * 2.5))
    np.testing.assert_array_equal(data.load("mnist")[1], [0, 5])  # train by default


def test_moons_have_the_moments_of_two_half_circles():
    x, y = data.toy("moons", 40_000, seed=4).T.astype("float64")
    # 1.5 (cos t - 1/2, sin t - 1/4) with t in (0, pi), or its mirror image; noise 0.1
    exact = {
        "x": (x, 0.0),
        "y": (y, 0.0),
        "xx": (x * x, 2.25 * 0.75 + 0.01),
        "yy": (y * y, 2.25 * (0.5 - 1 / np.pi + 1 / 16) + 0.01),
        "xy": (x * y, 2.25 * (1 / 8 - 1 / np.pi)),
    }
    for name, (draws, mean) in exact.items():
        assert abs(draws.mean() - mean) < 5 * draws.std() / 200, name
    top = (abs(x + 0.75) < 0.3) & (y > 0.75)  # of the upper moon, far from the other
    gap = np.hypot(x[top] + 0.75, y[top] + 0.375) - 1.5
    assert abs(gap.mean()) < 0.02 and gap.std() == pytest.approx(0.1, abs=0.01)


def test_the_swiss_roll_is_a_spiral_of_known_pitch():
    points = data.toy("swiss_roll", 20_000, seed=4).astype("float64")
    turns = np.arctan2(points[:, 1], points[:, 0])[:, None] + 2 * np.pi * np.arange(4)
    gaps = np.hypot(*points.T)[:, None] - turns / 6.5
    nearest = np.abs(gaps).argmin(axis=1)[:, None]
    gap, turn = (np.take_along_axis(a, nearest, 1)[:, 0] for a in (gaps, turns))
    assert abs(gap.mean()) < 0.02 and gap.std() == pytest.approx(0.1, abs=0.01)
    # one and a half turns, uniform: from 1.5 pi to 4.5 pi
    cuts = np.quantile(turn, [0.02, 0.25, 0.5, 0.75, 0.98]) / np.pi
    np.testing.assert_allclose(cuts, [1.56, 2.25, 3.0, 3.75, 4.44], atol=0.05)


def test_shapes_are_the_polygons_that_their_factors_say():
    x, factors = data.shapes(90, size=32, seed=5)
    line = (np.arange(32) + 0.5) / 16 - 1
    grid = np.stack(np.meshgrid(line, line), axis=-1).reshape(-1, 2)  # (x, y), by rows
    for i in range(90):
        kind, r = factors["shape"][i], factors["scale"][i]
        center = np.array([factors["x"][i], factors["y"][i]])
        found = x[i].ravel()
        if kind == 1:
            distance = r - np.hypot(*(grid - center).T)
            exact = np.clip(32 * distance, -1, 1)  # 1 unit of grey in half a pixel
            np.testing.assert_allclose(found, exact, atol=1e-4)
            assert factors["angle"][i] == 0
            continue
        sides = 4 if kind == 0 else 3
        corners = factors["angle"][i] + np.pi / sides * (1 + 2 * np.arange(sides))
        polygon = center + r * np.stack([np.cos(corners), np.sin(corners)], axis=1)
        inside = matplotlib.path.Path(polygon).contains_points(grid)
        clear = np.abs(found) == 1  # no edge within half a pixel
        np.testing.assert_array_equal(inside[clear], found[clear] > 0)
        assert clear.mean() > 0.85


def test_factors_of_shapes_fill_their_ranges():
    _, factors = data.shapes(3000, size=8, seed=6)
    counts = np.bincount(factors["shape"], minlength=3)
    assert len(counts) == 3 and abs(counts - 1000).max() < 130
    square, triangle = (factors["angle"][factors["shape"] == k] for k in (0, 2))
    ranges = {
        "scale": (factors["scale"], 0.3, 0.6),
        "x": (factors["x"], -0.35, 0.35),
        "y": (factors["y"], -0.35, 0.35),
        "squares": (square, 0.0, np.pi / 2),
        "triangles": (triangle, 0.0, 2 * np.pi / 3),
    }
    for name, (draws, low, high) in ranges.items():
        assert low <= draws.min() and draws.max() <= high, name
        cuts = (np.quantile(draws, [0.01, 0.5, 0.99]) - low) / (high - low)
        np.testing.assert_allclose(cuts, [0.01, 0.5, 0.99], atol=0.06, err_msg=name)
    pictures, _ = data.shapes(3)
    np.testing.assert_array_equal(pictures, data.shapes(3, size=16, seed=0)[0])
