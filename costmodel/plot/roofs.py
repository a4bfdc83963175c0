"""The roofs of an engine: peak FLOP/s per dtype, bytes/s per memory level, and where they meet.

Williams, Waterman and Patterson, "Roofline: an insightful visual performance model", CACM 2009;
one roof a memory level after Ilic, Pratas and Sousa, "Cache-aware Roofline model", IEEE CAL 2014.
Peaks are the data sheet's; no efficiency is applied.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from costmodel.execution.formats import AMP
from costmodel.hardware import core, cpu_peak
from costmodel.hardware.peaks import fastest_cores
from costmodel.hardware.schema import CpuEngine, DType
from costmodel.prediction import Prediction
from costmodel.setting import Setting, setting

#: The formats that a figure shows besides the prediction's own.
DTYPES: tuple[DType, ...] = ("fp32", "tf32", "bf16", "fp16", "int8")


@dataclass(frozen=True, slots=True)
class Roof:
    """A rate that no kernel exceeds: FLOP/s of ``names`` (dtypes), or bytes/s of a memory level.

    ``active`` marks the roofs of the prediction's own dtype. ``origin`` says where a rate is from.
    """

    names: tuple[str, ...]
    rate: float
    active: bool
    origin: str = "data sheet"


def setting_of(prediction: Prediction) -> Setting:
    """The setting that a prediction was made for."""
    return setting(
        prediction.hw,
        dtype=prediction.dtype,
        execution=prediction.execution,
        layout=prediction.layout,
        threads=prediction.threads,
    )


def compute_roofs(chosen: Setting) -> list[Roof]:
    """Peak FLOP/s, lowest first; dtypes with equal peaks share a roof."""
    own = AMP.get(chosen.dtype, chosen.dtype)
    rates: dict[float, list[str]] = {}
    for dtype, rate in _peaks(chosen).items():
        rates.setdefault(rate, []).append(dtype)
    best = max(
        (rate for rate, names in rates.items() if own in names), default=min(rates, default=0.0)
    )
    return [Roof(tuple(names), rate, rate == best) for rate, names in sorted(rates.items())]


def memory_roofs(chosen: Setting) -> list[Roof]:
    """Bytes per second of each memory level that is known, slowest first: measured, where all
    cores of a measured device run."""
    engine = chosen.profile.engines[chosen.engine]
    measured = chosen.profile.measured
    whole = isinstance(engine, CpuEngine) and chosen.threads in (None, engine.cores)
    if measured is not None and measured.gb_per_s and whole:
        rates = sorted(measured.gb_per_s.items(), key=lambda item: item[1])
        return [Roof((n.upper(),), rate * 1e9, n == "dram", "measured") for n, rate in rates]
    memory = getattr(engine, "memory", None) or chosen.profile.memory
    found = [Roof(("DRAM",), memory.gb_per_s * 1e9, True)]
    if isinstance(engine, CpuEngine):
        team = fastest_cores(engine, chosen.threads)
        if all(c.l2_shared for c in team):
            # One port for all cores, 128 bits at least (Arm's manuals of Cortex-A53 to A73).
            widths = (max(core(c.core).load_bytes_per_cycle, 16.0) * c.clock_ghz for c in team)
            found.append(Roof(("L2",), sum(widths) * 1e9, False))
        loads = sum(core(c.core).load_bytes_per_cycle * c.count * c.clock_ghz * 1e9 for c in team)
        found.append(Roof(("L1",), loads, False))
    else:
        for level in ("l3", "l2"):
            rate = getattr(engine, f"{level}_gb_per_s", None)
            if rate is not None:
                found.append(Roof((level.upper(),), rate * 1e9, False))
        faster = chosen.constants().get("l2_speedup")
        if faster is not None and getattr(engine, "l2_gb_per_s", None) is None:
            rate = faster * memory.gb_per_s * 1e9
            found.append(Roof(("L2",), rate, False, "machine model"))
    return sorted(found, key=lambda roof: roof.rate)


def to_dict(chosen: Setting) -> dict[str, Any]:
    """Roofs and ridge points as plain values: FLOP/s, bytes/s, FLOPs per byte."""
    compute, memory = compute_roofs(chosen), memory_roofs(chosen)
    return {
        "roofs": {
            "compute": [
                {"dtypes": list(roof.names), "flops_per_s": roof.rate, "active": roof.active}
                for roof in compute
            ],
            "memory": [
                {"level": roof.names[0], "bytes_per_s": roof.rate, "origin": roof.origin}
                for roof in memory
            ],
        },
        "ridges": [
            {
                "dtypes": list(top.names),
                "level": side.names[0],
                "intensity": top.rate / side.rate,
                "flops_per_s": top.rate,
            }
            for top in compute
            for side in memory
        ],
    }


def _peaks(chosen: Setting) -> dict[str, float]:
    """FLOP/s by dtype. The prediction's own has its vector rate too, where that is lower."""
    engine = chosen.profile.engines[chosen.engine]
    if isinstance(engine, CpuEngine):
        team = fastest_cores(engine, chosen.threads)
        known = [t for t in DTYPES if any(t in core(c.core).flops_per_cycle for c in team)]
        return {t: cpu_peak(chosen.profile, chosen.engine, t, chosen.threads) for t in known}
    own = AMP.get(chosen.dtype, chosen.dtype)
    found: dict[str, float] = {}
    for dtype in (*DTYPES, *((own,) if own not in DTYPES else ())):
        matrix, vector = (
            rates.get(dtype) for rates in (engine.matrix_tflops, engine.vector_tflops)
        )
        if matrix is not None:
            found[dtype] = matrix * 1e12
            if dtype == own and vector is not None and vector < matrix:
                found[f"{dtype} vector"] = vector * 1e12
        elif vector is not None:
            found[dtype] = vector * 1e12
    return found
