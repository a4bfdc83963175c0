"""Energy of a device's arithmetic and traffic, from its process, its memory and its power limit.

The bottom of each range is silicon alone: Horowitz's table at 45 nm and Jouppi's at 7 nm, between
and beyond which energies follow a power law, plus the instruction around the arithmetic. The
typical value is what the device must spend when it runs at peak at its power limit, which holds
everything else too; it can't be below the bottom.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

from costmodel.errors import CostModelError
from costmodel.hardware.catalog import FOLDER, core
from costmodel.hardware.peaks import peak
from costmodel.hardware.records import read_mapping, require_sources
from costmodel.hardware.schema import (
    CpuEngine,
    DType,
    Energy,
    GpuEngine,
    NpuEngine,
    Positive,
    Profile,
    Range,
    Record,
)

_BITS: dict[DType, int] = {
    "fp64": 64, "fp32": 32, "tf32": 32, "bf16": 16, "fp16": 16, "fp8": 8, "int8": 8, "int4": 4,
}  # fmt: skip
_PICO = 1e-12


class _Process(Record):
    """One column of a published table: picojoules on one process, without instructions."""

    pj_per_mac: dict[DType, Positive]
    pj_per_op: Positive
    sram_pj_per_byte: dict[str, Positive]


def energy(profile: Profile, engine: str) -> Energy:
    """Picojoules a MAC, a scalar op and a byte, and watts at rest, for one engine of a device.

    Multiply by the counts and add rest power x time for an estimate of joules. Sources:
    ``energy.yaml``. Raises `CostModelError` for an engine that the device lacks.
    """
    if engine not in profile.engines:
        raise CostModelError(
            f"{profile.name} has no engine {engine!r}; it has {', '.join(profile.engines)}"
        )
    table = _table()
    process = _at(profile.process_nm)
    idle = _idle(profile)
    budget = max(profile.power.max_w - idle.typical, 0.0)
    spread: float = table["spread"]

    def ranged(bottom: float, ceiling: float) -> Range:
        typical = max(bottom, ceiling)
        return Range(low=bottom, typical=typical, high=spread * typical)

    macs = {}
    for dtype in _BITS:
        if dtype in _dtypes(profile, engine):
            # At peak and at the power limit: watts over MACs a second (two FLOPs each).
            top = budget / (peak(profile, engine, dtype) / 2) / _PICO
            macs[dtype] = ranged(_mac(profile, engine, dtype, process), top)
    top = budget / _vector_flops(profile, engine) / _PICO
    bottom = process.pj_per_op + _instruction(profile, engine, "fp32")
    return Energy(
        pj_per_mac=macs,
        pj_per_op=ranged(bottom, top),
        pj_per_byte={
            "l1": _scaled(process.sram_pj_per_byte["l1"], spread),
            "l2": _scaled(process.sram_pj_per_byte["l2"], spread),
            "l3": _wired(process.sram_pj_per_byte["l2"], spread),
            "dram": _dram(profile, engine),
        },
        idle_w=idle,
        max_w=profile.power.max_w,
    )


def memory_types() -> list[str]:
    """The memory types whose energy is known."""
    return list(_table()["dram_pj_per_bit"])


@cache
def _table() -> dict[str, Any]:
    path = FOLDER / "energy.yaml"
    data = read_mapping(path)
    require_sources(data, path)
    return data


@cache
def _at(nanometres: float) -> _Process:
    """The published table carried to another process: a power law through 45 and 7 nm."""
    table = _table()
    coarse, fine = (_Process.model_validate(table["processes"][nm]) for nm in ("45", "7"))
    anchors = {float(nm): factor for nm, factor in table["finer_than_7nm"].items()}
    shrink = 1.0
    if nanometres < 7:
        shrink = anchors[min(anchors, key=lambda nm: abs(nm - nanometres))]
    share = math.log(max(nanometres, 7) / 7) / math.log(45 / 7)

    def between(at_7: float, at_45: float) -> float:
        return shrink * at_7 * math.pow(at_45 / at_7, share)

    return _Process(
        pj_per_mac={d: between(v, coarse.pj_per_mac[d]) for d, v in fine.pj_per_mac.items()},
        pj_per_op=between(fine.pj_per_op, coarse.pj_per_op),
        sram_pj_per_byte={
            level: between(v, coarse.sram_pj_per_byte[level])
            for level, v in fine.sram_pj_per_byte.items()
        },
    )


def _dtypes(profile: Profile, engine: str) -> set[DType]:
    unit = profile.engines[engine]
    if isinstance(unit, CpuEngine):
        return {d for cluster in unit.clusters for d in core(cluster.core).flops_per_cycle}
    return {*unit.matrix_tflops, *unit.vector_tflops}


def _mac(profile: Profile, engine: str, dtype: DType, process: _Process) -> float:
    unit = profile.engines[engine]
    arithmetic = process.pj_per_mac[dtype]
    if not isinstance(unit, CpuEngine) and dtype in unit.matrix_tflops:
        overhead: float = _table()["matrix_overhead"]
        return arithmetic * (1 + overhead)
    return arithmetic + _instruction(profile, engine, dtype)


def _instruction(profile: Profile, engine: str, dtype: DType) -> float:
    """The instruction around one lane's arithmetic, shared by the lanes that it serves."""
    unit = profile.engines[engine]
    if isinstance(unit, NpuEngine):
        return 0.0
    # Logic shrinks as fp32 arithmetic does.
    shrink = _at(profile.process_nm).pj_per_mac["fp32"] / _at(45).pj_per_mac["fp32"]
    per_instruction: float = _table()["pj_per_instruction"][unit.kind] * shrink
    bits = core(unit.clusters[0].core).vector_bits if isinstance(unit, CpuEngine) else 32
    return per_instruction / max(1, bits // _BITS[dtype])


def _vector_flops(profile: Profile, engine: str) -> float:
    unit = profile.engines[engine]
    if isinstance(unit, GpuEngine) and "fp32" in unit.vector_tflops:
        return unit.vector_tflops["fp32"] * 1e12
    return peak(profile, engine, "fp32")


def _idle(profile: Profile) -> Range:
    if profile.power.idle_w is not None:
        return profile.power.idle_w
    share = Range.model_validate(_table()["idle_share"][profile.kind])
    most = profile.power.max_w
    return Range(low=share.low * most, typical=share.typical * most, high=share.high * most)


def _scaled(typical: float, spread: float) -> Range:
    return Range(low=typical / spread, typical=typical, high=typical * spread)


def _wired(sram: float, spread: float) -> Range:
    wire, per_mm = _table()["wire_mm"], _table()["pj_per_byte_mm"]
    return Range(
        low=sram / spread + per_mm * wire["low"],
        typical=sram + per_mm * wire["typical"],
        high=sram * spread + per_mm * wire["high"],
    )


def _dram(profile: Profile, engine: str) -> Range:
    unit = profile.engines[engine]
    own = None if isinstance(unit, CpuEngine) else unit.memory
    bit = Range.model_validate(_table()["dram_pj_per_bit"][(own or profile.memory).type])
    return Range(low=8 * bit.low, typical=8 * bit.typical, high=8 * bit.high)
