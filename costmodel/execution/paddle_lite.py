"""Paddle-Lite on Arm: folded batch norm, fused activations, Winograd, im2col elsewhere.

fp16 rows store and compute in half precision; int8 applies to convolutions and fully connected
layers, with neighbours left in int8.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from costmodel.execution.formats import half_where_computed as format_on
from costmodel.execution.fusion import Fusing, fused, plain_kernel
from costmodel.execution.kernel import Kernel
from costmodel.execution.winograd import applies, best, im2col, winograd
from costmodel.rules.epilogues import HARD, LEAKY, RELU
from costmodel.table import Row

DTYPES = ("fp32", "fp16", "int8")
FUSING = Fusing(activations=RELU | HARD | LEAKY, after_addition=RELU)
WINOGRAD = (2, 4, 6)


def kernels(rows: Sequence[Row], dtype: str) -> list[Kernel]:
    """The kernels of one run."""
    return [_algorithm(plain_kernel(group, dtype)) for group in fused(rows, FUSING)]


def _algorithm(kernel: Kernel) -> Kernel:
    geometry = kernel.geometry
    if kernel.dtype == "int8":
        kernel = replace(kernel, ops=kernel.ops + 3 * sum(a.nbytes for a in kernel.writes))
    if geometry is None or geometry.kind != "conv" or geometry.transposed:
        return kernel
    if kernel.dtype != "int8" and applies(geometry):
        return winograd(kernel, best(geometry, WINOGRAD))
    return im2col(kernel)


__all__ = ["DTYPES", "FUSING", "format_on", "kernels"]
