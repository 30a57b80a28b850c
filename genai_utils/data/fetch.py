"""Files of published data sets: found on this machine or fetched; SHA-256 decides."""

from __future__ import annotations

import fnmatch
import functools
import hashlib
import json
import os
import tarfile
import tempfile
from importlib import resources
from pathlib import Path

from genai_utils.checks import check_positive

__all__ = ["TIMEOUT", "fetch", "fetch_folder", "registry"]

TIMEOUT = 15.0  # seconds that a mirror may keep silent before the next one is tried


@functools.cache
def registry() -> dict:
    """Return what is known of each published data set.

    Returns:
        A dictionary that maps the name of a set to its entry, which holds ``title``,
        ``licence``, ``attribution``, ``citation`` and ``files``.  ``files`` maps the
        name of a file to its ``name``, its size in ``bytes``, its ``sha256`` and its
        ``urls``, a list of mirrors in the order in which they are tried.  A set of
        thousands of files has ``folder`` and ``archive`` instead: see
        :func:`fetch_folder`.
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


def fetch_folder(name: str, timeout: float = TIMEOUT) -> Path:
    """Return the folder of a data set that consists of very many files.

    The files are looked for in ``$GENAI_DATA_DIR/<name>/``, where one SHA-256 over the
    names and the hashes of them all is checked.  If they are not there, the archive of
    the set is fetched as :func:`fetch` does, and unpacked once into the cache.

    Args:
        name: The data set's name: a key of :func:`registry` whose entry has
            ``archive`` (one download: ``name``, ``urls``, ``sha256``, the ``prefix``
            of its members and the ``pattern`` of those that are unpacked) and
            ``folder`` (``pattern``, ``count`` and ``sha256`` of the single files).
        timeout: Seconds that a mirror may keep silent, above 0.

    Returns:
        The folder below which the files that match the pattern lie.

    Raises:
        FileNotFoundError: If neither the files nor the archive can be had.
        ValueError: If a file was changed, is missing or is one too many, if the
            archive's SHA-256 is wrong, or if ``name`` is no set of many files.
    """
    entry = registry().get(name, {})
    if "archive" not in entry:
        known = sorted(n for n, e in registry().items() if "archive" in e)
        raise ValueError(
            f"`name` must be a data set of many files, one of {known}. Received: "
            f"{name!r}. For the others use `genai_utils.data.fetch.fetch`."
        )
    place = os.environ.get("GENAI_DATA_DIR")
    folder = Path(place or ".") / name
    if place and any(folder.glob(entry["folder"]["pattern"])):
        return _verified_folder(folder, entry["folder"])
    archive = entry["archive"]
    import pooch

    folder = Path(pooch.os_cache("genai_utils")) / name / archive["prefix"]
    return folder if folder.is_dir() else _unpacked(name, archive, folder, timeout)


def _verified_folder(folder: Path, entry: dict) -> Path:
    """Check the SHA-256 of the lines "hash  set/path", sorted by path."""
    paths = sorted(folder.glob(entry["pattern"]))
    lines = [
        f"{hashlib.sha256(p.read_bytes()).hexdigest()}  "
        f"{folder.name}/{p.relative_to(folder).as_posix()}\n"
        for p in paths
    ]
    digest = hashlib.sha256("".join(lines).encode()).hexdigest()
    if digest != entry["sha256"]:
        raise ValueError(
            f"`{folder}` must hold {entry['count']} files {entry['pattern']} whose "
            f"hashes have the SHA-256 {entry['sha256']}. Received: {len(paths)} files "
            f"with {digest}. Some are damaged, missing or too many: delete the folder "
            "and load again."
        )
    return folder


def _unpacked(name: str, archive: dict, folder: Path, timeout: float) -> Path:
    """Unpack what matches into a folder beside ``folder``; rename it when complete."""
    path = fetch(name, archive, timeout)
    folder.parent.mkdir(parents=True, exist_ok=True)
    pattern = f"{archive['prefix']}/{archive['pattern']}"
    with (
        tempfile.TemporaryDirectory(dir=folder.parent) as unfinished,
        tarfile.open(path) as tar,
    ):
        for member in tar:
            if member.isfile() and fnmatch.fnmatchcase(member.name, pattern):
                tar.extract(member, unfinished, filter="data")
        (Path(unfinished) / archive["prefix"]).replace(folder)
    return folder


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
