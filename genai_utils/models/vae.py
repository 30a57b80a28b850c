"""Variational autoencoders: one player that maximises the evidence lower bound."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from genai_utils import losses
from genai_utils.checks import check_array, check_choice, check_labels, check_positive
from genai_utils.game import Field, Game, Player
from genai_utils.layers import (
    AppendClass,
    code_width,
    conv_half,
    conv_twice,
    dense_stack,
    fed,
    first_shape,
    halved,
    network,
    sample_gaussian,
    seeded,
)

__all__ = ["VAE", "make_conv_vae", "make_dense_vae"]

_MOST = 2**22  # pixels that are decoded at once when a likelihood is estimated
_MEMORY = 0.95  # of the running mean of squared errors that "optimal" keeps


@keras.saving.register_keras_serializable("genai_utils")
class VAE(Game):
    """A Gaussian latent variable model with an amortised Gaussian posterior.

    Args:
        encoder: Maps images ``(B, H, W, C)`` to ``(B, 2 * latent_dim)``: means, then
            logarithms of variances.  In a model with classes it takes ``[x, labels]``,
            labels of shape ``(B, 1)``, and the decoder ``[z, labels]``.
        decoder: Maps ``z`` of shape ``(B, latent_dim)`` to ``(B, H, W, C)``: means in
            [-1, 1] for a Gaussian likelihood, logits for a Bernoulli likelihood.
        kl_weight: The beta of a beta-VAE, at least 0; 1 is the ELBO.
        sigma: Standard deviation of a pixel (Gaussian only): a number above 0;
            ``"learned"`` for one scalar that is trained, from 1 on; or ``"optimal"``
            for the closed form (7.1), a running mean over the training batches.
        likelihood: ``"gaussian"`` or ``"bernoulli"``.
        num_classes: Number of classes of a conditional model, whose ``fit`` takes
            ``(x, y)`` and whose bounds are those of ``log p(x|y)``, eq. (14.10);
            ``None`` for a model without.
        seed: Seed of the model's noise.
        **kwargs: Passed to ``keras.Model``.

    Reference:
        Kingma and Welling (2014); Sohn, Lee and Yan (2015) for the model with classes,
        whose prior, unlike theirs, does not depend on the class; Rybkin et al. (2021)
        for the learned and the optimal ``sigma``, which they take from each batch
        alone.
    """

    data = Field("float32", -1.0, 1.0)

    def __init__(
        self,
        encoder: keras.Model,
        decoder: keras.Model,
        *,
        kl_weight: float = 1.0,
        sigma: float | str = "learned",
        likelihood: str = "gaussian",
        num_classes: int | None = None,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_positive(kl_weight, "kl_weight", zero_ok=True)
        check_choice(likelihood, "likelihood", ("gaussian", "bernoulli"))
        if isinstance(sigma, str):
            check_choice(sigma, "sigma", ("learned", "optimal"))
        else:
            check_positive(sigma, "sigma")
        _check_networks(encoder, decoder, num_classes)
        self.encoder, self.decoder = encoder, decoder
        self.kl_weight, self.sigma = kl_weight, sigma
        self.likelihood, self.seed = likelihood, seed
        self.latent_dim, self.num_classes = first_shape(decoder)[-1], num_classes
        if num_classes is not None:
            self.condition = Field("int32", 0, num_classes - 1)
        self.seed_generator = keras.random.SeedGenerator(seed)
        start = 1.0 if isinstance(sigma, str) else sigma
        moves = likelihood == "gaussian"  # else sigma has no use
        self.scale = _Scale(start, moves and sigma == "learned")
        self._follows = moves and sigma == "optimal"
        self.built = True

    def players(self) -> list[Player]:
        """Return the one player: encoder, decoder and the scale of the pixels."""
        networks = [self.encoder, self.decoder, self.scale]
        return [Player("vae", networks, self._loss, logs=("nll", "kl"))]

    def _loss(self, x: Any, *rest: Any) -> tuple[Any, dict]:
        *labels, training = rest  # a model with classes has labels (B,)
        y = labels[0][:, None] if labels else None
        code = self.encoder(fed(x, y), training=training)
        z_mean, z_log_var = ops.split(code, 2, axis=-1)
        z = sample_gaussian(z_mean, z_log_var, self.seed_generator)  # (B, latent_dim)
        decoded = self.decoder(fed(z, y), training=training)
        if training and self._follows:
            self.scale.follow(x, decoded)
        nll = self.nll(x, decoded)
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

    def encode(
        self, x: np.ndarray, labels: Any = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the posterior's means and log-variances, each ``(n, latent_dim)``.

        Args:
            x: Images in [-1, 1], shape ``(n, H, W, C)``.
            labels: Their classes ``(n,)``, or one for all, which a model with classes
                needs.
        """
        x = check_array(x, "x", ndim=4, low=-1.0, high=1.0)
        y = check_labels(labels, len(x), self.num_classes)
        code = self.encoder.predict(fed(x, y), batch_size=500, verbose=0)
        z_mean, z_log_var = np.split(code.astype("float32"), 2, axis=-1)
        return z_mean, z_log_var

    def decode(self, z: np.ndarray, labels: Any = None) -> np.ndarray:
        """Return the mean images of latent points, in [-1, 1], ``(n, H, W, C)``.

        Args:
            z: Latent points, shape ``(n, latent_dim)``.
            labels: As in :meth:`encode`.
        """
        z = check_array(z, "z", shape=(None, self.latent_dim)).astype("float32")
        y = check_labels(labels, len(z), self.num_classes)
        decoded = self.decoder.predict(fed(z, y), batch_size=500, verbose=0)
        decoded = decoded.astype("float32")
        if self.likelihood == "bernoulli":
            return np.tanh(0.5 * decoded)  # = 2 sigmoid(a) - 1
        return np.clip(decoded, -1.0, 1.0)

    def reconstruct(self, x: np.ndarray, labels: Any = None) -> np.ndarray:
        """Return ``decode(z_mean(x))``, images ``(n, H, W, C)``.

        Args:
            x: Images in [-1, 1], shape ``(n, H, W, C)``.
            labels: As in :meth:`encode`.
        """
        return self.decode(self.encode(x, labels)[0], labels)

    def sample(self, n: int, seed: int = 0, labels: Any = None) -> np.ndarray:
        """Draw from the prior and decode: ``n`` mean images in [-1, 1].

        Args:
            n: How many, at least 1.
            seed: Seed of the latent points.
            labels: Their classes ``(n,)``, or one for all; only in a model with
                classes, where ``None`` stands for 0, 1, 2, ... in turn.
        """
        check_positive(n, "n")
        rng = np.random.default_rng(seed)
        z = rng.standard_normal((n, self.latent_dim))
        y = check_labels(labels, n, self.num_classes, in_turn=True)
        return self.decode(z, None if y is None else y[:, 0])

    def elbo(self, x: np.ndarray, seed: int = 0, labels: Any = None) -> np.ndarray:
        """Estimate the ELBO of each sample with one draw, shape ``(n,)``, in nats.

        Args:
            x: Images in [-1, 1], shape ``(n, H, W, C)``.
            seed: Seed of the draws.
            labels: As in :meth:`encode`.
        """
        _, nll, kl = self._weights(x, 1, seed, labels)
        return -nll[:, 0] - kl

    def log_likelihood(
        self,
        x: np.ndarray,
        num_samples: int = 100,
        seed: int = 0,
        labels: Any = None,
    ) -> np.ndarray:
        r"""Importance-weighted bound on the log-likelihood, eq. (7.5), in nats.

        .. math:: \log \frac1K \sum_k p(x|z_k) p(z_k) / q(z_k|x), \quad z_k \sim q

        Args:
            x: Images in [-1, 1], shape ``(n, H, W, C)``.
            num_samples: Draws K a sample, at least 1; the bound rises with K.
            seed: Seed of the draws.
            labels: As in :meth:`encode`.  The bound is then one of ``log p(x|y)``.

        Returns:
            Shape ``(n,)``.

        Reference:
            Burda, Grosse and Salakhutdinov (2016).
        """
        check_positive(num_samples, "num_samples")
        log_w, _, _ = self._weights(x, num_samples, seed, labels)
        top = log_w.max(axis=1, keepdims=True)
        return top[:, 0] + np.log(np.exp(log_w - top).mean(axis=1))

    def _weights(self, x: np.ndarray, k: int, seed: int, labels: Any) -> tuple:
        """Log importance weights and NLL, both (n, K), and the KL in closed form."""
        z_mean, z_log_var = self.encode(x, labels)
        y = check_labels(labels, len(z_mean), self.num_classes)
        x = np.asarray(x, "float32")
        rng = np.random.default_rng(seed)
        at_once = max(1, _MOST // x.size)  # draws of every sample in one call
        parts = []
        for start in range(0, k, at_once):
            eps = rng.standard_normal((min(at_once, k - start), *z_mean.shape))
            z = (z_mean + np.exp(0.5 * z_log_var) * eps).astype("float32")
            log_prior = -0.5 * (z**2).sum(axis=-1)  # log(2 pi) cancels
            log_posterior = -0.5 * (eps**2 + z_log_var).sum(axis=-1)
            parts.append((self._nll_of_draws(x, z, y), log_prior - log_posterior))
        nll, log_ratio = (np.concatenate(p).T for p in zip(*parts, strict=True))
        kl = 0.5 * (z_mean**2 + np.exp(z_log_var) - 1 - z_log_var).sum(axis=1)
        return log_ratio - nll, nll, kl

    def _nll_of_draws(self, x: np.ndarray, z: np.ndarray, y: Any) -> np.ndarray:
        """NLL of samples (n, H, W, C) under draws (K, n, latent_dim): (K, n)."""
        y = None if y is None else np.tile(y, (len(z), 1))  # (K n, 1)
        inputs = fed(z.reshape(-1, self.latent_dim), y)
        decoded = self.decoder.predict(inputs, batch_size=500, verbose=0)
        x = np.broadcast_to(x, (len(z), *x.shape)).reshape(decoded.shape)
        nll = self.nll(ops.convert_to_tensor(x), ops.convert_to_tensor(decoded))
        return ops.convert_to_numpy(nll).reshape(z.shape[:2])

    def _settings(self) -> dict:
        names = ("encoder", "decoder", "kl_weight", "sigma", "likelihood")
        names += ("num_classes", "seed")
        return {name: getattr(self, name) for name in names}


def _check_networks(
    encoder: keras.Model, decoder: keras.Model, num_classes: int | None
) -> None:
    inputs = 1 if num_classes is None else 2
    for net, name in ((encoder, "encoder"), (decoder, "decoder")):
        if len(net.inputs) != inputs:
            raise ValueError(
                f"`{name}` must take {inputs} input{'s' * (inputs > 1)} with "
                f"`num_classes={num_classes}`. Received: a network that takes "
                f"{len(net.inputs)}. A model with classes feeds [x, labels]."
            )
    code_width(encoder, decoder)


@keras.saving.register_keras_serializable("genai_utils")
class _Scale(layers.Layer):
    """The standard deviation of a pixel, one positive scalar."""

    def __init__(self, sigma: float, learned: bool) -> None:
        super().__init__()
        start = keras.initializers.Constant(math.log(sigma))
        mirrored = "none" if learned else "mean"  # what replicas do with `follow`
        self.log_sigma = self.add_weight(
            (), start, trainable=learned, aggregation=mirrored, name="log_sigma"
        )
        self.built = True

    def sigma(self) -> Any:
        return ops.exp(self.log_sigma)

    def follow(self, x: Any, decoded: Any) -> None:
        """Move the variance towards the mean squared error of this batch, eq. (7.1)."""
        gap = ops.cast(x, "float32") - ops.cast(decoded, "float32")
        error = ops.stop_gradient(ops.mean(ops.square(gap)))
        variance = _MEMORY * ops.square(self.sigma()) + (1.0 - _MEMORY) * error
        self.log_sigma.assign(0.5 * ops.log(variance))


def make_dense_vae(
    image_shape: Sequence[int] = (16, 16, 1),
    latent_dim: int = 2,
    hidden: Sequence[int] = (256, 128),
    *,
    num_classes: int | None = None,
    seed: int = 0,
    **kwargs: Any,
) -> VAE:
    """Make a VAE of dense layers.

    Args:
        image_shape: ``(H, W, C)``.
        latent_dim: Number of latent coordinates, at least 1.
        hidden: Widths of the encoder's layers; the decoder has them in reverse.
        num_classes: Number of classes, whose labels are appended one-hot to pixels and
            code; ``None`` for a model without.
        seed: Seed of weights and noise.
        **kwargs: Those of :class:`VAE`.

    Returns:
        The model, not compiled.
    """
    weights, told = seeded(seed), _told(num_classes)
    out = None if kwargs.get("likelihood") == "bernoulli" else "tanh"
    encoder = [layers.Flatten(), *told(), *dense_stack(hidden, weights)]
    encoder += [layers.Dense(2 * latent_dim, **next(weights))]
    decoder = [*told(), *dense_stack(hidden[::-1], weights)]
    decoder += [layers.Dense(math.prod(image_shape), out, **next(weights))]
    decoder += [layers.Reshape(image_shape)]
    return VAE(
        network(encoder, image_shape, num_classes, "encoder"),
        network(decoder, (latent_dim,), num_classes, "decoder"),
        num_classes=num_classes,
        seed=seed,
        **kwargs,
    )


def _told(num_classes: int | None) -> Callable[[], list]:
    """What makes the layers through which labels enter a network: one, or none."""
    return lambda: [] if num_classes is None else [AppendClass(num_classes)]


def make_conv_vae(
    image_shape: Sequence[int] = (16, 16, 1),
    latent_dim: int = 8,
    filters: Sequence[int] = (16, 32),
    *,
    num_classes: int | None = None,
    seed: int = 0,
    **kwargs: Any,
) -> VAE:
    """Make a VAE of strided convolutions, halving the image once for each width.

    Args:
        image_shape: ``(H, W, C)``; H and W divisible by ``2 ** len(filters)``.
        latent_dim: Number of latent coordinates, at least 1.
        filters: Channels after each halving.
        num_classes: Number of classes, whose labels are appended one-hot to the
            features before the encoder's first dense layer, and to the code; ``None``
            for a model without.
        seed: Seed of weights and noise.
        **kwargs: Those of :class:`VAE`.

    Returns:
        The model, not compiled.

    Raises:
        ValueError: If the image cannot be halved that often.
    """
    height, width, channels = halved(image_shape, len(filters))
    small = (height, width, filters[-1])
    weights, told = seeded(seed), _told(num_classes)
    out = None if kwargs.get("likelihood") == "bernoulli" else "tanh"
    encoder = [conv_half(f, weights, 3, activation="relu") for f in filters]
    encoder += [layers.Flatten(), *told(), *dense_stack([128], weights)]
    encoder += [layers.Dense(2 * latent_dim, **next(weights))]
    up = [conv_twice(f, weights, activation="relu") for f in filters[-2::-1]]
    decoder = [*told(), *dense_stack([128, math.prod(small)], weights)]
    decoder += [layers.Reshape(small), *up]
    decoder += [conv_twice(channels, weights, activation=out)]
    return VAE(
        network(encoder, image_shape, num_classes, "encoder"),
        network(decoder, (latent_dim,), num_classes, "decoder"),
        num_classes=num_classes,
        seed=seed,
        **kwargs,
    )
