"""Seeds repeat what they seed, and say so when they come too late."""

from __future__ import annotations

import subprocess
import sys

import pytest

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
