"""GPU and NPU: kernels one after another, none before the host has issued it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from costmodel.costfunction.launches import Columns, kernels_in
from costmodel.costfunction.pieces import Piece
from costmodel.hardware.issuing import issuing_slowness
from costmodel.machine.constants import constants_of
from costmodel.machine.times import Array
from costmodel.roofline import times_of
from costmodel.setting import Setting

#: What the host takes for each kernel, and before the first.
_HOST = ("dispatch_us", "start_us")


class QueueClock:
    """With busy_i the time of kernel i on the device and issued_i when the host is done issuing it,
    end_i = max(end_{i-1}, issued_i) + busy_i. A piece maps the end of the one before to its own by
    max(end + sum busy, issued before + M), M = max_i(issued within the piece + busy from i on):
    three numbers, a linear map in (max, +) algebra.
    """

    absent = np.zeros(3)

    def __init__(self, chosen: Setting) -> None:
        self.chosen = chosen
        known = constants_of(chosen.block)
        found = chosen.constants()
        slow = issuing_slowness(chosen.profile, chosen.engine) if _HOST[0] in known else 1.0
        waits = {name: found[name] * slow * 1e-6 for name in _HOST if name in known}
        self.dispatch, self.start = (waits.get(name, 0.0) for name in _HOST)
        self.unissued = dict.fromkeys(waits, 0.0)

    def footprint(self, piece: Piece) -> tuple[float, float]:
        return 0.0, 0.0

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
        waits = self.dispatch > 0 or self.start > 0
        end: Any = 0.0
        issued: Any = self.start
        for busy, more, longest in columns:
            end = xp.maximum(end + busy, issued + longest) if waits else end + busy
            issued = issued + more
        return end
