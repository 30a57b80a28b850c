"""Cures for a sick GAN over five seeds: what chapter 12 quotes.

Two mixtures are made ill by a generator that learns five times as fast as its
discriminator; each cure changes one thing, the last one three.  Beside them stand
digits without and with augmentation.  Quality is measured here, not time.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np

from benchmarks.common import save
from genai_utils import data
from genai_utils.gan_layers import Augmentation
from genai_utils.judge import load_judge
from genai_utils.metrics import frechet_distance, mode_coverage
from genai_utils.models.gan import make_dense_gan, make_toy_gan
from genai_utils.optimizers import AveragingAdam
from genai_utils.watch import DiscriminatorWatch

SEEDS = 5
PLAYERS = ("discriminator", "generator")


@dataclass(frozen=True)
class Toy:
    """A mixture, how a game plays with it, and what counts as a mode."""

    name: str
    points: int
    batch: int
    epochs: int
    radius: float  # three standard deviations
    rates: tuple[float, float]  # slow and fast
    r1_weight: float


RING = Toy("ring", 4_000, 200, 60, 0.3, (1e-3, 5e-3), 1.0)
GRID = Toy("grid", 20_480, 256, 50, 0.15, (2e-3, 1e-2), 0.03)
TOYS = (RING, GRID)
MIN_COUNT = {"ring": 20, "grid": 10}  # of 2,000 samples; noise on the grid has 6


@dataclass(frozen=True)
class Cure:
    """What differs from the sick game."""

    exchanged: bool = False  # the discriminator gets the fast rate
    r1: bool = False
    memory: float = 0.0  # of averaged weights
    arguments: Mapping[str, Any] = field(default_factory=dict)
    grid: bool = False  # whether it is tried on the grid, too


CURES = {
    "none": Cure(grid=True),
    "two rates": Cure(exchanged=True, grid=True),
    "R1 penalty": Cure(r1=True, grid=True),
    "one-sided label smoothing": Cure(arguments={"smoothing": 0.1}),
    "spectral normalisation": Cure(arguments={"spectral": True}),
    "minibatch standard deviation": Cure(arguments={"minibatch": True}),
    "averaged weights": Cure(memory=0.99),
    "two rates, R1, averaged weights": Cure(True, True, 0.99, grid=True),
}


def optimizers(cure: Cure, toy: Toy) -> dict[str, keras.optimizers.Optimizer]:
    """Return a new Adam for each player, with ``beta_1`` 0.5."""
    slow, fast = toy.rates[::-1] if cure.exchanged else toy.rates
    generator = keras.optimizers.Adam(fast, beta_1=0.5)
    if cure.memory:
        generator = AveragingAdam(fast, beta_1=0.5, memory=cure.memory)
    players = keras.optimizers.Adam(slow, beta_1=0.5), generator
    return dict(zip(PLAYERS, players, strict=True))


def play(cure: Cure, toy: Toy, seed: int) -> tuple[int, float]:
    """Train one game; return modes covered and the share of samples near one."""
    keras.utils.set_random_seed(seed)
    r1_weight = toy.r1_weight * cure.r1
    model = make_toy_gan(seed=seed, r1_weight=r1_weight, **cure.arguments)
    model.compile(optimizers(cure, toy))
    x = data.toy(toy.name, toy.points, seed=seed)
    model.fit(x, batch_size=toy.batch, epochs=toy.epochs, verbose=0)
    samples, centers = model.sample(2000, seed=0), data.toy_centers(toy.name)
    keras.backend.clear_session()
    return mode_coverage(samples, centers, toy.radius, MIN_COUNT[toy.name])


def digits(augmented: bool, seed: int) -> dict[str, float]:
    """Train a dense GAN without dropout; return its distance and what it remembers."""
    (x, _), (x_test, _) = data.load("digits", "train"), data.load("digits", "test")
    augmentation = Augmentation(shift=2, seed=seed) if augmented else None
    keras.utils.set_random_seed(seed)
    model = make_dense_gan(seed=seed, dropout=0.0, augmentation=augmentation)
    adam = {n: keras.optimizers.Adam(5e-4, beta_1=0.5) for n in PLAYERS}
    model.compile(adam)
    watch = DiscriminatorWatch(x, x_test, every=40)
    model.fit(x, batch_size=64, epochs=40, verbose=0, callbacks=[watch])
    judge, samples = load_judge("digits"), model.sample(1000, seed=0)
    keras.backend.clear_session()
    distance = frechet_distance(judge.features(samples), judge.features(x_test))
    gap = watch.history["real_logit"][-1] - watch.history["held_out_logit"][-1]
    return {"frechet": round(distance, 2), "gap": round(gap, 2)}


def table(rows: list[dict]) -> list[str]:
    """Return the lines of chapter 12's table: one for each cure.

    Args:
        rows: What :func:`play` found, with the toy and the cure.
    """
    lines = ["| cure | ring: modes of 8 | near | grid: modes of 25 | near |"]
    lines.append("|---|---|---|---|---|")
    for cure in CURES:
        cells = [cure]
        for toy in TOYS:
            found = [r for r in rows if (r["toy"], r["cure"]) == (toy.name, cure)]
            modes, near = (found[0]["modes"], found[0]["near"]) if found else ((), ())
            cells.append(" ".join(map(str, modes)) or "–")
            cells.append(f"{np.mean(near):.2f}" if found else "–")
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def main() -> None:
    """Play every game and write ``results/cures.json``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=SEEDS)
    seeds = range(parser.parse_args().seeds)
    rows: list[dict] = []
    for toy in TOYS:
        for name, cure in CURES.items():
            if toy is GRID and not cure.grid:
                continue
            found = [play(cure, toy, seed) for seed in seeds]
            modes, near = zip(*found, strict=True)
            row = {"toy": toy.name, "cure": name, "modes": list(modes)}
            rows.append(row | {"near": [round(v, 2) for v in near]})
            print(rows[-1], flush=True)
    images = []
    for augmented in (False, True):
        found = [digits(augmented, seed) for seed in seeds]
        columns = {name: [row[name] for row in found] for name in found[0]}
        images.append({"augmentation": augmented, **columns})
        print(images[-1], flush=True)
    save("cures", {"seeds": len(seeds), "toys": rows, "digits": images})
    print("\n".join(table(rows)))


if __name__ == "__main__":
    main()
