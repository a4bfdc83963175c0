"""Time microbenchmarks and networks in turns, so that both see the same of an unsteady machine.

    python benchmarks/host_rounds.py eager --threads 1 --batch 1 8 -o benchmarks/host/HOST

Every round calls each microbenchmark once, as ``costmodel hw calibrate`` does, and each network.
Networks go to ``RUNTIME-threads-N.csv`` in the run format, as ``costmodel measure`` writes it (the
same conversion, weights and inputs), microbenchmarks to ``microbenchmarks.csv``. On a virtual
machine whose neighbours come and go, what is measured minutes apart differs by a third; so the
machine's pace (`costmodel.measure.pace`) is taken several times a round, for runs on other threads.

PyTorch and oneDNN remember the kernels that they generated, 1,024 each unless told otherwise.
Eighty networks take more, and a layer whose kernel was forgotten takes twice its time: alone, no
network does that.
"""

from __future__ import annotations

import argparse
import csv
import os
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from costmodel.errors import CostModelError
from costmodel.files import write_atomic
from costmodel.measure import host, rows
from costmodel.measure.allocator import keep_freed_memory
from costmodel.measure.calibrate import prepared
from costmodel.measure.denormals import flushed
from costmodel.measure.job import Job, describe
from costmodel.measure.pace import in_turn, looking, threads_beside
from costmodel.measure.runtimes import Prepared, prepare
from costmodel.measure.timing import LONG, wall_clock
from costmodel.measure.weights import materialise

FOLDER = Path(__file__).with_name("host")
#: How many kernels PyTorch's bridge to oneDNN, and oneDNN itself, remember.
REMEMBERED = ("LRU_CACHE_CAPACITY", "ONEDNN_PRIMITIVE_CACHE_CAPACITY")
COLUMNS = ("runtime", "threads", "name", "us")
#: Name of a round of the pace's programs among the microbenchmarks, before their threads.
PROBE = "probe, threads: "


def main() -> None:
    """Prepare everything, time it in rounds, write both tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("runtime")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, nargs="+", default=[1])
    parser.add_argument("--mode", choices=("eval", "train"), default="eval")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--networks", nargs="*", help="instead of those in networks.txt, or none")
    parser.add_argument("--microbenchmarks", metavar="RUNTIME", help="of another runtime")
    parser.add_argument("-o", "--output", type=Path, required=True)
    asked = parser.parse_args()
    os.environ |= dict.fromkeys(REMEMBERED, "1000000")  # read once, when PyTorch computes first
    keep_freed_memory()
    if asked.runtime == "compiled":
        _keep_compiled()
    with flushed(), ExitStack() as stack:
        runtime = asked.microbenchmarks or asked.runtime
        small = prepared(runtime, asked.threads, time.monotonic() + 3600, stack, _say)
        usual = (FOLDER / "networks.txt").read_text().split()
        jobs = [
            Job(name, asked.runtime, batch=batch, threads=asked.threads, mode=asked.mode)
            for name in (usual if asked.networks is None else asked.networks)
            for batch in asked.batch
        ]  # fmt: skip
        networks = [(job, found) for job in jobs if (found := _network(job, stack)) is not None]
        teams = {threads_beside(runtime, n) for n in (1, asked.threads, host.default_threads())}
        look, paces = looking(sorted(teams))
        programs: list[Callable[[], float]] = [partial(wall_clock, one.run) for _, one in small]
        programs += [partial(_steady, network) for _, network in networks]
        taken: list[list[float]] = [[] for _ in programs]
        for number in range(asked.rounds):
            _say(f"round {number + 1} of {asked.rounds}")
            for some, took in zip(taken, in_turn(programs, look), strict=True):
                some.append(took)
    calls, once = taken[: len(small)], taken[len(small) :]
    probes = {team: statistics.median(found) for team, found in paces.items()}
    points = [
        (runtime, asked.threads, f"{PROBE}{team}", f"{milliseconds * 1e3:.1f}")
        for team, milliseconds in probes.items()
    ]
    points += [
        (runtime, asked.threads, benchmark.name, f"{statistics.median(some) * 1e6:.1f}")
        for (benchmark, _), some in zip(small, calls, strict=True)
    ]
    _write_points(asked.output / "microbenchmarks.csv", points)
    if not networks:
        return
    path = asked.output / f"{asked.runtime}-threads-{asked.threads}{_suffix(asked.mode)}.csv"
    rows.start(path)
    team = threads_beside(runtime, asked.threads)
    beside = {"probe_ms": probes[team]} | ({"probe_1_ms": probes[1]} if team > 1 else {})
    for (job, _), seconds in zip(networks, once, strict=True):
        rows.append(path, _row(job, seconds, beside))


def _keep_compiled() -> None:
    """Let all networks stay compiled at once: `prepare` begins by forgetting the one before, and
    dynamo runs a function that it has compiled for eight models uncompiled for the ninth."""
    import torch._dynamo

    torch._dynamo.reset = lambda: None
    torch._dynamo.config.recompile_limit = 1000
    torch._dynamo.config.accumulated_recompile_limit = 10_000


def _network(job: Job, stack: ExitStack) -> Prepared | None:
    """A network ready to run; ``None``, and why on the screen, where the runtime refuses it."""
    _say(f"{job.execution}: {job.target}, batch {job.batch}")
    try:
        model, inputs = materialise(job.target, (), job.batch)
        return stack.enter_context(
            prepare(job.execution, model, inputs, threads=job.threads, mode=job.mode)
        )
    except CostModelError as error:
        _say(f"left out: {error}")
        return None


def _steady(ready: Prepared) -> float:
    """Seconds of a call; of a short one, of the call that follows one of the same."""
    took = wall_clock(ready.run)
    return wall_clock(ready.run) if took < LONG else took


def _row(job: Job, seconds: Sequence[float], beside: dict[str, float]) -> dict[str, str]:
    low, *_, high = statistics.quantiles(seconds, n=10)
    found = describe(job) | {
        "latency_ms": f"{statistics.median(seconds) * 1e3:.6g}",
        "statistic": "median",
        "source": f"measured {time.strftime('%Y-%m-%d')}, in turns with microbenchmarks",
        "p10_ms": f"{max(low, min(seconds)) * 1e3:.6g}",
        "p90_ms": f"{min(high, max(seconds)) * 1e3:.6g}",
        "runs": str(len(seconds)),
        **{name: f"{milliseconds:.6g}" for name, milliseconds in beside.items()},
    }
    return {name: str(value) for name, value in found.items()}


def _write_points(path: Path, points: Sequence[tuple[Any, ...]]) -> None:
    """Put the points into the table, in place of older ones of that runtime and thread count."""
    kept: list[Sequence[Any]] = []
    if path.exists():
        with path.open(newline="") as file:
            kept = [r for r in list(csv.reader(file))[1:] if tuple(r[:2]) != _team(points)]
    lines = [COLUMNS, *kept, *points]
    quoted = (",".join(f'"{v}"' if "," in str(v) else str(v) for v in line) for line in lines)
    write_atomic(path, "\n".join(quoted) + "\n")


def _team(points: Sequence[tuple[Any, ...]]) -> tuple[str, str]:
    return (points[0][0], str(points[0][1])) if points else ("", "")


def _suffix(mode: str) -> str:
    return "" if mode == "eval" else f"-{mode}"


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    main()
