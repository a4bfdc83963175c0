"""A neural accelerator: a matrix engine fed in blocks, a vector unit, on-chip memory, a call.

The matrix engine works on blocks of 32 input by 32 output channels by 8 x 8 positions, partly
empty at ragged edges, and densely across narrow groups. Depthwise convolutions, scalar operations
and copies are the vector unit's. Weights come from main memory in every run; activations do when
they are further apart than the on-chip memory is large. A network in int8 whose caller hands it
floats narrows them first.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from costmodel.execution.formats import BYTES
from costmodel.execution.kernel import Kernel, nbytes
from costmodel.execution.npu import narrowed
from costmodel.hardware import peak
from costmodel.hardware.schema import NpuEngine
from costmodel.machine.caches import Touches, hits, touches
from costmodel.machine.times import Array, Timer, Times

if TYPE_CHECKING:
    from costmodel.setting import Setting

_CHANNELS = 32
_SIDE = 8


@dataclass(frozen=True)
class Work:
    """Per kernel: products with empty places, the vector unit's operations, elements copied."""

    matrix: Array
    vector: Array
    copied: Array
    width: Array
    touched: Touches


def timer(kernels: Sequence[Kernel], chosen: Setting) -> Timer:
    """Seconds per kernel, once constants are known; the call's cost falls on the first."""
    engine = chosen.profile.engines[chosen.engine]
    assert isinstance(engine, NpuEngine)
    memory = engine.memory or chosen.profile.memory
    rate = peak(chosen.profile, chosen.engine, chosen.dtype)  # type: ignore[arg-type]
    half = peak(chosen.profile, chosen.engine, "fp16")
    work, sram = work_of(kernels), (engine.sram_mb or 0.0) * 2**20
    place = narrowed(chosen.dtype, chosen.caller)
    floats = _entering(kernels) if place else 0.0

    def seconds(constants: Mapping[str, float]) -> Times:
        call_us = constants["call_us"] if engine.call_us is None else engine.call_us
        if place:
            call_us += floats * constants[f"{place}_narrows_ns"] * 1e-3
        return evaluate(work, rate / 2, half / 2, memory.gb_per_s * 1e9, sram, constants, call_us)

    return seconds


def _entering(kernels: Sequence[Kernel]) -> float:
    """Elements that a run gets from outside: what is read and was not written before."""
    known: set[int] = set()
    found = 0.0
    for kernel in kernels:
        for access in kernel.reads:
            if not access.weight and access.storage not in known:
                found += access.nbytes / BYTES[kernel.dtype]
        known.update(access.storage for access in (*kernel.reads, *kernel.writes))
    return found


def work_of(kernels: Sequence[Kernel]) -> Work:
    """What the kernels ask of each unit."""
    matrix = [_blocks(kernel) for kernel in kernels]
    vector = [float(k.ops + (k.macs if _is_depthwise(k) else 0)) for k in kernels]
    width = np.array([BYTES[k.dtype] / 2 for k in kernels], float)
    copied = [_copied(kernel) for kernel in kernels]
    return Work(np.array(matrix), np.array(vector), np.array(copied), width, touches(kernels))


def evaluate(
    work: Work,
    macs_per_s: float,
    macs_per_s16: float,
    bytes_per_s: float,
    sram: float,
    constants: Mapping[str, float],
    call_us: float,
) -> Times:
    """Seconds from work and peaks; ``call_us`` is what the call takes besides."""
    slow = macs_per_s16 * constants["vector_share"]
    compute = work.matrix / (macs_per_s * constants["matrix_efficiency"])
    compute = compute + (work.vector + work.copied) * work.width / slow
    touched = work.touched
    apart = np.maximum(touched.distance - 2 * touched.nbytes, 0.0)  # layers run tile by tile
    inside = np.where(touched.weight, 0.0, hits(apart, sram))
    outside = np.bincount(touched.kernel, touched.nbytes * (1 - inside), len(work.matrix))
    traffic = outside / (bytes_per_s * constants["stream_efficiency"])
    active = work.matrix + work.vector + work.copied > 0
    overhead = np.where(active, constants["layer_us"] * 1e-6 * work.width, 0.0)
    exposed = constants["exposed"] * np.minimum(compute, traffic)
    latency = np.maximum(compute, traffic) + exposed + overhead
    found = Times(latency, compute, traffic, overhead, ("dram",) * len(compute))
    return found.begun(call_us * 1e-6)


def _copied(kernel: Kernel) -> float:
    """Elements that the vector unit reads and writes: none where floating-point tensors are only
    put side by side, which the compiler does by writing each in its place; int8 ones differ in
    scale."""
    if kernel.macs or (kernel.unit == "move" and not kernel.strided and kernel.dtype != "int8"):
        return 0.0
    return (nbytes(kernel.reads) + nbytes(kernel.writes)) / BYTES[kernel.dtype]


def _is_depthwise(kernel: Kernel) -> bool:
    return kernel.geometry is not None and kernel.geometry.kind == "depthwise"


def _blocks(kernel: Kernel) -> float:
    """Multiply-accumulates of the blocks that the matrix engine computes, empty places included."""
    geometry = kernel.geometry
    if geometry is None or geometry.kind == "depthwise":
        return 0.0
    taps = math.prod(geometry.taps) if geometry.taps else 1
    groups, n, k = float(geometry.groups), float(geometry.n), geometry.k / taps
    if (
        geometry.kind == "conv" and groups > 1
    ):  # narrow groups share a block, off the diagonal empty
        together = max(1.0, min(groups, _CHANNELS // max(n, k)))
        groups, n, k = groups / together, n * together, k * together
    rows = float(geometry.m)
    if len(geometry.spatial) == 2:
        height, width = geometry.spatial
        rows *= _filled(height, _SIDE) * _filled(width, _SIDE) / (height * width)
    else:
        rows = _filled(rows, _CHANNELS)
    exact = float(geometry.groups) * geometry.m * geometry.n * geometry.k
    blocks = groups * rows * _filled(n, _CHANNELS) * _filled(k, _CHANNELS) * taps
    return kernel.macs * blocks / exact


def _filled(extent: float, block: int) -> float:
    return math.ceil(extent / block) * float(block)
