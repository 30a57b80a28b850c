"""A plugin of pytest for ``benchmarks.gpu``: one line of JSON for each test that ended.

A run that is stopped at its limit so leaves what it had found.  A test that needs
TensorFlow is skipped where there is none.  ``OUTCOMES`` names the file.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest


def note(name: str, outcome: str, why: str) -> None:
    """Append one outcome to the file; the workers of xdist leave it to their master."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        with Path(os.environ["OUTCOMES"]).open("a", encoding="utf-8") as file:
            file.write(json.dumps([name, outcome, why]) + "\n")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Skip a test that asks for TensorFlow in vain."""
    try:
        return (yield)
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] == "tensorflow":
            pytest.skip("needs TensorFlow")
        raise


def pytest_runtest_logreport(report: Any) -> None:
    """Note how a test ended; of setting up and tearing down, only what is amiss."""
    if report.when == "call" or report.outcome != "passed":
        note(report.nodeid, report.outcome, reason(report))


def pytest_collectreport(report: Any) -> None:
    """Note a file that cannot be read."""
    if report.failed:
        note(report.nodeid, "failed", reason(report))


def reason(report: Any) -> str:
    """Return in one line why a test did not pass."""
    crash = getattr(report.longrepr, "reprcrash", None)
    lines = str(crash.message if crash else report.longrepr or "").strip().splitlines()
    return "" if report.passed or not lines else lines[0 if crash else -1][:300]
