"""The exporter of the demos' models, and the directive that places a demo."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers

from tools import export_models as export

ROOT = Path(__file__).parent.parent
ASSETS = ROOT / "assets"


def every_layer() -> keras.Model:
    """A small network with each kind of layer that the runtime knows."""
    return keras.Sequential(
        [
            layers.Input((5,)),
            layers.Dense(2 * 3 * 4, use_bias=False),
            layers.Reshape((2, 3, 4)),
            layers.BatchNormalization(),
            layers.LeakyReLU(0.3),
            layers.Dropout(0.5),
            layers.Conv2DTranspose(3, 5, 2, "same", activation="leaky_relu"),
            layers.Conv2DTranspose(4, 3, 1, "same", use_bias=False),
            layers.BatchNormalization(center=False, scale=False),
            layers.Activation("sigmoid"),
            layers.Conv2DTranspose(2, (4, 1), (2, 1), "same"),
            layers.ReLU(),
            layers.Conv2DTranspose(2, 2, 3, "same", activation="tanh"),
            layers.Flatten(),
            layers.Dense(7, "relu"),
            layers.Dense(6),
            layers.BatchNormalization(),
            layers.Reshape((2, 3, 1)),
        ]
    )


def random_weights(model: keras.Model, seed: int) -> keras.Model:
    """Set all weights and statistics at random; variances stay positive."""
    rng = np.random.default_rng(seed)
    for v in model.weights:
        positive = "variance" in v.path or "gamma" in v.path
        draw = rng.uniform(0.5, 2.0, v.shape) if positive else rng.normal(size=v.shape)
        if len(v.shape) > 1:  # keep the size of the activations
            fan_in = v.shape[0] if len(v.shape) == 2 else np.prod(v.shape) / v.shape[2]
            draw = draw / np.sqrt(fan_in)
        v.assign(draw)
    return model


def unpack(blob: bytes) -> tuple[dict, np.ndarray, np.ndarray]:
    """Read a model file: header, biases, weights."""
    assert blob[:8] == b"GENAIBK1"
    (length,) = struct.unpack("<I", blob[8:12])
    header, start = json.loads(blob[12 : 12 + length]), 12 + length
    assert start % 4 == 0
    middle = start + 4 * header["biases"]
    biases = np.frombuffer(blob[start:middle], "<f4")
    return header, biases, np.frombuffer(blob[middle:], "<f2").astype("float64")


def run(blob: bytes, x: np.ndarray) -> np.ndarray:
    """What the runtime does, written with matrices instead of loops."""
    header, biases, weights = unpack(blob)
    for spec in header["layers"]:
        kind = spec["kind"]
        if kind in ("dense", "conv2d_transpose"):
            w, b = weights[slice(*spec["weight"])], biases[slice(*spec["bias"])]
            x = (dense if kind == "dense" else transposed)(x, spec, w, b)
        elif kind == "leaky_relu":
            x = np.where(x < 0, spec["slope"] * x, x)
        else:
            x = np.tanh(x) if kind == "tanh" else 1 / (1 + np.exp(-x))
    return x.reshape(header["shape"])


def dense(x, spec, w, b):
    return x @ w.reshape(-1, spec["outputs"]) + b


def transposed(x, spec, w, b):
    """Full transposed convolution, then the cut, by numpy.add.at."""
    h, wide, c = spec["input"]
    (kh, kw), (sh, sw), out = spec["kernel"], spec["stride"], spec["outputs"]
    copies = np.einsum(
        "ijc,uvco->ijuvo", x.reshape(h, wide, c), w.reshape(kh, kw, c, out)
    )
    full = np.zeros((h * sh + kh, wide * sw + kw, out))
    i, j, u, v = np.meshgrid(*map(np.arange, (h, wide, kh, kw)), indexing="ij")
    np.add.at(full, (i * sh + u, j * sw + v), copies)
    top, left = max(kh - sh, 0) // 2, max(kw - sw, 0) // 2
    return (full[top : top + h * sh, left : left + wide * sw] + b).ravel()


@pytest.mark.parametrize("seed", range(3))
def test_file_equals_keras_on_every_layer(seed):
    model = random_weights(every_layer(), seed)
    blob = export.model_bytes(model)
    z = np.random.default_rng(seed).standard_normal((4, 5)).astype("float32")
    found = np.stack([run(blob, row) for row in z])
    expected = model.predict(z, verbose=0)
    assert np.abs(found - expected).max() < 5e-3  # what float16 costs
    assert expected.std() > 0.01


def test_batch_normalisation_is_folded_exactly():
    model = random_weights(every_layer(), 0)
    header, biases, weights = export.network_spec(model)
    assert "BatchNormalization" not in json.dumps(header)
    norm = model.layers[2]
    mean, variance = (np.array(v) for v in norm.get_weights()[2:])
    gamma, beta = norm.get_weights()[:2]
    factor = gamma / np.sqrt(variance + norm.epsilon)
    by_hand = model.layers[0].get_weights()[0].reshape(5, 6, 4) * factor
    assert np.allclose(weights[0].reshape(5, 6, 4), by_hand)
    assert np.allclose(biases[0].reshape(6, 4), beta - mean * factor)


def test_file_is_as_small_as_it_can_be():
    model = random_weights(every_layer(), 0)
    header, biases, weights = unpack(export.model_bytes(model))
    kernels = [v for v in model.weights if len(v.shape) > 1]
    assert len(weights) == sum(np.prod(v.shape) for v in kernels)
    assert len(biases) == header["biases"] == 24 + 3 + 4 + 2 + 2 + 7 + 6


@pytest.mark.parametrize(
    ("layer", "says"),
    [
        (lambda: layers.Conv2DTranspose(2, 3, 2, "valid"), "padding 'same'"),
        (lambda: layers.Conv2DTranspose(2, 3, 1, "same", dilation_rate=2), "dilation"),
        (lambda: layers.Conv2D(2, 1, name="odd"), "Conv2D 'odd': its kind"),
        (lambda: layers.ReLU(max_value=6.0), "ceiling"),
        (lambda: layers.Activation("softplus"), "'softplus' in layer"),
        (lambda: layers.Dense(3), "more than one axis"),
        (lambda: layers.LayerNormalization(), "LayerNormalization"),
    ],
)
def test_what_the_runtime_cannot_do_is_refused_by_name(layer, says):
    shape = [layers.Input((12,)), layers.Dense(12), layers.Reshape((2, 2, 3))]
    model = keras.Sequential([*shape, layer()])
    with pytest.raises(ValueError, match="Received: ") as caught:
        export.model_bytes(model)
    assert says in str(caught.value)


def test_batch_normalisation_after_an_activation_is_refused():
    model = keras.Sequential(
        [layers.Input((3,)), layers.Dense(3, "relu"), layers.BatchNormalization()]
    )
    with pytest.raises(ValueError, match="does not follow a Dense"):
        export.model_bytes(model)


def test_a_network_that_costs_too_much_is_refused():
    model = keras.Sequential([layers.Input((4000,)), layers.Dense(3000)])
    with pytest.raises(ValueError, match="Received: 12,000,000"):
        export.model_bytes(model)


def test_a_weight_beyond_float16_is_refused():
    model = keras.Sequential([layers.Input((1,)), layers.Dense(1)])
    model.set_weights([np.array([[1e5]]), np.zeros(1)])
    with pytest.raises(ValueError, match="float16"):
        export.model_bytes(model)


def test_noise_is_gaussian_and_seeded():
    z = export.normals(3, 20_000)
    assert abs(z.mean()) < 4 / 20_000**0.5 and abs(z.std() - 1) < 0.02
    assert np.array_equal(z[:9], export.normals(3, 9))
    assert not np.array_equal(z[:9], export.normals(4, 9))


def test_arc_keeps_the_length():
    a, b = np.array([3.0, 0.0]), np.array([0.0, 3.0])
    assert np.allclose(export.arc(a, b, 0.5), 3 / 2**0.5)
    assert np.allclose(export.arc(a, b, 0), a) and np.allclose(export.arc(a, b, 1), b)


def test_grey_levels():
    images = np.array([-1.0, 0.0, 1.0]).reshape(3, 1, 1, 1)
    assert export.grey(images).ravel().tolist() == [255, 128, 0]


@pytest.mark.parametrize("name", ["decoder", "generator"])
def test_committed_models_draw_the_goldens(name):
    blob = (ASSETS / "models" / f"{name}.bin").read_bytes()
    assert len(blob) <= 300_000
    golden = np.load(ROOT / "tests" / "goldens" / f"{name}.npz")
    if name == "decoder":
        z, expected = golden["z"], golden["pixels"]
    else:
        size = unpack(blob)[0]["inputs"]
        z = export.normals(2, 24 * size).reshape(24, size)
        expected = golden["seed_2"]
    found = export.grey(np.stack([run(blob, row) for row in z]))
    assert np.abs(found.astype(int) - expected).max() <= 1


# The directive

CONF = """
import sys
sys.path.insert(0, {ext!r})
extensions = ["myst_parser", "playground"]
myst_enable_extensions = ["colon_fence"]
html_static_path = ["assets"]
html_theme = "basic"
"""
GOOD = ":model: m.bin\n:still: s.png\n:alt: A still.\n\nThe *caption*.\n"


def build(tmp_path: Path, body: str) -> tuple[int, str, Path]:
    """Build a small site with one demo; exit status, warnings and output folder."""
    import io

    from sphinx.application import Sphinx

    source, out = tmp_path / "source", tmp_path / "out"
    (source / "assets" / "models").mkdir(parents=True)
    (source / "assets" / "playground").mkdir()
    (source / "sub").mkdir()
    (source / "assets" / "models" / "m.bin").write_bytes(b"weights")
    (source / "assets" / "models" / "s.png").write_bytes(b"picture")
    for name in ("main.js", "playground.css"):
        (source / "assets" / "playground" / name).write_text("/* nothing */")
    (source / "conf.py").write_text(CONF.format(ext=str(ROOT / "book" / "_ext")))
    toc = "```{toctree}\nsub/demo\nplain\n```\n"
    (source / "index.md").write_text(f"# Index\n\n{toc}")
    (source / "plain.md").write_text("# Plain\n")
    (source / "sub" / "demo.md").write_text(f"# Demo\n\n:::{{playground}} {body}:::\n")
    warnings = io.StringIO()
    app = Sphinx(
        source, source, out, tmp_path / "trees", "html", status=None, warning=warnings,
        warningiserror=True, keep_going=True,
    )  # fmt: skip
    app.build()
    return app.statuscode, warnings.getvalue(), out


def test_directive_places_still_model_and_scripts(tmp_path):
    from bs4 import BeautifulSoup

    status, warnings, out = build(tmp_path, "latent\n" + GOOD)
    assert (status, warnings) == (0, "")
    page = out / "sub" / "demo.html"
    soup = BeautifulSoup(page.read_text("utf-8"), "html.parser")
    figure = soup.select_one("figure.playground")
    assert figure["data-kind"] == "latent"
    assert (page.parent / figure["data-model"]).read_bytes() == b"weights"
    image = figure.select_one(".playground-still img")
    assert image["alt"] == "A still."
    assert (page.parent / image["src"]).read_bytes() == b"picture"
    assert "JavaScript" in figure.select_one("noscript").text
    assert figure.select_one("figcaption em").text == "caption"
    script = soup.select_one('script[type="module"]')["src"].split("?")[0]
    assert (page.parent / script).is_file() and "/playground." in script
    assert soup.select_one('link[href*="playground.css"]')


def test_other_pages_load_nothing_and_nothing_is_copied_twice(tmp_path):
    out = build(tmp_path, "latent\n" + GOOD)[2]
    for name in ("plain", "index"):
        assert "playground" not in (out / f"{name}.html").read_text("utf-8")
    assert sorted(p.name for p in (out / "_static").rglob("*.bin")) == [
        p.name for p in (out / "_static" / "demos").glob("m.*.bin")
    ]
    assert not (out / "_static" / "playground").exists()


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("diffusion\n" + GOOD, "Received: 'diffusion'"),
        ("latent\n" + GOOD.replace(":alt: A still.\n", ""), "`:alt:`"),
        ("latent\n" + GOOD.replace("m.bin", "gone.bin"), "Received: 'gone.bin'"),
        ("latent\n" + GOOD.replace("s.png", "gone.png"), "Received: 'gone.png'"),
        ("latent\n" + GOOD.replace(":still: s.png\n", ""), "`:still:`"),
        ("latent\n" + GOOD.replace(":model: m.bin\n", ""), "needs `:model:`"),
        ("gan-lab\n" + GOOD, "takes no `:model:`"),
    ],
)
def test_what_is_wrong_fails_the_build(tmp_path, body, says):
    status, warnings, _ = build(tmp_path, body)
    assert status != 0 and says in warnings


def test_a_changed_model_gets_a_new_name(tmp_path):
    out = build(tmp_path / "a", "latent\n" + GOOD)[2]
    first = next((out / "_static" / "demos").glob("m.*.bin")).name
    import sys

    playground = sys.modules["playground"]
    model = tmp_path / "a" / "source" / "assets" / "models" / "m.bin"
    model.write_bytes(b"other weights")

    class App:
        outdir = out

    assert Path(playground.publish(App, model)).name != first
