"""What each op of an eager run takes, by PyTorch's profiler.

An op here is what the tracer records as one: the outermost one that a cost rule knows. So the
ops of a run come in the order and under the names of the traced ones.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from costmodel import rules
from costmodel.measure.job import Job
from costmodel.measure.timing import Call, time_calls

#: Calls under one start of the profiler that are kept.
TOGETHER = 4
_CALL = "costmodel.call"


@dataclass(frozen=True, slots=True)
class OpRun:
    """One op of a run: its ATen name (``aten.conv2d``) and seconds.

    ``before_s`` is the time between the op before and this one, when the host runs Python.
    """

    name: str
    seconds: float
    before_s: float


def tells(job: Job) -> bool:
    """Whether the ops of a job can be told apart: in eager inference on the CPU."""
    return (job.execution, job.device, job.mode) == ("eager", "cpu", "eval")


def profile(job: Job) -> list[tuple[str, float, float]]:
    """The ops of a run in order, as the fields of `OpRun`: medians over runs.

    The job is one whose ops `tells` apart. The profiler lengthens the time between ops more than
    the ops. Raises `CostModelError` where the target or the runtime cannot be had.
    """
    from costmodel.measure.runtimes import prepare
    from costmodel.measure.weights import materialise

    model, inputs = materialise(job.target, job.inputs, job.batch)
    batches: list[list[list[OpRun]]] = []

    def clock(call: Call) -> float:
        batches.append(profiled(call))
        return statistics.median(map(seconds_of, batches[-1]))

    with prepare(
        job.execution, model, inputs, threads=job.threads, dtype=job.dtype, layout=job.layout
    ) as prepared:
        timing = time_calls(
            prepared.run, min_seconds=job.seconds / (1 + TOGETHER), min_runs=3, clock=clock,
            max_seconds=max(10.0, 4 * job.seconds),
        )  # fmt: skip
    runs = [run for batch in batches[-timing.runs :] for run in batch]
    return [(op.name, op.seconds, op.before_s) for op in medians(runs)]


def profiled(call: Call) -> list[list[OpRun]]:
    """The ops of `TOGETHER` calls under the profiler, after one that is not kept.

    Starting the profiler and reading its events empties the caches, which the first call refills.
    """
    import torch

    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiler:
        for _ in range(1 + TOGETHER):
            with torch.profiler.record_function(_CALL):
                call()
    events: Any = profiler.events()
    return [_ops(event) for event in sorted(events, key=_start) if event.name == _CALL][1:]


def seconds_of(run: Sequence[OpRun]) -> float:
    """What a run took; zero if it was of no op."""
    return sum(op.seconds + op.before_s for op in run)


def _ops(call: Any) -> list[OpRun]:
    """The ops of one call. What the host does after the last op is counted before the first."""
    found = list(_known(call.cpu_children))
    ops: list[OpRun] = []
    end = _start(call)
    if found:
        end -= call.time_range.end - found[-1].time_range.end
    for event in found:
        before, took = _start(event) - end, event.time_range.elapsed_us()
        ops.append(OpRun(_name(event), took * 1e-6, max(before, 0.0) * 1e-6))
        end = event.time_range.end
    return ops


def medians(runs: Sequence[Sequence[OpRun]]) -> list[OpRun]:
    """Op by op the median over the runs that made the most frequent sequence of ops."""
    names = [tuple(op.name for op in run) for run in runs]
    usual = Counter(names).most_common(1)[0][0]
    alike = [run for run, made in zip(runs, names, strict=True) if made == usual]
    return [
        OpRun(
            same[0].name,
            statistics.median(op.seconds for op in same),
            statistics.median(op.before_s for op in same),
        )
        for same in zip(*alike, strict=True)
    ]


def _known(events: Iterable[Any]) -> Iterator[Any]:
    """The outermost events that a cost rule knows, in order."""
    for event in sorted(events, key=_start):
        if rules.is_known(_name(event)):
            yield event
        else:
            yield from _known(event.cpu_children)


def _name(event: Any) -> str:
    return str(event.name).replace("::", ".")


def _start(event: Any) -> float:
    return float(event.time_range.start)
