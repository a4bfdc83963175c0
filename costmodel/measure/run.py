"""A list of measurements, one after the other: resumed, and never stopped by one that fails."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from costmodel.errors import CostModelError
from costmodel.measure import rows
from costmodel.measure.job import Job
from costmodel.measure.worker import Worker

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one job: a ``row``, or ``known`` where the file had it; else it failed."""

    job: Job
    row: rows.Row | None = None
    known: bool = False


def measure(jobs: Sequence[Job], threads: int, output: str | None, say: Say) -> Iterator[Result]:
    """Measure in a process of its own, append each row to ``output`` as soon as it is there.

    ``say`` gets one line about every failure, every row that is there already, and noise. Raises
    `CostModelError` before anything is measured where ``output`` cannot be written.
    """
    if output is not None:
        rows.start(output)
    with Worker(threads) as worker:
        for job in jobs:
            held = rows.known(output) if output is not None else set()
            try:
                about = worker.ask("describe", job)
                if rows.key_of(about) in held:
                    say(f"{label(job)}: in {output} already")
                    yield Result(job, known=True)
                    continue
                row, remarks = worker.ask("perform", job)
            except CostModelError as error:
                say(f"{label(job)}: not measured: {error}")
                yield Result(job)
                continue
            for remark in remarks:
                say(f"{label(job)}: {remark}")
            yield _kept(Result(job, row), output, say)


def _kept(result: Result, output: str | None, say: Say) -> Result:
    """The result, its row now in the file. A row that cannot be written is said, then raised."""
    if output is None or result.row is None:
        return result
    try:
        added = rows.append(output, result.row)
    except CostModelError:
        say(f"{label(result.job)}: {result.row['latency_ms']} ms, which is not in {output}")
        raise
    if not added:
        say(f"{label(result.job)}: in {output} already, added meanwhile")
    return Result(result.job, result.row, known=not added)


def label(job: Job) -> str:
    """How a job is called in a remark."""
    batch = f" batch {job.batch}" if job.batch is not None else ""
    return f"{job.target}{batch} {job.execution}"
