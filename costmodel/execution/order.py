"""How the axes of a tensor lie in memory, and what becomes of that under views.

Rows and blocks of memory move together. Where the innermost axis changes, ONNX Runtime has fast
loops for one axis that moves among others that stay, and otherwise computes the place of every
element (``onnxruntime/core/providers/cpu/tensor/transpose.cc``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod

from costmodel.ir import TensorSpec


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


def as_counted(spec: TensorSpec) -> Order:
    """The order of a tensor whose axes lie as they are counted."""
    return Order(tuple(map(int, spec.shape)), tuple(range(spec.ndim)))


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


def permuted(order: Order, exchanged: Sequence[int]) -> Order:
    """The order after a permutation of the axes."""
    return replace(order, axes=tuple(order.axes[axis] for axis in exchanged))


def alone(order: Order) -> Order:
    """The order without dropped axes, as what is pushed through the view that dropped them."""
    gone = {order.axes[place] for place in order.dropped}
    left = [axis for axis in range(len(order.extents)) if axis not in gone]
    extents = tuple(order.extents[axis] for axis in left)
    return Order(extents, tuple(left.index(axis) for axis in order.kept))


def without(order: Order, dim: int) -> Order:
    """The order of one of the parts along an axis that is dropped."""
    kept = [place for place in range(len(order.axes)) if place not in order.dropped]
    place = kept[dim % len(kept)]
    extents = list(order.extents)
    extents[order.axes[place]] = 1
    return Order(tuple(extents), order.axes, order.dropped | {place})


def resized(order: Order, spec: TensorSpec) -> Order | None:
    """The order of what has the same axes, of other lengths perhaps."""
    if len(order.kept) != spec.ndim:
        return None
    extents = list(order.extents)
    for axis, extent in zip(order.kept, spec.shape, strict=True):
        extents[axis] = int(extent)
    return replace(order, extents=tuple(extents))


def reshaped(order: Order, spec: TensorSpec) -> Order | None:
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
