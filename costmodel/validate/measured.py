"""Networks measured here and predicted at once: a validation, and the ops behind it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from costmodel.errors import CostModelError
from costmodel.machine.constants import independent
from costmodel.machine.residuals import tier_on
from costmodel.measure import per_op
from costmodel.measure.job import Job
from costmodel.measure.per_op import OpRun
from costmodel.measure.rows import Row as Fields
from costmodel.measure.run import Say, label
from costmodel.measure.worker import Worker
from costmodel.prediction import Prediction
from costmodel.roofline import predict_on
from costmodel.setting import setting
from costmodel.table import CostTable
from costmodel.validate import scored
from costmodel.validate.per_op import OpTimes, pair
from costmodel.validate.predict_rows import Row, Work
from costmodel.validate.report import Group, Validation
from costmodel.validate.runs import Run, Skipped
from costmodel.validate.tiers import TIERS, Outcome, Predicted
from costmodel.validate.tracing import activations_of


@dataclass(frozen=True, slots=True)
class Timed:
    """A job as it was measured: the columns of its row, and its ops where they were timed."""

    job: Job
    fields: Fields
    ops: tuple[OpRun, ...] | None


@dataclass(frozen=True, slots=True)
class Network:
    """One network measured and predicted. ``spread_ms`` are the 10th and 90th percentile.

    ``predicted`` is the row to score, ``prediction`` what it comes from. ``ops`` is ``None`` where
    single ops were not timed.
    """

    predicted: Predicted
    prediction: Prediction
    spread_ms: tuple[float, float]
    ops: OpTimes | None


@dataclass(frozen=True, slots=True)
class Measured:
    """What was measured, scored as any file of runs, and network by network."""

    validation: Validation
    networks: tuple[Network, ...]


def measure_and_predict(
    jobs: Sequence[Job], hw: str, say: Say, advance: Callable[[], object] = lambda: None
) -> Measured:
    """Measure each job in a process of its own, and predict it for ``hw`` as it was measured.

    ``say`` gets a line about noise and about every failure; what fails is in ``skipped`` with its
    reason. Raises `CostModelError` for an ``hw`` that does not exist.
    """
    setting(hw)
    networks: list[Network] = []
    groups: dict[tuple[str, ...], list[Network]] = {}
    skipped: list[Skipped] = []
    with Worker(max(job.threads for job in jobs)) as worker:
        for job in jobs:
            try:
                network = network_of(job, hw, worker, say)
            except CostModelError as error:
                say(f"{label(job)}: not measured: {error}")
                skipped.append(Skipped(job.target, str(error), "measured here"))
            else:
                networks.append(network)
                row = network.predicted.row
                key = (row.run.device, row.setting.execution, row.setting.layout, row.setting.dtype)
                groups.setdefault(key, []).append(network)
            advance()
    scores = tuple(map(_group, groups.values()))
    return Measured(Validation(scores, tuple(skipped)), tuple(networks))


def network_of(job: Job, hw: str, worker: Worker, say: Say) -> Network:
    """Measure a job, and predict it for ``hw`` with the threads that its runtime used.

    ``say`` gets a line about noise, and about ops that could not be timed. Raises `CostModelError`
    where the job cannot be measured or predicted.
    """
    return predicted(timed(job, worker, say), hw)


def timed(job: Job, worker: Worker, say: Say) -> Timed:
    """Measure a job, op by op where that is possible; ``say`` as in `network_of`.

    Raises `CostModelError` where the job cannot be measured.
    """
    fields, remarks = worker.ask("perform", job)
    for remark in remarks:
        say(f"{label(job)}: {remark}")
    ops = None
    if per_op.tells(job):
        try:
            ops = tuple(OpRun(*op) for op in worker.ask("profile", job))
        except CostModelError as error:
            say(f"{label(job)}: its ops are not timed: {error}")
    return Timed(job, fields, ops)


def predicted(found: Timed, hw: str) -> Network:
    """What was measured, beside its prediction. Raises `CostModelError` where there is none."""
    run, job = _run(found.fields), found.job
    table = _traced(job)
    chosen = setting(
        hw, dtype=job.dtype, execution=job.execution, layout=job.layout, threads=run.threads
    )
    row = Row(run, chosen, Work((), int(table.total.macs), activations_of(table)))
    beside = chosen.measuring(row.beside()) if row.waking_us else chosen
    prediction = predict_on(table, beside)
    ops = None
    if found.ops is not None:
        ops = pair(table, prediction, found.ops, row.measured, row.pace)
    low, high = prediction.interval_s
    item = Predicted(row, row.pace * prediction.latency_s, (row.pace * low, row.pace * high))
    spread = float(found.fields["p10_ms"]), float(found.fields["p90_ms"])
    return Network(item, prediction, spread, ops)


def _traced(job: Job) -> CostTable:
    from costmodel.api import analyze

    try:
        return analyze(job.target, list(job.inputs) or None, batch=job.batch).table
    except CostModelError:
        raise
    except Exception as error:  # somebody else's model code
        said = " ".join(str(error).split())[:200]
        raise CostModelError(f"cannot trace it: {type(error).__name__}: {said}") from error


def _run(fields: Fields) -> Run:
    return Run(
        device=fields["device"],
        software=fields["software"],
        execution=fields["execution"],
        dtype=fields["dtype"],
        layout=fields["layout"],
        threads=int(fields["threads"]),
        model=fields["model"],
        input_shape=fields["input_shape"],
        batch=int(fields["batch"]),
        latency_ms=float(fields["latency_ms"]),
        statistic=fields["statistic"],
        source=fields["source"],
        probe_ms=float(fields["probe_ms"]) if fields["probe_ms"] else None,
        probe_1_ms=float(fields["probe_1_ms"]) if fields["probe_1_ms"] else None,
    )


def _group(networks: Sequence[Network]) -> Group:
    chosen = networks[0].predicted.row.setting
    honest = independent(chosen.block, chosen.profile.name)
    tier = tier_on(chosen, TIERS["none"])
    rows = tuple(network.predicted for network in networks)
    return scored(Outcome(rows, {}, networks[0].prediction.validated, honest), tier)
