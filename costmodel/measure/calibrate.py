"""From microbenchmarks to the constants of the machine in hand: measure, then fit, per runtime.

Each is timed twice: over and over, when it finds its weights in the caches, and each time after
something else has filled them, as a layer finds them in a large network.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from costmodel.errors import CostModelError
from costmodel.execution.kernel import Access, Kernel
from costmodel.hardware.schema import Profile
from costmodel.machine.constants import values_of
from costmodel.measure.microbench import Microbenchmark, microbenchmarks
from costmodel.setting import Setting

if TYPE_CHECKING:
    from costmodel.table import CostTable
    from costmodel.validate.predict_rows import Row

#: Seconds that one microbenchmark is timed for, warm and cold, and that the slowest may take.
_SAMPLED, _SLOWEST = 0.15, 1.0
#: Bytes that fill the caches of any processor, nearly.
_FILLING = 48 * 2**20
#: Constants can be told apart from this many points on.
ENOUGH = 12

#: What filled the caches: weights of a larger network, whose own time is not part of the call.
_REST = Kernel(
    ("rest",), "", "", "move", "fp32", 0, 0, (Access(-1, 2**31, weight=True),), (), inside=True
)


@dataclass(frozen=True, slots=True)
class Timed:
    """A microbenchmark and the median time of one call, in seconds; ``cold``: caches were full."""

    benchmark: Microbenchmark
    threads: int
    seconds: float
    cold: bool = False


def fit_constants(
    profile: Profile,
    runtimes: Sequence[str],
    *,
    threads: int,
    seconds: float,
    advance: Callable[[str], object] = lambda _: None,
) -> dict[str, dict[str, float]]:
    """The constants of every runtime, by execution, fitted on microbenchmarks run now.

    ``seconds`` is shared evenly among the runtimes, and by runs on one thread and on ``threads``,
    which tell what a further thread brings and costs: what does not fit is left out, the rest
    spans every kind. ``advance`` is told the name of each microbenchmark before it runs. Raises
    `CostModelError` for a runtime that is not installed, or too slow to be calibrated in the time.
    """
    from costmodel.measure.runtimes import refuse

    for runtime in runtimes:
        refuse(runtime)
    found = {}
    teams = sorted({1, threads})
    share = seconds / len(runtimes) / len(teams)
    for runtime in runtimes:
        points = [point for team in teams for point in timed(runtime, team, share, advance)]
        if len(points) < ENOUGH:
            raise CostModelError(
                f"{runtime}: {len(points)} microbenchmarks in {seconds / len(runtimes):.0f} s, "
                f"{ENOUGH} are needed; give more --seconds"
            )
        found[runtime] = fitted(profile, runtime, points)
    return found


def timed(
    runtime: str, threads: int, seconds: float, advance: Callable[[str], object]
) -> Iterator[Timed]:
    """Every microbenchmark that fits into ``seconds``; those that the runtime refuses left out."""
    import numpy as np
    import torch

    from costmodel.measure.allocator import keep_freed_memory
    from costmodel.measure.runtimes import prepare
    from costmodel.measure.timing import time_calls, wall_clock

    keep_freed_memory()
    filling = np.zeros(_FILLING // 8)

    def cold_clock(call: Callable[[], object]) -> float:
        filling[:] += 1.0
        return wall_clock(call)

    end = time.monotonic() + seconds
    for benchmark in microbenchmarks():
        if time.monotonic() > end:
            return
        advance(f"{runtime}: {benchmark.name}")
        torch.manual_seed(0)
        model, x = benchmark.build().eval(), torch.randn(benchmark.shape)
        try:
            with prepare(runtime, model, (x,), threads=threads, mode=benchmark.mode) as ready:
                warm = time_calls(ready.run, min_seconds=_SAMPLED, max_seconds=_SLOWEST)
                found = [Timed(benchmark, ready.threads, warm.median_s)]
                if benchmark.mode == "eval":
                    cold = time_calls(ready.run, min_seconds=_SAMPLED, max_seconds=_SLOWEST,
                                      clock=cold_clock)  # fmt: skip
                    found.append(Timed(benchmark, ready.threads, cold.median_s, cold=True))
        except CostModelError:
            continue  # one layer that a runtime cannot convert says nothing of the others
        yield from found


def fitted(profile: Profile, runtime: str, points: Sequence[Timed]) -> dict[str, float]:
    """The constants under which the machine model comes nearest to the microbenchmarks."""
    from costmodel.validate.fit import fit_all

    rows = rows_of(profile, runtime, points)
    return fit_all(rows, values_of(rows[0].setting.block), most=len(rows))


def rows_of(profile: Profile, runtime: str, points: Sequence[Timed]) -> list[Row]:
    """Microbenchmarks as measured runs, predicted by the same code as any network."""
    import torch

    from costmodel.api import trace
    from costmodel.execution import kernels_of
    from costmodel.table import cost
    from costmodel.validate.predict_rows import Row, Work
    from costmodel.validate.runs import Run

    engine = profile.default.engine
    tables: dict[str, CostTable] = {}
    rows = []
    for point in points:
        benchmark = point.benchmark
        chosen = Setting(profile, engine, runtime, "fp32", "nchw", point.threads)
        if benchmark.name not in tables:
            with torch.device("meta"):
                model, x = benchmark.build().eval(), torch.empty(benchmark.shape)
                tables[benchmark.name] = cost(trace(model, x, mode=benchmark.mode))
        table = tables[benchmark.name]
        kernels = tuple(kernels_of(table.rows, runtime, chosen.format))
        kernels += (_REST,) if point.cold else ()
        run = Run(
            device=profile.name, software="", execution=runtime, dtype="fp32", layout="nchw",
            threads=point.threads, model=benchmark.name,
            input_shape="x".join(map(str, benchmark.shape[1:])), batch=benchmark.shape[0],
            latency_ms=point.seconds * 1e3,
        )  # fmt: skip
        rows.append(Row(run, chosen, Work(kernels, int(table.total.macs), 0)))
    return rows


__all__ = ["Timed", "fit_constants", "fitted", "rows_of", "timed"]
