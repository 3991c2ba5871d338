"""Changing single fields of a GPU, for what-if questions and tests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from turbosim.errors import UsageError, did_you_mean
from turbosim.hw.fields import ROOT
from turbosim.hw.spec import Gpu
from turbosim.units import parse


def with_overrides(gpu: Gpu, changes: Mapping[str, Any]) -> Gpu:
    """Return *gpu* with *changes* applied: dotted path to number (SI units) or text with a unit.

    Example: ``with_overrides(gpu, {"sm.count": 264, "hbm.bandwidth": "8 TB/s", "pipes.sfu.rate": 32})``.
    Raises UsageError for an unknown path or a value the field does not take.
    """
    tree = gpu.model_dump()
    for dotted, value in changes.items():
        keys = dotted.split(".")
        if dotted.startswith("tensor.mma.sync."):
            keys = ["tensor", "mma.sync", *dotted.removeprefix("tensor.mma.sync.").split(".")]
        node, place = ROOT, tree
        for depth, key in enumerate(keys):
            child = node.child(key)
            if child is None:
                known = [name for name, _ in node.children]
                where = ".".join(keys[:depth]) or gpu.name
                raise UsageError(f"unknown hardware field {dotted!r}: {where} has {', '.join(known)}"
                                 f"{did_you_mean(key, known)}")
            node = child
            if depth < len(keys) - 1:
                # Optional tables such as ``die`` are None when the file lacks them.
                if place.get(key) is None:
                    place[key] = {}
                place = place[key]
        if node.children:
            inside = ", ".join(name for name, _ in node.children)
            raise UsageError(f"hardware field {dotted!r} is a table: name one of {inside}")
        number = parse(value, node.dimension) if isinstance(value, str) and node.kind == "quantity" else value
        if isinstance(number, float) and number.is_integer() and node.dimension == "":
            number = int(number)
        place[keys[-1]] = number
    try:
        return Gpu.model_validate(tree)
    except ValidationError as error:
        first = error.errors()[0]
        path = ".".join(str(p) for p in first["loc"])
        raise UsageError(f"hardware field {path or 'values'}: {first['msg'].removeprefix('Value error, ')}") from None
