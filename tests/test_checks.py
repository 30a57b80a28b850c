"""Checks name the argument, what was expected and what came."""

from __future__ import annotations

import numpy as np
import pytest

from genai_utils.checks import check_array, check_choice, check_positive


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
