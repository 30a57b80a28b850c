"""WGAN-GP: `fit` against a loop by hand, against the Keras example, and four slips.

``python -m benchmarks.wgan`` runs three parts and writes ``results/wgan.json``:

- *steps*: images a second of `fit` and of a loop written by hand, on TensorFlow;
- *race*: how soon the book's WGAN-GP reaches the Frechet distances of the network and
  settings of https://keras.io/examples/generative/wgan_gp/, on MNIST;
- *slips*: the small digits with each of chapter 13's slips in the penalty.

``--seconds`` says how long the example may train.  What it asks for, 20 epochs, takes
hours without a graphics card; what was not run is said.  Distances are taken between
features of the book's judges: they are **not** Inception FID.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from benchmarks.common import RESULTS, faster, save, take_turns
from benchmarks.quality import score_gan
from genai_utils import backends, data, losses
from genai_utils.callbacks import Clock
from genai_utils.judge import load_judge
from genai_utils.metrics import frechet_distance
from genai_utils.models.gan import GAN, make_dcgan
from genai_utils.optimizers import AveragingAdam
from genai_utils.recipes import get_recipe

PARTS = ("steps", "race", "slips")
BATCH, STEPS, ROUNDS = 64, 16, 5  # of the part `steps`; rounds at least
SECONDS = 1800.0  # for the example, on the clock of its training
EPOCHS = 20  # what the example asks for
SAMPLES = 1000
SLIPS = ("uniform", "normal", "batch", "pixel", "columns")
SETTINGS = {
    "book": "book's DCGAN as a WGAN-GP, channels 64-32, 64 coordinates of noise, batch "
    "64, five turns of the critic, Adam with betas 0.5 and 0.9 and rates 5e-4 "
    "(critic) and 1e-3 (generator), averaged weights (0.998)",
    "keras_wgan_gp": "network of the Keras example, 128 coordinates of noise, batch "
    "512, three turns of the critic, Adam 2e-4 with betas 0.5 and 0.9",
}


def book_wgan_gp(seed: int = 0) -> GAN:
    """Make the book's WGAN-GP for MNIST, compiled; its batch size is 64.

    Args:
        seed: Seed of first weights and noise.
    """
    keras.utils.set_random_seed(seed)
    settings = {"loss": "wasserstein_gp", "d_turns": 5, "dropout": 0.0}
    gan = make_dcgan((28, 28, 1), 64, seed=seed, **settings)
    critic = keras.optimizers.Adam(5e-4, 0.5, 0.9)
    generator = AveragingAdam(1e-3, 0.5, 0.9, memory=0.998)
    gan.compile({"discriminator": critic, "generator": generator})
    return gan


def keras_wgan_gp(seed: int = 0) -> GAN:
    """Make the network of the Keras example, layer for layer; its batch size is 512.

    Args:
        seed: Seed of first weights and noise.

    Returns:
        A compiled game for images (28, 28, 1).

    Reference:
        https://keras.io/examples/generative/wgan_gp/, written for Fashion-MNIST, with
        the interpolation weight that it has had since August 2023.
    """
    keras.utils.set_random_seed(seed)
    d: list = [layers.Input((28, 28, 1)), layers.ZeroPadding2D(2)]
    for filters, dropped in ((64, 0.0), (128, 0.3), (256, 0.3), (512, 0.0)):
        d += [layers.Conv2D(filters, 5, 2, "same"), layers.LeakyReLU(0.2)]
        d += [layers.Dropout(dropped)] if dropped else []
    d += [layers.Flatten(), layers.Dropout(0.2), layers.Dense(1)]
    g: list = [
        layers.Input((128,)),
        layers.Dense(4 * 4 * 256, use_bias=False),
        layers.BatchNormalization(),
        layers.LeakyReLU(0.2),
        layers.Reshape((4, 4, 256)),
    ]
    for filters in (128, 64, 1):
        g += [
            layers.UpSampling2D(),
            layers.Conv2D(filters, 3, 1, "same", use_bias=False),
        ]
        g += [layers.BatchNormalization()]
        g += [layers.LeakyReLU(0.2) if filters > 1 else layers.Activation("tanh")]
    g += [layers.Cropping2D(2)]
    settings = {"loss": "wasserstein_gp", "d_turns": 3, "gp_weight": 10.0}
    gan = GAN(keras.Sequential(g), keras.Sequential(d), seed=seed, **settings)
    names = ("discriminator", "generator")
    gan.compile({n: keras.optimizers.Adam(2e-4, 0.5, 0.9) for n in names})
    return gan


def hand_loop(gan: GAN, batch: int = BATCH) -> Callable[[Any], None]:
    """Return the loop that a reader would write: tapes, one graph for a round.

    Args:
        gan: The compiled game whose networks and optimizers are used.
        batch: Samples a batch.
    """
    import tensorflow as tf

    g, f = gan.generator, gan.discriminator
    adams = gan.optimizer.players

    def noise(n: Any) -> Any:
        return tf.random.normal((n, gan.latent_dim))

    def update(name: str, net: Any, tape: Any, loss: Any) -> None:
        variables = net.trainable_variables
        adams[name].apply(tape.gradient(loss, variables), variables)

    def penalty(x: Any, fake: Any) -> Any:
        t = tf.random.uniform((len(x), 1, 1, 1))
        between = t * x + (1 - t) * fake
        with tf.GradientTape() as tape:
            tape.watch(between)
            score = f(between, training=True)
        slope = tf.reduce_sum(tape.gradient(score, between) ** 2, axis=(1, 2, 3))
        return tf.reduce_mean((tf.sqrt(slope + 1e-12) - 1) ** 2)

    @tf.function
    def turn(x: Any) -> None:
        for _ in range(gan.d_turns):
            fake = g(noise(len(x)), training=True)
            with tf.GradientTape() as tape:
                real_scores, scores = f(x, training=True), f(fake, training=True)
                loss = tf.reduce_mean(scores) - tf.reduce_mean(real_scores)
                loss += gan.gp_weight * penalty(x, fake)
            update("discriminator", f, tape, loss)
        with tf.GradientTape() as tape:
            loss = -tf.reduce_mean(f(g(noise(len(x)), training=True), training=True))
        update("generator", g, tape, loss)

    def loop(x: Any) -> None:
        x = tf.constant(x)
        for i in range(0, len(x), batch):
            turn(x[i : i + batch])
        tf.test.experimental.sync_devices()

    return loop


def measure_steps(limit: float) -> dict:
    """Return images a second of `fit` and of the loop, and their ratio.

    Args:
        limit: Seconds to spend, at least.
    """
    shape = (BATCH * STEPS, 28, 28, 1)
    x = np.random.default_rng(0).uniform(-1, 1, shape).astype("float32")
    gan = book_wgan_gp()
    loop = hand_loop(gan)
    ways: dict[str, Callable] = {
        "fit": lambda: gan.fit(x, batch_size=BATCH, verbose=0),
        "loop": lambda: loop(x),
    }
    first, took = take_turns(ways, ROUNDS, limit)
    speeds = {w: round(len(x) / statistics.median(t), 1) for w, t in took.items()}
    found = {"batch": BATCH, "first_call_seconds": first}
    found["ratio"] = faster(took["fit"], took["loop"])
    return found | {"images_per_second": speeds, "rounds": len(took["fit"])}


def train(make: Callable, batch: int, marks: list, score: Callable, x: Any) -> list:
    """Train a model and score it at some seconds of its own clock.

    Args:
        make: Makes the compiled model.
        batch: Samples a batch.
        marks: Seconds at which to score, rising.
        score: Maps the model to its numbers.
        x: Training images.
    """
    clock = Clock(marks, score, report=print)
    fit = {"batch_size": batch, "verbose": 0, "callbacks": [clock]}
    make().fit(x, epochs=10_000, **fit)
    keras.backend.clear_session()
    return clock.points


def outrun(book: list[dict], rival: list[dict]) -> list[dict]:
    """Say when the book's model first reached each distance of the rival.

    Args:
        book: Points with ``seconds`` and ``frechet``.
        rival: The same.

    Returns:
        For each point of the rival its seconds and distance, the seconds of the book's
        model (``None`` where it did not get there), and the book's share of the time.
    """
    rows = []
    for point in rival:
        there = [p["seconds"] for p in book if p["frechet"] <= point["frechet"]]
        row = {"frechet": point["frechet"], "rival": point["seconds"]}
        row["book"] = there[0] if there else None
        row["share"] = round(there[0] / point["seconds"], 3) if there else None
        rows.append(row)
    return rows


def race(limit: float) -> dict:
    """Race the book's WGAN-GP against the Keras example on MNIST.

    Args:
        limit: Seconds that the example may train; the book's model gets a fifth.

    Returns:
        Settings, points of both, when the book's model reached each distance of the
        example, and what was not run.
    """
    (x, _), (x_test, _) = data.load("mnist", "train"), data.load("mnist", "test")
    judge = load_judge("mnist")
    score = score_gan(judge, judge.features(x_test))
    marks = [limit * k / 4 for k in range(1, 5)]
    print("the Keras example:", SETTINGS["keras_wgan_gp"], flush=True)
    rival = train(keras_wgan_gp, 512, marks, score, x)
    print("the book's:", SETTINGS["book"], flush=True)
    marks = [limit / 5 * k / 10 for k in range(1, 11)]
    book = train(book_wgan_gp, 64, marks, score, x)
    done = rival[-1]["epochs"]
    missing = f"The Keras example asks for {EPOCHS} epochs; {done:g} were run."
    points = {"keras_wgan_gp": rival, "book": book}
    return {
        "race_settings": SETTINGS,
        "race": [{"model": n, **point} for n, run in points.items() for point in run],
        "race_outcome": outrun(book, rival),
        "not_run": [] if done >= EPOCHS else [missing],
    }


class Slipped(GAN):
    """A WGAN-GP with one of chapter 13's slips in its penalty."""

    slip = "uniform"

    def _d_loss(self, x: Any, training: bool) -> tuple[Any, dict]:
        fake = ops.stop_gradient(self._fakes(x, training))
        real, made = (self.discriminator(v, training=training) for v in (x, fake))
        loss = losses.wasserstein_d(real, made) + self.gp_weight * self._penalty(
            x, fake
        )
        return loss, {"d_real": ops.mean(real), "d_fake": ops.mean(made)}

    def _penalty(self, x: Any, fake: Any) -> Any:
        one = (ops.shape(x)[0], 1, 1, 1)
        shape = {"batch": (1, 1, 1, 1), "pixel": ops.shape(x)}.get(self.slip, one)
        normal = self.slip == "normal"
        draw = keras.random.normal if normal else keras.random.uniform
        t = draw(shape, seed=self.seed_generator)

        def critic(v: Any) -> Any:
            return self.discriminator(v, training=True)

        slope = backends.input_gradients(critic, t * x + (1 - t) * fake)
        axes = (1,) if self.slip == "columns" else (1, 2, 3)
        norm = ops.sqrt(ops.sum(ops.square(slope), axis=axes) + 1e-12)
        return ops.mean(ops.square(norm - 1.0))


def slips(seeds: int, epochs: int | None = None) -> list[dict]:
    """Train chapter 13's WGAN-GP on the small digits with each slip.

    Args:
        seeds: How many trainings with each.
        epochs: Passes through the data; those of the recipe by default.

    Returns:
        Rows with the Frechet distances of 1,000 samples, seed by seed, and what the
        critic reports for the test images.
    """
    (x, _), (x_test, _) = data.load("digits", "train"), data.load("digits", "test")
    judge, recipe = load_judge("digits"), get_recipe("digits_wgan_gp")
    real, rows = judge.features(x_test), []
    for slip in SLIPS:
        distances, reported = [], []
        for seed in range(seeds):
            keras.utils.set_random_seed(seed)
            plain = recipe.make(**recipe.arguments, seed=seed)
            settings = {"loss": plain.loss_name, "d_turns": plain.d_turns, "seed": seed}
            gan = Slipped(plain.generator, plain.discriminator, **settings)
            gan.slip = slip
            gan.compile(recipe.optimizers())
            fit = {"batch_size": recipe.batch_size, "verbose": 0}
            gan.fit(x, epochs=epochs or recipe.epochs, **fit)
            samples = gan.sample(SAMPLES, seed=seed)
            distances.append(frechet_distance(judge.features(samples), real))
            scores = [
                gan.discriminator.predict(v, verbose=0) for v in (x_test, samples)
            ]
            reported.append(-float(losses.wasserstein_d(*scores)))
            keras.backend.clear_session()
        row = {"slip": slip, "frechet": [round(v, 2) for v in distances]}
        row |= {"median": round(statistics.median(distances), 2)}
        row |= {"reported": [round(v, 2) for v in reported]}
        print("  ", row, flush=True)
        rows.append(row)
    return rows


def main() -> None:
    """Run the parts that are asked for and write ``results/wgan.json``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="for the race")
    parser.add_argument("--seeds", type=int, default=4, help="for each slip")
    parser.add_argument("--quick", action="store_true", help="write nothing")
    wanted = parser.parse_args()
    path = RESULTS / "wgan.json"
    results = json.loads(path.read_text("utf-8")) if path.exists() else {}
    results.pop("machine", None)
    for part in wanted.parts:
        print("==", part, flush=True)
        if part == "steps":
            results[part] = measure_steps(min(wanted.seconds, 240.0))
            print(results[part])
        elif part == "race":
            results.update(race(wanted.seconds))
            print(results["race_outcome"])
        else:
            quick = (1, 1) if wanted.quick else (wanted.seeds, None)
            results[part] = slips(*quick)
        if not wanted.quick:
            save("wgan", results)


if __name__ == "__main__":
    main()
