"""What each part of the book may cost, on a machine of any speed.

The seconds in ``budgets.json`` hold for a machine that multiplies matrices at
``gflops``, as :func:`benchmarks.common.matrix_product_speed` measures it.  A machine of
half that speed may take twice as long.  Gigabytes are the same everywhere.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

BUDGETS = Path(__file__).parent / "budgets.json"
PARTS = ("notebooks", "site", "imports", "tests")
WHOLE = "make test"
#: The parts of ``make test``.
TARGETS = ("lint", "unit", "nbval", "site", "linkcheck", "browser")
ADVICE = {
    ("notebooks", "seconds"): "train for fewer steps, or divide the notebook",
    ("notebooks", "gb"): "use smaller batches, or drop arrays that are done with",
    ("site", "seconds"): "look for large outputs in a notebook, or a slow extension",
    ("imports", "seconds"): "import what is heavy inside the function that needs it",
    ("tests", "seconds"): "find the slow tests with pytest --durations=20",
}


def read() -> dict[str, Any]:
    """Return the content of ``budgets.json``."""
    return json.loads(BUDGETS.read_text("utf-8"))


def speed(results: dict, part: str, row: dict | None = None) -> float:
    """Return the GFLOP/s that were measured beside a part of ``results/book.json``.

    Args:
        results: Its content.
        part: One of :data:`PARTS`.
        row: One of its items; those of ``notebooks`` have a speed of their own, since
            a machine may be slower on another day.
    """
    found = (row or {}).get("gflops") or results.get("gflops", {}).get(part)
    return found or results["machine"]["matrix_product_gflops"]


def allowed(part: str, name: str, budgets: dict) -> dict[str, float]:
    """Return the limits of one item at the reference speed, e.g. ``{"seconds": 30}``.

    Args:
        part: One of :data:`PARTS`.
        name: The item, e.g. ``"06-from-autoencoder-to-elbo"`` or ``"clean build"``.
        budgets: The content of ``budgets.json``.

    Returns:
        Seconds, and gigabytes where there is a limit.
    """
    if part == "notebooks":
        application = name[:2] in budgets["application_notebooks"]
        return budgets[part]["application" if application else "core"]
    return budgets[part] if part == "imports" else budgets[part][name]


def scaled(limits: dict[str, float], budgets: dict, gflops: float) -> dict[str, float]:
    """Turn limits at the reference speed into those of a machine of some GFLOP/s."""
    factor = budgets["gflops"] / gflops
    return {k: v * factor if k == "seconds" else v for k, v in limits.items()}


def with_total(rows: list[dict]) -> list[dict]:
    """Return the parts of ``make test`` and, if all were measured, their sum.

    Args:
        rows: The parts as measured: ``name``, ``seconds`` and ``passed``.
    """
    if {row["name"] for row in rows} != set(TARGETS):
        return rows
    total = round(sum(row["seconds"] for row in rows), 1)
    passed = all(row["passed"] for row in rows)
    return [*rows, {"name": WHOLE, "seconds": total, "passed": passed}]


def complaints(results: dict, budgets: dict) -> list[str]:
    """Say which items failed or exceed their budget, and what can be done.

    Args:
        results: As in ``results/book.json``: for each part a list of items, and the
            speed that was measured beside it.
        budgets: The content of ``budgets.json``.

    Returns:
        One line for each fault; empty if all is well.
    """
    lines = []
    for part in PARTS:
        rows = results.get(part, [])
        for row in rows:
            if not row.get("passed", True):
                lines.append(f"{row['name']}: it failed. Run it by itself and mend it.")
            if row.get("keras"):
                lines.append(
                    f"{row['name']}: it loads Keras. Import Keras where it is used."
                )
        for row in with_total(rows) if part == "tests" else rows:
            gflops = speed(results, part, row)
            limits = scaled(allowed(part, row["name"], budgets), budgets, gflops)
            for key, limit in limits.items():
                if row[key] <= limit:
                    continue
                unit = {"seconds": "s", "gb": "GB"}[key]
                lines.append(
                    f"{row['name']}: measured {row[key]:g} {unit}, budget {limit:.3g} "
                    f"{unit} at {gflops:.0f} GFLOP/s. What to do: "
                    f"{ADVICE[part, key]}; or raise the budget in "
                    "benchmarks/budgets.json and say why."
                )
    return lines
