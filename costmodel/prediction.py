"""What a prediction says: time per kernel and what bounds it, the sum, its interval, its energy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

Bound = Literal["compute", "memory", "overhead"]


@dataclass(frozen=True, slots=True)
class KernelTime:
    """One launched kernel.

    ``compute_s`` and ``memory_s`` overlap inside the kernel; ``latency_s`` is what the kernel adds
    to the schedule. ``intensity`` is FLOPs per byte moved from main memory's side. ``level`` is the
    memory level that ``memory_s`` is spent on.
    """

    ops: tuple[str, ...]
    module: str
    family: str
    latency_s: float
    compute_s: float
    memory_s: float
    overhead_s: float
    bound: Bound
    flops: int
    nbytes: int
    level: str = "dram"

    @property
    def intensity(self) -> float:
        return self.flops / self.nbytes if self.nbytes else float("inf")


@dataclass(frozen=True)
class Prediction:
    """The latency of one run of a model on one engine.

    ``interval_s`` covers the measured latency with probability ``coverage``; ``validated`` says
    on what that rests. ``basis`` is ``datasheet`` or ``calibrated``. Seconds, joules.
    """

    hw: str
    dtype: str
    execution: str
    layout: str
    threads: int | None
    batch: int
    latency_s: float
    interval_s: tuple[float, float]
    coverage: float
    basis: Literal["datasheet", "calibrated"]
    validated: str
    energy_j: float | None
    energy_interval_j: tuple[float, float] | None
    kernels: tuple[KernelTime, ...]
    notes: tuple[str, ...] = ()

    @cached_property
    def bound(self) -> Mapping[str, float]:
        """Fractions of the latency spent bound by compute, memory and overhead; they add to 1."""
        shares = {"compute": 0.0, "memory": 0.0, "overhead": 0.0}
        total = sum(kernel.latency_s for kernel in self.kernels)
        if total <= 0:
            return {**shares, "overhead": 1.0}
        for kernel in self.kernels:
            busy = kernel.latency_s - min(kernel.overhead_s, kernel.latency_s)
            winner = "compute" if kernel.compute_s >= kernel.memory_s else "memory"
            shares[winner] += busy / total
            shares["overhead"] += (kernel.latency_s - busy) / total
        return shares

    def to_dict(self) -> dict[str, Any]:
        """The ``prediction`` object of ``analyze --format json``."""
        return {
            "hw": self.hw,
            "dtype": self.dtype,
            "execution": self.execution,
            "layout": self.layout,
            "threads": self.threads,
            "batch": self.batch,
            "latency_s": self.latency_s,
            "interval_s": list(self.interval_s),
            "coverage": self.coverage,
            "basis": self.basis,
            "validated": self.validated,
            "energy_j": self.energy_j,
            "energy_interval_j": list(self.energy_interval_j) if self.energy_interval_j else None,
            "bound": dict(self.bound),
            "notes": list(self.notes),
            "kernels": [
                {
                    "ops": list(k.ops),
                    "module": k.module,
                    "family": k.family,
                    "latency_s": k.latency_s,
                    "compute_s": k.compute_s,
                    "memory_s": k.memory_s,
                    "overhead_s": k.overhead_s,
                    "bound": k.bound,
                    "level": k.level,
                    "intensity": k.intensity if k.nbytes else None,
                    "flops": k.flops,
                    "bytes": k.nbytes,
                }
                for k in self.kernels
            ],
        }
