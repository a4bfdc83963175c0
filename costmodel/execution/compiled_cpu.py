"""What inductor's code does on a CPU besides fusing loops.

Loops turn tiles of maps in registers, look numbers up one by one between vectors, and call Sleef.
Convolutions are left to ATen, which cannot always tell the order of the map that it gets.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import replace

from costmodel.execution.formats import BYTES
from costmodel.execution.kernel import Kernel
from costmodel.execution.own_loops import loop_of
from costmodel.execution.walk import dense, walk_of
from costmodel.ir import TensorSpec
from costmodel.rules.geometry import Geometry, geometry_of
from costmodel.rules.loops import ERF, GELU, TANH, looks_up, sigmoids
from costmodel.table import Row

_CONVOLUTIONS = ("conv", "depthwise")
#: Sigmoids that a function of Sleef takes: beyond a relu an exact GELU took 0.36 ns an element, a
#: tanh 1.2, a sigmoid 0.19 (PyTorch 2.13 on one core of a Xeon 6, 131,072 elements).
_SIGMOIDS = {GELU: 2, ERF: 2, TANH: 6}
#: Steps of a look-up: load the index, wrap a negative one, check both bounds, load the number,
#: store it for the vector.
_STEPS = 6
#: How often a loop that normalises rows comes to what goes into them.
_PASSES = 2


def ordered(launched: Sequence[Kernel], rows: Sequence[Row]) -> list[Kernel]:
    """Kernels with the order of their maps, and with what inductor's functions take.

    Convolutions run channels last (``decide_layout_opt`` in torch/_inductor/graph.py), except where
    ATen does not take their input for that: it copies such a map into the other order, in which
    the next loop finds the result.
    """
    ops, views = {row.op.name: row for row in rows}, _views_of_one_image(rows)
    other_order: set[int] = set()
    found = []
    for kernel in launched:
        row, view = ops.get(kernel.names[0]), views.get(kernel.names[0])
        if view is not None:
            other_order.update(access.storage for access in kernel.writes)
            walk = walk_of((view,), dense(view))
            kernel = replace(kernel, channels_last=False, strided=True, walk=walk)
        elif kernel.geometry is not None and kernel.geometry.kind in _CONVOLUTIONS:
            kernel = replace(kernel, channels_last=True, strided=False)
        elif row is not None and kernel.unit != "matrix":
            walk = loop_of(row, None)
            turned = any(access.storage in other_order for access in kernel.reads)
            kernel = replace(
                kernel,
                turned=turned or (walk is not None and walk.apart > 0),
                transcendentals=kernel.transcendentals * sigmoids(row.op, _SIGMOIDS),
            )
        found.append(kernel)
    return found


def _views_of_one_image(rows: Sequence[Row]) -> dict[str, TensorSpec]:
    """The inputs of convolutions that ATen does not take for channels last, by the op's name.

    A single image that is a view, of tokens or of what was normalised over its last dimension, has
    no stride to a next image that would fit (``is_channels_last_strides_2d`` in
    c10/core/MemoryFormat.h).
    """
    made: dict[int, TensorSpec] = {}
    found = {}
    for row in rows:
        op = row.op
        g = geometry_of(op) if row.cost is not None and row.cost.macs else None
        if g is not None and g.kind in _CONVOLUTIONS and not _tells_order(g):
            x = op.inputs[0]
            viewed = made.get(x.storage, x).shape != x.shape
            if viewed and x.shape[0] == 1 and x.channels_last and not x.contiguous:
                found[op.name] = x
        for spec in op.outputs:
            made.setdefault(spec.storage, spec)
    return found


def _tells_order(g: Geometry) -> bool:
    """Whether a convolution's weights lie otherwise channels last; inductor has them lie so."""
    taps = math.prod(g.taps)
    return taps > 1 and g.k > taps


def look_ups(rows: Sequence[Row]) -> frozenset[str]:
    """The ops that pick numbers from a table of the model which are used in another order, so that
    each takes a look-up of its own."""
    picked = {row.op.out.storage: row.op.name for row in rows if looks_up(row.op)}
    return frozenset(
        picked[spec.storage]
        for row in rows
        for spec in row.op.inputs
        if spec.storage in picked and spec.strides and spec.strides[-1] != 1
    )


def looking_up(kernel: Kernel, inlined: Collection[str]) -> Kernel:
    """A fused kernel with what look-ups in its loop take: each for every element in every pass."""
    count = sum(name in inlined for name in kernel.names)
    if not count or len(kernel.names) == 1:
        return kernel
    written = max((access.nbytes for access in kernel.writes), default=0)
    elements = int(written / BYTES[kernel.dtype])
    passes = _PASSES if kernel.rows else 1
    return replace(kernel, scalars=kernel.scalars + count * elements * passes * _STEPS)
