"""How the latencies of pieces compose, one small clock an engine class.

A clock turns a piece into numbers (``features``), and the numbers of all pieces of an architecture
into its latency (``latency``), on whole arrays of architectures at once. The arithmetic is the
machine model's own, rearranged: what a piece adds depends on the rest of the network only through
a few quantities, which are carried along.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import fields, replace
from itertools import pairwise
from typing import Any, Protocol, TypeAlias

import numpy as np

from costmodel.costfunction.pieces import Piece
from costmodel.errors import CostModelError
from costmodel.execution import kernels_of
from costmodel.execution.formats import AMP
from costmodel.execution.kernel import Access, Kernel
from costmodel.hardware.peaks import fastest_cores
from costmodel.machine.caches import Touches, touches
from costmodel.machine.constants import constants_of
from costmodel.machine.times import Array, Times
from costmodel.roofline import times_of
from costmodel.setting import Setting

#: Columns of numbers of one piece for many architectures; numpy arrays or torch tensors.
Columns: TypeAlias = Any


class Clock(Protocol):
    """What `costmodel.costfunction.function` needs of an engine.

    ``absent`` are the first numbers of a piece that is not there; the rest are zeros.
    """

    absent: Array

    def features(self, piece: Piece, floor: float) -> Array:
        """The numbers of a piece, when no run's footprint is below ``floor`` bytes."""

    def latency(self, columns: Sequence[Columns], xp: Any) -> Any:
        """Seconds, from the columns of all pieces in order. ``xp`` is numpy or `TorchLike`."""


def clock_of(chosen: Setting) -> Clock:
    """The clock of a setting's engine.

    Raises `CostModelError` for x86 CPUs, whose machine model ties every kernel to the whole run in
    ways that no clock here follows.
    """
    if chosen.is_x86:
        raise CostModelError(
            f"no cost function gives latencies of {chosen.hw}, an x86 CPU; leave hw out for its "
            "counts, or analyze the networks one by one"
        )
    kind = chosen.profile.engines[chosen.engine].kind
    return CpuClock(chosen) if kind == "cpu" else Queue(chosen)


def kernels_in(piece: Piece, chosen: Setting) -> tuple[list[Kernel], list[Kernel]]:
    """Kernels of the piece before, for context, and those of the piece.

    Autocast follows formats from the network's first op on, so that there everything in front is
    the context.
    """
    context = piece.earlier if chosen.dtype in AMP else piece.before
    own = {row.op.name for row in piece.rows}
    found = kernels_of((*context, *piece.rows), chosen.execution, chosen.format)
    inside = [k for k in found if own.intersection(_ops(k))]
    return found[: len(found) - len(inside)], inside


def _ops(kernel: Kernel) -> list[str]:
    """Op names of a kernel; parts of an op are written ``op.part``."""
    return [name for full in kernel.names for name in (full, full.rpartition(".")[0])]


class Queue:
    """GPU and NPU: kernels one after another, none before the host has issued it.

    With busy_i the time of kernel i on the device and issued_i when the host is done issuing it,
    end_i = max(end_{i-1}, issued_i) + busy_i. A piece maps the end of the one before to its own by
    max(end + sum busy, issued before + M), M = max_i(issued within the piece + busy from i on):
    three numbers, a linear map in (max, +) algebra.
    """

    absent = np.zeros(3)

    def __init__(self, chosen: Setting) -> None:
        self.chosen = chosen
        known = constants_of(chosen.block)
        self.dispatch = chosen.constants()["dispatch_us"] * 1e-6 if "dispatch_us" in known else 0.0
        self.unissued = {"dispatch_us": 0.0} if "dispatch_us" in known else None

    def features(self, piece: Piece, floor: float) -> Array:
        before, inside = kernels_in(piece, self.chosen)
        if not inside:
            return self.absent
        times = times_of([*before, *inside], self.chosen, self.unissued)
        busy = times.latency[len(before) :]
        issued = np.cumsum([k.dispatches for k in inside]) * self.dispatch
        remaining = np.cumsum(busy[::-1])[::-1]
        return np.array([busy.sum(), issued[-1], (issued + remaining).max()])

    def latency(self, columns: Sequence[Columns], xp: Any) -> Any:
        end: Any = 0.0
        issued: Any = 0.0
        for busy, more, longest in columns:
            end = xp.maximum(end + busy, issued + longest) if self.dispatch else end + busy
            issued = issued + more
        return end


class CpuClock:
    """A CPU: times add up; caches tie a kernel to what ran before it and to the whole network.

    An operand costs a time a byte that depends on its reuse distance alone. Inside a piece that
    distance is known. For what enters the piece it is the bytes that the piece moved until then,
    plus those since the piece before last touched it. For weights it is the footprint of the run,
    all weights plus the largest kernel's activations, which no distance exceeds.
    """

    #: Columns of one kernel: seconds of arithmetic, of overhead, of traffic at known distances;
    #: bytes at the footprint; bytes and seconds a byte of two operands that may be further away
    #: than the footprint; bytes of the entry and the bytes moved before it is read.
    ROW = 10
    #: Columns before the kernels: bytes of weights, of the largest kernel's activations, moved
    #: since the exit was touched; 1 if the entry passes through untouched.
    HEAD = 4
    absent = np.array([0.0, 0.0, 0.0, 1.0])

    def __init__(self, chosen: Setting) -> None:
        self.chosen = chosen
        self.model: Any = importlib.import_module("costmodel.machine.cpu")
        self.team = fastest_cores(chosen.profile.engines[chosen.engine], chosen.threads)  # type: ignore[arg-type]
        self.constants = chosen.constants()
        self.knots, self.costs = self._curve()
        self.hidden: float | None = None

    def features(self, piece: Piece, floor: float) -> Array:
        _, inside = kernels_in(piece, self.chosen)
        if not inside:
            return self.absent
        work = self.model.work_of(inside, self.chosen.execution)
        silent = replace(work.touched, nbytes=np.zeros_like(work.touched.nbytes))
        times = self._evaluate(replace(work, touched=silent))
        rows = np.zeros((len(inside), self.ROW))
        rows[:, 0], rows[:, 1], rows[:, 2] = times.compute, times.overhead, times.memory
        self._learn(work)
        starts = np.concatenate([[0.0], np.cumsum([float(k.nbytes) for k in inside])])
        for i, size, distance, weight in _accesses(inside):
            row = rows[i]
            if weight:
                row[3] += size
            elif distance == np.inf:
                row[8], row[9] = row[8] + size, starts[i]
            elif distance <= floor or self._cost(distance, np) <= self._cost(floor, np):
                row[2] += size * self._cost(distance, np)
            else:
                _put(row, size, self._cost(distance, np))
        weights, moving = footprint(inside)
        touched = _last_touch(inside, piece.out)
        head = [weights, moving, starts[-1] - starts[touched or 0], float(touched is None)]
        return np.concatenate([head, rows.ravel()])

    def latency(self, columns: Sequence[Columns], xp: Any) -> Any:
        weights: Any = 0.0
        moving: Any = 0.0
        for piece in columns:
            weights = weights + piece[0]
            moving = xp.maximum(moving, piece[1])
        run = weights + moving
        weight_cost = self._cost(run, xp)
        total: Any = 0.0
        far: Any = _NEVER
        for piece in columns:
            for start in range(self.HEAD, len(piece), self.ROW):
                total = total + self._kernel(
                    piece[start : start + self.ROW], far, run, weight_cost, xp
                )
            far = piece[2] + piece[3] * far
        return total

    def _kernel(self, row: Columns, far: Any, run: Any, weight_cost: Any, xp: Any) -> Any:
        compute, overhead, memory, weight = row[:4]
        memory = memory + weight * weight_cost
        for size, cost in (row[4:6], row[6:8]):
            if _used(size):
                memory = memory + size * xp.minimum(cost, weight_cost)
        if _used(row[8]):
            distance = xp.minimum(xp.maximum(far + row[9], row[8]), run)
            memory = memory + row[8] * self._cost(distance, xp)
        hidden = (self.hidden or 0.0) * xp.minimum(compute, memory)
        return compute + memory - hidden + overhead

    def _cost(self, distance: Any, xp: Any) -> Any:
        """Seconds a byte at a reuse distance: linear between the knots."""
        cost: Any = self.costs[0]
        for left, right, low, high in zip(
            self.knots, self.knots[1:], self.costs, self.costs[1:], strict=False
        ):
            if low != high:
                cost = cost + (xp.clip(distance, left, right) - left) * (
                    (high - low) / (right - left)
                )
        return cost

    def _evaluate(self, work: Any) -> Times:
        engine, memory = self.chosen.profile.engines[self.chosen.engine], self.chosen.profile.memory
        found: Times = self.model.evaluate(work, engine, self.team, memory, self.constants)
        return found

    def _learn(self, work: Any) -> None:
        """How much of the shorter of arithmetic and traffic the machine model hides."""
        if self.hidden is None:
            times = self._evaluate(work)
            shorter = np.minimum(times.compute, times.memory)
            lost = times.compute + times.memory + times.overhead - times.latency
            best = int(np.argmax(shorter))
            self.hidden = float(lost[best] / shorter[best]) if shorter[best] > 0 else None

    def _curve(self) -> tuple[list[float], list[float]]:
        """The seconds a byte that the machine model asks at any distance, as a broken line."""
        distances = np.geomspace(1.0, 1e12, 20_000)
        kernel = Kernel(("probe",), "", "", "move", "fp32", 0, 0, (), ())
        work = self.model.work_of([kernel], self.chosen.execution)
        count = len(distances)
        many = {
            field.name: np.repeat(getattr(work, field.name), count)
            for field in fields(work)
            if isinstance(getattr(work, field.name), np.ndarray)
        }
        probes = Touches(np.arange(count), np.ones(count), distances, np.zeros(count, bool))
        seconds = self._evaluate(replace(work, **many, touched=probes)).memory
        none = Touches(np.arange(count), np.zeros(count), distances, np.zeros(count, bool))
        return _broken_line(
            distances, seconds - self._evaluate(replace(work, **many, touched=none)).memory
        )


#: Bytes that are further away than any cache reaches.
_NEVER = 1e30


def footprint(kernels: Sequence[Kernel]) -> tuple[float, float]:
    """Bytes of the weights that ``kernels`` read, and of the largest one's activations."""
    weights: dict[int, int] = {}
    largest = 0
    for kernel in kernels:
        accesses = (*kernel.reads, *kernel.writes)
        for access in accesses:
            if access.weight:
                weights[access.storage] = max(weights.get(access.storage, 0), access.nbytes)
        largest = max(largest, sum(a.nbytes for a in accesses if not a.weight))
    return float(sum(weights.values())), float(largest)


def _accesses(kernels: Sequence[Kernel]) -> list[tuple[int, float, float, bool]]:
    """Kernel, bytes, distance, whether a weight; infinite distance: it entered the piece."""
    ballast = Kernel(("",), "", "", "move", "fp32", 0, 0, (Access(-1, 10**15, True),), ())
    found = touches([*kernels, ballast])
    return [
        (int(i), size, np.inf if distance >= 10**15 else distance, bool(weight))
        for i, size, distance, weight in zip(
            found.kernel, found.nbytes, found.distance, found.weight, strict=True
        )
        if i < len(kernels)
    ]


def _last_touch(kernels: Sequence[Kernel], storage: int) -> int | None:
    """The last kernel that reads or writes ``storage``."""
    for i in range(len(kernels) - 1, -1, -1):
        if any(a.storage == storage for a in (*kernels[i].reads, *kernels[i].writes)):
            return i
    return None


def _put(row: Array, size: float, cost: float) -> None:
    for place in (4, 6):
        if row[place] == 0 or row[place + 1] == cost:
            row[place] += size
            row[place + 1] = cost
            return
    raise CostModelError("a kernel reads more than two far operands; no cost function follows them")


def _used(column: Any) -> bool:
    return bool((column != 0).any())


def _broken_line(x: Array, y: Array) -> tuple[list[float], list[float]]:
    """The corners of a continuous function that is linear in pieces, sampled much more finely."""
    slopes = np.diff(y) / np.diff(x)
    scale = float(np.abs(slopes).max()) or 1.0
    same = np.abs(np.diff(slopes)) <= 1e-9 * scale
    runs = np.split(np.arange(len(slopes)), np.flatnonzero(~same) + 1)
    lines = [(slopes[r[0]], y[r[0]] - slopes[r[0]] * x[r[0]]) for r in runs if len(r) > 2]
    knots, values = [0.0], [lines[0][1]]
    for (a0, b0), (a1, b1) in pairwise(lines):
        if abs(a0 - a1) > 1e-9 * scale:
            knots.append(float((b1 - b0) / (a0 - a1)))
            values.append(float(a0 * knots[-1] + b0))
    return [*knots, _NEVER], [*values, float(y[-1])]
