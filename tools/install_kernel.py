"""Give Jupyter the kernel of this environment, with what the tests set for it.

A student who opens a chapter in JupyterLab then sees what the stored outputs show, and
none of TensorFlow's log.  Kernels that are started in another way, as by VS Code, read
``genai_quiet_start.py`` from the environment's ``etc/ipython/startup``.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from ipykernel.kernelspec import install

#: The same as in the Makefile, which the tests of the notebooks run under.
ENVIRONMENT = {
    "OMP_NUM_THREADS": "2",
    "PYDEVD_DISABLE_FILE_VALIDATION": "1",
    "PYTHONHASHSEED": "0",
    "TF_CPP_MIN_LOG_LEVEL": "3",
}
START = Path(__file__).parent / "genai_quiet_start.py"


def main() -> None:
    """Install both into the environment of this Python."""
    install(prefix=sys.prefix, kernel_name="python3", env=ENVIRONMENT)
    folder = Path(sys.prefix) / "etc" / "ipython" / "startup"
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(START, folder)


if __name__ == "__main__":
    main()
