"""Write the denoisers of the diffusion demo, what Keras computes with them, a still.

`python -m tools.export_models diffusion` trains a small diffusion model with classes on
each of four sets of points, rounds the matrices to 16 bits, and writes
``assets/models/diffusion-*.bin`` and ``diffusion.png``, the facts in ``training.json``,
and ``tests/goldens/diffusion.npz``; and ``scores.png``, the still of the field of
scores.  What a file holds is said in ``assets/playground/runtime.js``.
`python -m tools.export_models digits-diffusion` trains a diffusion of digits and writes
``diffusion-film.png``: recorded images, for the network is too heavy for a page.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tools.export_gpt import _Blocks, _dense
from tools.export_models import _array, normals, pack

#: Sets of points, and into how many classes each falls.
SETS = {"ring": 8, "checkerboard": 4, "moons": 2, "swiss_roll": 3}
STEPS = 100
HIDDEN = (96, 96, 96)
SAMPLES, BATCH_SIZE, EPOCHS, RATE, DROPOUT = 40_000, 500, 100, 3e-3, 0.3
FILM_STEPS = tuple(range(0, 51, 2))  # of 50 of DDIM, those that the film shows
FILM_SEED, FILM_GUIDANCE = 0, 1.0
TIMES = (1.0, 0.6, 0.13)  # at which goldens are computed
SEED, POINTS = 5, 16  # of the walks that are goldens
#: Sampler, calls, class (-2: none, -1: in turn) and guidance of the golden walks.
WALKS = (
    ("ancestral", 20, -2, 1.0),
    ("ancestral", 100, -1, 1.0),
    ("ddim", 10, -2, 1.0),
    ("ddim", 40, 1, 3.0),
    ("heun", 19, -2, 1.0),
    ("heun", 31, -1, 2.0),
)


def classes_of(name: str, x: np.ndarray) -> np.ndarray:
    """Return the class of each point, ``(n,)``, int32: a part of the shape.

    Args:
        name: Of ``SETS``: the mode of the ring, from the right anticlockwise; the
            quadrant of the checkerboard, from the upper right anticlockwise; the upper
            or lower moon; which half turn of the roll, from inside.
        x: Points ``(n, 2)``.
    """
    if name == "ring":
        angle = np.arctan2(x[:, 1], x[:, 0])
        return (np.round(angle / (np.pi / 4)) % 8).astype("int32")
    if name == "checkerboard":
        left, low = x[:, 0] < 0, x[:, 1] < 0
        return np.where(low, 2 + ~left, left).astype("int32")
    if name == "moons":
        angle = np.linspace(0, np.pi, 64)
        arc = np.stack([np.cos(angle), np.sin(angle)], axis=1)
        moons = [arc - (0.5, 0.25), (0.5, 0.25) - arc]
        gaps = [
            np.linalg.norm(x[:, None] - 1.5 * m, axis=-1).min(axis=1) for m in moons
        ]
        return np.argmin(gaps, axis=0).astype("int32")
    turn = (6.5 * np.linalg.norm(x, axis=1) / np.pi - 1.5) // 1
    return np.clip(turn, 0, 2).astype("int32")


def denoiser_spec(model: Any) -> tuple[dict, list, list]:
    """Describe a diffusion model of points for the runtime.

    Args:
        model: Of ``make_point_diffusion``, with classes or without.

    Returns:
        As ``export_models.network_spec``.

    Raises:
        ValueError: If the model is of another kind.
    """
    if model.network.name != "time_mlp" or model.kind != "v":
        raise ValueError(
            "`model` must be a diffusion of points that predicts v. Received: network "
            f"{model.network.name!r}, kind={model.kind!r}. Make it with "
            "make_point_diffusion, or add the other kind to runtime.js."
        )
    blocks, (out, hidden, told) = _Blocks(), _parts(model.network)
    known = [{"kind": "time_features", "count": told[0].count}]
    known.append(_dense(told[1], blocks))
    if model.num_classes is not None:
        table = blocks.add("weight", told[2].embeddings)
        known.append({"kind": "label", "outputs": told[1].units, "weight": table})
    known.append({"kind": "silu"})
    layers = [{"kind": "known", "layers": known}]
    for pair in hidden:
        both = [_dense(layer, blocks) for layer in pair]
        layers += [{"kind": "timed", "layers": both}, {"kind": "silu"}]
    layers.append(_dense(out, blocks))
    size = model.network.inputs[0].shape[-1]
    header = {"inputs": size, "shape": [size], "steps": model.num_steps}
    header |= {"classes": model.num_classes, "biases": blocks.size["bias"]}
    header |= {"layers": layers}
    return header, blocks.arrays["bias"], blocks.arrays["weight"]


def _parts(network: Any) -> tuple[Any, list[tuple], list]:
    """The last layer, the pairs (of the point, of what is known), and what is known.

    Keras does not keep layers in the order of a functional network, so its graph is
    followed from the output back to the inputs.
    """

    def maker(tensor: Any) -> Any:
        return tensor._keras_history.operation

    out, pairs = maker(network.outputs[0]), []
    above = maker(out.input)  # silu
    while type(above).__name__ == "Activation":
        own, told = map(maker, maker(above.input).input)
        pairs.insert(0, (own, told))
        above = maker(own.input)
    sources = [maker(maker(pairs[0][1].input).input)]  # of the silu of what is known
    if type(sources[0]).__name__ == "Add":
        dense, shaped = map(maker, sources[0].input)
        sources = [dense, maker(shaped.input)]
    return out, pairs, [maker(sources[0].input), *sources]


def denoiser_bytes(model: Any) -> bytes:
    """Return a diffusion model as the bytes of a model file."""
    return pack(*denoiser_spec(model))


def round_weights(model: Any) -> None:
    """Round all matrices to the 16 bits in which they are written."""
    for variable in model.network.weights:
        if len(variable.shape) > 1:
            variable.assign(_array(variable).astype("float16").astype("float32"))


def train(name: str, samples: int = SAMPLES, epochs: int = EPOCHS) -> tuple[Any, dict]:
    """Train the model of one set, and return it with what the training took.

    Args:
        name: Of ``SETS``.
        samples: How many points to train on.
        epochs: Passes through them.
    """
    import keras

    from benchmarks.common import matrix_product_speed
    from genai_utils import data
    from genai_utils.models.diffusion import make_point_diffusion

    x = data.toy(name, samples, seed=0)
    shape = {"num_classes": SETS[name], "label_dropout": DROPOUT, "seed": 0}
    model = make_point_diffusion(2, HIDDEN, STEPS, **shape)
    steps = epochs * -(-samples // BATCH_SIZE)
    rate = keras.optimizers.schedules.CosineDecay(RATE, steps, alpha=0.01)
    model.compile(keras.optimizers.Adam(rate))
    speed, start = matrix_product_speed(), time.perf_counter()
    labels = classes_of(name, x)
    model.fit(x, labels, batch_size=BATCH_SIZE, epochs=epochs, verbose=0)
    seconds = time.perf_counter() - start
    speed = (speed + matrix_product_speed()) / 2
    facts = {"samples": samples, "epochs": epochs, "batch_size": BATCH_SIZE}
    facts |= {"seconds": round(seconds), "matrix_product_gflops": round(speed)}
    return model, facts


@dataclass
class Stream:
    """Numbers that are handed out in order, in place of a NumPy generator.

    Args:
        noise: The numbers, such as those of ``noise.js``.
        at: How many have been handed out.
    """

    noise: np.ndarray
    at: int = 0

    def standard_normal(self, shape: tuple) -> np.ndarray:
        """Return the next numbers, in a shape."""
        size = int(np.prod(shape))
        self.at += size
        return self.noise[self.at - size : self.at].reshape(shape)


def walk(
    model: Any, sampler: str, calls: int, label: int, guidance: float
) -> np.ndarray:
    """Return where ``POINTS`` points end, as the package computes it.

    Args:
        model: A diffusion of points.
        sampler: ``"ancestral"``, ``"ddim"`` or ``"heun"``.
        calls: Calls of the network for each point; Heun's method takes two a step, and
            one in the last.
        label: The class; -1 for the classes in turn, -2 for none.
        guidance: As in ``Diffusion.denoiser``.
    """
    from genai_utils import samplers

    rng = Stream(normals(SEED, 2 * POINTS * (calls + 1)).astype("float64"))
    x = rng.standard_normal((POINTS, 2))
    turns = np.arange(POINTS) % model.num_classes
    labels = {-1: turns, -2: None}.get(label, label)
    eps_fn = model.denoiser(labels, guidance)
    if sampler == "heun":
        return samplers.heun(eps_fn, x, samplers.karras_levels((calls + 1) // 2))
    levels = samplers.spaced(model.schedule, calls)
    if sampler == "ddim":
        return samplers.ddim(eps_fn, x, levels)
    return samplers.ancestral(eps_fn, x, levels, rng)


def goldens(name: str, model: Any) -> dict[str, np.ndarray]:
    """Return what Keras and NumPy compute with one model, its weights rounded.

    Args:
        name: Of ``SETS``.
        model: The model.
    """
    from genai_utils import data

    x = 1.5 * normals(SEED, 2 * POINTS).reshape(POINTS, 2)
    labels = np.arange(POINTS) % (SETS[name] + 1)  # the last one says nothing
    rows = []
    for t in TIMES:
        inputs = [x, np.full((POINTS, 1), t, "float32"), labels[:, None]]
        rows.append(_array(model.network(inputs)).astype("float32"))
    found = {f"{name}_x": x, f"{name}_labels": labels, f"{name}_v": np.stack(rows)}
    walks = [walk(model, *settings) for settings in WALKS]
    points = data.toy(name, 200, seed=1)
    found |= {f"{name}_walks": np.stack(walks), f"{name}_points": points}
    return found | {f"{name}_classes": classes_of(name, points)}


def save_still(model: Any, path: Path) -> None:
    """Draw what the demo shows: points on their way from noise to a ring, in a row.

    Args:
        model: The model of the ring.
        path: Where to.
    """
    import matplotlib as mpl

    mpl.use("agg")
    import matplotlib.pyplot as plt

    from genai_utils import data, samplers

    n, calls, shown = 400, 40, (0, 24, 32, 40)
    labels = np.arange(n) % SETS["ring"]
    eps_fn = model.denoiser(labels)
    levels = samplers.spaced(model.schedule, calls)
    states = [normals(1, 2 * n).reshape(n, 2).astype("float64")]
    for step in range(calls, 0, -1):
        pair = levels[step - 1 : step + 1]
        states.append(samplers.ddim(eps_fn, states[-1], pair))
    path_of = np.stack(states)
    real = data.toy("ring", 400, seed=1)
    colours = plt.get_cmap("turbo")(np.linspace(0.05, 0.95, SETS["ring"]))[labels]
    figure, axes = plt.subplots(1, 4, figsize=(8, 2.25), layout="constrained")
    for ax, k in zip(axes, shown, strict=True):
        ax.plot(*real.T, ".", ms=2, color="0.8")
        lines = path_of[max(0, k - 12) : k + 1, ::5]
        ax.plot(lines[..., 0], lines[..., 1], lw=0.5, color="0.6")
        ax.scatter(*path_of[k].T, s=5, c=colours, zorder=3)
        ax.set(xlim=(-3.2, 3.2), ylim=(-3.2, 3.2), xticks=[], yticks=[], aspect=1)
        ax.set_title(f"step {k} of {calls}", fontsize=10)
    figure.savefig(path, dpi=110)
    plt.close(figure)
    fewer_colours(path)


def fewer_colours(path: Path) -> None:
    """Write a picture again with 64 colours, which makes its file half as large."""
    from PIL import Image

    with Image.open(path) as image:
        few = image.convert("RGB").quantize(64)
    few.save(path, optimize=True)


def ring_scores(x: np.ndarray, sigma: float) -> np.ndarray:
    """Return the score of the ring with Gaussian noise added, ``(n, 2)``.

    Args:
        x: Points ``(n, 2)``.
        sigma: Standard deviation of the noise.
    """
    from genai_utils import data

    variance = 0.1**2 + sigma**2
    gaps = data.toy_centers("ring") - x[:, None]  # (n, 8, 2)
    log_p = -0.5 * (gaps**2).sum(-1) / variance
    shares = np.exp(log_p - log_p.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    return (shares[..., None] * gaps).sum(axis=1) / variance


def save_scores_still(path: Path) -> None:
    """Draw the scores of the ring without noise and with some, side by side.

    Args:
        path: Where to.
    """
    import matplotlib as mpl

    mpl.use("agg")
    import matplotlib.pyplot as plt

    from genai_utils import data

    side = 3.2 * ((2 * np.arange(17) + 1) / 17 - 1)
    x = np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2)
    figure, axes = plt.subplots(1, 2, figsize=(7.5, 3.9), layout="constrained")
    for ax, sigma in zip(axes, (0.0, 1.0), strict=True):
        score = ring_scores(x, sigma)
        size = np.linalg.norm(score, axis=1, keepdims=True)
        drawn = 0.36 * score / size * np.sqrt(size / size.max())
        fade = np.sqrt(size[:, 0])
        ax.quiver(*x.T, *drawn.T, fade, angles="xy", scale_units="xy", scale=1,
                  pivot="mid", cmap="viridis", width=0.006)  # fmt: skip
        ax.plot(*data.toy_centers("ring").T, "o", ms=6, color="#d1495b")
        ax.set(xlim=(-3.2, 3.2), ylim=(-3.2, 3.2), xticks=[], yticks=[], aspect=1)
        ax.set_title("without noise" if not sigma else "with noise, σ = 1", fontsize=10)
    figure.savefig(path, dpi=110)
    plt.close(figure)
    fewer_colours(path)


def digits_film(model: Any) -> np.ndarray:
    """Return the frames of digits on their way from noise, ``(frames * 40, 16, 16)``.

    A frame has two rows of noisy images, each from 0 to 9, and below them the clean
    ones that the network then believes in.

    Args:
        model: A diffusion of digits with ten classes.
    """
    from genai_utils import samplers
    from tools.export_models import grey

    labels = np.tile(np.arange(10), 2)
    rng = np.random.default_rng(FILM_SEED)
    x = rng.standard_normal((len(labels), *model.network.input_shape[0][1:]))
    eps_fn = model.denoiser(labels, FILM_GUIDANCE)
    levels = samplers.spaced(model.schedule, FILM_STEPS[-1])
    frames = []
    for k in range(FILM_STEPS[-1] + 1):
        now = levels[len(levels) - 1 - k]
        eps = eps_fn(x, now) if now < 1 else 0.0
        guess = np.clip((x - np.sqrt(1 - now) * eps) / np.sqrt(now), -1, 1)
        if k in FILM_STEPS:
            frames.append(np.concatenate([np.clip(x, -1, 1), guess]))
        if now < 1:
            pair = levels[len(levels) - 2 - k : len(levels) - k]
            x = samplers.ddim(eps_fn, x, pair, clip=1.0)
    levels_of_grey = np.rint(grey(np.concatenate(frames)) / 17).astype("u1")
    return 17 * levels_of_grey  # 16 of them: a third of the file


def export_digits(root: Path) -> dict:
    """Train a diffusion of digits, write its film, and return what the training took.

    Args:
        root: The folder of the book.
    """
    from genai_utils import data
    from genai_utils.recipes import get_recipe
    from tools.export_models import save_still, timed

    x, y = data.load("digits", "train")
    model, facts = timed(get_recipe("digits_conditional_diffusion"), x, y=y)
    path = root / "assets" / "models" / "diffusion-film.png"
    save_still(digits_film(model), 10, path, scale=1)
    return facts | {"film_steps": list(FILM_STEPS)}


def export(root: Path) -> dict:
    """Train all models, write files, goldens and stills, return what one takes.

    Args:
        root: The folder of the book.
    """
    models, found, seconds = root / "assets" / "models", {}, 0
    for name in SETS:
        model, facts = train(name)
        seconds += facts["seconds"]
        round_weights(model)
        (models / f"diffusion-{name}.bin").write_bytes(denoiser_bytes(model))
        found |= goldens(name, model)
        if name == "ring":
            save_still(model, models / "diffusion.png")
    np.savez_compressed(root / "tests" / "goldens" / "diffusion.npz", **found)
    save_scores_still(models / "scores.png")
    return facts | {"seconds": round(seconds / len(SETS))}
