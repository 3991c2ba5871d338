"""A YAML document that is read whole: every defect in it with its position."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from ruamel.yaml.comments import CommentedMap, CommentedSeq

from turbosim.errors import ConfigError, UsageError, did_you_mean
from turbosim.hw.document import key_place, shown, value_place
from turbosim.study.axis import Axis
from turbosim.study.values import seen, with_unit

Loc = tuple[str | int, ...]
"""Keys and places in lists, from the root of a document."""
Model = TypeVar("Model", bound=BaseModel)
T = TypeVar("T")


class Strict(BaseModel):
    """A table with known keys, whose values are of their types."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Places:
    """A document and what is wrong with it."""

    def __init__(self, path: Path, document: CommentedMap) -> None:
        self.path = path
        self.document = document
        self.defects: list[tuple[int, int, str]] = []

    def place(self, loc: Loc, key: bool = False) -> tuple[int, int]:
        """Return line and column of the value at *loc*, or of its *key*, as far as the document goes."""
        node: Any = self.document
        found = (1, 1)
        for depth, step in enumerate(loc):
            last = depth == len(loc) - 1
            if isinstance(node, CommentedMap) and step in node:
                # An empty value stands wherever the document goes on.
                shown = node[step] is not None and not isinstance(node[step], CommentedMap)
                found = value_place(node, step) if last and not key and shown else key_place(node, step)
            elif isinstance(node, CommentedSeq) and isinstance(step, int) and step < len(node):
                line, column = node.lc.item(step)
                found = (line + 1, column + 1)
            else:
                break
            node = node[step]
        return found

    def where(self, loc: Loc, key: bool = False) -> str:
        """Return ``file:line:col`` of the value at *loc*, or of its *key*."""
        return ":".join(map(str, (shown(self.path), *self.place(loc, key))))

    def told(self, loc: Loc, message: str, key: bool = False) -> str:
        """Return *message* with where it belongs and what stands there."""
        names = ".".join(str(x) for x in loc if not isinstance(x, int))
        return f"{self.where(loc, key)}: {names}: {message}" if names else f"{self.where(loc, key)}: {message}"

    def entry(self, name: str) -> Loc:
        """Return where the study gives the axis, option or field called *name*."""
        bare = name.removeprefix("set.")
        for table, key in (("axes", name), ("workload", bare), ("options", bare), ("set", bare)):
            if key in (self.document.get(table) or ()):
                return table, key
        return (name,)

    def written(self, axis: Axis, place: int | str) -> str:
        """Return the value at *place* of *axis*, ``from`` and ``to`` of a range, as it is written."""
        raw: Any = self.document
        for key in self.entry(axis.name):
            raw = raw[key]
        texts = with_unit(list(raw) if isinstance(place, int) else [raw["from"], raw["to"]], axis.dimension)
        return str(texts[place if isinstance(place, int) else int(place == "to")])

    def defect(self, loc: Loc, message: str, key: bool = False) -> None:
        """Add a defect at *loc*."""
        self.defects.append((*self.place(loc, key), self.told(loc, message, key)))

    def finish(self) -> NoReturn:
        """Raise all defects, in the order of the file."""
        raise ConfigError("\n".join(dict.fromkeys(text for *_, text in sorted(self.defects))))

    def finish_if_defective(self) -> None:
        """Raise all defects if there are any."""
        if self.defects:
            self.finish()

    def attempt(self, loc: Loc, function: Callable[..., T], *arguments: Any) -> T | None:
        """Return what *function* returns; the UsageError it raises becomes a defect at *loc*."""
        try:
            return function(*arguments)
        except UsageError as error:
            self.defect(loc, str(error))
            return None

    def valid(self, model: type[Model], value: Any, loc: Loc) -> Model | None:
        """Return *value* as *model*; None, with defects, if it is not one."""
        try:
            return model.model_validate(value)
        except ValidationError as error:
            foreign = [str(item["loc"][-1]) for item in error.errors() if item["type"] == "extra_forbidden"]
            for item in error.errors():
                where, kind = item["loc"], item["type"]
                if kind == "extra_forbidden":
                    known = ["from" if f == "low" else f for f in model.model_fields]
                    self.defect((*loc, *where), f"unknown key{did_you_mean(str(where[-1]), known)}; there are "
                                                f"{', '.join(known)}", key=True)
                elif kind == "missing":
                    name = "from" if where[-1] == "low" else str(where[-1])
                    # One that is there, misspelt, is told as that.
                    if not any(did_you_mean(x, [name]) for x in foreign):
                        self.defect(loc, f"{name} is missing", key=True)
                else:
                    given = seen(item["input"])
                    text = {"dict_type": "must be a table, for example {name: value}",
                            "string_type": f"must be a text, for example '{given}'",
                            "list_type": f"must be a list, for example [{given}]"}.get(
                                kind, item["msg"].replace("Input should be", "must be"))
                    self.defect((*loc, *where), f"{text}, got {given}")
            return None
