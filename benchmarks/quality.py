"""Quality against seconds of training, on MNIST: the book's models and their rivals.

``python -m benchmarks.quality`` trains everything; ``--models dcgan`` only what is
named, and keeps the other results.  Distances are taken between features of the book's
judge for MNIST.  They are **not** Inception FID.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np

from benchmarks import rivals
from benchmarks.common import RESULTS, save
from genai_utils import data
from genai_utils.callbacks import Clock
from genai_utils.game import Game
from genai_utils.judge import Judge, load_judge
from genai_utils.metrics import class_coverage, frechet_distance, precision_recall
from genai_utils.models.gan import GAN
from genai_utils.models.vae import VAE
from genai_utils.recipes import get_recipe

SAMPLES = 10_000
NEIGHBOURS = 2_000


def score_gan(judge: Judge, real: np.ndarray) -> Callable[[GAN], dict]:
    """Return what scores a GAN by 10,000 samples against the test images."""

    def score(model: GAN) -> dict:
        samples = np.clip(model.sample(SAMPLES, seed=0), -1, 1)
        features = judge.features(samples)
        precision, recall = precision_recall(real[:NEIGHBOURS], features[:NEIGHBOURS])
        return {
            "frechet": round(frechet_distance(features, real), 3),
            "precision": round(precision, 3),
            "recall": round(recall, 3),
            "classes": int(class_coverage(judge.predict(samples))),
        }

    return score


def score_vae(x_test: np.ndarray) -> Callable[[VAE], dict]:
    """Return what scores a VAE by the mean ELBO of the test images, in nats."""
    return lambda model: {"elbo": round(float(model.elbo(x_test, seed=0).mean()), 2)}


def dcgan(seed: int = 0, **changes: Any) -> GAN:
    """Make the book's DCGAN for MNIST, compiled, with changes of its recipe."""
    recipe = get_recipe("mnist_dcgan")
    arguments = {k: changes.pop(k) for k in set(changes) & {"latent_dim", "dropout"}}
    return replace(
        recipe, arguments={**recipe.arguments, **arguments}, **changes
    ).model(seed)


def shallow_dcgan(seed: int = 0) -> GAN:
    """Make the book's DCGAN without the discriminator's third convolution."""
    model = dcgan(seed)
    kept = model.discriminator.layers[:-5]  # convolution, activation, dropout, head
    first = keras.initializers.RandomNormal(0.0, 0.05, seed)  # as in make_dcgan
    head = [keras.layers.Flatten(), keras.layers.Dense(1, kernel_initializer=first)]
    inputs = keras.layers.Input((28, 28, 1))
    gan = GAN(model.generator, keras.Sequential([inputs, *kept, *head]), seed=seed)
    gan.compile(get_recipe("mnist_dcgan").optimizers())
    return gan


def equal_rates_dcgan(seed: int = 0) -> GAN:
    """Make the book's DCGAN with the discriminator's rate for both players."""
    return dcgan(seed, rates={"discriminator": 5e-4, "generator": 5e-4})


def dropout_dcgan(seed: int = 0) -> GAN:
    """Make the book's DCGAN with the dropout that it has on the small digits."""
    return dcgan(seed, dropout=0.3)


def usual_adam_dcgan(seed: int = 0) -> GAN:
    """Make the book's DCGAN with the betas of Radford et al. (2016)."""
    return dcgan(seed, betas=(0.5, 0.999))


def wide_noise_dcgan(seed: int = 0) -> GAN:
    """Make the book's DCGAN with 64 coordinates of noise."""
    return dcgan(seed, latent_dim=64)


def dense_gan(seed: int = 0) -> GAN:
    """Make the book's dense GAN for MNIST, compiled."""
    return get_recipe("mnist_dense_gan").model(seed)


def conv_vae(seed: int = 0) -> VAE:
    """Make the book's VAE for MNIST with the Bernoulli likelihood, compiled."""
    return get_recipe("mnist_conv_vae").model(seed)


@dataclass(frozen=True)
class Run:
    """One model of the contest: how it is made, fed, and when it is scored."""

    make: Callable[[int], Game]
    batch: int
    marks: tuple[float, ...]
    settings: str
    seeds: int | None = None  # fewer than asked for, where one run is long


RUNS = {
    "dcgan": Run(
        dcgan,
        64,
        (10, 20, 30, 60, 90, 120),
        "book's DCGAN, channels 64-32, 16 coordinates of noise, batch 64, Adam with "
        "beta_1 0, beta_2 0.99 and rates 5e-4 (discriminator) and 2e-3 (generator), "
        "no dropout, averaged weights (0.998)",
    ),
    "shallow_dcgan": Run(
        shallow_dcgan,
        64,
        (30, 60),
        "the same with two convolutions in the discriminator instead of three",
        seeds=1,
    ),
    "equal_rates_dcgan": Run(
        equal_rates_dcgan,
        64,
        (30, 60),
        "the same with a rate of 5e-4 for both",
        seeds=1,
    ),
    "dropout_dcgan": Run(
        dropout_dcgan, 64, (30, 60), "the same with dropout 0.3", seeds=1
    ),
    "usual_adam_dcgan": Run(
        usual_adam_dcgan,
        64,
        (30, 60),
        "the same with beta_1 0.5 and beta_2 0.999",
    ),
    "wide_noise_dcgan": Run(
        wide_noise_dcgan,
        64,
        (30, 60),
        "the same with 64 coordinates of noise",
    ),
    "dense_gan": Run(
        dense_gan,
        64,
        (10, 20, 30, 60),
        "book's dense GAN, batch 64, Adam 2e-4 with beta_1 0.5, dropout 0.3, "
        "averaged weights (0.998)",
    ),
    "article_gan": Run(
        rivals.article_gan,
        256,
        (10, 30, 60),
        "the article's dense GAN, faults mended, batch 256, Adam 2e-4 with beta_1 0.5",
    ),
    "tutorial_dcgan": Run(
        rivals.tutorial_dcgan,
        256,
        (60, 200, 600, 1200, 1800),
        "network of TensorFlow's DCGAN tutorial, batch 256, Adam 1e-4",
        seeds=1,
    ),
    "conv_vae": Run(
        conv_vae,
        64,
        (2, 5, 10, 20, 40),
        "book's convolutional VAE, 16 latent coordinates, Bernoulli, batch 64, "
        "Adam 1e-3",
    ),
    "keras_vae": Run(
        rivals.keras_vae,
        128,
        (10, 40, 160, 560),
        "network of the Keras VAE example, 2 latent coordinates, Bernoulli, batch 128, "
        "Adam 1e-3, on the training images alone",
        seeds=1,
    ),
}
EPOCHS = {"tutorial_dcgan": 50, "keras_vae": 30}  # what the sources ask for


def train(name: str, seed: int, x: np.ndarray, score: Callable, marks: tuple) -> list:
    """Train one model with one seed; return its points."""
    run = RUNS[name]
    print(f"{name}, seed {seed}: {run.settings}", flush=True)
    clock = Clock(marks, score, report=print)
    model = run.make(seed)
    fit = {"batch_size": run.batch, "epochs": 10_000, "verbose": 0}
    model.fit(x, callbacks=[clock], **fit)
    keras.backend.clear_session()
    return clock.points


def not_run(models: dict) -> list[str]:
    """Say what the sources ask for and was not run."""
    lines = []
    for name, asked in EPOCHS.items():
        ran = [s["points"][-1]["epochs"] for s in models.get(name, {}).get("seeds", [])]
        if not ran or min(ran) < asked:
            done = f"{min(ran):.1f} were run" if ran else "it was not run"
            lines.append(f"{name.replace('_', ' ')} asks for {asked} epochs; {done}.")
    return [*lines, "Anything on a GPU."]


def small_digits(seeds: int = 4) -> list[dict]:
    """Train chapter 11's DCGAN on the small digits, with two noises and two Adams.

    Returns:
        Rows with the noise's coordinates, the betas, and the median, least and largest
        Frechet distance between 1,000 samples and the test images, over the seeds.
    """
    (x, _), (x_test, _) = data.load("digits", "train"), data.load("digits", "test")
    judge, rows = load_judge("digits"), []
    real = judge.features(x_test)
    recipe = get_recipe("digits_dcgan")
    for latent_dim in (64, 16):
        for betas in ((0.5, 0.999), (0.0, 0.99)):
            changed = {"arguments": {"latent_dim": latent_dim}, "betas": betas}
            found = []
            for seed in range(seeds):
                model = replace(recipe, **changed).train(x, seed)
                features = judge.features(model.sample(1000, seed=seed))
                found.append(frechet_distance(features, real))
                keras.backend.clear_session()
            row = {"noise": latent_dim, "beta_1": betas[0], "beta_2": betas[1]}
            row |= {
                "frechet": round(float(np.median(found)), 2),
                "least": round(min(found), 2),
                "largest": round(max(found), 2),
            }
            print("  ", row, flush=True)
            rows.append(row)
    return rows


def write(results: dict) -> None:
    """Write ``results/quality.json``, the models in the order of this file."""
    models = results["models"]
    models = {name: models[name] for name in RUNS if name in models}
    save("quality", {**results, "models": models, "not_run": not_run(models)})


def main() -> None:
    """Train what is asked for and write ``results/quality.json``."""
    names = [*RUNS, "small_digits"]
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", choices=names, default=names)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="first mark, one seed")
    wanted = parser.parse_args()
    (x, _), (x_test, _) = data.load("mnist", "train"), data.load("mnist", "test")
    judge = load_judge("mnist")
    real = judge.features(x_test)
    train_features = judge.features(x[:SAMPLES])
    near = precision_recall(real[:NEIGHBOURS], train_features[:NEIGHBOURS])
    path = RESULTS / "quality.json"
    earlier = json.loads(path.read_text("utf-8")) if path.exists() else {}
    results = {
        "judge": {"name": "mnist", "accuracy": judge.accuracy},
        "floor": round(frechet_distance(train_features, real), 3),
        "floor_precision_recall": [round(v, 3) for v in near],
        "models": earlier.get("models", {}),
        "small_digits": earlier.get("small_digits", []),
    }
    scores = {"gan": score_gan(judge, real), "vae": score_vae(x_test)}
    for name in wanted.models:
        if name == "small_digits":
            results[name] = small_digits(1 if wanted.quick else 4)
        else:
            run = RUNS[name]
            count = 1 if wanted.quick else min(wanted.seeds, run.seeds or wanted.seeds)
            marks = run.marks[:1] if wanted.quick else run.marks
            score = scores["vae" if name.endswith("vae") else "gan"]
            seeds = [
                {"seed": seed, "points": train(name, seed, x, score, marks)}
                for seed in range(count)
            ]
            results["models"][name] = {"settings": run.settings, "seeds": seeds}
        if not wanted.quick:
            write(results)


if __name__ == "__main__":
    main()
