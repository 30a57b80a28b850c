"""Losses of the chapters, in nats, written with ``keras.ops``.

A discriminator returns logits; ``D(x) = sigmoid(logit)``.  Everything here is
minimised, and computed in float32, whatever the networks compute in.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from genai_utils import backends

__all__ = [
    "bernoulli_nll",
    "divergence",
    "dpo",
    "elbo",
    "gaussian_kl",
    "gaussian_nll",
    "gradient_penalty",
    "hinge_d",
    "hinge_g",
    "info_nce",
    "minimax_d",
    "minimax_g",
    "next_token_nll",
    "non_saturating_g",
    "preference_nll",
    "r1_penalty",
    "symmetric_info_nce",
    "wasserstein_d",
    "wasserstein_g",
    "weighted_mean",
]


def _float32(*tensors: Any) -> Any:
    """Cast what half-precision networks return; sums and exponentials need the room."""
    cast = [ops.cast(t, "float32") for t in tensors]
    return cast if len(cast) > 1 else cast[0]


def _sum_features(x: Any) -> Any:
    """Sum all axes but the first: ``(B, ...)`` to ``(B,)``."""
    return ops.sum(ops.reshape(x, (ops.shape(x)[0], -1)), axis=-1)


def gaussian_kl(z_mean: Any, z_log_var: Any) -> Any:
    r"""KL divergence from a diagonal Gaussian to the standard Gaussian, eq. (6.9).

    .. math:: \tfrac12 \sum_j \left(\mu_j^2 + e^{s_j} - 1 - s_j\right)

    Args:
        z_mean: Means :math:`\mu`, shape ``(B, latent_dim)``.
        z_log_var: Logarithms :math:`s` of the variances, same shape.

    Returns:
        Nats for each sample, shape ``(B,)``, never negative.

    Reference:
        Kingma and Welling (2014), appendix B.  Our ``z_log_var`` is their
        :math:`\log\sigma_j^2`, and our sign is that of the divergence.
    """
    z_mean, z_log_var = _float32(z_mean, z_log_var)
    terms = ops.square(z_mean) + ops.exp(z_log_var) - 1.0 - z_log_var
    return 0.5 * _sum_features(terms)


def gaussian_nll(x: Any, x_hat: Any, sigma: Any = 1.0) -> Any:
    r"""Negative log-likelihood of pixels under independent Gaussians, eq. (6.10).

    .. math:: \frac{\lVert x-\hat x\rVert^2}{2\sigma^2} + \frac n2\log(2\pi\sigma^2)

    Args:
        x: Data, shape ``(B, ...)`` with ``n`` values a sample.
        x_hat: Means, same shape.
        sigma: Standard deviation of a pixel, above 0: a number or a scalar tensor.

    Returns:
        Nats for each sample, shape ``(B,)``.
    """
    x, x_hat, sigma = _float32(x, x_hat, sigma)
    squares = ops.square((x - x_hat) / sigma)
    return _sum_features(0.5 * squares + 0.5 * math.log(2 * math.pi) + ops.log(sigma))


def bernoulli_nll(x: Any, logits: Any) -> Any:
    r"""Negative log-likelihood of binary pixels, computed from logits.

    .. math:: \sum_i \left[\operatorname{softplus}(a_i) - x_i a_i\right]

    Args:
        x: Data in [0, 1], shape ``(B, ...)``.
        logits: Logits :math:`a` of the probability of a 1, same shape.

    Returns:
        Nats for each sample, shape ``(B,)``.  For ``x`` strictly between 0 and 1 this
        is a cross-entropy, no longer the logarithm of a probability.
    """
    x, logits = _float32(x, logits)
    return _sum_features(ops.softplus(logits) - x * logits)


def elbo(nll: Any, kl: Any, kl_weight: float = 1.0) -> Any:
    """Evidence lower bound from its two terms, eq. (6.8).

    Args:
        nll: Expected negative log-likelihood :math:`-E_q log p(x|z)`, shape ``(B,)``.
        kl: Divergence of the posterior from the prior, shape ``(B,)``.
        kl_weight: The beta of a beta-VAE, at least 0; only 1 gives a lower bound of
            the log-likelihood for certain.

    Returns:
        Nats for each sample, shape ``(B,)``; larger is better.
    """
    return -nll - kl_weight * kl


def minimax_d(real_logits: Any, fake_logits: Any, smoothing: float = 0.0) -> Any:
    r"""Discriminator's loss of the GAN game, eq. (9.2) with its sign turned.

    .. math:: -E\left[(1-s)\log D(x) + s\log(1 - D(x))\right] - E\log(1 - D(G(z)))

    Args:
        real_logits: Logits of real samples, shape ``(B,)`` or ``(B, 1)``.
        fake_logits: Logits of generated samples.
        smoothing: :math:`s` in [0, 1), by which the label of real samples is below 1;
            0 is the game of the paper.

    Returns:
        A scalar in nats; ``2 log 2`` where the discriminator cannot tell.

    Reference:
        Goodfellow et al. (2014), equation 1; they maximise, we minimise.  Salimans et
        al. (2016), section 3.4, for the label that is smoothed on one side.
    """
    real, fake = _float32(real_logits, fake_logits)
    loss = ops.mean(ops.softplus(-real)) + ops.mean(ops.softplus(fake))
    return loss + smoothing * ops.mean(real) if smoothing else loss


def minimax_g(fake_logits: Any) -> Any:
    r"""Generator's loss of the minimax game, :math:`E\log(1 - D(G(z)))`, eq. (9.8).

    Args:
        fake_logits: Logits of generated samples, shape ``(B,)`` or ``(B, 1)``.

    Returns:
        A scalar in nats, at most 0.  Its gradient fades where the discriminator wins.
    """
    return -ops.mean(ops.softplus(_float32(fake_logits)))


def non_saturating_g(fake_logits: Any) -> Any:
    r"""Generator's non-saturating loss, :math:`-E\log D(G(z))`, eq. (9.9).

    Args:
        fake_logits: Logits of generated samples, shape ``(B,)`` or ``(B, 1)``.

    Returns:
        A scalar in nats, at least 0.

    Reference:
        Goodfellow et al. (2014), section 3.
    """
    return ops.mean(ops.softplus(-_float32(fake_logits)))


def hinge_d(real_logits: Any, fake_logits: Any) -> Any:
    """Discriminator's hinge loss, ``E max(0, 1-D(x)) + E max(0, 1+D(G(z)))``.

    Args:
        real_logits: Scores of real samples, any real number.
        fake_logits: Scores of generated samples.

    Returns:
        A scalar, at least 0; 2 where all scores are 0.

    Reference:
        Lim and Ye (2017).
    """
    real, fake = _float32(real_logits, fake_logits)
    return ops.mean(ops.relu(1.0 - real)) + ops.mean(ops.relu(1.0 + fake))


def hinge_g(fake_logits: Any) -> Any:
    """Generator's loss beside the hinge loss, ``-E D(G(z))``.

    Args:
        fake_logits: Scores of generated samples.

    Returns:
        A scalar.
    """
    return -ops.mean(_float32(fake_logits))


def wasserstein_d(real_logits: Any, fake_logits: Any) -> Any:
    """Critic's loss, ``E f(G(z)) - E f(x)``: minus the estimated distance.

    Args:
        real_logits: Scores of real samples, any real number.
        fake_logits: Scores of generated samples.

    Returns:
        A scalar.

    Reference:
        Arjovsky, Chintala and Bottou (2017).
    """
    real, fake = _float32(real_logits, fake_logits)
    return ops.mean(fake) - ops.mean(real)


def wasserstein_g(fake_logits: Any) -> Any:
    """Generator's loss against a critic, ``-E f(G(z))``.

    Args:
        fake_logits: Scores of generated samples.

    Returns:
        A scalar.
    """
    return -ops.mean(_float32(fake_logits))


def gradient_penalty(
    critic: Callable[[Any], Any],
    real: Any,
    fake: Any,
    seed: keras.random.SeedGenerator | int | None = None,
) -> Any:
    r"""Gradient penalty :math:`E(\lVert\nabla_{\tilde x} f(\tilde x)\rVert_2 - 1)^2`.

    Each :math:`\tilde x` lies on the line between one real and one generated sample;
    its position there is uniform, and drawn once for each sample.

    Args:
        critic: Maps a batch to scores; it must treat each sample on its own.
        real: Real samples, shape ``(B, ...)``.
        fake: Generated samples, same shape.
        seed: Seed of the interpolation weights.

    Returns:
        A scalar, at least 0.

    Reference:
        Gulrajani et al. (2017), algorithm 1.
    """
    real, fake = _float32(real, fake)
    one_each = (ops.shape(real)[0],) + (1,) * (len(real.shape) - 1)
    t = keras.random.uniform(one_each, seed=seed)
    gradient = backends.input_gradients(critic, t * real + (1.0 - t) * fake)
    norm = ops.sqrt(_sum_features(ops.square(_float32(gradient))) + 1e-12)
    return ops.mean(ops.square(norm - 1.0))


def r1_penalty(discriminator: Callable[[Any], Any], real: Any) -> Any:
    r"""Return the penalty :math:`\tfrac12 E\lVert\nabla_x f(x)\rVert_2^2` on real data.

    Args:
        discriminator: Maps a batch to logits; it must treat each sample on its own.
        real: Real samples, shape ``(B, ...)``.

    Returns:
        A scalar, at least 0.

    Reference:
        Mescheder, Geiger and Nowozin (2018), equation 9; our weight is their
        :math:`\gamma`.
    """
    gradient = _float32(backends.input_gradients(discriminator, _float32(real)))
    return 0.5 * ops.mean(_sum_features(ops.square(gradient)))


def divergence(field: Callable[[Any], Any], x: Any) -> Any:
    r"""Return the divergence of a field, :math:`\sum_j \partial v_j / \partial x_j`.

    Args:
        field: Maps points ``(B, d)`` to vectors ``(B, d)``, each on its own.
        x: Points, shape ``(B, d)``.

    Returns:
        Shape ``(B,)``; exact, at the price of one gradient for each coordinate.
    """
    rows = [
        backends.input_gradients(lambda p, j=j: field(p)[:, j], x)[:, j]
        for j in range(x.shape[1])
    ]
    return sum(rows)


def info_nce(a: Any, b: Any, temperature: float = 0.1) -> Any:
    r"""Contrastive loss: which row of ``b`` is the partner of this row?  Eq. (4.5).

    .. math:: -\frac1B\sum_i\log\frac{e^{s_{ii}/\tau}}{\sum_j e^{s_{ij}/\tau}},
        \qquad s_{ij} = \frac{a_i^\top b_j}{\lVert a_i\rVert\,\lVert b_j\rVert}

    Args:
        a: One embedding a sample, shape ``(B, d)``; the length of a row is ignored.
        b: Embeddings of the partners in the same order, shape ``(B, d)``.
        temperature: :math:`\tau`, above 0; the smaller, the more the likest count.

    Returns:
        A scalar in nats, at least 0; ``log B`` where every row looks alike.  For a loss
        that asks in both directions, average it with ``info_nce(b, a, temperature)``.

    Reference:
        van den Oord, Li and Vinyals (2018), equation 4; with cosines and a temperature
        as in Chen et al. (2020), who also count the other rows of ``a`` as wrong.
    """
    a, b = (
        v / ops.sqrt(ops.maximum(ops.sum(ops.square(v), axis=-1, keepdims=True), 1e-12))
        for v in _float32(a, b)
    )
    scores = ops.matmul(a, ops.transpose(b)) / temperature  # (B, B)
    return -ops.mean(ops.diagonal(ops.log_softmax(scores, axis=-1)))


def symmetric_info_nce(a: Any, b: Any, temperature: float = 0.1) -> Any:
    r"""Contrastive loss that asks in both directions, eq. (27.2).

    .. math:: \tfrac12\left(L(a, b) + L(b, a)\right)

    with :math:`L` the loss of :func:`info_nce`.

    Args:
        a: As in :func:`info_nce`.
        b: As in :func:`info_nce`.
        temperature: As in :func:`info_nce`.

    Returns:
        A scalar in nats, at least 0; ``log B`` where every row looks alike.

    Reference:
        Radford et al. (2021), figure 3; their learnt ``exp(t)`` is our
        ``1 / temperature``.
    """
    return 0.5 * (info_nce(a, b, temperature) + info_nce(b, a, temperature))


def next_token_nll(tokens: Any, logits: Any) -> Any:
    r"""Negative log-likelihood of each token, given those before it.

    .. math:: -\log p(x_{t+1} \mid x_1, \dots, x_t), \qquad
        p = \operatorname{softmax}(a_t)

    Args:
        tokens: Whole numbers in [0, V), shape ``(B, T + 1)``.
        logits: What the model returns for the first ``T`` of them, :math:`a`, shape
            ``(B, T, V)``.

    Returns:
        Nats, shape ``(B, T)``: entry ``[b, t]`` belongs to token ``t + 1``.
    """
    targets = ops.cast(tokens[:, 1:], "int32")
    return ops.sparse_categorical_crossentropy(
        targets, _float32(logits), from_logits=True
    )


def preference_nll(chosen: Any, rejected: Any) -> Any:
    r"""Negative log-likelihood of preferences under Bradley and Terry, eq. (18.5).

    .. math:: -\log\sigma(r_w - r_l) = \operatorname{softplus}(r_l - r_w)

    Args:
        chosen: Rewards :math:`r_w` of the answers that were preferred, any real
            numbers, shape ``(B,)``.
        rejected: Rewards :math:`r_l` of the answers they were compared with.

    Returns:
        Nats for each pair, shape ``(B,)``; ``log 2`` where the rewards are equal.

    Reference:
        Bradley and Terry (1952); Ouyang et al. (2022), equation 1, for two answers.
    """
    chosen, rejected = _float32(chosen, rejected)
    return ops.softplus(rejected - chosen)


def dpo(
    chosen: Any, rejected: Any, ref_chosen: Any, ref_rejected: Any, beta: float = 0.1
) -> Any:
    r"""Direct preference optimisation, eq. (18.9).

    .. math:: -\log\sigma\left(\beta\log\frac{\pi(y_w)}{\pi_\mathrm{ref}(y_w)}
        - \beta\log\frac{\pi(y_l)}{\pi_\mathrm{ref}(y_l)}\right)

    Args:
        chosen: Log-likelihoods :math:`\log\pi(y_w)` of the preferred answers under
            the model that is trained, given their questions, shape ``(B,)``.
        rejected: The same of the answers :math:`y_l` they were compared with.
        ref_chosen: As ``chosen``, under the reference, which does not change.
        ref_rejected: As ``rejected``, under the reference.
        beta: Price of a nat of divergence from the reference, above 0.

    Returns:
        Nats for each pair, shape ``(B,)``; ``log 2`` where model and reference agree.

    Reference:
        Rafailov et al. (2023), equation 7.
    """
    chosen, rejected = _float32(chosen, rejected)
    ref_chosen, ref_rejected = _float32(ref_chosen, ref_rejected)
    won, lost = chosen - ref_chosen, rejected - ref_rejected
    return preference_nll(beta * won, beta * lost)


def weighted_mean(values: Any, weights: Any = None) -> Any:
    """Mean of the values that count; zero where none does.

    Args:
        values: Any shape.
        weights: How much each counts, at least 0, same shape; ``None`` for all alike.

    Returns:
        A scalar.
    """
    if weights is None:
        return ops.mean(values)
    total = ops.sum(weights)
    return ops.sum(values * weights) / ops.where(total > 0, total, 1.0)
