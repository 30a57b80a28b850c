"""Exact likelihoods: pixels one by one, and coupling flows at their start."""

from __future__ import annotations

import numpy as np
import pytest
from keras import ops
from tensors import numpy, shaken

from genai_utils import decoding
from genai_utils.models import flow, pixels

pytestmark = pytest.mark.engines
RNG = np.random.default_rng(19)


def test_one_pass_costs_what_pixels_cost_whose_future_is_blank():
    model = shaken(pixels.make_pixelcnn((4, 3, 1), 5, 8, 1, first=5))
    x = RNG.integers(0, 5, (6, 4, 3, 1)).astype("int32")
    total = np.zeros(6)
    for i in range(12):
        blank = np.where(np.arange(12) < i, x.reshape(6, 12), 0)
        tensor = ops.convert_to_tensor(blank.reshape(x.shape).astype("int32"))
        logits = numpy(model.logits(tensor)).reshape(6, 12, 5)[:, i]
        total += decoding.log_softmax(logits)[np.arange(6), x.reshape(6, 12)[:, i]]
    np.testing.assert_allclose(model.log_likelihood(x), total, atol=1e-3)


@pytest.mark.parametrize("dim", [2, 3, 8])
def test_a_new_coupling_flow_changes_nothing_and_has_steep_steps(dim):
    model = flow.make_coupling_flow(dim, 3, (400, 8), steepness=6.0)
    x = RNG.normal(size=(5, dim)).astype("float32")
    z, log_det = model.to_noise(ops.convert_to_tensor(x))
    np.testing.assert_allclose(numpy(z), x, atol=1e-6)
    np.testing.assert_allclose(numpy(log_det), 0, atol=1e-6)
    kernels, biases = zip(
        *(net.layers[0].get_weights() for net in model.nets), strict=True
    )
    # half of the coordinates reach a step: its slope is then `steepness` on average
    assert np.std(kernels) * np.sqrt(dim / 2) == pytest.approx(6.0, rel=0.1)
    assert np.abs(biases).max() == pytest.approx(2 * 6.0 / np.sqrt(dim / 2), rel=0.05)
    assert not np.allclose(kernels[0], kernels[1])
    link = np.corrcoef(kernels[0][0], biases[0])[0, 1]
    assert abs(link) < 0.25  # 5 standard errors of independent draws


def test_steepness_must_be_positive():
    with pytest.raises(ValueError, match="`steepness` must be a finite number above 0"):
        flow.make_coupling_flow(2, 4, steepness=0.0)
    with pytest.raises(ValueError, match=r"`hidden` must hold .* Received: \(\)"):
        flow.make_coupling_flow(2, 4, hidden=())
