"""What several tests need: arrays out of tensors, and weights that are not at rest."""

from __future__ import annotations

import numpy as np
from keras import ops


def numpy(tensor):
    """Return a tensor as an array."""
    return ops.convert_to_numpy(tensor)


def shaken(model):
    """Return the model with random weights: at its start a new one may do nothing."""
    rng = np.random.default_rng(2)
    for v in model.trainable_variables:
        v.assign(rng.normal(0, 0.3, v.shape))
    return model
