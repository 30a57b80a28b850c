"""Write the models of the live demos, what Keras draws with them, and still pictures.

`make demos` trains a two-coordinate VAE and a DCGAN on MNIST, 28 x 28, whose files it
takes from ``$GENAI_DATA_DIR`` or the download cache.  It writes models, pictures and
``training.json`` (what the trainings took, which the pages say) into ``assets/models``,
and ``tests/goldens/*.npz``.  It does the same with a small GPT on the packaged text
(``tools/export_gpt.py``) and with four denoisers of points
(``tools/export_diffusion.py``); ``python -m tools.export_models gpt``, or
``diffusion``, or ``digits-diffusion``, does one part alone.
The DCGAN is watched while it learns; what it draws then
is the film of the home page.  What a model file holds is said in
``assets/playground/runtime.js``.
"""

from __future__ import annotations

import json
import math
import struct
import sys
import time
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parent.parent
MAGIC = b"GENAIBK1"
MOST_MULTIPLY_ADDS = 10_000_000  # a picture, so that a demo stays quick on a phone
GRID = 24  # samples that the generator demo shows at once
FILM = (4, 10)  # rows and columns of the pictures of the home page
FILM_SEED = 3
FILM_STEPS = (10, 30, 60, 100, 200, 300, 500, 800, 1500, 3000)  # before the last
POINTS = [(0.0, 0.0), (1.0, -0.5), (-1.5, 1.25), (0.3, 2.0), (-0.65, -1.1), (2.4, 0.05)]


def network_spec(model: Any) -> tuple[dict, list[np.ndarray], list[np.ndarray]]:
    """Describe a sequential Keras network for the runtime, BatchNorm folded away.

    Args:
        model: A built ``keras.Sequential`` of Dense, Conv2DTranspose (padding
            "same"), BatchNormalization (after one of these), Reshape, Flatten,
            Dropout, ReLU, LeakyReLU and Activation layers.

    Returns:
        The header, and the biases and weights in the order of the layers; kernels of
        convolutions as ``(height, width, input channels, output channels)``.

    Raises:
        ValueError: If a layer is not supported, or a picture costs too much.
    """
    layers: list[dict] = []
    cost = 0
    for layer in model.layers:
        kind = type(layer).__name__
        if kind in ("Dense", "Conv2DTranspose"):
            linear, madds = _linear(layer, kind)
            layers.append(linear)
            cost += madds
            layers += _activation(layer.activation, layer.name)
        elif kind == "BatchNormalization":
            _fold(layer, layers)
        elif kind in ("ReLU", "LeakyReLU", "Activation"):
            layers += _activation_layer(layer, kind)
        elif kind not in ("InputLayer", "Reshape", "Flatten", "Dropout"):
            raise _refused(layer, "its kind is not supported")
    if cost > MOST_MULTIPLY_ADDS:
        raise ValueError(
            f"`model` must cost at most {MOST_MULTIPLY_ADDS:,} multiply-adds a "
            f"picture. Received: {cost:,}. Use fewer filters."
        )
    return _packed(model, layers)


def _packed(model: Any, layers: list[dict]) -> tuple[dict, list, list]:
    """Replace the arrays in ``layers`` by ``[start, end]`` in the file's blocks."""
    biases = [s["bias"] for s in layers if "bias" in s]
    weights = [s["weight"] for s in layers if "weight" in s]
    start = {"bias": 0, "weight": 0}
    for spec in layers:
        for key in start.keys() & spec.keys():
            end = start[key] + spec[key].size
            spec[key] = [start[key], end]
            start[key] = end
    header = {
        "inputs": math.prod(model.input_shape[1:]),
        "shape": list(model.output_shape[1:]),
        "biases": start["bias"],
        "layers": layers,
    }
    return header, biases, weights


def _array(variable: Any) -> np.ndarray:
    from keras import ops

    return ops.convert_to_numpy(variable).astype("float64")


def _refused(layer: Any, why: str) -> ValueError:
    return ValueError(
        f"`model` must hold layers that the demos can run. Received: "
        f"{type(layer).__name__} {layer.name!r}: {why}. Add it to runtime.js, or do "
        "without it."
    )


def _linear(layer: Any, kind: str) -> tuple[dict, int]:
    """Describe a layer with a kernel, and count its multiply-adds."""
    kernel = _array(layer.kernel)
    if kind == "Dense":
        if len(layer.input.shape) != 2:
            raise _refused(layer, "its input has more than one axis")
        spec = {"kind": "dense", "outputs": layer.units, "weight": kernel}
        madds = kernel.size
    else:
        _check_convolution(layer)
        kernel = kernel.transpose(0, 1, 3, 2)  # (height, width, inputs, outputs)
        places = list(layer.input.shape[1:])
        spec = {"kind": "conv2d_transpose", "input": places, "weight": kernel}
        spec |= {"kernel": list(kernel.shape[:2]), "stride": list(layer.strides)}
        spec |= {"outputs": layer.filters}
        madds = kernel.size * places[0] * places[1]
    size = spec["outputs"]
    bias = _array(layer.bias) if layer.use_bias else np.zeros(size)
    return spec | {"bias": bias}, madds


def _check_convolution(layer: Any) -> None:
    if layer.padding != "same" or layer.output_padding not in (None, (None, None)):
        raise _refused(layer, "only padding 'same' is supported")
    if tuple(layer.dilation_rate) != (1, 1):
        raise _refused(layer, "dilation is not supported")
    if layer.data_format != "channels_last":
        raise _refused(layer, "only channels last are supported")


def _fold(norm: Any, layers: list[dict]) -> None:
    """Fold a BatchNorm into the linear layer before it, eq. (11.4) in use."""
    if not layers or "weight" not in layers[-1] or norm.axis not in (-1, 3, 1):
        raise _refused(norm, "it does not follow a Dense or Conv2DTranspose layer")
    if norm.axis == 1 and len(norm.input.shape) != 2:
        raise _refused(norm, "only channels last are supported")
    spec = layers[-1]
    mean = _array(norm.moving_mean)
    gamma = _array(norm.gamma) if norm.scale else np.ones_like(mean)
    beta = _array(norm.beta) if norm.center else np.zeros_like(mean)
    factor = gamma / np.sqrt(_array(norm.moving_variance) + norm.epsilon)
    times = spec["outputs"] // len(mean)  # a Reshape may stand between the two
    factor, mean, beta = (np.tile(v, times) for v in (factor, mean, beta))
    spec["weight"] = spec["weight"] * factor
    spec["bias"] = (spec["bias"] - mean) * factor + beta


def _activation(function: Any, name: str) -> list[dict]:
    kinds = {
        "linear": [],
        "relu": [{"kind": "leaky_relu", "slope": 0.0}],
        "leaky_relu": [{"kind": "leaky_relu", "slope": 0.2}],  # Keras' default
        "tanh": [{"kind": "tanh"}],
        "sigmoid": [{"kind": "sigmoid"}],
    }
    word = getattr(function, "__name__", repr(function))
    if word not in kinds:
        raise ValueError(
            f"`model` must use one of {', '.join(kinds)}. Received: {word!r} in layer "
            f"{name!r}. Choose another activation."
        )
    return kinds[word]


def _activation_layer(layer: Any, kind: str) -> list[dict]:
    if kind == "Activation":
        return _activation(layer.activation, layer.name)
    if kind == "ReLU" and (layer.max_value is not None or layer.threshold):
        raise _refused(layer, "a ceiling or a threshold is not supported")
    return [{"kind": "leaky_relu", "slope": float(layer.negative_slope)}]


def model_bytes(model: Any) -> bytes:
    """Return a network as the bytes of a model file.

    Args:
        model: As for :func:`network_spec`.

    Raises:
        ValueError: If a layer is not supported, or a weight is too large for float16.
    """
    return pack(*network_spec(model))


def pack(header: dict, biases: list[np.ndarray], weights: list[np.ndarray]) -> bytes:
    """Return what :func:`network_spec` describes as the bytes of a model file.

    Args:
        header: What JSON can hold.
        biases: Arrays to be written with 32 bits.
        weights: Arrays to be written with 16 bits.

    Raises:
        ValueError: If a weight is too large for float16.
    """
    weight = np.concatenate([w.ravel() for w in weights])
    if np.abs(weight).max() > np.finfo(np.float16).max:
        raise ValueError(
            "The weights of `model` must fit into float16. Received: a size of "
            f"{np.abs(weight).max():.3g}. Rescale the layers."
        )
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    bias = np.concatenate(biases).astype("<f4").tobytes()
    length = struct.pack("<I", len(text))
    return MAGIC + length + text + bias + weight.astype("<f2").tobytes()


def normals(seed: int, n: int) -> np.ndarray:
    """Return the noise of ``assets/playground/noise.js``, shape ``(n,)``, float32.

    Args:
        seed: A whole number from 0 to 2**32 - 1.
        n: How many numbers.
    """
    u = _uniform(seed, 2 * n).reshape(n, 2)
    radius = np.sqrt(-2 * np.log(1 - u[:, 0]))
    return (radius * np.cos(2 * np.pi * u[:, 1])).astype("float32")


def _uniform(seed: int, n: int) -> np.ndarray:
    """Return mulberry32's uniform numbers in [0, 1)."""
    state, out = seed, np.empty(n)
    for i in range(n):
        state = (state + 0x6D2B79F5) % 2**32
        t = (state ^ (state >> 15)) * (state | 1) % 2**32
        t ^= (t + (t ^ (t >> 7)) * (t | 61)) % 2**32
        out[i] = (t ^ (t >> 14)) / 2**32
    return out


def arc(a: np.ndarray, b: np.ndarray, t: float) -> np.ndarray:
    """Return the point at ``t`` on the arc from ``a`` to ``b``, eq. (11.7).

    Args:
        a: Start, shape ``(d,)``.
        b: End, same shape.
        t: From 0 to 1.
    """
    omega = np.arccos(a @ b / np.linalg.norm(a) / np.linalg.norm(b))
    return (np.sin((1 - t) * omega) * a + np.sin(t * omega) * b) / np.sin(omega)


def grey(images: np.ndarray) -> np.ndarray:
    """Return images in [-1, 1] as grey levels, -1 white: ``(n, H, W)``, uint8.

    Args:
        images: Shape ``(n, H, W, 1)``.
    """
    return np.floor(127.5 * (1 - images[..., 0].astype("float64")) + 0.5).astype("u1")


def train_decoder(x: np.ndarray) -> tuple[Any, dict]:
    """Train the dense VAE with two coordinates, and return its decoder and the facts.

    Chapter 07's network is too heavy a download at 28 x 28, so the layers are
    narrower, and the likelihood is Bernoulli's.

    Args:
        x: Training images in [-1, 1], shape ``(n, 28, 28, 1)``.
    """
    from genai_utils.recipes import get_recipe

    arguments = {"image_shape": x.shape[1:], "latent_dim": 2}
    arguments |= {"hidden": (128, 128, 128), "likelihood": "bernoulli"}
    recipe = get_recipe("digits_dense_vae")
    recipe = replace(recipe, arguments=arguments, batch_size=128, epochs=60)
    model, facts = timed(recipe, x)
    return mean_decoder(model.decoder), facts


def mean_decoder(decoder: Any) -> Any:
    """Return a Bernoulli decoder that gives means in [-1, 1] in place of logits.

    The mean of a pixel in [0, 1] is the logistic function of its logit ``a``; on the
    scale of [-1, 1] this is ``tanh(a / 2)``, so the last layer is halved.

    Args:
        decoder: A ``keras.Sequential`` that ends in a Dense layer and a Reshape.
    """
    import keras

    copy = keras.models.clone_model(decoder)
    copy.set_weights(decoder.get_weights())
    copy.layers[-2].set_weights([w / 2 for w in copy.layers[-2].get_weights()])
    inputs = keras.layers.Input(decoder.input_shape[1:])
    return keras.Sequential([inputs, *copy.layers, keras.layers.Activation("tanh")])


def train_generator(x: np.ndarray) -> tuple[Any, dict]:
    """Train the DCGAN, and return its generator, weights averaged, and the facts.

    Args:
        x: As for :func:`train_decoder`.
    """
    from genai_utils.recipes import get_recipe

    film = film_callback()
    model, facts = timed(get_recipe("mnist_dcgan"), x, callbacks=[film])
    frames = np.concatenate(film.frames)
    save_still(frames, FILM[1], ROOT / "assets" / "models" / "film.png", scale=1)
    return model.generator, facts | {"film_steps": film.steps}


def timed(recipe: Any, x: np.ndarray, **kwargs: Any) -> tuple[Any, dict]:
    """Train a recipe, and return the model and what the training took.

    Args:
        recipe: Of ``genai_utils.recipes``.
        x: Training data.
        **kwargs: Those of ``Game.fit``.
    """
    from benchmarks.common import matrix_product_speed

    speed, start = matrix_product_speed(), time.perf_counter()
    model = recipe.train(x, **kwargs)
    seconds = time.perf_counter() - start
    speed = (speed + matrix_product_speed()) / 2
    facts = {"samples": len(x), "epochs": recipe.epochs}
    facts |= {"batch_size": recipe.batch_size, "seconds": round(seconds)}
    return model, facts | {"matrix_product_gflops": round(speed)}


def film_callback() -> Any:
    """Return a callback that keeps what a GAN draws at ``FILM_STEPS``."""
    import keras

    from genai_utils.callbacks import averaged

    class Film(keras.callbacks.Callback):
        def __init__(self) -> None:
            super().__init__()
            self.count, self.steps, self.frames = 0, [], []

        def keep(self) -> None:
            size = self.model.latent_dim
            z = normals(FILM_SEED, math.prod(FILM) * size).reshape(-1, size)
            # Before the first step there is no average yet.
            with averaged(self.model) if self.count else nullcontext():
                pixels = grey(self.model.generator.predict(z, verbose=0))
            self.steps.append(self.count)
            levels = np.rint(pixels / 17).astype("u1")  # 16: a third of the file
            self.frames.append(17 * levels)

        def on_train_begin(self, logs: dict | None = None) -> None:
            self.keep()

        def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
            self.count += 1
            if self.count in FILM_STEPS:
                self.keep()

        def on_train_end(self, logs: dict | None = None) -> None:
            self.keep()

    return Film()


def decoder_goldens(decoder: Any) -> dict[str, np.ndarray]:
    """Return latent points and what Keras draws there, as grey levels."""
    z = np.array(POINTS, "float32")
    return {"z": z, "pixels": grey(decoder.predict(z, verbose=0))}


def generator_goldens(generator: Any) -> dict[str, np.ndarray]:
    """Return what Keras draws for two seeds, and on a walk between two samples."""
    size = generator.input_shape[-1]
    goldens = {}
    for seed in (1, 2):
        z = normals(seed, GRID * size).reshape(GRID, size)
        goldens[f"seed_{seed}"] = grey(generator.predict(z, verbose=0))
    z = normals(1, GRID * size).reshape(GRID, size).astype("float64")
    t = np.linspace(0, 1, 11)
    path = np.stack([arc(z[0], z[1], s) for s in t]).astype("float32")
    return goldens | {"walk": grey(generator.predict(path, verbose=0))}


def save_still(pixels: np.ndarray, columns: int, path: Path, scale: int = 2) -> None:
    """Write grey pictures, row by row, as one PNG, with gaps as in the demos.

    Args:
        pixels: ``(n, H, W)``, uint8, with ``n`` a multiple of ``columns``.
        columns: Pictures in a row.
        path: Where to.
        scale: Pixels of the file for a pixel of a picture, along each side.
    """
    from PIL import Image

    n, h, w = pixels.shape
    framed = np.pad(pixels, ((0, 0), (1, 1), (1, 1)), constant_values=255)
    rows = framed.reshape(n // columns, columns, h + 2, w + 2).swapaxes(1, 2)
    page = Image.fromarray(rows.reshape(n // columns * (h + 2), columns * (w + 2)))
    size = (scale * page.width, scale * page.height)
    page.resize(size, Image.Resampling.NEAREST).save(path, optimize=True)


def save_game_still(path: Path) -> dict:
    """Train the GAN of chapter 09 on the ring, draw what the laboratory shows.

    Args:
        path: Where to.

    Returns:
        What the training took.
    """
    import matplotlib as mpl

    mpl.use("agg")
    import matplotlib.pyplot as plt

    from genai_utils import data
    from genai_utils.recipes import get_recipe

    ring = data.toy("ring", 4_000, seed=0)
    model, facts = timed(get_recipe("ring_gan"), ring)
    side = np.linspace(-3, 3, 121)
    points = np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2).astype("float32")
    logits = model.discriminator.predict(points, batch_size=5000, verbose=0)
    verdict = 1 / (1 + np.exp(-logits.reshape(121, 121)))
    fake = model.sample(400, seed=1)
    figure, ax = plt.subplots(figsize=(5, 5))
    ax.set_position((0, 0, 1, 1))
    ax.pcolormesh(side, side, verdict, cmap="viridis", vmin=0, vmax=1)
    ax.contour(side, side, verdict, [0.5], colors="w", linewidths=1.5)
    ax.plot(*ring[:400].T, "o", ms=3, mfc="w", mec="k", mew=0.4)
    ax.plot(*fake.T, "x", ms=5, color="#ff7f0e")
    ax.set(xlim=(-3, 3), ylim=(-3, 3), xticks=[], yticks=[])
    figure.savefig(path, dpi=96)
    return facts


def main(names: list[str] | None = None) -> None:
    """Train, write models, goldens, stills and facts, and say what was written.

    Args:
        names: Of ``decoder``, ``generator``, ``gan-lab``, ``gpt``, ``diffusion`` and
            ``digits-diffusion``; all if not given.
    """
    from genai_utils import data
    from genai_utils.seeds import set_seed

    models, goldens = ROOT / "assets" / "models", ROOT / "tests" / "goldens"
    models.mkdir(exist_ok=True)
    goldens.mkdir(exist_ok=True)
    for name, train, draw in (
        ("decoder", train_decoder, decoder_goldens),
        ("generator", train_generator, generator_goldens),
    ):
        if names and name not in names:
            continue
        set_seed(0)
        network, facts = train(data.load("mnist", "train")[0])
        (models / f"{name}.bin").write_bytes(model_bytes(network))
        np.savez_compressed(goldens / f"{name}.npz", **draw(network))
        pictures = _still_pictures(network, name)
        save_still(pictures, 6 if name == "generator" else 13, models / f"{name}.png")
        note(name, facts)
    if not names or "gan-lab" in names:
        set_seed(0)
        note("gan-lab", save_game_still(models / "gan-lab.png"))
    if not names or "gpt" in names:
        from tools import export_gpt

        set_seed(0)
        note("gpt", export_gpt.export(ROOT))
    if not names or "diffusion" in names:
        from tools import export_diffusion

        set_seed(0)
        note("diffusion", export_diffusion.export(ROOT))
    if not names or "digits-diffusion" in names:
        from tools import export_diffusion

        set_seed(0)
        note("digits-diffusion", export_diffusion.export_digits(ROOT))


def note(name: str, facts: dict) -> None:
    """Write what a training took into ``training.json``, beside the other ones."""
    log = ROOT / "assets" / "models" / "training.json"
    known = json.loads(log.read_text("utf-8")) if log.exists() else {}
    known[name] = facts
    text = json.dumps(dict(sorted(known.items())), indent=1)
    log.write_text(text + "\n", encoding="utf-8")
    print(f"{name}: {facts}")


def _still_pictures(network: Any, name: str) -> np.ndarray:
    """Return the map of the decoder, or the sheet of samples, of the demos."""
    if name == "generator":
        z = normals(1, GRID * network.input_shape[-1]).reshape(GRID, -1)
    else:
        side = 3 * ((2 * np.arange(13) + 1) / 13 - 1)
        z = np.stack(np.meshgrid(side, side[::-1]), axis=-1).reshape(-1, 2)
    return grey(network.predict(z.astype("float32"), verbose=0))


if __name__ == "__main__":
    main(sys.argv[1:])
