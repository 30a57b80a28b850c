"""Variational autoencoders: one player that maximises the evidence lower bound."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from genai_utils import losses
from genai_utils.checks import check_array, check_choice, check_positive
from genai_utils.game import Game, Player
from genai_utils.layers import sample_gaussian

__all__ = ["VAE", "make_conv_vae", "make_dense_vae"]


@keras.saving.register_keras_serializable("genai_utils")
class VAE(Game):
    """A Gaussian latent variable model with an amortised Gaussian posterior.

    Args:
        encoder: Maps images ``(B, H, W, C)`` to ``(B, 2 * latent_dim)``: means, then
            logarithms of variances.
        decoder: Maps ``z`` of shape ``(B, latent_dim)`` to ``(B, H, W, C)``: means in
            [-1, 1] for a Gaussian likelihood, logits for a Bernoulli likelihood.
        kl_weight: The beta of a beta-VAE, at least 0; 1 is the ELBO.
        sigma: Standard deviation of a pixel (Gaussian only): a number above 0, or
            ``"learned"`` for one scalar that is trained, from 1 on.
        likelihood: ``"gaussian"`` or ``"bernoulli"``.
        seed: Seed of the model's noise.
        **kwargs: Passed to ``keras.Model``.

    Reference:
        Kingma and Welling (2014); Rybkin et al. (2021) for the learned ``sigma``.
    """

    data_range = (-1.0, 1.0)

    def __init__(
        self,
        encoder: keras.Model,
        decoder: keras.Model,
        *,
        kl_weight: float = 1.0,
        sigma: float | str = "learned",
        likelihood: str = "gaussian",
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_positive(kl_weight, "kl_weight", zero_ok=True)
        check_choice(likelihood, "likelihood", ("gaussian", "bernoulli"))
        if sigma != "learned":
            check_positive(sigma, "sigma")
        if encoder.output_shape[-1] != 2 * decoder.input_shape[-1]:
            raise ValueError(
                "`encoder` must return twice as many values as `decoder` takes. "
                f"Received: {encoder.output_shape[-1]} and {decoder.input_shape[-1]}. "
                "End the encoder with `Dense(2 * latent_dim)`."
            )
        self.encoder, self.decoder = encoder, decoder
        self.kl_weight, self.sigma = kl_weight, sigma
        self.likelihood, self.seed = likelihood, seed
        self.latent_dim = decoder.input_shape[-1]
        self.seed_generator = keras.random.SeedGenerator(seed)
        learned = sigma == "learned" and likelihood == "gaussian"  # else it has no use
        self.scale = _Scale(1.0 if sigma == "learned" else sigma, learned)
        self.built = True

    def players(self) -> list[Player]:
        """Return the one player: encoder, decoder and the scale of the pixels."""
        networks = [self.encoder, self.decoder, self.scale]
        return [Player("vae", networks, self._loss, logs=("nll", "kl"))]

    def _loss(self, x: Any, training: bool) -> tuple[Any, dict]:
        z_mean, z_log_var = ops.split(self.encoder(x, training=training), 2, axis=-1)
        z = sample_gaussian(z_mean, z_log_var, self.seed_generator)  # (B, latent_dim)
        nll = self.nll(x, self.decoder(z, training=training))
        kl = losses.gaussian_kl(z_mean, z_log_var)
        loss = -ops.mean(losses.elbo(nll, kl, self.kl_weight))
        return loss, {"nll": ops.mean(nll), "kl": ops.mean(kl)}

    def nll(self, x: Any, decoded: Any) -> Any:
        """Negative log-likelihood of ``x``, given what the decoder returned.

        Args:
            x: Images in [-1, 1], shape ``(B, H, W, C)``.
            decoded: The decoder's output, same shape.

        Returns:
            Nats for each sample, shape ``(B,)``.
        """
        if self.likelihood == "bernoulli":
            return losses.bernoulli_nll(0.5 * (x + 1.0), decoded)
        return losses.gaussian_nll(x, decoded, self.scale.sigma())

    def encode(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the posterior's means and log-variances, each ``(n, latent_dim)``.

        Args:
            x: Images in [-1, 1], shape ``(n, H, W, C)``.
        """
        x = check_array(x, "x", ndim=4, low=-1.0, high=1.0)
        code = self.encoder.predict(x, batch_size=500, verbose=0)
        z_mean, z_log_var = np.split(code, 2, axis=-1)
        return z_mean, z_log_var

    def decode(self, z: np.ndarray) -> np.ndarray:
        """Return the mean images of latent points, in [-1, 1], ``(n, H, W, C)``.

        Args:
            z: Latent points, shape ``(n, latent_dim)``.
        """
        z = check_array(z, "z", shape=(None, self.latent_dim)).astype("float32")
        decoded = self.decoder.predict(z, batch_size=500, verbose=0)
        if self.likelihood == "bernoulli":
            return np.tanh(0.5 * decoded)  # = 2 sigmoid(a) - 1
        return np.clip(decoded, -1.0, 1.0)

    def reconstruct(self, x: np.ndarray) -> np.ndarray:
        """Return ``decode(z_mean(x))``, images ``(n, H, W, C)``.

        Args:
            x: Images in [-1, 1], shape ``(n, H, W, C)``.
        """
        return self.decode(self.encode(x)[0])

    def sample(self, n: int, seed: int = 0) -> np.ndarray:
        """Draw from the prior and decode: ``n`` mean images in [-1, 1].

        Args:
            n: How many, at least 1.
            seed: Seed of the latent points.
        """
        check_positive(n, "n")
        rng = np.random.default_rng(seed)
        return self.decode(rng.standard_normal((n, self.latent_dim)))

    def elbo(self, x: np.ndarray, seed: int = 0) -> np.ndarray:
        """Estimate the ELBO of each sample with one draw, shape ``(n,)``, in nats.

        Args:
            x: Images in [-1, 1], shape ``(n, H, W, C)``.
            seed: Seed of the draws.
        """
        _, nll, kl = self._weights(x, 1, seed)
        return -nll[:, 0] - kl

    def log_likelihood(
        self, x: np.ndarray, num_samples: int = 100, seed: int = 0
    ) -> np.ndarray:
        r"""Importance-weighted bound on the log-likelihood, eq. (7.5), in nats.

        .. math:: \log \frac1K \sum_k p(x|z_k) p(z_k) / q(z_k|x), \quad z_k \sim q

        Args:
            x: Images in [-1, 1], shape ``(n, H, W, C)``.
            num_samples: Draws K a sample, at least 1; the bound rises with K.
            seed: Seed of the draws.

        Returns:
            Shape ``(n,)``.

        Reference:
            Burda, Grosse and Salakhutdinov (2016).
        """
        check_positive(num_samples, "num_samples")
        log_w, _, _ = self._weights(x, num_samples, seed)
        top = log_w.max(axis=1, keepdims=True)
        return top[:, 0] + np.log(np.exp(log_w - top).mean(axis=1))

    def _weights(self, x: np.ndarray, k: int, seed: int) -> tuple:
        """Log importance weights and NLL, both (n, K), and the KL in closed form."""
        z_mean, z_log_var = self.encode(x)
        rng = np.random.default_rng(seed)
        log_w = np.empty((len(x), k))
        nll = np.empty((len(x), k))
        for j in range(k):
            eps = rng.standard_normal(z_mean.shape)
            z = (z_mean + np.exp(0.5 * z_log_var) * eps).astype("float32")
            decoded = self.decoder.predict(z, batch_size=500, verbose=0)
            value = self.nll(ops.convert_to_tensor(x), ops.convert_to_tensor(decoded))
            nll[:, j] = ops.convert_to_numpy(value)
            log_prior = -0.5 * (z**2).sum(axis=1)  # log(2 pi) cancels
            log_posterior = -0.5 * (eps**2 + z_log_var).sum(axis=1)
            log_w[:, j] = -nll[:, j] + log_prior - log_posterior
        kl = 0.5 * (z_mean**2 + np.exp(z_log_var) - 1 - z_log_var).sum(axis=1)
        return log_w, nll, kl

    def get_config(self) -> dict:
        """Return what is needed to make the model again."""
        return {
            "encoder": keras.saving.serialize_keras_object(self.encoder),
            "decoder": keras.saving.serialize_keras_object(self.decoder),
            "kl_weight": self.kl_weight,
            "sigma": self.sigma,
            "likelihood": self.likelihood,
            "seed": self.seed,
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config: dict) -> VAE:
        """Make the model from :meth:`get_config`."""
        parts = ("encoder", "decoder")
        made = {k: keras.saving.deserialize_keras_object(config[k]) for k in parts}
        return cls(**{**config, **made})


@keras.saving.register_keras_serializable("genai_utils")
class _Scale(layers.Layer):
    """The standard deviation of a pixel, one positive scalar."""

    def __init__(self, sigma: float, learned: bool) -> None:
        super().__init__()
        start = keras.initializers.Constant(math.log(sigma))
        self.log_sigma = self.add_weight((), start, trainable=learned, name="log_sigma")
        self.built = True

    def sigma(self) -> Any:
        return ops.exp(self.log_sigma)


def make_dense_vae(
    image_shape: Sequence[int] = (16, 16, 1),
    latent_dim: int = 2,
    hidden: Sequence[int] = (256, 128),
    *,
    seed: int = 0,
    **kwargs: Any,
) -> VAE:
    """Make a VAE of dense layers.

    Args:
        image_shape: ``(H, W, C)``.
        latent_dim: Number of latent coordinates, at least 1.
        hidden: Widths of the encoder's layers; the decoder has them in reverse.
        seed: Seed of weights and noise.
        **kwargs: Those of :class:`VAE`.

    Returns:
        The model, not compiled.
    """
    init = _initializers(seed)
    pixels = math.prod(image_shape)
    out = None if kwargs.get("likelihood") == "bernoulli" else "tanh"
    encoder = keras.Sequential(
        [layers.Input(image_shape), layers.Flatten()]
        + [layers.Dense(h, "relu", kernel_initializer=next(init)) for h in hidden]
        + [layers.Dense(2 * latent_dim, kernel_initializer=next(init))],
        name="encoder",
    )
    decoder = keras.Sequential(
        [layers.Input((latent_dim,))]
        + [layers.Dense(h, "relu", kernel_initializer=next(init)) for h in hidden[::-1]]
        + [layers.Dense(pixels, out, kernel_initializer=next(init))]
        + [layers.Reshape(image_shape)],
        name="decoder",
    )
    return VAE(encoder, decoder, seed=seed, **kwargs)


def make_conv_vae(
    image_shape: Sequence[int] = (16, 16, 1),
    latent_dim: int = 8,
    filters: Sequence[int] = (16, 32),
    *,
    seed: int = 0,
    **kwargs: Any,
) -> VAE:
    """Make a VAE of strided convolutions, halving the image once for each width.

    Args:
        image_shape: ``(H, W, C)``; H and W divisible by ``2 ** len(filters)``.
        latent_dim: Number of latent coordinates, at least 1.
        filters: Channels after each halving.
        seed: Seed of weights and noise.
        **kwargs: Those of :class:`VAE`.

    Returns:
        The model, not compiled.

    Raises:
        ValueError: If the image cannot be halved that often.
    """
    height, width, channels = image_shape
    factor = 2 ** len(filters)
    if height % factor or width % factor:
        raise ValueError(
            f"`image_shape` must be divisible by {factor} for {len(filters)} halvings. "
            f"Received: {tuple(image_shape)}. Use fewer `filters`, or pad the images."
        )
    init = _initializers(seed)
    small = (height // factor, width // factor, filters[-1])
    same = {"strides": 2, "padding": "same"}
    out = None if kwargs.get("likelihood") == "bernoulli" else "tanh"
    encoder = keras.Sequential(
        [layers.Input(image_shape)]
        + [
            layers.Conv2D(
                f, 3, activation="relu", kernel_initializer=next(init), **same
            )
            for f in filters
        ]
        + [layers.Flatten(), layers.Dense(128, "relu", kernel_initializer=next(init))]
        + [layers.Dense(2 * latent_dim, kernel_initializer=next(init))],
        name="encoder",
    )
    up = [
        layers.Conv2DTranspose(
            f, 4, activation="relu", kernel_initializer=next(init), **same
        )
        for f in filters[-2::-1]
    ]
    decoder = keras.Sequential(
        [layers.Input((latent_dim,))]
        + [layers.Dense(128, "relu", kernel_initializer=next(init))]
        + [layers.Dense(math.prod(small), "relu", kernel_initializer=next(init))]
        + [layers.Reshape(small), *up]
        + [
            layers.Conv2DTranspose(
                channels, 4, activation=out, kernel_initializer=next(init), **same
            )
        ],
        name="decoder",
    )
    return VAE(encoder, decoder, seed=seed, **kwargs)


def _initializers(seed: int):
    """Yield one seeded Glorot initializer after another."""
    while True:
        seed += 1
        yield keras.initializers.GlorotUniform(seed)
