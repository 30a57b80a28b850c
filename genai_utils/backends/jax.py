"""JAX: pure functions, so that the state comes in and goes out as arrays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import keras


def value_and_gradients(
    loss_fn: Callable[[], tuple[Any, dict]],
    variables: Sequence[keras.Variable],
    model: keras.Model | None = None,
) -> tuple[Any, dict, list]:
    """As in :mod:`genai_utils.backends.tensorflow`."""
    chosen = {id(v) for v in variables}
    state = model.variables if model is not None else ()
    mutable = list({id(v): v for v in state if id(v) not in chosen}.values())
    fixed = [(v, v.value) for v in mutable]

    def pure(values):
        mapping = fixed + list(zip(variables, values, strict=True))
        with keras.StatelessScope(state_mapping=mapping) as scope:
            loss, logs = loss_fn()
        return loss, (logs, [scope.get_current_value(v) for v in mutable])

    gradient_of = jax.value_and_grad(pure, has_aux=True)
    (loss, (logs, changed)), gradients = gradient_of([v.value for v in variables])
    for v, value in zip(mutable, changed, strict=True):
        v.assign(value)
    return loss, logs, gradients


def input_gradients(fn: Callable[[Any], Any], x: Any) -> Any:
    """As in :mod:`genai_utils.backends.tensorflow`."""
    x = keras.ops.convert_to_tensor(x)
    return jax.grad(lambda value: keras.ops.sum(fn(value)))(x)


def apply_gradients(optimizer: Any, gradients: list, variables: list) -> None:
    """Let an optimizer take one step, whose branches (loss scaling) stay pure."""
    state = optimizer.variables
    values, moments = optimizer.stateless_apply(
        [v.value for v in state], gradients, [v.value for v in variables]
    )
    for v, value in zip([*variables, *state], [*values, *moments], strict=True):
        v.assign(value)


def num_replicas() -> int:
    """Return 1: ``keras.distribution`` computes the mean over the whole batch."""
    return 1


def run_round(
    model: keras.Model, play: Callable[[Any], dict], training: bool, args: tuple
) -> Any:
    """Run ``play(batch)`` with the state that comes in, and hand the new state out."""
    state, batch = args
    groups = [model.trainable_variables, model.non_trainable_variables]
    groups += [model.optimizer.variables] if training else []
    groups += [model.metrics_variables]
    pairs = [
        pair
        for variables, values in zip(groups, state, strict=True)
        for pair in zip(variables, values, strict=True)
    ]
    with keras.StatelessScope(state_mapping=pairs) as scope:
        logs = play(batch)
    return logs, tuple([scope.get_current_value(v) for v in g] for g in groups)


def compile_defaults(model: keras.Model, run_eagerly: bool) -> dict:
    """As in :mod:`genai_utils.backends.tensorflow`: Keras' own are good."""
    return {}


def compiled(fn: Callable, model: keras.Model) -> Callable:
    """As in :mod:`genai_utils.backends.tensorflow`, at the first call."""

    @jax.jit
    def pure(values: list, *args: Any) -> Any:
        pairs = list(zip(model.weights, values, strict=True))
        with keras.StatelessScope(state_mapping=pairs):
            return fn(*args)

    return lambda *args: pure([v.value for v in model.weights], *args)


def batches(arrays: tuple, batch_size: int, shuffle: bool) -> Any:
    """As in :mod:`genai_utils.backends.tensorflow`: Keras' own way is as good."""
    return None


def configure(threads: int) -> None:
    """As in :mod:`genai_utils.backends.tensorflow`: nothing is left open here."""


def device() -> str:
    """As in :mod:`genai_utils.backends.tensorflow`."""
    found = jax.devices()[0]
    return "CPU" if found.platform == "cpu" else found.device_kind


def software() -> str:
    """As in :mod:`genai_utils.backends.tensorflow`."""
    return "JAX " + ".".join(jax.__version__.split(".")[:2])


def threads() -> int | None:
    """As in :mod:`genai_utils.backends.tensorflow`: XLA takes every core."""
    return None
