"""All that differs between TensorFlow, JAX and PyTorch; one module for each.

The modules have the same functions.  Which one is taken is decided here, once, by what
Keras runs on.
"""

from __future__ import annotations

import importlib

import keras

__all__ = [
    "apply_gradients",
    "batches",
    "compile_defaults",
    "compiled",
    "configure",
    "device",
    "input_gradients",
    "num_replicas",
    "run_round",
    "software",
    "threads",
    "value_and_gradients",
]

_chosen = importlib.import_module(f"{__name__}.{keras.backend.backend()}")

apply_gradients = _chosen.apply_gradients
batches = _chosen.batches
compile_defaults = _chosen.compile_defaults
compiled = _chosen.compiled
configure = _chosen.configure
device = _chosen.device
input_gradients = _chosen.input_gradients
num_replicas = _chosen.num_replicas
run_round = _chosen.run_round
software = _chosen.software
threads = _chosen.threads
value_and_gradients = _chosen.value_and_gradients
