"""What ncnn's Vulkan layers dispatch: a border, Winograd's transforms and its products one by one.

On a GPU nothing stays in a core's cache between the parts of a layer: each is a dispatch of its own
that leaves its tensor in memory for the next (ncnn, src/layer/vulkan/convolution_vulkan.cpp).
"""

from __future__ import annotations

from dataclasses import replace

from costmodel.execution.kernel import Access, Kernel
from costmodel.execution.winograd import applies, tiles, winograd
from costmodel.rules.geometry import Geometry

#: Below this many channels on either side ncnn convolves directly.
MIN_CHANNELS = 16
#: Outputs a side up to which integrated GPUs take F(2, 3), beyond F(4, 3).
_SMALL = 10


def dispatched(kernel: Kernel, size: float) -> Kernel:
    """The kernel with all the dispatches of its op and what they leave in memory in between,
    written and read again. ``size`` is the bytes of an element."""
    geometry = kernel.geometry
    if geometry is None or geometry.kind not in ("conv", "depthwise") or geometry.transposed:
        return kernel
    dispatches, between = 1, 0.0
    if geometry.padded:
        dispatches += 1
        between += _largest(kernel)
    if applies(geometry) and min(geometry.n, geometry.k // 9) >= MIN_CHANNELS:
        m = 2 if max(geometry.spatial) <= _SMALL else 4
        dispatches += 2 + 2 * _ragged(geometry, m)
        elements = (m + 2) ** 2 * tiles(geometry, m) * (geometry.k // 9 + geometry.n)
        between += elements * size
        kernel = winograd(kernel, m)
    passed = [Access(a.storage, int(between)) for a in kernel.writes[:1] if between] * 2
    return replace(kernel, writes=(*passed, *kernel.writes), dispatches=dispatches)


def _ragged(geometry: Geometry, m: int) -> bool:
    """Whether the output is no whole number of tiles: the input is extended, the output cropped."""
    return any(extent % m for extent in geometry.spatial)


def _largest(kernel: Kernel) -> int:
    return max((a.nbytes for a in kernel.reads if not a.weight), default=0)
