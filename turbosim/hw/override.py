"""Changing single fields of a GPU, for what-if questions and tests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from turbosim.errors import UsageError, did_you_mean
from turbosim.hw.fields import ROOT, Node, missing, tree
from turbosim.hw.rules import Path, flat, violations
from turbosim.hw.spec import Gpu
from turbosim.units import parse


def with_overrides(gpu: Gpu, changes: Mapping[str, Any]) -> Gpu:
    """Return *gpu* with *changes* applied: dotted path to number (SI units) or text with a unit.

    Example: ``with_overrides(gpu, {"sm.count": 264, "hbm.bandwidth": "8 TB/s", "pipes.sfu.rate": 32})``.
    Raises UsageError, one line per defect, for unknown paths, values that the fields do not take, and broken rules
    between fields.
    """
    values: dict[Path, Any] = flat(gpu.model_dump())
    given: dict[Path, Any] = {}
    defects = []
    for dotted, value in changes.items():
        try:
            path, node = find_field(dotted, gpu.name)
            given[path] = value
            # A value that does not fit is unknown to the rules between fields.
            values[path] = None
            values[path] = fitting(node, dotted, value)
        except UsageError as error:
            defects.append(str(error))
    absent = list(missing(values))
    defects += [f"hardware field {'.'.join(path)}: missing" for path in absent]
    for sides in violations(values):
        side = next((s for s in sides if s.field in given), sides[0])
        if side.field not in absent:
            defects.append(f"hardware field {side.message(lambda p: str(given.get(p, values[p])))}")
    if defects:
        raise UsageError("\n".join(defects))
    return Gpu.model_validate(tree(values))


def find_field(dotted: str, owner: str) -> tuple[Path, Node]:
    """Return the path and node of the field called *dotted* of the GPU *owner*. Raises UsageError."""
    keys = dotted.split(".")
    if dotted.startswith("tensor.mma.sync."):
        keys = ["tensor", "mma.sync", *dotted.removeprefix("tensor.mma.sync.").split(".")]
    node = ROOT
    for depth, key in enumerate(keys):
        child = node.child(key)
        if child is None:
            where = ".".join(keys[:depth]) or owner
            known = [name for name, _ in node.children]
            has = f"has {', '.join(known)}" if known else "has no fields"
            raise UsageError(f"unknown hardware field {dotted!r}: {where} {has}{did_you_mean(key, known)}")
        node = child
    if node.children:
        inside = ", ".join(name for name, _ in node.children)
        raise UsageError(f"hardware field {dotted!r} is a table: name one of {inside}")
    return tuple(keys), node


def fitting(node: Node, dotted: str, value: Any) -> Any:
    """Return *value*, in SI units or a text with a unit, as the type of *node*. Raises UsageError."""
    if isinstance(value, str) and node.kind == "quantity":
        try:
            number: Any = parse(value, node.dimension)
        except UsageError as error:
            raise UsageError(f"hardware field {dotted}: {error}") from None
    else:
        number = value
    fitting, rule = node.check(number)
    if rule is not None:
        raise UsageError(f"hardware field {dotted}: {rule}, got {value}")
    return fitting
