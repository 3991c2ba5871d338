from __future__ import annotations

import re

import pint
import pytest
from hypothesis import given
from hypothesis import strategies as st

from turbosim.errors import UsageError
from turbosim.units import UNITS, parse, show

REGISTRY = pint.UnitRegistry()
BASE = {"B": "byte", "B/s": "byte/s", "Hz": "1/s", "s": "s", "W": "W", "J": "J", "J/B": "J/byte"}


@pytest.mark.parametrize(("dimension", "unit"), [(d, u) for d in BASE for u in UNITS[d]])
def test_units_agree_with_pint(dimension, unit):
    spelled = unit.replace("B", "byte") if "B" in unit else unit
    expected = REGISTRY.Quantity(1, spelled).to(BASE[dimension]).magnitude
    assert parse(f"1 {unit}", dimension) == pytest.approx(expected)


@given(st.floats(1e-3, 1e15), st.sampled_from(["B", "B/s", "Hz"]))
def test_show_reads_back(value, dimension):
    assert parse(show(value, dimension, digits=12), dimension) == pytest.approx(value, rel=1e-9)


@pytest.mark.parametrize(("text", "dimension", "message"), [
    ("4.8", "B/s", "'4.8' has no unit; write for example '4.8 TB/s'"),
    ("4.8 Tb/s", "B/s", "'4.8 Tb/s' counts bits; write bytes, for example '4.8 TB/s'"),
    ("1.9 Ghz", "Hz", "'1.9 Ghz': unit 'Ghz' does not measure Hz (did you mean 'GHz'?)"),
    ("fast", "Hz", "'fast' is not a quantity; write for example '1.98 GHz'"),
    (True, "", "True is not a quantity; write for example '16'"),
    ("3 W", "", "'3 W': takes no unit, got 'W'; write 3"),
])
def test_bad_quantities(text, dimension, message):
    with pytest.raises(UsageError, match=f"^{re.escape(message)}$"):
        parse(text, dimension)


def test_decimal_and_binary_prefixes_differ():
    assert parse("1 GB", "B") == 1e9
    assert parse("1 GiB", "B") == 2**30
    assert parse("92 %", "") == 0.92
