"""Byte-pair encoding: pieces of text, learnt from what often stands side by side."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from itertools import pairwise

__all__ = ["BytePairs", "split_words"]

Pair = tuple[int, int]

#: The bytes in the order of their ids: those with a printable character of their own
#: in Latin-1 first, as in GPT-2 and in the library ``tokenizers``.
_PRINTABLE = [*range(33, 127), *range(161, 173), *range(174, 256)]
BYTES = bytes(_PRINTABLE + sorted(set(range(256)) - set(_PRINTABLE)))

_ENDINGS = re.compile("'(?:s|t|re|ve|m|ll|d)")
_WORDS = re.compile("_?L+|_?N+|_?O+|[_S]+(?![^_S])|[_S]+")


def split_words(text: str) -> list[str]:
    """Cut a text into words, numbers, signs and gaps; no pair crosses a cut.

    A word takes the space before it along; English endings such as ``'s`` are pieces.

    Args:
        text: Any text.

    Returns:
        The pieces; joined they are the text.

    Reference:
        Radford et al. (2019), section 2.2; the pattern is that of GPT-2.
    """
    kinds = text.translate({ord(c): _kind(c) for c in set(text)})
    pieces, at = [], 0
    while at < len(text):
        found = _ENDINGS.match(text, at) or _WORDS.match(kinds, at)
        pieces.append(text[at : found.end()])
        at = found.end()
    return pieces


def _kind(character: str) -> str:
    """Return ``_`` for the space, S for other gaps, L letters, N numbers, O others."""
    if character == " ":
        return "_"
    if character.isspace() and not "\x1c" <= character <= "\x1f":
        return "S"
    category = unicodedata.category(character)[0]
    return category if category in "LN" else "O"


class BytePairs:
    """A tokenizer whose tokens are strings of bytes: lossless on any Unicode text.

    It starts with the 256 bytes and has one token more for each merge.

    Args:
        merges: Pairs of byte strings in the order in which they were learnt.

    Reference:
        Sennrich, Haddow and Birch (2016); on bytes as in Radford et al. (2019).
    """

    def __init__(self, merges: Sequence[tuple[bytes, bytes]] = ()) -> None:
        self.merges = list(merges)
        self.vocab = [bytes([b]) for b in BYTES] + [a + b for a, b in self.merges]
        ids = {token: i for i, token in enumerate(self.vocab)}
        pairs = ((ids[a], ids[b]) for a, b in self.merges)
        self._merged = {pair: 256 + i for i, pair in enumerate(pairs)}
        self._known: dict[str, list[int]] = {}

    @property
    def vocab_size(self) -> int:
        """Number of tokens, 256 and one for each merge."""
        return len(self.vocab)

    @classmethod
    def train(cls, text: str, vocab_size: int) -> BytePairs:
        """Learn merges: again and again, the pair that is most often side by side.

        Of pairs that are equally often, the one with the smaller first id is taken,
        then the one with the smaller second id.

        Args:
            text: What to learn from.
            vocab_size: Number of tokens wanted, at least 256; fewer are made where no
                pair is left.

        Returns:
            A new tokenizer.

        Raises:
            ValueError: If ``vocab_size`` is below 256.
        """
        if vocab_size < 256:
            raise ValueError(
                "`vocab_size` must be at least 256, as every byte is a token. "
                f"Received: {vocab_size!r}. Choose one such as 512."
            )
        counts = Counter(split_words(text))
        words = [_Word(_byte_ids(piece), n) for piece, n in counts.items()]
        found = _learn(words, vocab_size - 256)
        vocab = cls().vocab
        merges = []
        for a, b in found:
            merges.append((vocab[a], vocab[b]))
            vocab.append(vocab[a] + vocab[b])
        return cls(merges)

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text.

        Args:
            text: Any text that UTF-8 can write (no half of a surrogate pair).
        """
        ids: list[int] = []
        for piece in split_words(text):
            if piece not in self._known:
                self._known[piece] = self._encode_piece(piece)
            ids += self._known[piece]
        return ids

    def _encode_piece(self, piece: str) -> list[int]:
        """Merge the pair that was learnt first, until there is none."""
        ids = _byte_ids(piece)
        while True:
            known = [p for p in pairwise(ids) if p in self._merged]
            if not known:
                return ids
            first = min(known, key=self._merged.__getitem__)
            ids = _merge(ids, first, self._merged[first])

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of ids; bytes that are no UTF-8 become U+FFFD.

        Args:
            ids: Whole numbers in [0, vocab_size).
        """
        return b"".join(self.vocab[i] for i in ids).decode("utf-8", "replace")


class _Word:
    """The ids of a word, and how often it stands in the text."""

    def __init__(self, ids: list[int], count: int) -> None:
        self.ids, self.count = ids, count

    def pairs(self) -> Iterable[Pair]:
        return pairwise(self.ids)


def _byte_ids(piece: str) -> list[int]:
    return [_ID_OF_BYTE[b] for b in piece.encode("utf-8")]


_ID_OF_BYTE = {b: i for i, b in enumerate(BYTES)}


def _learn(words: list[_Word], most: int) -> list[Pair]:
    """Return up to ``most`` merges; counts are kept up to date, not counted anew."""
    counts: Counter[Pair] = Counter()
    where: defaultdict[Pair, set[int]] = defaultdict(set)
    for i, word in enumerate(words):
        _count(word, i, counts, where, +1)
    merges = []
    while counts and len(merges) < most:
        largest = max(counts.values())
        best = min(pair for pair, n in counts.items() if n == largest)
        for i in sorted(where[best]):
            _count(words[i], i, counts, where, -1)
            words[i].ids = _merge(words[i].ids, best, 256 + len(merges))
            _count(words[i], i, counts, where, +1)
        merges.append(best)
    return merges


def _count(word: _Word, i: int, counts: Counter, where: dict, sign: int) -> None:
    """Add a word's pairs to the counts, or take them out."""
    for pair in word.pairs():
        counts[pair] += sign * word.count
        if sign > 0:
            where[pair].add(i)
        else:
            where[pair].discard(i)
        if counts[pair] == 0:
            del counts[pair]


def _merge(ids: list[int], pair: Pair, new: int) -> list[int]:
    """Replace a pair by ``new``, from the left."""
    merged, at = [], 0
    while at < len(ids):
        if tuple(ids[at : at + 2]) == pair:
            merged.append(new)
            at += 2
        else:
            merged.append(ids[at])
            at += 1
    return merged
