"""Sums as sentences, tokens of characters, windows, and the text that ships."""

from __future__ import annotations

import re

import numpy as np
import pytest

from genai_utils import data


@pytest.mark.parametrize("digits", [1, 2, 3])
@pytest.mark.parametrize("reverse", [False, True])
def test_every_sum_is_right_and_of_one_length(digits, reverse):
    texts = data.additions(90, digits, reverse=reverse)
    assert len(set(texts)) == 90
    for text in texts:
        a, b, answer, stops = re.fullmatch(r"(\d+)\+(\d+)=(\d+)(\.+)", text).groups()
        assert len(a) == len(b) == digits and len(text) == 3 * digits + 4
        assert int(answer[::-1] if reverse else answer) == int(a) + int(b)
        assert len(stops) >= 1


def test_all_sums_are_drawn_once():
    texts = data.additions(8100)
    pairs = {tuple(map(int, t.split("=")[0].split("+"))) for t in texts}
    assert pairs == {(a, b) for a in range(10, 100) for b in range(10, 100)}
    assert data.additions(5, seed=1) == data.additions(5, seed=1)
    assert data.additions(5, seed=1) != data.additions(5, seed=2)
    assert len(data.additions(100, 1)) == 100  # 0 to 9
    with pytest.raises(ValueError, match=r"`n` must be at most 8100.*Received: 8101"):
        data.additions(8101)


def test_no_sum_of_the_test_was_trained_on_not_even_turned_round():
    texts = data.additions(3000)
    train, test = data.split_sums(texts, 0.2, seed=3)
    assert sorted(train + test) == sorted(texts)
    assert 0.15 < len(test) / len(texts) < 0.25
    train_pairs, test_pairs = (
        {frozenset(t.split("=")[0].split("+")) for t in part} for part in (train, test)
    )
    assert not train_pairs & test_pairs
    assert data.split_sums(texts, 0.2, seed=4)[1] != test
    for share in (0.0, 1.0):
        with pytest.raises(ValueError, match=r"`share` must .*Received"):
            data.split_sums(texts, share)


def test_the_mask_counts_the_answer_and_one_stop():
    mask = data.answer_mask(["12+34=46..", "99+99=198."])
    assert mask.dtype == "float32"
    assert mask.tolist() == [[0] * 6 + [1] * 3 + [0], [0] * 6 + [1] * 4]


def test_characters_there_and_back():
    characters = data.Characters("0123456789+=.")
    texts = data.additions(20)
    ids = characters.encode(texts)
    assert ids.shape == (20, 10) and ids.dtype == "int32" and ids.max() < 13
    assert characters.decode(ids) == texts and characters.vocab_size == 13
    assert characters.encode("10+").tolist() == [1, 0, 10]
    assert characters.decode([1, 0, 10]) == "10+"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: data.Characters("aba"), r"`alphabet` must .*Received: 'aba'"),
        (lambda: data.Characters(""), r"`alphabet` must .*Received: ''"),
        (
            lambda: data.Characters("ab").encode("abc"),
            r"`text` must .*Received: \['c'\]",
        ),
        (lambda: data.Characters("ab").encode(["a", "ab"]), r"lengths \[1, 2\]"),
        (lambda: data.windows(np.arange(3), 4), r"`length` must .*Received: 4"),
        (lambda: data.windows(np.arange(9), 1), r"`length` must .*Received: 1"),
        (
            lambda: data.windows(np.arange(9), 3, stride=0),
            r"`stride` must .*Received: 0",
        ),
    ],
)
def test_what_cannot_be_used_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_windows_predict_each_token_once_unless_told_otherwise():
    cut = data.windows(range(11), 4)
    assert cut.tolist() == [[0, 1, 2, 3], [3, 4, 5, 6], [6, 7, 8, 9]]
    assert cut.dtype == "int32" and cut.flags.owndata
    assert data.windows(range(6), 4, stride=1).tolist() == [
        [0, 1, 2, 3],
        [1, 2, 3, 4],
        [2, 3, 4, 5],
    ]


def test_the_english_text_ships():
    text = data.english()
    assert 190_000 < len(text) <= 200_000 and text.isascii()
    assert text.startswith("First Citizen:\n") and text.endswith("\n")
    assert len(set(text)) == 62
