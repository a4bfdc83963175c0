"""Shared passes of the mobile runtimes: fold, fuse, drop copies that change nothing.

A runtime's converter folds a batch norm into the convolution before it, and computes an activation
(some runtimes: a residual addition too) on the output tile while it is still in registers. What
each runtime fuses is data (`Fusing`); how is here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from costmodel.execution.formats import size_of
from costmodel.execution.kernel import Access, Kernel, Unit
from costmodel.ir import Op, TensorSpec
from costmodel.rules import distinct_bytes
from costmodel.rules.copies import (
    makes_contiguous,
    permutation,
    reorders,
    takes_part,
    transposes,
)
from costmodel.rules.epilogues import ADDITIONS
from costmodel.rules.geometry import geometry_of
from costmodel.rules.loops import rows as rows_of
from costmodel.rules.loops import scalars, transcendentals
from costmodel.table import Row

#: Batch norm in eval mode: x*scale + shift, which folds into weights and bias.
FOLDED = "batch_norm"


@dataclass(frozen=True, slots=True)
class Fusing:
    """What a runtime computes in the epilogue of an op with matrix work, of an addition, and of a
    batch norm that had nothing to fold into.

    ``additions``: of an op with matrix work, ``of_maps``: of convolutions alone.
    ``strided``: tensors have strides, so that views cost nothing; else views in another order and
    of parts are copies, and a copy for contiguity is none. ``transposed``: products take a factor
    transposed. ``turned``: views in another order are copied where that is needed, if at all
    (`costmodel.execution.turns`). ``copied``: views that are copies even so.
    """

    activations: frozenset[str]
    after_addition: frozenset[str] = frozenset()
    after_norm: frozenset[str] = frozenset()
    additions: bool = False
    of_maps: bool = False
    strided: bool = True
    transposed: bool = True
    turned: bool = False
    copied: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Group:
    """Rows that become one kernel: the one that does the main work, then its epilogue."""

    rows: tuple[Row, ...]

    @property
    def head(self) -> Row:
        return self.rows[0]

    @property
    def tail(self) -> Row:
        return self.rows[-1]


def fused(rows: Sequence[Row], fusing: Fusing) -> list[Group]:
    """The rows that do work, each with what ``fusing`` computes in its epilogue."""
    busy = [row for place, row in enumerate(rows) if not _free(place, rows, fusing)]
    readers = _readers(busy)
    groups: list[list[int]] = []
    owner: dict[int, int] = {}
    for index, row in enumerate(busy):
        found = _host(index, row, busy, groups, owner, readers, fusing)
        if found is None:
            groups.append([index])
            found = len(groups) - 1
        else:
            groups[found].append(index)
        for spec in (*row.op.outputs, *row.op.writes):
            owner[spec.storage] = found
    return [Group(tuple(busy[i] for i in members)) for members in groups]


def plain_kernel(group: Group, dtype: str, stored: str | None = None) -> Kernel:
    """The kernel of a group whose main work is done directly.

    ``dtype`` is the format of the arithmetic, ``stored`` that of activations and weights (default:
    the same). Counts are those of the ops; a folded batch norm leaves one addition an output.
    """
    stored = stored or dtype
    head = group.head
    if _no_bytes(head):
        return _copied(head, dtype, stored)
    macs, ops = 0, 0
    for row in group.rows:
        cost = row.cost
        if cost is None:
            continue
        macs += int(cost.macs)
        folded = row.family == FOLDED and row is not head
        ops += int(row.op.out.numel) if folded else int(cost.ops)
    unit: Unit = "matrix" if macs else "vector" if ops else "move"
    return Kernel(
        tuple(row.op.name for row in group.rows),
        head.op.module,
        head.family,
        unit,
        dtype,
        macs,
        ops,
        _reads(group, stored),
        _accesses((*group.tail.op.outputs, *group.tail.op.writes), stored),
        geometry_of(head.op) if macs else None,
        strided=_transposes(head.op),
        transcendentals=sum(transcendentals(row.op) for row in group.rows if row.cost),
        rows=rows_of(head.op),
        scalars=scalars(head.op, int(head.cost.ops) if head.cost else 0),
    )


def _free(place: int, rows: Sequence[Row], fusing: Fusing) -> bool:
    row = rows[place]
    if fusing.strided:
        return _no_bytes(row)
    if _no_bytes(row):
        if fusing.turned and permutation(row.op) is not None:
            return True
        if transposes(row.op):
            return fusing.transposed and _multiplied(place, rows)
        copied = row.op.target in fusing.copied
        return not (copied or reorders(row.op) or takes_part(row.op))
    return makes_contiguous(row.op)


def _multiplied(place: int, rows: Sequence[Row]) -> bool:
    """Whether the next op that takes what a view shows is a product."""
    out = rows[place].op.out
    for row in rows[place + 1 :]:
        if any(s.storage == out.storage and s.shape == out.shape for s in row.op.inputs):
            return row.family in ("matmul", "attention")
    return True


def _no_bytes(row: Row) -> bool:
    cost = row.cost
    return cost is not None and not (cost.macs or cost.ops or cost.bytes)


def _copied(row: Row, dtype: str, stored: str) -> Kernel:
    """A view that the runtime copies: what it shows is read once and written once."""
    op = row.op
    writes = tuple(Access(spec.storage, size_of(spec, stored)) for spec in op.outputs)
    reads = (Access(op.inputs[0].storage, sum(a.nbytes for a in writes)),)
    return Kernel(
        (op.name,), op.module, "movement", "move", dtype, 0, 0, reads, writes,
        strided=reorders(op) or transposes(op),
    )  # fmt: skip


def _readers(rows: Sequence[Row]) -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for index, row in enumerate(rows):
        for storage in {spec.storage for spec in row.op.inputs}:
            found.setdefault(storage, []).append(index)
    return found


def _host(
    index: int,
    row: Row,
    rows: Sequence[Row],
    groups: Sequence[Sequence[int]],
    owner: dict[int, int],
    readers: dict[int, list[int]],
    fusing: Fusing,
) -> int | None:
    """The group in whose epilogue the row runs, if any: one whose output nobody else reads."""
    sources = [s for s in row.op.inputs if s.kind == "activation" and s.storage in owner]
    candidates = sorted({owner[s.storage] for s in sources}, reverse=True)
    for candidate in candidates:
        last = groups[candidate][-1]
        if not _fits(row, rows[groups[candidate][0]], rows[last], fusing):
            continue
        storage = rows[last].op.out.storage
        if storage not in {s.storage for s in sources}:
            continue
        others = [i for i in readers[storage] if i > last and i != index]
        in_place = any(s.storage == storage for s in row.op.writes)
        if not any(i < index for i in others) if in_place else not others:
            return candidate
    return None


def _fits(row: Row, head: Row, last: Row, fusing: Fusing) -> bool:
    name = row.op.target.removesuffix("_")
    works = bool(head.cost is not None and head.cost.macs) and head.family != "attention"
    if row.family == FOLDED:
        return works and last is head
    if name in ADDITIONS and fusing.additions:
        works &= not (fusing.of_maps and head.family == "matmul")
        return works and len(row.op.inputs) == 2 and row.op.out.shape == last.op.out.shape
    if name in fusing.activations and works:
        return (
            last is head or last.family == FOLDED or last.op.target.removesuffix("_") in ADDITIONS
        )
    if last is head and head.family == FOLDED:
        return name in fusing.after_norm
    return name in fusing.after_addition and last.op.target.removesuffix("_") in ADDITIONS


def _reads(group: Group, stored: str) -> tuple[Access, ...]:
    inside = {s.storage for row in group.rows[:-1] for s in row.op.outputs}
    found: dict[int, Access] = {}
    for row in group.rows:
        if row.family == FOLDED and row is not group.head:
            continue
        cost, specs = row.cost, row.op.inputs
        share = 1.0
        if cost is not None and isinstance(cost.bytes_read, int):
            traced = int(distinct_bytes(specs))
            share = cost.bytes_read / traced if traced else 1.0
        for spec in specs:
            if row is not group.head and spec.storage in inside:
                continue
            if spec.value not in found:
                nbytes = int(size_of(spec, stored) * share)
                found[spec.value] = Access(spec.storage, nbytes, is_weight(spec))
    return tuple(found.values())


def _accesses(specs: Sequence[TensorSpec], stored: str) -> tuple[Access, ...]:
    seen: dict[int, Access] = {}
    for spec in specs:
        if spec.value not in seen:
            seen[spec.value] = Access(spec.storage, size_of(spec, stored), is_weight(spec))
    return tuple(seen.values())


def is_weight(spec: TensorSpec) -> bool:
    """Whether a tensor is the model's own."""
    return spec.kind in ("parameter", "buffer")


def _transposes(op: Op) -> bool:
    return bool(op.inputs) and not op.inputs[0].contiguous and not op.inputs[0].channels_last
