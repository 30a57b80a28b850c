"""Poems as lines, quatrains and rhymes; and the published set, read from a folder."""

from __future__ import annotations

import json
import os
from collections import Counter
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from genai_utils.data import poems
from genai_utils.data.poems import Poem

HERE = Path(os.environ.get("GENAI_DATA_DIR", "nowhere")) / "chinese_poetry"
FOUR = ("白日依山盡", "黃河入海流", "欲窮千里目", "更上一層樓")


def test_lines_are_cut_at_every_mark():
    assert poems.cut_lines("甲乙，丙丁。戊？己！；庚：辛、") == (
        "甲乙",
        "丙丁",
        "戊",
        "己",
        "庚",
        "辛",
    )
    assert poems.cut_lines("") == ()


@pytest.mark.parametrize(
    "lines",
    [
        FOUR[:3],
        (*FOUR, FOUR[0]),
        (*FOUR[:3], "更上一層"),
        (*FOUR[:3], "更上一層□"),
        (*FOUR[:3], "更上[一]"),
    ],
)
def test_other_forms_are_refused(lines):
    assert not poems.has_form(lines)


def test_forms():
    assert poems.has_form(FOUR) and poems.has_form(FOUR * 2, 8)
    assert poems.has_form(["白日依山盡黃河"] * 4, 4, 7)
    assert poems.has_form(("白日依山𠴲",) * 4)  # of plane 2
    with pytest.raises(ValueError, match="`length`"):
        poems.has_form(FOUR, 4, 0)


def test_quatrains_are_whole_and_in_order():
    poem = Poem("a", "t", FOUR + FOUR[::-1])
    assert poems.quatrains(poem) == [FOUR, FOUR[::-1]]
    assert poems.quatrains(Poem("a", "t", FOUR[:3])) == []
    assert poems.quatrains(Poem("a", "t", ())) == []
    assert poems.quatrains(poem, 7) == []


def test_versions_of_a_poem_are_left_out():
    first = Poem("王之渙", "登鸛雀樓", FOUR)
    other = Poem("朱斌", "登樓", (*FOUR[:3], "更上一重樓"))
    third = Poem("x", "y", ("春眠不覺曉",))
    assert poems.without_copies([first, other, third]) == [first, third]
    assert poems.without_copies([other, first]) == [other]


def test_rhyme_pairs_are_those_of_neighbouring_even_lines():
    poem = Poem("a", "t", ("一甲", "二乙", "三丙", "四丁", "五戊", "六乙"))
    assert poems.rhyme_pairs([poem, poem]) == {("丁", "乙"): 4}
    same = Poem("a", "t", ("一", "甲", "二", "甲"))
    assert poems.rhyme_pairs([same]) == {}


def modularity(counts, classes):
    """Newman's Q from its definition: within classes, less what chance would give."""
    total = 2 * sum(counts.values())
    degree = Counter()
    for pair, n in counts.items():
        degree.update(dict.fromkeys(pair, n))
    inside = sum(2 * n for (a, b), n in counts.items() if classes[a] == classes[b])
    pairs = [(a, b) for a in classes for b in classes if classes[a] == classes[b]]
    return inside / total - sum(degree[a] * degree[b] for a, b in pairs) / total**2


def planted(rng, groups=5, size=8, noise=4):
    names = [chr(0x4E00 + i) for i in range(groups * size)]
    counts = Counter()
    for g in range(groups):
        for pair in combinations(names[g * size : (g + 1) * size], 2):
            counts[pair] = int(rng.integers(1, 6))
    for _ in range(noise):
        counts[tuple(sorted(rng.choice(names, 2, replace=False)))] += 1
    return names, counts


@pytest.mark.parametrize("seed", range(3))
def test_planted_classes_are_found(seed):
    names, counts = planted(np.random.default_rng(seed))
    found = poems.rhyme_classes(counts, 1)
    truth = {name: i // 8 for i, name in enumerate(names)}
    assert len({(truth[n], found[n]) for n in names}) == 5
    assert modularity(counts, found) >= modularity(counts, truth) - 1e-12


def test_no_single_merge_would_raise_the_modularity():
    rng = np.random.default_rng(0)
    names = [chr(0x4E00 + i) for i in range(20)]
    draws = [tuple(sorted(rng.choice(names, 2, replace=False))) for _ in range(60)]
    counts = Counter((str(a), str(b)) for a, b in draws)
    found = poems.rhyme_classes(counts, 1)
    best = modularity(counts, found)
    for k, other in combinations(set(found.values()), 2):
        merged = {n: k if c == other else c for n, c in found.items()}
        assert modularity(counts, merged) <= best + 1e-12


def test_classes_are_numbered_by_size_and_rare_characters_left_out():
    counts = Counter({("a", "b"): 9, ("b", "c"): 9, ("x", "y"): 9, ("a", "z"): 1})
    found = poems.rhyme_classes(counts, 2)
    assert found == {"a": 0, "b": 0, "c": 0, "x": 1, "y": 1}
    assert poems.rhyme_classes(Counter(), 1) == {}


def test_loader_reads_the_tang_files_in_order(monkeypatch, tmp_path):
    names = ("poet.tang.10000.json", "poet.tang.0.json", "ci.song.0.json")
    for name in names:
        entry = {"author": name[:6], "title": name, "paragraphs": ["甲乙，丙丁。"]}
        (tmp_path / name).write_text(json.dumps([entry]), "utf-8")
    files = {name: name for name in names}
    monkeypatch.setattr(poems, "registry", lambda: {"chinese_poetry": {"files": files}})
    monkeypatch.setattr(poems, "fetch", lambda name, file: tmp_path / file)
    found = poems.tang_poems()
    assert [p.title for p in found] == [names[1], names[0]]
    assert found[0] == Poem("poet.t", names[1], ("甲乙", "丙丁"))


@pytest.mark.skipif(not HERE.is_dir(), reason="needs the set chinese_poetry")
def test_the_published_set():
    found = poems.tang_poems()
    assert len(found) == 12_008
    assert (
        Poem(
            "李白",
            "靜夜思",
            poems.cut_lines("牀前看月光，疑是地上霜。舉頭望山月，低頭思故鄉。"),
        )
        in found
    )
