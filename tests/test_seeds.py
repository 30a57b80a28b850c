"""Seeds repeat what they seed, and say so when they come too late."""

from __future__ import annotations

import subprocess
import sys
from importlib import metadata

import keras
import numpy as np
import pytest

from genai_utils import backends
from genai_utils.seeds import use_mixed_precision

SEEDS = """
import warnings
import numpy as np
from genai_utils.seeds import set_seed
set_seed(7)
import keras
first = np.random.rand(), float(keras.random.normal(())[...].numpy())
with warnings.catch_warnings():
    warnings.simplefilter("error")
    set_seed(7)
again = np.random.rand(), float(keras.random.normal(())[...].numpy())
assert first == again
try:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        set_seed(7, threads=1)
except RuntimeWarning as late:
    assert "Restart the kernel" in str(late)
    print("ok")
"""


def test_set_seed_repeats_and_warns_when_late():
    done = subprocess.run(
        [sys.executable, "-c", SEEDS], capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "ok", done.stderr[-2000:]


SUBNORMAL = """
from genai_utils.seeds import set_seed
set_seed()
import keras
import numpy as np
x = keras.ops.convert_to_tensor(np.full(10**6, 1e-38, "float32"))  # for every thread
print(np.count_nonzero(keras.ops.convert_to_numpy(x * 0.1)))
"""


@pytest.mark.engines
def test_after_set_seed_every_engine_takes_subnormal_numbers_as_zero():
    done = subprocess.run(
        [sys.executable, "-c", SUBNORMAL], capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "0", done.stdout + done.stderr[-2000:]


def test_set_seed_refuses_fractions():
    from genai_utils.seeds import set_seed

    with pytest.raises(TypeError, match="`seed` must be a whole number"):
        set_seed(0.5)
    with pytest.raises(ValueError, match="`threads` must be"):
        set_seed(0, threads=0)


DESCRIBED = """
from genai_utils.seeds import describe, set_seed
set_seed(threads=1)
print(describe())
"""


@pytest.mark.engines
def test_describe_names_backend_version_and_device(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # what PyTorch goes by
    done = subprocess.run(
        [sys.executable, "-c", DESCRIBED], capture_output=True, text=True, check=False
    )
    line = done.stdout.strip()
    name, package = {
        "tensorflow": ("TensorFlow", "tensorflow-cpu tensorflow"),
        "jax": ("JAX", "jax"),
        "torch": ("PyTorch", "torch"),
    }[keras.backend.backend()]
    versions = [v for p in package.split() for v in installed(p)]
    short = [".".join(v.split(".")[:2]) for v in versions]
    assert any(line.startswith(f"{name} {v} on ") for v in short), (line, done.stderr)
    if backends.device() == "CPU":
        count = "every core" if name == "JAX" else "1 thread"
        assert line.endswith(f" on CPU ({count})")
    else:
        assert line.endswith(f" on {backends.device()}")


def installed(package):
    try:
        return [metadata.version(package)]
    except metadata.PackageNotFoundError:
        return []


@pytest.fixture
def float32_after():
    yield
    keras.config.set_dtype_policy("float32")


@pytest.mark.engines
@pytest.mark.parametrize("width", ["bfloat16", "float16"])
def test_mixed_precision_computes_in_16_bits_and_keeps_weights_in_32(
    width, float32_after
):
    use_mixed_precision(f"mixed_{width}")
    mixed = keras.layers.Dense(3)
    out = mixed(np.ones((2, 4), "float32"))
    assert keras.backend.standardize_dtype(out.dtype) == width
    assert mixed.kernel.dtype == "float32"
    use_mixed_precision("float32")
    assert mixed.compute_dtype == width  # as when it was made
    assert keras.layers.Dense(3).compute_dtype == "float32"


@pytest.mark.engines
def test_mixed_precision_is_bfloat16_when_nothing_is_said(float32_after):
    use_mixed_precision()
    assert keras.config.dtype_policy().name == "mixed_bfloat16"


@pytest.mark.parametrize("policy", ["float16", "mixed_float8", None, 16])
def test_mixed_precision_refuses_what_would_not_train(policy):
    before = keras.config.dtype_policy().name
    message = "`policy` must be one of 'mixed_bfloat16'.* Received: .* Check"
    with pytest.raises(ValueError, match=message):
        use_mixed_precision(policy)
    assert keras.config.dtype_policy().name == before


def test_importing_seeds_is_light():
    heavy = "keras", "tensorflow", "jax", "torch", "numpy"
    code = f"""import sys, genai_utils.seeds
print([m for m in {heavy} if m in sys.modules])"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
