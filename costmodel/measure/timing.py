"""Timing a call: warm-up until it is steady, then samples and their spread."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Call = Callable[[], object]
#: Makes one call and returns how many seconds it took.
Clock = Callable[[Call], float]

#: Samples that every result rests on, however slow the call is.
FEWEST = 3
#: Share of the time limit that warming up may take.
_WARM_UP = 0.4
#: Seconds of a call for which it does not matter what ran before.
LONG = 0.2


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds of one call over ``runs`` samples.

    ``stable`` says whether the call had settled before the first sample was taken.
    """

    median_s: float
    p10_s: float
    p90_s: float
    runs: int
    stable: bool

    @property
    def spread(self) -> float:
        """How far the 10th and 90th percentile lie apart, as a fraction of the median."""
        return (self.p90_s - self.p10_s) / self.median_s


def wall_clock(call: Call) -> float:
    """Seconds by the monotonic clock of the operating system."""
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def cuda_clock(call: Call) -> float:
    """Seconds between two events around the call, on the current CUDA stream."""
    import torch

    new: Any = torch.cuda.Event
    begin, end = new(enable_timing=True), new(enable_timing=True)
    begin.record()
    call()
    end.record()
    end.synchronize()
    return float(begin.elapsed_time(end)) / 1e3


def time_calls(
    call: Call,
    *,
    min_seconds: float = 0.5,
    min_runs: int = 10,
    max_seconds: float = 10.0,
    tolerance: float = 0.03,
    clock: Clock = wall_clock,
    aside: Call | None = None,
) -> Timing:
    """Call until it is steady, then until ``min_seconds`` and ``min_runs`` are both reached.

    Steady means that the medians of two successive groups of calls differ by less than
    ``tolerance``. ``max_seconds`` bounds the whole, but at least `FEWEST` samples are taken.
    ``aside`` is called in between, once for every fifth of ``min_seconds`` in samples; a short call
    is then made once untimed. What the call raises is passed on.
    """
    began = time.perf_counter()

    def left(share: float) -> bool:
        return time.perf_counter() - began < share * max_seconds

    stable = _warm_up(call, clock, tolerance, min_seconds / 5, lambda: left(_WARM_UP))
    samples: list[float] = []
    asides = 0
    while len(samples) < FEWEST or (
        left(1) and (len(samples) < min_runs or sum(samples) < min_seconds)
    ):
        if aside is not None and sum(samples) >= asides * min_seconds / 5:
            aside()
            asides += 1
            if not samples or samples[-1] < LONG:
                call()
        samples.append(clock(call))
    p10, p90 = _percentile(samples, 10), _percentile(samples, 90)
    return Timing(statistics.median(samples), p10, p90, len(samples), stable)


def _warm_up(
    call: Call, clock: Clock, tolerance: float, seconds: float, left: Callable[[], bool]
) -> bool:
    """Groups of calls, each ``seconds`` long, until two agree; whether they did in time."""
    clock(call)  # the first call allocates, loads and compiles
    before = 0.0
    while left():
        group: list[float] = []
        while left() and (len(group) < 2 or sum(group) < seconds):
            group.append(clock(call))
        if not group:
            break
        now = statistics.median(group)
        if before and abs(now - before) <= tolerance * before:
            return True
        before = now
    return False


def _percentile(samples: list[float], percent: int) -> float:
    """The sample at that rank, the nearest one: no value that was never measured."""
    ordered = sorted(samples)
    return ordered[round((len(ordered) - 1) * percent / 100)]
