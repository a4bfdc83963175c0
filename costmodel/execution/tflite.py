"""TensorFlow Lite on XNNPACK (int8 on ruy): channels last, no Winograd.

A convolution gathers its operands through pointers to input rows (Dukhan, "The Indirect
Convolution Algorithm", 2019), so that nothing is copied. A clamp (ReLU, ReLU6) rides on every
kernel; other activations are kernels of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod

from costmodel.execution.formats import half_where_computed as format_on
from costmodel.execution.fusion import Fusing, Group, fused, plain_kernel
from costmodel.execution.kernel import Kernel
from costmodel.rules.epilogues import RELU
from costmodel.table import Row

DTYPES = ("fp32", "fp16", "int8")
#: Taps of the largest depthwise microkernel: windows of more are grouped convolutions of one
#: channel each (``xnn_f32_dwconv_config`` in XNNPACK's src/configs/dwconv-config.c).
_DEPTHWISE_TAPS = 25
FUSING = Fusing(activations=RELU, after_addition=RELU, strided=False, transposed=False)


def kernels(rows: Sequence[Row], dtype: str) -> list[Kernel]:
    """The kernels of one run."""
    return [kernel_of(group, dtype) for group in fused(rows, FUSING)]


def kernel_of(group: Group, dtype: str) -> Kernel:
    """The kernel of a group; int8 rescales every output in three more operations."""
    found = _indirect(plain_kernel(group, dtype))
    if dtype != "int8":
        return found
    return replace(found, ops=found.ops + 3 * sum(a.nbytes for a in found.writes))


def _indirect(kernel: Kernel) -> Kernel:
    """The kernel with the pointers that its convolution follows: one a tap and row of a tile."""
    g = kernel.geometry
    if g is None or g.kind not in ("conv", "depthwise") or not g.spatial:
        return kernel
    taps = prod(g.taps)
    if g.kind == "depthwise" and taps > _DEPTHWISE_TAPS:
        g = replace(g, kind="conv")
    if g.kind == "depthwise" or taps == 1:
        return replace(kernel, geometry=g)
    return replace(kernel, geometry=g, pointers=g.groups * g.m * taps)


__all__ = ["DTYPES", "FUSING", "format_on", "kernels"]
