"""ExecuTorch with its XNNPACK delegate: the CPU kernels that TensorFlow Lite runs on, too."""

from __future__ import annotations

from costmodel.execution.tflite import DTYPES, FUSING, format_on, kernels
from costmodel.hardware.peaks import cpu_of
from costmodel.hardware.schema import Profile


def engine_on(_dtype: str, profile: Profile, engine: str) -> str:
    """The CPU, whatever was asked for: XNNPACK has no kernels for another engine."""
    return cpu_of(profile, engine, "xnnpack runs on the CPU")


__all__ = ["DTYPES", "FUSING", "engine_on", "format_on", "kernels"]
