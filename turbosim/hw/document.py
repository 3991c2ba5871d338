"""One YAML document with the position of everything in it."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap
from ruamel.yaml.constructor import DuplicateKeyError
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from turbosim.errors import ConfigError


def read_document(path: Path, noun: str = "hardware file") -> CommentedMap:
    """Return the table in the YAML file *path*, which is a *noun*. Raises ConfigError if there is none."""
    try:
        document = _parsed(path.read_text(encoding="utf-8"))
    except MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"{mark.line + 1}:{mark.column + 1}" if mark is not None else "1:1"
        problem = str(error.problem).split("\n")[0].strip()
        fix = "; drop one" if isinstance(error, DuplicateKeyError) else ""
        raise ConfigError(f"{shown(path)}:{where}: not valid YAML: {problem}{fix}") from None
    except (YAMLError, ValueError) as error:
        # ValueError: bytes that are not UTF-8, or a tag such as !!int before what is none.
        raise ConfigError(f"{shown(path)}:1:1: not valid YAML: {str(error).splitlines()[0]}") from None
    except RecursionError:
        raise ConfigError(f"{shown(path)}:1:1: nested too deeply for {_a(noun)}") from None
    except OSError as error:
        raise ConfigError(f"{shown(path)}: cannot be read: {error.strerror}") from None
    if not isinstance(document, CommentedMap):
        raise ConfigError(f"{shown(path)}:1:1: {_a(noun)} is a table of fields, got {_kind(document)}")
    return document


@lru_cache(maxsize=64)
def _parsed(text: str) -> Any:
    """Return the document in *text*, the same object for the same text: it is only read."""
    return YAML(typ="rt").load(text)


def _a(noun: str) -> str:
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"


def _kind(document: object) -> str:
    return "nothing" if document is None else "a list" if isinstance(document, list) else f"the value {document!r}"


def key_place(mapping: CommentedMap, key: Any) -> tuple[int, int]:
    """Return line and column of *key*, counted from 1; those of *mapping* for a key that it merges (``<<``)."""
    return _place(mapping, mapping.lc.key, key)


def value_place(mapping: CommentedMap, key: Any) -> tuple[int, int]:
    """Return line and column of the value of *key*, as :func:`key_place`."""
    return _place(mapping, mapping.lc.value, key)


def _place(mapping: CommentedMap, find: Callable[[Any], tuple[int, int] | None], key: Any) -> tuple[int, int]:
    try:
        place = find(key)
    except KeyError:
        place = None
    line, column = place or (mapping.lc.line, mapping.lc.col)
    return line + 1, column + 1


def shown(path: Path) -> str:
    """Return *path* as short as it can be from the working directory."""
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(path)
