"""Cutting a traced network where a single tensor passes, so that costs add up piece by piece.

Before an op with matrix work at which exactly one activation is alive, everything that follows
depends on the past only through that tensor. Between two such cuts lies a piece. Every execution
starts a kernel at an op with matrix work, so that no kernel spans a cut.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

from costmodel.errors import CostModelError
from costmodel.ir import ITEMSIZE, Recast, TensorSpec, Weight
from costmodel.memory import lifetimes, timeline
from costmodel.roofline import batch_of
from costmodel.table import CostTable, Row

#: Counts that add up over pieces; `Piece.peak` composes by the maximum.
COUNTS = ("macs", "ops", "params", "buffers", "bytes_read", "bytes_written")
#: Weights that no op reads.
UNREAD = "(weights that no op reads)"


@dataclass(frozen=True)
class Piece:
    """What lies between two cuts. Equal ``signature``: equal in all that a cost may depend on.

    ``network`` are the rows of the network where it was first seen; ``span`` are the first row of
    the piece in front, its own first row and the one after its last. ``counts`` are in the order of
    `COUNTS`; ``peak`` is the largest number of live activation bytes; ``out`` is the storage that
    passes on to the next piece, ``batch`` the samples of a run.
    """

    signature: Hashable
    network: tuple[Row, ...]
    span: tuple[int, int, int]
    counts: tuple[int, ...]
    peak: int
    out: int = -1
    batch: int = 1

    @property
    def rows(self) -> tuple[Row, ...]:
        """The rows of the piece."""
        return self.network[self.span[1] : self.span[2]]

    @property
    def before(self) -> tuple[Row, ...]:
        """The rows of the piece in front."""
        return self.network[self.span[0] : self.span[1]]

    @property
    def after(self) -> tuple[Row, ...]:
        """The rows behind, up to the last one that uses what passes on to them."""
        behind = self.network[self.span[2] :]
        users = [i for i, row in enumerate(behind) if _uses(row, self.out)]
        return behind[: users[-1] + 1] if users else ()

    @property
    def earlier(self) -> tuple[Row, ...]:
        """All rows in front."""
        return self.network[: self.span[1]]


def cut(table: CostTable) -> dict[str, Piece]:
    """The pieces of a network in order, each under the name of its first op.

    Raises `CostModelError` for an op without a cost rule.
    """
    if not table.complete:
        missing = table.unsupported[0]
        raise CostModelError(
            f"no cost rule for {missing.op} in {missing.module or 'the model'}, so that its costs "
            "are unknown"
        )
    rows = table.rows
    crossing = _crossing(table)
    places = [
        i
        for i, row in enumerate(rows)
        if i == 0 or (len(crossing[i]) == 1 and row.cost is not None and row.cost.macs)
    ]
    levels = timeline([row.op for row in rows], table.info)
    weights = {w.storage: w for w in table.info.weights}
    found: dict[str, Piece] = {}
    before = 0
    for start, end in zip(places, [*places[1:], len(rows)], strict=True):
        part = rows[start:end]
        first_read = _take(weights, part)
        counts = _counts(part, first_read)
        peak, out = max(levels[start:end]), crossing[end][0] if end < len(rows) else -1
        entry = crossing[start][0] if start else -1
        # What is on the other side of a cut may decide the format of the tensor that passes it.
        across = [row.op.target for row in rows[before:start] if _uses(row, entry)]
        across += [row.op.target for row in rows[end:] if _uses(row, out)]
        read = tuple((w.shape, w.dtype, w.kind) for w in first_read)
        signature = (_shape_of(part), read, peak, tuple(across))
        found[part[0].op.name] = Piece(signature, rows, (before, start, end), counts, peak, out,
                                     batch_of(table))  # fmt: skip
        before = start
    rest = list(weights.values())
    unread = tuple((w.shape, w.dtype, w.kind) for w in rest)
    found[UNREAD] = Piece(unread, (), (0, 0, 0), _counts((), rest), 0)
    return found


def _crossing(table: CostTable) -> list[list[int]]:
    """The activations that are alive between each op and the one before."""
    rows = table.rows
    found: list[list[int]] = [[] for _ in range(len(rows) + 1)]
    for life in lifetimes([row.op for row in rows], table.info, planned=True):
        for position in range(life.first + 1, life.last + 1):
            found[position].append(life.storage)
    return found


def _uses(row: Row, storage: int) -> bool:
    return any(spec.storage == storage for spec in (*row.op.inputs, *row.op.outputs))


def _take(weights: dict[int, Weight], rows: Sequence[Row]) -> list[Weight]:
    """The weights that ``rows`` are the first to read, which are taken out of ``weights``."""
    storages = dict.fromkeys(spec.storage for row in rows for spec in row.op.inputs)
    return [weights.pop(storage) for storage in storages if storage in weights]


def _counts(rows: Sequence[Row], weights: Sequence[Weight]) -> tuple[int, ...]:
    costs = [row.cost for row in rows if row.cost is not None]
    return (
        sum(int(c.macs) for c in costs),
        sum(int(c.ops) for c in costs),
        sum(int(w.numel) for w in weights if w.kind == "parameter"),
        sum(int(w.numel) for w in weights if w.kind == "buffer"),
        sum(int(c.bytes_read or 0) for c in costs),
        sum(int(c.bytes_written or 0) for c in costs),
    )


def _shape_of(rows: Sequence[Row]) -> Hashable:
    """The ops with their tensors numbered in order of appearance."""
    numbers: dict[Hashable, int] = {}

    def number(key: Hashable) -> int:
        return numbers.setdefault(key, len(numbers))

    def asked(recast: Recast | None) -> Hashable:
        if recast is None:
            return None
        return recast.to, number(recast.like), number(("recast", recast.number))

    def plain(value: Any) -> Hashable:
        if isinstance(value, TensorSpec):
            return (number(value.storage), value.shape, ITEMSIZE[value.dtype], value.dtype,
                    value.kind, value.expanded, value.contiguous, value.channels_last,
                    value.strides, asked(value.recast))  # fmt: skip
        if isinstance(value, (tuple, list)):
            return tuple(plain(item) for item in value)
        return value if isinstance(value, Hashable) else repr(value)

    return tuple(
        (row.op.target, plain(row.op.args), tuple((k, plain(v)) for k, v in row.op.kwargs.items()),
         plain(row.op.outputs))
        for row in rows
    )  # fmt: skip
