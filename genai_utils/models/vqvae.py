"""Vector-quantised autoencoders: images as small grids of whole numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from genai_utils.checks import check_array, check_positive
from genai_utils.game import Field, Game, Player
from genai_utils.layers import VectorQuantizer, conv_half, conv_twice, halved, seeded

__all__ = ["VQVAE", "make_vqvae"]


@keras.saving.register_keras_serializable("genai_utils")
class VQVAE(Game):
    r"""An autoencoder whose code is a grid of numbers of codes.

    .. math:: \frac1n \lVert x - \hat x \rVert^2
        + \lVert \mathrm{sg}[z] - e \rVert^2 + \beta \lVert z - \mathrm{sg}[e] \rVert^2

    Eq. (8.3): the mean squared error of a pixel, the codebook loss (with
    ``update="loss"`` only) and the commitment loss, the last two as means over the
    positions.  It has no prior of its own: :meth:`sample` draws all codes alike.  Train
    a model on what :meth:`encode` returns, and :meth:`decode` what it draws.

    Args:
        encoder: Maps images ``(B, H, W, C)`` to vectors ``(B, h, w, dim)``.
        decoder: Maps vectors ``(B, h, w, dim)`` to images ``(B, H, W, C)`` in [-1, 1].
        quantizer: The codebook.
        commitment: The weight :math:`\beta`, at least 0.
        **kwargs: Passed to ``keras.Model``.

    Reference:
        van den Oord, Vinyals and Kavukcuoglu (2017), equation 3.
    """

    data = Field("float32", -1.0, 1.0)

    def __init__(
        self,
        encoder: keras.Model,
        decoder: keras.Model,
        quantizer: VectorQuantizer,
        *,
        commitment: float = 0.25,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_positive(commitment, "commitment", zero_ok=True)
        grid = encoder.output_shape[1:]
        if grid != decoder.input_shape[1:] or grid[-1] != quantizer.dim:
            raise ValueError(
                "`encoder`, `quantizer` and `decoder` must fit. Received: vectors of "
                f"shape {grid}, codes of length {quantizer.dim} and a decoder for "
                f"{decoder.input_shape[1:]}. Give all three the same `dim`."
            )
        self.encoder, self.decoder, self.quantizer = encoder, decoder, quantizer
        self.commitment = commitment
        self.grid = tuple(grid[:-1])
        self.built = True

    def players(self) -> list[Player]:
        """Return the one player: encoder, decoder and, with a loss, the codebook."""
        networks = [self.encoder, self.decoder, self.quantizer]
        return [Player("vqvae", networks, self._loss, ("error", "commit", "used"))]

    def _loss(self, x: Any, training: bool) -> tuple[Any, dict]:
        z = ops.cast(self.encoder(x, training=training), "float32")  # (B, h, w, dim)
        codes = self.quantizer.nearest(ops.stop_gradient(z))  # (B, h, w)
        e = self.quantizer.lookup(codes)
        straight = z + ops.stop_gradient(e - z)
        x_hat = ops.cast(self.decoder(straight, training=training), "float32")
        error = ops.mean(ops.square(x - x_hat))
        commit = _gap(z, ops.stop_gradient(e))
        loss = error + self.commitment * commit
        if self.quantizer.mode == "loss":
            loss = loss + _gap(ops.stop_gradient(z), e)
        if training:
            self.quantizer.follow(z, codes)
        used = self._perplexity(codes)
        return loss, {"error": error, "commit": commit, "used": used}

    def _perplexity(self, codes: Any) -> Any:
        """Perplexity of the codes of a batch, eq. (8.5)."""
        flat = ops.reshape(codes, (-1,))
        chosen = ops.one_hot(flat, self.quantizer.num_codes, dtype="float32")
        p = ops.mean(chosen, axis=0)
        return ops.exp(-ops.sum(p * ops.log(ops.maximum(p, 1e-12))))

    def encode(self, x: np.ndarray) -> np.ndarray:
        """Return the codes of images, int32, shape ``(n, h, w)``.

        Args:
            x: Images in [-1, 1], shape ``(n, H, W, C)``.
        """
        x = check_array(x, "x", ndim=4, low=-1.0, high=1.0)
        z = self.encoder.predict(x, batch_size=500, verbose=0)
        codes = self.quantizer.nearest(ops.convert_to_tensor(z.astype("float32")))
        return ops.convert_to_numpy(codes)

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """Return the images of codes, in [-1, 1], shape ``(n, H, W, C)``.

        Args:
            codes: Whole numbers from 0 to ``num_codes - 1``, shape ``(n, h, w)``.

        Raises:
            TypeError: If the codes are fractions.
            ValueError: If they have another shape, or there is no such code.
        """
        codes = check_array(codes, "codes", shape=(None, *self.grid))
        field = Field("int32", 0, self.quantizer.num_codes - 1)
        e = ops.convert_to_numpy(self.quantizer.codebook)[field.check(codes, "codes")]
        images = self.decoder.predict(e, batch_size=500, verbose=0)
        return np.clip(images.astype("float32"), -1.0, 1.0)

    def reconstruct(self, x: np.ndarray) -> np.ndarray:
        """Return ``decode(encode(x))``, images ``(n, H, W, C)``.

        Args:
            x: Images in [-1, 1], shape ``(n, H, W, C)``.
        """
        return self.decode(self.encode(x))

    def perplexity(self, x: np.ndarray) -> float:
        r"""Return how many codes are in use, eq. (8.5): from 1 to ``num_codes``.

        .. math:: \exp\Bigl(-\sum_k p_k \log p_k\Bigr)

        Here :math:`p_k` is the share of all positions of ``x`` that have code ``k``.

        Args:
            x: Images in [-1, 1], shape ``(n, H, W, C)``.
        """
        return float(self._perplexity(ops.convert_to_tensor(self.encode(x))))

    def sample(self, n: int, seed: int = 0) -> np.ndarray:
        """Draw every code alike and decode: ``n`` images in [-1, 1].

        Args:
            n: How many, at least 1.
            seed: Seed of the codes.
        """
        check_positive(n, "n")
        rng = np.random.default_rng(seed)
        return self.decode(rng.integers(self.quantizer.num_codes, size=(n, *self.grid)))

    def _settings(self) -> dict:
        names = ("encoder", "decoder", "quantizer", "commitment")
        return {name: getattr(self, name) for name in names}


def _gap(a: Any, b: Any) -> Any:
    """Mean over the positions of the squared distance of vectors ``(..., dim)``."""
    return ops.mean(ops.sum(ops.square(a - b), axis=-1))


def make_vqvae(
    image_shape: Sequence[int] = (16, 16, 1),
    num_codes: int = 32,
    dim: int = 8,
    filters: Sequence[int] = (16, 32),
    *,
    commitment: float = 0.25,
    seed: int = 0,
    **kwargs: Any,
) -> VQVAE:
    """Make a VQ-VAE of strided convolutions, halving the image once for each width.

    Args:
        image_shape: ``(H, W, C)``; H and W divisible by ``2 ** len(filters)``.
        num_codes: Number of codes.
        dim: Length of a code.
        filters: Channels after each halving.
        commitment: Weight of the commitment loss.
        seed: Seed of weights, codes and restarts.
        **kwargs: Those of :class:`genai_utils.layers.VectorQuantizer`.

    Returns:
        The model, not compiled.

    Raises:
        ValueError: If the image cannot be halved that often.
    """
    height, width, channels = halved(image_shape, len(filters))
    weights = seeded(seed)
    encoder = keras.Sequential(
        [layers.Input(image_shape)]
        + [conv_half(f, weights, activation="relu") for f in filters]
        + [layers.Conv2D(dim, 1, **next(weights))],
        name="encoder",
    )
    last = {"padding": "same", "activation": "relu"}
    decoder = keras.Sequential(
        [layers.Input((height, width, dim))]
        + [layers.Conv2D(filters[-1], 3, **last, **next(weights))]
        + [conv_twice(f, weights, activation="relu") for f in filters[-2::-1]]
        + [conv_twice(channels, weights, activation="tanh")],
        name="decoder",
    )
    quantizer = VectorQuantizer(num_codes, dim, seed=seed, **kwargs)
    return VQVAE(encoder, decoder, quantizer, commitment=commitment)
