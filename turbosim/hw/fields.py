"""The fields of a hardware file, read off the model: paths, dimensions, and what keys a table may have."""

from __future__ import annotations

import types
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from turbosim.hw.spec import Gpu, Quantity


@dataclass(frozen=True)
class Node:
    """One place in the tree of a hardware file."""

    kind: Literal["model", "table", "quantity", "plain"]
    required: bool = True
    children: tuple[tuple[str, Node], ...] = ()
    """Fields of a model, or the allowed keys of a table."""
    dimension: str = ""
    choices: tuple[str, ...] = ()
    """Allowed values of a plain field, if limited."""
    python: type = str

    def child(self, key: str) -> Node | None:
        """Return the node under *key*, or None."""
        return dict(self.children).get(key)


def _strip(annotation: Any) -> tuple[Any, tuple[Any, ...], bool]:
    """Split an annotation into (type, metadata, optional)."""
    metadata: tuple[Any, ...] = ()
    optional = False
    while True:
        origin = get_origin(annotation)
        if origin is Annotated:
            annotation, *more = get_args(annotation)
            metadata += tuple(more)
        elif origin in (Union, types.UnionType):
            parts = [a for a in get_args(annotation) if a is not type(None)]
            optional = True
            annotation = parts[0]
        else:
            return annotation, metadata, optional


def _node(annotation: Any, metadata: tuple[Any, ...] = (), required: bool = True) -> Node:
    bare, more, optional = _strip(annotation)
    required = required and not optional
    for item in metadata + more:
        if isinstance(item, Quantity):
            return Node("quantity", required, dimension=item.dimension)
    if get_origin(bare) is dict:
        keys, values = get_args(bare)
        return Node("table", required, tuple((k.value, _node(values, required=False)) for k in keys))
    if get_origin(bare) is Literal:
        values = get_args(bare)
        return Node("plain", required, choices=tuple(str(v) for v in values), python=type(values[0]))
    if isinstance(bare, type) and issubclass(bare, BaseModel):
        return Node("model", required, tuple(_model_children(bare)))
    if isinstance(bare, type) and issubclass(bare, StrEnum):
        return Node("plain", required, choices=tuple(m.value for m in bare))
    return Node("plain", required, python=bare)


def _model_children(model: type[BaseModel]) -> Iterator[tuple[str, Node]]:
    for name, field in model.model_fields.items():
        yield name, _field_node(field)


def _field_node(field: FieldInfo) -> Node:
    return _node(field.annotation, tuple(field.metadata), field.is_required())


ROOT = _node(Gpu)
"""The tree of a complete hardware file."""


def node_at(path: tuple[str, ...]) -> Node | None:
    """Return the node at *path*, or None."""
    node: Node | None = ROOT
    for key in path:
        node = node.child(key) if node is not None else None
    return node
