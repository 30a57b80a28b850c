"""Cats: drawings of people in a hurry, and photographs of 32 x 32 pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from genai_utils.checks import check_choice
from genai_utils.data.fetch import fetch, fetch_folder, registry

__all__ = ["KINDS", "drawing_file", "drawings", "photographs", "records"]

#: What was drawn; the number of a kind is its label.
KINDS = ("cat", "fish", "apple")
_SECOND = "cats1000.bin"  # more cats, of which some are in cat.npy as well
_HELD = 500  # drawings for validation, and where there is no second file, for testing
_SPLITS = ("train", "val", "test")
_CAT, _SIDE = 3, 32  # label and side of a photograph in the records of CIFAR-10


def drawing_file(name: str = "cat.npy") -> np.ndarray:
    """Read one file of drawings as it was published, copies and scribbles included.

    Args:
        name: ``"cat.npy"``, ``"fish.npy"``, ``"apple.npy"`` (3,000 each) or
            ``"cats1000.bin"`` (1,000 cats).

    Returns:
        Images ``(n, 28, 28, 1)``, float32 in [-1, 1] with -1 for paper and 1 for ink.

    Raises:
        FileNotFoundError: If the file is not on this machine and cannot be fetched.
        ValueError: If there is no such file, or it is damaged.

    Reference:
        The Quick, Draw! Dataset, Google, Inc., CC BY 4.0; Ha and Eck (2018).
    """
    files = registry()["quickdraw"]["files"]
    path = fetch("quickdraw", files[check_choice(name, "name", tuple(files))])
    packed = np.load(path) if path.suffix == ".npy" else np.fromfile(path, np.uint8)
    return _scaled(packed.reshape(-1, 28, 28, 1))


def drawings(kind: str = "cat", split: str = "train") -> np.ndarray:
    """Return drawings of one kind, split, without copies between the parts.

    The first file of a kind is shuffled once (seed 0): 500 drawings validate.  The test
    set of cats is the second file, without its 30 drawings that are in the first; fish
    and apples, which have one file, give 500 more drawings to test.  The rest trains.
    Who drew what is not recorded, so one person can be in several parts.

    Args:
        kind: One of ``KINDS``.
        split: ``"train"``, ``"val"`` or ``"test"``.

    Returns:
        Images ``(n, 28, 28, 1)``, float32 in [-1, 1] with -1 for paper and 1 for ink.
        ``n`` is 2,500, 500 and 970 for cats, 2,000, 500 and 500 for the others.

    Raises:
        FileNotFoundError: If a file is not on this machine and cannot be fetched.
        ValueError: If ``kind`` or ``split`` is unknown, or a file is damaged.

    Reference:
        The Quick, Draw! Dataset, Google, Inc., CC BY 4.0; Ha and Eck (2018).
    """
    check_choice(kind, "kind", KINDS)
    check_choice(split, "split", _SPLITS)
    x = drawing_file(f"{kind}.npy")
    if kind == "cat" and split == "test":
        return _new(drawing_file(_SECOND), x)
    order = np.random.default_rng(0).permutation(len(x))
    start = {"val": 0, "test": _HELD}.get(split, _HELD * (1 + (kind != "cat")))
    stop = len(x) if split == "train" else start + _HELD
    return x[order[start:stop]]


def _new(x: np.ndarray, known: np.ndarray) -> np.ndarray:
    """The rows of ``x`` that are not, byte for byte, among the known ones."""
    seen = {image.tobytes() for image in known}
    return x[[image.tobytes() not in seen for image in x]]


def photographs(split: str = "train", folder: str | Path | None = None) -> np.ndarray:
    """Return photographs of cats, those of CIFAR-10.

    The folder holds either JPEG files (``train/*.jpg``, ``test/*.jpg``) or the batches
    of the official binary archive.  The JPEG copies differ from the originals by a few
    grey levels, so numbers made from the two differ a little as well.

    Args:
        split: ``"train"`` (5,000) or ``"test"`` (1,000), the official split.
        folder: Where the files lie; by default the registered set is looked for, or
            fetched.

    Returns:
        Images ``(n, 32, 32, 3)``, float32 in [-1, 1].

    Raises:
        FileNotFoundError: If the folder holds neither, or the set cannot be fetched.
        ValueError: If ``split`` is unknown, or a file is damaged.

    Reference:
        Krizhevsky (2009), Learning multiple layers of features from tiny images.  Its
        authors state no licence: cite them, and do not publish the images.
    """
    check_choice(split, "split", ("train", "test"))
    folder = fetch_folder("cat_photos") if folder is None else Path(folder)
    if paths := sorted(folder.glob(f"{split}/*.jpg")):
        return _scaled(np.stack([_pixels(path) for path in paths]))
    batches = "data_batch_*.bin" if split == "train" else "test_batch.bin"
    if paths := sorted(folder.glob(batches)):
        return _scaled(np.concatenate([records(p.read_bytes()) for p in paths]))
    raise FileNotFoundError(
        f"`folder` must hold {split}/*.jpg or {batches}. Received: {folder}. Unpack "
        "the binary version of CIFAR-10 there."
    )


def _pixels(path: Path) -> np.ndarray:
    """One file as (32, 32, 3), uint8."""
    from PIL import Image

    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB"))
    if pixels.shape != (_SIDE, _SIDE, 3):
        raise ValueError(
            f"`{path.name}` must have 32 x 32 pixels. Received: {pixels.shape}. Take "
            "the file of the registered version."
        )
    return pixels


def records(data: bytes, label: int = _CAT) -> np.ndarray:
    """Read the images of one class out of a batch of the binary version of CIFAR-10.

    A record is one byte of label, then 1,024 bytes each of red, green and blue, row by
    row.

    Args:
        data: The bytes of a batch.
        label: The class, from 0 to 9; 3 is the cat.

    Returns:
        Images ``(n, 32, 32, 3)``, uint8.

    Raises:
        ValueError: If the length is no multiple of 3,073 bytes.
    """
    size = 1 + 3 * _SIDE**2
    if not data or len(data) % size:
        raise ValueError(
            f"`data` must hold records of {size} bytes. Received: {len(data)} bytes. "
            "Pass one whole batch of the binary version, unpacked."
        )
    rows = np.frombuffer(data, np.uint8).reshape(-1, size)
    rows = rows[rows[:, 0] == label, 1:]
    return rows.reshape(-1, 3, _SIDE, _SIDE).transpose(0, 2, 3, 1)  # (n, 32, 32, 3)


def _scaled(x: np.ndarray) -> np.ndarray:
    """Bytes 0 to 255 as float32 in [-1, 1]."""
    return (x / 127.5 - 1.0).astype("float32")
