"""Counts as sympy expressions, and the rows of a formula that hold them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import sympy

from costmodel.table import CostTable

STORED = ("macs", "ops", "params", "bytes_read", "bytes_written")


@dataclass(frozen=True, slots=True)
class Costs:
    """Counts as sympy expressions; parameters count where they are first used."""

    macs: Any = sympy.S.Zero
    ops: Any = sympy.S.Zero
    params: Any = sympy.S.Zero
    bytes_read: Any = sympy.S.Zero
    bytes_written: Any = sympy.S.Zero

    @property
    def flops(self) -> Any:
        return 2 * self.macs + self.ops

    @property
    def bytes(self) -> Any:
        return self.bytes_read + self.bytes_written

    def map(self, change: Callable[[Any], Any]) -> Costs:
        """The costs with ``change`` applied to each count."""
        return Costs(*(sympy.sympify(change(getattr(self, name))) for name in STORED))


def total(costs: Iterable[Costs]) -> Costs:
    """The sum, each count added up at once."""
    costs = tuple(costs)
    return Costs(*(sympy.Add(*(getattr(c, name) for c in costs)) for name in STORED))


@dataclass(frozen=True, slots=True)
class FormulaRow:
    """One op, or several that a fit could only see together, and its costs."""

    name: str
    op: str
    module: str
    family: str
    costs: Costs


def from_table(table: CostTable) -> tuple[tuple[FormulaRow, ...], tuple[str, ...]]:
    """The rows of a table that cost something, and the ops that no rule knows."""
    seen: set[int] = set()
    sizes = {w.storage: w for w in table.info.weights if w.kind == "parameter"}
    rows = []
    for row in table.rows:
        fresh = [s for s in row.weights if s in sizes and s not in seen]
        seen.update(fresh)
        params = sympy.Add(*(sizes[s].numel for s in fresh))
        cost = row.cost
        counts = [
            sympy.sympify(value)
            for value in (
                (cost.macs, cost.ops, params, cost.bytes_read, cost.bytes_written)
                if cost is not None
                else (0, 0, params, 0, 0)
            )
        ]
        if any(count != 0 for count in counts):
            op = row.op
            rows.append(FormulaRow(op.name, op.target, op.module, row.family, Costs(*counts)))
    for storage, weight in sizes.items():
        if storage not in seen:
            name = weight.names[0]
            costs = Costs(params=sympy.sympify(weight.numel))
            module = name.rpartition(".")[0]
            rows.append(FormulaRow(f"{name} (unused)", "", module, "unused", costs))
    return tuple(rows), tuple(f"{u.op} in {u.module}" for u in table.unsupported)
