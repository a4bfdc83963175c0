"""A GPU: matrix and vector units, memory, and a host that issues kernels ahead of the device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from costmodel.execution.kernel import Kernel
from costmodel.hardware.schema import GpuEngine
from costmodel.machine.times import Times

if TYPE_CHECKING:
    from costmodel.roofline import Setting


def times(kernels: Sequence[Kernel], chosen: Setting, constants: Mapping[str, float]) -> Times:
    """Per kernel max(compute, memory) plus its launch, never before the host has issued it."""
    engine = chosen.profile.engines[chosen.engine]
    assert isinstance(engine, GpuEngine)
    memory = engine.memory or chosen.profile.memory
    bandwidth = memory.gb_per_s * 1e9
    vector = {k: v * 1e12 for k, v in engine.vector_tflops.items()}
    matrix = {k: v * 1e12 for k, v in engine.matrix_tflops.items()}

    def rate(kernel: Kernel) -> float:
        fallback = vector.get(kernel.dtype, vector.get("fp32", 0.0))  # type: ignore[call-overload]
        if kernel.geometry is not None and kernel.geometry.kind == "depthwise":
            return float(fallback * constants["depthwise_efficiency"])
        best = matrix.get(kernel.dtype, fallback)  # type: ignore[call-overload]
        return float(best * constants["matrix_efficiency"])

    compute = np.array([
        2 * k.macs / rate(k) if k.macs else k.ops / (vector["fp32"] / 2) for k in kernels
    ])  # fmt: skip
    efficiency = np.where(
        [k.strided for k in kernels],
        constants["strided_efficiency"],
        constants["stream_efficiency"],
    )
    traffic = np.array([k.nbytes for k in kernels], float) / (bandwidth * efficiency)
    launch = np.full(len(kernels), constants["launch_us"] * 1e-6)
    busy = np.maximum(compute, traffic) + launch
    issued = np.cumsum([k.dispatches * constants["dispatch_us"] * 1e-6 for k in kernels])
    latency = after_host(busy, issued)
    return Times(latency, compute, traffic, latency - np.maximum(compute, traffic),
                 ("dram",) * len(kernels))  # fmt: skip


def after_host(busy: np.ndarray, issued: np.ndarray) -> np.ndarray:
    """What each kernel adds to the run when it starts once issued and once its predecessor ended.

    end_i = max(end_{i-1}, issued_i) + busy_i, so end_i = max_j<=i (issued_j + sum of busy_j..i).
    """
    done = np.cumsum(busy)
    end = np.maximum.accumulate(issued - (done - busy)) + done
    added: np.ndarray = np.diff(end, prepend=0.0)
    return added
