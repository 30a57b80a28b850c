"""Arrays that come with the package: read them, and refuse a damaged file."""

from __future__ import annotations

import hashlib
import json
from importlib import resources
from pathlib import Path

import numpy as np

from genai_utils.checks import check_choice

__all__ = ["WEIGHTS", "load_arrays"]

WEIGHTS = Path(str(resources.files("genai_utils"))) / "weights"


def load_arrays(listing: str, name: str) -> tuple[dict[str, np.ndarray], dict]:
    """Load the arrays of a file in ``weights/``, and what its listing says of it.

    Args:
        listing: Name of the JSON file that lists the files.
        name: One of its keys.

    Returns:
        The arrays by name, as float32, and the entry of the listing.

    Raises:
        ValueError: If the listing has no such name, or the file is damaged.
    """
    known = json.loads((WEIGHTS / listing).read_text("utf-8"))
    check_choice(name, "name", tuple(known))
    path = WEIGHTS / known[name]["file"]
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest != known[name]["sha256"]:
        raise ValueError(
            f"`{path.name}` must have the SHA-256 {known[name]['sha256']}. "
            f"Received: {digest}. Install the package again."
        )
    with np.load(path) as stored:
        return {k: stored[k].astype("float32") for k in stored.files}, known[name]
