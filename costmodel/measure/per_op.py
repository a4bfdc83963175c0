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
from costmodel.measure.timing import Call, time_calls, wall_clock


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
    runs: list[list[OpRun]] = []

    def clock(call: Call) -> float:
        call()  # reading the profiler's events has emptied the caches
        seconds, ops = profiled(call)
        runs.append(ops)
        return seconds

    with prepare(
        job.execution, model, inputs, threads=job.threads, dtype=job.dtype, layout=job.layout
    ) as prepared:
        timing = time_calls(prepared.run, min_seconds=job.seconds, clock=clock,
                            max_seconds=max(10.0, 4 * job.seconds))  # fmt: skip
    return [(op.name, op.seconds, op.before_s) for op in medians(runs[-timing.runs :])]


def profiled(call: Call) -> tuple[float, list[OpRun]]:
    """Seconds of a call under the profiler, and its ops; their times add up to those seconds."""
    import torch

    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiler:
        seconds = wall_clock(call)
    events: Any = profiler.events()
    roots = [event for event in events if event.cpu_parent is None]
    # Threads that an op starts may call ops of their own; the first one is the caller's.
    main = min(roots, key=_start).thread if roots else 0
    found = list(_known(event for event in roots if event.thread == main))
    if not found:
        return seconds, []
    spent = (found[-1].time_range.end - _start(found[0])) * 1e-6
    ops: list[OpRun] = []
    end = _start(found[0]) - max(seconds - spent, 0.0) * 1e6
    for event in found:
        name = _name(event)
        took, before = event.time_range.elapsed_us(), _start(event) - end
        ops.append(OpRun(name, took * 1e-6, max(before, 0.0) * 1e-6))
        end = event.time_range.end
    return seconds, ops


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
