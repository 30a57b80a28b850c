"""All families on one board: the same digits, processor-seconds and judge.

``python -m benchmarks.scoreboard`` trains every entrant of chapter 25 and writes
``results/scoreboard.json``; 64 samples of each and the same table go to
``genai_utils/weights/``, so that the chapter runs without training.

The budget is time of the processor (``time.process_time``), so that a busy machine
changes little.  It runs from the making of the model to the end of the first epoch
after the mark, tracing and compiling included; scoring stops the clock.  Learning
rates, batches and networks are those of the recipes.  Each seed can run in a process of
its own, ``--seed 1``; ``--merge`` puts the parts together.
"""

from __future__ import annotations

import argparse
import json
import os
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import keras
import numpy as np
from scipy.ndimage import zoom

from benchmarks.common import RESULTS, save
from genai_utils import data, decoding
from genai_utils.callbacks import averaged
from genai_utils.judge import load_judge
from genai_utils.metrics import (
    density_coverage,
    frechet_distance,
    kid,
    precision_recall,
)
from genai_utils.models.flow import make_coupling_flow
from genai_utils.models.gpt import make_gpt
from genai_utils.models.pixels import make_pixelcnn
from genai_utils.recipes import Recipe, get_recipe
from genai_utils.scoreboard import SAMPLES, score

SEEDS = 3
MARKS = (3.75, 7.5, 15.0, 30.0)  # processor-seconds; the last is the budget
CODES = 7.5  # of them, for the VQ-VAE; its prior gets the rest
LEVELS, SIDE = 17, 8  # of the digits before they are enlarged
DRAWS = 4  # of the noise that a coupling flow needs around whole numbers
SHOWN = 64
HERE = Path(__file__).parent.parent
PARTS = HERE / "_build" / "scoreboard"
WEIGHTS = HERE / "genai_utils" / "weights"

# Models that have no recipe of their own, as small as the others
PIXELCNN = Recipe(
    make_pixelcnn,
    "digits",
    {"pixels": 2e-3},
    64,
    12,
    (0.9, 0.99),
    {"pixels": 0.99},
    {"levels": LEVELS, "width": 32, "depth": 3, "first": 5},  # chapter 19's
)
COUPLING = Recipe(
    make_coupling_flow,
    "digits",
    {"flow": 1e-3},
    64,
    12,
    (0.9, 0.99),
    {"flow": 0.99},
    {"dim": SIDE**2, "depth": 8, "hidden": (128, 64), "steepness": 2.0},
)
PRIOR = Recipe(
    make_gpt,
    "digits",
    {"gpt": 5e-3},
    64,
    12,
    arguments={
        "vocab_size": 33,
        "context": 16,
        "width": 64,
        "depth": 1,
        "heads": 4,
        "dropout": 0.1,
    },  # chapter 08's
)


# Data in other forms


def grey(split: str) -> np.ndarray:
    """Return the digits as they were, int32, ``(n, 8, 8, 1)``, from 0 to 16."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    raw = load_digits()
    kept = {"test_size": 500, "random_state": 0, "stratify": raw.target}
    parts = train_test_split(raw.images, **kept)
    return parts[split == "test"].astype("int32")[..., None]


def enlarge(levels: np.ndarray) -> np.ndarray:
    """Return grey levels ``(n, 8, 8, 1)`` as images of the board, as ``data`` does."""
    small = np.asarray(levels, "float64")[..., 0] / 8.0 - 1.0
    big = zoom(small, (1, 2, 2), order=3, mode="nearest", grid_mode=True)
    return np.clip(big, -1.0, 1.0).astype("float32")[..., None]


def around(levels: np.ndarray, seed: int, draws: int = 1) -> np.ndarray:
    """Return whole numbers with uniform noise, as points ``(draws * n, 64)``."""
    flat = np.tile(levels.reshape(len(levels), -1), (draws, 1))
    noise = np.random.default_rng(seed).random(flat.shape)
    return ((flat + noise) * (2 / LEVELS) - 1.0).astype("float32")


def bits(nats: np.ndarray, dim: int) -> float:
    """Return bits a dimension of log-likelihoods in nats."""
    return float(-np.mean(nats) / dim / np.log(2))


# The clock


class Budget(keras.callbacks.Callback):
    """Score at processor-seconds, at the end of an epoch; end after the last mark.

    Args:
        marks: Processor-seconds, rising.
        score: Called with the model, its weights averaged, and whether this was the
            last mark.
        spent: Processor-seconds that were spent before.
    """

    def __init__(  # noqa: D107
        self, marks: tuple, score: Callable[[Any, bool], Any], spent: float = 0.0
    ) -> None:
        super().__init__()
        self.marks, self.score, self.points = list(marks), score, []
        self.start = time.process_time() - spent

    def spent(self) -> float:
        """Return the processor-seconds so far."""
        return time.process_time() - self.start

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Score if a mark has passed, with the clock standing still."""
        spent = self.spent()
        if spent < self.marks[0]:
            return
        point: dict = {"mark": self.marks[0]}
        while self.marks and spent >= self.marks[0]:
            point["mark"] = self.marks.pop(0)
        point |= {"seconds": round(spent, 1), "epochs": epoch + 1}
        self.points.append(point)
        with averaged(self.model):
            self.score(self.model, not self.marks)
        self.start = time.process_time() - spent
        self.model.stop_training = not self.marks


# Entrants


def from_recipe(recipe: Recipe, x: Callable[[int], np.ndarray]) -> Callable:
    """Return what trains a recipe on ``x(seed)`` until its marks have passed."""

    def run(seed: int, marks: tuple, score: Callable) -> tuple[Any, list]:
        inputs = x(seed)
        clock = Budget(marks, score)
        fit = {"epochs": 100_000, "callbacks": [clock]}
        return recipe.train(inputs, seed, **fit), clock.points

    return run


class Spelt:
    """A VQ-VAE with a prior over its codes, which looks like one model."""

    def __init__(self, codes: Any, prior: Any) -> None:  # noqa: D107
        self.codes, self.prior = codes, prior

    def count_params(self) -> int:
        """Return the parameters of both."""
        return self.codes.count_params() + self.prior.count_params()

    def words(self, x: np.ndarray) -> np.ndarray:
        """Return codes in reading order behind a start letter."""
        flat = self.codes.encode(x).reshape(len(x), -1)
        return np.pad(flat, ((0, 0), (1, 0)), constant_values=32)

    def sample(self, n: int, seed: int = 0) -> np.ndarray:
        """Draw words from the prior, decode them."""
        begin = np.full((n, 1), 32)
        draw = decoding.sample()

        def letters(logits: np.ndarray, rng: np.random.Generator) -> np.ndarray:
            return draw(logits[..., :32], rng)  # never the start letter again

        words = self.prior.generate(begin, 16, letters, seed=seed)[:, 1:]
        return self.codes.decode(words.reshape(n, 4, 4))


def vqvae(seed: int, marks: tuple, score: Callable) -> tuple[Spelt, list]:
    """Train codes for ``CODES`` of the budget's seconds, then a prior over them."""
    x = data.load("digits")[0]
    first = Budget((CODES * marks[-1] / MARKS[-1],), lambda model, last: None)
    fit = {"epochs": 100_000, "callbacks": [first]}
    codes = get_recipe("digits_vqvae").train(x, seed, **fit)
    both = Spelt(codes, None)
    words = both.words(x)

    def score_both(prior: Any, last: bool) -> None:
        both.prior = prior
        score(both, last)

    later = tuple(m for m in marks if m > first.spent())
    clock = Budget(later, score_both, first.spent())
    fit["callbacks"] = [clock]
    both.prior = PRIOR.train(words, seed, **fit)
    return both, clock.points


@dataclass(frozen=True)
class Way:
    """One way to draw from a trained model: an entrant of the board.

    Args:
        label: What the chapter calls it.
        family: The family it belongs to.
        draw: Maps model, number and seed to images of the board.
        calls: Network calls for a sample.
        slow: Whether it is scored at the last mark only.
    """

    label: str
    family: str
    draw: Callable[[Any, int, int], np.ndarray]
    calls: int
    slow: bool = False


@dataclass(frozen=True)
class Entrant:
    """One training, and the ways to draw from it.

    Args:
        train: Maps seed, marks and what scores to the model and its points.
        ways: By the name of the entrant.
        settings: What was trained, in words.
        bits: Maps a model to bits a dimension of test digits.
        kind: What they are: ``"exact"`` and ``"bound"`` count grey levels,
            ``"density"`` is a bound of a density of enlarged images, ``"none"``.
    """

    train: Callable
    ways: dict[str, Way]
    settings: str
    bits: Callable[[Any], float] | None = None
    kind: str = "none"


def images(seed: int = 0) -> np.ndarray:
    """Return the training images; the seed changes nothing."""
    return data.load("digits")[0]


def plain(model: Any, n: int, seed: int) -> np.ndarray:
    """Draw as the model's own ``sample`` does."""
    return model.sample(n, seed=seed)


def flow_images(model: Any, n: int, seed: int) -> np.ndarray:
    """Draw points from the coupling flow, back to grey levels, enlarge."""
    points = np.nan_to_num(model.sample(n, seed=seed), nan=0.0)
    levels = np.floor((np.clip(points, -1, 1) + 1) * (LEVELS / 2))
    return enlarge(np.clip(levels, 0, LEVELS - 1).reshape(n, SIDE, SIDE, 1))


def vae_bits(model: Any) -> float:
    """Return the bound of a VAE, bits a pixel of a density."""
    return bits(model.elbo(data.load("digits", "test")[0]), 256)


def coupling_bits(model: Any) -> float:
    """Return the bound of a coupling flow for grey levels."""
    points = around(grey("test"), 1)
    return bits(model.log_likelihood(points) + SIDE**2 * np.log(2 / LEVELS), SIDE**2)


def only(name: str, label: str, family: str, calls: int = 1, draw: Any = plain) -> dict:
    """Return the one way to draw of most models."""
    return {name: Way(label, family, draw, calls)}


def book(name: str) -> Callable:
    """Return what trains a recipe of the book on the training images."""
    return from_recipe(get_recipe(name), images)


ENTRANTS = {
    "dense_vae": Entrant(
        book("digits_dense_vae"),
        only("dense_vae", "dense VAE", "VAE"),
        "recipe digits_dense_vae: 2 latent coordinates, Adam 1e-3",
        vae_bits,
        "density",
    ),
    "conv_vae": Entrant(
        book("digits_conv_vae"),
        only("conv_vae", "conv VAE", "VAE"),
        "recipe digits_conv_vae: 8 latent coordinates, Adam 1e-3",
        vae_bits,
        "density",
    ),
    "vqvae": Entrant(
        vqvae,
        only("vqvae", "VQ-VAE", "VQ-VAE", 17),
        "recipe digits_vqvae for a quarter of the budget, then chapter 08's GPT as "
        "prior, Adam 5e-3",
    ),
    "dense_gan": Entrant(
        book("digits_dense_gan"),
        only("dense_gan", "dense GAN", "GAN"),
        "recipe digits_dense_gan: Adam 2e-4, beta_1 0.5",
    ),
    "dcgan": Entrant(
        book("digits_dcgan"),
        only("dcgan", "DCGAN", "GAN"),
        "recipe digits_dcgan: Adam 5e-4 and 2e-3, averaged weights (0.99)",
    ),
    "wgan_gp": Entrant(
        book("digits_wgan_gp"),
        only("wgan_gp", "WGAN-GP", "GAN"),
        "recipe digits_wgan_gp: five critic turns, Adam 5e-4 and 1e-3",
    ),
    "pixelcnn": Entrant(
        from_recipe(PIXELCNN, lambda seed: grey("train")),
        only(
            "pixelcnn",
            "PixelCNN",
            "autoregressive",
            64,
            lambda model, n, seed: enlarge(model.sample(n, seed=seed)),
        ),
        "chapter 19's network, 8 x 8 pixels, 17 grey levels, batch 64, Adam 2e-3, "
        "averaged weights (0.99)",
        lambda model: bits(model.log_likelihood(grey("test")), SIDE**2),
        "exact",
    ),
    "coupling": Entrant(
        from_recipe(COUPLING, lambda seed: around(grey("train"), seed, DRAWS)),
        only("coupling", "coupling flow", "flow", 1, flow_images),
        "8 coupling layers of 64 coordinates, hidden 128 and 64, grey levels with "
        "uniform noise (4 draws), batch 64, Adam 1e-3, averaged weights (0.99)",
        coupling_bits,
        "bound",
    ),
    "diffusion": Entrant(
        book("digits_diffusion"),
        {
            "diffusion_heun": Way(
                "diffusion, Heun",
                "diffusion",
                lambda m, n, seed: m.sample(n, seed, sampler="heun", steps=10),
                19,
            ),
            "diffusion": Way(
                "diffusion, ancestral",
                "diffusion",
                plain,
                200,
                slow=True,
            ),
        },
        "recipe digits_diffusion: U-Net, predicts v, 200 steps, Adam 2e-3, averaged "
        "weights (0.99)",
    ),
    "flow_matching": Entrant(
        book("digits_flow"),
        only(
            "flow_matching",
            "flow matching",
            "flow matching",
            20,
            lambda m, n, seed: m.sample(n, seed, steps=10, method="heun"),
        ),
        "recipe digits_flow: the U-Net of the diffusion model, Adam 2e-3, averaged "
        "weights (0.99), 10 steps of Heun",
    ),
}


# Baselines: no training to speak of


def class_gaussian(n: int, seed: int) -> np.ndarray:
    """Draw from one Gaussian for each class, in pixels."""
    x, y = data.load("digits")
    rng = np.random.default_rng(seed)
    labels, made = rng.choice(y, n), np.empty((n, 256))
    for c in range(10):
        mine, chosen = x[y == c].reshape(-1, 256), labels == c
        cov = np.cov(mine, rowvar=False)
        args = mine.mean(axis=0), cov, int(chosen.sum())
        made[chosen] = rng.multivariate_normal(*args, method="eigh")
    return np.clip(made, -1, 1).astype("float32").reshape(n, 16, 16, 1)


def mean_and_noise(n: int, seed: int) -> np.ndarray:
    """Draw the mean image with each pixel's own noise."""
    x, rng = images(), np.random.default_rng(seed)
    made = x.mean(axis=0) + x.std(axis=0) * rng.standard_normal((n, 16, 16, 1))
    return np.clip(made, -1, 1).astype("float32")


def memoriser(n: int, seed: int) -> np.ndarray:
    """Return training digits, other ones than `score` compares with."""
    return np.random.default_rng(100 + seed).permutation(images())[:n]


BASELINES = {
    "memoriser": ("the training set", memoriser, images().size),
    "class_gaussian": ("class Gaussians", class_gaussian, 10 * (256 + 256 * 257 // 2)),
    "mean_noise": ("mean + noise", mean_and_noise, 512),
}


def real(seed: int) -> dict[str, float]:
    """Score one half of the test digits against the other: a floor, read with care.

    Only 250 stand on each side, so the Frechet distance is too large by about twice as
    much as for the entrants; and the questions about memory have no answer.
    """
    x = np.random.default_rng(seed).permutation(data.load("digits", "test")[0])
    judge = load_judge("digits")
    fake, true = judge.features(x[:250]), judge.features(x[250:])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        found = {"frechet": frechet_distance(fake, true), "kid": kid(fake, true)}
    found |= zip(("precision", "recall"), precision_recall(true, fake), strict=True)
    return found | dict(
        zip(("density", "coverage"), density_coverage(true, fake), strict=True)
    )


# Running it


def rounded(values: dict[str, float]) -> dict[str, float]:
    """Round what was measured for the file."""
    return {k: round(float(v), 4) for k, v in values.items()}


def grey_bytes(x: np.ndarray) -> np.ndarray:
    """Return images in [-1, 1] as bytes."""
    return np.rint((x + 1.0) * 127.5).astype("uint8")


def compete(
    entrant: Entrant, seed: int, marks: tuple[float, ...]
) -> Iterator[tuple[str, dict, np.ndarray]]:
    """Train one entrant; yield name, run and samples of each way to draw."""
    runs: dict[str, list] = {name: [] for name in entrant.ways}
    drawn, took = {}, {}

    def look(model: Any, last: bool) -> None:
        known = rounded({"bits": entrant.bits(model)}) if entrant.bits else {}
        ways = {k: way for k, way in entrant.ways.items() if last or not way.slow}
        for name, way in ways.items():
            start = time.process_time()
            x = drawn[name] = way.draw(model, SAMPLES, seed)
            took[name] = (time.process_time() - start) / SAMPLES * 1e3
            runs[name].append(rounded(score(x)) | known)

    model, points = entrant.train(seed, marks, look)
    size = int(model.count_params())
    keras.backend.clear_session()
    for name in entrant.ways:
        whens = points[-len(runs[name]) :]
        scored = [p | s for p, s in zip(whens, runs[name], strict=True)]
        run = {"seed": seed, "parameters": size, "points": scored}
        yield name, run | {"milliseconds": round(took[name], 3)}, drawn[name]


def baselines(seed: int) -> Iterator[tuple[str, dict, np.ndarray]]:
    """Yield name, run and samples of what needs no training."""
    x = np.random.default_rng(seed).permutation(data.load("digits", "test")[0])
    run = {"seed": seed, "parameters": 0, "milliseconds": 0.0}
    yield "real", run | {"points": [rounded(real(seed))]}, x
    for name, (_, draw, size) in BASELINES.items():
        start = time.process_time()
        x = draw(SAMPLES, seed)
        took = round((time.process_time() - start) / SAMPLES * 1e3, 3)
        run = {"seed": seed, "parameters": size, "points": [rounded(score(x))]}
        yield name, run | {"milliseconds": took}, x


def play(seed: int, names: list[str], marks: tuple[float, ...], folder: Path) -> None:
    """Run one seed; write its part after each entrant, so that nothing is lost."""
    folder.mkdir(parents=True, exist_ok=True)
    path, shots = folder / f"seed{seed}.json", folder / f"seed{seed}.npz"
    runs = json.loads(path.read_text("utf-8")) if path.exists() else {}
    walls = dict(np.load(shots)) if shots.exists() else {}
    for source in [
        baselines(seed),
        *(compete(ENTRANTS[n], seed, marks) for n in names),
    ]:
        for name, run, x in source:
            runs[name], walls[name] = run, grey_bytes(x[:SHOWN])
            print(seed, name, run["milliseconds"], "ms", run["points"][-1], flush=True)
        path.write_text(json.dumps(runs), encoding="utf-8")
        np.savez_compressed(shots, **walls)


@cache
def facts() -> dict[str, dict]:
    """What the board says of each entrant, in its order."""
    found = {"real": {"label": "real digits", "family": "baseline", "calls": 0}}
    for name, (label, *_) in BASELINES.items():
        found[name] = {"label": label, "family": "baseline", "calls": 0}
    for name in found:
        found[name] |= {"bits": "none", "settings": "no training"}
    for entrant in ENTRANTS.values():
        for name, way in entrant.ways.items():
            found[name] = {"label": way.label, "family": way.family}
            found[name] |= {"calls": way.calls, "bits": entrant.kind}
            found[name] |= {"settings": entrant.settings}
    return found


def merge(folder: Path, marks: tuple[float, ...] = MARKS) -> dict:
    """Put the parts of all seeds together, entrants in the order of this file."""
    files = sorted(folder.glob("seed*.json"))
    parts = [json.loads(p.read_text("utf-8")) for p in files]
    entrants = {
        name: about | {"runs": [part[name] for part in parts if name in part]}
        for name, about in facts().items()
    }
    known = {k: v for k, v in entrants.items() if v["runs"]}
    rules = {"budget": marks[-1], "marks": list(marks), "samples": SAMPLES}
    return {**rules, "seeds": len(parts), "entrants": known}


def publish(folder: Path, weights: Path = WEIGHTS, path: Path | None = None) -> dict:
    """Write the table for the page and, with 64 samples of each, for the package."""
    table = merge(folder)
    save("scoreboard", table, path)
    text = json.dumps(table, indent=1)
    (weights / "scoreboard.json").write_text(text + "\n", encoding="utf-8")
    with np.load(folder / "seed0.npz") as shots:
        walls = {name: shots[name] for name in table["entrants"] if name in shots}
    np.savez_compressed(weights / "scoreboard.npz", **walls)
    return table


def lines(table: dict) -> list[str]:
    """Return the board as lines of text: means over seeds at the end of the budget."""
    names = ("frechet", "kid", "precision", "recall", "density", "coverage", "copying")
    out = [" " * 21 + "".join(f"{n[:9]:>10}" for n in names) + "        ms"]
    for entrant in table["entrants"].values():
        last = [run["points"][-1] for run in entrant["runs"]]
        cells = []
        for name in names:
            values = [p[name] for p in last if name in p]
            cells.append(f"{np.mean(values):10.3f}" if values else " " * 9 + "–")
        took = np.mean([run["milliseconds"] for run in entrant["runs"]])
        out.append(f"{entrant['label']:21}" + "".join(cells) + f"{took:10.3f}")
    return out


def main() -> None:
    """Train what is asked for; write the results when all seeds are there."""
    for pool in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
        os.environ.setdefault(pool, "1")  # threads that wait burn processor time
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", choices=ENTRANTS, default=list(ENTRANTS))
    parser.add_argument("--seed", type=int, help="one seed, and no results yet")
    parser.add_argument("--merge", action="store_true", help="train nothing")
    parser.add_argument("--quick", action="store_true", help="2 seconds, one seed")
    wanted = parser.parse_args()
    if wanted.quick:
        play(0, wanted.models, (2.0,), PARTS / "quick")
        print("\n".join(lines(merge(PARTS / "quick", (2.0,)))))
        return
    seeds = range(SEEDS) if wanted.seed is None else [wanted.seed]
    for seed in () if wanted.merge else seeds:
        play(seed, wanted.models, MARKS, PARTS)
    if wanted.merge or wanted.seed is None:
        print("\n".join(lines(publish(PARTS))), RESULTS)


if __name__ == "__main__":
    main()
