"""Files of published data sets: found on this machine or fetched; SHA-256 decides."""

from __future__ import annotations

import functools
import hashlib
import json
import os
from importlib import resources
from pathlib import Path

from genai_utils.checks import check_positive

__all__ = ["TIMEOUT", "fetch", "registry"]

TIMEOUT = 15.0  # seconds that a mirror may keep silent before the next one is tried


@functools.cache
def registry() -> dict:
    """Return what is known of each published data set.

    Returns:
        A dictionary that maps the name of a set to its entry, which holds ``title``,
        ``licence``, ``attribution``, ``citation`` and ``files``.  ``files`` maps the
        name of a file to its ``name``, its size in ``bytes``, its ``sha256`` and its
        ``urls``, a list of mirrors in the order in which they are tried.
    """
    text = (resources.files("genai_utils.data") / "registry.json").read_text("utf-8")
    sets = json.loads(text)
    for entry in sets.values():
        entry["files"] = {f["name"]: f for f in entry["files"]}
    return sets


def fetch(name: str, file: dict, timeout: float = TIMEOUT) -> Path:
    """Return the path of a file whose SHA-256 has been checked.

    The file is looked for in ``$GENAI_DATA_DIR/<name>/``, then in the download cache.
    If it is in neither, its mirrors are tried in turn.  A mirror that refuses, keeps
    silent or sends other bytes is left for the next one.  The cache receives a file
    only when it is complete and its SHA-256 is right.

    Args:
        name: The data set's name, a key of :func:`registry`.
        file: The file's entry in the registry: ``name``, ``urls``, ``sha256``.
        timeout: Seconds that a mirror may take to connect, and then may pause between
            two parts of the file, above 0.  A slow mirror that keeps sending is not
            cut off.

    Returns:
        Where the file lies.

    Raises:
        FileNotFoundError: If the file is not on this machine and no mirror gave it.
            The message names each mirror with its reason, and says where to put the
            file by hand.
        ValueError: If the file is on this machine but its SHA-256 is wrong, or
            ``timeout`` is not above 0.
    """
    check_positive(timeout, "timeout")
    folder = os.environ.get("GENAI_DATA_DIR")
    if folder:
        path = Path(folder) / name / file["name"]
        if path.is_file():
            return _verified(path, file)
    import pooch

    path = Path(pooch.os_cache("genai_utils")) / name / file["name"]
    if path.is_file():
        return _verified(path, file)
    reasons = []
    for url in file["urls"]:
        try:
            return _download(url, file, path, timeout)
        except (OSError, ValueError) as error:  # refused, silent; or the wrong bytes
            reason = " ".join(str(error).split())[:300] or type(error).__name__
            reasons.append(f"  {url}\n    {reason}")
            pooch.get_logger().warning("%s failed: %s", url, reason)
    raise FileNotFoundError(
        f"`{name}` needs the file {file['name']}, and none of its mirrors gave it. "
        "Received:\n" + "\n".join(reasons) + "\nDownload it from one of them on a "
        f"machine with a network, put it at $GENAI_DATA_DIR/{name}/{file['name']} (or "
        f"at {path}), and set the environment variable GENAI_DATA_DIR to the folder "
        f"that holds {name}/."
    )


def _download(url: str, file: dict, path: Path, timeout: float) -> Path:
    """Download to a temporary file beside ``path``; rename it if its hash is right."""
    import pooch

    downloader = pooch.HTTPDownloader(timeout=timeout)
    known = f"sha256:{file['sha256']}"
    found = pooch.retrieve(
        url, known, fname=path.name, path=path.parent, downloader=downloader
    )
    return Path(found)


def _verified(path: Path, file: dict) -> Path:
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest != file["sha256"]:
        raise ValueError(
            f"`{path}` must have the SHA-256 {file['sha256']}. Received: {digest}. "
            "The file is damaged or another one: delete it and load again."
        )
    return path
