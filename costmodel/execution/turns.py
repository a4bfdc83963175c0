"""Where a runtime without strides moves data for views in another order: as late as it can.

ONNX Runtime pushes a transposition through the ops behind it, which then compute on data in the old
order, until it meets its inverse and both vanish, or an op that needs the new order
(``onnxruntime/core/optimizer/transpose_optimization/``). Only there the data moves. A transposition
that several ops read is not pushed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod

from costmodel.execution.fusion import is_weight
from costmodel.execution.order import (
    Order,
    alone,
    as_counted,
    permuted,
    places,
    reshaped,
    resized,
    without,
)
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
class Turn:
    """Data that moves before an op: what it reads, and how many places are computed one by one.

    ``axes`` are the memory axes in their new order. ``times``: how often it moves, there and back.
    """

    spec: TensorSpec
    axes: tuple[int, ...]
    places: int
    times: int = 1


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
        return reshaped(next(iter(known.values())), op.out) is not None
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
    order = alone(orders.get(_key(spec)) or as_counted(spec))
    axis = order.kept[int(row.op.args[1]) % spec.ndim]
    axes = list(range(len(order.extents)))
    if prod(order.extents[axis + 1 :]) == 1:
        return
    axes[axis], axes[-1] = axes[-1], axes[axis]
    yield Turn(spec, tuple(axes), places(axes, order.extents), times=2)


def _carry_on(row: Row, orders: dict[_Key, Order]) -> None:
    """Note the orders of what the row returns."""
    op = row.op
    if not op.inputs or not op.outputs:
        return
    known = [orders[key] for spec in op.inputs if (key := _key(spec)) in orders]
    exchanged = permutation(op)
    if exchanged is None and (not known or row.family == "matmul"):
        return
    before = known[0] if known else as_counted(op.inputs[0])
    for spec in op.outputs:
        after: Order | None
        if exchanged is not None:
            after = permuted(alone(before), exchanged)
        elif op.target in RESHAPES:
            after = reshaped(before, spec)
        elif op.target in DROPS:
            after = without(before, _dropped(op))
        elif takes_part(op):
            after = resized(before, spec)
        else:
            after = resized(alone(before), spec)
        if after is None or after.plain:
            orders.pop(_key(spec), None)
        else:
            orders[_key(spec)] = after


def _dropped(op: Op) -> int:
    """The axis of which the op takes a part."""
    return int(op.args[1] if len(op.args) > 1 else op.kwargs.get("dim", 0))
