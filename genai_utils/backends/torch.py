"""PyTorch: gradients by ``torch.autograd``, everything eager."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import torch


def value_and_gradients(
    loss_fn: Callable[[], tuple[Any, dict]],
    variables: Sequence[keras.Variable],
    model: keras.Model | None = None,
) -> tuple[Any, dict, list]:
    """As in :mod:`genai_utils.backends.tensorflow`."""
    with torch.enable_grad():
        loss, logs = loss_fn()
    gradients = torch.autograd.grad(loss, [v.value for v in variables])
    return loss.detach(), {k: v.detach() for k, v in logs.items()}, list(gradients)


def input_gradients(fn: Callable[[Any], Any], x: Any) -> Any:
    """As in :mod:`genai_utils.backends.tensorflow`."""
    x = keras.ops.convert_to_tensor(x).detach().requires_grad_(True)
    return torch.autograd.grad(keras.ops.sum(fn(x)), x, create_graph=True)[0]


def apply_gradients(optimizer: Any, gradients: list, variables: list) -> None:
    """As in :mod:`genai_utils.backends.tensorflow`."""
    optimizer.apply(gradients, variables)


def num_replicas() -> int:
    """As in :mod:`genai_utils.backends.tensorflow`: one process, one replica."""
    return 1


def run_round(
    model: keras.Model, play: Callable[[Any], dict], training: bool, args: tuple
) -> Any:
    """As in :mod:`genai_utils.backends.tensorflow`."""
    return play(args[0])


def compile_defaults(model: keras.Model, run_eagerly: bool) -> dict:
    """As in :mod:`genai_utils.backends.tensorflow`: Keras' own are good."""
    return {}


def compiled(fn: Callable, model: keras.Model) -> Callable:
    """As in :mod:`genai_utils.backends.tensorflow`; eager, but without gradients."""

    def tensor(a: Any) -> Any:  # scalars stay on the processor: no copy to a card
        return keras.ops.convert_to_tensor(a) if np.ndim(a) else int(a)

    @torch.no_grad()
    def run(*args: Any) -> Any:
        return fn(*map(tensor, args))

    return run


def batches(arrays: tuple, batch_size: int, shuffle: bool) -> Any:
    """As in :mod:`genai_utils.backends.tensorflow`: Keras' own way is as good."""
    return None


def configure(threads: int) -> None:
    """Flush denormals, as the other backends do.

    Adam's first moment decays to numbers below 1.2e-38 where a gradient has become
    zero; a third of them did after 900 steps, and processors are slow with them.
    Threads inherit the setting, so it has to come before the first tensor.
    """
    torch.set_flush_denormal(True)


def device() -> str:
    """As in :mod:`genai_utils.backends.tensorflow`."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name(0)
    return "CPU"


def software() -> str:
    """As in :mod:`genai_utils.backends.tensorflow`."""
    return "PyTorch " + ".".join(torch.__version__.split(".")[:2])


def threads() -> int | None:
    """As in :mod:`genai_utils.backends.tensorflow`."""
    return torch.get_num_threads()
