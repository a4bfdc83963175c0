"""How a loop of PyTorch meets its operands: in stretches, or element by element.

ATen walks all operands in the order of what it writes, and joins dimensions that lie one after
another in all of them (``TensorIteratorBase::coalesce_dimensions`` in
aten/src/ATen/TensorIterator.cpp). An operand in another order is met one element at a time, each
in a cache line of its own; the next sweep finds its neighbours there if the lines are still held.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod

from costmodel.ir import Op, TensorSpec

#: Bytes of a cache line, and of a page, inside of which addresses decide where in a cache it goes.
LINE, _PAGE = 64, 4096


@dataclass(frozen=True, slots=True)
class Walk:
    """A loop over operands that are not all in one order.

    ``apart`` elements are met one by one, for which ``line`` bytes come each unless a sweep over
    ``sweep`` bytes of a cache has left them there; lines a power of two apart share few places, and
    count as all that share them. ``stretches`` are loops that are begun.
    """

    stretches: int
    apart: int = 0
    line: int = 0
    sweep: int = 0


def walk_of(sources: Sequence[TensorSpec], out: TensorSpec) -> Walk | None:
    """The loop that makes ``out`` of ``sources``; ``None`` where all are one stretch, or where
    strides are not known, as of symbols."""
    specs = (out, *sources)
    if any(not spec.contiguous and not spec.strides for spec in specs):
        return None
    if all(spec.contiguous and spec.shape == out.shape for spec in sources) and out.contiguous:
        return None
    strides = [_strides(spec, out.shape) for spec in specs]
    axes = _joined([
        (int(extent), tuple(each[place] for each in strides))
        for place, extent in enumerate(out.shape)
        if extent != 1
    ])  # fmt: skip
    if not axes or any(extent == 0 for extent, _ in axes):
        return None
    inner, steps = axes[0]
    elements = prod(extent for extent, _ in axes)
    walks = [
        _apart(elements, inner, step * spec.itemsize, spec.itemsize)
        for spec, step in zip(specs, steps, strict=True)
    ]
    if len(axes) == 1 and not any(walk.apart for walk in walks):
        return None
    return max(walks, key=lambda walk: walk.sweep)


def dense(spec: TensorSpec) -> TensorSpec:
    """The tensor with its dimensions one after another in memory."""
    return replace(spec, contiguous=True, channels_last=False, strides=())


def rearranges(op: Op) -> bool:
    """Whether input and output disagree on memory order, so that access runs across lines.

    An operand of fewer dimensions is repeated, and met in any order.
    """
    if not op.inputs or not op.outputs:
        return False
    out = op.out
    source = next((spec for spec in op.inputs if spec.ndim == out.ndim), op.inputs[0])
    whole = source.contiguous or source.channels_last
    return not whole or (source.contiguous, source.channels_last) != (
        out.contiguous,
        out.channels_last,
    )


def _apart(elements: int, inner: int, step: int, itemsize: int) -> Walk:
    """The walk over one operand, ``step`` bytes from an element to the next."""
    if step in (0, itemsize):
        return Walk(elements // inner)
    line = min(step, LINE)
    power = min(step & -step, _PAGE)
    return Walk(elements // inner, elements, line, inner * max(line, power))


def _strides(spec: TensorSpec, shape: Sequence[object]) -> tuple[int, ...]:
    """Elements from one index of ``shape`` to the next, 0 where the operand is repeated."""
    missing = len(shape) - spec.ndim
    own = spec.strides or tuple(
        prod(int(extent) for extent in spec.shape[place + 1 :]) for place in range(spec.ndim)
    )
    extents = (*(1,) * missing, *spec.shape)
    return tuple(
        0 if extent == 1 else stride
        for extent, stride in zip(extents, (*(0,) * missing, *own), strict=True)
    )


def _joined(axes: list[tuple[int, tuple[int, ...]]]) -> list[tuple[int, tuple[int, ...]]]:
    """Axes (extent, steps of the output and of its operands), innermost first, those that lie one
    after another in all operands made one."""
    found: list[tuple[int, tuple[int, ...]]] = []
    for extent, steps in sorted(axes, key=lambda axis: axis[1]):
        if found:
            length, before = found[-1]
            if all(step == length * last for step, last in zip(steps, before, strict=True)):
                found[-1] = (length * extent, before)
                continue
        found.append((extent, steps))
    return found
