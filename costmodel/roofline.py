"""Kernels x profile -> latency: the sum, what bounds it, its interval and its energy."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from os import PathLike
from types import ModuleType
from typing import Literal

import numpy as np

from costmodel.assumptions import assumed_host, assumptions
from costmodel.calibration import COVERAGE
from costmodel.errors import CostModelError
from costmodel.execution import kernels_of, module_of
from costmodel.execution.formats import AMP
from costmodel.execution.kernel import Kernel
from costmodel.execution.samples import of_one, samples_of
from costmodel.hardware import energy
from costmodel.machine.constants import blocks, constants_of
from costmodel.machine.residuals import Residual, residual_of
from costmodel.machine.times import Latencies, Timer, Times
from costmodel.prediction import KernelTime, Prediction
from costmodel.setting import Setting, setting
from costmodel.table import CostTable

#: Blocks whose machine model is not named after the kind of engine.
_MACHINES = {
    "gpu/ncnn": "mobile_gpu",
    "gpu/tflite": "mobile_gpu",
}


def predict(
    table: CostTable,
    hw: str | PathLike[str],
    *,
    dtype: str | None = None,
    execution: str | None = None,
    layout: str | None = None,
    threads: int | None = None,
    calibration: Mapping[str, float] | None = None,
) -> Prediction:
    """The latency of one run of the table's network on ``hw`` (``"pixel8"``, ``"pixel8:gpu"``).

    What is left open comes from the profile. ``calibration`` replaces constants of the machine
    model. Raises `CostModelError` for symbolic tables and for settings that do not exist.
    """
    chosen = setting(hw, dtype=dtype, execution=execution, layout=layout, threads=threads)
    return predict_on(table, chosen, calibration)


def predict_on(
    table: CostTable, chosen: Setting, calibration: Mapping[str, float] | None = None
) -> Prediction:
    """The same for a setting."""
    batch = batch_of(table)
    kernels = kernels_of(table.rows, chosen.execution, chosen.format, batch, chosen.lanes)
    times = times_of(kernels, chosen, calibration)
    notes = assumptions(table, chosen, times)
    return _prediction(kernels, times, chosen, batch, calibration, notes)


def times_of(
    kernels: Sequence[Kernel], chosen: Setting, calibration: Mapping[str, float] | None = None
) -> Times:
    """The machine model's time for every kernel."""
    return timer_of(kernels, chosen)(chosen.constants(calibration))


def timer_of(kernels: Sequence[Kernel], chosen: Setting) -> Timer:
    """The machine model of a run, which takes constants; for many calls with different ones."""
    samples = samples_of(kernels)
    timer: Timer = machine_of(chosen).timer(of_one(kernels), _reordered(kernels, chosen))
    return timer if samples == 1 else lambda constants: timer(constants).repeated(samples)


def machine_of(chosen: Setting) -> ModuleType:
    """The machine model of a setting's engine."""
    kind = "x86" if chosen.is_x86 else chosen.profile.engines[chosen.engine].kind
    name = _MACHINES.get(chosen.block, kind)
    return importlib.import_module(f"costmodel.machine.{name}")


def latencies_of(runs: Sequence[tuple[Sequence[Kernel], Setting]]) -> Latencies | None:
    """The machine model of all runs of one device and execution at once.

    ``None`` where the model takes one run at a time.
    """
    together = getattr(machine_of(runs[0][1]), "latencies", None)
    if together is None:
        return None
    found: Latencies = together([(of_one(k), _reordered(k, chosen)) for k, chosen in runs])
    samples = np.array([samples_of(k) for k, _ in runs])
    return lambda constants: found(constants) * samples


def _reordered(kernels: Sequence[Kernel], chosen: Setting) -> Setting:
    """The setting in the layout that the execution runs the kernels in."""
    reorder = getattr(module_of(chosen.execution), "layout", None)
    return chosen if reorder is None else replace(chosen, layout=reorder(kernels, chosen.layout))


def batch_of(table: CostTable) -> int:
    """Samples of one run. Raises `CostModelError` for a table with symbols."""
    shapes = [spec.shape for spec in table.info.inputs if spec.shape]
    if shapes and not isinstance(shapes[0][0], int):
        raise CostModelError("the table has symbols; put numbers in with table.at(...) first")
    return int(shapes[0][0]) if shapes else 1


def _prediction(
    kernels: Sequence[Kernel],
    times: Times,
    chosen: Setting,
    batch: int,
    calibration: Mapping[str, float] | None,
    notes: tuple[str, ...],
) -> Prediction:
    latency = float(times.latency.sum())
    basis: Literal["datasheet", "calibrated"]
    basis = "calibrated" if calibration or _fitted_here(chosen) else "datasheet"
    residual = residual_of(chosen, basis, single=len(kernels) == 1)
    if not calibration and chosen.measured_constants:
        basis, residual = "calibrated", _microbenchmarked(chosen)
    joules = _energy(kernels, latency, chosen)
    fast, slow = _by_host(kernels, chosen, calibration) or (latency, latency)
    return Prediction(
        hw=chosen.hw,
        dtype=chosen.dtype,
        execution=chosen.execution,
        layout=chosen.layout,
        threads=chosen.threads,
        batch=batch,
        latency_s=latency,
        interval_s=(fast * residual.low, slow * residual.high),
        coverage=residual.coverage,
        basis=basis,
        validated=residual.validated,
        energy_j=joules[1],
        energy_interval_j=(joules[0], joules[2]),
        kernels=tuple(_kernel_times(kernels, times)),
        notes=notes,
    )


def _fitted_here(chosen: Setting) -> bool:
    """Whether the shipped constants of the class were fitted on this very device, and no other."""
    fitted = {name for c in blocks()[chosen.block].values() for name in c.fixed_on}
    return fitted == {chosen.profile.name}


def _microbenchmarked(chosen: Setting) -> Residual:
    """The interval of a prediction from constants that were measured on the device.

    Without residuals of its own it is as wide as the errors were on machines that were calibrated
    in this way and then ran networks.
    """
    measured, spread = chosen.profile.measured, chosen.measured_spread
    assert measured is not None
    text = f"microbenchmarks on this machine, {measured.date}"
    if spread is not None:
        return Residual(min(spread.low, 1.0), max(spread.high, 1.0), COVERAGE, text)
    usual = residual_of(chosen)
    return replace(usual, validated=f"{text}; interval {usual.validated}")


def _by_host(
    kernels: Sequence[Kernel], chosen: Setting, calibration: Mapping[str, float] | None
) -> tuple[float, float] | None:
    """The latencies under the fastest and the slowest host that the assumed one may stand for."""
    host = assumed_host(chosen)
    if host is None or calibration:
        return None
    usual = chosen.constants()
    issuing = ("dispatch_us", "start_us")
    limits = constants_of(chosen.block)
    fast, slow = (
        times_of(
            kernels,
            chosen,
            {name: min(usual[name] * factor, limits[name].high) for name in issuing},
        ).latency.sum()
        for factor in host.slowness
    )
    return float(fast), float(slow)


def _kernel_times(kernels: Sequence[Kernel], times: Times) -> list[KernelTime]:
    found = []
    for i, kernel in enumerate(kernels):
        compute, memory = float(times.compute[i]), float(times.memory[i])
        overhead = float(times.overhead[i])
        own = overhead if i else overhead - times.begin
        shares = {"compute": compute, "memory": memory, "overhead": own}
        found.append(
            KernelTime(
                ops=kernel.names,
                module=kernel.module,
                family=kernel.family,
                latency_s=float(times.latency[i]),
                compute_s=compute,
                memory_s=memory,
                overhead_s=overhead,
                bound=max(shares, key=shares.__getitem__),  # type: ignore[arg-type]
                flops=kernel.flops,
                nbytes=kernel.nbytes,
                level=times.level[i],
            )
        )
    return found


def _energy(
    kernels: Sequence[Kernel], latency: float, chosen: Setting
) -> tuple[float, float, float]:
    """Joules, low, typical and high: arithmetic, traffic to main memory, and rest power x time."""
    figures = energy(chosen.profile, chosen.engine)
    dtype = AMP.get(chosen.dtype, chosen.dtype)
    per_mac = figures.pj_per_mac.get(dtype) or next(iter(figures.pj_per_mac.values()))  # type: ignore[call-overload]
    macs = sum(k.macs for k in kernels)
    ops = sum(k.ops for k in kernels)
    moved = sum(k.nbytes for k in kernels)
    dram = figures.pj_per_byte["dram"]
    joules = []
    for level in ("low", "typical", "high"):
        dynamic = 1e-12 * (
            macs * getattr(per_mac, level)
            + ops * getattr(figures.pj_per_op, level)
            + moved * getattr(dram, level)
        )
        total = dynamic + getattr(figures.idle_w, level) * latency
        joules.append(min(total, figures.max_w * latency))
    return joules[0], joules[1], joules[2]


def supported_dtypes(execution: str) -> tuple[str, ...]:
    """The dtypes that an execution knows."""
    known: tuple[str, ...] = module_of(execution).DTYPES
    return known


__all__ = ["machine_of", "predict", "predict_on", "supported_dtypes", "timer_of", "times_of"]
