"""Expressions of a study: constraints between the values of a point, and metrics derived from a row.

Numbers may have a unit (``8 TB/s``, ``50 MiB``) or a binary suffix (``8k``, ``1M``); names may have dots
(``hbm.bandwidth``, ``baseline.time_s``). Only arithmetic, comparisons and a few functions are known; nothing is run.
"""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Callable, Container, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from turbosim.arithmetic import COMPARISON, MEMBERSHIP, PARTS, POWER, SIGN, SUM, Arithmetic, dotted
from turbosim.errors import UsageError, did_you_mean
from turbosim.units import UNITS, example, with_likely_unit

Value = int | float | bool | str

FUNCTIONS: dict[str, Callable[..., Any]] = {
    "min": min, "max": max, "abs": abs, "sqrt": math.sqrt, "exp": math.exp, "log": math.log, "log2": math.log2,
    "ceil": math.ceil, "floor": math.floor}
_CONSTANTS: dict[str, Value] = {"true": True, "false": False, "True": True, "False": False, "pi": math.pi}
_BINARY = {"k": 1024.0, "K": 1024.0, "M": 1024.0**2, "G": 1024.0**3}
_FACTORS = {unit: factor for units in UNITS.values() for unit, factor in units.items()
            if unit and unit[0].isalpha()} | _BINARY
_NUMBER = r"(?:\d[\d_]*\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_UNIT = "|".join(re.escape(unit) for unit in sorted(_FACTORS, key=len, reverse=True))
_QUANTITY = re.compile(rf"(?<![\w.])({_NUMBER})\s*({_UNIT})(?![\w/])")
_GRAMMAR = "expressions have numbers, names, + - * / // % **, comparisons, and, or, not, if, " + ", ".join(FUNCTIONS)


def _number(_: ast.expr, value: Any) -> Any:
    if isinstance(value, str):
        raise TypeError("a text is not a number")
    return value


_ARITHMETIC = Arithmetic(SUM | POWER | SIGN | COMPARISON | MEMBERSHIP, FUNCTIONS, operand=_number)


@dataclass(frozen=True)
class Expression:
    """A checked expression."""

    text: str
    tree: ast.expr = field(repr=False, compare=False)
    names: tuple[str, ...]
    """Names it reads, dotted ones whole."""

    def value(self, names: Mapping[str, Any]) -> Any:
        """Return its value over *names*; None if a name it reads has none, or the value does not exist.

        Raises UsageError for operands that do not go together.
        """
        if any(names[name] is None for name in self.names):
            return None
        try:
            found = _ARITHMETIC.value(self.tree, lambda name: _CONSTANTS[name] if name in _CONSTANTS else names[name])
        except (ZeroDivisionError, OverflowError, ValueError):
            return None
        except TypeError as error:
            raise UsageError(f"{self.text!r} has no value: {error}") from None
        return None if isinstance(found, float) and not math.isfinite(found) else found


def parse(text: str, known: Mapping[str, object] | None = None, quantities: Container[str] = ()) -> Expression:
    """Return *text* as an expression over the names *known*, by dimension (a key of UNITS, or else none), any if None.

    Raises UsageError for what is no expression, has parts that are not allowed or read no name and have no value,
    reads an unknown name, compares a name with a quantity of another dimension, or compares one of *quantities* with a
    number other than 0 that has no unit.
    """
    plain, products = _without_units(text.strip())
    try:
        tree = ast.parse(plain, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        unit = re.search(rf"(?<![\w.]){_NUMBER}\s*([A-Za-z][\w/]*)", text)
        hint = f": {unit[0]!r} has no unit that is known" if unit and unit[1] not in _FACTORS else ""
        raise UsageError(f"{text!r} is not an expression{hint}") from None
    names: dict[str, None] = {}
    _check(tree, text, names)
    for name in names:
        if known is not None and name not in known:
            # The tables of a study are no part of a name, but set is.
            likely = next((x for x in (name.partition(".")[2], f"set.{name.rpartition('.')[2]}") if x in known), None)
            raise UsageError(f"{text!r}: unknown name {name!r}{did_you_mean(likely or name, known)}")
    for node in _constants(tree):
        _check_constant(node, text, whole=node is tree)
    for name, other in _comparisons(tree):
        _check_unit(name, other, text, plain, products, str((known or {}).get(name) or ""), name in quantities)
    return Expression(text, tree, tuple(names))


def _without_units(text: str) -> tuple[str, dict[int, re.Match[str]]]:
    """Return *text* with quantities as products, and each of these by its place there."""
    plain, end, found = "", 0, {}
    for match in _QUANTITY.finditer(text):
        plain += text[end:match.start()] + "("
        # Places of a tree are in bytes.
        found[len(plain.encode())] = match
        plain += f"{match[1]} * {_FACTORS[match[2]]!r})"
        end = match.end()
    return plain + text[end:], found


def _comparisons(tree: ast.expr) -> Iterator[tuple[str, ast.expr]]:
    """Yield the names that are compared alone, each with what it is compared with or looked for among."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            for a, b in pairwise((node.left, *node.comparators)):
                for side, other in ((a, b), (b, a)):
                    if isinstance(side, (ast.Name, ast.Attribute)) and (name := dotted(side)) is not None:
                        among = other.elts if isinstance(other, (ast.List, ast.Tuple)) else [other]
                        yield from ((name, value) for value in among)


def _check_unit(name: str, other: ast.expr, text: str, plain: str, products: Mapping[int, re.Match[str]],
                dimension: str, needed: bool) -> None:
    """Raise UsageError where *other*, compared with *name*, is a number in a unit of another dimension than its own.

    Or in none, where one is *needed*. *products* are the quantities of *text* by their place in *plain*.
    """
    units = UNITS.get(dimension or "none")
    if units is None:
        return
    while isinstance(other, ast.UnaryOp):
        other = other.operand
    found = products.get(other.col_offset) if isinstance(other, ast.BinOp) and other.lineno == 1 else None
    if found is not None and found[2] not in units and found[2] not in _BINARY:
        raise UsageError(f"{text!r}: {found[0]!r}: unit {found[2]!r} does not measure {dimension}, as {name} does"
                         f"{did_you_mean(found[2], units) or f'; write for example {example(dimension)!r}'}")
    if not needed:
        return
    written, unit = "", ""
    if found is not None and found[2] in _BINARY:
        written, unit = found[0], f"{found[2].upper()}iB" if dimension == "B" else ""
    elif isinstance(other, ast.Constant) and type(other.value) in (int, float) and other.value != 0:
        written = str(ast.get_source_segment(plain, other))
    if written:
        number = written.rstrip("kKMG ")
        raise UsageError(f"{text!r}: {written!r} has no unit, and {name} is in {dimension}; write for example "
                         f"{f'{number} {unit}' if unit else with_likely_unit(number, dimension)!r}")


def _parts(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the parts of *node* that have values, or parts with values."""
    yield from node.args if isinstance(node, ast.Call) else ast.iter_child_nodes(node)


def _is_constant(node: ast.AST) -> bool:
    if isinstance(node, (ast.Name, ast.Attribute)):
        return dotted(node) in _CONSTANTS
    return all(_is_constant(part) for part in _parts(node))


def _constants(node: ast.AST) -> Iterator[ast.expr]:
    """Yield the largest parts of *node* that read no name."""
    if isinstance(node, ast.expr) and _is_constant(node):
        yield node
    elif not isinstance(node, (ast.Name, ast.Attribute)):
        for part in _parts(node):
            yield from _constants(part)


def _check_constant(node: ast.expr, text: str, whole: bool) -> None:
    """Raise UsageError if *node*, which reads no name, has no value."""
    try:
        found = _ARITHMETIC.value(node, _CONSTANTS.__getitem__)
        why = "" if not isinstance(found, float) or math.isfinite(found) else f"it is {found}"
    except (ZeroDivisionError, OverflowError, ValueError, TypeError) as error:
        why = str(error)
    if why:
        part = "" if whole else ": a part that reads no name"
        raise UsageError(f"{text!r}{part} never has a value: {why}; correct it")


def _check(node: ast.AST, text: str, names: dict[str, None]) -> None:
    if isinstance(node, (ast.Name, ast.Attribute)):
        name = dotted(node)
        if name is None:
            raise UsageError(f"{text!r}: {ast.unparse(node)!r} is not allowed; {_GRAMMAR}")
        if name not in _CONSTANTS:
            names[name] = None
        return
    if isinstance(node, ast.Call):
        function = ast.unparse(node.func)
        if function not in FUNCTIONS or node.keywords or not node.args:
            raise UsageError(f"{text!r} calls {function!r}: functions are {', '.join(FUNCTIONS)}"
                             f"{did_you_mean(function, FUNCTIONS)}")
        for argument in node.args:
            _check(argument, text, names)
        return
    if isinstance(node, ast.Constant):
        if not isinstance(node.value, (bool, int, float, str)):
            raise UsageError(f"{text!r}: {node.value!r} is neither a number nor a text")
        return
    if not _ARITHMETIC.knows(node):
        raise UsageError(f"{text!r}: an operator is not allowed; {_GRAMMAR}")
    if not isinstance(node, (*PARTS, ast.List, ast.Tuple)):
        raise UsageError(f"{text!r}: {type(node).__name__} is not allowed; {_GRAMMAR}")
    for child in ast.iter_child_nodes(node):
        _check(child, text, names)
