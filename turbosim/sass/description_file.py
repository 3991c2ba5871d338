"""A launch description in a YAML file, every value with its place."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from ruamel.yaml.comments import CommentedMap, CommentedSeq

from turbosim.errors import ConfigError, did_you_mean
from turbosim.hw.document import key_place, read_document, shown, value_place
from turbosim.sass.description import NOUN, OPTIONS, Description, Field_, TensorArgument, checked_expression, seen


def read_description(path: Path, replaced: Collection[str] = ()) -> Description:
    """Return the description in a YAML file. Raises ConfigError with every defect, a line each.

    What the file says of the sizes, constants and compiler options *replaced* may be no expression: it is not used.
    """
    document = read_document(path, NOUN)
    given = _plain(document)
    unused = _set_aside(given, replaced)
    try:
        made = Description.model_validate(given)
    except ValidationError as error:
        raise ConfigError("\n".join(_defect(path, document, dict(e)) for e in error.errors())) from None
    for (table, name), value in unused.items():
        if table:
            getattr(made, table)[name] = value
        else:
            made = made.model_copy(update={name: value})
    made._places.update(_places_of(path, document, ()))  # noqa: SLF001 - made here
    if made.cubin:
        return made.with_code(cubin=shown(path.parent / made.cubin))
    file, colon, function = made.kernel.rpartition(":")
    return made.with_code(kernel=f"{shown(path.parent / file)}:{function}") if colon else made


def _set_aside(given: Any, replaced: Collection[str]) -> dict[tuple[str, str], Any]:
    """Put null in the place of values of the names *replaced* that are no expressions, and return them by table."""
    found = {}
    for table in ("", "sizes", "constants"):
        values = given.get(table) if table else given
        names = replaced if table else set(replaced) & set(OPTIONS)
        for name in names if isinstance(values, dict) else ():
            try:
                checked_expression(values.get(name))
            except ValueError:
                found[table, name], values[name] = values[name], None
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, CommentedMap):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, CommentedSeq):
        return [_plain(v) for v in value]
    return value


def _places_of(path: Path, node: Any, above: Field_) -> dict[Field_, str]:
    """Return the place of every value."""
    found: dict[Field_, str] = {}
    if isinstance(node, CommentedMap):
        for key, value in node.items():
            line, column = value_place(node, key)
            found[(*above, str(key))] = f"{shown(path)}:{line}:{column}"
            found |= _places_of(path, value, (*above, str(key)))
    elif isinstance(node, CommentedSeq):
        for n, value in enumerate(node):
            line, column = node.lc.item(n)
            found[(*above, n)] = f"{shown(path)}:{line + 1}:{column + 1}"
            found |= _places_of(path, value, (*above, n))
    return found


_WORDS = {"missing": "missing", "extra_forbidden": "unknown field", "string_type": "is a text",
          "dict_type": "is a table", "tuple_type": "is a list", "model_type": "is a table",
          "model_attributes_type": "is a table", "too_short": "has at least one entry",
          "too_long": "has at most three entries"}


def _defect(path: Path, document: CommentedMap, error: dict[str, Any]) -> str:
    """Return a pydantic error with its place, in this project's words."""
    kind, loc = error["type"], [p for p in error["loc"] if p not in ("tensor", "scalar")]
    node: Any = document
    place, names = (1, 1), []
    for part in loc:
        names.append(str(part))
        if isinstance(node, CommentedMap) and part in node:
            place = key_place(node, part) if kind == "extra_forbidden" else value_place(node, part)
            node = node[part]
        elif isinstance(node, CommentedSeq) and isinstance(part, int) and part < len(node):
            line, column = node.lc.item(part)
            node, place = node[part], (line + 1, column + 1)
    if not loc:
        # Of fields together: the message begins with the name of one.
        name, _, message = str(error["ctx"]["error"]).partition(": ")
        names = [name]
        place = value_place(document, name) if name in document else place
    elif kind == "value_error":
        message = str(error["ctx"]["error"])
    else:
        message = _WORDS.get(kind, error["msg"])
        if kind == "extra_forbidden":
            known = list((Description if len(loc) == 1 else TensorArgument).model_fields)
            message += f"{did_you_mean(str(loc[-1]), known)}; fields are {', '.join(known)}"
        elif kind != "missing":
            message += f", got {seen(error['input'])}"
    return f"{shown(path)}:{place[0]}:{place[1]}: {'.'.join(names)}: {message}"
