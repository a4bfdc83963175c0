"""Algorithms of a dense convolution, each as the kernels that it launches.

Winograd's F(m, 3) (Lavin & Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016)
makes an m x m output tile of a 3x3 stride-1 convolution from (m+2)^2 products instead of 9 m^2, and
pays with two transforms. Its products for all tiles are (m+2)^2 matrix products of
(tiles x C_in) by (C_in x C_out), whose transformed weights are (m+2)^2/9 times as large.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from costmodel.execution.kernel import Kernel
from costmodel.rules.geometry import Geometry

#: Additions and multiplications by constants a transformed element costs, for each m: nested
#: one-dimensional transforms, as counted by Lavin & Gray, section 4 (input, output).
_TRANSFORM_OPS = {2: (2.0, 1.5), 4: (4.3, 2.8), 6: (5.5, 3.9)}


def applies(geometry: Geometry | None) -> bool:
    """Whether F(m, 3) computes this: a dense two-dimensional 3x3 convolution of stride 1."""
    return (
        geometry is not None
        and geometry.kind == "conv"
        and geometry.taps == (3, 3)
        and geometry.stride == (1, 1)
        and geometry.dilation == (1, 1)
        and geometry.groups == 1
        and not geometry.transposed
    )


def tiles(geometry: Geometry, m: int) -> int:
    """Output tiles of m x m, the ragged edge included, over the batch."""
    height, width = geometry.spatial
    samples = geometry.m // (height * width)
    return int(samples * math.ceil(height / m) * math.ceil(width / m))


def products(geometry: Geometry, m: int) -> int:
    """Multiply-accumulates of F(m, 3)."""
    return int((m + 2) ** 2 * tiles(geometry, m) * geometry.n * (geometry.k // 9))


def best(geometry: Geometry, choices: Sequence[int]) -> int:
    """The tile with the fewest operations, transforms included."""

    def work(m: int) -> float:
        into, out = _transform_ops(geometry, m)
        return 2 * products(geometry, m) + into + out

    return min(choices, key=work)


def winograd(kernel: Kernel, m: int) -> Kernel:
    """The kernel computed by F(m, 3): fewer products, larger weights, transforms besides.

    Runtimes transform block by block, so that transformed activations stay in the cache: they cost
    instructions, not traffic. Counts are those of the algorithm.
    """
    geometry = kernel.geometry
    assert geometry is not None
    square = (m + 2) ** 2
    weights = [a for a in kernel.reads if a.weight]
    largest = max(weights, key=lambda a: a.nbytes, default=None)
    reads = tuple(
        replace(a, nbytes=a.nbytes * square // 9) if a is largest else a for a in kernel.reads
    )
    return replace(
        kernel,
        macs=products(geometry, m),
        ops=kernel.ops + int(sum(_transform_ops(geometry, m))),
        reads=reads,
        geometry=Geometry("gemm", square, tiles(geometry, m), geometry.n, geometry.k // 9),
    )


def im2col(kernel: Kernel) -> Kernel:
    """The kernel as one matrix product over copied windows: a load and a store an element.

    Windows are copied block by block, so that they stay in the cache.
    """
    geometry = kernel.geometry
    assert geometry is not None
    copied = geometry.groups * geometry.m * geometry.k
    return replace(kernel, ops=kernel.ops + int(copied))


def _transform_ops(geometry: Geometry, m: int) -> tuple[float, float]:
    into, out = _TRANSFORM_OPS[m]
    elements = (m + 2) ** 2 * tiles(geometry, m)
    return into * elements * (geometry.k // 9), out * elements * geometry.n
