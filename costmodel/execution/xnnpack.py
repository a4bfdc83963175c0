"""ExecuTorch with its XNNPACK delegate: the CPU kernels that TensorFlow Lite runs on, too.

What XNNPACK does not take stays with ExecuTorch's portable kernels, which find the place of every
element that they read by dividing: averages that count the zeros of a border (``AvgPoolingConfig``
in backends/xnnpack/partition/config/generic_node_configs.py refuses them).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from costmodel.execution.fusion import Group, fused
from costmodel.execution.kernel import Kernel
from costmodel.execution.tflite import DTYPES, FUSING, format_on, kernel_of
from costmodel.hardware.peaks import cpu_of
from costmodel.hardware.schema import Profile
from costmodel.rules.pooling import averages_border
from costmodel.table import Row


def engine_on(_dtype: str, profile: Profile, engine: str) -> str:
    """The CPU, whatever was asked for: XNNPACK has no kernels for another engine."""
    return cpu_of(profile, engine, "xnnpack runs on the CPU")


def kernels(rows: Sequence[Row], dtype: str) -> list[Kernel]:
    """The kernels of one run."""
    return [_kernel(group, dtype) for group in fused(rows, FUSING)]


def _kernel(group: Group, dtype: str) -> Kernel:
    kernel = kernel_of(group, dtype)
    if averages_border(group.head.op):
        return replace(kernel, remapped=kernel.ops, scalars=0)
    return kernel


__all__ = ["DTYPES", "FUSING", "engine_on", "format_on", "kernels"]
