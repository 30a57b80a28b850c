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
        note(report.nodeid, report.outcome, last_line(report))


def pytest_collectreport(report: Any) -> None:
    """Note a file that cannot be read."""
    if report.failed:
        note(report.nodeid, "failed", last_line(report))


def last_line(report: Any) -> str:
    """Return the last line of what a failed test says."""
    return "" if report.passed else str(report.longrepr).strip().splitlines()[-1][:300]
