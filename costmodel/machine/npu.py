"""A neural accelerator: matrix peak, memory, and a fixed cost for the call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from costmodel.execution.kernel import Kernel
from costmodel.hardware import peak
from costmodel.machine.times import Times

if TYPE_CHECKING:
    from costmodel.roofline import Setting


def times(kernels: Sequence[Kernel], chosen: Setting, constants: Mapping[str, float]) -> Times:
    """Per kernel max(compute, memory); the call's cost falls on the first kernel."""
    rate = peak(chosen.profile, chosen.engine, chosen.dtype) * constants["matrix_efficiency"]  # type: ignore[arg-type]
    compute = np.array([(2 * k.macs + k.ops) / rate for k in kernels])
    bandwidth = chosen.profile.memory.gb_per_s * 1e9 * constants["stream_efficiency"]
    traffic = np.array([k.nbytes for k in kernels], float) / bandwidth
    overhead = np.zeros(len(kernels))
    if len(kernels):
        overhead[0] = constants["call_us"] * 1e-6
    return Times(np.maximum(compute, traffic) + overhead, compute, traffic, overhead,
                 ("dram",) * len(kernels))  # fmt: skip
