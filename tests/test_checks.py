"""Checks name the argument, what was expected and what came."""

from __future__ import annotations

import numpy as np
import pytest

from genai_utils.checks import (
    check_array,
    check_choice,
    check_positive,
    check_whole,
    within,
)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: check_array([], "a"), "`a` must hold at least one value"),
        (lambda: check_array([np.nan], "a"), "`a` must be finite"),
        (lambda: check_array([2.0], "a", high=1), "`a` must lie in"),
        (lambda: check_array([1.0], "a", ndim=2), "`a` must have 2 axes"),
        (lambda: check_array([[1.0]], "a", shape=(None, 2)), "`a` must have shape"),
        (lambda: check_choice("c", "a", ("b",)), "`a` must be one of 'b'"),
        (lambda: check_positive(0, "a"), "`a` must be a finite number above 0"),
        (lambda: check_positive(float("inf"), "a"), "`a` must be a finite number"),
        (lambda: within(1, 3, 2), "`low` must be at most `high`"),
    ],
)
def test_checks_name_argument_expectation_and_what_came(call, message):
    with pytest.raises(ValueError, match=message) as error:
        call()
    assert "Received: " in str(error.value)


def test_checks_refuse_what_is_no_number():
    with pytest.raises(TypeError, match="`a` must hold real numbers"):
        check_array(["x"], "a")
    with pytest.raises(TypeError, match="`a` must be a number"):
        check_positive(True, "a")


def test_a_band_holds_on_digits_and_is_only_reported_elsewhere(capsys):
    assert within(0.5, 0.4, 0.6) and within(0.5, high=0.6) and within(0.5, 0.4)
    assert not within(0.7, 0.4, 0.6) and not within(0.3, low=0.4)
    assert not within(float("nan"), 0.4, 0.6)
    assert capsys.readouterr().out == ""
    assert within(0.7, 0.4, 0.6, "mnist")
    assert capsys.readouterr().out == "0.7 on mnist (band of digits: 0.4 to 0.6)\n"


@pytest.mark.parametrize("value", [3, np.int64(3)])
def test_a_whole_number_is_returned_as_an_int(value):
    assert type(check_whole(value, "k", 3)) is int


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        (True, TypeError, "`k` must be a whole number above 0. Received: True"),
        (3.0, TypeError, "`k` must be a whole number above 0. Received: 3.0"),
        (0, ValueError, "`k` must be a finite number above 0. Received: 0"),
        (2, ValueError, "`k` must be at least 3. Received: 2"),
    ],
)
def test_no_whole_number_is_refused(value, error, message):
    with pytest.raises(error, match=message):
        check_whole(value, "k", 3)
