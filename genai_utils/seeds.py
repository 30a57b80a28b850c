"""One call that makes a run repeatable on one machine."""

from __future__ import annotations

import ctypes
import os
import sys
import warnings

__all__ = ["set_seed"]


def set_seed(seed: int = 0, threads: int = 2) -> None:
    """Seed Python, NumPy and Keras, and settle what the engine leaves open.

    Call it once, before the first tensor is made.  TensorFlow's kernels are made
    deterministic; two threads an operation are what the book's outputs were made with,
    another count sums floats in another order.  PyTorch is only told to take numbers
    below 1.2e-38 as zero, as the other engines do: processors are slow with them, and
    Adam's first moment shrinks to them where the gradient has become zero.  Threads
    take this over from the one that starts them, so it has to come first.  On Linux it
    also keeps freed memory, up to two gigabytes, for the next step.

    Args:
        seed: A whole number from 0 to 2**32 - 1.
        threads: Threads an operation may use (TensorFlow only).

    Raises:
        TypeError: If ``seed`` or ``threads`` is not a whole number.
        ValueError: If one of them is out of range.

    Warns:
        RuntimeWarning: If TensorFlow has already started its threads, so that their
            number can no longer be changed.
    """
    for value, name, low in ((seed, "seed", 0), (threads, "threads", 1)):
        if isinstance(value, bool) or not isinstance(value, int):
            raise TypeError(
                f"`{name}` must be a whole number. Received: {value!r}. Pass an int."
            )
        if not low <= value < 2**32:
            raise ValueError(
                f"`{name}` must be from {low} to 2**32 - 1. Received: {value!r}. "
                "Choose another number."
            )
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import keras

    keras.utils.set_random_seed(seed)
    if keras.backend.backend() == "tensorflow":
        _settle_tensorflow(threads)
    if keras.backend.backend() == "torch":
        _settle_torch()


def _settle_torch() -> None:
    import torch

    torch.set_flush_denormal(True)
    if sys.platform == "linux":
        # Large blocks that a step frees would go back to the system, and each page of
        # them would have to be mapped and cleared again at the next step.
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # glibc has it
        if mallopt is not None:
            mallopt(-4, 0)  # M_MMAP_MAX: no block straight from the system
            mallopt(-1, 2_000_000_000)  # M_TRIM_THRESHOLD: give back from 2 GB on


def _settle_tensorflow(threads: int) -> None:
    import tensorflow as tf

    tf.get_logger().setLevel("ERROR")  # retracing notes hold memory addresses
    tf.config.experimental.enable_op_determinism()
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
