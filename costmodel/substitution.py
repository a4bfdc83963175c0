"""Numbers for symbols, in expressions and in every value that holds some."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

from costmodel.errors import CostModelError
from costmodel.ir import TensorSpec, symbol

Value = TypeVar("Value")
#: Most of what a table holds, in which there is nothing to look for.
_PLAIN = (str, int, float, type(None))


def symbols_of(value: Any) -> set[str]:
    """Names of the symbols in a value: an expression, a dataclass, tuples and mappings of them."""
    return {s.name for expr in set(_expressions(value)) for s in expr.free_symbols}


def substitute(value: Value, values: Mapping[str, int]) -> Value:
    """The same with the named symbols replaced by numbers; whole results become ``int``.

    Raises `CostModelError` when a count comes out as a fraction: the values are outside the
    domain in which ``value`` holds.
    """
    put = substitution(values)
    specs: dict[TensorSpec, TensorSpec] = {}

    def changed(old: Any) -> Any:
        if isinstance(old, _PLAIN):
            return old
        if isinstance(old, TensorSpec):  # many ops see the same one
            found = specs.get(old)
            if found is None:
                found = specs[old] = replace(old, shape=tuple(map(put, old.shape)))
            return found
        if isinstance(old, tuple):
            return tuple(map(changed, old))
        if isinstance(old, Mapping):
            return {name: changed(held) for name, held in old.items()}
        if is_dataclass(old) and not isinstance(old, type):
            return replace(old, **{f.name: changed(getattr(old, f.name)) for f in fields(old)})
        return put(old)

    result: Value = changed(value)
    return result


def substitution(values: Mapping[str, int]) -> Callable[[Any], Any]:
    """A function that puts ``values`` into an expression and leaves everything else alone."""
    import sympy

    table = {symbol(name): sympy.Integer(value) for name, value in values.items()}
    done: dict[Any, Any] = {}

    def put(expr: Any) -> Any:
        if not hasattr(expr, "free_symbols"):
            return expr
        found = done.get(expr)
        if found is None:
            found = done[expr] = _number(expr.xreplace(table), expr)
        return found

    return put


def _number(value: Any, expr: Any) -> Any:
    if value.free_symbols:
        return value
    value = value.doit()
    if not value.is_Integer:
        raise CostModelError(f"{expr} is {value} there, which is not a count: outside the domain")
    return int(value)


def _expressions(value: Any) -> Iterator[Any]:
    if isinstance(value, _PLAIN):
        return
    if isinstance(value, tuple):
        for item in value:
            yield from _expressions(item)
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _expressions(item)
    elif is_dataclass(value) and not isinstance(value, type):
        for field in fields(value):
            yield from _expressions(getattr(value, field.name))
    elif hasattr(value, "free_symbols"):
        yield value
