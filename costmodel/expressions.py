"""Torch's expressions of sizes as plain sympy, in symbols of our own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import Any

import sympy

from costmodel.ir import symbol


def convert(expr: Any, names: Mapping[sympy.Symbol, sympy.Symbol]) -> Any:
    """Torch's shape functions (``FloorDiv``, ``Mod``, ``Max`` …) as sympy's own."""
    if isinstance(expr, sympy.Integer):
        return int(expr)
    if isinstance(expr, sympy.Symbol):
        return names.get(expr) or symbol(expr.name)
    if not getattr(expr, "args", ()):
        return expr
    args = [convert(arg, names) for arg in expr.args]
    build = _FUNCTIONS.get(type(expr).__name__)
    return build(*args) if build is not None else expr.func(*args)


def _floor(a: Any, b: Any) -> Any:
    return sympy.floor(sympy.sympify(a) / b)


def _power(base: Any, exponent: Any) -> Any:
    return sympy.sympify(base) ** exponent


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "FloorDiv": _floor,
    "CleanDiv": lambda a, b: sympy.sympify(a) / b,
    "CeilDiv": lambda a, b: sympy.ceiling(sympy.sympify(a) / b),
    "IntTrueDiv": lambda a, b: sympy.sympify(a) / b,
    "FloatTrueDiv": lambda a, b: sympy.sympify(a) / b,
    "Mod": sympy.Mod,
    "PythonMod": sympy.Mod,
    "ModularIndexing": lambda a, b, c: sympy.Mod(_floor(a, b), c),
    "Max": sympy.Max,
    "Min": sympy.Min,
    "CeilToInt": sympy.ceiling,
    "FloorToInt": sympy.floor,
    "TruncToInt": sympy.floor,
    "ToFloat": lambda a: a,
    "Identity": lambda a: a,
    "PowByNatural": _power,
    "FloatPow": _power,
    "LShift": lambda a, b: a * 2**b,
    "RShift": lambda a, b: _floor(a, sympy.Integer(2) ** b),
    "Where": lambda c, a, b: sympy.Piecewise((a, c), (b, True)),
}

#: How sizes are translated here and now; a symbolic trace sets it to know its own symbols.
TRANSLATION: ContextVar[Callable[[sympy.Expr], Any]] = ContextVar(
    "translation", default=lambda expr: convert(expr, {})
)


def expression(expr: sympy.Expr) -> Any:
    """Our form of torch's expression: an ``int``, or sympy in positive integer symbols."""
    return TRANSLATION.get()(expr)
