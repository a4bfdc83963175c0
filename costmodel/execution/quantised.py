"""int8 layers among others in floating point, as ncnn runs them.

A layer narrows an input that is in floating point to a copy of bytes, and scales its sums at the
end: to bytes where nothing but int8 convolutions reads them ("requantise"), else to floating point
(`Convolution_arm::forward_int8_arm`, and what `ncnn2int8` fuses; https://github.com/Tencent/ncnn).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from costmodel.execution.kernel import Access, Kernel

#: Operations that scale, round and clamp one element.
_SCALED = 3
_CONVOLUTIONS = ("conv", "depthwise")


def quantised(kernels: Sequence[Kernel], size: float) -> list[Kernel]:
    """The kernels of a network in schedule order, those in int8 with what quantising takes.

    Elements have ``size`` bytes so far. The first tensor that a kernel writes is its output; copies
    that it makes on the way (the others) are in int8 already.
    """
    narrow = _narrow(kernels)
    return [_converted(k, size, narrow) if k.dtype == "int8" else k for k in kernels]


def _narrow(kernels: Sequence[Kernel]) -> frozenset[int]:
    """Storages that int8 convolutions write, and that they alone read."""
    written: set[int] = set()
    read: set[int] = set()
    wide: set[int] = set()
    for kernel in kernels:
        inputs = {a.storage for a in kernel.reads if not a.weight}
        if _convolves(kernel):
            written.add(kernel.writes[0].storage)
            read |= inputs
        else:
            wide |= inputs
    return frozenset(written & read - wide)


def _convolves(kernel: Kernel) -> bool:
    geometry = kernel.geometry
    return kernel.dtype == "int8" and geometry is not None and geometry.kind in _CONVOLUTIONS


def _converted(kernel: Kernel, size: float, narrow: frozenset[int]) -> Kernel:
    """Weights, and tensors between int8 convolutions, of one byte an element; a pass over every
    other input, which writes a copy that is read again, as near as all that the kernel writes."""

    def bytewise(access: Access) -> Access:
        return replace(access, nbytes=int(access.nbytes / size))

    output, *copies = kernel.writes
    inputs = [a for a in kernel.reads if not a.weight and a.storage not in narrow]
    narrowed = [bytewise(a) for a in inputs]
    elements = sum(a.nbytes for a in (*inputs, output)) / size
    return replace(
        kernel,
        ops=kernel.ops + int(_SCALED * elements),
        reads=tuple(a if a in inputs else bytewise(a) for a in kernel.reads),
        writes=(
            bytewise(output) if output.storage in narrow else output,
            *copies, *narrowed, *narrowed,
        ),
    )  # fmt: skip
