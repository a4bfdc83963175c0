"""What waking a thread takes beside a run, told from the small programs of its pace.

The cores of a virtual machine may be neighbours in one minute and far apart in the next. Then the
programs take a quarter longer on a team of threads and not on one, small networks as much, and
large ones next to nothing: it is the waking that takes longer, not the work.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from costmodel.execution import kernels_of
from costmodel.machine.constants import constants_of
from costmodel.measure.microbench import traced
from costmodel.measure.pace import programs
from costmodel.roofline import timer_of
from costmodel.setting import Setting
from costmodel.table import CostTable

#: The constant of the machine model.
WAKING = "fork_us"
#: Steps by halves until what a fit could tell apart.
_HALVES = 40


def longer_us(chosen: Setting, ratio: float) -> float:
    """Microseconds that each doubling of a team takes longer than ``chosen.constants()`` say, if
    the programs take ``ratio`` times as long on it, and no longer on one thread.

    Inside the constant's limits; 0 for a machine model that wakes nobody.
    """
    constants = chosen.constants()
    if WAKING not in constants:
        return 0.0
    known, low, high = constants[WAKING], 0.0, constants_of(chosen.block)[WAKING].high
    work, full = (_seconds(chosen, constants | {WAKING: us}) for us in (low, high))
    each = (full - work) / high
    wanted = np.log(work + each * known).mean() + np.log(ratio)
    for _ in range(_HALVES):
        middle = (low + high) / 2
        if np.log(work + each * middle).mean() < wanted:
            low = middle
        else:
            high = middle
    return (low + high) / 2 - known


def _seconds(chosen: Setting, constants: dict[str, float]) -> np.ndarray:
    """What each program takes."""
    return np.array([
        timer_of(
            kernels_of(table.rows, chosen.execution, chosen.format, lanes=chosen.lanes), chosen
        )(constants).latency.sum()
        for table in _programs()
    ])  # fmt: skip


@cache
def _programs() -> tuple[CostTable, ...]:
    return tuple(map(traced, programs()))
