"""The arithmetic of expressions that users write, in launch descriptions and in studies; nothing is run.

Who has expressions says which operators and functions they may have, and what a name is worth: a walk over the parts of
an expression's syntax tree gives its value.
"""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Operators = dict[type[ast.AST], Callable[..., Any]]

SUM: Operators = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
                  ast.FloorDiv: operator.floordiv, ast.Mod: operator.mod}
POWER: Operators = {ast.Pow: math.pow}
"""Of floats, so that none takes long."""
SIGN: Operators = {ast.USub: operator.neg, ast.UAdd: operator.pos, ast.Not: operator.not_}
COMPARISON: Operators = {ast.Eq: operator.eq, ast.NotEq: operator.ne, ast.Lt: operator.lt, ast.LtE: operator.le,
                         ast.Gt: operator.gt, ast.GtE: operator.ge}
MEMBERSHIP: Operators = {ast.In: lambda a, b: a in b, ast.NotIn: lambda a, b: a not in b}
PARTS = (ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.Compare, ast.IfExp, ast.expr_context, ast.operator, ast.unaryop,
         ast.boolop, ast.cmpop)
"""Kinds of nodes that every expression may have, beside names, constants and calls."""


def _any_operand(_: ast.expr, value: Any) -> Any:
    return value


def _any_outcome(value: Any) -> Any:
    return value


@dataclass(frozen=True)
class Arithmetic:
    """What expressions of one kind may have, and what its parts are worth."""

    operators: Operators
    functions: Mapping[str, Callable[..., Any]]
    operand: Callable[[ast.expr, Any], Any] = _any_operand
    """Checks the value of a part that is calculated with."""
    outcome: Callable[[Any], Any] = _any_outcome
    """Checks a constant and what a calculation gives."""

    def knows(self, node: ast.AST) -> bool:
        """Return whether the operators of *node*, if it has any, are known."""
        match node:
            case ast.BinOp() | ast.UnaryOp():
                return type(node.op) in self.operators
            case ast.Compare():
                return all(type(op) in self.operators for op in node.ops)
        return True

    def value(self, node: ast.expr, names: Callable[[str], Any]) -> Any:
        """Return the value of the checked expression *node*, in which a name has the value that *names* gives."""
        match node:
            case ast.Constant():
                return self.outcome(node.value)
            case ast.Name() | ast.Attribute():
                return names(str(dotted(node)))
            case ast.BinOp():
                left, right = (self.operand(side, self.value(side, names)) for side in (node.left, node.right))
                return self.outcome(self.operators[type(node.op)](left, right))
            case ast.UnaryOp():
                return self.operators[type(node.op)](self.value(node.operand, names))
            case ast.BoolOp():
                return (all if isinstance(node.op, ast.And) else any)(self.value(v, names) for v in node.values)
            case ast.IfExp():
                return self.value(node.body if self.value(node.test, names) else node.orelse, names)
            case ast.Compare():
                values = [self.value(v, names) for v in (node.left, *node.comparators)]
                return all(self.operators[type(op)](a, b)
                           for op, a, b in zip(node.ops, values, values[1:], strict=False))
            case ast.List() | ast.Tuple():
                return [self.value(v, names) for v in node.elts]
            case ast.Call():
                function = self.functions[ast.unparse(node.func)]
                return self.outcome(function(*(self.operand(a, self.value(a, names)) for a in node.args)))
        raise AssertionError(node)


def dotted(node: ast.expr) -> str | None:
    """Return the name that *node* spells (``hbm.bandwidth``), None if it is none."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and (owner := dotted(node.value)) is not None:
        return f"{owner}.{node.attr}"
    return None
