"""Byte-pair encoding against a slow, plain one, and against ``tokenizers``."""

from __future__ import annotations

import itertools
import json
import time
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genai_utils.data import BytePairs, english
from genai_utils.data.bpe import BYTES, split_words

SOME = english()[:8000]
TRAINED = BytePairs.train(SOME, 400)
MIXED = "Grüße, 你好 isn't 12² ½x  \n\t y's 'S\u2003z 🙂 \x1c a  "


def plainly(text, merges):
    """Learn merges by counting all pairs anew each time."""
    words = Counter(split_words(text))
    parts = {w: [BYTES.index(b) for b in w.encode()] for w in words}
    vocab, found = [bytes([b]) for b in BYTES], []
    for _ in range(merges):
        counts = Counter()
        for word, ids in parts.items():
            for pair in itertools.pairwise(ids):
                counts[pair] += words[word]
        best = min(counts, key=lambda pair: (-counts[pair], pair))
        found.append((vocab[best[0]], vocab[best[1]]))
        for ids in parts.values():
            at = 0
            while at < len(ids) - 1:
                if (ids[at], ids[at + 1]) == best:
                    ids[at : at + 2] = [len(vocab)]
                at += 1
        vocab.append(b"".join(found[-1]))
    return found


def test_merges_are_those_of_counting_anew():
    assert TRAINED.merges[:100] == plainly(SOME, 100)
    assert TRAINED.vocab_size == 400 == len(set(TRAINED.vocab))


def test_merges_by_hand():
    # " ab" twice and "ab" once: (a, b) three times; then (space, ab) twice
    pairs = BytePairs.train("ab ab ab", 300)
    assert pairs.merges == [(b"a", b"b"), (b" ", b"ab")]
    assert [pairs.vocab[i] for i in pairs.encode("ab ab")] == [b"ab", b" ab"]
    assert BytePairs.train("aaaa", 258).merges == [(b"a", b"a"), (b"aa", b"aa")]


def test_equal_counts_are_taken_in_the_order_of_ids():
    assert BytePairs.train("dc ba", 257).merges == [(b"b", b"a")]
    pairs = BytePairs.train("aé", 300)  # an a has a smaller id than the bytes of an é
    assert pairs.merges == [(b"a", b"\xc3"), (b"a\xc3", b"\xa9")]


def test_merges_and_ids_are_those_of_tokenizers():
    tokenizers = pytest.importorskip("tokenizers")
    level = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    letters = dict(zip(BYTES, sorted(level.alphabet()), strict=True))
    for text in (SOME, MIXED * 3 + SOME[:500]):
        theirs = tokenizers.Tokenizer(tokenizers.models.BPE())
        theirs.pre_tokenizer = level
        trainer = tokenizers.trainers.BpeTrainer(
            vocab_size=400, initial_alphabet=level.alphabet(), show_progress=False
        )
        theirs.train_from_iterator([text], trainer)
        merges = json.loads(theirs.to_str())["model"]["merges"]
        merges = [
            tuple(m) if isinstance(m, list) else tuple(m.split(" ")) for m in merges
        ]
        ours = BytePairs.train(text, 400)
        assert [
            tuple("".join(letters[b] for b in side) for side in pair)
            for pair in ours.merges
        ] == merges
        for new in (SOME, MIXED, english()[8000:9000]):
            assert ours.encode(new) == theirs.encode(new).ids


@given(st.text())
@settings(max_examples=300, deadline=None)
def test_any_text_survives(text):
    ids = TRAINED.encode(text)
    assert TRAINED.decode(ids) == text
    assert "".join(split_words(text)) == text
    assert len(ids) <= len(text.encode()) and all(0 <= i < 400 for i in ids)


@given(st.text(st.sampled_from("ab '\n\u0085\u2003é1²s_!"), max_size=12))
@settings(max_examples=300, deadline=None)
def test_pieces_are_those_of_the_pattern_of_gpt_2(text):
    assert split_words(text) == list(gpt_2_pieces(text))


def gpt_2_pieces(text):
    """GPT-2's alternatives, one after the other, by hand."""

    def run(start, test):
        end = start
        while end < len(text) and test(text[end]):
            end += 1
        return end

    at = 0
    while at < len(text):
        for ending in ("'s", "'t", "'re", "'ve", "'m", "'ll", "'d"):
            if text.startswith(ending, at):
                end = at + len(ending)
                break
        else:
            word = at + (text[at] == " ")
            kinds = (
                str.isalpha,
                str.isnumeric,
                lambda c: not (c.isalnum() or c.isspace()),
            )
            end = max(run(word, kind) for kind in kinds)
            if end == word:  # a gap: its last one belongs to the word that follows
                end = run(at, str.isspace)
                end -= end < len(text) and end - at > 1
        yield text[at:end]
        at = end


def test_half_a_character_is_replaced_not_refused():
    plain = BytePairs()
    ids = plain.encode("é")
    assert len(ids) == 2 and plain.decode(ids[:1]) == "\ufffd"
    assert plain.encode("") == [] and plain.decode([]) == ""


def test_the_whole_text_takes_seconds():
    start = time.perf_counter()
    pairs = BytePairs.train(english(), 768)
    ids = pairs.encode(english())
    assert time.perf_counter() - start < 20  # 0.6 s on one core
    assert pairs.decode(ids) == english()
    assert len(english()) / len(ids) > 2.2  # characters a token


def test_a_vocabulary_without_all_bytes_is_refused():
    with pytest.raises(ValueError, match=r"`vocab_size` must .* Received: 255"):
        BytePairs.train("a", 255)
