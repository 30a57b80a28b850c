"""Tang poems: the published set, lines, quatrains, and rhymes found by counting."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from genai_utils.checks import check_positive
from genai_utils.data.fetch import fetch, registry

__all__ = [
    "Poem",
    "cut_lines",
    "has_form",
    "quatrains",
    "rhyme_classes",
    "rhyme_pairs",
    "tang_poems",
    "without_copies",
]

_FILE = re.compile(r"poet\.tang\.(\d+)\.json")
_MARKS = re.compile("[，。？！；、：]")


class Poem(NamedTuple):
    """A poem of the set.

    Args:
        author: Name of the poet, in traditional characters.
        title: Its title.
        lines: The lines in order, without punctuation.
    """

    author: str
    title: str
    lines: tuple[str, ...]


def tang_poems() -> list[Poem]:
    """Return 12,008 poems of the Tang dynasty, in traditional characters.

    They are the first volumes of the *Quan Tangshi*, an anthology of 1705, in its
    order.  Nothing is left out: some poems have gaps or notes in brackets.

    Returns:
        The poems, in the order of the files.

    Raises:
        FileNotFoundError: If the files are not on this machine and cannot be fetched.
        ValueError: If a file is damaged.

    Reference:
        https://github.com/chinese-poetry/chinese-poetry (MIT licence, JackeyGao and
        contributors); the poems are in the public domain.
    """
    files = registry()["chinese_poetry"]["files"]
    names = sorted(filter(_FILE.fullmatch, files), key=_number)
    found = []
    for name in names:
        text = fetch("chinese_poetry", files[name]).read_text("utf-8")
        found += [_poem(entry) for entry in json.loads(text)]
    return found


def _number(name: str) -> int:
    return int(_FILE.fullmatch(name)[1])


def _poem(entry: dict) -> Poem:
    lines = cut_lines("".join(entry["paragraphs"]))
    return Poem(entry["author"], entry["title"], lines)


def cut_lines(text: str) -> tuple[str, ...]:
    """Cut a text at its punctuation marks.

    Args:
        text: A poem with Chinese punctuation.

    Returns:
        The lines, without marks; empty ones are left out.
    """
    return tuple(line for line in _MARKS.split(text) if line)


def has_form(lines: Sequence[str], count: int = 4, length: int = 5) -> bool:
    """Say whether a poem has ``count`` lines of ``length`` Chinese characters.

    Args:
        lines: From :func:`cut_lines`.
        count: Lines of the form; 4 for a jueju, 8 for a lüshi.
        length: Characters of a line, 5 or 7 in most poems.

    Returns:
        Whether it does.  A gap (the sign U+25A1) or a bracket is no character.
    """
    check_positive(count, "count")
    check_positive(length, "length")
    right = all(len(line) == length and _is_chinese(line) for line in lines)
    return len(lines) == count and right


def _is_chinese(line: str) -> bool:
    """Whether all characters are ideographs of Unicode (planes 0 and 2)."""
    return all(
        "\u3400" <= c <= "\u9fff" or "\U00020000" <= c <= "\U0003ffff" for c in line
    )


def quatrains(poem: Poem, length: int = 5) -> list[tuple[str, ...]]:
    """Cut a poem of whole quatrains into them.

    Args:
        poem: With lines.
        length: Characters of a line.

    Returns:
        Tuples of four lines; none if the poem has another form.
    """
    lines = poem.lines
    if not lines or len(lines) % 4 or not has_form(lines, len(lines), length):
        return []
    return [lines[i : i + 4] for i in range(0, len(lines), 4)]


def without_copies(poems: Iterable[Poem]) -> list[Poem]:
    """Leave out poems that share a line with an earlier one.

    Args:
        poems: In order; the first of several versions stays.

    Returns:
        The poems that stay.
    """
    seen: set[str] = set()
    kept = []
    for poem in poems:
        if seen.isdisjoint(poem.lines):
            kept.append(poem)
        seen.update(poem.lines)
    return kept


def rhyme_pairs(poems: Iterable[Poem]) -> Counter[tuple[str, str]]:
    """Count which characters end even lines of the same poem.

    Args:
        poems: With lines.

    Returns:
        For each pair of different characters, sorted, in how many pairs of
        neighbouring even lines it stands.
    """
    counts: Counter[tuple[str, str]] = Counter()
    for poem in poems:
        ends = [line[-1] for line in poem.lines[1::2] if _is_chinese(line[-1])]
        pairs = (tuple(sorted(pair)) for pair in pairwise(ends))
        counts.update(pair for pair in pairs if pair[0] != pair[1])
    return counts


def rhyme_classes(counts: Counter[tuple[str, str]], least: int = 16) -> dict[str, int]:
    r"""Group characters that rhyme, by merging greedily while the modularity grows.

    With :math:`e_{kl}` the share of pairs between classes and :math:`a_k` their sums,
    merging ``k`` and ``l`` gains :math:`2 (e_{kl} - a_k a_l)`.  It is eq. (28.4).

    Args:
        counts: From :func:`rhyme_pairs`.
        least: Characters with fewer pairs than that are left out.

    Returns:
        The class of each character, numbered from the largest class (0) on.

    Reference:
        Newman (2004), https://doi.org/10.1103/PhysRevE.69.066133.
    """
    names, weights = _matrix(counts, least)
    e = weights / max(weights.sum(), 1.0)
    gain = e - np.outer(e.sum(1), e.sum(1))  # half of it; gains of a class add up
    np.fill_diagonal(gain, -np.inf)
    members = [[name] for name in names]
    while gain.size and gain.max() > 0:
        k, other = divmod(int(gain.argmax()), len(gain))
        members[k] += members[other]
        members[other] = []
        gain[k] += gain[other]
        gain[:, k] = gain[k]
        gain[other] = gain[:, other] = gain[k, k] = -np.inf
    members = [group for group in members if group]
    members.sort(key=lambda group: (-len(group), group))
    return {name: i for i, group in enumerate(members) for name in group}


def _matrix(
    counts: Counter[tuple[str, str]], least: int
) -> tuple[list[str], np.ndarray]:
    """The characters with enough pairs, and a symmetric matrix of their pairs."""
    total: Counter[str] = Counter()
    for (a, b), n in counts.items():
        total[a] += n
        total[b] += n
    names = sorted(name for name, n in total.items() if n >= least)
    ids = {name: i for i, name in enumerate(names)}
    weights = np.zeros((len(names), len(names)))
    for (a, b), n in counts.items():
        if a in ids and b in ids:
            weights[ids[a], ids[b]] += n
            weights[ids[b], ids[a]] += n
    return names, weights
