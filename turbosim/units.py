"""Quantities with units, as they stand in hardware files: ``4.8 TB/s``, ``50 MiB``, ``24 clk``.

Decimal and binary prefixes are distinct (GB is 1e9 bytes, GiB is 2**30). Values are kept in SI base units.
"""

from __future__ import annotations

import math
import re

from turbosim.errors import UsageError, did_you_mean

_DECIMAL = {"": 1.0, "k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}
_BINARY = {"Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40}

UNITS: dict[str, dict[str, float]] = {
    "B": {f"{p}B": f for p, f in (_DECIMAL | _BINARY).items() if p != "K"},
    "B/s": {f"{p}B/s": f for p, f in (_DECIMAL | _BINARY).items() if p != "K"},
    "Hz": {f"{p}Hz": f for p, f in _DECIMAL.items() if p != "K"},
    "s": {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9},
    "B/clk": {"B/clk": 1.0},
    "MAC/clk": {"MAC/clk": 1.0},
    "/clk": {"/clk": 1.0},
    "clk": {"clk": 1.0},
    "W": {"W": 1.0, "kW": 1e3},
    "J": {"J": 1.0, "mJ": 1e-3, "uJ": 1e-6, "nJ": 1e-9, "pJ": 1e-12},
    "J/B": {"J/B": 1.0, "pJ/B": 1e-12},
    "J/MAC": {"J/MAC": 1.0, "pJ/MAC": 1e-12},
    "mm2": {"mm2": 1.0},
    "um2": {"um2": 1.0},
    "Tr": {"Tr": 1.0, "kTr": 1e3, "MTr": 1e6},
    "Tr/mm2": {"Tr/mm2": 1.0, "MTr/mm2": 1e6},
    "/cm2": {"/cm2": 1.0},
    "USD": {"USD": 1.0},
    "USD/GB": {"USD/GB": 1.0},
    "": {"": 1.0, "%": 0.01},
}
"""Accepted units per dimension, with their factor to the base unit (the dimension's own name)."""

_QUANTITY = re.compile(r"\s*([-+]?(?:\d[\d_]*\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*(.*?)\s*")
_DISPLAY = ("B", "B/s", "Hz")


def parse(text: object, dimension: str) -> float:
    """Return *text* in the base unit of *dimension*, a key of :data:`UNITS`.

    Plain numbers are accepted where the dimension is ``""``. Raises UsageError with the rule and the likely fix.
    """
    units = UNITS[dimension]
    if isinstance(text, bool) or not isinstance(text, (int, float, str)):
        raise UsageError(f"{text!r} is not a quantity; write for example {example(dimension)!r}")
    text = str(text)
    match = _QUANTITY.fullmatch(text)
    if match is None:
        raise UsageError(f"{text!r} is not a quantity; write for example {example(dimension)!r}")
    number, unit = float(match[1].replace("_", "")), match[2]
    if unit in units:
        value = number * units[unit]
        if math.isinf(value):
            raise UsageError(f"{text!r} is too large: the largest float is about 1.8e308")
        return value
    if not unit:
        raise UsageError(f"{text!r} has no unit; write for example {with_likely_unit(match[1], dimension)!r}")
    if "b" in unit.replace("B", "") and "B" in dimension:
        raise UsageError(f"{text!r} counts bits; write bytes, for example {example(dimension)!r}")
    wanted = f"unit {unit!r} does not measure {dimension}" if dimension else f"takes no unit, got {unit!r}"
    hint = did_you_mean(unit, [u for u in units if u])
    fix = f"; write for example {example(dimension)!r}" if dimension else f"; write {match[1]}"
    raise UsageError(f"{text!r}: {wanted}{hint or fix}")


def _common(dimension: str) -> str:
    return {"B": "GiB", "B/s": "TB/s", "Hz": "GHz", "s": "ns", "J": "pJ", "J/B": "pJ/B", "J/MAC": "pJ/MAC"}.get(
        dimension, dimension)


def with_likely_unit(number: str, dimension: str) -> str:
    """Return *number*, written without a unit, with one of *dimension*: 4.8 are TB/s, and 4.8e12 B/s."""
    usual = 1e-3 <= abs(float(number.replace("_", ""))) < 1e4
    return f"{number} {_common(dimension) if usual else dimension}"


def example(dimension: str) -> str:
    """Return a quantity of *dimension* as one may write it."""
    number = {"B": "50", "B/s": "4.8", "Hz": "1.98", "s": "650"}.get(dimension, "16")
    return f"{number} {_common(dimension)}".strip()


def show(value: float, dimension: str, digits: int = 4) -> str:
    """Return *value* with the decimal unit that reads best. Inverse of :func:`parse` to *digits* digits."""
    if dimension in ("s", "J"):
        smallest = list(UNITS[dimension])[-1]
        for unit, factor in UNITS[dimension].items():
            if abs(value) >= factor or unit == smallest:
                return f"{value / factor:.{digits}g} {unit}"
    if dimension not in _DISPLAY:
        return f"{value:.{digits}g} {dimension}".strip()
    prefix = next((p for p in ("T", "G", "M", "k", "") if abs(value) >= _DECIMAL[p]), "")
    return f"{value / _DECIMAL[prefix]:.{digits}g} {prefix}{dimension}"


def count(text: str, what: str) -> int:
    """Parse a positive size: 8192, or 8k for 8192. Raises UsageError."""
    match = re.fullmatch(r"(-?\d+)(k|K|m|M)?", text.strip())
    if match is None:
        raise UsageError(f"{what}: {text!r} is not a size; write for example 8192 or 8k")
    value = int(match[1]) * {None: 1, "k": 1024, "m": 1024**2}[match[2] and match[2].lower()]
    if value < 1:
        raise UsageError(f"{what}: must be at least 1, got {text}")
    return value
