"""Diffusion, flows and pixel models against closed forms, on every backend."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import ops
from tensors import numpy, shaken

from genai_utils import losses, networks, schedules
from genai_utils.models import diffusion, flow, pixels

pytestmark = pytest.mark.engines
RNG = np.random.default_rng(0)
POINTS = RNG.normal([1.0, -0.5], [0.5, 0.2], size=(512, 2)).astype("float32")


@keras.saving.register_keras_serializable("tests")
class Constant(keras.layers.Layer):
    """Returns zeros in the shape of its first input, plus one weight."""

    def build(self, shape):
        """Make the weight."""
        self.w = self.add_weight((), "zeros", name="w")

    def call(self, inputs):
        """Return the weight everywhere."""
        return 0.0 * inputs[0] + self.w


def constant(shape, labels=False):
    """A network that returns one trainable number."""
    inputs = [keras.Input(shape), keras.Input((1,))]
    inputs += [keras.Input((1,), dtype="int32")] * labels
    return keras.Model(inputs, Constant()(inputs))


@pytest.mark.parametrize("kind", schedules.KINDS)
def test_the_loss_of_a_network_that_says_nothing(kind):
    x = np.full((4000, 2), 0.6, "float32")
    model = diffusion.Diffusion(
        constant((2,)), schedules.cosine_schedule(20), kind=kind, seed=3
    )
    model.compile(keras.optimizers.SGD(0.0))
    found = model.evaluate(x, batch_size=4000, verbose=0)
    a = model.schedule[1:]
    wanted = {"eps": 1.0, "x0": 0.36, "v": (a + (1 - a) * 0.36).mean()}[kind]
    assert found == pytest.approx(wanted, rel=0.06)


def test_times_are_those_of_the_levels_and_reach_the_network():
    a = schedules.cosine_schedule(50)
    times = diffusion.noise_time(a)
    assert times[0] == 0 and times[-1] == pytest.approx(1, abs=0.03)
    np.testing.assert_allclose(np.cos(times * np.pi / 2) ** 2, a, atol=1e-9)
    inputs = [keras.Input((2,)), keras.Input((1,))]
    out = keras.layers.Lambda(lambda v: 0 * v[0] + v[1])(inputs)
    out = keras.layers.Dense(2, kernel_initializer="identity")(out)
    model = diffusion.Diffusion(keras.Model(inputs, out), a, data_range=(None, None))
    seen = model.predict_noise(np.zeros((3, 2)), 0.5)
    np.testing.assert_allclose(seen, 0.5, rtol=1e-5)


def test_a_point_model_learns_a_gaussian():
    keras.utils.set_random_seed(0)
    model = diffusion.make_point_diffusion(2, (64, 64), 40)
    model.compile(keras.optimizers.Adam(3e-3))
    model.fit(POINTS, batch_size=128, epochs=80, verbose=0)
    for sampler, steps in (("ancestral", None), ("ddim", 20), ("heun", None)):
        x = model.sample(2000, sampler=sampler, steps=steps)
        assert abs(x.mean(axis=0) - [1.0, -0.5]).max() < 0.2, sampler
        assert abs(x.std(axis=0) - [0.5, 0.2]).max() < 0.12, sampler
    np.testing.assert_array_equal(
        model.sample(5, seed=2, steps=5), model.sample(5, seed=2, steps=5)
    )


def test_labels_steer_and_are_hidden_at_times():
    keras.utils.set_random_seed(0)
    y = np.arange(600) % 2
    x = (4.0 * y - 2.0)[:, None] + 0.2 * np.random.default_rng(1).normal(size=(600, 2))
    model = diffusion.make_point_diffusion(
        2, (64, 64), 40, num_classes=2, label_dropout=0.2
    )
    model.compile(keras.optimizers.Adam(3e-3))
    model.fit(x, y, batch_size=100, epochs=80, verbose=0)
    told = {k: model.sample(200, steps=20, labels=k)[:, 0].mean() for k in (0, 1)}
    assert told[0] == pytest.approx(-2, abs=0.5) and told[1] == pytest.approx(
        2, abs=0.5
    )
    both = model.sample(400, steps=20)[:, 0]
    assert 0.2 < (both > 0).mean() < 0.8
    pushed = model.sample(200, steps=20, labels=1, guidance=2.0)[:, 0].mean()
    assert pushed > 1.5
    hidden = numpy(model._hidden(ops.convert_to_tensor(np.zeros(5000, "int32"))))
    assert (hidden == 2).mean() == pytest.approx(0.2, abs=0.03)


def test_a_diffusion_model_is_saved_with_its_schedule(tmp_path):
    model = diffusion.make_image_diffusion((8, 8, 1), (8, 16), 12, num_classes=3)
    model.compile("adam")
    x = RNG.uniform(-1, 1, (16, 8, 8, 1)).astype("float32")
    model.fit(x, np.arange(16) % 3, batch_size=8, epochs=1, verbose=0)
    model.save(tmp_path / "d.keras")
    twin = keras.saving.load_model(tmp_path / "d.keras")
    np.testing.assert_array_equal(twin.schedule, model.schedule)
    same = {"steps": 3, "labels": 1, "guidance": 2.0}
    np.testing.assert_allclose(
        twin.sample(3, **same), model.sample(3, **same), atol=1e-4
    )
    assert abs(model.sample(3, **same)).max() <= 1.0


def test_what_does_not_fit_is_refused():
    net = networks.make_time_mlp(2, (8,))
    a = schedules.cosine_schedule(10)
    with pytest.raises(ValueError, match=r"`network` must take \[x, time, labels\]"):
        diffusion.Diffusion(net, a, num_classes=3)
    with pytest.raises(ValueError, match="`kind`"):
        diffusion.Diffusion(net, a, kind="noise")
    model = diffusion.Diffusion(net, a)
    with pytest.raises(ValueError, match="`labels` are for a game with classes"):
        model.sample(2, labels=1)
    with pytest.raises(ValueError, match="divisible by 4"):
        networks.make_unet((6, 6, 1), (8, 8, 8))


@pytest.mark.parametrize("patch", [1, 2])
def test_the_unet_keeps_the_shape_starts_at_zero_and_hears_the_time(patch):
    net = networks.make_unet((8, 8, 2), (8, 16), patch=patch)
    x = RNG.normal(size=(4, 8, 8, 2)).astype("float32")
    t = np.array([[0.1], [0.1], [0.9], [0.9]], "float32")
    x[2:] = x[:2]
    assert numpy(net([x, t])).shape == x.shape
    assert abs(numpy(net([x, t]))).max() == 0
    for v in net.trainable_variables:
        v.assign(np.random.default_rng(1).normal(0, 0.1, v.shape))
    out = numpy(net([x, t]))
    assert abs(out[:2] - out[2:]).max() > 1e-3  # the same images at another time


# Matching a flow to Gaussian data from Gaussian noise: the best field is linear.
def best_field(x, t, mean, width):
    """E[x1 - x0 | x_t] for x0 ~ N(0, 1) and x1 ~ N(mean, width^2)."""
    variance = (1 - t) ** 2 + (t * width) ** 2
    gain = (t * width**2 - (1 - t)) / variance
    return mean + gain * (x - t * mean)


def test_a_matched_flow_learns_the_field_and_the_density():
    keras.utils.set_random_seed(0)
    model = flow.make_point_flow(2, (64, 64))
    model.compile(keras.optimizers.Adam(3e-3))
    model.fit(POINTS, batch_size=128, epochs=120, verbose=0)
    mean, width = np.array([1.0, -0.5]), np.array([0.5, 0.2])
    x = model.sample(2000)
    assert abs(x.mean(axis=0) - mean).max() < 0.12
    assert abs(x.std(axis=0) - width).max() < 0.12
    near = RNG.normal(0.5 * mean, 0.4, size=(200, 2))
    gap = model.velocity(near, 0.5) - best_field(near, 0.5, mean, width)
    assert np.sqrt((gap**2).mean()) < 0.35
    found = model.log_likelihood(POINTS[:200])
    log_p = -0.5 * (((POINTS[:200] - mean) / width) ** 2).sum(axis=1)
    log_p -= np.log(2 * np.pi * width.prod())
    assert found.mean() == pytest.approx(log_p.mean(), abs=0.25)


@keras.saving.register_keras_serializable("tests")
class Linear(keras.layers.Layer):
    """The field v(x, t) = x A."""

    def build(self, shape):
        """Make the matrix."""
        self.a = self.add_weight((2, 2), "zeros", name="a")

    def call(self, inputs):
        """Return x A."""
        return ops.matmul(inputs[0], self.a)


def test_likelihood_of_a_linear_field_in_closed_form():
    inputs = [keras.Input((2,)), keras.Input((1,))]
    layer = Linear()
    model = flow.FlowMatching(keras.Model(inputs, layer(inputs)))
    a = np.array([[0.3, 0.5], [-0.2, -0.8]])
    layer.a.assign(a)
    vectors, basis = np.linalg.eig(a)
    back = (basis @ np.diag(np.exp(-vectors)) @ np.linalg.inv(basis)).real
    x = RNG.normal(size=(30, 2))
    x0 = x @ back
    wanted = -0.5 * (x0**2).sum(axis=1) - np.log(2 * np.pi) - np.trace(a)
    np.testing.assert_allclose(model.log_likelihood(x, 100), wanted, atol=1e-3)


def test_pairs_replace_the_noise():
    model = flow.FlowMatching(constant((2,)), paired=True, data_range=(None, None))
    model.compile(keras.optimizers.SGD(0.0))
    x = RNG.normal(size=(64, 2))
    found = model.evaluate(x, x - 3.0, batch_size=64, verbose=0)
    assert found == pytest.approx(9.0, rel=1e-4)
    with pytest.raises(ValueError, match="`y` must hold"):
        model.fit(x, verbose=0)


def test_divergence_of_a_known_field():
    x = RNG.normal(size=(7, 3)).astype("float32")
    found = losses.divergence(
        lambda v: v**2 * ops.convert_to_tensor(np.array([1.0, 2.0, 3.0], "float32")),
        ops.convert_to_tensor(x),
    )
    np.testing.assert_allclose(numpy(found), 2 * x @ [1, 2, 3], rtol=1e-4, atol=1e-5)


def test_coupling_is_inverted_and_its_determinant_is_that_of_differences():
    model = shaken(flow.make_coupling_flow(3, 4, (16,)))
    x = RNG.normal(size=(6, 3)).astype("float32")
    z, log_det = (numpy(v) for v in model.to_noise(ops.convert_to_tensor(x)))
    back = numpy(model.to_data(ops.convert_to_tensor(z)))
    np.testing.assert_allclose(back, x, atol=1e-4)
    h = 2e-3
    for i in range(6):
        around = [(x[i] + s * h * np.eye(3)).astype("float32") for s in (1, -1)]
        ends = [numpy(model.to_noise(ops.convert_to_tensor(v))[0]) for v in around]
        jacobian = (ends[0] - ends[1]) / (2 * h)
        wanted = np.log(abs(np.linalg.det(jacobian)))
        assert log_det[i] == pytest.approx(wanted, abs=0.05)


def test_the_density_of_a_coupling_flow_integrates_to_one_and_is_learnt(tmp_path):
    keras.utils.set_random_seed(0)
    model = flow.make_coupling_flow(2, 4, (32,))
    model.compile(keras.optimizers.Adam(5e-3))
    model.fit(POINTS, batch_size=128, epochs=60, verbose=0)
    side = np.linspace(-4, 4, 201)
    grid = np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2)
    total = np.exp(model.log_likelihood(grid)).sum() * (side[1] - side[0]) ** 2
    assert total == pytest.approx(1, abs=0.02)
    entropy = np.log(2 * np.pi * np.e) + np.log(0.5 * 0.2)
    assert -model.log_likelihood(POINTS).mean() == pytest.approx(entropy, abs=0.12)
    x = model.sample(2000)
    assert abs(x.std(axis=0) - [0.5, 0.2]).max() < 0.1
    model.save(tmp_path / "flow.keras")
    twin = keras.saving.load_model(tmp_path / "flow.keras")
    np.testing.assert_allclose(
        twin.log_likelihood(POINTS), model.log_likelihood(POINTS), atol=1e-3
    )
    with pytest.raises(ValueError, match="`depth` must be at least 2"):
        flow.make_coupling_flow(2, 1)


@pytest.mark.parametrize("kind", ["residual", "plain"])
def test_no_pixel_sees_itself_or_what_comes_after(kind):
    model = shaken(pixels.make_pixelcnn((5, 6, 1), 4, 8, 2, kind=kind))
    x = RNG.integers(0, 4, (1, 5, 6, 1)).astype("int32")
    first = numpy(model.logits(ops.convert_to_tensor(x)))[0].reshape(30, 4)
    seen = np.zeros((30, 30), bool)
    for j in range(30):
        other = x.copy().reshape(-1)
        other[j] = (other[j] + 2) % 4
        tensor = ops.convert_to_tensor(other.reshape(x.shape))
        out = numpy(model.logits(tensor))[0].reshape(30, 4)
        seen[:, j] = abs(out - first).max(axis=1) > 1e-6
    assert not np.triu(seen).any()  # row i: what pixel i depends on
    assert seen[1:].any(axis=1).all() and seen[29].sum() > 10


def test_a_pixel_model_sums_to_one_learns_and_samples(tmp_path):
    keras.utils.set_random_seed(0)
    model = pixels.make_pixelcnn((2, 2, 1), 2, 16, 1, first=3)
    rng = np.random.default_rng(1)
    x = np.repeat(rng.integers(0, 2, (400, 1, 2, 1)), 2, axis=1)  # two equal rows
    model.compile(keras.optimizers.Adam(1e-2))
    model.fit(x, batch_size=50, epochs=40, verbose=0)
    every = np.array(np.meshgrid(*[[0, 1]] * 4)).T.reshape(-1, 2, 2, 1)
    log_p = model.log_likelihood(every)
    assert np.exp(log_p).sum() == pytest.approx(1, abs=1e-4)
    equal = (every[:, 0] == every[:, 1]).all(axis=(1, 2))
    assert np.exp(log_p[equal]).sum() > 0.97  # entropy 2 bits, shared by four
    made = model.sample(200, seed=1)
    assert (made[:, 0] == made[:, 1]).mean() > 0.95
    assert 0.35 < made.mean() < 0.65
    kept = model.sample(3, seed=1, start=x[:3].astype("int32"), known=2)
    np.testing.assert_array_equal(kept[:, 0], x[:3, 0])
    model.save(tmp_path / "p.keras")
    twin = keras.saving.load_model(tmp_path / "p.keras")
    np.testing.assert_allclose(twin.log_likelihood(every), log_p, atol=1e-4)
    with pytest.raises(ValueError, match="`kernel` must be odd"):
        pixels.MaskedConv2D(4, 2)
