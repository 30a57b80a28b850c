"""TensorFlow starts without a word, unless the word matters.

Its C++ library logs what processor it found.  ``TF_CPP_MIN_LOG_LEVEL`` silences most of
that, but not the lines that come before its log is set up, as on processors where
oneDNN is on.  So the first import of TensorFlow is watched: notes are dropped, warnings
and errors are passed on.  The watch ends with that import.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import os
import re
import sys
import tempfile
from collections.abc import Sequence
from types import ModuleType
from typing import Any

__all__ = ["hush_tensorflow"]

_NOTE = re.compile(rb"I\d{4} |WARNING: All log messages before absl::InitializeLog")


class _Watch(importlib.abc.MetaPathFinder):
    """Finds TensorFlow once, and lets it load with its notes held back."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: Any = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name != "tensorflow":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.loader is not None:
            load = spec.loader.exec_module
            spec.loader.exec_module = lambda module: _without_notes(load, module)
        return spec


def _without_notes(load: Any, module: ModuleType) -> None:
    """Load a module; pass on what it writes to stderr, except notes."""
    try:
        kept = os.dup(2)
    except OSError:  # no stderr at all, as under pythonw
        load(module)
        return
    with tempfile.TemporaryFile() as said:
        os.dup2(said.fileno(), 2)
        try:
            load(module)
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            said.seek(0)
            lines = [line for line in said if not _NOTE.match(line)]
            os.write(2, b"".join(lines))


def hush_tensorflow() -> None:
    """Let TensorFlow log warnings and errors only, if it is not loaded yet."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    watched = any(isinstance(finder, _Watch) for finder in sys.meta_path)
    if "tensorflow" not in sys.modules and not watched:
        sys.meta_path.insert(0, _Watch())
