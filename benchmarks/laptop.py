"""The book's DCGAN against a plain smaller one, in seconds of a slow laptop.

``python -m benchmarks.laptop`` measures this machine's matrix product and scales its
clock to one of 100 GFLOP/s, so that the marks (30, 60 and 120 s) mean the same
everywhere; the operations done so far stand beside the seconds.  Distances are taken
between features of the book's judge for MNIST: they are **not** Inception FID.
"""

from __future__ import annotations

import argparse
from typing import Any

from benchmarks import quality, rivals
from benchmarks.common import matrix_product_speed, save
from benchmarks.steps import round_flops
from genai_utils import data
from genai_utils.judge import load_judge

GFLOPS = 100.0  # the laptop's matrix product
MARKS = (30, 60, 90, 120)  # its seconds
RUNNERS = {
    "dcgan": (quality.dcgan, 64, quality.RUNS["dcgan"].settings),
    "plain_dcgan": (
        rivals.plain_dcgan,
        64,
        "a plain DCGAN, channels 64-32, 100 coordinates of noise, batch 64, Adam 2e-4 "
        "with beta_1 0.5 for both, BatchNorm in both networks",
    ),
}


def run(name: str, seed: int, x: Any, score: Any, speed: float) -> list[dict]:
    """Train one model with one seed; return its points on both axes.

    Args:
        name: A key of ``RUNNERS``.
        seed: Seed of weights, noise and order.
        x: Training images.
        score: Maps the model to its numbers.
        speed: Matrix product of this machine in GFLOP/s.
    """
    make, batch, _ = RUNNERS[name]
    model = make(seed)
    clock = quality.Clock([m * GFLOPS / speed for m in MARKS], score, report=print)
    model.fit(x, batch_size=batch, epochs=1000, verbose=0, callbacks=[clock])
    flops = round_flops(model) * batch
    for point in clock.points:
        point["laptop_seconds"] = round(point["seconds"] * speed / GFLOPS, 1)
        point["teraflop"] = round(1e-12 * flops * point["steps"], 3)
    return clock.points


def main() -> None:
    """Measure both and write ``results/laptop.json``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    seeds = range(parser.parse_args().seeds)
    (x, _), (x_test, _) = data.load("mnist", "train"), data.load("mnist", "test")
    judge = load_judge("mnist")
    score = quality.score_gan(judge, judge.features(x_test))
    speed = matrix_product_speed()
    models = {
        name: {
            "settings": settings,
            "seeds": [
                {"seed": s, "points": run(name, s, x, score, speed)} for s in seeds
            ],
        }
        for name, (_, _, settings) in RUNNERS.items()
    }
    print(save("laptop", {"clock_gflops": round(speed, 1), "models": models}))


if __name__ == "__main__":
    main()
