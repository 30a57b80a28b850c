"""What a client may ask of the service, and how it is refused.

:mod:`genai_utils.serve` shows these names to its users.
"""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass, fields
from typing import Any

from genai_utils.checks import check_positive

__all__ = ["Limits", "Order", "Refusal", "read_order"]

_FIELDS = ("n", "seed", "label", "format")
_FORMATS = ("json", "png")


@dataclass(frozen=True)
class Limits:
    """What a service takes before it refuses.

    Args:
        samples: Most samples in one request.
        body: Most bytes in one request's body.
        queue: Most requests that wait; the next one is refused with 429.
        rows: A batch with so many samples takes no further request.
        wait: Seconds that the first request of a batch waits for others.
        patience: Seconds after which a waiting request is given up.
        connections: Most connections at a time.
        transfer: Seconds in all that a client has to send its request, and as many for
            each part of the answer (head and body) to be taken.
        hang: Seconds in one batch after which ``/health`` says that the sampler hangs.
    """

    samples: int = 64
    body: int = 4096
    queue: int = 64
    rows: int = 256
    wait: float = 0.004
    patience: float = 30.0
    connections: int = 128
    transfer: float = 10.0
    hang: float = 60.0

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            check_positive(value, each.name, zero_ok=each.name == "wait")


class Refusal(Exception):
    """A request that is not served, and what the client is told about it.

    Args:
        status: The HTTP status.
        error: What is wrong, in a sentence.
        field: The field at fault, if it is one.
    """

    def __init__(self, status: int, error: str, field: str | None = None) -> None:
        super().__init__(error)
        self.status, self.error, self.field = status, error, field

    def body(self) -> dict[str, str]:
        """Return what is sent."""
        told = {} if self.field is None else {"field": self.field}
        return {"error": self.error, **told}


@dataclass(frozen=True)
class Order:
    """What a client asks for: how many, which noise, which class, which format."""

    n: int
    seed: int
    label: int | None = None
    format: str = "json"


def read_order(body: bytes, most: int = 64, num_classes: int | None = None) -> Order:
    """Read the body of ``POST /sample``, a JSON object.

    Args:
        body: The bytes, such as ``b'{"n": 4, "seed": 7, "label": 3}'``.  Each field may
            be left out: ``n`` is 1, ``seed`` is drawn, ``label`` is ``null``, and
            ``format`` is ``"json"``.
        most: Most samples in one request.
        num_classes: Number of classes; ``None`` for a sampler without.

    Returns:
        The order.

    Raises:
        Refusal: With status 400, if it is no JSON object, or a field is unknown, of
            another type, or out of range; the refusal names the field.
    """
    try:
        asked = json.loads(body or b"{}")
    except (ValueError, RecursionError):
        raise Refusal(400, 'The body must be a JSON object, as in {"n": 4}.') from None
    if not isinstance(asked, dict):
        raise Refusal(400, f"The body must be a JSON object, not {_shown(asked)}.")
    for name in asked:
        if name not in _FIELDS:
            known = ", ".join(_FIELDS)
            raise Refusal(400, f"Unknown field. Known are {known}.", name[:40])
    n = _whole(asked.get("n", 1), "n", 1, most)
    seed = asked.get("seed")
    seed = secrets.randbelow(2**32) if seed is None else seed
    seed = _whole(seed, "seed", 0, 2**32 - 1)
    label = asked.get("label")
    if label is not None and num_classes is None:
        raise Refusal(400, "This model has no classes: leave `label` out.", "label")
    if label is not None:
        label = _whole(label, "label", 0, num_classes - 1)
    kind = asked.get("format", "json")
    if kind not in _FORMATS:
        raise Refusal(
            400, f"`format` must be json or png, not {_shown(kind)}.", "format"
        )
    return Order(n, seed, label, kind)


def _whole(value: Any, name: str, low: int, high: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        text = f"`{name}` must be a whole number, not {_shown(value)}."
        raise Refusal(400, text, name)
    if not low <= value <= high:
        text = f"`{name}` must be from {low} to {high}, not {_shown(value)}."
        raise Refusal(400, text, name)
    return value


def _shown(value: Any) -> str:
    try:
        text = json.dumps(value)
    except RecursionError:  # it was read, but cannot be written
        return "something nested so deep"
    return text if len(text) <= 40 else text[:37] + "..."
