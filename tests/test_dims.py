"""Symbolic dimensions: normal form, arithmetic, bounds on hostile text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taille._native import testing


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("8", "8"),
        ("0", "0"),
        ("batch", "batch"),
        ("sequence*batch", "batch*sequence"),
        ("batch*(sequence + 1) - batch", "batch*sequence"),
        ("2*batch + batch", "3*batch"),
        ("-batch + 4", "-batch + 4"),
        ("floor((4*batch)/2)", "2*batch"),
        ("floor((7)/2)", "3"),
        ("floor((h + 1)/2) + 1", "floor((h + 1)/2) + 1"),
    ],
)
def test_normal_form(text, normal):
    assert testing.dim_text(text) == normal
    assert testing.dim_text(testing.dim_text(text)) == normal


@pytest.mark.parametrize(
    "text",
    ["", "batch +", "(batch", "2batch", "floor((b)/0)", "floor(b/2)", "b & 1", "9" * 30, "(" * 100 + "b" + ")" * 100],
)
def test_malformed_text_is_refused(text):
    with pytest.raises(ValueError, match="dimension"):
        testing.dim_text(text)


def test_too_many_terms_are_refused():
    with pytest.raises(ValueError, match="terms"):
        testing.dim_text(" + ".join(f"s{i}" for i in range(100)))


def test_evaluation():
    assert testing.dim_evaluate("batch*sequence + floor((sequence - 1)/3)", {"batch": 2, "sequence": 9}) == 20
    assert testing.dim_evaluate("floor((b)/2)", {"b": -3}) == -2
    with pytest.raises(ValueError, match="'b' has no value"):
        testing.dim_evaluate("b", {})
    with pytest.raises(ValueError, match="overflow"):
        testing.dim_evaluate("b*b*b", {"b": 2**40})


def test_quotients():
    assert testing.dim_quotient("12*batch*sequence", "4*batch") == "3*sequence"
    assert testing.dim_quotient("batch + 1", "batch + 1") == "1"
    assert testing.dim_quotient("batch", "sequence") is None
    assert testing.dim_quotient("3*batch", "2") is None


coefficients = st.integers(-6, 6)


@given(coefficients, coefficients, coefficients, st.integers(1, 9), st.integers(1, 9))
def test_arithmetic_agrees_with_python(a, b, c, x, y):
    text = f"({a}*x + {b}*y + {c})*(x - {b})".replace("+ -", "- ").replace("- -", "+ ")
    assert testing.dim_evaluate(text, {"x": x, "y": y}) == (a * x + b * y + c) * (x - b)
