"""Music in voices: sounds, MIDI files, and rules that can be counted."""

from __future__ import annotations

import io
import os
import struct
import wave
from collections.abc import Sequence
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import numpy as np

from genai_utils.checks import check_array, check_positive

__all__ = [
    "RULES",
    "draw",
    "frequency",
    "longest_shared",
    "midi_bytes",
    "rates",
    "synthesise",
    "to_wav",
    "violations",
    "write_midi",
]

#: What :func:`violations` looks for.
RULES = ("parallels", "crossing", "range", "dissonance", "leap")
#: Partials of a tone, which say how loud the fundamental and its multiples are.
PARTIALS = (1.0, 0.5, 0.3, 0.15)
_STYLES = ("#12355b", "-"), ("#b3261e", "--"), ("#2f7d4f", "-."), ("#7a4fa3", ":")
_VOICES = ("soprano", "alto", "tenor", "bass")
_TRIADS = np.array(
    [sum(1 << (r + k) % 12 for k in (0, t, 7)) for r in range(12) for t in (3, 4)]
)
# Whether a set of pitch classes, as a number of 12 bits, fits into a triad.
_FITS = (np.arange(2**12)[:, None] & ~_TRIADS == 0).any(axis=1)


def frequency(pitch: np.ndarray) -> np.ndarray:
    r"""Return the frequency of a MIDI pitch in equal temperament, equation (30.1).

    .. math:: f(p) = 440 \cdot 2^{(p - 69) / 12}

    Args:
        pitch: Any shape; 69 is the A of 440 Hz.

    Returns:
        Hertz, same shape.
    """
    return 440.0 * 2.0 ** ((np.asarray(pitch, float) - 69.0) / 12.0)


def synthesise(
    piece: np.ndarray, seconds: float = 0.4, rate: int = 8000, partials: Any = PARTIALS
) -> np.ndarray:
    """Turn pitches into sound: a sum of sines that fades with each note.

    A pitch that stays is one long note, since the chorales do not say otherwise.

    Args:
        piece: Pitches ``(steps, voices)``, -1 where a voice is silent.
        seconds: Length of a step.
        rate: Samples per second.
        partials: Loudness of the fundamental, of twice its frequency, and so on.

    Returns:
        Samples in [-1, 1], shape ``(steps * int(seconds * rate),)``.
    """
    piece = check_array(piece, "piece", ndim=2)
    size = int(check_positive(seconds, "seconds") * check_positive(rate, "rate"))
    sound = np.zeros(len(piece) * size)
    for pitch, start, length in _notes(piece):
        t = np.arange(length * size) / rate
        multiples = frequency(pitch) * np.arange(1, len(partials) + 1)[:, None]
        heard = np.array(partials)[:, None] * (multiples < rate / 2)
        tone = (heard * np.sin(2 * np.pi * multiples * t)).sum(axis=0)
        soft = np.minimum(1, np.minimum(t, t[-1] - t) / 0.02) * np.exp(-t / 1.5)
        sound[start * size : (start + length) * size] += tone * soft
    return sound / max(np.abs(sound).max(), 1e-9)


def _notes(piece: np.ndarray) -> list[tuple[int, int, int]]:
    """Pitch, first step and number of steps of each note, voice after voice."""
    found = []
    for voice in np.asarray(piece).T:
        edges = np.flatnonzero(np.diff(voice, prepend=-9, append=-9))
        for start, stop in pairwise(edges):
            if voice[start] >= 0:
                found.append((int(voice[start]), int(start), int(stop - start)))
    return found


def to_wav(sound: np.ndarray, rate: int = 8000) -> bytes:
    """Return samples as a WAV file of 8 bits and one channel.

    Args:
        sound: Samples in [-1, 1], one axis.
        rate: Samples per second.

    Returns:
        The file, 44 bytes of header and a byte for each sample.
    """
    sound = check_array(sound, "sound", ndim=1, low=-1, high=1)
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(1)  # unsigned: 128 is silence
        out.setframerate(rate)
        out.writeframes(np.rint(128 + 127 * sound).astype("uint8").tobytes())
    return file.getvalue()


def midi_bytes(piece: np.ndarray, per_minute: int = 100) -> bytes:
    """Return a piece as a standard MIDI file of format 0, one channel for each voice.

    Args:
        piece: Pitches ``(steps, voices)``, a step is a quarter note; -1 is silence.
        per_minute: Quarter notes in a minute.

    Returns:
        The file, a header chunk and a track of events, each after its time.

    Reference:
        MIDI Manufacturers Association (1996), Standard MIDI Files 1.0.
    """
    piece = check_array(piece, "piece", ndim=2, low=-1, high=127)
    _check_voices(piece, 16, "MIDI has no more channels")
    tempo = round(60e6 / check_positive(per_minute, "per_minute"))
    track = b"\x00\xff\x51\x03" + tempo.to_bytes(3, "big")  # microseconds a quarter
    padded = np.pad(piece, ((1, 1), (0, 0)), constant_values=-1)
    wait = 0
    for before, now in pairwise(padded):
        for kind, pitches in ((0x80, before), (0x90, now)):  # off, then on
            for voice in np.flatnonzero((before != now) & (pitches >= 0)):
                track += _quantity(wait)
                track += bytes([kind + int(voice), int(pitches[voice]), 80])
                wait = 0
        wait += _DIVISION
    track += _quantity(0) + b"\xff\x2f\x00"  # the end
    header = struct.pack(">4sIHHH", b"MThd", 6, 0, 1, _DIVISION)
    return header + struct.pack(">4sI", b"MTrk", len(track)) + track


_DIVISION = 480  # ticks in a quarter note


def _check_voices(piece: np.ndarray, most: int, why: str) -> None:
    if piece.shape[1] > most:
        raise ValueError(
            f"`piece` must have at most {most} voices, {why}. Received: shape "
            f"{piece.shape}. Time runs along the first axis; transpose it, or cut it."
        )


def _quantity(n: int) -> bytes:
    """A whole number, seven bits a byte; all but the last have their top bit set."""
    parts = [n & 127]
    while n := n >> 7:
        parts.append(128 | (n & 127))
    return bytes(parts[::-1])


def write_midi(
    path: str | os.PathLike, piece: np.ndarray, per_minute: int = 100
) -> int:
    """Write :func:`midi_bytes` to a file.

    Args:
        path: Where to.
        piece: Pitches ``(steps, voices)``.
        per_minute: Quarter notes in a minute.

    Returns:
        The number of bytes.
    """
    return Path(path).write_bytes(midi_bytes(piece, per_minute))


def violations(
    piece: np.ndarray, limits: np.ndarray, leap: int = 7
) -> dict[str, np.ndarray]:
    """Say where a piece breaks each of five rules of the textbook.

    *parallels*, equation (30.7): two voices move in the same direction, from an octave,
    unison or fifth to another one of its kind.  *crossing*: a voice sounds above its
    upper neighbour.  *range*: a note lies outside its voice's range.  *dissonance*: the
    sounding notes do not all belong to one major or minor triad.  *leap*: a voice other
    than the lowest moves by more than ``leap`` semitones.

    Args:
        piece: Pitches ``(steps, voices)``, the highest voice first, -1 is silence.
        limits: Lowest and highest pitch of each voice, ``(voices, 2)``.
        leap: The largest interval, in semitones, that is no leap.

    Returns:
        For each of :data:`RULES` truth values, one for each step, or, for parallels
        and leaps, for each step but the first.
    """
    piece = check_array(piece, "piece", ndim=2)
    limits = check_array(limits, "limits", shape=(piece.shape[1], 2))
    sounds = piece >= 0
    moves = np.diff(piece, axis=0) * (sounds[1:] & sounds[:-1])  # (steps - 1, voices)
    outside = (piece < limits[:, 0]) | (piece > limits[:, 1])
    both = sounds[:, :-1] & sounds[:, 1:]
    bits = np.where(sounds, 1 << (piece % 12).astype(int), 0)
    return {
        "parallels": _parallels(piece, moves),
        "crossing": ((piece[:, :-1] < piece[:, 1:]) & both).any(axis=1),
        "range": (outside & sounds).any(axis=1),
        "dissonance": ~_FITS[np.bitwise_or.reduce(bits, axis=1)],
        "leap": (np.abs(moves[:, :-1]) > leap).any(axis=1),
    }


def _parallels(piece: np.ndarray, moves: np.ndarray) -> np.ndarray:
    """Where a pair of voices moves from a perfect interval to the same one."""
    found = np.zeros(len(moves), bool)
    for upper, lower in combinations(range(piece.shape[1]), 2):
        interval = (piece[:, upper] - piece[:, lower]) % 12
        same = (interval[1:] == interval[:-1]) & np.isin(interval[1:], (0, 7))
        found |= same & (moves[:, upper] * moves[:, lower] > 0)
    return found


def rates(
    pieces: Sequence[np.ndarray], limits: np.ndarray
) -> dict[str, tuple[float, float]]:
    """Return how often the rules are broken, with standard errors, equation (30.8).

    Args:
        pieces: Each ``(steps, voices)``.
        limits: As in :func:`violations`.

    Returns:
        For each of :data:`RULES` the share of steps, and its standard error as if the
        steps were independent.
    """
    found = [violations(piece, limits) for piece in pieces]
    together = {rule: np.concatenate([f[rule] for f in found]) for rule in RULES}
    return {
        rule: (float(x.mean()), float(np.sqrt(x.mean() * (1 - x.mean()) / len(x))))
        for rule, x in together.items()
    }


def longest_shared(
    pieces: Sequence[np.ndarray], library: Sequence[np.ndarray]
) -> np.ndarray:
    """Return the most steps in a row that each piece shares with the library.

    All voices must agree in every step, after moving the passage to any key, equation
    (30.9).

    Args:
        pieces: Each ``(steps, voices)``.
        library: The same.

    Returns:
        Whole numbers, one for each piece; 0 where not even two steps are shared.
    """
    ids: dict[tuple, int] = {}
    ours, theirs = (
        [_fingerprints(p, ids) for p in group] for group in (pieces, library)
    )
    longest = np.zeros(len(ours), int)
    for n in range(1, max(map(len, ours)) + 1):
        known = {c[i : i + n] for c in theirs for i in range(len(c) - n + 1)}
        has = [any(c[i : i + n] in known for i in range(len(c) - n + 1)) for c in ours]
        if not any(has):
            break
        longest[np.flatnonzero(has)] = n + 1  # n pairs of neighbours are n + 1 steps
    return longest


def _fingerprints(piece: np.ndarray, ids: dict[tuple, int]) -> tuple[int, ...]:
    """A number for each two neighbouring steps, the same in all keys."""
    pairs = np.concatenate([piece[:-1], piece[1:]], axis=1).astype(int)
    base = np.where(pairs >= 0, pairs, 999).min(axis=1, keepdims=True)
    relative = np.where(pairs >= 0, pairs - base, -1)
    return tuple(ids.setdefault(tuple(row), len(ids)) for row in relative.tolist())


def draw(ax: Any, piece: np.ndarray, *, title: str = "", legend: bool = False) -> None:
    """Draw a piano roll: time to the right, pitch upwards, a line style for each voice.

    Args:
        ax: Matplotlib's axes.
        piece: Pitches ``(steps, voices)``, at most four voices.
        title: What stands above, on the left.
        legend: Whether to name the voices.
    """
    piece = check_array(piece, "piece", ndim=2)
    _check_voices(piece, 4, "there are four line styles")
    at = np.arange(len(piece) + 1)
    for voice, (color, style), name in zip(piece.T, _STYLES, _VOICES, strict=False):
        held = np.append(voice, voice[-1]).astype(float)
        held[held < 0] = np.nan
        ax.step(at, held, where="post", color=color, ls=style, lw=2, label=name)
    ax.set_title(title, loc="left", fontsize=9)
    ax.set(xlabel="quarter notes", ylabel="MIDI pitch")
    if legend:
        ax.legend(ncols=4, fontsize=8, loc="lower left")
