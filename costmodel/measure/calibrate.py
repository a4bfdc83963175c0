"""From microbenchmarks to the constants of the machine in hand: measure, then fit, per runtime.

They run in turns, one call of each a round, so that a layer finds the caches, the code and its
weights as in a network: as other layers left them. Taking turns, all of them also see the same of a
machine that is not equally fast at all times.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from costmodel.errors import CostModelError
from costmodel.execution.kernel import Access, Kernel
from costmodel.hardware.schema import Profile
from costmodel.machine.constants import measured_here, values_of
from costmodel.measure.microbench import Microbenchmark, microbenchmarks, traced
from costmodel.setting import Setting

if TYPE_CHECKING:
    from costmodel.measure.runtimes import Prepared
    from costmodel.table import CostTable
    from costmodel.validate.predict_rows import Row

#: Calls of each microbenchmark that a median rests on, at least.
ROUNDS = 5
#: Constants can be told apart from this many points on.
ENOUGH = 12

#: Shares of a last-level cache from which a fit starts, too: other guests may have most of it.
_SHARES = (0.05, 0.15)

#: What the other microbenchmarks of a round move, whose own time is not part of the call.
_REST = Kernel(
    ("rest",), "", "", "move", "fp32", 0, 0, (Access(-1, 2**31, weight=True),), (), inside=True
)


@dataclass(frozen=True, slots=True)
class Timed:
    """A microbenchmark and the median time of one call, in seconds, after others have run."""

    benchmark: Microbenchmark
    threads: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Session:
    """Microbenchmarks on one number of threads, and the median round of `costmodel.measure.pace`
    between them, in milliseconds, by threads."""

    points: tuple[Timed, ...]
    probe_ms: dict[int, float]


@dataclass(frozen=True, slots=True)
class Fitted:
    """The constants of a runtime, the pace at which they hold, by threads, and the number of points
    that they rest on."""

    constants: dict[str, float]
    probe_ms: dict[str, float]
    points: int


def fit_constants(
    profile: Profile,
    runtimes: Sequence[str],
    *,
    threads: int,
    seconds: float,
    advance: Callable[[str], object] = lambda _: None,
) -> dict[str, Fitted]:
    """The constants of every runtime, by execution, fitted on microbenchmarks run now.

    ``seconds`` is shared evenly among the runtimes, and by runs on one thread and on ``threads``,
    which tell what a further thread brings and costs: what does not fit is left out, the rest
    spans every kind. ``advance`` is told the name of each microbenchmark before it runs. Raises
    `CostModelError` for a runtime that is not installed, or too slow to be calibrated in the time.
    """
    from costmodel.measure.pace import threads_beside
    from costmodel.measure.runtimes import refuse

    for runtime in runtimes:
        refuse(runtime)
    found = {}
    teams = sorted({1, threads})
    share = seconds / len(runtimes) / len(teams)
    for runtime in runtimes:
        beside = sorted({threads_beside(runtime, team) for team in teams})
        sessions = [timed(runtime, team, share, advance, beside) for team in teams]
        points, paces = at_one_pace([session for session in sessions if session.points])
        if len(points) < ENOUGH:
            raise CostModelError(
                f"{runtime}: {len(points)} microbenchmarks in {seconds / len(runtimes):.0f} s, "
                f"{ENOUGH} are needed; give more --seconds"
            )
        known = {str(team): milliseconds for team, milliseconds in paces.items()}
        found[runtime] = Fitted(fitted(profile, runtime, points), known, len(points))
    return found


def at_one_pace(sessions: Sequence[Session]) -> tuple[list[Timed], dict[int, float]]:
    """The points of all sessions as long as they would have taken at the pace of the mean session,
    and the probes of that pace: between sessions the machine may have become slower for all."""
    if not sessions:
        return [], {}
    mean = {
        team: statistics.geometric_mean(session.probe_ms[team] for session in sessions)
        for team in sessions[0].probe_ms
    }
    points = []
    for session in sessions:
        ratios = [session.probe_ms[team] / mean[team] for team in mean]
        slower = statistics.geometric_mean(ratios) if ratios else 1.0
        points += [replace(point, seconds=point.seconds / slower) for point in session.points]
    return points, mean


def timed(
    runtime: str,
    threads: int,
    seconds: float,
    advance: Callable[[str], object],
    beside: Sequence[int] = (),
) -> Session:
    """Every microbenchmark that fits into ``seconds``; those that the runtime refuses left out.

    Every so often the machine's pace is taken, on each number of threads in ``beside``.
    """
    from costmodel.measure.allocator import keep_freed_memory
    from costmodel.measure.denormals import flushed
    from costmodel.measure.pace import in_turn, looking
    from costmodel.measure.timing import wall_clock

    keep_freed_memory()
    end = time.monotonic() + seconds
    with flushed(), ExitStack() as stack:
        look, paces = looking(beside)
        ready = prepared(runtime, threads, end, stack, advance)
        calls: list[list[float]] = [[] for _ in ready]
        programs = [partial(wall_clock, one.run) for _, one in ready]
        done = 0
        while ready and (done < ROUNDS or time.monotonic() < end):
            done += 1
            advance(f"{runtime}, threads: {threads}, round {done}")
            for taken, took in zip(calls, in_turn(programs, look), strict=True):
                taken.append(took)
    points = tuple(
        Timed(benchmark, threads, statistics.median(taken))
        for (benchmark, _), taken in zip(ready, calls, strict=True)
    )
    return Session(
        points, {team: statistics.median(found) for team, found in paces.items() if found}
    )


def prepared(
    runtime: str, threads: int, end: float, stack: ExitStack, advance: Callable[[str], object]
) -> list[tuple[Microbenchmark, Prepared]]:
    """The microbenchmarks whose rounds will be over at ``end``, prepared until ``stack`` closes."""
    import torch

    from costmodel.measure.runtimes import prepare
    from costmodel.measure.timing import wall_clock

    ready, a_round = [], 0.0
    for benchmark in microbenchmarks(runtime):
        if time.monotonic() + ROUNDS * a_round > end:
            break
        advance(f"{runtime}: {benchmark.name}")
        torch.manual_seed(0)
        model, x = benchmark.build().eval(), torch.randn(benchmark.shape)
        with ExitStack() as own:
            try:
                converted = own.enter_context(
                    prepare(runtime, model, (x,), threads=threads, mode=benchmark.mode)
                )
            except CostModelError:
                continue  # one layer that a runtime cannot convert says nothing of the others
            call = wall_clock(converted.run)
            if time.monotonic() + ROUNDS * (a_round + call) > end:
                continue  # too slow for the time there is; smaller ones follow
            a_round += call
            stack.enter_context(own.pop_all())
        ready.append((benchmark, converted))
    return ready


def fitted(profile: Profile, runtime: str, points: Sequence[Timed]) -> dict[str, float]:
    """The constants under which the machine model comes nearest to the microbenchmarks."""
    from costmodel.validate.fit import fit_all, measured_of, one_by_one, seconds_of

    rows = rows_of(profile, runtime, points)
    block = rows[0].setting.block
    start = values_of(block, measured_here(block))
    seconds, measured = seconds_of(rows), measured_of(rows)

    def apart(constants: dict[str, float]) -> float:
        return float(np.abs(np.log((seconds or one_by_one(rows))(constants) / measured)).mean())

    # Whether a cache holds what it is given is a step, which no slope leads over.
    starts = [start | {"l3_share": share} for share in _SHARES] if "l3_share" in start else []
    found = [fit_all(rows, s, most=len(rows), seconds=seconds) for s in (start, *starts)]
    return min(found, key=apart)


def rows_of(profile: Profile, runtime: str, points: Sequence[Timed]) -> list[Row]:
    """Microbenchmarks as measured runs, predicted by the same code as any network."""
    from costmodel.execution import kernels_of
    from costmodel.validate.predict_rows import Row, Work
    from costmodel.validate.runs import Run

    engine = profile.default.engine
    tables: dict[str, CostTable] = {}
    rows = []
    for point in points:
        benchmark = point.benchmark
        chosen = Setting(profile, engine, runtime, "fp32", "nchw", point.threads)
        if benchmark.name not in tables:
            tables[benchmark.name] = traced(benchmark)
        table = tables[benchmark.name]
        kernels = _as_left_by_others(
            kernels_of(table.rows, runtime, chosen.format, benchmark.shape[0], chosen.lanes)
        )
        run = Run(
            device=profile.name, software="", execution=runtime, dtype="fp32", layout="nchw",
            threads=point.threads, model=benchmark.name,
            input_shape="x".join(map(str, benchmark.shape[1:])), batch=benchmark.shape[0],
            latency_ms=point.seconds * 1e3,
        )  # fmt: skip
        rows.append(Row(run, chosen, Work(kernels, int(table.total.macs), 0)))
    return rows


def _as_left_by_others(kernels: Sequence[Kernel]) -> tuple[Kernel, ...]:
    """The kernels after others have used the caches: weights, and the first two outputs, are cold.

    Later outputs take the memory of what was freed two tensors ago, as blocks of one size do: by
    their addresses, two thirds of what microbenchmarks write lands there.
    """
    first, *others = (replace(kernel, scattered=False) for kernel in kernels)
    cold = [access for kernel in kernels for access in kernel.writes][:2]
    fetched = tuple(Access(-2 - i, access.nbytes) for i, access in enumerate(cold))
    return (replace(first, reads=(*first.reads, *fetched)), *others, _REST)


__all__ = [
    "ROUNDS",
    "Fitted",
    "Session",
    "Timed",
    "at_one_pace",
    "fit_constants",
    "fitted",
    "prepared",
    "rows_of",
    "timed",
]
