"""A CPU: vector units of the busiest cores, caches and memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from costmodel.execution.kernel import Kernel
from costmodel.hardware import cpu_peak
from costmodel.machine.times import Times

if TYPE_CHECKING:
    from costmodel.roofline import Setting


def times(kernels: Sequence[Kernel], chosen: Setting, constants: Mapping[str, float]) -> Times:
    """Per kernel max(compute, memory) plus the time to issue it."""

    def rate(kernel: Kernel) -> float:
        peak = cpu_peak(chosen.profile, chosen.engine, kernel.dtype, chosen.threads)  # type: ignore[arg-type]
        depthwise = kernel.geometry is not None and kernel.geometry.kind == "depthwise"
        name = "depthwise_efficiency" if depthwise else "matrix_efficiency"
        return peak * constants[name]

    compute = np.array([(2 * k.macs + k.ops) / rate(k) for k in kernels])
    bandwidth = chosen.profile.memory.gb_per_s * 1e9 * constants["stream_efficiency"]
    traffic = np.array([k.nbytes for k in kernels], float) / bandwidth
    overhead = np.full(len(kernels), constants["dispatch_us"] * 1e-6)
    return Times(np.maximum(compute, traffic) + overhead, compute, traffic, overhead,
                 ("dram",) * len(kernels))  # fmt: skip
