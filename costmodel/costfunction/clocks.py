"""How the latencies of pieces compose, one small clock an engine class.

A clock turns a piece into numbers (``features``), and the numbers of all pieces of an architecture
into its latency (``latency``), on whole arrays of architectures at once. The arithmetic is the
machine model's own, rearranged: what a piece adds depends on the rest of the network only through
a few quantities, which are carried along.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from costmodel.costfunction.cpu_clock import CpuClock
from costmodel.costfunction.launches import Columns
from costmodel.costfunction.pieces import Piece
from costmodel.costfunction.queue_clock import QueueClock
from costmodel.machine.times import Array
from costmodel.setting import Setting


class Clock(Protocol):
    """What `costmodel.costfunction.function` needs of an engine.

    ``absent`` are the first numbers of a piece that is not there; the rest are zeros.
    """

    absent: Array

    def footprint(self, piece: Piece) -> tuple[float, float]:
        """Bytes that the piece adds to the run's footprint, and that its largest kernel needs; 0
        where no latency depends on how large the footprints of a space are at least."""

    def features(self, piece: Piece, floor: float) -> Array:
        """The numbers of a piece, when no run's footprint is below ``floor`` bytes."""

    def latency(self, columns: Sequence[Columns], xp: Any) -> Any:
        """Seconds, from the columns of all pieces in order. ``xp`` is numpy or `TorchLike`."""


def clock_of(chosen: Setting) -> Clock:
    """The clock of a setting's engine."""
    kind = chosen.profile.engines[chosen.engine].kind
    return CpuClock(chosen) if kind == "cpu" else QueueClock(chosen)
