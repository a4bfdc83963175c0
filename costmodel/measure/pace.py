"""The pace of the machine at the moment: how long a few small programs take.

Neighbours of a virtual machine, heat and other programs make the same network take a third longer a
minute later. A calibration and a measurement therefore both note the time of these programs; their
ratio says how much slower the machine was when it was measured than when it was calibrated.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from functools import partial

from costmodel.measure.microbench import Microbenchmark, microbenchmarks
from costmodel.measure.runtimes import ON_TORCH_THREADS
from costmodel.measure.runtimes.prepared import torch_threads
from costmodel.measure.timing import LONG, Call, wall_clock

#: Products, windows, streams, weights of 50 MB, and ops that do next to nothing: networks consist
#: of all these, and what slows a machine does not slow all alike. Together they take about 15 ms.
PROBES = (
    "conv 1x1 96-576, 1 x 14x14",
    "conv 3x3 40, 1 x 28x28",
    "depthwise 5x5 192, 1 x 28x28",
    "linear 2048-1000, 1 rows",
    "attention 1x3x197x64",
    "relu 1x96x112x112",
    "layer norm 197x384",
    "small conv 3x3",
)
#: Microbenchmarks between two looks at the machine's pace. A neighbour on the same core comes and
#: goes within tenths of a second: one look a round found the pace 13 % off that of the round.
BETWEEN = 20


def programs() -> list[Microbenchmark]:
    """The programs, among the microbenchmarks."""
    known = {benchmark.name: benchmark for benchmark in microbenchmarks()}
    return [known[name] for name in PROBES]


def probe() -> Callable[[int], float]:
    """A round of the programs, in PyTorch on so many threads, whatever runtime is being measured.

    Every call of what is given, with a number of threads, returns the geometric mean of their
    times in milliseconds.
    """
    import torch

    with torch.random.fork_rng(devices=[]):
        ready = [(one.build().eval(), torch.randn(one.shape)) for one in programs()]

    def a_round(threads: int) -> float:
        with torch_threads(threads), torch.inference_mode():
            return statistics.geometric_mean(_warm(partial(model, x)) for model, x in ready) * 1e3

    return a_round


def looking(teams: Sequence[int]) -> tuple[Call, dict[int, list[float]]]:
    """A look at the pace on each number of threads, and what every look found, by threads."""
    pace = probe()
    found: dict[int, list[float]] = {team: [] for team in teams}

    def look() -> None:
        for team, rounds in found.items():
            rounds.append(pace(team))

    return look, found


def in_turn(programs: Sequence[Callable[[], float]], look: Call) -> list[float]:
    """The seconds of each program, one after another; a look before every `BETWEEN` of them."""
    seconds = []
    for place, program in enumerate(programs):
        if place % BETWEEN == 0:
            look()
        seconds.append(program())
    return seconds


def beside(rounds: Sequence[float], call_s: float) -> float:
    """What the rounds took that ran between calls of ``call_s`` seconds.

    A neighbour on the same core comes and goes within tenths of a second. A call that is shorter
    meets what is usual, a longer one the average: forty networks at batch 8 on two threads, half a
    second a call, were told 14 % too fast by the median round, 11 by the mean.
    """
    usual = statistics.median if call_s < LONG else statistics.geometric_mean
    return usual(rounds)


def threads_beside(runtime: str, threads: int) -> int:
    """The threads to run the programs on beside a runtime that uses so many.

    The idle threads of runtimes with pools of their own go on looking for work for a while, on the
    cores that PyTorch's would wait for: beside ONNX Runtime the programs took up to 80 times as
    long on two threads of two cores.
    """
    return threads if runtime in ON_TORCH_THREADS else 1


def _warm(run: Call) -> float:
    """Seconds of a call that follows one of the same: what ran before is to make no difference."""
    run()
    return wall_clock(run)


__all__ = [
    "BETWEEN",
    "PROBES",
    "beside",
    "in_turn",
    "looking",
    "probe",
    "programs",
    "threads_beside",
]
