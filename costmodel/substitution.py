"""Numbers for symbols: evaluation of cost tables."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

from costmodel.errors import CostModelError
from costmodel.ir import Cost, Op, TensorSpec, TraceInfo, Weight, symbol

if TYPE_CHECKING:
    from costmodel.table import CostTable, Row


def symbols_of(table: CostTable) -> set[str]:
    """Names of the symbols in the shapes and costs of a table."""
    return {s.name for expr in set(_expressions(table)) for s in expr.free_symbols}


def substitute(table: CostTable, values: Mapping[str, int]) -> CostTable:
    """The table with the named symbols replaced by numbers; whole results become ``int``.

    Raises `CostModelError` when a count comes out as a fraction: the values are outside the
    domain in which the table holds.
    """
    put = substitution(values)
    specs: dict[TensorSpec, TensorSpec] = {}

    def spec(old: TensorSpec) -> TensorSpec:
        new = specs.get(old)
        if new is None:
            new = specs[old] = replace(old, shape=tuple(map(put, old.shape)))
        return new

    def value(old: Any) -> Any:
        if isinstance(old, TensorSpec):
            return spec(old)
        if isinstance(old, tuple):
            return tuple(map(value, old))
        return put(old)

    def op(old: Op) -> Op:
        return replace(
            old,
            args=value(old.args),
            kwargs={name: value(v) for name, v in old.kwargs.items()},
            outputs=value(old.outputs),
            writes=value(old.writes),
        )

    def cost(old: Cost) -> Cost:
        return replace(old, **{f.name: put(getattr(old, f.name)) for f in fields(old)})

    def row(old: Row) -> Row:
        return replace(old, op=op(old.op), cost=None if old.cost is None else cost(old.cost))

    def weight(old: Weight) -> Weight:
        return replace(old, shape=tuple(map(put, old.shape)))

    info: TraceInfo = replace(
        table.info,
        inputs=value(table.info.inputs),
        outputs=value(table.info.outputs),
        weights=tuple(map(weight, table.info.weights)),
    )
    return replace(table, rows=tuple(map(row, table.rows)), info=info)


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


def _expressions(table: CostTable) -> Iterator[Any]:
    for row in table.rows:
        yield from _symbolic((row.op.args, tuple(row.op.kwargs.values()), row.op.outputs))
        if row.cost is not None:
            yield from _symbolic(getattr(row.cost, f.name) for f in fields(row.cost))
    yield from _symbolic(table.info.inputs)
    yield from _symbolic(weight.shape for weight in table.info.weights)


def _symbolic(values: Iterable[Any]) -> Iterator[Any]:
    for value in values:
        if isinstance(value, TensorSpec):
            yield from _symbolic(value.shape)
        elif isinstance(value, tuple):
            yield from _symbolic(value)
        elif hasattr(value, "free_symbols"):
            yield value
