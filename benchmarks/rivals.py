"""What people run today, layer by layer, as games of this book.

The networks and settings are those of the sources; the code is this book's.  As games
they get the same training loop as the book's own models, which only helps them.
"""

from __future__ import annotations

import keras
from keras import layers

from genai_utils.models.gan import GAN
from genai_utils.models.vae import VAE

__all__ = ["article_gan", "keras_vae", "plain_dcgan", "tutorial_dcgan"]


def _adam(rate: float, **kwargs: float) -> dict:
    names = ("discriminator", "generator")
    return {name: keras.optimizers.Adam(rate, **kwargs) for name in names}


def article_gan(seed: int = 0) -> GAN:
    """Make the survey article's dense GAN with its faults mended (chapter 10).

    Args:
        seed: Seed of first weights and noise.

    Returns:
        A compiled game for images (28, 28, 1); its batch size is 256.
    """
    keras.utils.set_random_seed(seed)
    g: list = [layers.Input((100,)), layers.Dense(256, use_bias=False)]
    for units in (512, 1024):
        g += [layers.BatchNormalization(), layers.LeakyReLU(), layers.Dense(units)]
    g += [layers.BatchNormalization(), layers.LeakyReLU()]
    g += [layers.Dense(784, "tanh"), layers.Reshape((28, 28, 1))]
    d: list = [layers.Input((28, 28, 1)), layers.Flatten()]
    for units in (512, 256):
        d += [layers.Dense(units), layers.LeakyReLU(), layers.Dropout(0.3)]
    d += [layers.Dense(1)]
    gan = GAN(keras.Sequential(g), keras.Sequential(d), seed=seed)
    gan.compile(_adam(2e-4, beta_1=0.5))
    return gan


def tutorial_dcgan(seed: int = 0) -> GAN:
    """Make the network of TensorFlow's DCGAN tutorial.

    Args:
        seed: Seed of first weights and noise.

    Returns:
        A compiled game for images (28, 28, 1); its batch size is 256.

    Reference:
        https://www.tensorflow.org/tutorials/generative/dcgan
    """
    keras.utils.set_random_seed(seed)
    g: list = [
        layers.Input((100,)),
        layers.Dense(7 * 7 * 256, use_bias=False),
        layers.BatchNormalization(),
        layers.LeakyReLU(),
        layers.Reshape((7, 7, 256)),
    ]
    for filters, stride in ((128, 1), (64, 2)):
        g += [
            layers.Conv2DTranspose(filters, 5, stride, "same", use_bias=False),
            layers.BatchNormalization(),
            layers.LeakyReLU(),
        ]
    g += [layers.Conv2DTranspose(1, 5, 2, "same", use_bias=False, activation="tanh")]
    d: list = [layers.Input((28, 28, 1))]
    for filters in (64, 128):
        d += [
            layers.Conv2D(filters, 5, 2, "same"),
            layers.LeakyReLU(),
            layers.Dropout(0.3),
        ]
    d += [layers.Flatten(), layers.Dense(1)]
    gan = GAN(keras.Sequential(g), keras.Sequential(d), seed=seed)
    gan.compile(_adam(1e-4))
    return gan


def plain_dcgan(seed: int = 0) -> GAN:
    """Make a small DCGAN as a slow machine would be given: few channels, BatchNorm.

    Args:
        seed: Seed of first weights and noise.

    Returns:
        A compiled game for images (28, 28, 1); its batch size is 64.

    Reference:
        Radford, Metz and Chintala (2016), with a quarter of the channels or fewer.
    """
    keras.utils.set_random_seed(seed)
    plain = {"use_bias": False}
    g: list = [
        layers.Input((100,)),
        layers.Dense(7 * 7 * 64, **plain),
        layers.BatchNormalization(),
        layers.ReLU(),
        layers.Reshape((7, 7, 64)),
        layers.Conv2DTranspose(32, 4, 2, "same", **plain),
        layers.BatchNormalization(),
        layers.ReLU(),
        layers.Conv2DTranspose(1, 4, 2, "same", activation="tanh"),
    ]
    d: list = [
        layers.Input((28, 28, 1)),
        layers.Conv2D(32, 4, 2, "same"),
        layers.LeakyReLU(0.2),
        layers.Conv2D(64, 4, 2, "same", **plain),
        layers.BatchNormalization(),
        layers.LeakyReLU(0.2),
        layers.Flatten(),
        layers.Dense(1),
    ]
    gan = GAN(keras.Sequential(g), keras.Sequential(d), seed=seed)
    gan.compile(_adam(2e-4, beta_1=0.5))
    return gan


def keras_vae(seed: int = 0) -> VAE:
    """Make the VAE of the Keras example, with logits in the place of its sigmoid.

    Args:
        seed: Seed of first weights and noise.

    Returns:
        A compiled game for images (28, 28, 1) in [-1, 1]; its batch size is 128.

    Reference:
        https://keras.io/examples/generative/vae/
    """
    keras.utils.set_random_seed(seed)
    encoder = keras.Sequential(
        [
            layers.Input((28, 28, 1)),
            layers.Conv2D(32, 3, 2, "same", activation="relu"),
            layers.Conv2D(64, 3, 2, "same", activation="relu"),
            layers.Flatten(),
            layers.Dense(16, "relu"),
            layers.Dense(4),  # two means, two logarithms of variances
        ]
    )
    decoder = keras.Sequential(
        [
            layers.Input((2,)),
            layers.Dense(7 * 7 * 64, "relu"),
            layers.Reshape((7, 7, 64)),
            layers.Conv2DTranspose(64, 3, 2, "same", activation="relu"),
            layers.Conv2DTranspose(32, 3, 2, "same", activation="relu"),
            layers.Conv2DTranspose(1, 3, 1, "same"),
        ]
    )
    vae = VAE(encoder, decoder, likelihood="bernoulli", seed=seed)
    vae.compile(keras.optimizers.Adam(1e-3))
    return vae
