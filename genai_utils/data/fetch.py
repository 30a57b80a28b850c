"""Files of published data sets: found here, or fetched; SHA-256 decides."""

from __future__ import annotations

import functools
import hashlib
import json
import os
from importlib import resources
from pathlib import Path

__all__ = ["fetch", "registry"]


@functools.cache
def registry() -> dict:
    """Return what is known of each published set: address, hash, licence, citation."""
    text = (resources.files("genai_utils.data") / "registry.json").read_text("utf-8")
    sets = json.loads(text)
    for entry in sets.values():
        entry["files"] = {f["name"]: f for f in entry["files"]}
    return sets


def fetch(name: str, file: dict) -> Path:
    """Return the path of a file whose SHA-256 has been checked.

    Args:
        name: The data set's name, a key of :func:`registry`.
        file: Its entry in the registry: ``name``, ``url``, ``sha256``.

    Returns:
        Where the file lies.

    Raises:
        FileNotFoundError: If the file is neither here nor to be had.
        ValueError: If the SHA-256 of the file that was found is wrong.
    """
    folder = os.environ.get("GENAI_DATA_DIR")
    if folder:
        path = Path(folder) / name / file["name"]
        if path.is_file():
            return _verified(path, file)
    import pooch

    cache = Path(pooch.os_cache("genai_utils")) / name
    path = cache / file["name"]
    if path.is_file():
        return _verified(path, file)
    try:
        return Path(
            pooch.retrieve(
                file["url"], f"sha256:{file['sha256']}", file["name"], path=cache
            )
        )
    except (OSError, ValueError) as error:
        raise FileNotFoundError(
            f"`{name}` needs the file {file['name']}. Received: {error}. Download "
            f"{file['url']} on a machine with a network, put it at "
            f"{Path('$GENAI_DATA_DIR') / name / file['name']} (or at {path}), and set "
            f"the environment variable GENAI_DATA_DIR to the folder that holds {name}/."
        ) from error


def _verified(path: Path, file: dict) -> Path:
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest != file["sha256"]:
        raise ValueError(
            f"`{path}` must have the SHA-256 {file['sha256']}. Received: {digest}. "
            "The file is damaged or another one: delete it and load again."
        )
    return path
