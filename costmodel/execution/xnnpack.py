"""ExecuTorch with its XNNPACK delegate: the CPU kernels that TensorFlow Lite runs on, too."""

from __future__ import annotations

from costmodel.errors import CostModelError
from costmodel.execution.tflite import DTYPES, FUSING, kernels
from costmodel.hardware.schema import Profile


def engine_on(_dtype: str, profile: Profile, engine: str) -> str:
    """The CPU, whatever was asked for: XNNPACK has no kernels for another engine."""
    for name in (engine, *profile.engines):
        if profile.engines[name].kind == "cpu":
            return name
    raise CostModelError(f"xnnpack runs on the CPU, which the profile of {profile.name} lacks")


__all__ = ["DTYPES", "FUSING", "engine_on", "kernels"]
