"""Peak arithmetic rates of an engine, by dtype. Nothing here is an efficiency."""

from __future__ import annotations

from costmodel.errors import CostModelError
from costmodel.hardware.catalog import core
from costmodel.hardware.schema import Cluster, CpuEngine, DType, Engine, Profile


def fastest_cores(cpu: CpuEngine, threads: int | None, dtype: DType = "fp32") -> list[Cluster]:
    """The clusters that ``threads`` threads occupy, fastest first, each with ``count`` busy cores.

    ``None`` means all cores. More threads than cores occupy every core.
    """
    left = cpu.cores if threads is None else threads
    if left < 1:
        raise CostModelError(f"threads must be at least 1, not {threads}")
    ordered = sorted(cpu.clusters, key=lambda c: core_rate(c, dtype), reverse=True)
    busy = []
    for cluster in ordered:
        taken = min(left, cluster.count)
        if taken:
            clock = cluster.clock_for(taken)
            busy.append(
                cluster.model_copy(
                    update={"count": taken, "clock_ghz": clock, "all_core_ghz": None}
                )
            )
        left -= taken
    return busy


def core_rate(cluster: Cluster, dtype: DType) -> float:
    """Peak FLOP/s of one core of ``cluster``; a dtype that the core lacks runs as fp32."""
    rates = core(cluster.core).flops_per_cycle
    return rates.get(dtype, rates["fp32"]) * cluster.clock_ghz * 1e9


def computes_in(engine: Engine, dtype: str) -> bool:
    """Whether every core of a CPU, or some unit of an accelerator, has arithmetic for ``dtype``."""
    if isinstance(engine, CpuEngine):
        return all(dtype in core(cluster.core).flops_per_cycle for cluster in engine.clusters)
    return dtype in engine.vector_tflops or dtype in engine.matrix_tflops


def cpu_peak(profile: Profile, engine: str, dtype: DType, threads: int | None = None) -> float:
    """Peak FLOP/s (an integer MAC counts as 2) of the fastest ``threads`` cores.

    A dtype that a core has no arithmetic for runs as fp32. Raises `CostModelError` when
    ``engine`` is no CPU.
    """
    cpu = profile.engines[engine]
    if not isinstance(cpu, CpuEngine):
        raise CostModelError(f"{profile.name}:{engine} is no CPU")
    return sum(c.count * core_rate(c, dtype) for c in fastest_cores(cpu, threads, dtype))


def cpu_of(profile: Profile, engine: str, why: str) -> str:
    """``engine`` where it is a CPU, else the profile's first CPU.

    Raises `CostModelError`, ``why`` in front, for a profile that has none.
    """
    for name in (engine, *profile.engines):
        if isinstance(profile.engines[name], CpuEngine):
            return name
    raise CostModelError(f"{why}, which the profile of {profile.name} lacks")


def peak(profile: Profile, engine: str, dtype: DType, threads: int | None = None) -> float:
    """The best FLOP/s of an engine for ``dtype``: its matrix units where they take it, else its
    vector units, else (a dtype that it lacks) its widest slower one, fp32 or fp16."""
    unit = profile.engines[engine]
    if isinstance(unit, CpuEngine):
        return cpu_peak(profile, engine, dtype, threads)
    for name in (dtype, "fp32", "fp16", "int8"):
        rates = [t[name] for t in (unit.matrix_tflops, unit.vector_tflops) if name in t]
        if rates:
            return max(rates) * 1e12
    raise CostModelError(f"{profile.name}:{engine} states no peak")
