"""The profile in a file: checked and completed, no unknown key, no figure without a source."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from costmodel.errors import CostModelError
from costmodel.hardware.catalog import architecture, core
from costmodel.hardware.energy import memory_types
from costmodel.hardware.records import build, read_mapping, require_sources
from costmodel.hardware.schema import CpuEngine, GpuEngine, Memory, Profile

#: How far a stated bandwidth may sit from transfer rate x bus width (data sheets round).
_BANDWIDTH_TOLERANCE = 0.02


def check_file(path: Path) -> Profile:
    """Read, check and complete the profile in ``path``. Raises `CostModelError` in one line."""
    return check(read_mapping(path), path)


def check(data: Mapping[str, Any], path: Path) -> Profile:
    """Check and complete the profile in ``data``, which came from ``path``. Raises as above."""
    profile = build(Profile, data, path)
    require_sources(data, path)
    if profile.default.engine not in profile.engines:
        raise CostModelError(
            f"{path}: default.engine: {profile.default.engine!r} is none of the engines"
            f" ({', '.join(profile.engines)})"
        )
    _check_memory(profile.memory, path, "memory")
    engines = {}
    for name, engine in profile.engines.items():
        where = f"engines.{name}"
        if not isinstance(engine, CpuEngine) and engine.memory is not None:
            _check_memory(engine.memory, path, f"{where}.memory")
        try:
            if isinstance(engine, CpuEngine):
                for index, cluster in enumerate(engine.clusters):
                    where = f"engines.{name}.clusters.{index}.core"
                    core(cluster.core)
            elif isinstance(engine, GpuEngine):
                where = f"engines.{name}.architecture"
                engine = _with_peaks(engine)
                if engine.host is not None:
                    where = f"engines.{name}.host.core"
                    core(engine.host.core)
        except CostModelError as error:
            raise CostModelError(f"{path}: {where}: {error}") from error
        engines[name] = engine
    return profile.model_copy(update={"engines": engines})


def _check_memory(memory: Memory, path: Path, where: str) -> None:
    known = memory_types()
    if memory.type not in known:
        raise CostModelError(
            f"{path}: {where}.type: {memory.type!r} is none of {', '.join(known)}; take the nearest"
        )
    if memory.bus_bits is None or memory.mt_per_s is None:
        return
    expected = memory.bus_bits * memory.mt_per_s / 8000
    if abs(memory.gb_per_s / expected - 1) > _BANDWIDTH_TOLERANCE:
        raise CostModelError(
            f"{path}: {where}.gb_per_s: is {memory.gb_per_s:g}, but {memory.bus_bits} bits at"
            f" {memory.mt_per_s:g} MT/s give {expected:.4g}; correct one of them"
        )


def _with_peaks(gpu: GpuEngine) -> GpuEngine:
    """Fill the peaks that the vendor does not publish from the architecture."""
    shared = architecture(gpu.architecture)
    cycles = gpu.multiprocessors * gpu.clock_ghz * 1e9

    def fill(published: dict[Any, float], per_cycle: dict[Any, float]) -> dict[Any, float]:
        return {dtype: flops * cycles / 1e12 for dtype, flops in per_cycle.items()} | published

    return gpu.model_copy(
        update={
            "vector_tflops": fill(gpu.vector_tflops, shared.vector_flops_per_cycle),
            "matrix_tflops": fill(gpu.matrix_tflops, shared.matrix_flops_per_cycle),
        }
    )
