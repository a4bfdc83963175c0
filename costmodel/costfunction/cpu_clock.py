"""CPUs: times add up; caches tie a kernel to what ran before it and to the whole network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from costmodel.costfunction.launches import Columns, kernels_in
from costmodel.costfunction.pieces import Piece
from costmodel.errors import CostModelError
from costmodel.execution.kernel import Kernel
from costmodel.execution.samples import of_one, samples_of
from costmodel.machine.caches import Touches, footprint
from costmodel.machine.heap import PAGE, Blocks, is_cut, page_seconds
from costmodel.machine.parts import Parts
from costmodel.machine.times import Array, run_seconds
from costmodel.roofline import machine_of
from costmodel.setting import Setting

#: Bytes since the entry of a piece was used, while the piece stands alone: more than any run moves,
#: and few enough that a float holds every byte beyond.
_FAR = 2.0**50
#: Columns before the kernels: seconds that nothing else changes; bytes added to the footprint, and
#: of the largest kernel; bytes moved since the exit was used; 1 if the piece does not use it; how
#: often all of it happens, sample by sample; bytes of the heap that live at most, and of the
#: largest block.
_HEAD = 8
#: Columns of one kernel: seconds of arithmetic, of traffic at known distances; bytes a footprint
#: away, and those of them that main memory gets back.
_OPEN = 4
#: Where distances are bounded follow the bytes that enter and those moved until then, and places
#: for bytes and seconds a byte of what may be further away than the footprint; elsewhere two places
#: for what enters: bytes, those moved until then, by how much they are stretched.
_ROW = 18
_ENTRY, _BEYOND, _STRETCHED = (_OPEN,), range(_OPEN + 2, _ROW, 2), (_OPEN, _OPEN + 3)


class CpuClock:
    """An operand costs a time a byte that depends on its reuse distance alone.

    Inside a piece that distance is known. For what enters the piece it is the bytes that the piece
    moved until then, plus those since the piece before last used it. What the run brings in, its
    weights, is a footprint away: a sum over the pieces plus the largest kernel's share. Where the
    machine model bounds distances by it, that is the upper limit of the others too.
    """

    absent = np.array([0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0])

    def __init__(self, chosen: Setting) -> None:
        self.chosen = chosen
        self.constants = chosen.constants()
        #: Seconds of a page that the allocator gave back; 0 where none has to be fetched.
        self.page = page_seconds(self.constants)
        self.once = run_seconds(self.constants)
        alone = self._parts([], {})
        self.levels, self.hidden = alone.levels, alone.hidden
        self.bounded = alone.touched.bounded
        by_level = self.levels.by_level(np.array(self.levels.corners))
        #: Seconds of a byte from wherever its distance finds it, and what main memory is of them.
        self.anywhere, self.memory = (
            _Rise.of(self.levels.corners, costs) for costs in (by_level.sum(axis=0), by_level[-1])
        )

    def footprint(self, piece: Piece) -> tuple[float, float]:
        if not self.bounded:
            return 0.0, 0.0
        return footprint(of_one(kernels_in(piece, self.chosen)[1]))

    def features(self, piece: Piece, floor: float) -> Array:
        front, launched = kernels_in(piece, self.chosen)
        if not launched:
            return self.absent
        inside = of_one(launched)
        reads = {a.storage for k in inside for a in k.reads if not a.weight}
        # What no kernel ahead used has come from outside, even where views stand in between.
        used = {a.storage for k in front for a in (*k.reads, *k.writes)}
        entries = {*reads, piece.out} & used
        parts = self._parts(inside, dict.fromkeys(entries, _FAR))
        touched, rows = parts.touched, self._rows(parts, floor)
        known = ~rows[:, 2:].any(axis=1)
        alone = rows[:, 0] + rows[:, 1] - self.hidden * np.minimum(rows[:, 0], rows[:, 1])
        left = touched.left.get(piece.out, _FAR)
        asked = self._asked(front, inside, entries, piece.out)
        head = [
            parts.overhead.sum() + alone[known].sum() + asked.mapped.sum() / PAGE * self.page,
            touched.weights,
            touched.working,
            left % _FAR,
            float(left >= _FAR),
            samples_of(launched),
            asked.peak,
            asked.largest,
        ]
        return np.concatenate([head, rows[~known].ravel()])

    def latency(self, columns: Sequence[Columns], xp: Any) -> Any:
        total: Any = self.once
        weights: Any = 0.0
        working: Any = 0.0
        samples: Any = 0.0
        peak: Any = 0.0
        largest: Any = 0.0
        for piece in columns:
            total = total + piece[0]
            weights = weights + piece[1]
            working = xp.maximum(working, piece[2])
            samples = xp.maximum(samples, piece[5])
            peak, largest = xp.maximum(peak, piece[6]), xp.maximum(largest, piece[7])
        run = weights + working
        run_cost, run_back = self.anywhere.at(run, xp), self.memory.at(run, xp)
        far: Any = 0.0
        for piece in columns:
            for start in range(_HEAD, len(piece), _ROW):
                row = piece[start : start + _ROW]
                compute, memory = row[0], row[1] + row[2] * run_cost + row[3] * run_back
                memory = memory + self._entered(row[_OPEN:], far, run, run_cost, xp)
                total = total + compute + memory - self.hidden * xp.minimum(compute, memory)
            far = piece[3] + piece[4] * far
        grown = peak * is_cut(peak, largest)
        return (total + grown / PAGE * self.page) * samples

    def _asked(
        self, front: Sequence[Kernel], inside: Sequence[Kernel], entries: set[int], out: int
    ) -> Blocks:
        """What the piece asks of the allocator while what was made ahead of it lives on."""
        if not self.page:
            return Blocks(np.zeros(1), np.zeros(1), 0.0)
        made = {
            access.storage: access.nbytes
            for kernel in front
            for access in (*kernel.reads, *kernel.writes)
        }
        entered = {storage: made[storage] for storage in entries & made.keys()}
        found: Blocks = machine_of(self.chosen).blocks(inside, self.chosen, entered, out)
        return found

    def _parts(self, kernels: Sequence[Kernel], before: Mapping[int, float]) -> Parts:
        parts: Parts = machine_of(self.chosen).parts(kernels, self.chosen, before)(self.constants)
        return parts

    def _rows(self, parts: Parts, floor: float) -> Array:
        rows = np.zeros((len(parts.compute), _ROW))
        rows[:, 0], rows[:, 1] = parts.compute, parts.near
        touched = parts.touched
        distance = touched.since * touched.stretch
        costs = self.levels.seconds(distance, touched.returned)
        back = np.broadcast_to(touched.returned, touched.since.shape)
        least = self.levels.seconds(np.array([floor]))[0] if self.bounded else np.inf
        for i in map(int, np.flatnonzero(touched.nbytes)):
            row, size = rows[touched.kernel[i]], touched.nbytes[i]
            if np.isinf(touched.since[i]):
                row[2] += size
                row[3] += size * back[i]
            elif touched.since[i] >= _FAR:
                self._enter(row, touched, i)
            elif distance[i] <= floor or costs[i] <= least:
                row[1] += size * costs[i]
            else:
                _put(row, _BEYOND, size, costs[i])
        return rows

    def _enter(self, row: Array, touched: Touches, i: int) -> None:
        """Note the use of what enters the piece: bytes, and bytes moved until then; where distances
        are not bounded, how much they are stretched."""
        until = touched.since[i] - _FAR
        if self.bounded:
            _put(row, _ENTRY, touched.nbytes[i], until)
        else:
            stretch = np.broadcast_to(touched.stretch, touched.since.shape)[i]
            _put(row, _STRETCHED, touched.nbytes[i], until, stretch)

    def _entered(self, row: Columns, far: Any, run: Any, run_cost: Any, xp: Any) -> Any:
        """Seconds of traffic whose distance the rest of the network decides."""
        seconds: Any = 0.0
        if self.bounded:
            size, until, *known = row
            if _used(size):
                distance = xp.minimum(xp.maximum(far + until, size), run)
                seconds = size * self.anywhere.at(distance, xp)
            for size, cost in zip(known[::2], known[1::2], strict=True):
                if _used(size):
                    seconds = seconds + size * xp.minimum(cost, run_cost)
            return seconds
        for size, until, stretch in (row[:3], row[3:6]):
            if _used(size):
                seconds = seconds + size * self.anywhere.at((far + until) * stretch, xp)
        return seconds


@dataclass(frozen=True)
class _Rise:
    """Seconds a byte at a reuse distance: ``nearest`` at 0, then linear between corners.

    ``slopes``: where they rise from one corner to the next, and how steeply.
    """

    nearest: float
    slopes: tuple[tuple[float, float, float], ...]

    @classmethod
    def of(cls, corners: Sequence[float], costs: Array) -> _Rise:
        return cls(
            float(costs[0]),
            tuple(
                (low, high, (dear - cheap) / (high - low))
                for (low, cheap), (high, dear) in pairwise(zip(corners, costs, strict=True))
                if cheap != dear
            ),
        )

    def at(self, distance: Any, xp: Any) -> Any:
        cost: Any = self.nearest
        for low, high, slope in self.slopes:
            cost = cost + (xp.clip(distance, low, high) - low) * slope
        return cost


def _put(row: Array, places: Sequence[int], size: float, *about: float) -> None:
    """Add an access to the place of others like it, or to a free one."""
    for place in places:
        end = place + 1 + len(about)
        if row[place] == 0 or tuple(row[place + 1 : end]) == about:
            row[place] += size
            row[place + 1 : end] = about
            return
    raise CostModelError(
        "a kernel reads too many far operands of different age; no cost function follows them"
    )


def _used(column: Any) -> bool:
    return bool((column != 0).any())
