"""Single values of a study file: what a field, an option or a unit makes of what is written."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, cast

from ruamel.yaml.comments import CommentedMap, CommentedSeq, TaggedScalar

from turbosim.engine.api import CLOCKS, ENGINES, L2_STARTS, LAUNCH_MODES
from turbosim.errors import UsageError, did_you_mean
from turbosim.hw.fields import Node
from turbosim.study.axis import Value
from turbosim.units import UNITS, parse

CHOICES: dict[str, tuple[str, ...]] = {"clock": CLOCKS, "launch": LAUNCH_MODES, "l2": L2_STARTS, "engine": ENGINES}
"""How a program may be run."""


def number(node: Node, value: Any) -> Value:
    """Return *value* as the hardware field takes it. Raises UsageError.

    A number needs its unit where there are several: a forgotten TB/s would be B/s.
    """
    if isinstance(value, (CommentedMap, CommentedSeq)):
        raise UsageError(f"must be a single value, got {seen(value)}")
    if (node.kind == "quantity" and node.dimension and len(UNITS[node.dimension]) > 1
            and isinstance(value, (int, float)) and not isinstance(value, bool)):
        value = f"{value:.12g}"
    bare = parse(value, node.dimension) if isinstance(value, str) and node.kind == "quantity" else value
    fitting, rule = node.check(bare)
    if rule is not None:
        raise UsageError(f"{rule}, got {value}")
    return cast(Value, fitting)


def chosen(name: str, value: Any) -> Value:
    """Return *value* as the option *name* of a run. Raises UsageError."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if name == "clock" and (is_number or str(value)[:1].isdigit()):
        hertz = parse(value, "Hz") if isinstance(value, str) else float(value)
        if not 1e6 <= hertz <= 1e11:
            raise UsageError(f"must be 1 MHz to 100 GHz, got {value}")
        return hertz
    known = CHOICES[name]
    if value not in known:
        more = " or a frequency" if name == "clock" else ""
        raise UsageError(f"must be one of {', '.join(known)}{more}, got {seen(value)}"
                         f"{did_you_mean(str(value), known)}")
    return str(value)


def option(value: Any) -> Value:
    """Return *value* as one of a kernel option, which the kernel checks. Raises UsageError."""
    if not isinstance(value, (bool, int, str)):
        raise UsageError(f"must be a whole number, true, false or a text, got {seen(value)}")
    return value if isinstance(value, (bool, int)) else str(value)


def with_unit(values: list[Any], dimension: str) -> list[Any]:
    """Return *values* with the unit of the last one, if it has one, at those that have none."""
    def has_unit(value: Any) -> bool:
        return isinstance(value, str) and re.fullmatch(r"[-+.\d_eE]+", value.strip()) is None

    if not dimension or not any(has_unit(v) and v.strip()[:1] in "+-.0123456789" for v in values if isinstance(v, str)):
        return values
    last = str(values[-1])
    unit = re.sub(r"^\s*[-+]?(?:\d[\d_]*\.?\d*|\.\d+)(?:[eE][-+]?\d+)?\s*", "", last) if has_unit(values[-1]) else ""
    # A bare number among others with units is told by the reader of quantities.
    return [v if has_unit(v) or isinstance(v, bool) or not isinstance(v, (int, float, str)) else f"{v} {unit}".strip()
            for v in values]


def seen(value: Any) -> str:
    """Return *value* for a message."""
    if value is None:
        return "nothing"
    if isinstance(value, Mapping):
        return "a table"
    if isinstance(value, TaggedScalar):
        return f"a value with the tag {value.tag.value}"
    return "a list" if isinstance(value, list) else repr(value)
