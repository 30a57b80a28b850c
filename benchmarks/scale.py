"""What a step of the DCGAN costs as batch, width and picture grow, and where it bends.

Each size runs in a process of its own, so that its peak of memory is its own.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
from typing import Any

import numpy as np

from benchmarks.common import matrix_product_speed, save, seconds

ROUNDS = 5
USUAL = {"batch": 64, "width": 1, "size": 32}
VARIED = {
    "batch": (1, 4, 16, 64, 256, 1024),
    "width": (0.25, 0.5, 1, 2, 4),
    "size": (8, 16, 32, 64, 128),
}


def measure(batch: int, width: float, size: int) -> dict[str, Any]:
    """Train a DCGAN of one size for some steps; return what a step costs.

    Args:
        batch: Pictures a step.
        width: Factor on the channels 64-32.
        size: Height and width of a picture, divisible by 4.
    """
    import keras

    from benchmarks.steps import round_flops
    from genai_utils.models.gan import make_dcgan

    keras.utils.set_random_seed(0)
    filters = int(64 * width), int(32 * width)
    model = make_dcgan((size, size, 1), 64, filters)
    adam = {n: keras.optimizers.Adam(2e-4) for n in ("discriminator", "generator")}
    flops = round_flops(model) * batch
    steps = int(np.clip(1e11 / flops, 4, 200))  # about a second a round
    model.compile(adam, steps_per_execution=min(steps, 16))
    shape = (batch * steps, size, size, 1)
    x = np.random.default_rng(0).uniform(-1, 1, shape).astype("float32")

    def run() -> None:
        model.fit(x, batch_size=batch, verbose=0)

    run()  # traces and compiles
    step = statistics.median(seconds(run) for _ in range(ROUNDS)) / steps
    return {
        "milliseconds_a_step": round(1e3 * step, 2),
        "pictures_a_second": round(batch / step),
        "gflops": round(1e-9 * flops / step, 1),
        "peak_gib": round(
            resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2
        ),
    }


def knee(rows: list[dict], work: str, tolerance: float = 1.5) -> str:
    """Say from which size on the time is proportional to the work, if it ever is.

    The last size sets the slope.  The straight line holds as far down as a step costs
    at most ``tolerance`` times what this slope allows.

    Args:
        rows: Rows of one series, the smallest first.
        work: Name of the column that holds the work of a step.
        tolerance: How far above the line still counts as on it, at least 1.
    """
    slope = rows[-1]["milliseconds_a_step"] / rows[-1][work]
    excess = [r["milliseconds_a_step"] / (slope * r[work]) for r in rows]
    on_line = len(rows)
    while on_line and 1 / tolerance <= excess[on_line - 1] <= tolerance:
        on_line -= 1
    first = rows[min(on_line, len(rows) - 1)]
    return (
        f"{first['varied']}: in proportion to the arithmetic from {first['value']:g} "
        f"on; at {rows[0]['value']:g} a step costs {excess[0]:.1f} times what the "
        f"line through zero and {rows[-1]['value']:g} says"
    )


def main() -> None:
    """Vary one size at a time and write ``results/scale.json``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--worker", help="JSON of one setting")
    wanted = parser.parse_args()
    if wanted.worker:
        print("@" + json.dumps(measure(**json.loads(wanted.worker))))
        return
    rows, bends = [], []
    peak = matrix_product_speed()
    for name, values in VARIED.items():
        series = []
        for value in values:
            setting = json.dumps({**USUAL, name: value})
            command = [sys.executable, "-m", "benchmarks.scale", "--worker", setting]
            out = subprocess.run(command, capture_output=True, text=True, check=True)
            line = next(x for x in out.stdout.splitlines() if x.startswith("@"))
            found = json.loads(line[1:])
            share = round(found["gflops"] / peak, 3)
            row = {"varied": name, "value": value, **found, "share": share}
            row["gflop_a_step"] = found["gflops"] * found["milliseconds_a_step"] / 1e3
            series.append(row)
            print(row, flush=True)
        bends.append(knee(series, "gflop_a_step"))
        rows += [{k: v for k, v in r.items() if k != "gflop_a_step"} for r in series]
    print("\n".join(bends))
    save("scale", {"usual": USUAL, "rows": rows, "bends": bends})


if __name__ == "__main__":
    main()
