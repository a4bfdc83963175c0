"""A GPU that a portable runtime drives by compute shaders (Vulkan, OpenCL): phones and boards.

Shaders compute at the rate of single precision: shorter formats shorten what is loaded, not how
often. Products use matrix units where there are any (Vulkan's cooperative matrices). Each
invocation makes a small tile of outputs, so that a small layer leaves units idle. Every dispatch
ends in a barrier, which drains the units, flushes caches and refills: cycles of the GPU's own
clock. A run pays once for submission, upload and the wait for the last result.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from costmodel.execution.kernel import Kernel
from costmodel.hardware.catalog import architecture
from costmodel.hardware.schema import GpuEngine
from costmodel.machine.caches import Touches, hits, touches
from costmodel.machine.times import Array, Timer, Times

if TYPE_CHECKING:
    from costmodel.setting import Setting

#: Outputs of one invocation: four channels of four positions.
_TILE = 4


@dataclass(frozen=True)
class Work:
    """Per kernel: products with ragged tiles filled, those on depthwise taps, scalar operations,
    invocations, dispatches, and the accesses."""

    macs: Array
    depthwise: Array
    ops: Array
    invocations: Array
    dispatches: Array
    touched: Touches


def timer(kernels: Sequence[Kernel], chosen: Setting) -> Timer:
    """Seconds per kernel, once constants are known; submission falls on the first."""
    engine = chosen.profile.engines[chosen.engine]
    assert isinstance(engine, GpuEngine)
    work = work_of(kernels)
    vector, matrix = engine.vector_tflops["fp32"] * 1e12, engine.matrix_tflops
    products = np.array([max(vector, matrix.get(k.dtype, 0.0) * 1e12) for k in kernels])  # type: ignore[call-overload]
    warp = architecture(engine.architecture).warp
    memory = engine.memory or chosen.profile.memory
    shared = [e.system_cache_mb or 0.0 for e in chosen.profile.engines.values() if e.kind == "cpu"]
    l2 = ((engine.l2_mb or 0.0) + max(shared, default=0.0)) * 1e6
    lanes = float(engine.multiprocessors * warp)
    clock = engine.clock_ghz * 1e9
    return lambda constants: evaluate(
        work, products, vector, lanes, memory.gb_per_s * 1e9, l2, constants, clock
    )


def work_of(kernels: Sequence[Kernel]) -> Work:
    """What the kernels ask of the GPU."""
    rows = [_demand(kernel) for kernel in kernels]
    macs, depthwise, ops, invocations = (np.array(c, float) for c in zip(*rows, strict=True))
    dispatches = np.array([kernel.dispatches for kernel in kernels], float)
    return Work(macs, depthwise, ops, invocations, dispatches, touches(kernels))


def evaluate(
    work: Work,
    products_per_s: Array,
    flops_per_s: float,
    lanes: float,
    bytes_per_s: float,
    l2: float,
    constants: Mapping[str, float],
    clock: float,
) -> Times:
    """Per kernel max(arithmetic, traffic) and its dispatches; lanes beyond the invocations idle.

    ``products_per_s`` are FLOP/s of each kernel's products, ``flops_per_s`` those of everything
    else. ``l2`` are bytes of the GPU's cache and of the chip's system cache, ``clock`` is in Hz.
    """
    busy = np.minimum(1.0, work.invocations / (lanes * constants["waves_to_fill"]))
    products = 2 * work.macs / (products_per_s * constants["matrix_efficiency"] * busy)
    taps = 2 * work.depthwise / (flops_per_s * constants["depthwise_efficiency"] * busy)
    scalar = work.ops / (flops_per_s / 2 * constants["depthwise_efficiency"] * busy)
    compute = products + taps + scalar
    touched = work.touched
    outside = touched.nbytes * (1 - hits(touched.distance, l2))
    moved = np.bincount(touched.kernel, outside, len(compute))
    traffic = moved / (bytes_per_s * constants["stream_efficiency"])
    overhead = work.dispatches * constants["dispatch_cycles"] / clock
    level = ("dram",) * len(compute)
    latency = np.maximum(compute, traffic) + overhead
    found = Times(latency, compute, traffic, overhead, level)
    return found.begun(constants["submit_us"] * 1e-6)


def _demand(kernel: Kernel) -> tuple[float, float, float, float]:
    geometry = kernel.geometry
    ops = float(kernel.ops)
    if geometry is None:
        return 0.0, 0.0, ops, max(sum(a.nbytes for a in kernel.writes) / (2.0 * _TILE), 1.0)
    m, n = float(geometry.m), float(geometry.n)
    if geometry.kind == "depthwise":
        return 0.0, float(kernel.macs), ops, geometry.groups * n * m / _TILE
    across = math.ceil(m / _TILE) * math.ceil(n / _TILE)
    filled = across * _TILE * _TILE / (m * n)
    return kernel.macs * filled, 0.0, ops, float(geometry.groups) * across
