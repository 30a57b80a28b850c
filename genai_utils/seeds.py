"""How a run computes: seeds that repeat it, its precision, its device."""

from __future__ import annotations

from genai_utils.quiet import hush_tensorflow

__all__ = ["describe", "set_seed", "use_mixed_precision"]

# Before TensorFlow is loaded: its notes on processors stay out of the chapters.
hush_tensorflow()

_POLICIES = ("mixed_bfloat16", "mixed_float16", "float32")


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
    import keras

    from genai_utils import backends

    keras.utils.set_random_seed(seed)
    backends.configure(threads)


def use_mixed_precision(policy: str = "mixed_bfloat16") -> None:
    """Compute in 16 bits from now on, and keep the weights in 32.

    Call it before the model is made: layers keep the precision that held when they were
    made.  ``Game`` computes its losses in float32, and scales them under
    ``"mixed_float16"``, whose range is small.  A graphics card multiplies matrices
    several times as fast in 16 bits; a CPU usually does not.

    Args:
        policy: ``"mixed_bfloat16"``, ``"mixed_float16"`` (for cards without bfloat16),
            or ``"float32"``, which goes back to 32 bits.

    Raises:
        ValueError: If ``policy`` is none of these.
    """
    import keras

    from genai_utils.checks import check_choice

    check_choice(policy, "policy", _POLICIES)
    keras.config.set_dtype_policy(policy)


def describe() -> str:
    """Say what computes, as in ``"TensorFlow 2.21 on CPU (2 threads)"``.

    Returns:
        The backend, its version and its device; for a CPU also how many threads an
        operation may use.
    """
    from genai_utils import backends

    device = backends.device()
    if device == "CPU":
        n = backends.threads()
        device += " (every core)" if n is None else f" ({n} thread{'s' * (n > 1)})"
    return f"{backends.software()} on {device}"
