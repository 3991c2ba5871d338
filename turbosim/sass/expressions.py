"""Expressions of launch descriptions: numbers, names, arithmetic, comparisons and a few functions."""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Callable, Mapping
from typing import Any, cast

from turbosim.arithmetic import COMPARISON, PARTS, SIGN, SUM, Arithmetic
from turbosim.errors import UsageError, did_you_mean

Value = int | float | bool | str | None
"""None and texts are for constants of kernels."""

LARGEST = 1 << 63
"""Integers beyond are refused, so that no expression takes long."""


def _cdiv(a: int, b: int) -> int:
    return -(-a // b)


def _next_power_of_2(n: int) -> int:
    return 1 << max(0, math.ceil(n) - 1).bit_length()


FUNCTIONS: dict[str, tuple[Callable[..., Any], int]] = {
    "cdiv": (_cdiv, 2), "next_power_of_2": (_next_power_of_2, 1), "min": (min, 0), "max": (max, 0), "abs": (abs, 1),
    "sqrt": (math.sqrt, 1), "exp": (math.exp, 1), "log2": (math.log2, 1), "ceil": (math.ceil, 1),
    "floor": (math.floor, 1), "int": (int, 1), "float": (float, 1)}
"""Functions by name, with the number of their arguments; 0 for any."""
_CONSTANTS: dict[str, Value] = {"true": True, "false": False, "none": None}


def parse(text: str) -> ast.expr:
    """Return the parsed expression. Raises UsageError for what is not one, or has parts that are not allowed."""
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        if many := re.fullmatch(r"(\d+)([kKmM])", text.strip()):
            suffix, factor = ("k", 1 << 10) if many[2] in "kK" else ("M", 1 << 20)
            raise UsageError(f"{text!r} is not an expression; write {factor * int(many[1])}: {suffix} is for the "
                             "command line") from None
        if text.count("(") != text.count(")"):
            raise UsageError(f"{text!r} is not an expression: its parentheses do not match; in a list in YAML, quote "
                             "expressions with commas") from None
        raise UsageError(f"{text!r} is not an expression; write for example cdiv(M, BLOCK_M)") from None
    for node in ast.walk(tree):
        _check(node, text)
    return tree


def _check(node: ast.AST, text: str) -> None:
    if isinstance(node, ast.Call):
        known = FUNCTIONS.get(node.func.id) if isinstance(node.func, ast.Name) else None
        if known is None or node.keywords:
            name = ast.unparse(node.func)
            raise UsageError(f"{text!r} calls {name!r}: functions are {', '.join(FUNCTIONS)}"
                             f"{did_you_mean(name, FUNCTIONS)}")
        if (known[1] and len(node.args) != known[1]) or not node.args:
            raise UsageError(f"{text!r}: {ast.unparse(node.func)} takes {known[1] or 'one or more'} "
                             f"argument{'s' if known[1] != 1 else ''}, got {len(node.args)}")
    elif not _ARITHMETIC.knows(node):
        raise UsageError(f"{text!r}: operators are + - * / // % and comparisons")
    elif isinstance(node, ast.Constant):
        if not isinstance(node.value, (bool, int, float, str, type(None))):
            raise UsageError(f"{text!r}: {node.value!r} is neither a number nor a text")
    elif not isinstance(node, (ast.Name, *PARTS)):
        raise UsageError(f"{text!r}: {type(node).__name__} is not allowed; expressions have numbers, names, "
                         "arithmetic, comparisons and functions")


def evaluate(expression: Value, names: Mapping[str, Value]) -> Value:
    """Return the value of *expression*, a text or a number, over *names*.

    Raises UsageError for a text that is no expression, an unknown name, and a value that does not exist or has no place
    in 64 bits.
    """
    if not isinstance(expression, str):
        return expression
    tree = parse(expression)
    try:
        return cast(Value, _ARITHMETIC.value(tree, lambda name: _named(name, names)))
    except ZeroDivisionError:
        raise UsageError(f"{expression!r} has no value: division by zero") from None
    except (ArithmeticError, TypeError, ValueError) as error:
        raise UsageError(f"{expression!r} has no value: {error}") from None
    except UsageError as error:
        raise UsageError(f"{expression!r}: {error}") from None


def _named(name: str, names: Mapping[str, Value]) -> Value:
    if name not in names and name not in _CONSTANTS:
        raise UsageError(f"unknown name {name!r}: known here are {', '.join(names) or 'none'}"
                         f"{did_you_mean(name, names)}")
    return names[name] if name in names else _CONSTANTS[name]


def _number(node: ast.expr, value: Any) -> Any:
    if value is None or isinstance(value, str):
        raise UsageError(f"{ast.unparse(node)} is {value!r}, not a number")
    return value


def _bounded(value: Any) -> Any:
    if isinstance(value, int) and abs(value) >= LARGEST:
        raise UsageError("a value has more than 63 bits")
    if isinstance(value, float) and not math.isfinite(value):
        raise UsageError("a value is not finite")
    return value


_ARITHMETIC = Arithmetic(SUM | SIGN | COMPARISON, {name: function for name, (function, _) in FUNCTIONS.items()},
                         operand=_number, outcome=_bounded)
