"""Layers of GANs: some steady a discriminator, two let a label enter.

All of them work on TensorFlow, JAX and PyTorch, and are saved with the model.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import layers, ops

from genai_utils.checks import check_positive

__all__ = [
    "Augmentation",
    "ConditionalBatchNormalization",
    "MinibatchDeviation",
    "Projection",
    "SpectralNormalization",
]


@keras.saving.register_keras_serializable("genai_utils")
class SpectralNormalization(layers.Layer):
    r"""Divide a linear layer by its largest singular value, and add a bias.

    .. math:: y = \frac{W x}{\sigma(W)} + b, \qquad \sigma(W) \approx u^\top W v

    The kernel counts as a matrix with one column for each output channel, and
    :math:`u, v` follow its leading singular vectors by one power iteration in each
    training call.  Gradients flow through :math:`\sigma(W)`, but not through
    :math:`u` and :math:`v`.

    Args:
        layer: A ``Dense``, ``Conv2D`` or other layer with one ``kernel``, linear and
            without bias.
        iterations: Power iterations in each training call, at least 1.
        seed: Seed of the start of :math:`u`.
        **kwargs: Passed to ``keras.layers.Layer``.

    Raises:
        ValueError: If the layer has a bias or an activation.

    Reference:
        Miyato et al. (2018), algorithm 1.  ``keras.layers.SpectralNormalization``
        instead overwrites the kernel with the divided one, so that its gradient is
        that of the divided kernel alone.
    """

    def __init__(
        self, layer: layers.Layer, iterations: int = 1, seed: int = 0, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        linear = getattr(layer, "activation", None) in (None, keras.activations.linear)
        if layer.use_bias or not linear:
            raise ValueError(
                "`layer` must be linear and without bias. Received: "
                f"{type(layer).__name__} with use_bias={layer.use_bias} and activation "
                f"{getattr(layer, 'activation', None)}. Pass `use_bias=False`; this "
                "layer adds a bias, and an activation may follow it."
            )
        check_positive(iterations, "iterations")
        self.layer, self.iterations, self.seed = layer, iterations, seed

    def build(self, shape: Any) -> None:
        """Make the kernel, the bias and the vector ``u``."""
        if not self.layer.built:  # as it is when it was read from a configuration
            self.layer.build(shape)
        units = self.layer.kernel.shape[-1]
        self.bias = self.add_weight((units,), "zeros", name="bias")
        self.u = self.add_weight(
            (units,),
            keras.initializers.RandomNormal(seed=self.seed),
            trainable=False,
            aggregation="mean",
            name="u",
        )

    def call(self, x: Any, training: bool = False) -> Any:
        """Return ``layer(x) / sigma + bias``; in training, follow the vectors first."""
        return self.layer(x) / ops.cast(self.sigma(training), x.dtype) + self.bias

    def sigma(self, training: bool = False) -> Any:
        """Return the estimate of the largest singular value, a scalar.

        Args:
            training: Whether to move ``u`` by power iterations and keep it.
        """
        kernel = ops.cast(self.layer.kernel, "float32")
        matrix = ops.reshape(kernel, (-1, kernel.shape[-1]))  # (inputs, units)
        fixed, u = ops.stop_gradient(matrix), ops.cast(self.u, "float32")
        for _ in range(self.iterations):
            v = _unit(ops.matmul(fixed, u))  # (inputs,)
            u = _unit(ops.matmul(v, fixed)) if training else _unit(u)
        if training:
            self.u.assign(ops.cast(u, self.u.dtype))
        return ops.sum(v * ops.matmul(matrix, u))

    def compute_output_shape(self, shape: Any) -> Any:
        """Return the shape that the wrapped layer returns."""
        return self.layer.compute_output_shape(shape)

    def get_config(self) -> dict:
        """Return what is needed to make the layer again."""
        layer = keras.saving.serialize_keras_object(self.layer)
        mine = {"layer": layer, "iterations": self.iterations, "seed": self.seed}
        return {**super().get_config(), **mine}

    @classmethod
    def from_config(cls, config: dict) -> SpectralNormalization:
        """Make the layer from :meth:`get_config`."""
        layer = keras.saving.deserialize_keras_object(config.pop("layer"))
        return cls(layer, **config)


def _unit(vector: Any) -> Any:
    """A vector of length 1, through which no gradient flows."""
    length = ops.sqrt(ops.sum(ops.square(vector)))
    return ops.stop_gradient(vector / ops.maximum(length, 1e-12))


@keras.saving.register_keras_serializable("genai_utils")
class MinibatchDeviation(layers.Layer):
    r"""Append to every sample how much the batch varies, as one more feature.

    .. math:: s = \frac1n \sum_{i=1}^n \sqrt{\operatorname{Var}_b(x_{bi}) + \epsilon}

    A discriminator that sees :math:`s` notices that a generator repeats itself.  Real
    and generated samples must come in batches of their own.

    Args:
        **kwargs: Passed to ``keras.layers.Layer``.

    Reference:
        Karras et al. (2018), section 3, with the whole batch as one group.
    """

    def call(self, x: Any) -> Any:
        """Return ``x`` of shape ``(B, ..., C)`` with channel ``C + 1`` added."""
        centred = ops.cast(x, "float32")
        centred = centred - ops.mean(centred, axis=0, keepdims=True)
        variance = ops.mean(ops.square(centred), axis=0)
        deviation = ops.cast(ops.mean(ops.sqrt(variance + 1e-8)), x.dtype)
        return ops.concatenate([x, ops.ones_like(x[..., :1]) * deviation], axis=-1)

    def compute_output_shape(self, shape: Any) -> Any:
        """Return ``shape`` with one more channel."""
        return (*shape[:-1], shape[-1] + 1)


@keras.saving.register_keras_serializable("genai_utils")
class Augmentation(layers.Layer):
    """Shift, darken and cover images at random, so that gradients pass through.

    A discriminator that sees only augmented images, real and generated alike, cannot
    learn the training set by heart, and the generator is not taught the augmentation.

    Args:
        shift: Largest shift in pixels along either axis, at least 0.
        brightness: Largest change of all the pixels of an image, at least 0.
        cutout: Side of a square that is covered, as a share of the image, in [0, 1).
        fill: Value of pixels that nothing is known of.
        seed: Seed of the draws.
        **kwargs: Passed to ``keras.layers.Layer``.

    Reference:
        Zhao et al. (2020), section 3.2; they fill with 0.
    """

    def __init__(
        self,
        shift: int = 2,
        brightness: float = 0.0,
        cutout: float = 0.0,
        fill: float = -1.0,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        for value, name in (
            (shift, "shift"),
            (brightness, "brightness"),
            (cutout, "cutout"),
        ):
            check_positive(value, name, zero_ok=True)
        self.shift, self.brightness, self.cutout = shift, brightness, cutout
        self.fill, self.seed = fill, seed
        self.seed_generator = keras.random.SeedGenerator(seed)
        self.built = True

    def call(self, x: Any) -> Any:
        """Return augmented images ``(B, H, W, C)``, each with draws of its own."""
        batch, height, width, _ = ops.shape(x)
        x = x - self.fill
        if self.shift:
            rows = self._moved(batch, height, x.dtype)  # (B, H, H)
            columns = self._moved(batch, width, x.dtype)  # (B, W, W)
            x = ops.einsum("bij,bjkc->bikc", rows, x)
            x = ops.einsum("blk,bikc->bilc", columns, x)
        if self.cutout:
            covered = (
                self._covered(batch, height)[:, :, None, None]
                & (self._covered(batch, width)[:, None, :, None])
            )
            x = ops.where(covered, ops.zeros_like(x), x)
        if self.brightness:
            most = self.brightness
            more = keras.random.uniform(
                (batch, 1, 1, 1), -most, most, seed=self.seed_generator
            )
            x = x + ops.cast(more, x.dtype)
        return x + self.fill

    def _moved(self, batch: Any, size: int, dtype: str) -> Any:
        """For each image a matrix ``(B, size, size)`` that shifts a line of pixels."""
        by = keras.random.randint(
            (batch, 1, 1), -self.shift, self.shift + 1, seed=self.seed_generator
        )
        here = ops.arange(size)
        return ops.cast(here[None, :, None] - by == here[None, None, :], dtype)

    def _covered(self, batch: Any, size: int) -> Any:
        """For each image which lines ``(B, size)`` a square of random place covers."""
        side = round(self.cutout * size)
        start = keras.random.randint(
            (batch, 1), -(side // 2), size - side // 2, seed=self.seed_generator
        )
        here = ops.arange(size)[None, :]
        return (here >= start) & (here < start + side)

    def get_config(self) -> dict:
        """Return what is needed to make the layer again."""
        names = ("shift", "brightness", "cutout", "fill", "seed")
        return {**super().get_config(), **{n: getattr(self, n) for n in names}}


@keras.saving.register_keras_serializable("genai_utils")
class ConditionalBatchNormalization(layers.Layer):
    r"""BatchNorm with a scale and a shift of its own for each class, eq. (14.6).

    .. math:: \gamma_y \, \frac{h - m}{\sqrt{v + \varepsilon}} + \beta_y

    Mean :math:`m` and variance :math:`v` are those of the whole batch, whatever its
    classes; at inference they are running averages.

    Args:
        num_classes: Number of classes.
        momentum: Memory of the running averages.
        **kwargs: Passed to ``keras.layers.Layer``.

    Reference:
        Dumoulin, Shlens and Kudlur (2017), for one of many styles; Miyato and Koyama
        (2018) have it in a conditional generator.
    """

    takes_labels = True

    def __init__(self, num_classes: int, momentum: float = 0.9, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.num_classes = check_positive(num_classes, "num_classes")
        self.momentum = momentum
        self.norm = layers.BatchNormalization(
            momentum=momentum, center=False, scale=False
        )

    def build(self, shapes: Any) -> None:
        """Make the tables ``gamma`` and ``beta``, each ``(num_classes, C)``."""
        self.norm.build(shapes[0])
        table = (self.num_classes, shapes[0][-1])
        self.gamma = self.add_weight(table, "ones", name="gamma")
        self.beta = self.add_weight(table, "zeros", name="beta")

    def call(self, inputs: Any, training: bool = False) -> Any:
        """Return normalised features, same shape.

        Args:
            inputs: ``[h, labels]``: features ``(B, ..., C)``, labels ``(B, 1)``.
            training: Whether to take mean and variance from this batch.
        """
        h, labels = inputs
        y = ops.cast(labels[:, 0], "int32")
        rows = (-1, *[1] * (len(h.shape) - 2), h.shape[-1])  # (B, 1, 1, C)
        gamma, beta = (
            ops.cast(ops.reshape(ops.take(table, y, axis=0), rows), h.dtype)
            for table in (self.gamma, self.beta)
        )
        return gamma * self.norm(h, training=training) + beta

    def compute_output_shape(self, shapes: Any) -> Any:
        """Return the shape of ``h``."""
        return shapes[0]

    def get_config(self) -> dict:
        """Return what is needed to make the layer again."""
        names = ("num_classes", "momentum")
        return {**super().get_config(), **{n: getattr(self, n) for n in names}}


@keras.saving.register_keras_serializable("genai_utils")
class Projection(layers.Layer):
    r"""The logit of a projection discriminator, eq. (14.7).

    .. math:: a(x, y) = w^\top h + b + e_y^\top h, \qquad h = \phi(x)

    The first layer asks whether the sample is real, the second whether it belongs to
    its class.

    Args:
        shared: A layer with one output, :math:`w^\top h + b`.
        classes: A layer with one output for each class, :math:`e_k^\top h`.
        **kwargs: Passed to ``keras.layers.Layer``.

    Reference:
        Miyato and Koyama (2018), section 3.  Our :math:`h` is their
        :math:`\phi(x)`, and our :math:`e_y^\top` is their :math:`y^\top V`.
    """

    takes_labels = True

    def __init__(
        self, shared: layers.Layer, classes: layers.Layer, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.shared, self.classes = shared, classes

    def build(self, shapes: Any) -> None:
        """Make the weights of both layers."""
        for layer in (self.shared, self.classes):
            if not layer.built:
                layer.build(shapes[0])

    def call(self, inputs: Any) -> Any:
        """Return logits ``(B, 1)``.

        Args:
            inputs: ``[h, labels]``: features ``(B, d)``, labels ``(B, 1)``.
        """
        h, labels = inputs
        each = self.classes(h)  # (B, K)
        mine = ops.one_hot(ops.cast(labels[:, 0], "int32"), each.shape[-1])
        fits = ops.sum(each * ops.cast(mine, each.dtype), axis=-1, keepdims=True)
        return self.shared(h) + fits

    def compute_output_shape(self, shapes: Any) -> Any:
        """Return ``(B, 1)``."""
        return (shapes[0][0], 1)

    def get_config(self) -> dict:
        """Return what is needed to make the layer again."""
        mine = {
            name: keras.saving.serialize_keras_object(getattr(self, name))
            for name in ("shared", "classes")
        }
        return {**super().get_config(), **mine}

    @classmethod
    def from_config(cls, config: dict) -> Projection:
        """Make the layer from :meth:`get_config`."""
        made = [
            keras.saving.deserialize_keras_object(config.pop(name))
            for name in ("shared", "classes")
        ]
        return cls(*made, **config)
