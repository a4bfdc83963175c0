"""Whole-number expressions that a user types, such as ``4*d`` or ``C // r``.

They are evaluated with ints, with torch's symbolic integers or with sympy symbols alike.
"""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Mapping
from typing import Any

from costmodel.errors import CostModelError

_OPERATORS: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv,
}
_NAME = re.compile(r"[^\W\d]\w*")


def names(text: str) -> list[str]:
    """The symbols in an expression, in order of appearance.

    Raises `CostModelError` when it is not an expression of names, whole numbers, + - * and //.
    """
    tree = _parse(text)
    found = [node for node in ast.walk(tree) if isinstance(node, ast.Name)]
    return list(dict.fromkeys(n.id for n in sorted(found, key=lambda node: node.col_offset)))


def evaluate(text: str, values: Mapping[str, Any]) -> Any:
    """The value of an expression; every name in it must be in ``values``."""
    return _value(_parse(text), values)


def check_name(name: str) -> str:
    """``name`` if it can be a symbol: a letter, then letters, digits and underscores."""
    if not _NAME.fullmatch(name):
        raise CostModelError(
            f"{name!r} is not a symbol; use a letter, then letters, digits or _, as in C_in"
        )
    return name


def _parse(text: str) -> ast.expr:
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        raise _refused(text) from None
    for node in ast.walk(tree):
        known = isinstance(node, (ast.BinOp, ast.Name, ast.operator, ast.Load))
        if not known and not (isinstance(node, ast.Constant) and type(node.value) is int):
            raise _refused(text)
        if isinstance(node, ast.operator) and type(node) not in _OPERATORS:
            raise _refused(text)
    return tree


def _refused(text: str) -> CostModelError:
    return CostModelError(
        f"{text.strip()[:60]!r} is neither a symbol nor whole-number arithmetic; write C_in, 4*d "
        "or C // 4"
    )


def _value(node: ast.expr, values: Mapping[str, Any]) -> Any:
    if isinstance(node, ast.BinOp):
        left, right = _value(node.left, values), _value(node.right, values)
        return _OPERATORS[type(node.op)](left, right)
    if isinstance(node, ast.Name):
        return values[node.id]
    assert isinstance(node, ast.Constant)
    return node.value
