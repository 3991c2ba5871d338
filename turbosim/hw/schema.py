"""The JSON schema of hardware files, for editors. Draft 7, the newest that the YAML language server documents."""

from __future__ import annotations

import re
from typing import Any

from turbosim.hw.fields import ROOT, Node
from turbosim.units import UNITS


def json_schema() -> dict[str, Any]:
    """Return the schema. Nothing is required, since a file may extend another."""
    schema = _schema(ROOT)
    schema["properties"] |= {
        "extends": {"type": "string", "description": "Name of the hardware file this one changes."},
        "sources": {"type": "object", "additionalProperties": {"type": "string"},
                    "description": "Citation for every tag used as a source."},
        "fitted": {"type": "object", "description": "What values were fitted on, as `turbosim calibrate` writes it."},
    }
    return {"$schema": "http://json-schema.org/draft-07/schema#", "title": "turbosim hardware file", **schema}


def _schema(node: Node) -> dict[str, Any]:
    described = {"description": "Recorded, not simulated."} if node.recorded else {}
    return described | _type(node)


def _type(node: Node) -> dict[str, Any]:
    if node.kind in ("model", "table"):
        return {"type": "object", "additionalProperties": False,
                "properties": {name: _schema(child) for name, child in node.children}}
    if node.kind == "quantity":
        return {"type": "object", "additionalProperties": False, "required": ["value", "source"],
                "properties": {"value": _value(node.dimension), "fitted_on": {"type": "string"},
                               "source": {"anyOf": [{"type": "string"},
                                                    {"type": "array", "items": {"type": "string"}, "minItems": 1}]}}}
    if node.python is int:
        return {"enum": [int(c) for c in node.choices]} if node.choices else {"type": "integer"}
    if node.choices:
        return {"enum": list(node.choices)}
    return {"type": {str: "string", bool: "boolean"}[node.python]}


def _value(dimension: str) -> dict[str, Any]:
    if not dimension:
        return {"anyOf": [{"type": "number"}, {"type": "string", "pattern": "^[0-9._eE+-]+ ?%$"}]}
    units = "|".join(re.escape(u) for u in UNITS[dimension])
    return {"type": "string", "pattern": f"^[0-9._eE+-]+ ?({units})$"}
