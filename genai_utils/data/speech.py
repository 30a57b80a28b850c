"""Spoken digits: the published recordings, the split, and silence cut off."""

from __future__ import annotations

import os
import wave
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from genai_utils.checks import check_array, check_positive, check_whole
from genai_utils.data.fetch import fetch_folder

__all__ = ["RATE", "SPEAKERS", "Recording", "read_wav", "recordings", "trim"]

#: Samples per second.
RATE = 8000
#: The voices; their number is the speaker's label.
SPEAKERS = ("george", "jackson", "nicolas", "theo", "yweweler")


@dataclass(frozen=True)
class Recording:
    """One spoken digit.

    Args:
        digit: 0 to 9.
        speaker: Number in :data:`SPEAKERS`.
        index: Which of the speaker's recordings of this digit; 0 to 4 are the test set.
        sound: Samples in [-1, 1], float32, shape ``(T,)``.
    """

    digit: int
    speaker: int
    index: int
    sound: np.ndarray

    @property
    def is_test(self) -> bool:
        """Whether the recording belongs to the published test set."""
        return self.index < 5


def recordings(folder: str | os.PathLike | None = None) -> list[Recording]:
    """Return the Free Spoken Digit Dataset, v1.0.9: 2,500 recordings of 5 speakers.

    Args:
        folder: The folder that holds ``recordings/``; ``None`` for the published set,
            whose files are looked for on this machine and then fetched.

    Returns:
        One :class:`Recording` for each file, ordered by digit, speaker and index.

    Raises:
        FileNotFoundError: If the set is not here and cannot be fetched, or the folder
            holds no recordings.
        ValueError: If a file's name or its sound is not as published.

    Reference:
        Jackson and contributors (2020), Free Spoken Digit Dataset, CC BY-SA 4.0.
    """
    folder = fetch_folder("fsdd") if folder is None else folder
    paths = sorted((Path(folder) / "recordings").glob("*.wav"))
    if not paths:
        raise FileNotFoundError(
            f"`folder` must hold recordings/*.wav. Received: {folder}. Unpack the set "
            "there, or leave `folder` out."
        )
    found = [_recording(path) for path in paths]
    return sorted(found, key=lambda r: (r.digit, r.speaker, r.index))


def _recording(path: Path) -> Recording:
    """The digit, the speaker and the index stand in the name of the file."""
    digit, speaker, index = (*path.stem.split("_"), "", "")[:3]
    if not (digit.isdigit() and index.isdigit() and speaker in SPEAKERS):
        raise ValueError(
            "`folder` must hold names like 7_theo_12.wav, with one of the speakers "
            f"{', '.join(SPEAKERS)}. Received: {path.name}. Take the file away."
        )
    sound = read_wav(path)
    return Recording(int(digit), SPEAKERS.index(speaker), int(index), sound)


def read_wav(path: str | os.PathLike, rate: int = RATE) -> np.ndarray:
    """Read a WAV file of one channel and 16 bits.

    Args:
        path: Where it lies.
        rate: Samples per second that it must have.

    Returns:
        float32 in [-1, 1], shape ``(T,)``.

    Raises:
        ValueError: If the file has another form.
    """
    with wave.open(str(path), "rb") as file:
        form = file.getnchannels(), 8 * file.getsampwidth(), file.getframerate()
        samples = file.readframes(file.getnframes())
    if form != (1, 16, rate):
        raise ValueError(
            f"`path` must be a WAV file of 1 channel, 16 bits, {rate} samples per "
            f"second. Received: {form} in {Path(path).name}. Convert it first."
        )
    return np.frombuffer(samples, "<i2").astype("float32") / 32768.0


def trim(sound: np.ndarray, decibels: float = 30.0, frame: int = 80) -> np.ndarray:
    """Cut the silence off both ends.

    Args:
        sound: Samples, shape ``(T,)``.
        decibels: How far below the loudest frame a frame counts as silence.
        frame: Samples of a frame.

    Returns:
        The sound from the first to the last frame that is no silence.
    """
    sound = check_array(sound, "sound", ndim=1)
    check_positive(decibels, "decibels")
    frame = min(check_whole(frame, "frame"), len(sound))
    starts = np.arange(0, len(sound), frame)
    energy = np.add.reduceat(np.square(sound, dtype="float64"), starts)
    loud = np.flatnonzero(energy >= energy.max() * 10 ** (-decibels / 10))
    return sound[starts[loud[0]] : starts[loud[-1]] + frame]
