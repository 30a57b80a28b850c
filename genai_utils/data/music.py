"""Chorales in four voices: the published set, keys, windows."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np

from genai_utils.checks import check_array, check_choice, check_positive
from genai_utils.data.fetch import fetch, registry

__all__ = [
    "LOWEST",
    "REST",
    "SPLITS",
    "START",
    "VOCABULARY",
    "chorales",
    "ranges",
    "shifts",
    "to_pitches",
    "to_tokens",
    "transpose",
    "voice_windows",
]

#: The lowest pitch with a token, C2; the highest is the A5 of the sopranos, 81.
LOWEST = 36
#: Token of a voice that is silent, and of the time before the first note.
REST, START = 46, 47
#: How many tokens there are, 46 pitches with the rest and the start.
VOCABULARY = 48
#: The published split.
SPLITS = ("train", "valid", "test")
_FILE = "Jsb16thSeparated.json"


def chorales(split: str = "train", every: int = 4) -> list[np.ndarray]:
    """Return chorales by Johann Sebastian Bach as tables of pitches.

    Args:
        split: One of :data:`SPLITS`; they hold 229, 76 and 77 chorales.
        every: Take each how-many-th sixteenth note; 4 is a grid of quarter notes.

    Returns:
        A list of int16 arrays ``(steps, 4)`` of MIDI pitches (60 is middle C), for
        soprano, alto, tenor and bass; -1 where a voice is silent.

    Raises:
        FileNotFoundError: If the file is not on this machine and cannot be fetched.
        ValueError: If the file is damaged, or ``split`` is unknown.

    Reference:
        Boulanger-Lewandowski, Bengio and Vincent (2012); encoding by Huang et al.
        (2017), whose repository states no licence.  The music is in the public domain.
    """
    check_choice(split, "split", SPLITS)
    every = int(check_positive(every, "every"))
    files = registry()["jsb_chorales"]["files"]
    found = json.loads(fetch("jsb_chorales", files[_FILE]).read_text("ascii"))
    return [np.array(piece, "int16")[::every] for piece in found[split]]


def ranges(pieces: Sequence[np.ndarray]) -> np.ndarray:
    """Return the lowest and the highest pitch of each voice.

    Args:
        pieces: Arrays ``(steps, voices)``; -1 is silence.

    Returns:
        Shape ``(voices, 2)``.
    """
    steps = np.concatenate([_piece(piece) for piece in pieces])
    lowest = np.where(steps < 0, 999, steps).min(axis=0)
    return np.column_stack([lowest, steps.max(axis=0)])


def shifts(piece: np.ndarray, limits: np.ndarray) -> np.ndarray:
    """Return by how many semitones a piece can move, equation (30.3).

    Args:
        piece: Shape ``(steps, voices)``.
        limits: As from :func:`ranges`, shape ``(voices, 2)``.

    Returns:
        Whole numbers from -6 to 5, at most one for each of the twelve keys; 0 is among
        them where the piece itself fits.
    """
    piece = _piece(piece)
    low, high = ranges([piece]).T
    limits = check_array(limits, "limits", shape=(piece.shape[1], 2))
    down, up = (limits[:, 0] - low).max(), (limits[:, 1] - high).min()
    return np.arange(max(down, -6), min(up, 5) + 1)


def transpose(piece: np.ndarray, semitones: int) -> np.ndarray:
    """Move all notes of a piece; silence stays silence.

    Args:
        piece: Shape ``(steps, voices)``.
        semitones: How far, up if positive.
    """
    piece = _piece(piece)
    return np.where(piece < 0, piece, piece + int(semitones)).astype(piece.dtype)


def to_tokens(piece: np.ndarray) -> np.ndarray:
    """Turn pitches into tokens, the inverse of :func:`to_pitches`.

    Args:
        piece: Shape ``(..., voices)``, pitches from 36 to 81, or -1.

    Returns:
        int32 of the same shape, the pitch less :data:`LOWEST`, or :data:`REST`.
    """
    piece = np.asarray(piece)
    wrong = (piece != -1) & ((piece < LOWEST) | (piece >= LOWEST + REST))
    if wrong.any():
        raise ValueError(
            f"`piece` must hold pitches from {LOWEST} to {LOWEST + REST - 1}, or -1. "
            f"Received: {sorted(set(piece[wrong].tolist()))[:5]}. Transpose it."
        )
    return np.where(piece == -1, REST, piece - LOWEST).astype("int32")


def to_pitches(tokens: np.ndarray) -> np.ndarray:
    """Turn tokens into pitches; a rest, and a start, become -1.

    Args:
        tokens: Whole numbers from 0 to 47, any shape.

    Returns:
        int16, same shape.
    """
    tokens = check_array(tokens, "tokens", low=0, high=VOCABULARY - 1)
    return np.where(tokens >= REST, -1, tokens + LOWEST).astype("int16")


def voice_windows(piece: np.ndarray, length: int, lead: int = 0) -> np.ndarray:
    """Cut all windows out of a piece, as rows of tokens, voice by voice in each step.

    Args:
        piece: Pitches, shape ``(steps, voices)``.
        length: Steps of a window.
        lead: Steps of :data:`START` to set before the piece.

    Returns:
        int32, shape ``(windows, length * voices)``.

    Raises:
        ValueError: If the piece with its lead is shorter than a window.
    """
    tokens = to_tokens(_piece(piece))
    tokens = np.pad(tokens, ((lead, 0), (0, 0)), constant_values=START)
    if len(tokens) < length:
        raise ValueError(
            f"`piece` must have at least {length - lead} steps. Received: "
            f"{len(piece)}. Ask for shorter windows, or leave the piece out."
        )
    view = np.lib.stride_tricks.sliding_window_view(tokens, length, axis=0)
    return view.transpose(0, 2, 1).reshape(len(view), -1)  # (windows, length * voices)


def _piece(piece: np.ndarray) -> np.ndarray:
    """Return whole numbers (steps, voices)."""
    piece = check_array(piece, "piece", ndim=2)
    if piece.dtype.kind not in "iu":
        raise TypeError(
            f"`piece` must hold whole numbers. Received: dtype {piece.dtype}. "
            "Round it with `np.rint(piece).astype('int16')`."
        )
    return piece
