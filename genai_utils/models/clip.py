"""Images and captions in one space: a pair of encoders, trained by contrast."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import layers, ops

from genai_utils import losses
from genai_utils.checks import check_positive
from genai_utils.game import Field, Game, Player
from genai_utils.layers import halved, seeded
from genai_utils.networks import make_text_encoder

__all__ = ["CLIP", "make_clip"]


@keras.saving.register_keras_serializable("genai_utils")
class CLIP(Game):
    r"""Two encoders that put an image and its own caption close together, eq. (27.2).

    ``fit(images, tokens)``: the other captions of a batch are the wrong answers, so a
    batch should not hold two images that one caption fits.

    Args:
        image_encoder: Maps images to vectors ``(B, dim)``.
        text_encoder: Maps tokens ``(B, S)`` to vectors ``(B, dim)``.
        vocab_size: Number of tokens.
        temperature: :math:`\tau` of the loss, above 0.
        **kwargs: Passed to ``keras.Model``.

    Reference:
        Radford et al. (2021), figure 3.  Their temperature is learnt, ours is given.
    """

    data = Field("float32", -1.0, 1.0)

    def __init__(
        self,
        image_encoder: keras.Model,
        text_encoder: keras.Model,
        vocab_size: int,
        *,
        temperature: float = 0.1,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.image_encoder, self.text_encoder = image_encoder, text_encoder
        self.temperature = check_positive(temperature, "temperature")
        self.vocab_size = vocab_size
        self.condition = Field("int32", 0, vocab_size - 1)
        self.built = True

    def players(self) -> list[Player]:
        """Return the one player: both encoders."""
        return [Player("clip", [self.image_encoder, self.text_encoder], self._loss)]

    def _loss(self, x: Any, tokens: Any, training: bool) -> Any:
        a = self.image_encoder(x, training=training)
        b = self.text_encoder(tokens, training=training)
        return losses.symmetric_info_nce(a, b, self.temperature)

    def encode_images(self, x: np.ndarray) -> np.ndarray:
        """Return vectors of length 1, shape ``(n, dim)``.

        Args:
            x: Images ``(n, H, W, C)`` in [-1, 1].
        """
        return _unit(self.image_encoder, self.data.check(x, "x"))

    def encode_texts(self, tokens: np.ndarray) -> np.ndarray:
        """Return vectors of length 1, shape ``(n, dim)``.

        Args:
            tokens: Captions ``(n, S)``.
        """
        return _unit(self.text_encoder, self.condition.check(tokens, "tokens"))

    def similarity(self, x: np.ndarray, tokens: np.ndarray) -> np.ndarray:
        """Return the cosine of every image with every caption, shape ``(n, m)``.

        Args:
            x: Images ``(n, H, W, C)``.
            tokens: Captions ``(m, S)``.
        """
        return self.encode_images(x) @ self.encode_texts(tokens).T

    def score(self, x: np.ndarray, tokens: np.ndarray) -> np.ndarray:
        """Return the cosine of each image with its own caption, shape ``(n,)``.

        Args:
            x: Images ``(n, H, W, C)``.
            tokens: Captions ``(n, S)``.

        Reference:
            Hessel et al. (2021), without their factor 2.5 and their cut at 0.
        """
        return (self.encode_images(x) * self.encode_texts(tokens)).sum(axis=1)

    def _settings(self) -> dict:
        names = ("image_encoder", "text_encoder", "vocab_size", "temperature")
        return {name: getattr(self, name) for name in names}


def _unit(encoder: keras.Model, inputs: np.ndarray) -> np.ndarray:
    found = encoder.predict(inputs, batch_size=512, verbose=0)
    return found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-12)


def make_clip(
    image_shape: tuple[int, int, int],
    vocab_size: int,
    max_words: int,
    *,
    dim: int = 48,
    ordered: bool = True,
    seed: int = 0,
    **kwargs: Any,
) -> CLIP:
    """Make a pair of small encoders for images and captions.

    Args:
        image_shape: ``(H, W, C)``; H and W divisible by 4.
        vocab_size: Number of tokens, padding with it.
        max_words: Tokens in a caption.
        dim: Length of the common vectors.
        ordered: As in :func:`genai_utils.networks.make_text_encoder`.
        seed: Seed of the weights.
        **kwargs: Those of :class:`CLIP`.

    Returns:
        The model, not compiled.
    """
    halved(image_shape, 2)
    weights, x = seeded(seed + 200), layers.Input(tuple(image_shape))
    h = layers.Conv2D(32, 4, 2, "same", activation="relu", **next(weights))(x)
    h = layers.Conv2D(64, 4, 2, "same", activation="relu", **next(weights))(h)
    h = layers.Dense(128, "relu", **next(weights))(layers.Flatten()(h))
    see = keras.Model(x, layers.Dense(dim, **next(weights))(h), name="image_encoder")
    tokens = layers.Input((max_words,), dtype="int32")
    words = make_text_encoder(vocab_size, max_words, ordered=ordered, seed=seed)(tokens)
    out = layers.Dense(dim, **next(weights))(ops.mean(words, axis=1))
    hear = keras.Model(tokens, out, name="caption_encoder")
    return CLIP(see, hear, vocab_size, **kwargs)
