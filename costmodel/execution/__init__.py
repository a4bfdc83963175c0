"""How a graph becomes kernels: one small file an execution, over shared passes."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import replace
from types import ModuleType

from costmodel.errors import CostModelError
from costmodel.execution.kernel import Access, Kernel
from costmodel.hardware.schema import Engine, Profile
from costmodel.table import Row

#: Execution -> module. Each has ``kernels(rows, dtype) -> list[Kernel]`` and ``DTYPES``; one with
#: ``TAKES_LANES`` takes the lanes of a vector, too.
EXECUTIONS = {
    "eager": "eager",
    "compiled": "compiled",
    "ncnn": "ncnn",
    "tflite": "tflite",
    "xnnpack": "xnnpack",
    "paddle-lite": "paddle_lite",
    "onnxruntime": "onnxruntime",
    "npu": "npu",
}


def module_of(execution: str) -> ModuleType:
    """The module of an execution. Raises `CostModelError` naming those that exist."""
    if execution not in EXECUTIONS:
        raise CostModelError(
            f"unknown execution {execution!r}; choose one of {', '.join(EXECUTIONS)}"
        )
    return importlib.import_module(f"costmodel.execution.{EXECUTIONS[execution]}")


def kernels_of(
    rows: Sequence[Row], execution: str, dtype: str, batch: int = 1, lanes: int = 0
) -> list[Kernel]:
    """The kernels that ``execution`` launches for the ops of a table, in order.

    ``dtype`` is one of `costmodel.execution.formats.BYTES` or ``amp-fp16``, ``amp-bf16``,
    ``batch`` the samples that the table counts, ``lanes`` the fp32 values of a vector of the x86
    cores that run it, 0 on others.
    """
    module = module_of(execution)
    found: list[Kernel] = (
        module.kernels(rows, dtype, lanes)
        if getattr(module, "TAKES_LANES", False)
        else module.kernels(rows, dtype)
    )
    if getattr(module, "SAMPLE_BY_SAMPLE", False):
        return [replace(kernel, samples=batch) for kernel in found]
    return found


def runs_framework(execution: str) -> bool:
    """Whether PyTorch itself runs, rather than a runtime that a model is converted for."""
    return bool(getattr(module_of(execution), "FRAMEWORK", False))


def keeps_memory_format(execution: str) -> bool:
    """Whether a network runs in the memory format that it and its input come in."""
    return bool(getattr(module_of(execution), "KEEPS_MEMORY_FORMAT", False))


def generates_loops(execution: str) -> bool:
    """Whether norms and pointwise ops are loops written for the network, no calls of their own."""
    return bool(getattr(module_of(execution), "GENERATED", False))


def grain_of(execution: str) -> float | None:
    """Elements of a loop that are worth a thread of a CPU; ``None`` where nobody looked it up."""
    return getattr(module_of(execution), "GRAIN", None)


def format_of(execution: str, dtype: str, engine: Engine) -> str:
    """The number format that ``execution`` uses on an engine for a network of ``dtype``."""
    choose = getattr(module_of(execution), "format_on", None)
    return str(choose(dtype, engine)) if choose is not None else dtype


def engine_for(execution: str, dtype: str, profile: Profile, engine: str) -> str:
    """The engine that computes when ``execution`` is asked to run ``dtype`` on ``engine``.

    Raises `CostModelError` where a runtime hands the work to an engine that the profile lacks.
    """
    choose = getattr(module_of(execution), "engine_on", None)
    return str(choose(dtype, profile, engine)) if choose is not None else engine


__all__ = [
    "EXECUTIONS",
    "Access",
    "Kernel",
    "engine_for",
    "format_of",
    "generates_loops",
    "grain_of",
    "keeps_memory_format",
    "kernels_of",
    "module_of",
    "runs_framework",
]
