"""Where a runtime without strides moves data for views in another order: as late as it can.

ONNX Runtime pushes a transposition through the ops behind it, which then compute on data in the old
order, until it meets its inverse and both vanish, or an op that needs the new order
(``onnxruntime/core/optimizer/transpose_optimization/``). Only there the data moves. A transposition
that several ops read is not pushed.

Rows and blocks of memory move together. Where the innermost axis changes, ONNX Runtime has fast
loops for one axis that moves among others that stay, and otherwise computes the place of every
element (``onnxruntime/core/providers/cpu/tensor/transpose.cc``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod

from costmodel.execution.fusion import is_weight
from costmodel.ir import Op, TensorSpec
from costmodel.rules.copies import (
    CASTS,
    DROPS,
    JOINS,
    PADS,
    RESHAPES,
    makes_contiguous,
    permutation,
    takes_part,
)
from costmodel.table import Row

#: Families of ops that compute on any order, as long as all of their operands share it.
_ANY = ("activation", "elementwise", "random", "softmax")
#: Ops of other families that do.
_ALSO = JOINS | PADS | CASTS

#: A tensor as an op sees it: a view in another order has the same contents.
_Key = tuple[int, tuple[int, ...], bool]


@dataclass(frozen=True, slots=True)
class Order:
    """How the axes of a tensor lie in memory.

    ``extents`` are those of memory, outermost first. ``axes`` names the memory axis of every axis
    of the tensor; ``dropped`` are places among them of axes of extent 1 that it no longer has.
    """

    extents: tuple[int, ...]
    axes: tuple[int, ...]
    dropped: frozenset[int] = frozenset()

    @property
    def plain(self) -> bool:
        """Whether the axes lie as they are counted, those of extent 1 aside."""
        moved = [axis for axis in self.axes if self.extents[axis] > 1]
        return moved == sorted(moved)

    @property
    def kept(self) -> tuple[int, ...]:
        """The memory axes of the axes that the tensor has."""
        return tuple(axis for place, axis in enumerate(self.axes) if place not in self.dropped)

    @property
    def places(self) -> int:
        """What is moved one by one when memory is put in the order of the axes."""
        return places(self.axes, self.extents)


@dataclass(frozen=True, slots=True)
class Turn:
    """Data that moves before an op: what it reads, and how many places are computed one by one.

    ``axes`` are the memory axes in their new order. ``times``: how often it moves, there and back.
    """

    spec: TensorSpec
    axes: tuple[int, ...]
    places: int
    times: int = 1


def places(axes: Sequence[int], extents: Sequence[int]) -> int:
    """Elements, or blocks of them, that a transposition moves one by one.

    ``axes`` are the old places of the axes, in their new order; ``extents`` are the old ones.
    """
    elements, block = prod(extents), 1
    for place in range(len(axes) - 1, -1, -1):
        if axes[place] != place:
            break
        block *= extents[place]
    if block > 1:
        return elements // block
    return 0 if _one_moves(axes) else elements


def _one_moves(axes: Sequence[int]) -> bool:
    """Whether the axes are in order but for one."""
    rests = ([*axes[:place], *axes[place + 1 :]] for place in range(len(axes)))
    return any(rest == sorted(rest) for rest in rests)


def turns(rows: Sequence[Row]) -> dict[int, list[Turn]]:
    """What moves before each row, by the row's place; at ``len(rows)`` before the end."""
    orders: dict[_Key, Order] = {}
    readers = _readers(rows)
    found: dict[int, list[Turn]] = {}
    for place, row in enumerate(rows):
        moved = list(_moved(row, orders, readers))
        for turn in moved:
            del orders[_key(turn.spec)]
        moved += _within(row, orders)
        if moved:
            found[place] = moved
        _carry_on(row, orders)
    last = [
        Turn(spec, order.axes, order.places)
        for spec in (rows[-1].op.outputs if rows else ())
        if (order := orders.get(_key(spec))) is not None
    ]
    return found | ({len(rows): last} if last else {})


def _key(spec: TensorSpec) -> _Key:
    return spec.value, tuple(map(int, spec.shape)), spec.contiguous


def _readers(rows: Sequence[Row]) -> Mapping[_Key, int]:
    found: dict[_Key, int] = {}
    for row in rows:
        for key in {_key(spec) for spec in row.op.inputs}:
            found[key] = found.get(key, 0) + 1
    return found


def _moved(row: Row, orders: Mapping[_Key, Order], readers: Mapping[_Key, int]) -> Iterator[Turn]:
    """The operands that have to be put in order before the row."""
    op = row.op
    turned = {key: spec for spec in op.inputs if (key := _key(spec)) in orders}
    if not turned or makes_contiguous(op):
        return
    passes = _passes(row, {key: orders[key] for key in turned})
    for key, spec in turned.items():
        order = orders[key]
        if permutation(op) is not None or (passes and readers[key] == 1):
            continue
        if row.family == "matmul" and _transposed(order) and not _linear(op):
            continue
        yield Turn(spec, order.axes, order.places)


def _passes(row: Row, known: Mapping[_Key, Order]) -> bool:
    """Whether the op computes on its operands as they lie."""
    op = row.op
    if op.target in RESHAPES:
        return _reshaped(next(iter(known.values())), op.out) is not None
    if takes_part(op):
        return True
    if row.family not in _ANY and op.target not in _ALSO:
        return False
    # A weight is turned once and for all.
    whole = {_key(s) for s in op.inputs if s.numel == op.out.numel and not is_weight(s)}
    alike = len({(order.extents, order.kept) for order in known.values()}) == 1
    return alike and (whole == known.keys() or op.target in JOINS)


def _transposed(order: Order) -> bool:
    """Whether only the rows and columns of matrices are exchanged, which products do themselves."""
    *batch, row, column = order.axes
    return not order.dropped and batch == sorted(batch) and row == column + 1 == len(batch) + 1


def _linear(op: Op) -> bool:
    """Whether a factor is a weight: the rows of the other one are put together for a plain product
    first."""
    return any(spec.kind == "parameter" for spec in op.inputs)


def _within(row: Row, orders: Mapping[_Key, Order]) -> Iterator[Turn]:
    """A softmax along an axis that is not the innermost one exchanges the two, and puts them back
    (``onnxruntime/core/providers/cpu/math/softmax.cc``)."""
    if row.family != "softmax":
        return
    spec = row.op.inputs[0]
    order = _alone(orders.get(_key(spec)) or _as_counted(spec))
    axis = order.kept[int(row.op.args[1]) % spec.ndim]
    axes = list(range(len(order.extents)))
    if prod(order.extents[axis + 1 :]) == 1:
        return
    axes[axis], axes[-1] = axes[-1], axes[axis]
    yield Turn(spec, tuple(axes), places(axes, order.extents), times=2)


def _as_counted(spec: TensorSpec) -> Order:
    return Order(tuple(map(int, spec.shape)), tuple(range(spec.ndim)))


def _carry_on(row: Row, orders: dict[_Key, Order]) -> None:
    """Note the orders of what the row returns."""
    op = row.op
    if not op.inputs or not op.outputs:
        return
    known = [orders[key] for spec in op.inputs if (key := _key(spec)) in orders]
    exchanged = permutation(op)
    if exchanged is None and (not known or row.family == "matmul"):
        return
    before = known[0] if known else _as_counted(op.inputs[0])
    for spec in op.outputs:
        after: Order | None
        if exchanged is not None:
            after = _permuted(_alone(before), exchanged)
        elif op.target in RESHAPES:
            after = _reshaped(before, spec)
        elif op.target in DROPS:
            after = _without(before, op)
        elif takes_part(op):
            after = _resized(before, spec)
        else:
            after = _resized(_alone(before), spec)
        if after is None or after.plain:
            orders.pop(_key(spec), None)
        else:
            orders[_key(spec)] = after


def _permuted(order: Order, exchanged: Sequence[int]) -> Order:
    return replace(order, axes=tuple(order.axes[axis] for axis in exchanged))


def _without(order: Order, op: Op) -> Order:
    """The order of one of the parts along an axis that is dropped."""
    dim = op.args[1] if len(op.args) > 1 else op.kwargs.get("dim", 0)
    kept = [place for place in range(len(order.axes)) if place not in order.dropped]
    place = kept[int(dim) % len(kept)]
    extents = list(order.extents)
    extents[order.axes[place]] = 1
    return Order(tuple(extents), order.axes, order.dropped | {place})


def _alone(order: Order) -> Order:
    """The order without dropped axes, as what is pushed through the view that dropped them."""
    gone = {order.axes[place] for place in order.dropped}
    left = [axis for axis in range(len(order.extents)) if axis not in gone]
    extents = tuple(order.extents[axis] for axis in left)
    return Order(extents, tuple(left.index(axis) for axis in order.kept))


def _resized(order: Order, spec: TensorSpec) -> Order | None:
    """The order of what has the same axes, of other lengths perhaps."""
    if len(order.kept) != spec.ndim:
        return None
    extents = list(order.extents)
    for axis, extent in zip(order.kept, spec.shape, strict=True):
        extents[axis] = int(extent)
    return replace(order, extents=tuple(extents))


def _reshaped(order: Order, spec: TensorSpec) -> Order | None:
    """The order after axes were split or named anew; ``None`` where axes grow together."""
    parts: list[list[int]] = []
    rest = [int(extent) for extent in spec.shape]
    for axis in order.kept:
        part = [rest.pop(0)] if order.extents[axis] == 1 and rest[:1] == [1] else []
        while rest and prod(part) < order.extents[axis]:
            part.append(rest.pop(0))
        if prod(part) != order.extents[axis]:
            return None
        parts.append(part)
    if any(extent != 1 for extent in rest):
        return None
    parts[-1] += rest
    begins: dict[int, int] = {}
    extents: list[int] = []
    split = dict(zip(order.kept, parts, strict=True))
    for axis in range(len(order.extents)):
        if axis in split:
            begins[axis] = len(extents)
            extents += split[axis]
    axes = [begins[axis] + i for axis in order.kept for i in range(len(split[axis]))]
    return Order(tuple(extents), tuple(axes))


__all__ = ["Order", "Turn", "places", "turns"]
