"""Part V: likelihoods on toys, network calls against quality, a race on MNIST.

``python -m benchmarks.diffusion`` runs three parts and writes
``results/diffusion.json``:

- *toys*: how many nats a coupling flow and a matched flow lose to the true density;
- *calls*: Frechet distance of the small digits against the number of network calls,
  by sampler, before and after the paths are straightened;
- *race*: how soon the book's diffusion model reaches the Frechet distances of the
  network and settings of https://keras.io/examples/generative/ddim/, on MNIST, and
  how far the book's DCGAN gets in the same seconds.

``--seconds`` says how long the example may train; the book's models get a third of it.
Distances are taken between features of the book's judges, with 1,000 samples: they are
**not** Inception FID.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from benchmarks.common import RESULTS, save
from benchmarks.wgan import outrun, train
from genai_utils import data, samplers
from genai_utils.game import Field, Game, Player
from genai_utils.judge import load_judge
from genai_utils.metrics import frechet_distance
from genai_utils.models.flow import make_coupling_flow, make_image_flow, make_point_flow
from genai_utils.recipes import get_recipe
from genai_utils.schedules import cosine_schedule

PARTS = ("toys", "calls", "race")
TOYS = ("ring", "grid", "checkerboard")
POINTS, TESTED, TOY_EPOCHS = 20_000, 2_000, 60
SAMPLES, CALL_SAMPLES, PAIRS = 1_000, 500, 3_000
SECONDS = 900.0  # for the example, on the clock of its training
CALLS = 20  # of the plain sampler, as in the example
SETTINGS = {
    "book": "the book's U-Net (patches of 2, widths 32 and 64), predicts v, cosine "
    "schedule, batch 64, Adam 2e-3, averaged weights (0.998), Heun's method",
    "keras_ddim": "U-Net of the Keras example with widths 32, 64 and 96 (28 can be "
    "halved twice), two blocks a size, predicts the noise, mean absolute error, batch "
    "64, AdamW 1e-3 with weight decay 1e-4, averaged weights (0.999), DDIM",
}


# Toys


def gap(model: Any, name: str) -> float:
    """Return the nats a point that a model loses to the true density, on new points."""
    x = data.toy(name, TESTED, seed=1)
    return float((data.toy_log_density(name, x) - model.log_likelihood(x)).mean())


def toys(seeds: int, epochs: int = TOY_EPOCHS) -> list[dict]:
    """Train both flows on each toy; return gaps in nats, seed by seed.

    Args:
        seeds: How many trainings of each.
        epochs: Passes through 20,000 points.
    """
    coupling = partial(make_coupling_flow, depth=12, hidden=(128, 64))  # chapter 19's
    makers = {"coupling": coupling, "matched": make_point_flow}
    rows = []
    for name in TOYS:
        x = data.toy(name, POINTS)
        for kind, make in makers.items():
            gaps = []
            for seed in range(seeds):
                keras.utils.set_random_seed(seed)
                model = make(seed=seed)
                steps = epochs * math.ceil(POINTS / 256)
                rate = keras.optimizers.schedules.CosineDecay(2e-3, steps)
                model.compile(keras.optimizers.Adam(rate))
                model.fit(x, batch_size=256, epochs=epochs, verbose=0)
                gaps.append(round(gap(model, name), 3))
                keras.backend.clear_session()
            row = {"toy": name, "flow": kind, "gaps": gaps}
            rows.append(row | {"mean": round(statistics.mean(gaps), 3)})
            print("  ", rows[-1], flush=True)
    return rows


# Network calls


def ways(diffusion: Any, flow: Any, straight: Any) -> Iterator[tuple[str, int, Any]]:
    """Yield name, network calls and samples of each way to draw.

    Args:
        diffusion: A trained diffusion model.
        flow: A trained flow.
        straight: The flow, trained again on its own pairs of noise and image.
    """
    start = np.random.default_rng(1).standard_normal((CALL_SAMPLES, 16, 16, 1))
    eps_fn = diffusion.denoiser()
    for steps in (4, 10, 20, 50, 1000):
        levels = samplers.spaced(cosine_schedule(1000), steps)
        rng = np.random.default_rng(2)
        yield "ancestral", steps, samplers.ancestral(eps_fn, start, levels, rng, 1.0)
    for steps in (4, 10, 20, 50):
        levels = samplers.spaced(cosine_schedule(1000), steps)
        yield "DDIM", steps, samplers.ddim(eps_fn, start, levels, clip=1.0)
    for steps in (2, 5, 10):
        levels = samplers.karras_levels(steps)
        yield "Heun", 2 * steps - 1, samplers.heun(eps_fn, start, levels)
    for name, model in (("flow", flow), ("straightened flow", straight)):
        for method, each in (("euler", 1), ("heun", 2)):
            for steps in (1, 2, 4, 10, 50)[: 4 if method == "heun" else 5]:
                x = samplers.integrate(model.velocity, start, steps, method)
                yield f"{name}, {method}", each * steps, x


def straighten(flow: Any, seed: int, epochs: int) -> Any:
    """Return a flow trained on pairs of noise and the image that ``flow`` makes of it.

    Args:
        flow: A trained flow; its weights are where the new one starts.
        seed: Seed of the noise.
        epochs: Passes through the pairs.

    Reference:
        Liu, Gong and Liu (2023), algorithm 1.
    """
    noise = np.random.default_rng(seed).standard_normal((PAIRS, 16, 16, 1))
    images = samplers.integrate(flow.velocity, noise, 10, "heun")
    recipe = get_recipe("digits_flow")
    model = make_image_flow(**recipe.arguments, paired=True, seed=seed)
    model.network.set_weights(flow.network.get_weights())
    model.compile(recipe.optimizers())
    x = np.clip(images, -1, 1).astype("float32")
    fit = {"batch_size": recipe.batch_size, "epochs": epochs, "verbose": 0}
    model.fit(x, noise.astype("float32"), **fit)
    return model


def calls(seeds: int, epochs: int | None = None) -> list[dict]:
    """Return Frechet distances by sampler and calls, the median over seeds.

    Args:
        seeds: How many trainings of each model.
        epochs: Passes through the data; those of the recipes by default.
    """
    judge = load_judge("digits")
    x, real = data.load("digits")[0], judge.features(data.load("digits", "test")[0])
    found: dict[tuple, list] = {}
    for seed in range(seeds):
        more = {} if epochs is None else {"epochs": epochs}
        models = [
            get_recipe(name).train(x, seed, **more)
            for name in ("digits_diffusion", "digits_flow")
        ]
        models.append(straighten(models[1], seed, epochs or 8))
        for name, count, samples in ways(*models):
            shown = np.clip(samples, -1, 1).astype("float32")
            distance = frechet_distance(judge.features(shown), real)
            found.setdefault((name, count), []).append(round(distance, 3))
            print("  ", seed, name, count, round(distance, 3), flush=True)
        keras.backend.clear_session()
    return [
        {"sampler": n, "calls": c, "frechet": v, "median": statistics.median(v)}
        for (n, c), v in found.items()
    ]


# The race


class KerasDiffusion(Game):
    """The diffusion model of the Keras example: a noise level from a circle's arc.

    Args:
        seed: Seed of noise and times.

    Reference:
        https://keras.io/examples/generative/ddim/
    """

    def __init__(self, seed: int = 0) -> None:  # noqa: D107
        super().__init__()
        self.network = keras_unet()
        self.data = Field("float32", -1.0, 1.0)
        self.mean, self.std = -0.738, 0.616  # of MNIST's pixels
        self.arc = math.acos(0.95), math.acos(0.02)
        self.seed_generator = keras.random.SeedGenerator(seed)
        self.built = True

    def players(self) -> list[Player]:
        """Return the one player."""
        return [Player("diffusion", [self.network], self._loss)]

    def _loss(self, x: Any, training: bool) -> Any:
        n, seed, (first, last) = ops.shape(x)[0], self.seed_generator, self.arc
        x = (x - self.mean) / self.std
        t = keras.random.uniform((n, 1, 1, 1), seed=seed)
        angle = first + t * (last - first)
        eps = keras.random.normal(ops.shape(x), seed=seed)
        noisy = ops.cos(angle) * x + ops.sin(angle) * eps
        found = self.network([noisy, ops.sin(angle) ** 2], training=training)
        return ops.mean(ops.abs(found - eps))

    def sample(self, n: int, seed: int = 0) -> np.ndarray:
        """Draw ``n`` images with 20 steps of DDIM, float32 in [-1, 1]."""
        x = np.random.default_rng(seed).standard_normal((n, 28, 28, 1))
        first, last = self.arc
        angles = last + (first - last) * np.arange(CALLS + 1) / CALLS
        for angle, after in pairwise(angles):
            power = np.full((n, 1, 1, 1), math.sin(angle) ** 2, "float32")
            inputs = [x.astype("float32"), power]
            eps = self.network.predict(inputs, batch_size=250, verbose=0)
            clean = (x - math.sin(angle) * eps) / math.cos(angle)
            x = math.cos(after) * clean + math.sin(after) * eps
        return np.clip(clean * self.std + self.mean, -1, 1).astype("float32")


@keras.saving.register_keras_serializable("benchmarks")
class Waves(layers.Layer):
    """Sines and cosines of a noise power: 16 frequencies from 1 to 1,000."""

    def call(self, power: Any) -> Any:
        """Return ``(B, 1, 1, 32)`` of powers ``(B, 1, 1, 1)``."""
        speeds = 2 * math.pi * np.geomspace(1.0, 1000.0, 16).astype("float32")
        return ops.concatenate([ops.sin(speeds * power), ops.cos(speeds * power)], -1)


def keras_unet(widths: tuple[int, ...] = (32, 64, 96), depth: int = 2) -> keras.Model:
    """Make the U-Net of the Keras example for images (28, 28, 1).

    Args:
        widths: Channels at each size.
        depth: Residual blocks at each size.
    """
    x, power = layers.Input((28, 28, 1)), layers.Input((1, 1, 1))
    told = layers.UpSampling2D(28)(Waves()(power))
    h = layers.Concatenate()([layers.Conv2D(widths[0], 1)(x), told])
    kept = []
    for width in widths[:-1]:
        for _ in range(depth):
            h = _block(h, width)
            kept.append(h)
        h = layers.AveragePooling2D(2)(h)
    for _ in range(depth):
        h = _block(h, widths[-1])
    for width in reversed(widths[:-1]):
        h = layers.UpSampling2D(interpolation="bilinear")(h)
        for _ in range(depth):
            h = _block(layers.Concatenate()([h, kept.pop()]), width)
    out = layers.Conv2D(1, 1, kernel_initializer="zeros")(h)
    return keras.Model([x, power], out)


def _block(h: Any, width: int) -> Any:
    same = h if h.shape[-1] == width else layers.Conv2D(width, 1)(h)
    new = layers.BatchNormalization(center=False, scale=False)(h)
    new = layers.Conv2D(width, 3, padding="same", activation="silu")(new)
    return layers.Add()([same, layers.Conv2D(width, 3, padding="same")(new)])


def keras_ddim(seed: int = 0) -> KerasDiffusion:
    """Make the Keras example's model, compiled; its batch size is 64."""
    keras.utils.set_random_seed(seed)
    model = KerasDiffusion(seed)
    adam = keras.optimizers.AdamW(
        1e-3, weight_decay=1e-4, use_ema=True, ema_momentum=0.999
    )
    model.compile(adam)
    return model


def book_diffusion(seed: int = 0) -> Game:
    """Make the book's diffusion model for MNIST, compiled; its batch size is 64."""
    return get_recipe("mnist_diffusion").model(seed)


def score_by(judge: Any, real: Any, **draw: Any) -> Callable:
    """Return what scores a model by the Frechet distance of 1,000 samples.

    Args:
        judge: The judge of the images.
        real: Its features of the test images.
        **draw: Arguments of the model's ``sample``.
    """

    def score(model: Any) -> dict:
        made = judge.features(model.sample(SAMPLES, **draw))
        return {"frechet": round(frechet_distance(made, real), 3)}

    return score


def race(limit: float, seeds: int, keep: Callable[[dict], None]) -> None:
    """Race the book's diffusion model against the Keras example, and its own DCGAN.

    Args:
        limit: Seconds that the example may train on MNIST; the book's models get a
            third of it, at most a fifth counts against the example.
        seeds: How many races.
        keep: Takes the results so far, after each race.
    """
    judge, x = load_judge("mnist"), data.load("mnist")[0]
    real = judge.features(data.load("mnist", "test")[0])
    by_heun = {"sampler": "heun", "steps": CALLS // 2}
    short = limit / 3
    quarters = [limit * share for share in (0.25, 0.5, 0.75, 1.0)]
    marks = [short * share for share in (0.05, 0.1, 0.2, 0.4, 0.6, 1.0)]
    entrants: dict[str, tuple] = {
        "keras_ddim": (keras_ddim, quarters, {}),
        "book": (book_diffusion, marks, by_heun),
        "dcgan": (get_recipe("mnist_dcgan").model, marks, {"seed": 0}),
    }
    rows: list[dict] = []
    ends: list[dict] = []
    for seed in range(seeds):
        points = {}
        for name, (make, when, draw) in entrants.items():
            score = score_by(judge, real, **draw)
            points[name] = train(partial(make, seed), 64, when, score, x)
            rows += [{"model": name, "seed": seed, **point} for point in points[name]]
        end = {"seed": seed, **outrun(points["book"], points["keras_ddim"])[-1]}
        last = {name: points[name][-1]["frechet"] for name in ("book", "dcgan")}
        ends.append(end | {f"{name}_at_its_end": d for name, d in last.items()})
        keep({"race_settings": SETTINGS, "race": rows, "race_outcome": ends})


def main() -> None:
    """Run the parts that are asked for and write ``results/diffusion.json``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="for the race")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="write nothing")
    wanted = parser.parse_args()
    path = RESULTS / "diffusion.json"
    results = json.loads(path.read_text("utf-8")) if path.exists() else {}
    results.pop("machine", None)
    short = (1, 1) if wanted.quick else (wanted.seeds,)

    def keep(found: dict) -> None:
        results.update(found)
        if not wanted.quick:
            save("diffusion", results)

    for part in wanted.parts:
        print("==", part, flush=True)
        if part == "toys":
            keep({part: toys(*short)})
        elif part == "calls":
            keep({part: calls(*short)})
        else:
            race(wanted.seconds, short[0], keep)
            print(results["race_outcome"])


if __name__ == "__main__":
    main()
