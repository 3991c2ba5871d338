"""Values of hardware axes that no point of a study can have: the rules between fields refuse them everywhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from turbosim.hw import Resolved
from turbosim.hw.fields import missing
from turbosim.hw.override import find_field
from turbosim.hw.rules import Finding, flat, violations
from turbosim.hw.rules import Path as Field
from turbosim.study.axis import Axis, Kind, Value

Place = int | str
"""Of a value on its axis: which of a list, or ``from`` and ``to`` of a range."""


def impossible(hardware: Mapping[str, Resolved], axes: Sequence[Axis], written: Callable[[Axis, Place], str]
               ) -> Iterator[tuple[Axis, Place, str]]:
    """Yield every value that is refused on all GPUs whatever the other axes have, with the broken rule.

    *written* gives a value as the reader knows it.
    """
    varied = {find_field(a.name, "")[0]: a for a in axes if a.kind is Kind.HARDWARE}
    bases = {hw: flat(r.gpu.model_dump()) | dict.fromkeys(varied) for hw, r in hardware.items()}

    def rule(hw: str, path: Field, place: Place, value: Value) -> str | None:
        """Return what refuses *value* on the GPU *hw*."""
        values = bases[hw] | {path: value}
        for absent in missing(values):
            if absent[:-1] == path[:-1]:
                return f"{hw} has no {'.'.join(absent)}, which goes with it"

        def text(at: Mapping[Field, Place], field: Field) -> str:
            return written(varied[field], at[field]) if field in at else hardware[hw].leaves[field].text

        if (found := _broken(values, path)) is not None:
            return found.detail(partial(text, {path: place}))
        for other, axis in varied.items():
            refused = [(end, broken) for end, most in _values(axis) if other != path
                       and (broken := _broken(values | {other: most}, path)) is not None]
            if refused and len(refused) == len(list(_values(axis))):
                end, broken = refused[-1]
                return broken.detail(partial(text, {path: place, other: end}))
        return None

    for path, axis in varied.items():
        for place, value in _values(axis):
            rules = [rule(hw, path, place, value) for hw in hardware]
            if all(rules):
                yield axis, place, str(rules[0])


def _values(axis: Axis) -> Iterator[tuple[Place, Value]]:
    """Yield the values of *axis*, of a range the ends: between them, a rule holds where it holds at one."""
    if axis.range is not None:
        yield from (("from", axis.range.low), ("to", axis.range.high))
    else:
        yield from enumerate(axis.values)


def _broken(values: Mapping[Field, Any], path: Field) -> Finding | None:
    """Return the first broken rule that *path* could mend."""
    return next((side for sides in violations(values) for side in sides if side.field == path), None)
