"""What a game may be fed: arrays, data sets and generators, with or without labels."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from genai_utils import backends
from genai_utils.checks import check_array

__all__ = [
    "Field",
    "cast",
    "in_batches",
    "is_array",
    "look",
    "look_at_validation",
    "refuse_weights",
    "split",
]


@dataclass(frozen=True)
class Field:
    """What the samples of a game, or one of its conditions, must look like.

    Args:
        dtype: What the values are cast to: ``"float32"`` for images and points,
            ``"int32"`` for tokens and labels.
        low: Smallest value allowed, inclusive; ``None`` for no limit.
        high: Largest value allowed, inclusive.
    """

    dtype: str = "float32"
    low: float | None = None
    high: float | None = None

    def check(self, value: Any, name: str) -> np.ndarray:
        """Return ``value`` as an array of this dtype, or say what is wrong with it.

        Args:
            value: Anything NumPy can turn into an array of real numbers.
            name: The argument's name, for the message.

        Raises:
            TypeError: If it does not hold numbers, or fractions where whole numbers
                are wanted.
            ValueError: If it is empty, holds NaN or leaves the range.
        """
        if keras.ops.is_tensor(value):
            value = keras.ops.convert_to_numpy(value)
        array = check_array(value, name, low=self.low, high=self.high)
        if np.dtype(self.dtype).kind in "iu" and array.dtype.kind == "f":
            raise TypeError(
                f"`{name}` must hold whole numbers. Received: dtype {array.dtype}. "
                "Pass tokens or labels as integers."
            )
        return array.astype(self.dtype, copy=False)


def refuse_weights(method: str, arguments: Mapping[str, Any]) -> None:
    """Refuse weights of samples and classes: every sample counts alike.

    Raises:
        TypeError: If ``arguments`` holds one that is not ``None``.
    """
    for name in ("sample_weight", "class_weight"):
        if arguments.get(name) is not None:
            _refuse(name, arguments[name], method)


def _refuse(name: str, value: Any, method: str = "fit") -> None:
    raise TypeError(
        f"`{method}` takes no targets and no weights: this model learns `x` itself, "
        f"every sample alike. Received: `{name}` of type {type(value).__name__}. "
        "Leave it out; a model that takes labels declares a `condition`."
    )


def is_array(x: Any) -> bool:
    """Say whether ``x`` is held in memory: an array, a tensor or a list of numbers."""
    return isinstance(x, (np.ndarray, list)) or keras.ops.is_tensor(x)


def look(model: Any, x: Any, y: Any = None, name: str = "x") -> tuple[Any, Any]:
    """Return what is to be fed to a game, after a look at it.

    Arrays are checked whole.  Of a data set the first batch is checked as arrays are;
    the later ones are watched through the losses.

    Args:
        model: The game: its ``data`` and ``condition`` say what is wanted.
        x: Samples ``(n, ...)``, or a data set whose batches are ``x`` or ``(x, y)``.
        y: Conditions ``(n, ...)``, or a dictionary of them.
        name: What ``x`` is called in messages.

    Returns:
        ``(x, y)``, arrays as NumPy arrays of the dtype that is wanted.

    Raises:
        TypeError: If a dtype is wrong, or conditions are given to a game without any.
        ValueError: If something is missing, empty, not finite, out of range, or there
            are not as many conditions as samples.
    """
    if x is None:
        raise ValueError(
            f"`{name}` must hold samples. Received: None. Pass an array or a data set."
        )
    if is_array(x):
        return _checked(model, x, y, name)
    if y is not None:
        raise ValueError(
            f"`y` goes with arrays. Received: both `y` and a {type(x).__name__}. "
            "Let the data set yield pairs (x, y)."
        )
    first, x = _first_batch(x)
    if first is not None:
        samples, labels, weights = keras.utils.unpack_x_y_sample_weight(first)
        if weights is not None:
            _refuse("sample_weight", weights)
        _checked(model, samples, labels, f"first batch of `{name}`".replace("`", ""))
    return x, None


def look_at_validation(model: Any, data: Any) -> Any:
    """Return validation data after a look at them, as Keras wants them.

    Args:
        model: The game.
        data: Samples, a tuple ``(x, y)``, or a data set.
    """
    data = data if isinstance(data, tuple) else (data,)
    if len(data) > 2:
        refuse_weights("fit", {"sample_weight": data[2]})
    x, y = look(model, *data[:2], name="validation_data")
    return x if y is None else (x, y)


def _checked(model: Any, x: Any, y: Any, name: str) -> tuple[Any, Any]:
    x = model.data.check(x, name)
    fields = model.condition
    if fields is None:
        if y is not None:
            _refuse("y", y)
        return x, None
    if y is None:
        raise ValueError(
            f"`y` must hold the conditions of `{name}`. Received: None. Pass one for "
            "each sample, or a data set of pairs (x, y)."
        )
    if isinstance(fields, Mapping):
        if not isinstance(y, Mapping) or set(y) != set(fields):
            got = sorted(y) if isinstance(y, Mapping) else type(y).__name__
            raise ValueError(
                f"`y` must be a dictionary with exactly {sorted(fields)}. "
                f"Received: {got}. Rename, add or remove entries."
            )
        y = {key: field.check(y[key], f"y[{key!r}]") for key, field in fields.items()}
    else:
        y = fields.check(y, "y")
    for part in keras.tree.flatten(y):
        if len(part) != len(x):
            raise ValueError(
                f"`y` must hold one condition for each of the {len(x)} samples. "
                f"Received: {len(part)}. Check how the two were filtered."
            )
    return x, y


def _first_batch(x: Any) -> tuple[Any, Any]:
    """Return the first batch and the data set, from which nothing is missing."""
    if isinstance(x, keras.utils.PyDataset):
        return x[0], x
    if isinstance(x, Iterator):
        first = next(x, None)
        if first is None:
            raise ValueError(
                "`x` must yield batches. Received: a generator that has ended. "
                "Make it anew."
            )
        return first, (batch for batch in itertools.chain([first], x))
    if hasattr(x, "element_spec"):  # tf.data; a distributed one cannot be looked at
        return (next(iter(x.take(1)), None) if hasattr(x, "take") else None), x
    return next(iter(x), None), x


def split(x: np.ndarray, y: Any, share: float) -> tuple[tuple, tuple]:
    """Keep the last ``share`` of the samples for validation, as Keras does.

    Args:
        x: Samples.
        y: Conditions, a dictionary of them, or ``None``.
        share: From 0 to 1, so that samples are left on both sides.

    Returns:
        ``(x, y)`` for training, and for validation.
    """
    kept = int(len(x) * (1 - share))
    if not 0 < kept < len(x):
        raise ValueError(
            "`validation_split` must leave samples on both sides. Received: "
            f"{share!r} for {len(x)} samples. Choose a share between 0 and 1, such as "
            "0.1, or pass `validation_data`."
        )
    return tuple(
        (x[part], None if y is None else keras.tree.map_structure(_taker(part), y))
        for part in (slice(kept), slice(kept, None))
    )


def _taker(part: slice) -> Any:
    return lambda array: array[part]


def cast(fields: Any, values: Any) -> Any:
    """Cast the tensors of a batch to the dtypes that a game declares."""
    if values is None or fields is None:
        return values
    if isinstance(fields, Mapping):
        return {key: cast(field, values[key]) for key, field in fields.items()}
    return keras.ops.cast(values, fields.dtype)


def in_batches(x: np.ndarray, y: Any, kwargs: dict) -> tuple[Any, Any, dict]:
    """Cut arrays into batches where the backend has a better way than Keras.

    Args:
        x: Samples.
        y: Conditions, or ``None``.
        kwargs: Those of ``fit``.

    Returns:
        ``(x, y, kwargs)`` for Keras.

    Raises:
        ValueError: If ``batch_size`` is not a whole number above zero.
    """
    size = kwargs.get("batch_size")
    size = 32 if size is None else size  # as in Keras
    if not isinstance(size, (int, np.integer)) or size < 1:
        raise ValueError(
            "`batch_size` must be a whole number above zero. "
            f"Received: {size!r}. Choose one such as 128."
        )
    kwargs = {**kwargs, "batch_size": int(size)}
    shuffle = kwargs.get("shuffle", True)
    arrays = (x,) if y is None else (x, y)
    batches = backends.batches(arrays, int(size), shuffle)
    if batches is None:
        return x, y, kwargs
    kwargs["validation_batch_size"] = kwargs.get("validation_batch_size") or int(size)
    return batches, None, {**kwargs, "batch_size": None, "shuffle": False}
