"""Settings of the tests of the notebooks: what nbval compares, and what is skipped."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path

import pytest

#: Pictures are looked at, and checked by assertions; stderr differs between machines.
NOT_COMPARED = ("image/png", "image/svg+xml", "stderr")


def pytest_collectstart(collector: pytest.Collector) -> None:
    """Tell nbval which outputs of a notebook are not compared."""
    if hasattr(collector, "skip_compare"):
        collector.skip_compare += NOT_COMPARED


def data_sets(path: Path) -> list[str]:
    """Return what a notebook needs: ``mnist`` for a cell tagged ``data-mnist``."""
    cells = json.loads(path.read_text("utf-8"))["cells"]
    tags = [tag for cell in cells for tag in cell["metadata"].get("tags", [])]
    return sorted({t.removeprefix("data-") for t in tags if t.startswith("data-")})


def missing(names: Iterable[str]) -> list[str]:
    """Return the data sets that lie neither in ``$GENAI_DATA_DIR`` nor in the cache.

    The tests do not download: a set that only the network has is missing, too.
    """
    import pooch

    places = [os.environ.get("GENAI_DATA_DIR"), pooch.os_cache("genai_utils")]
    folders = [Path(place) for place in places if place]
    return [
        name
        for name in names
        if not any((f / name).is_dir() and any((f / name).iterdir()) for f in folders)
    ]


def reason_to_skip(path: Path) -> str:
    """Say why a notebook cannot run here; an empty text if it can."""
    lost = missing(data_sets(path))
    if not lost:
        return ""
    folder = os.environ.get("GENAI_DATA_DIR", "")
    return (
        f"{path.name} needs the data sets {', '.join(lost)}. Received: GENAI_DATA_DIR="
        f"{folder!r}. Set it to the folder that holds them, or run the notebook once "
        "with a network."
    )


def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> None:
    """Skip a notebook whose data are not here: once, by name, with the reason."""
    reasons: dict[Path, str] = {}
    dropped = []
    for item in items:
        if item.path.suffix != ".ipynb":
            continue
        if item.path in reasons:
            dropped += [item] if reasons[item.path] else []
            continue
        reason = reasons[item.path] = reason_to_skip(item.path)
        if reason:
            item.add_marker(pytest.mark.skip(reason=reason))
    if dropped:
        config.hook.pytest_deselected(items=dropped)
        gone = set(dropped)
        items[:] = [item for item in items if item not in gone]
