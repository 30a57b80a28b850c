"""Refuse bad input where it enters, and say what to do about it."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

__all__ = [
    "check_array",
    "check_choice",
    "check_images",
    "check_labels",
    "check_positive",
    "check_whole",
]


def check_array(
    x: object,
    name: str,
    *,
    ndim: int | None = None,
    shape: Sequence[int | None] | None = None,
    low: float | None = None,
    high: float | None = None,
) -> np.ndarray:
    """Return ``x`` as a NumPy array of finite numbers, or say what is wrong with it.

    Args:
        x: Anything NumPy can turn into an array of real numbers.
        name: The argument's name, for the message.
        ndim: Required number of axes, if any.
        shape: Required shape; ``None`` stands for any length.
        low: Smallest value allowed, inclusive.
        high: Largest value allowed, inclusive.

    Returns:
        The array; ``x`` itself where it already is one.

    Raises:
        TypeError: If ``x`` does not hold real numbers.
        ValueError: If ``x`` is empty, has another shape, holds NaN or infinity, or
            leaves the range ``[low, high]``.
    """
    array = np.asarray(x)
    if array.dtype.kind not in "fiub":
        raise TypeError(
            f"`{name}` must hold real numbers. Received: dtype {array.dtype}. "
            "Convert it with `np.asarray(..., dtype='float32')`."
        )
    wanted = f"{ndim} axes" if shape is None else f"shape {tuple(shape)}"
    wrong_shape = shape is not None and (
        array.ndim != len(shape)
        or any(s not in (None, n) for s, n in zip(shape, array.shape, strict=True))
    )
    if wrong_shape or (ndim is not None and array.ndim != ndim):
        raise ValueError(
            f"`{name}` must have {wanted}. Received: shape {array.shape}. "
            "Reshape it, or add the missing axis with `x[..., None]`."
        )
    if array.size == 0:
        raise ValueError(
            f"`{name}` must hold at least one value. Received: shape {array.shape}. "
            "Check the filter or the slice that made it."
        )
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        bad = int((~np.isfinite(array)).sum())
        raise ValueError(
            f"`{name}` must be finite. Received: {bad} values that are NaN or "
            "infinite. Find them with `np.argwhere(~np.isfinite(x))`."
        )
    smallest, largest = array.min(), array.max()
    if (low is not None and smallest < low) or (high is not None and largest > high):
        raise ValueError(
            f"`{name}` must lie in [{low}, {high}]. Received: values from "
            f"{smallest} to {largest}. Rescale it first."
        )
    return array


def check_images(x: object, name: str = "x") -> np.ndarray:
    """Return ``x`` as a batch of images ``(B, H, W, C)`` in [-1, 1], or refuse it.

    Args:
        x: The batch, channels last.
        name: The argument's name, for the message.

    Returns:
        The array.

    Raises:
        TypeError: If ``x`` does not hold real numbers.
        ValueError: If an axis is missing or a value is not in [-1, 1].
    """
    return check_array(x, name, ndim=4, low=-1.0, high=1.0)


def check_labels(
    labels: object, n: int, num_classes: int | None, *, in_turn: bool = False
) -> np.ndarray | None:
    """Return the labels of ``n`` samples as a column, or say what is wrong with them.

    Args:
        labels: Classes ``(n,)``, or one for all.
        n: How many samples there are.
        num_classes: Number of classes; ``None`` for a model without.
        in_turn: Whether ``None`` stands for 0, 1, 2, ... in turn.

    Returns:
        int32, shape ``(n, 1)``; ``None`` for a model without classes.

    Raises:
        TypeError: If they are not whole numbers.
        ValueError: If one is not a class, there are not as many as samples, or the
            model has no use for labels, or needs them and gets none.
    """
    if num_classes is None:
        if labels is None:
            return None
        raise ValueError(
            "`labels` are for a game with classes. Received: labels for a model "
            "without. Make it with `num_classes`."
        )
    if labels is None:
        if not in_turn:
            raise ValueError(
                f"`labels` must hold the classes of the {n} samples. Received: None. "
                "Pass one for each sample, or one for all."
            )
        labels = np.arange(n) % num_classes
    labels = check_array(labels, "labels", low=0, high=num_classes - 1)
    if labels.dtype.kind == "f":
        raise TypeError(
            f"`labels` must hold whole numbers. Received: dtype {labels.dtype}. "
            "Pass them as integers."
        )
    if labels.shape not in ((), (n,)):
        raise ValueError(
            f"`labels` must hold one class for each of the {n} samples, or one for "
            f"all. Received: shape {labels.shape}. Check how the two were chosen."
        )
    return np.broadcast_to(labels, (n,)).astype("int32")[:, None]


def check_positive(value: float, name: str, *, zero_ok: bool = False) -> float:
    """Return ``value`` if it is a finite number above zero.

    Args:
        value: The number.
        name: The argument's name, for the message.
        zero_ok: Whether zero itself is allowed.

    Returns:
        ``value``, unchanged.

    Raises:
        TypeError: If it is not a number.
        ValueError: If it is negative, not finite, or zero where that is not allowed.
    """
    wanted = "at least 0" if zero_ok else "above 0"
    if isinstance(value, bool) or not isinstance(value, (int, float, np.number)):
        raise TypeError(
            f"`{name}` must be a number {wanted}. Received: {value!r}. Pass a number."
        )
    if not np.isfinite(value) or value < 0 or (value == 0 and not zero_ok):
        raise ValueError(
            f"`{name}` must be a finite number {wanted}. Received: {value!r}. "
            "Choose another value."
        )
    return value


def check_whole(value: int, name: str, low: int = 1) -> int:
    """Check that a count is a whole number, and not a truth value.

    Args:
        value: The count.
        name: What the error messages call it.
        low: The least that is taken, at least 1.

    Returns:
        The count as an ``int``.

    Raises:
        TypeError: If it is not a whole number.
        ValueError: If it is below ``low``.
    """
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(
            f"`{name}` must be a whole number above 0. Received: {value!r}. Round it "
            "with `int`."
        )
    if check_positive(value, name) < low:
        raise ValueError(
            f"`{name}` must be at least {low}. Received: {value}. Choose a larger one."
        )
    return int(value)


def check_choice(value: str, name: str, choices: Collection[str]) -> str:
    """Return ``value`` if it is one of ``choices``.

    Args:
        value: The word to check.
        name: The argument's name, for the message.
        choices: The words allowed.

    Returns:
        ``value``, unchanged.

    Raises:
        ValueError: If it is not among them.
    """
    if value not in choices:
        known = ", ".join(repr(c) for c in choices)
        raise ValueError(
            f"`{name}` must be one of {known}. Received: {value!r}. Check the spelling."
        )
    return value


def within(
    value: float,
    low: float = -np.inf,
    high: float = np.inf,
    dataset: str = "digits",
) -> bool:
    """Say whether a trained number lies in its band, which was measured on digits.

    A chapter asserts it: ``assert within(score, high=0.3, dataset=DATASET)``. On
    another data set nobody has measured a band, so the number is only reported.

    Args:
        value: The number.
        low: Lower end of the band.
        high: Upper end of the band.
        dataset: Name of the data set that the chapter runs on.

    Returns:
        On "digits", whether ``low <= value <= high``; else true, after printing the
        value and the band of the digits.

    Raises:
        ValueError: If ``low`` is above ``high``.
    """
    if low > high:
        raise ValueError(
            f"`low` must be at most `high`. Received: low={low}, high={high}. "
            "Exchange the two."
        )
    if dataset == "digits":
        return bool(low <= value <= high)
    print(f"{value:.4g} on {dataset} (band of digits: {low:.4g} to {high:.4g})")
    return True
