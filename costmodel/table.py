"""The cost table: one row an op, exact sums over any grouping.

Counts are ints, or sympy expressions while a dimension is a symbol; `CostTable.at` puts numbers
in. Parameters count once per storage, however often they are used. Ops without a rule are in
`CostTable.unsupported`, and every total that lacks them says so by `CostTable.complete`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from costmodel import rules
from costmodel.errors import CostModelError
from costmodel.ir import Cost, Dim, Op, TraceInfo, Weight, info_of, ops_of
from costmodel.memory import peak_bytes
from costmodel.substitution import substitute, symbols_of

if TYPE_CHECKING:
    import networkx as nx

By = Literal["op", "module", "family"]


@dataclass(frozen=True, slots=True)
class Row:
    """An op, its cost (``None``: no rule knows it) and its family."""

    op: Op
    cost: Cost | None
    family: str

    @property
    def weights(self) -> tuple[int, ...]:
        """Storages of the parameters that the op reads."""
        found = (s.storage for s in self.op.inputs if s.kind == "parameter")
        return tuple(dict.fromkeys(found))


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over rows. Bytes are compulsory traffic per op, before any fusion."""

    macs: Dim = 0
    ops: Dim = 0
    params: Dim = 0
    buffers: Dim = 0
    bytes_read: Dim = 0
    bytes_written: Dim = 0
    masked_macs: Dim = 0
    calls: int = 0

    @property
    def flops(self) -> Dim:
        return 2 * self.macs + self.ops

    @property
    def bytes(self) -> Dim:
        return self.bytes_read + self.bytes_written


@dataclass(frozen=True, slots=True)
class Unsupported:
    """An op that no rule knows: how often it ran, and the first module that called it."""

    op: str
    count: int
    module: str


@dataclass(frozen=True)
class CostTable:
    """Rows in schedule order, and what the trace said of itself."""

    rows: tuple[Row, ...]
    info: TraceInfo

    @cached_property
    def total(self) -> Totals:
        """Everything, parameters and buffers of the whole model included, used or not."""
        return self._sum(self.rows, self.info.weights)

    @cached_property
    def peak_activation_bytes(self) -> int | None:
        """High-water mark of live activations; ``None`` while a dimension is symbolic."""
        return peak_bytes([row.op for row in self.rows], self.info)

    @property
    def complete(self) -> bool:
        """Whether every op has a rule; if not, totals are lower bounds."""
        return all(row.cost is not None for row in self.rows)

    @cached_property
    def unsupported(self) -> tuple[Unsupported, ...]:
        """The ops without a rule, most frequent first."""
        found: dict[str, list[str]] = {}
        for row in self.rows:
            if row.cost is None:
                found.setdefault(row.op.target, []).append(row.op.module)
        items = [Unsupported(t, len(where), where[0]) for t, where in found.items()]
        return tuple(sorted(items, key=lambda item: (-item.count, item.op)))

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def group_by(self, by: By, depth: int | None = None) -> dict[str, Totals]:
        """Totals by ATen op, module path (cut at ``depth`` names) or op family.

        Groups are in order of first use. Grouped by module, a parameter belongs to the module
        that holds it, and modules whose ops never ran but that hold parameters have a group too;
        otherwise it counts in every group that reads it.
        """
        key = _grouping(by, depth)
        groups: dict[str, list[Row]] = {}
        for row in self.rows:
            groups.setdefault(key(row), []).append(row)
        by_storage = {w.storage: w for w in self.info.weights}
        if by != "module":
            return {name: self._sum(rows, _used(rows, by_storage)) for name, rows in groups.items()}
        owned: dict[str, list[Weight]] = {}
        for weight in self.info.weights:
            holder = weight.names[0].rpartition(".")[0]
            owned.setdefault(_cut(holder, depth), []).append(weight)
        names = dict.fromkeys([*groups, *owned])
        return {name: self._sum(groups.get(name, ()), owned.get(name, ())) for name in names}

    def filter_by(
        self,
        *,
        op: str | None = None,
        module: str | None = None,
        family: str | None = None,
        phase: str | None = None,
    ) -> CostTable:
        """The rows of one ATen op, of a module and all below it, of a family, of a phase."""

        def wanted(row: Row) -> bool:
            return (
                (op is None or row.op.target == op)
                and (module is None or f"{row.op.module}.".startswith(f"{module}."))
                and (family is None or row.family == family)
                and (phase is None or row.op.phase == phase)
            )

        rows = tuple(row for row in self.rows if wanted(row))
        used = {storage for row in rows for storage in row.weights}
        weights = tuple(w for w in self.info.weights if w.storage in used)
        return CostTable(rows, replace(self.info, weights=weights))

    def at(self, **values: int) -> CostTable:
        """The table with symbols replaced by numbers: ``table.at(N=8, H=224)``.

        Raises `CostModelError` for a name that is not a symbol of the table, and for a value that
        is not a positive integer.
        """
        known = symbols_of(self)
        for name, value in values.items():
            if name not in known:
                have = ", ".join(sorted(known)) or "none: its shapes are numbers"
                raise CostModelError(f"no symbol {name} in this table; it has {have}")
            if type(value) is not int or value < 1:
                raise CostModelError(f"{name}={value!r}: a symbol stands for a positive integer")
        return substitute(self, values)

    def _sum(self, rows: Iterable[Row], weights: Iterable[Weight]) -> Totals:
        rows = tuple(rows)
        costs = [row.cost for row in rows if row.cost is not None]
        sums = {
            name: _add([getattr(cost, name) for cost in costs])
            for name in ("macs", "ops", "bytes_read", "bytes_written", "masked_macs")
        }
        weights = tuple(weights)
        return Totals(
            **sums,
            params=_add([w.numel for w in weights if w.kind == "parameter"]),
            buffers=_add([w.numel for w in weights if w.kind == "buffer"]),
            calls=len(rows),
        )


def cost(graph: nx.DiGraph[int]) -> CostTable:
    """The cost table of a traced graph."""
    rows = tuple(Row(op, rules.cost_of(op), rules.family_of(op)) for op in ops_of(graph))
    return CostTable(rows, info_of(graph))


def _grouping(by: By, depth: int | None) -> Callable[[Row], str]:
    if by == "op":
        return lambda row: row.op.target
    if by == "family":
        return lambda row: row.family
    if by == "module":
        return lambda row: _cut(row.op.module, depth)
    raise CostModelError(f"cannot group by {by!r}; choose op, module or family")


def _cut(path: str, depth: int | None) -> str:
    return path if depth is None else ".".join(path.split(".")[:depth])


def _used(rows: Iterable[Row], by_storage: Mapping[int, Weight]) -> list[Weight]:
    used = dict.fromkeys(s.storage for row in rows for s in row.op.inputs)
    return [by_storage[storage] for storage in used if storage in by_storage]


def _add(terms: list[Any]) -> Dim:
    """An exact sum; symbolic terms are added at once, which is much faster than one by one."""
    if all(isinstance(term, int) for term in terms):
        return sum(terms)
    import sympy

    return sympy.Add(*terms)
