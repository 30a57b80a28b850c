"""Small layers that the models share."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

__all__ = ["Sampling", "sample_gaussian"]


def sample_gaussian(
    z_mean: Any, z_log_var: Any, seed: keras.random.SeedGenerator | int | None = None
) -> Any:
    r"""Draw :math:`z = \mu + \sigma\odot\epsilon`, eq. (6.11).

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
    eps = keras.random.normal(ops.shape(z_mean), seed=seed)
    return z_mean + ops.exp(0.5 * z_log_var) * eps


@keras.saving.register_keras_serializable("genai_utils")
class Sampling(keras.layers.Layer):
    """The draw of :func:`sample_gaussian` as a layer with its own random state.

    Args:
        seed: Seed of the layer's generator.
        **kwargs: Passed to ``keras.layers.Layer``.
    """

    def __init__(self, seed: int = 0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)

    def call(self, inputs: tuple[Any, Any]) -> Any:
        """Draw once for each row.

        Args:
            inputs: ``(z_mean, z_log_var)``, each ``(B, latent_dim)``.

        Returns:
            ``z``, shape ``(B, latent_dim)``.
        """
        z_mean, z_log_var = inputs
        return sample_gaussian(z_mean, z_log_var, self.seed_generator)

    def get_config(self) -> dict:
        """Return what is needed to make the layer again."""
        return {**super().get_config(), "seed": self.seed}
