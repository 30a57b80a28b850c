"""Gradients on TensorFlow, JAX and PyTorch: the branches for each engine.

Both functions are used inside a training step, where Keras has already traced the
model; a loss is an ordinary function that reads Keras variables.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras

__all__ = ["input_gradients", "value_and_gradients"]


def value_and_gradients(
    loss_fn: Callable[[], tuple[Any, dict]],
    variables: Sequence[keras.Variable],
    state: Sequence[keras.Variable] = (),
) -> tuple[Any, dict, list]:
    """Evaluate a loss and differentiate it with respect to some variables.

    Args:
        loss_fn: Takes nothing, returns ``(loss, logs)``: a scalar tensor and a
            dictionary of scalar tensors.
        variables: What to differentiate for.
        state: All variables that ``loss_fn`` may read or change (JAX needs to know).

    Returns:
        ``(loss, logs, gradients)``, one gradient for each of ``variables``.
    """
    engine = keras.backend.backend()
    if engine == "tensorflow":
        return _tensorflow_gradients(loss_fn, variables)
    if engine == "jax":
        return _jax_gradients(loss_fn, variables, state)
    return _torch_gradients(loss_fn, variables)


def _tensorflow_gradients(loss_fn, variables):
    import tensorflow as tf

    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch([v.value for v in variables])
        loss, logs = loss_fn()
    return loss, logs, tape.gradient(loss, [v.value for v in variables])


def _jax_gradients(loss_fn, variables, state):
    import jax

    chosen = {id(v) for v in variables}
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


def _torch_gradients(loss_fn, variables):
    import torch

    with torch.enable_grad():
        loss, logs = loss_fn()
    gradients = torch.autograd.grad(loss, [v.value for v in variables])
    return loss.detach(), {k: v.detach() for k, v in logs.items()}, list(gradients)


def input_gradients(fn: Callable[[Any], Any], x: Any) -> Any:
    """Differentiate ``fn(x).sum()`` with respect to ``x``, itself differentiable.

    Args:
        fn: Maps a batch ``(B, ...)`` to one score for each sample.
        x: The batch, a tensor of the engine.

    Returns:
        A tensor of the shape of ``x``: row ``i`` is the gradient of score ``i``,
        provided that ``fn`` treats each sample on its own (no BatchNorm).
    """
    engine = keras.backend.backend()
    if engine == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            tape.watch(x)
            total = keras.ops.sum(fn(x))
        return tape.gradient(total, x)
    if engine == "jax":
        import jax

        return jax.grad(lambda value: keras.ops.sum(fn(value)))(x)
    import torch

    x = x.detach().requires_grad_(True)
    return torch.autograd.grad(keras.ops.sum(fn(x)), x, create_graph=True)[0]
