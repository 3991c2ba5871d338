"""The fields of a hardware file, read off the model: paths, dimensions, keys of a table, values that fit."""

from __future__ import annotations

import types
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from turbosim.hw.rules import Path
from turbosim.hw.spec import Gpu, Quantity, Recorded


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
    recorded: bool = False
    """Whether no engine reads the field."""
    adapter: TypeAdapter[Any] = field(default=TypeAdapter(Any), compare=False, repr=False)
    """Takes the values that fit a leaf."""
    item: Node | None = None
    """What stands under every key of a table whose keys are free."""

    @property
    def is_table(self) -> bool:
        """Whether there are nodes below."""
        return bool(self.children) or self.item is not None

    def child(self, key: str) -> Node | None:
        """Return the node under *key*, or None."""
        return self.item or dict(self.children).get(key)

    @property
    def contents(self) -> str:
        """What the table holds, for a message."""
        if self.item is not None:
            return f"a table of names with {', '.join(name for name, _ in self.item.children)}"
        return f"a table of {', '.join(name for name, _ in self.children)}"

    def check(self, value: Any) -> tuple[Any, str | None]:
        """Return *value*, in SI units, as the leaf's type, and the rule it breaks, None if it fits."""
        if self.kind == "quantity" and isinstance(value, bool):
            return value, "must be a number"
        try:
            return self.adapter.validate_python(value), None
        except ValidationError as error:
            return value, _rule(error)


_RULES = {"greater_than": "must be greater than {gt:g}", "greater_than_equal": "must be at least {ge:g}",
          "less_than_equal": "must be at most {le:g}", "finite_number": "must be finite",
          "int_from_float": "must be a whole number", "int_parsing_size": "is too large"}


def _rule(error: ValidationError) -> str:
    first = error.errors()[0]
    text = _RULES.get(first["type"])
    return first["msg"].replace("Input should", "must") if text is None else text.format(**first.get("ctx", {}))


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
    if get_origin(bare) is dict:
        keys, values = get_args(bare)
        if keys is str:
            return Node("table", required, item=_node(values, required=False))
        return Node("table", required, tuple((k.value, _node(values, required=False)) for k in keys))
    if isinstance(bare, type) and issubclass(bare, BaseModel):
        return Node("model", required, tuple(_model_children(bare)))
    declared: Any = Annotated[annotation, *metadata] if metadata else annotation
    adapter: TypeAdapter[Any] = TypeAdapter(declared, config=ConfigDict(allow_inf_nan=False, defer_build=True))
    marks = (*metadata, *more)
    recorded = any(isinstance(mark, Recorded) for mark in marks)
    for item in marks:
        if isinstance(item, Quantity):
            return Node("quantity", required, dimension=item.dimension, python=bare, recorded=recorded, adapter=adapter)
    choices: tuple[str, ...] = ()
    if get_origin(bare) is Literal:
        choices, bare = tuple(str(v) for v in get_args(bare)), type(get_args(bare)[0])
    elif issubclass(bare, StrEnum):
        choices, bare = tuple(m.value for m in bare), str
    return Node("plain", required, choices=choices, python=bare, recorded=recorded, adapter=adapter)


def _model_children(model: type[BaseModel]) -> Iterator[tuple[str, Node]]:
    for name, info in model.model_fields.items():
        yield name, _field_node(info)


def _field_node(info: FieldInfo) -> Node:
    return _node(info.annotation, tuple(info.metadata), info.is_required())


ROOT = _node(Gpu)
"""The tree of a complete hardware file."""


def tree_of(model: type[BaseModel]) -> Node:
    """Return the tree of the files that *model* describes."""
    return _node(model)


def node_at(path: Path, root: Node = ROOT) -> Node | None:
    """Return the node at *path*, or None."""
    node: Node | None = root
    for key in path:
        node = node.child(key) if node is not None else None
    return node


def missing(present: Collection[Path], root: Node = ROOT) -> Iterator[Path]:
    """Yield the paths of required fields of *root* that are not among *present*.

    A table that is itself among *present* is taken to be complete.
    """
    begun = {path[:length] for path in present for length in range(1, len(path))}
    return _missing(present, begun, root, ())


def _missing(present: Collection[Path], begun: Collection[Path], node: Node, path: Path) -> Iterator[Path]:
    named = node.children
    if node.item is not None:
        given = dict.fromkeys(p[len(path)] for p in present if len(p) > len(path) and p[:len(path)] == path)
        named = tuple((name, node.item) for name in given)
    for name, child in named:
        here = (*path, name)
        if here in present:
            continue
        if here in begun:
            yield from _missing(present, begun, child, here)
        elif child.required and node.kind == "model":
            yield here


def tree(values: Mapping[Path, Any]) -> dict[str, Any]:
    """Return nested tables of *values* by path."""
    root: dict[str, Any] = {}
    for path, value in values.items():
        place = root
        for key in path[:-1]:
            place = place.setdefault(key, {})
        place[path[-1]] = value
    return root
