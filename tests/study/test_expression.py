"""Expressions of studies."""

from __future__ import annotations

import math
import operator
import re
from collections import defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turbosim.errors import UsageError
from turbosim.study.expression import parse
from turbosim.units import UNITS

NAMES = {"a": 3, "b": 0.5, "hbm.bandwidth": 4.8e12, "kernel": "flash", "tma": True, "zero": 0, "none": None,
         "tensor.mma.sync.rates.fp16": 1024, "baseline.time_s": 2.0, "big": 1e308}


@pytest.mark.parametrize(("text", "value"), [
    ("a + 1", 4), ("a * b", 1.5), ("a // 2", 1), ("a % 2", 1), ("a ** 2", 9), ("-a", -3), ("not tma", False),
    ("8k", 8192), ("1M", 1048576), ("8 TB/s", 8e12), ("50 MiB", 50 * 2**20), ("1.98 GHz", 1.98e9), ("2us", 2e-6),
    ("hbm.bandwidth <= 8 TB/s", True), ("hbm.bandwidth / 1e9", 4800), ("1 < a < 3", False), ("1 < a <= 3", True),
    ("kernel == 'flash' and a > 1", True), ("kernel in ['turbo', 'flash3']", False), ("a if tma else b", 3),
    ("min(a, b, 2)", 0.5), ("log2(8)", 3), ("sqrt(9)", 3), ("tensor.mma.sync.rates.fp16 / 2", 512),
    ("baseline.time_s / b", 4.0), ("true or none", None), ("a / zero", None), ("none + 1", None), ("log(zero)", None),
    ("big * 10", None), ("big ** 9", None), ("(1 TB/s + 1 TB/s) / 1 TB/s", 2), ("abs(-2) * pi", 2 * math.pi)])
def test_values(text, value):
    assert parse(text, NAMES).value(NAMES) == value


@given(st.integers(-9, 9), st.floats(0.1, 9), st.sampled_from(["+", "-", "*", "/", "<", "<=", "==", "!="]))
def test_values_are_those_of_python(a, b, sign):
    function = {"+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv, "<": operator.lt,
                "<=": operator.le, "==": operator.eq, "!=": operator.ne}[sign]
    assert parse(f"x {sign} y").value({"x": a, "y": b}) == function(a, b)


@pytest.mark.parametrize(("text", "message"), [
    ("a +", "'a +' is not an expression"),
    ("", "'' is not an expression"),
    ("8 TBs", "'8 TBs' is not an expression: '8 TBs' has no unit that is known"),
    ("c + 1", "'c + 1': unknown name 'c'"),
    ("hbm.bandwith", "'hbm.bandwith': unknown name 'hbm.bandwith' (did you mean 'hbm.bandwidth'?)"),
    ("open(a)", "'open(a)' calls 'open': functions are min, max, abs, sqrt, exp, log, log2, ceil, floor"),
    ("mn(1, 2)", "(did you mean 'min'?)"),
    ("().__class__", "is not allowed; expressions have numbers, names"),
    ("a.b.__class__", "unknown name 'a.b.__class__'"),
    ("[x for x in a]", "ListComp is not allowed"), ("lambda: 1", "Lambda is not allowed"),
    ("a[0]", "Subscript is not allowed"), ("f'{a}'", "JoinedStr is not allowed"), ("a @ b", "an operator is not"),
    ("a << 3", "an operator is not allowed"), ("~a", "an operator is not allowed"), ("a is b", "an operator is not"),
    ("b'x'", "is neither a number nor a text"), ("(a := 1)", "NamedExpr is not allowed"), ("1j", "is neither"),
])
def test_what_is_refused(text, message):
    with pytest.raises(UsageError, match=re.escape(message)):
        parse(text, NAMES)


@given(st.sampled_from(sorted(UNITS)), st.sampled_from([u for units in UNITS.values() for u in units if u[:1].isalpha()] +
                                                       ["k", "M"]),
       st.sampled_from(["<", "<=", "==", "!=", ">", ">="]), st.booleans(),
       st.sampled_from(["{}", "other > 1 and {}", "1 us < 2 or not ({})", "kernel == 'µ' or {}", "{} or {}"]))
def test_names_are_compared_with_quantities_of_their_dimension(dimension, unit, sign, turned, around):
    comparison = f"8 {unit} {sign} a.b" if turned else f"a.b {sign} 8 {unit}"
    text = around.replace("{}", comparison)
    known = {"a.b": dimension, "other": "", "kernel": "", "time_s": "s"}
    if not dimension or unit in UNITS[dimension] or unit in ("k", "M"):
        assert parse(text, known).text == text
    else:
        with pytest.raises(UsageError, match=re.escape(f"'8 {unit}': unit '{unit}' does not measure {dimension}, as a.b does")):
            parse(text, known)
    # What becomes of it in arithmetic is not followed.
    assert parse(f"a.b / time_s {sign} 8 {unit}", known).names == ("a.b", "time_s")


def test_texts_are_not_calculated_with():
    with pytest.raises(UsageError, match=re.escape("'kernel * 2' has no value: a text is not a number")):
        parse("kernel * 2", NAMES).value(NAMES)
    with pytest.raises(UsageError, match="has no value"):
        parse("kernel < 2", NAMES).value(NAMES)


@given(st.text(max_size=20))
def test_any_text_is_an_expression_or_refused(text):
    try:
        found = parse(text)
        found.value(defaultdict(lambda: 1.0))
    except UsageError:
        return
    assert found.text == text


def test_a_power_is_a_float_so_that_none_takes_long():
    assert parse("9 ** 9 ** 9").value({}) is None
