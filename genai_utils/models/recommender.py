"""A variational autoencoder over items: which film will this user like next?"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import layers, ops

from genai_utils import losses
from genai_utils.checks import check_array, check_positive
from genai_utils.game import Field, Game, Player
from genai_utils.layers import (
    code_width,
    dense_stack,
    first_shape,
    network,
    sample_gaussian,
    seeded,
)

__all__ = ["MultVAE", "make_mult_vae", "multinomial_nll"]


def multinomial_nll(x: Any, logits: Any) -> Any:
    r"""Negative log-likelihood of counts, without the coefficient, eq. (32.10).

    .. math:: -\sum_i x_i \log\pi_i, \qquad \pi = \operatorname{softmax}(a)

    Args:
        x: Counts, or zeros and ones, shape ``(B, I)``.
        logits: Logits :math:`a`, same shape.

    Returns:
        Nats for each row, shape ``(B,)``.  The multinomial coefficient
        :math:`\log(N!/\prod_i x_i!)` does not depend on the model and is left out.

    Reference:
        Liang et al. (2018), equation 2.
    """
    x, logits = ops.cast(x, "float32"), ops.cast(logits, "float32")
    return -ops.sum(x * ops.log_softmax(logits, axis=-1), axis=-1)


@keras.saving.register_keras_serializable("genai_utils")
class MultVAE(Game):
    r"""A VAE whose decoder deals one unit of probability out to all items.

    The weight of the KL divergence rises in a line from 0 to ``kl_weight``:

    .. math:: \beta_t = \beta \min(1, t / T)

    Args:
        encoder: Maps likes ``(B, I)`` to ``(B, 2 * latent_dim)``: means, then
            logarithms of variances.
        decoder: Maps ``z`` of shape ``(B, latent_dim)`` to logits ``(B, I)``.
        kl_weight: :math:`\beta`, at least 0; only 1 makes the loss minus the ELBO.
        anneal_steps: :math:`T`, training steps until the whole weight is reached; 0
            for the whole weight from the start.
        seed: Seed of the model's noise.
        **kwargs: Passed to ``keras.Model``.

    Reference:
        Liang et al. (2018).
    """

    data = Field("float32", 0.0)

    def __init__(
        self,
        encoder: keras.Model,
        decoder: keras.Model,
        *,
        kl_weight: float = 0.2,
        anneal_steps: int = 0,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_positive(kl_weight, "kl_weight", zero_ok=True)
        check_positive(anneal_steps, "anneal_steps", zero_ok=True)
        takes = code_width(encoder, decoder)
        self.encoder, self.decoder = encoder, decoder
        self.kl_weight, self.anneal_steps, self.seed = kl_weight, anneal_steps, seed
        self.num_items, self.latent_dim = first_shape(encoder)[-1], takes
        self.seed_generator = keras.random.SeedGenerator(seed)
        self.ramp = _Ramp(anneal_steps)
        self.built = True

    def players(self) -> list[Player]:
        """Return the one player: encoder and decoder."""
        networks = [self.encoder, self.decoder]
        return [Player("vae", networks, self._loss, logs=("nll", "kl"))]

    def _loss(self, x: Any, training: bool) -> tuple[Any, dict]:
        code = self.encoder(x, training=training)
        z_mean, z_log_var = ops.split(code, 2, axis=-1)
        z = sample_gaussian(z_mean, z_log_var, self.seed_generator)  # (B, latent_dim)
        nll = multinomial_nll(x, self.decoder(z, training=training))
        kl = losses.gaussian_kl(z_mean, z_log_var)
        beta_t = self.kl_weight
        if training:
            beta_t = beta_t * self.ramp.step()
        loss = ops.mean(nll + beta_t * kl)
        return loss, {"nll": ops.mean(nll), "kl": ops.mean(kl)}

    def encode(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the posterior's means and log-variances, each ``(n, latent_dim)``.

        Args:
            x: Likes, zeros and ones, shape ``(n, I)``; a row may be empty.
        """
        x = check_array(x, "x", shape=(None, self.num_items), low=0).astype("float32")
        code = self.encoder.predict(x, batch_size=500, verbose=0)
        z_mean, z_log_var = np.split(code.astype("float32"), 2, axis=-1)
        return z_mean, z_log_var

    def decode(self, z: np.ndarray) -> np.ndarray:
        """Return the logits of all items at latent points, shape ``(n, I)``.

        Args:
            z: Latent points, shape ``(n, latent_dim)``.
        """
        z = check_array(z, "z", shape=(None, self.latent_dim)).astype("float32")
        return self.decoder.predict(z, batch_size=500, verbose=0).astype("float32")

    def scores(self, x: np.ndarray) -> np.ndarray:
        """Return the logits of all items at the posterior's means, ``(n, I)``.

        Args:
            x: Likes, shape ``(n, I)``.
        """
        return self.decode(self.encode(x)[0])

    def sample_scores(self, x: np.ndarray, n: int = 1, seed: int = 0) -> np.ndarray:
        """Return logits at draws from the posterior: what the user may be like.

        Args:
            x: Likes, shape ``(U, I)``.
            n: Draws for each user, at least 1.
            seed: Seed of the draws.

        Returns:
            Shape ``(n, U, I)``.
        """
        check_positive(n, "n")
        z_mean, z_log_var = self.encode(x)
        eps = np.random.default_rng(seed).standard_normal((n, *z_mean.shape))
        z = z_mean + np.exp(0.5 * z_log_var) * eps
        logits = self.decode(z.reshape(-1, self.latent_dim))
        return logits.reshape(n, len(x), self.num_items)

    def _settings(self) -> dict:
        names = ("encoder", "decoder", "kl_weight", "anneal_steps", "seed")
        return {name: getattr(self, name) for name in names}


@keras.saving.register_keras_serializable("genai_utils")
class _Ramp(layers.Layer):
    """A weight that rises in a line from 0 to 1 while steps are counted."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.steps = steps
        self.count = self.add_weight((), "zeros", trainable=False, name="count")
        self.built = True

    def step(self) -> Any:
        """Return the weight of this step, and count it."""
        weight = ops.minimum(1.0, self.count / self.steps) if self.steps else 1.0
        self.count.assign(self.count + 1.0)
        return weight


def make_mult_vae(
    num_items: int,
    latent_dim: int = 32,
    hidden: int = 128,
    *,
    dropout: float = 0.5,
    seed: int = 0,
    **kwargs: Any,
) -> MultVAE:
    """Make a Mult-VAE with one hidden layer of tanh on either side.

    The likes of a user are divided by their Euclidean length, and some of them are
    dropped while training, before they enter the first dense layer.

    Args:
        num_items: Number of items I, at least 2.
        latent_dim: Number of latent coordinates, at least 1.
        hidden: Width of the hidden layers.
        dropout: Share of the inputs that are dropped while training, in [0, 1).
        seed: Seed of weights and noise.
        **kwargs: Those of :class:`MultVAE`.

    Returns:
        The model, not compiled.

    Reference:
        Liang et al. (2018), section 4.3, whose widths are 600 and 200.
    """
    weights = seeded(seed)
    encoder = [layers.UnitNormalization(), layers.Dropout(dropout, seed=seed)]
    encoder += dense_stack([hidden], weights, activation="tanh")
    encoder += [layers.Dense(2 * latent_dim, **next(weights))]
    decoder = dense_stack([hidden], weights, activation="tanh")
    decoder += [layers.Dense(num_items, **next(weights))]
    return MultVAE(
        network(encoder, (num_items,), name="encoder"),
        network(decoder, (latent_dim,), name="decoder"),
        seed=seed,
        **kwargs,
    )
