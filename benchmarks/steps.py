"""Images a second: `Game.fit` against the shortest hand-written loop, on each engine.

Each engine runs in a process of its own.  The ways train one model and take turns,
round after round, so that a slow moment of the machine meets all; ratios are medians
over rounds, of which there are at least five and as many as fit into four minutes.  A
call trains one to three short epochs; what a call of `fit` costs beside its steps comes
apart.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import partial
from operator import truediv
from typing import Any

from benchmarks.common import (
    RESULTS,
    matrix_product_speed,
    save,
    seconds,
    take_turns,
)

BATCH = 128
ROUNDS, SECONDS = 5, 240  # at least, for each network
ENGINES = ("tensorflow", "jax", "torch")
NETWORKS = {  # batch, steps an epoch, epochs a call
    "dense_gan": (BATCH, 48, 3),
    "dcgan": (BATCH, 48, 3),
    "conv_vae": (BATCH, 48, 3),
    "unet": (64, 16, 1),
    "gpt": (16, 48, 1),
}
RECIPES = {"unet": "mnist_diffusion", "gpt": "english_gpt"}
# The C library of Linux gives large freed blocks back to the system, or keeps them, as
# what the process did before has taught it; a page fault for each page is the price.
# Here it keeps them, so that no way pays for another.  A reader sets these variables or
# does not: PyTorch, which is slower without them, is measured both ways.
KEEP_MEMORY = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "2000000000"}


def make(network: str, size: int = 28) -> Any:
    """Make one of the book's models, compiled; ``size`` is the side of its images."""
    import keras

    from genai_utils.models.gan import make_dcgan, make_dense_gan
    from genai_utils.models.vae import make_conv_vae
    from genai_utils.recipes import get_recipe

    keras.utils.set_random_seed(0)
    if network in RECIPES:
        recipe = get_recipe(RECIPES[network])
        model = recipe.make(**recipe.arguments)
        model.compile({n: keras.optimizers.Adam(r) for n, r in recipe.rates.items()})
        return model
    if network == "conv_vae":
        model = make_conv_vae((size, size, 1), 16)
        model.compile(keras.optimizers.Adam(1e-3))
        return model
    makers = {"dcgan": make_dcgan, "dense_gan": make_dense_gan}
    model = makers[network]((size, size, 1), 64)
    adam = {n: keras.optimizers.Adam(2e-4) for n in ("discriminator", "generator")}
    model.compile(adam)
    return model


def samples_for(network: str, n: int) -> Any:
    """Return ``n`` samples such as a network is fed: tokens for the GPT, or noise."""
    import numpy as np

    rng = np.random.default_rng(0)
    if network == "gpt":
        return rng.integers(0, 62, (n, 33)).astype("int32")
    return rng.uniform(-1, 1, (n, 28, 28, 1)).astype("float32")


def tensorflow_loop(model: Any, batch: int = BATCH) -> Callable[[Any], None]:
    """Return a loop over batches: one graph a step, gradients from a tape."""
    import tensorflow as tf

    players = model.players()
    optimizers = model.optimizer.players

    @tf.function
    def step(x: Any) -> None:
        for player in players:
            optimizer = optimizers[player.name]
            values = [v.value for v in player.variables]
            with tf.GradientTape() as tape:
                loss = optimizer.scale_loss(player.evaluate(x, True)[0])
            optimizer.apply(tape.gradient(loss, values), player.variables)

    def loop(x: Any) -> None:
        x = tf.constant(x)
        for i in range(0, len(x), batch):
            step(x[i : i + batch])
        tf.test.experimental.sync_devices()

    return loop


def jax_loop(model: Any, batch: int = BATCH) -> Callable[[Any], None]:
    """Return a loop over batches: one compiled step on all variables' values."""
    import jax
    import keras

    from genai_utils.backends import apply_gradients

    players, variables = model.players(), list(model.variables)
    for player in players:
        variables += model.optimizer.players[player.name].variables
    places = {id(v): i for i, v in enumerate(variables)}

    @jax.jit
    def step(state: list, x: Any) -> list:
        for player in players:
            mine = [places[id(v)] for v in player.variables]
            optimizer = model.optimizer.players[player.name]

            def loss(chosen: list, state: list = state, mine: list = mine) -> Any:
                state = list(state)
                for i, value in zip(mine, chosen, strict=True):
                    state[i] = value
                pairs = list(zip(variables, state, strict=True))
                with keras.StatelessScope(state_mapping=pairs) as scope:
                    value = player.evaluate(x, True)[0]  # noqa: B023
                    value = optimizer.scale_loss(value)  # noqa: B023
                return value, [scope.get_current_value(v) for v in variables]

            chosen = [state[i] for i in mine]
            gradients, state = jax.grad(loss, has_aux=True)(chosen)
            pairs = list(zip(variables, state, strict=True))
            with keras.StatelessScope(state_mapping=pairs) as scope:
                apply_gradients(optimizer, gradients, player.variables)
                state = [scope.get_current_value(v) for v in variables]
        return state

    def loop(x: Any) -> None:
        x, state = jax.numpy.asarray(x), [v.value for v in variables]
        for i in range(0, len(x), batch):
            state = step(state, x[i : i + batch])
        jax.block_until_ready(state)
        for variable, value in zip(variables, state, strict=True):
            variable.assign(value)

    return loop


def scales(model: Any) -> bool:
    """Say whether the optimizers of `fit` scale their losses (float16)."""
    players = model.optimizer.players.values()
    return any(hasattr(o, "dynamic_scale") for o in players)


def finish(device: Any) -> None:
    """Wait until PyTorch has done what it was asked; on a CPU it has."""
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize()


def torch_loop(model: Any, batch: int = BATCH) -> Callable[[Any], None]:
    """Return a loop over batches with PyTorch's own Adam."""
    import torch

    rate = {
        p.name: float(model.optimizer.players[p.name].learning_rate)
        for p in model.players()
    }
    moves = [
        (p, torch.optim.Adam([v.value for v in p.variables], lr=rate[p.name]))
        for p in model.players()
    ]
    device = moves[0][0].variables[0].value.device
    # as the optimizers of `fit`: float16 cannot hold small gradients
    scaler = torch.amp.GradScaler(device.type, enabled=scales(model))

    def loop(x: Any) -> None:
        x = torch.from_numpy(x).to(device)
        for i in range(0, len(x), batch):
            for player, optimizer in moves:
                optimizer.zero_grad()
                loss = player.evaluate(x[i : i + batch], True)[0]
                scaler.scale(loss).backward()
                scaler.step(optimizer)
                scaler.update()
        finish(device)

    return loop


def torch_loop_with_keras_adam(model: Any, batch: int = BATCH) -> Callable[[Any], None]:
    """Return a loop with the Adam and the gradients of `fit`: what else costs time?"""
    import torch

    moves = [(p, model.optimizer.players[p.name]) for p in model.players()]
    device = moves[0][0].variables[0].value.device

    def loop(x: Any) -> None:
        x = torch.from_numpy(x).to(device)
        for i in range(0, len(x), batch):
            for player, optimizer in moves:
                values = [v.value for v in player.variables]
                loss = player.evaluate(x[i : i + batch], True)[0]
                loss = optimizer.scale_loss(loss)
                optimizer.apply(torch.autograd.grad(loss, values), player.variables)
        finish(device)

    return loop


LOOPS = {
    "tensorflow": {"loop": tensorflow_loop},
    "jax": {"loop": jax_loop},
    "torch": {"loop": torch_loop, "loop, Adam of Keras": torch_loop_with_keras_adam},
}


def forward_flops(network: Any) -> float:
    """Return the multiply-adds, counted twice, of one image through a network."""
    total = 0.0
    for layer in network.layers:
        kernel = getattr(layer, "kernel", None)
        if kernel is None:
            continue
        size = 1
        for n in kernel.shape:
            size *= n
        out, inside = layer.output.shape[1:], layer.input.shape[1:]
        kind = type(layer).__name__
        places = inside if kind == "Conv2DTranspose" else out
        total += 2 * size * (places[0] * places[1] if kind.startswith("Conv") else 1)
    return total


def network_flops(network: Any) -> float:
    """Return the operations of a U-Net, or of a GPT's weights on 32 tokens."""
    if any(hasattr(layer, "kernel") for layer in network.layers):
        return forward_flops(network)
    return 2.0 * 32 * network.count_params()


def round_flops(model: Any) -> float:
    """Return the floating-point operations of one round for one image.

    A backward pass costs about twice its forward pass.  A GAN's round sends an image
    through G and twice through D for the discriminator, whose gradient stops at the
    fakes, and through both for the generator, whose gradient passes through D but is
    not taken for D's weights.
    """
    if hasattr(model, "network"):
        return 3 * network_flops(model.network)
    if hasattr(model, "decoder"):
        return 3 * (forward_flops(model.encoder) + forward_flops(model.decoder))
    g, d = forward_flops(model.generator), forward_flops(model.discriminator)
    return (g + 2 * 3 * d) + (3 * g + 2 * d)


def call_cost(model: Any, x: Any, step: float) -> float:
    """Return the milliseconds that a call of `fit` costs beside its steps."""

    def call() -> None:
        model.fit(x, batch_size=len(x), verbose=0)

    call()
    return 1e3 * (statistics.median(seconds(call) for _ in range(ROUNDS)) - step)


def repeated(loop: Callable[[Any], None], x: Any, epochs: int) -> Callable[[], None]:
    """Return what runs a loop over ``x`` several times."""

    def run() -> None:
        for _ in range(epochs):
            loop(x)

    return run


def worker(engine: str, limit: float, networks: Sequence[str]) -> None:
    """Measure every network on the engine of this process; print JSON lines.

    Args:
        engine: The Keras backend of this process.
        limit: Seconds to spend on each network, at least.
        networks: Which to measure.
    """
    from genai_utils.seeds import set_seed

    if engine == "torch":
        import torch

        set_seed()  # configures PyTorch as in a chapter
        torch.set_num_threads(len(os.sched_getaffinity(0)))
    for network in networks:
        batch, steps, epochs = NETWORKS[network]
        model, x = make(network), samples_for(network, batch * steps)
        ways: dict[str, Callable] = {
            "fit": partial(model.fit, x, batch_size=batch, epochs=epochs, verbose=0)
        }
        for way, make_loop in LOOPS[engine].items():
            ways[way] = repeated(make_loop(model, batch), x, epochs)
        first, took = take_turns(ways, ROUNDS, limit)
        samples = epochs * len(x)
        runs = {way: [samples / t for t in times] for way, times in took.items()}
        for way, values in runs.items():
            speed = statistics.median(values)
            row = {
                "network": network,
                "engine": engine,
                "way": way,
                "images_per_second": round(speed),
                "runs": [round(v) for v in values],
                "mflop_an_image": round(round_flops(model) / 1e6, 2),
                "first_call_seconds": first[way],
            }
            if way == "fit":
                row["call_ms"] = round(call_cost(model, x[:batch], batch / speed), 1)
            print("@" + json.dumps(row), flush=True)
    from benchmarks.parts import measure

    print("=" + json.dumps(measure()), flush=True)


def earlier(networks: set[str]) -> dict:
    """Return what the result file holds of other networks, measured before.

    Args:
        networks: Those that are measured now.
    """
    path = RESULTS / "steps.json"
    old = json.loads(path.read_text("utf-8")) if path.exists() else {}
    plain = old.get("ratios_without_variables", {})
    rows = [r for r in old.get("rows", []) if r["network"] not in networks]
    date = old.get("kept") or old.get("machine", {}).get("date", "")
    return {
        "rows": rows,
        "kept": date if rows else "",
        "ratios_without_variables": {
            k: v for k, v in plain.items() if k.split()[0] not in networks
        },
    }


def measured(engine: str, wanted: Any, memory: dict[str, str]) -> tuple[list, dict]:
    """Run a worker in a process of its own; return its rows and the times of parts.

    Args:
        engine: The Keras backend.
        wanted: The options of the command line.
        memory: Environment variables of its memory.

    Raises:
        RuntimeError: If it fails, with the last line of its errors.
    """
    command = [sys.executable, "-m", "benchmarks.steps", "--worker", engine]
    command += ["--seconds", str(wanted.seconds), "--networks", *wanted.networks]
    environment = {**os.environ, **memory, "KERAS_BACKEND": engine}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:]
        raise RuntimeError(f"{engine}: {' '.join(last)}")
    lines = done.stdout.splitlines()
    rows = [json.loads(line[1:]) for line in lines if line.startswith("@")]
    parts = [json.loads(line[1:]) for line in lines if line.startswith("=")]
    return rows, parts[0]


def ratios(rows: list[dict]) -> dict[str, float]:
    """Map each network, engine and loop to the speed of `fit` against that loop."""
    runs = {(r["network"], r["engine"], r["way"]): r["runs"] for r in rows}
    return {
        f"{n} {e}{way.removeprefix('loop')}": round(
            statistics.median(map(truediv, runs[n, e, "fit"], loop)), 3
        )
        for (n, e, way), loop in runs.items()
        if way != "fit"
    }


def main() -> None:
    """Run each engine that is installed and write ``results/steps.json``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--worker", choices=ENGINES)
    parser.add_argument(
        "--seconds", type=float, default=SECONDS, help="for each network, at least"
    )
    parser.add_argument(
        "--networks",
        nargs="+",
        choices=NETWORKS,
        default=[*NETWORKS],
        help="the others keep what was measured before",
    )
    wanted = parser.parse_args()
    if wanted.worker:
        worker(wanted.worker, wanted.seconds, wanted.networks)
        return
    old = earlier(set(wanted.networks))
    rows, missing, parts = [], [], {}
    peak = matrix_product_speed()
    for engine in ENGINES:
        print(f"== {engine}", flush=True)
        try:
            found, parts[engine] = measured(engine, wanted, KEEP_MEMORY)
        except RuntimeError as error:
            missing.append(str(error))
            print("not measured:", error)
            continue
        for row in found:
            rate = row["images_per_second"] * row["mflop_an_image"] / 1000
            row["share_of_matrix_product"] = round(rate / peak, 3)
            print(row)
        rows += found
    rows = old["rows"] + rows
    results = {"batch": BATCH, "rows": rows, "ratios": ratios(rows), "parts": parts}
    results["kept"] = old["kept"]  # since when rows of other networks stand
    if "torch" in parts:  # as a reader has it who sets no variable
        plain = ratios(measured("torch", wanted, {})[0])
        results["ratios_without_variables"] = old["ratios_without_variables"] | plain
        print(results["ratios_without_variables"])
    results["missing"] = missing
    save("steps", results)
    print(results["ratios"])


if __name__ == "__main__":
    main()
