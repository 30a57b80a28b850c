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


def test_a_bernoulli_decoder_gives_means_in_place_of_logits():
    from genai_utils.models.vae import make_dense_vae

    vae = make_dense_vae((3, 4, 1), 2, (5,), likelihood="bernoulli", seed=1)
    z = 9 * np.random.default_rng(0).normal(size=(6, 2)).astype("float32")
    logits = vae.decoder.predict(z, verbose=0)
    means = export.mean_decoder(vae.decoder)
    expected = 2 / (1 + np.exp(-logits.astype("float64"))) - 1
    assert np.abs(expected).max() > 0.5
    found = means.predict(z, verbose=0)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    again = vae.decoder.predict(z, verbose=0)  # the model itself is as before
    np.testing.assert_allclose(again, logits, atol=1e-6)
    blob = export.model_bytes(means)
    assert np.abs(np.stack([run(blob, row) for row in z]) - expected).max() < 5e-3


def test_a_film_holds_the_frames_of_a_training(tmp_path, monkeypatch):
    from PIL import Image

    from genai_utils.recipes import Recipe, get_recipe

    monkeypatch.setattr(export, "ROOT", tmp_path)
    monkeypatch.setattr(export, "FILM_STEPS", (2, 3))
    (tmp_path / "assets" / "models").mkdir(parents=True)
    real = get_recipe("mnist_dcgan")
    arguments = {**real.arguments, "filters": (4, 4)}
    small = Recipe(real.make, real.data, real.rates, 4, 2, memory=real.memory)
    small = export.replace(small, arguments=arguments)
    monkeypatch.setattr("genai_utils.recipes.get_recipe", lambda name: small)
    x = np.tanh(np.random.default_rng(0).normal(size=(8, 28, 28, 1)))
    generator, facts = export.train_generator(x.astype("float32"))
    assert facts["film_steps"] == [0, 2, 3, 4]
    assert facts["samples"] == 8 and facts["epochs"] == 2
    assert facts["matrix_product_gflops"] > 0
    film = np.asarray(Image.open(tmp_path / "assets" / "models" / "film.png"))
    assert film.shape == (4 * 4 * 30, 10 * 30)  # four frames of four rows
    z = export.normals(export.FILM_SEED, 40 * 16).reshape(40, 16)
    last = export.grey(generator.predict(z, verbose=0))[0]
    assert np.abs(film[-4 * 30 + 1 : -4 * 30 + 29, 1:29].astype(int) - last).max() < 9


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
    assert found.shape[1:] == (28, 28)
    assert np.abs(found.astype(int) - expected).max() <= 1


# The language model


def small_gpt(**kwargs):
    """A GPT of three letters whose weights are all drawn at random."""
    from genai_utils.models.gpt import make_gpt

    settings = {"positions": "rotary", "seed": 3, **kwargs}
    gpt = make_gpt(3, context=6, width=8, depth=2, heads=2, **settings)
    rng = np.random.default_rng(0)
    for v in gpt.network.weights:
        v.assign(rng.normal(size=v.shape) * (0.5 if len(v.shape) > 1 else 1.0))
    return gpt


def read(blob: bytes, tokens: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
    """What the runtime does with a language model, written with matrices."""
    header, biases, weights = unpack(blob)
    maps: list[np.ndarray] = []

    def part(spec, key, block):
        return block[slice(*spec[key])]

    def run_layers(x, specs):
        for spec in specs:
            x = kinds[spec["kind"]](x, spec)
        return x

    def matrix(spec, columns):
        return part(spec, "weight", weights).reshape(-1, columns)

    def norm(x, spec):
        x = (x - x.mean(-1, keepdims=True)) / np.sqrt(
            x.var(-1, keepdims=True) + spec["epsilon"]
        )
        return x * part(spec, "scale", biases) + part(spec, "bias", biases)

    def gelu(x, spec):
        from math import erf

        return x * (1 + np.vectorize(erf)(x / 2**0.5)) / 2

    kinds = {
        "embedding": lambda x, s: matrix(s, s["outputs"])[x],
        "unembedding": lambda x, s: x @ matrix(s, s["inputs"]).T,
        "residual": lambda x, s: x + run_layers(x, s["layers"]),
        "dense": lambda x, s: x @ matrix(s, s["outputs"]) + part(s, "bias", biases),
        "layer_norm": norm,
        "gelu": gelu,
        "attention": lambda x, s: heads_of(x, s, maps),
    }
    return run_layers(np.asarray(tokens), header["layers"]), maps


def heads_of(qkv, spec, maps):
    """Causal attention; a pair of features is a complex number, turned by a phase."""
    length, heads = len(qkv), spec["heads"]
    q, k, v = qkv.reshape(length, 3, heads, -1).transpose(1, 2, 0, 3)
    size = q.shape[-1]
    phase = np.outer(np.arange(length), 10000 ** (-2 * np.arange(size // 2) / size))
    q, k = ((u[..., ::2] + 1j * u[..., 1::2]) * np.exp(1j * phase) for u in (q, k))
    scores = np.einsum("hqi,hki->hqk", q, k.conj()).real / size**0.5
    sizes = np.exp(scores) * np.tri(length)
    maps.append(sizes / sizes.sum(-1, keepdims=True))
    return np.einsum("hqk,hki->qhi", maps[-1], v).reshape(length, -1)


def test_file_of_a_language_model_equals_keras():
    from tools import export_gpt

    gpt = small_gpt()
    export_gpt.round_weights(gpt)
    blob = export_gpt.gpt_bytes(gpt, "abc")
    tokens = np.array([0, 2, 1, 1, 0, 2])
    logits, maps = read(blob, tokens)
    assert np.abs(logits - np.array(gpt(tokens[None]))[0]).max() < 1e-4
    assert np.abs(maps - gpt.attention_maps(tokens[None])[:, 0]).max() < 1e-5
    assert logits.std() > 0.1
    weights = unpack(blob)[2]
    kernels = [v for v in gpt.network.weights if len(v.shape) > 1]
    assert len(weights) == sum(np.prod(v.shape) for v in kernels)  # the table once


@pytest.mark.parametrize(
    ("kwargs", "alphabet", "says"),
    [
        ({"positions": "learned"}, "abc", "positions='learned'"),
        ({"tie": False}, "abc", "tie=False"),
        ({}, "ab", "Received: 2"),
    ],
)
def test_a_language_model_of_another_kind_is_refused(kwargs, alphabet, says):
    from tools import export_gpt

    with pytest.raises(ValueError, match="Received: ") as caught:
        export_gpt.gpt_bytes(small_gpt(**kwargs), alphabet)
    assert says in str(caught.value)


def test_a_small_training_writes_all_files(tmp_path, monkeypatch):
    from PIL import Image

    from tools import export_gpt

    for folder in ("assets/models", "tests/goldens"):
        (tmp_path / folder).mkdir(parents=True)
    for name, value in {"WIDTH": 8, "HEADS": 2, "DEPTH": 2, "WRITTEN": 3}.items():
        monkeypatch.setattr(export_gpt, name, value)
    letters, x, held_out = export_gpt.texts()
    assert x.shape[1] == held_out.shape[1] == export_gpt.CONTEXT + 1
    few = (letters, x[:40], held_out[:4])
    monkeypatch.setattr(export_gpt, "texts", lambda: few)
    facts = export_gpt.export(tmp_path)
    assert facts["samples"] == 40 and facts["epochs"] == export_gpt.EPOCHS
    assert facts["bits"] == pytest.approx(np.log2(62), abs=0.3)  # hardly trained
    golden = np.load(tmp_path / "tests" / "goldens" / "gpt.npz")
    blob = (tmp_path / "assets" / "models" / "gpt.bin").read_bytes()
    for k, prompt in enumerate(golden["prompts"]):
        found = read(blob, letters.encode(str(prompt)))[0]
        assert np.abs(found - golden[f"logits_{k}"]).max() < 1e-4
    assert len(str(golden["text"])) == len(export_gpt.PROMPTS[0]) + 3
    with Image.open(tmp_path / "assets" / "models" / "gpt.png") as still:
        assert still.width > still.height > 300


def test_committed_language_model_gives_the_goldens():
    golden = np.load(ROOT / "tests" / "goldens" / "gpt.npz")
    blob = (ASSETS / "models" / "gpt.bin").read_bytes()
    assert len(blob) <= 800_000
    alphabet = unpack(blob)[0]["alphabet"]
    for k, prompt in enumerate(golden["prompts"]):
        logits, maps = read(blob, np.array([alphabet.index(c) for c in str(prompt)]))
        assert np.abs(logits - golden[f"logits_{k}"]).max() < 1e-3
        assert np.abs(maps - golden[f"maps_{k}"]).max() < 1e-3


def test_probabilities_of_the_demo_by_hand():
    from tools.export_gpt import settled

    p = np.array([[0.5, 0.3, 0.15, 0.05]])
    cool = settled(np.log(p), 0.5, 4, 1.0)[0]
    assert np.allclose(cool, p[0] ** 2 / (p**2).sum())
    assert np.allclose(settled(np.log(p), 1.0, 2, 1.0)[0], [0.625, 0.375, 0, 0])
    assert np.allclose(settled(np.log(p), 1.0, 4, 0.79)[0], [0.625, 0.375, 0, 0])
    both = settled(np.log(p), 1.0, 2, 0.62)[0]  # top-k first: 0.625 reaches 0.62
    assert np.allclose(both, [1, 0, 0, 0])


def test_every_training_has_its_record():
    facts = json.loads((ASSETS / "models" / "training.json").read_text("utf-8"))
    points = {"diffusion", "digits-diffusion"}
    assert facts.keys() == {"decoder", "generator", "gan-lab", "gpt"} | points
    language = facts["gpt"]
    assert 2 < language["bits"] < 2.6  # of the last tenth of the text
    assert abs(language["bits"] - language["bits_before_rounding"]) < 0.01
    steps = facts["generator"]["film_steps"]
    assert steps[0] == 0 and steps == sorted(set(steps))
    batches = -(-facts["generator"]["samples"] // facts["generator"]["batch_size"])
    assert steps[-1] == batches * facts["generator"]["epochs"]
    from tools.export_diffusion import FILM_STEPS

    assert facts["digits-diffusion"]["film_steps"] == list(FILM_STEPS)
    for name in ("film", "diffusion-film"):
        assert (ASSETS / "models" / f"{name}.png").stat().st_size < 120_000


# The denoisers


def small_denoiser(**kwargs):
    """A denoiser of points whose weights are all drawn at random."""
    from genai_utils.models.diffusion import make_point_diffusion

    settings = {"num_classes": 3, "seed": 1, **kwargs}
    model = make_point_diffusion(2, (8, 6), 10, **settings)
    rng = np.random.default_rng(0)
    for v in model.network.weights:
        v.assign(rng.normal(size=v.shape) / (v.shape[0] ** 0.5 if v.shape[1:] else 1))
    return model


def silu(x):
    return x / (1 + np.exp(-x))


def denoise(blob: bytes, x: np.ndarray, t: float, labels: np.ndarray) -> np.ndarray:
    """What the runtime does with a denoiser, written with matrices."""
    header, biases, weights = unpack(blob)

    def dense_of(x, spec):
        w = weights[slice(*spec["weight"])].reshape(-1, spec["outputs"])
        return x @ w + biases[slice(*spec["bias"])]

    known, *rest = header["layers"]
    features, first, *table, _ = known["layers"]
    angles = np.pi * t * 2.0 ** np.arange(features["count"])
    told = dense_of(np.concatenate([[t], np.sin(angles), np.cos(angles)]), first)
    if header["classes"] is not None:
        rows = weights[slice(*table[0]["weight"])].reshape(-1, first["outputs"])
        told = told + rows[labels]
    told = silu(told)
    for spec in rest:
        if spec["kind"] == "timed":
            own, shift = spec["layers"]
            x = dense_of(x, own) + dense_of(told, shift)
        else:
            x = silu(x) if spec["kind"] == "silu" else dense_of(x, spec)
    return x


@pytest.mark.parametrize("classes", [3, None])
def test_file_of_a_denoiser_equals_keras(classes):
    from tools import export_diffusion

    model = small_denoiser(num_classes=classes)
    export_diffusion.round_weights(model)
    blob = export_diffusion.denoiser_bytes(model)
    x = np.random.default_rng(1).normal(size=(8, 2)).astype("float32")
    labels = np.arange(8) % 4
    for t in (0.0, 0.37, 1.0):
        inputs = [x, np.full((8, 1), t, "float32"), labels[:, None]]
        expected = model.network(inputs if classes else inputs[:2])
        assert np.abs(denoise(blob, x, t, labels) - expected).max() < 1e-4
    assert np.std(expected) > 0.1
    header, _, weights = unpack(blob)
    kernels = [v for v in model.network.weights if len(v.shape) > 1]
    assert len(weights) == sum(np.prod(v.shape) for v in kernels)
    assert header["classes"] == classes and header["steps"] == 10


def test_a_denoiser_of_another_kind_is_refused():
    from tools import export_diffusion

    with pytest.raises(ValueError, match="kind='eps'"):
        export_diffusion.denoiser_bytes(small_denoiser(kind="eps"))


def test_classes_are_parts_of_the_shapes():
    from genai_utils import data
    from tools.export_diffusion import SETS, classes_of

    assert classes_of("ring", data.toy_centers("ring")).tolist() == list(range(8))
    corners = np.array([(1, 1), (-1, 1), (-1, -1), (1, -1)])
    assert classes_of("checkerboard", corners).tolist() == [0, 1, 2, 3]
    tops = np.array([(-0.75, 1.125), (0.75, -1.125)])
    assert classes_of("moons", tops).tolist() == [0, 1]
    turns = np.array([(1.0, 0), (0, 1.45), (-1.9, 0)])
    assert classes_of("swiss_roll", turns).tolist() == [0, 1, 2]
    for name, count in SETS.items():
        shares = np.bincount(classes_of(name, data.toy(name, 3000)), minlength=count)
        assert len(shares) == count and shares.min() > 0.7 * 3000 / count


def test_scores_of_the_still_are_slopes_of_the_density():
    from genai_utils import data
    from tools.export_diffusion import ring_scores

    x = data.toy("ring", 50, seed=2).astype("float64")
    steps = 1e-5 * np.eye(2)
    up, down = (
        np.stack([data.toy_log_density("ring", x + s * h) for h in steps], axis=1)
        for s in (1, -1)
    )
    np.testing.assert_allclose(ring_scores(x, 0.0), (up - down) / 2e-5, atol=1e-4)
    assert np.abs(ring_scores(np.zeros((1, 2)), 1.0)).max() < 1e-12


def test_committed_denoisers_compute_the_goldens():
    from tools.export_diffusion import SETS, TIMES

    with np.load(ROOT / "tests" / "goldens" / "diffusion.npz") as file:
        golden = dict(file)
    for name in SETS:
        blob = (ASSETS / "models" / f"diffusion-{name}.bin").read_bytes()
        assert len(blob) <= 120_000
        x, labels = golden[f"{name}_x"], golden[f"{name}_labels"]
        for t, expected in zip(TIMES, golden[f"{name}_v"], strict=True):
            found = denoise(blob, x.astype("float64"), t, labels)
            assert np.abs(found - expected).max() < 1e-4


def test_a_small_training_writes_denoisers_and_stills(tmp_path, monkeypatch):
    from PIL import Image

    from tools import export_diffusion

    for folder in ("assets/models", "tests/goldens"):
        (tmp_path / folder).mkdir(parents=True)
    real, few = export_diffusion.train, {"samples": 600, "epochs": 2}
    monkeypatch.setattr(export_diffusion, "SETS", {"ring": 8})
    monkeypatch.setattr(export_diffusion, "HIDDEN", (8, 8))
    monkeypatch.setattr(export_diffusion, "train", lambda name: real(name, **few))
    facts = export_diffusion.export(tmp_path)
    assert facts["samples"] == 600 and facts["epochs"] == 2
    with np.load(tmp_path / "tests" / "goldens" / "diffusion.npz") as file:
        golden = dict(file)
    walks = golden["ring_walks"]
    assert walks.shape == (len(export_diffusion.WALKS), export_diffusion.POINTS, 2)
    assert np.isfinite(walks).all() and len(np.unique(walks[:, 0, 0])) == len(walks)
    blob = (tmp_path / "assets" / "models" / "diffusion-ring.bin").read_bytes()
    x, labels = golden["ring_x"].astype("float64"), golden["ring_labels"]
    found = denoise(blob, x, export_diffusion.TIMES[0], labels)
    assert np.abs(found - golden["ring_v"][0]).max() < 1e-4
    for name in ("diffusion", "scores"):
        with Image.open(tmp_path / "assets" / "models" / f"{name}.png") as still:
            assert still.width > 1.5 * still.height > 300


def test_film_of_digits_holds_noise_and_what_is_seen_in_it(tmp_path, monkeypatch):
    from PIL import Image

    from genai_utils.recipes import RECIPES
    from tools import export_diffusion

    name = "digits_conditional_diffusion"
    arguments = {"widths": (8, 8), "num_classes": 10, "patch": 2, "kind": "v"}
    small = export.replace(RECIPES[name], arguments=arguments, epochs=1)
    monkeypatch.setitem(RECIPES, name, small)
    monkeypatch.setattr(export_diffusion, "FILM_STEPS", (0, 2, 5))
    (tmp_path / "assets" / "models").mkdir(parents=True)
    facts = export_diffusion.export_digits(tmp_path)
    assert facts["film_steps"] == [0, 2, 5] and facts["epochs"] == 1
    film = np.asarray(Image.open(tmp_path / "assets/models/diffusion-film.png"))
    assert film.shape == (3 * 4 * 18, 10 * 18)  # four rows in each of three frames
    images = film.reshape(3, 4, 18, 10, 18)[:, :, 1:-1, :, 1:-1].astype("float64")
    assert np.array_equal(images[2, :2], images[2, 2:])  # at the end nothing is hidden
    assert np.std(images[0, :2]) > 60  # noise
    assert (images % 17 == 0).all()


# The directive

CONF = """
import sys
sys.path.insert(0, {ext!r})
extensions = ["myst_parser", "playground"]
myst_enable_extensions = ["colon_fence", "substitution"]
html_static_path = ["assets"]
html_theme = "basic"
"""
GOOD = ":model: m.bin\n:still: s.png\n:alt: A still.\n\nThe *caption*.\n"


def build(
    tmp_path: Path, body: str, facts: dict | None = None
) -> tuple[int, str, Path]:
    """Build a small site with one demo; exit status, warnings and output folder."""
    import io

    from sphinx.application import Sphinx

    source, out = tmp_path / "source", tmp_path / "out"
    (source / "assets" / "models").mkdir(parents=True)
    (source / "assets" / "playground").mkdir()
    (source / "sub").mkdir()
    (source / "assets" / "models" / "m.bin").write_bytes(b"weights")
    (source / "assets" / "models" / "s.png").write_bytes(b"picture")
    if facts:
        record = source / "assets" / "models" / "training.json"
        record.write_text(json.dumps(facts))
    for name in ("main.js", "film.js", "playground.css"):
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


def test_a_demo_may_have_several_models(tmp_path):
    from bs4 import BeautifulSoup

    body = "diffusion\n" + GOOD.replace("m.bin", "m.bin s.png")
    _, warnings, out = build(tmp_path, body)
    lines = [w for w in warnings.splitlines() if "already registered" not in w]
    page = out / "sub" / "demo.html"
    soup = BeautifulSoup(page.read_text("utf-8"), "html.parser")
    models = soup.select_one("figure.playground")["data-model"].split()
    found = [(page.parent / model).read_bytes() for model in models]
    assert found == [b"weights", b"picture"] and not lines


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
        ("wavelets\n" + GOOD, "Received: 'wavelets'"),
        ("latent\n" + GOOD.replace(":alt: A still.\n", ""), "`:alt:`"),
        ("latent\n" + GOOD.replace("m.bin", "gone.bin"), "Received: 'gone.bin'"),
        ("diffusion\n" + GOOD.replace("m.bin", "m.bin no.bin"), "Received: 'no.bin'"),
        ("latent\n" + GOOD.replace("s.png", "gone.png"), "Received: 'gone.png'"),
        ("latent\n" + GOOD.replace(":still: s.png\n", ""), "`:still:`"),
        ("latent\n" + GOOD.replace(":model: m.bin\n", ""), "needs `:model:`"),
        ("gan-lab\n" + GOOD, "takes no `:model:`"),
        ("film\n" + GOOD.replace(":model: m.bin\n", ""), "needs `film_steps`"),
    ],
)
def test_what_is_wrong_fails_the_build(tmp_path, body, says):
    status, warnings, _ = build(tmp_path, body)
    assert status != 0 and says in warnings


FACTS = {"samples": 60_000, "epochs": 7, "seconds": 600, "matrix_product_gflops": 100}


def test_pages_say_what_the_record_says(tmp_path):
    from bs4 import BeautifulSoup

    body = "film\n:still: s.png\n:alt: A still.\n\n{{ gan_lab_training }}.\n"
    body += "\n{{ gpt_bits }} bits.\n"
    facts = {"gan-lab": FACTS, "generator": FACTS | {"film_steps": [0, 5, 90]}}
    facts["gpt"] = FACTS | {"bits": 2.3456}
    _, warnings, out = build(tmp_path, body, facts)
    # A second build in one process registers node and directive again.
    lines = [w for w in warnings.splitlines() if "already registered" not in w]
    assert not lines
    html = (out / "sub" / "demo.html").read_text("utf-8")
    figure = BeautifulSoup(html, "html.parser").select_one("figure.playground")
    assert figure["data-steps"] == "0 5 90"
    assert 'type="module"' not in html and "film.js" in html  # it runs from a disk, too
    text = figure.select_one("figcaption").get_text()
    # 600 s on a machine of 100 GFLOP/s are 200 s on one of 300.
    assert "7 passes through 60,000 samples, 3 minutes on two processor" in text
    assert "2.35 bits." in text


def test_a_film_may_have_a_record_and_a_label_of_its_own(tmp_path):
    from bs4 import BeautifulSoup

    body = "film\n:film: digits\n:label: Step\n:still: s.png\n:alt: A still.\n"
    facts = {"digits": FACTS | {"film_steps": [0, 2]}}
    out = build(tmp_path, body, facts)[2]
    html = (out / "sub" / "demo.html").read_text("utf-8")
    figure = BeautifulSoup(html, "html.parser").select_one("figure.playground")
    assert (figure["data-steps"], figure["data-label"]) == ("0 2", "Step")


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.2, "1 second"), (99, "99 seconds"), (150, "2 minutes")]
)
def test_duration_in_words(seconds, words):
    import sys

    build_path = str(ROOT / "book" / "_ext")
    if build_path not in sys.path:
        sys.path.insert(0, build_path)
    import playground

    facts = {"seconds": seconds, "matrix_product_gflops": playground.GFLOPS}
    assert playground.duration(facts) == words


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
