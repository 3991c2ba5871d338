"""Rules between the fields of a GPU. They hold for a hardware file and for a GPU built in Python alike.

A rule looks at values by path and skips those it is not given, so that the rules can be checked on what is left of a
file with other defects.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from turbosim.hw.names import OpClass

Path = tuple[str, ...]
"""Keys from the root of a hardware file to a field."""


@dataclass(frozen=True)
class Finding:
    """A broken rule, seen from one of the fields it relates."""

    field: Path
    rule: str
    other: Path | None = None
    """The field it is measured against."""
    why: str = ""

    def message(self, text: Callable[[Path], str]) -> str:
        """Return the message, *text* giving the value of a field as the reader knows it."""
        return f"{'.'.join(self.field)}: {self.detail(text)}"

    def detail(self, text: Callable[[Path], str]) -> str:
        """Return the message without the field."""
        if self.other is None:
            return self.rule
        return f"{self.rule} {'.'.join(self.other)} ({text(self.other)}), got {text(self.field)}{self.why}"


ORDERED: tuple[tuple[Path, Path, str], ...] = (
    (("sm", "smem_per_cta"), ("sm", "smem_capacity"), ""),
    (("clock", "tensor_spec"), ("clock", "boost"), ""),
    (("energy", "lowest_clock"), ("clock", "boost"), ""),
    (("l2", "latency_near"), ("l2", "latency_far"), ""),
    (("l2", "latency_far"), ("hbm", "latency"), ": a miss cannot be faster than a hit"),
)
"""Pairs of fields of which the first must not exceed the second, and why if it is not plain."""


def violations(values: Mapping[Path, Any]) -> Iterator[tuple[Finding, ...]]:
    """Yield every broken rule, as one finding per field that could be mended.

    *values* maps paths to values in SI units, None where a value is not known.
    """
    yield from _unordered(values)
    yield from _incomplete(values)


def _unordered(values: Mapping[Path, Any]) -> Iterator[tuple[Finding, ...]]:
    for low, high, why in ORDERED:
        a, b = values.get(low), values.get(high)
        if a is not None and b is not None and a > b:
            yield Finding(low, "must be at most", high, why), Finding(high, "must be at least", low, why)


def _incomplete(values: Mapping[Path, Any]) -> Iterator[tuple[Finding, ...]]:
    classes = {path[1] for path in values if path[0] == "pipes" and len(path) > 1}
    for wanted in OpClass:
        if wanted is not OpClass.SAS and wanted not in classes:
            yield (Finding(("pipes", wanted.value), "missing: every operation class but sas needs a pipe"),)
    paths = {path[1] for path in values if path[0] == "tensor" and len(path) > 1}
    if not paths:
        yield (Finding(("tensor",), "missing: needs at least one instruction path"),)
    for name in sorted(paths):
        if not any(path[:3] == ("tensor", name, "rates") and len(path) > 3 for path in values):
            yield (Finding(("tensor", name, "rates"), "missing: needs the rate of at least one operand type"),)


def flat(tree: Mapping[Any, Any], path: Path = ()) -> dict[Path, Any]:
    """Return the values of nested tables by path, without those that are None."""
    values: dict[Path, Any] = {}
    for key, value in tree.items():
        here = (*path, str(key))
        if isinstance(value, Mapping):
            values |= flat(value, here)
        elif value is not None:
            values[here] = value
    return values
