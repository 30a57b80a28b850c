"""One call that makes a run repeatable on one machine."""

from __future__ import annotations

import os

__all__ = ["set_seed"]


def set_seed(seed: int = 0, threads: int = 2) -> None:
    """Seed Python, NumPy and Keras, and configure the backend.

    Call it once, before the first tensor is made.  TensorFlow's kernels are made
    deterministic; two threads an operation are what the book's outputs were made with,
    and another count sums floats in another order.  PyTorch is told to flush denormals,
    as the other backends do.  A graphics card's memory is taken as it is needed.

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

    from genai_utils import backends

    keras.utils.set_random_seed(seed)
    backends.configure(threads)
