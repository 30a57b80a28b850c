"""Settings of the tests of the notebooks: what nbval compares, what it does not."""

import pytest

#: Pictures are looked at, and checked by assertions; stderr differs between machines.
NOT_COMPARED = ("image/png", "image/svg+xml", "stderr")


def pytest_collectstart(collector: pytest.Collector) -> None:
    """Tell nbval which outputs of a notebook are not compared."""
    if hasattr(collector, "skip_compare"):
        collector.skip_compare += NOT_COMPARED
