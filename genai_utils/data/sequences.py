"""Sequences: sums as sentences, an English text, and how they become numbers."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from importlib import resources
from typing import Any

import numpy as np

from genai_utils.checks import check_array, check_positive

__all__ = [
    "Characters",
    "additions",
    "answer_mask",
    "english",
    "split_sums",
    "windows",
]

_SUM = re.compile(r"(\d+)\+(\d+)=")


def additions(
    n: int, digits: int = 2, *, reverse: bool = False, seed: int = 0
) -> list[str]:
    """Return different sums as sentences, such as ``"12+34=46.."``.

    Args:
        n: How many, at least 1.
        digits: Digits of both numbers, at least 1: from 10 to 99 for 2.
        reverse: Whether the digits of the answer come in reverse, ``"12+34=64.."``.
        seed: Seed of the draw.

    Returns:
        Texts of one length. A full stop ends each, and more of them fill up the
        short ones.

    Raises:
        ValueError: If there are not as many different sums.
    """
    check_positive(n, "n")
    check_positive(digits, "digits")
    first = 10 ** (digits - 1) if digits > 1 else 0
    numbers = 10**digits - first
    if n > numbers**2:
        raise ValueError(
            f"`n` must be at most {numbers**2}, the number of different sums of "
            f"{digits} digits. Received: {n}. Ask for fewer, or for more `digits`."
        )
    drawn = np.random.default_rng(seed).choice(numbers**2, n, replace=False)
    pairs = zip(first + drawn // numbers, first + drawn % numbers, strict=True)
    return [_sentence(int(a), int(b), digits, reverse) for a, b in pairs]


def _sentence(a: int, b: int, digits: int, reverse: bool) -> str:
    answer = str(a + b)[:: -1 if reverse else 1]
    return f"{a}+{b}={answer}".ljust(3 * digits + 3, ".") + "."


def split_sums(
    texts: Sequence[str], share: float = 0.1, seed: int = 0
) -> tuple[list[str], list[str]]:
    """Split sums so that no sum of the test was trained on, not even turned round.

    Args:
        texts: From :func:`additions`.
        share: Share of the sums, ``a+b`` and ``b+a`` counted as one, to be kept.
        seed: Seed of the draw.

    Returns:
        ``(train, test)``.
    """
    keys = [tuple(sorted(map(int, _SUM.match(t).groups()))) for t in texts]
    different = sorted(set(keys))
    kept = round(share * len(different))
    if not 0 < kept < len(different):
        raise ValueError(
            "`share` must leave sums on both sides. Received: "
            f"{share!r} for {len(different)} sums. Choose one such as 0.1."
        )
    drawn = np.random.default_rng(seed).choice(len(different), kept, replace=False)
    test = {different[i] for i in drawn}
    pairs = list(zip(texts, keys, strict=True))
    return [t for t, k in pairs if k not in test], [t for t, k in pairs if k in test]


def answer_mask(texts: Sequence[str]) -> np.ndarray:
    """Return 1 for the characters of the answers, the first full stop included.

    Args:
        texts: Of one length, such as ``"12+34=46.."``.

    Returns:
        float32, shape ``(n, length)``; 0 for the question and what fills up.
    """
    starts = [t.index("=") + 1 for t in texts]
    ends = [t.index(".") + 1 for t in texts]
    at = np.arange(len(texts[0]))
    inside = (at >= np.array(starts)[:, None]) & (at < np.array(ends)[:, None])
    return inside.astype("float32")


class Characters:
    """A tokenizer with one id for each character of an alphabet.

    Args:
        alphabet: The characters in the order of their ids, each once.
    """

    def __init__(self, alphabet: str) -> None:
        if not alphabet or len(set(alphabet)) < len(alphabet):
            raise ValueError(
                "`alphabet` must hold each character once. "
                f"Received: {alphabet!r}. Use `''.join(sorted(set(text)))`."
            )
        self.alphabet = alphabet
        self._ids = {c: i for i, c in enumerate(alphabet)}
        self._known = frozenset(alphabet)

    @property
    def vocab_size(self) -> int:
        """Number of characters."""
        return len(self.alphabet)

    def encode(self, text: str | Sequence[str]) -> np.ndarray:
        """Return ids, int32: ``(T,)`` of a text, ``(n, T)`` of texts of one length.

        Args:
            text: A text, or a list of texts.

        Raises:
            ValueError: If a character is not in the alphabet, or lengths differ.
        """
        if not isinstance(text, str):
            lengths = {len(t) for t in text}
            if len(lengths) != 1:
                raise ValueError(
                    "`text` must hold texts of one length. Received: lengths "
                    f"{sorted(lengths)}. Fill them up, or encode one at a time."
                )
            return np.stack([self.encode(t) for t in text])
        unknown = sorted(set(text) - self._known)
        if unknown:
            raise ValueError(
                "`text` must hold characters of the alphabet only. Received: "
                f"{unknown}. Take them out, or make a larger alphabet."
            )
        return np.array([self._ids[c] for c in text], "int32")

    def decode(self, ids: Any) -> Any:
        """Return the text of ids ``(T,)``, or a list of texts for ``(n, T)``.

        Args:
            ids: Whole numbers in [0, vocab_size).
        """
        ids = np.asarray(ids)
        if ids.ndim > 1:
            return [self.decode(row) for row in ids]
        return "".join(self.alphabet[i] for i in ids)


def windows(ids: Any, length: int, *, stride: int | None = None) -> np.ndarray:
    """Cut one long sequence into windows.

    Args:
        ids: Whole numbers, shape ``(N,)``.
        length: Tokens of a window, at least 2 and at most N: ``context + 1`` for a GPT.
        stride: From one window's start to the next one's; ``length - 1`` if none is
            given, so that each token but the first is predicted once.

    Returns:
        int32, shape ``(n, length)``; tokens at the end that fill no window are left
        out.

    Raises:
        ValueError: If the sequence is shorter than a window.
    """
    ids = check_array(ids, "ids", ndim=1).astype("int32")
    if not 2 <= length <= len(ids):
        raise ValueError(
            f"`length` must be from 2 to {len(ids)}, the length of `ids`. "
            f"Received: {length!r}. Choose a shorter window, or give more text."
        )
    stride = length - 1 if stride is None else int(check_positive(stride, "stride"))
    view = np.lib.stride_tricks.sliding_window_view(ids, length)
    return view[::stride].copy()


@functools.cache
def english() -> str:
    """Return an English text of 200 kB: the beginning of Tiny Shakespeare.

    Scenes of *Coriolanus* and *Richard III*, ASCII, cut before the name of a speaker.
    The plays are in the public domain; the compilation is A. Karpathy's, from
    https://github.com/karpathy/char-rnn (MIT licence), commit 6f9487a.

    Returns:
        The text; it ships with the package, so no network is needed.
    """
    file = resources.files("genai_utils.data") / "english.txt"
    return file.read_text("ascii")
