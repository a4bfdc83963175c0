"""Kernels as points under a roofline: intensity, attained FLOP/s, time."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from costmodel.plot.names import common
from costmodel.plot.style import class_of
from costmodel.prediction import KernelTime, Prediction

#: Kernels of one family whose attained FLOP/s differ by less share one point.
_ALIKE = 0.02


@dataclass(frozen=True, slots=True)
class Point:
    """Alike kernels: equal family, FLOPs and bytes, nearly equal time. Seconds are their sum."""

    name: str
    family: str
    kernels: tuple[KernelTime, ...]

    @property
    def latency_s(self) -> float:
        return sum(kernel.latency_s for kernel in self.kernels)

    @property
    def flops(self) -> int:
        return sum(kernel.flops for kernel in self.kernels)

    @property
    def nbytes(self) -> int:
        return sum(kernel.nbytes for kernel in self.kernels)

    @property
    def drawable(self) -> bool:
        """Whether it has a place on logarithmic axes."""
        return self.flops > 0 and self.nbytes > 0 and self.latency_s > 0


def points_of(kernels: Sequence[KernelTime]) -> list[Point]:
    """The points of a run, most time first."""
    alike: dict[tuple[Any, ...], list[list[KernelTime]]] = defaultdict(list)
    for kernel in kernels:
        sets = alike[kernel.family, kernel.flops, kernel.nbytes, kernel.bound, kernel.level]
        for found in sets:
            if abs(found[0].latency_s - kernel.latency_s) <= _ALIKE * found[0].latency_s:
                found.append(kernel)
                break
        else:
            sets.append([kernel])
    made = [
        Point(common([_name(k) for k in found], found[0].family), found[0].family, tuple(found))
        for sets in alike.values()
        for found in sets
    ]
    return sorted(made, key=lambda point: -point.latency_s)


def to_dicts(prediction: Prediction) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The points as plain values, and what has no place on logarithmic axes."""
    whole = sum(kernel.latency_s for kernel in prediction.kernels) or 1.0
    drawn: list[Point] = []
    left: list[Point] = []
    for point in points_of(prediction.kernels):
        (drawn if point.drawable else left).append(point)
    return [
        {
            "name": point.name,
            "family": point.family,
            "class": class_of(point.family),
            "count": len(point.kernels),
            "modules": list(dict.fromkeys(kernel.module for kernel in point.kernels)),
            "intensity": point.flops / point.nbytes,
            "flops_per_s": point.flops / point.latency_s,
            "flops": point.flops,
            "bytes": point.nbytes,
            "latency_s": point.latency_s,
            "share": point.latency_s / whole,
            "bound": point.kernels[0].bound,
            "level": point.kernels[0].level,
        }
        for point in drawn
    ], {
        "kernels": sum(len(point.kernels) for point in left),
        "share": sum(point.latency_s for point in left) / whole,
        "why": "no FLOPs or no bytes: copies and views have no place on logarithmic axes",
    }


def network(prediction: Prediction) -> dict[str, Any] | None:
    """The whole run as one point, with the interval of its latency; ``None`` without FLOPs."""
    flops = sum(kernel.flops for kernel in prediction.kernels)
    moved = sum(kernel.nbytes for kernel in prediction.kernels)
    if min(flops, moved, prediction.latency_s) <= 0:
        return None
    low, high = prediction.interval_s
    return {
        "intensity": flops / moved,
        "flops_per_s": flops / prediction.latency_s,
        "flops_per_s_low": flops / high,
        "flops_per_s_high": flops / low,
        "flops": flops,
        "bytes": moved,
    }


def _name(kernel: KernelTime) -> str:
    """The module, or the kernel's main op where the model itself runs it."""
    return kernel.module or (kernel.ops[0] if kernel.ops else kernel.family)
