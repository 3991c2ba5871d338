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
    ("baseline.time_s / b", 4.0), ("true or none", None), ("a / zero", None), ("none + 1", None), ("log(zero)", None), ("log(zero - 1) * 2", None),
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


@given(st.sampled_from([d for d, units in UNITS.items() if len(units) > 1]), st.sampled_from(["8", "-8", "1_000", "8.5e12", "8e-9", "8k", "3 G"]),
       st.sampled_from(["{} < a.b", "a.b >= {}", "1 < other < 2 and a.b == {}", "a.b in [b.c, {}]"]), st.booleans())
def test_numbers_beside_quantities_have_units(dimension, number, around, needed):
    text, known = around.replace("{}", number), {"a.b": dimension, "b.c": dimension, "other": ""}
    if dimension and needed:
        shown = number.removeprefix("-")
        with pytest.raises(UsageError, match=re.escape(f"{shown!r} has no unit, and a.b is in {dimension}; write for ")) as found:
            parse(text, known, {"a.b"})
        # What is offered is accepted.
        fix = str(found.value).rpartition("example ")[2].strip("'")
        assert parse(around.replace("{}", fix), known, {"a.b"}).names[0] in ("a.b", "other")
    else:
        assert parse(text, known, {"a.b"} if needed else ()).text == text


@pytest.mark.parametrize("text", ["a.b > 0", "0.0 <= a.b", "a.b < b.c", "a.b < b.c * 2", "a.b / 1e9 < 3", "min(a.b, b.c) < 3",
                                  "a.b / b.c < 3", "other < 3", "a.b < 3 TB/s", "a.b in [1 TB/s, b.c]"])
def test_numbers_that_need_no_unit(text):
    assert parse(text, {"a.b": "B/s", "b.c": "B/s", "other": ""}, {"a.b", "b.c"}).text == text


@pytest.mark.parametrize(("text", "part", "why"), [
    ("1/0", "", "division by zero"), ("1 TB/s / (2 - 2)", "", "float division by zero"), ("1e308 * 10", "", "it is inf"),
    ("1e309 - 1e309", "", "it is nan"), ("9 ** 9 ** 9", "", "math range error"), ("'x' * 2", "", "a text is not a number"),
    ("a * (1 / 0)", "part", "division by zero"), ("a if a > b else log(-pi)", "part", "math domain error"),
    ("max(a, 5 % 0)", "part", "integer modulo by zero"), ("a in [1, 'x' < 3]", "part", "'<' not supported")])
def test_constants_without_a_value_are_refused(text, part, why):
    part = part and ": a part that reads no name"
    with pytest.raises(UsageError, match=f"^{re.escape(f'{text!r}{part} never has a value: {why}')}.*; correct it$"):
        parse(text, NAMES)


@given(st.floats(-9, 9), st.integers(-3, 3), st.integers(-3, 3))
def test_a_quotient_of_constants_is_a_value_or_refused(a, b, c):
    if b == c:
        with pytest.raises(UsageError, match=r"never has a value: (float )?division by zero"):
            parse(f"x + {a!r} / ({b} - {c})")
    else:
        assert parse(f"x + {a!r} / ({b} - {c})").value({"x": 1}) == 1 + a / (b - c)


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
    assert parse("a ** 9 ** 9").value({"a": 9}) is None
