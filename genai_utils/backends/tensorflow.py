"""TensorFlow: gradient tapes, ``tf.data``, several steps in one graph."""

from __future__ import annotations

import collections
import contextlib
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

STEPS_PER_EXECUTION = 16  # small networks: 1.3 to 2 times the steps a second of 1
PLAIN_CALLS = 200  # of one shape, before XLA compiles it


def value_and_gradients(
    loss_fn: Callable[[], tuple[Any, dict]],
    variables: Sequence[keras.Variable],
    model: keras.Model | None = None,
) -> tuple[Any, dict, list]:
    """Evaluate a loss and differentiate it with respect to some variables.

    Args:
        loss_fn: Takes nothing, returns ``(loss, logs)``: a scalar tensor and a
            dictionary of scalar tensors.
        variables: What to differentiate for.
        model: The model whose variables ``loss_fn`` may change (JAX needs to know).

    Returns:
        ``(loss, logs, gradients)``, one gradient for each of ``variables``.
    """
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch([v.value for v in variables])
        loss, logs = loss_fn()
    return loss, logs, tape.gradient(loss, [v.value for v in variables])


def input_gradients(fn: Callable[[Any], Any], x: Any) -> Any:
    """Differentiate ``fn(x).sum()`` with respect to ``x``, itself differentiable.

    Args:
        fn: Maps a batch ``(B, ...)`` to one score for each sample.
        x: The batch, a tensor of the backend.

    Returns:
        A tensor of the shape of ``x``: row ``i`` is the gradient of score ``i``,
        provided that ``fn`` treats each sample on its own (no BatchNorm).
    """
    x = tf.convert_to_tensor(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        total = keras.ops.sum(fn(x))
    return tape.gradient(total, x)


def apply_gradients(optimizer: Any, gradients: list, variables: list) -> None:
    """Let an optimizer take one step."""
    optimizer.apply(gradients, variables)


def num_replicas() -> int:
    """Count the replicas whose gradients Keras adds up (``tf.distribute``)."""
    return tf.distribute.get_strategy().num_replicas_in_sync


def run_round(
    model: keras.Model, play: Callable[[Any], dict], training: bool, args: tuple
) -> Any:
    """Run ``play(batch)`` as Keras' trainer expects it of a step."""
    return play(args[0])


def compile_defaults(model: keras.Model, run_eagerly: bool) -> dict:
    """Return the arguments of ``compile`` that are best where the user gives none."""
    defaults: dict[str, Any] = {"jit_compile": False}  # plain graphs compile faster
    if not run_eagerly and model.distribute_strategy.num_replicas_in_sync == 1:
        defaults["steps_per_execution"] = STEPS_PER_EXECUTION
    return defaults


def compiled(fn: Callable, model: keras.Model) -> Callable:
    """Compile a function that is called very often, as in generation.

    After some calls with the same shapes XLA takes over: a step of a small GPT takes
    1.3 ms in place of 3.3, but XLA needs a second or two to compile it.

    Args:
        fn: Takes and returns tensors; it may read the model's variables, and changes
            none.
        model: The model, built.

    Returns:
        A function of arrays or tensors that returns tensors.
    """
    calls: dict[tuple, int] = collections.Counter()

    def counted(weights: int, *args: Any) -> Any:
        return fn(*args)

    plain = tf.function(counted, autograph=False)
    fused = tf.function(counted, autograph=False, jit_compile=True)

    def run(*args: Any) -> Any:
        weights = len(model.weights)  # more of them (LoRA): another graph
        shapes = (weights, *(tuple(np.shape(a)) for a in args))
        calls[shapes] += 1
        return (plain if calls[shapes] <= PLAIN_CALLS else fused)(weights, *args)

    return run


def batches(arrays: tuple, batch_size: int, shuffle: bool) -> Any:
    """Cut arrays in memory into batches, in a new order each epoch.

    An epoch of the small DCGAN takes 215 to 268 ms with this pipeline and 369 with
    Keras' own: no functions are set up again at the start of each epoch (with a seed,
    these would repeat one order), and no autotuning thread keeps its end waiting.

    Args:
        arrays: ``(x,)`` or ``(x, y)``.
        batch_size: Samples a batch.
        shuffle: Whether to draw a new order for each epoch.

    Returns:
        A data set, or ``None`` where Keras' own way is as good.
    """
    with tf.device("cpu"):  # the whole data set stays in main memory
        samples = tf.data.Dataset.from_tensor_slices(arrays)
    if shuffle:
        samples = samples.shuffle(keras.tree.flatten(arrays)[0].shape[0])
    options = tf.data.Options()
    options.autotune.enabled = False
    return samples.batch(batch_size).prefetch(2).with_options(options)


def configure(threads: int) -> None:
    """Make kernels deterministic, fix the threads, keep notes out of the output.

    Warns:
        RuntimeWarning: If TensorFlow has already started its threads.
    """
    tf.get_logger().setLevel("ERROR")  # retracing notes hold memory addresses
    tf.config.experimental.enable_op_determinism()
    for card in tf.config.list_physical_devices("GPU"):
        with contextlib.suppress(RuntimeError):  # it is in use already
            tf.config.experimental.set_memory_growth(card, True)
    if tf.config.threading.get_intra_op_parallelism_threads() == threads:
        return
    try:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
    except RuntimeError:
        warnings.warn(
            f"set_seed(threads={threads}) came too late: TensorFlow has already "
            "started its threads. Restart the kernel and call `set_seed` first; "
            "until then sums may differ in the last digits.",
            RuntimeWarning,
            stacklevel=3,
        )


def device() -> str:
    """Name the device that computes."""
    cards = tf.config.list_physical_devices("GPU")
    if not cards:
        return "CPU"
    details = tf.config.experimental.get_device_details(cards[0])
    return details.get("device_name", "GPU")


def software() -> str:
    """Name the backend and its version, as in ``"TensorFlow 2.21"``."""
    return "TensorFlow " + ".".join(tf.__version__.split(".")[:2])


def threads() -> int | None:
    """Return how many threads an operation may use on the CPU; None for every core."""
    return tf.config.threading.get_intra_op_parallelism_threads() or None
