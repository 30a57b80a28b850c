"""What differs between backends comes out the same: replicas, devices, gradients."""

from __future__ import annotations

import os
import subprocess
import sys

import keras
import numpy as np
import pytest
from keras import layers, ops

from genai_utils import backends
from genai_utils.game import Game, Player
from genai_utils.models.gan import make_toy_gan

pytestmark = pytest.mark.engines

REPLICAS = """
import os, sys
import numpy as np
import keras

sys.path.insert(0, {tests!r})
from test_backends import Scalar

if keras.backend.backend() == "tensorflow":
    import tensorflow as tf
    cpu = tf.config.list_physical_devices("CPU")[0]
    two = [tf.config.LogicalDeviceConfiguration()] * 2
    tf.config.set_logical_device_configuration(cpu, two)
    scope = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope()
else:
    import jax
    assert len(jax.devices()) == 2
    scope = keras.distribution.DataParallel().scope()
with scope:
    game = Scalar()
    game.compile(keras.optimizers.SGD(0.1))
x = np.array([[1.0], [2.0], [6.0], [9.0]], "float32")
logs = game.fit(x, batch_size=4, verbose=0).history
print(float(keras.ops.convert_to_numpy(game.net.w)), logs["loss"][0])
"""


class Scalar(Game):
    """One variable w, started at 0, that learns the mean of the data."""

    def __init__(self):
        super().__init__()
        self.net = layers.Layer()
        self.net.w = self.net.add_weight((), "zeros", name="w")
        self.net.built = True

    def players(self):
        return [Player("scalar", [self.net], self.loss_of)]

    def loss_of(self, x, training):
        return ops.mean(ops.square(self.net.w - x))


def test_a_compiled_function_follows_the_variables_and_any_shape(monkeypatch):
    if keras.backend.backend() == "tensorflow":  # XLA takes over at the third call
        monkeypatch.setattr(backends._chosen, "PLAIN_CALLS", 2)
    game = Scalar()
    run = game.compiled_function(lambda x, n: (ops.sum(x) * game.net.w, x[:, n]))
    for w in range(5):
        game.net.w.assign(float(w))
        for size in (2, 3):
            x = np.arange(2.0 * size, dtype="float32").reshape(2, size)
            total, column = run(x, np.int32(w % size))
            assert float(total) == w * x.sum()
            np.testing.assert_array_equal(ops.convert_to_numpy(column), x[:, w % size])
    if keras.backend.backend() == "torch":
        assert not total.requires_grad


def test_a_compiled_function_sees_weights_that_come_later():
    class Line(Scalar):
        def __init__(self):
            super().__init__()
            self.dense = layers.Dense(2)
            self.dense.build((None, 3))

    game, x = Line(), np.ones((1, 3), "float32")
    run = game.compiled_function(game.dense)
    before = ops.convert_to_numpy(run(x))
    game.dense.enable_lora(1)
    game.dense.lora_kernel_a.assign(np.ones((3, 1)))
    game.dense.lora_kernel_b.assign(np.ones((1, 2)))
    after = ops.convert_to_numpy(run(x))
    np.testing.assert_allclose(after, before + 3, rtol=1e-5)


@pytest.mark.skipif(
    keras.backend.backend() == "torch", reason="Keras has no replicas in one process"
)
def test_two_replicas_take_the_step_of_one_process():
    here = os.path.dirname(os.path.abspath(__file__))
    flag = "--xla_force_host_platform_device_count=2"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", REPLICAS.format(tests=here)],
        capture_output=True,
        text=True,
        env={**os.environ, "XLA_FLAGS": flag},
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    w, loss = map(float, done.stdout.split())
    # w <- 0 - 0.1 * 2 (0 - 4.5); the loss at 0 is the mean of the squares
    assert w == pytest.approx(0.9, rel=1e-5)
    assert loss == pytest.approx((1 + 4 + 36 + 81) / 4, rel=1e-5)


def test_input_gradients_are_differentiable_and_kept_apart():
    x = np.array([[1.0, 2.0], [3.0, -1.0]], "float32")
    # score x1^2 x2: gradient (2 x1 x2, x1^2)
    found = backends.input_gradients(lambda v: v[:, 0] ** 2 * v[:, 1], x)
    expected = np.stack([2 * x[:, 0] * x[:, 1], x[:, 0] ** 2], axis=1)
    np.testing.assert_allclose(ops.convert_to_numpy(found), expected, rtol=1e-6)

    def of_norm(v):  # d/dx sum |grad|^2 = 8 x1 x2^2 + 4 x1^3, 8 x1^2 x2
        grad = backends.input_gradients(lambda u: u[:, 0] ** 2 * u[:, 1], v)
        return ops.sum(grad**2, axis=1)

    if keras.backend.backend() == "torch":  # `detach` cuts outer derivatives for x
        return
    twice = backends.input_gradients(of_norm, x)
    x1, x2 = x.T
    expected = np.stack([8 * x1 * x2**2 + 4 * x1**3, 8 * x1**2 * x2], axis=1)
    np.testing.assert_allclose(ops.convert_to_numpy(twice), expected, rtol=1e-5)


def test_gradients_reach_only_the_variables_asked_for():
    gan = make_toy_gan()
    variables = gan.discriminator.trainable_variables[:1]
    x = ops.convert_to_tensor(np.ones((3, 2), "float32"))

    def loss():
        return ops.mean(gan.discriminator(x)), {}

    value, _, gradients = backends.value_and_gradients(loss, variables, gan)
    assert len(gradients) == 1 and gradients[0].shape == variables[0].shape
    kernel = ops.convert_to_numpy(variables[0])
    moved, size = kernel.copy(), 1e-3
    moved[0, 0] += size
    variables[0].assign(moved)
    after = float(ops.convert_to_numpy(loss()[0]))
    slope = (after - float(ops.convert_to_numpy(value))) / size
    first = float(ops.convert_to_numpy(gradients[0])[0, 0])
    assert slope == pytest.approx(first, abs=2e-3)


def test_the_device_has_a_name():
    assert isinstance(backends.device(), str) and backends.device()
