"""What the models are built from: draws, seeded weights, stacks of layers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
from keras import layers, ops

__all__ = [
    "conv_half",
    "conv_twice",
    "dense_stack",
    "halved",
    "sample_gaussian",
    "seeded",
]


def sample_gaussian(
    z_mean: Any, z_log_var: Any, seed: keras.random.SeedGenerator | int | None = None
) -> Any:
    r"""Draw :math:`z = \mu + \sigma\odot\epsilon`, eq. (6.11), in float32.

    The noise does not depend on the parameters, so gradients flow through
    :math:`\mu` and :math:`\sigma = e^{s/2}`.

    Args:
        z_mean: Means :math:`\mu`, shape ``(B, latent_dim)``.
        z_log_var: Logarithms :math:`s` of the variances, same shape.
        seed: A seed generator (new noise each call), or a whole number (the same
            noise each call).

    Returns:
        One draw for each row, same shape.

    Reference:
        Kingma and Welling (2014), section 2.4.
    """
    z_mean, z_log_var = ops.cast(z_mean, "float32"), ops.cast(z_log_var, "float32")
    eps = keras.random.normal(ops.shape(z_mean), seed=seed)
    return z_mean + ops.exp(0.5 * z_log_var) * eps


def seeded(
    seed: int,
    make: Callable[[int], Any] = keras.initializers.GlorotUniform,
) -> Iterator[dict]:
    """Yield ``{"kernel_initializer": ...}``, each with the next seed.

    Args:
        seed: The first initializer gets ``seed + 1``.
        make: Maps a seed to an initializer.
    """
    while True:
        seed += 1
        yield {"kernel_initializer": make(seed)}


def dense_stack(widths: Sequence[int], weights: Iterator[dict]) -> list:
    """Return dense layers with ReLU, one for each width."""
    return [layers.Dense(w, "relu", **next(weights)) for w in widths]


def conv_half(filters: int, weights: Iterator[dict], kernel: int = 4, **kwargs) -> Any:
    """Return a convolution that halves height and width."""
    kwargs |= {"strides": 2, "padding": "same"} | next(weights)
    return layers.Conv2D(filters, kernel, **kwargs)


def conv_twice(filters: int, weights: Iterator[dict], kernel: int = 4, **kwargs) -> Any:
    """Return a transposed convolution that doubles height and width."""
    kwargs |= {"strides": 2, "padding": "same"} | next(weights)
    return layers.Conv2DTranspose(filters, kernel, **kwargs)


def halved(image_shape: Sequence[int], times: int) -> tuple[int, int, int]:
    """Return ``(height, width, channels)`` after halving height and width.

    Args:
        image_shape: ``(H, W, C)``.
        times: How often.

    Raises:
        ValueError: If the image cannot be halved that often.
    """
    height, width, channels = image_shape
    factor = 2**times
    if height % factor or width % factor:
        raise ValueError(
            f"`image_shape` must be divisible by {factor} with {times} `filters`. "
            f"Received: {tuple(image_shape)}. Use fewer `filters`, or pad the images."
        )
    return height // factor, width // factor, channels
