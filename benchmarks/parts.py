"""Where a training step's time goes: its parts, on the engine of the process.

The shapes are those of the DCGAN for MNIST at batch 128, the Adam step is that of the
dense GAN's generator.  On PyTorch a gradient includes its forward pass.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from benchmarks.common import seconds
from genai_utils.backends import input_gradients

__all__ = ["measure"]

BATCH = 128
ROUNDS = 9
WEIGHTS = 551_184


def compiled(f: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a function of tensors as the engine usually does."""
    engine = keras.backend.backend()
    if engine == "tensorflow":
        import tensorflow as tf

        return tf.function(f, autograph=False)
    if engine == "jax":
        import jax

        return jax.jit(f)
    return f


def milliseconds(f: Callable[..., Any], *args: Any) -> float:
    """Return the median time of one call, with its result waited for."""

    def call() -> None:
        result = f(*args)
        if result is not None:
            ops.convert_to_numpy(result[0, 0])

    call()
    return round(1e3 * statistics.median(seconds(call) for _ in range(ROUNDS)), 2)


def convolutions() -> dict[str, float]:
    """Time a strided convolution, its transpose, and the gradients of both."""
    rng = np.random.default_rng(0)
    large, small, kernel = (
        ops.convert_to_tensor(rng.standard_normal(shape).astype("float32"))
        for shape in ((BATCH, 14, 14, 32), (BATCH, 7, 7, 64), (4, 4, 32, 64))
    )
    found = {}
    for name, op, x in (
        ("convolution", ops.conv, large),
        ("transposed convolution", ops.conv_transpose, small),
    ):

        def forward(x: Any, k: Any, op: Any = op) -> Any:
            return op(x, k, strides=2, padding="same")

        def by_input(x: Any, k: Any, forward: Any = forward) -> Any:
            return input_gradients(lambda v: forward(v, k), x)

        def by_kernel(x: Any, k: Any, forward: Any = forward) -> Any:
            return input_gradients(lambda v: forward(x, v), k)

        found[name] = milliseconds(compiled(forward), x, kernel)
        found[f"{name}, gradient for its input"] = milliseconds(
            compiled(by_input), x, kernel
        )
        found[f"{name}, gradient for its kernel"] = milliseconds(
            compiled(by_kernel), x, kernel
        )
    return found


def adam_step() -> float:
    """Time one step of Adam on as many weights as the dense generator has."""
    weights = keras.Variable(np.zeros((1, WEIGHTS), "float32"))
    gradient = ops.ones((1, WEIGHTS))
    adam = keras.optimizers.Adam(1e-3)
    adam.build([weights])
    if keras.backend.backend() == "jax":

        @compiled
        def update(values: Any, state: Any) -> Any:
            return adam.stateless_apply(state, [gradient], [values])

        state = [v.value for v in adam.variables]  # new moments are written, too
        return milliseconds(lambda: update(weights.value, state)[0][0])

    def step() -> None:
        adam.apply([gradient], [weights])

    return milliseconds(compiled(step))


def own_adam_step() -> float | None:
    """Time the same step with PyTorch's Adam; the other engines have none."""
    if keras.backend.backend() != "torch":
        return None
    import torch

    weights = torch.zeros((1, WEIGHTS), requires_grad=True)
    weights.grad = torch.ones_like(weights)
    return milliseconds(torch.optim.Adam([weights], lr=1e-3).step)


def measure() -> dict[str, float | None]:
    """Return the milliseconds of each part."""
    adams = {"Adam of Keras": adam_step(), "Adam of the engine": own_adam_step()}
    return {**convolutions(), **adams}
