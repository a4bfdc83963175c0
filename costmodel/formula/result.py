"""The answer: costs as sympy expressions, with the domain in which they hold."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import sympy

from costmodel.errors import CostModelError
from costmodel.formula.costs import STORED, Costs, FormulaRow, total
from costmodel.formula.domain import holds
from costmodel.formula.problem import Problem
from costmodel.formula.tidy import Change, settling, tidying
from costmodel.ir import symbol
from costmodel.substitution import substitution

#: What a formula can be asked for, and how a person calls it.
QUANTITIES = {
    "macs": "MACs",
    "params": "Parameters",
    "bytes": "Bytes",
    "flops": "FLOPs",
    "ops": "Ops",
    "bytes_read": "Bytes read",
    "bytes_written": "Bytes written",
}


@dataclass(frozen=True)
class Formula:
    """Costs of a module in the symbols that were asked for.

    Symbols are positive integers. ``sizes`` are the symbols of the input, ``arguments`` those of
    the constructor. ``domain`` holds relations between symbols: outside them a trace was seen to
    disagree, and evaluation raises. ``assumptions`` are what a tidy form adds to that.
    """

    target: str
    sizes: tuple[str, ...]
    arguments: tuple[str, ...]
    rows: tuple[FormulaRow, ...]
    domain: tuple[Any, ...] = ()
    meanings: Mapping[str, str] | None = None
    fixed: Mapping[str, int] | None = None
    notes: tuple[str, ...] = ()
    unsupported: tuple[str, ...] = ()
    assumptions: tuple[Any, ...] = ()
    method: str = "traced on symbols"

    @property
    def symbols(self) -> tuple[Any, ...]:
        """The symbols, sizes first, in the order in which they were asked for."""
        return tuple(symbol(name) for name in self.sizes + self.arguments)

    @cached_property
    def total(self) -> Costs:
        return total(row.costs for row in self.rows)

    @property
    def macs(self) -> Any:
        """Multiply-accumulates."""
        return self.total.macs

    @property
    def ops(self) -> Any:
        """Scalar operations outside MACs."""
        return self.total.ops

    @property
    def flops(self) -> Any:
        """2·MACs + ops."""
        return self.total.flops

    @property
    def params(self) -> Any:
        """Parameters, each counted once."""
        return self.total.params

    @property
    def bytes(self) -> Any:
        """Compulsory traffic per op: bytes read and bytes written, before any fusion."""
        return self.total.bytes

    @property
    def bytes_read(self) -> Any:
        return self.total.bytes_read

    @property
    def bytes_written(self) -> Any:
        return self.total.bytes_written

    def of(self, quantity: str) -> Any:
        """A count by its name, one of `QUANTITIES`."""
        if quantity not in QUANTITIES:
            raise CostModelError(f"no count {quantity!r}; choose from {', '.join(QUANTITIES)}")
        return getattr(self.total, quantity)

    def evaluate(self, **values: int) -> dict[str, int]:
        """Every count at a point: ``f.evaluate(N=8, C_in=64)["macs"]``.

        Raises `CostModelError` for a symbol that is missing or unknown, a value that is not a
        positive integer, and a point outside the domain.
        """
        self.check(values)
        put = substitution(values)
        return {name: int(put(self.of(name))) for name in QUANTITIES}

    def check(self, values: Mapping[str, Any]) -> None:
        """Raise `CostModelError` unless ``values`` is a point of the domain."""
        names = [s.name for s in self.symbols]
        for name, value in values.items():
            if name not in names:
                raise CostModelError(f"no symbol {name}; the formula has {', '.join(names)}")
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise CostModelError(f"{name}={value!r}: a symbol stands for a positive integer")
        missing = [name for name in names if name not in values]
        if missing:
            raise CostModelError(f"no value for {', '.join(missing)}; give every symbol one")
        for relation in (*self.domain, *self.assumptions):
            if not holds(relation, values):
                from costmodel.formula.wording import relation_text

                at = ", ".join(f"{n}={v}" for n, v in values.items())
                needs = relation_text(relation)
                raise CostModelError(
                    f"outside the domain: the formula needs {needs}; not so at {at}"
                )

    def function(self, quantity: str = "macs") -> Callable[..., Any]:
        """The count as a numpy function of the symbols, by position or by name.

        Arrays broadcast; counts are 64-bit integers. Nothing is checked: it is made for loops over
        millions of points, all inside the domain.
        """
        names = [s.name for s in self.symbols]
        return integer_function(self.of(quantity), names)

    def group(self, by: str) -> dict[str, Costs]:
        """Costs by ``op`` (each row), ``module``, ``family`` or ``total``."""
        if by == "total":
            return {"total": self.total}
        key = {"op": "name", "module": "module", "family": "family"}.get(by)
        if key is None:
            raise CostModelError(f"cannot group by {by!r}; choose op, module, family or total")
        groups: dict[str, list[Costs]] = {}
        for row in self.rows:
            groups.setdefault(getattr(row, key), []).append(row.costs)
        return {name: total(costs) for name, costs in groups.items()}

    def settled(self) -> Formula:
        """The same formula with the floors gone that its domain makes needless."""
        return self._changed(settling(self.domain))

    def tidy(self) -> Formula:
        """The formula for sizes that divide: H/2, H/4 … instead of nested floors.

        What that assumes (``H`` a multiple of 32, ``K`` odd) is in ``assumptions``, and evaluation
        checks it. A floor that no such assumption removes stays.
        """
        counts = [getattr(row.costs, name) for row in self.rows for name in STORED]
        found = tidying(counts, self.domain)
        if found is None:
            return self
        assumptions = (*self.assumptions, *found.assumptions)
        changed = self._changed(found.change)
        return replace(changed, domain=found.domain, assumptions=assumptions)

    def _changed(self, change: Change) -> Formula:
        rows = tuple(replace(row, costs=row.costs.map(change)) for row in self.rows)
        return replace(self, rows=rows)


def make(
    problem: Problem,
    rows: tuple[FormulaRow, ...],
    unsupported: tuple[str, ...],
    domain: tuple[Any, ...],
    fixed: Mapping[str, int],
    notes: tuple[str, ...],
    method: str = "traced on symbols",
) -> Formula:
    """A formula in the symbols of ``problem`` that were not fixed."""
    return Formula(
        target=problem.text,
        sizes=tuple(n for n in problem.sizes if n not in fixed),
        arguments=tuple(n for n in problem.arguments if n not in fixed),
        rows=rows,
        domain=domain,
        meanings={n: m for n, m in problem.meanings.items() if n not in fixed},
        fixed=dict(fixed),
        notes=notes,
        unsupported=unsupported,
        method=method,
    )


def integer_function(expr: Any, names: list[str]) -> Callable[..., Any]:
    """``expr`` as a function over integer arrays; the arithmetic stays in integers."""
    import numpy as np

    expr = sympy.sympify(expr)
    arguments = [symbol(name) for name in names]
    compiled = sympy.lambdify(arguments, whole(expr), modules=[{"div": np.floor_divide}, np])

    def function(*positional: Any, **named: Any) -> Any:
        values = dict(zip(names, positional, strict=False)) | named
        columns = [np.asarray(values[name]) for name in names]
        result = compiled(*columns)
        return np.asarray(result)[()]

    return function


def whole(expr: Any) -> Any:
    """``expr`` with floors and fractions as integer divisions, which are exact in 64 bits."""
    div = sympy.Function("div", integer=True)

    def rewrite(node: Any) -> Any:
        if not node.args:
            return node
        args = [rewrite(a) for a in node.args]
        if isinstance(node, (sympy.floor, sympy.ceiling)):
            top, bottom = sympy.fraction(sympy.together(node.args[0]))
            top, bottom = rewrite(sympy.expand(top)), rewrite(bottom)
            return div(top, bottom) if isinstance(node, sympy.floor) else -div(-top, bottom)
        return node.func(*args)

    rewritten = rewrite(sympy.sympify(expr))
    top, bottom = sympy.fraction(sympy.together(rewritten))
    return rewritten if bottom == 1 else div(top, bottom)
