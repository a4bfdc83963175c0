"""From measured runs to kernels that a machine model can time, in several processes."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from multiprocessing import get_context
from typing import TypeAlias

from costmodel.errors import CostModelError
from costmodel.execution import kernels_of, module_of
from costmodel.execution.kernel import Kernel
from costmodel.hardware import resolve
from costmodel.hardware.host import HOST
from costmodel.hardware.schema import CpuEngine
from costmodel.machine.times import Timer
from costmodel.measure.pace import threads_beside
from costmodel.roofline import timer_of
from costmodel.setting import Setting, setting
from costmodel.validate.runs import Run, Skipped
from costmodel.validate.tracing import Tracer, activations_of, convolution_table, subject_of
from costmodel.validate.waking import WAKING, longer_us


@dataclass(frozen=True, slots=True)
class Work:
    """A network as an execution launches it: what a machine model needs, and two counts."""

    kernels: tuple[Kernel, ...]
    macs: int
    activations: int


@dataclass(frozen=True)
class Row:
    """A measured run that can be predicted."""

    run: Run
    setting: Setting
    work: Work

    @property
    def measured(self) -> float:
        """Seconds."""
        return self.run.latency_ms * 1e-3

    @property
    def pace(self) -> float:
        """What small programs took beside the run, as a multiple of what they took beside the
        calibration of its device; 1 where either is unknown.

        On one thread where that is known: what they take longer on a team is `waking_us`.
        """
        team = threads_beside(self.setting.execution, self.setting.threads or 1)
        return self._ratio(1, self.run.probe_1_ms) or self._ratio(team, self.run.probe_ms) or 1.0

    @cached_property
    def waking_us(self) -> float:
        """How much longer than the constants say each doubling of the team took beside the run."""
        team = threads_beside(self.setting.execution, self.setting.threads or 1)
        one, all_of_them = self._ratio(1, self.run.probe_1_ms), self._ratio(team, self.run.probe_ms)
        if team == 1 or one is None or all_of_them is None:
            return 0.0
        return longer_us(self.setting, all_of_them / one)

    def _ratio(self, threads: int, probe_ms: float | None) -> float | None:
        """What the programs took on so many threads, in times what they took at calibration."""
        known = self.setting.profile.measured
        beside = known.probe_ms.get(self.setting.execution, {}) if known else {}
        calibrated = beside.get(str(threads))
        return probe_ms / calibrated if calibrated is not None and probe_ms is not None else None

    def beside(self, constants: Mapping[str, float] | None = None) -> dict[str, float]:
        """The constants, the shipped ones or others in their place, as they hold beside the run."""
        values = self.setting.constants(constants)
        if self.waking_us:
            values[WAKING] = max(values[WAKING] + self.waking_us, 0.0)
        return values

    def predicted(self, constants: Mapping[str, float] | None = None) -> float:
        """Seconds at the pace of the run, with the shipped constants or others in their place."""
        return self.pace * float(self.timer(self.beside(constants)).latency.sum())

    @cached_property
    def timer(self) -> Timer:
        """The machine model of the row, made once: a fit calls it hundreds of times."""
        return timer_of(self.work.kernels, self.setting)

    def light(self) -> Row:
        """The row without its kernels, of which thousands of rows would fill the memory."""
        return replace(self, work=replace(self.work, kernels=()))


#: Runs with equal keys launch the same kernels.
Key: TypeAlias = tuple[str, str, int, str, str, str, str, str, int]
#: A run, and the lanes of the cores that it runs on (`Setting.lanes`).
Launch: TypeAlias = tuple[Run, int]


def _key(run: Run, lanes: int = 0) -> Key:
    return (
        run.model, run.input_shape, run.batch, run.layout, run.execution, run.software, run.dtype,
        run.mode, lanes,
    )  # fmt: skip


def settings_of(
    runs: Iterable[Run], hw: str | None = None
) -> tuple[list[tuple[Run, Setting]], list[Skipped]]:
    """Each run with its setting; runs of unknown devices, executions or dtypes are skipped.

    ``hw`` names the profile (a name or a user's file) that runs are predicted with: those of that
    device, and those of a device that has no profile.
    """
    found: list[tuple[Run, Setting]] = []
    skipped: list[Skipped] = []
    seen: dict[tuple[object, ...], int] = {}
    for run in runs:
        asked = (*_key(run), run.device, run.threads)
        seen[asked] = seen.get(asked, -1) + 1
        try:
            found.append((run, _on_cores(_setting(run, hw), seen[asked])))
        except CostModelError as error:
            skipped.append(Skipped(run.model, str(error), run.source))
    return found, skipped


def _setting(run: Run, hw: str | None) -> Setting:
    device = run.device if hw is None else _device(run, hw)
    chosen = setting(
        device,
        dtype=run.dtype,
        execution=run.execution,
        layout=run.layout,
        threads=run.threads,
    )
    return replace(chosen, caller=run.software) if run.execution == "npu" else chosen


def _on_cores(chosen: Setting, repeat: int) -> Setting:
    """The setting on the kind of core that the run was pinned to.

    The run format has no column for it. Where a runtime's benchmark pins its threads to one kind of
    core, it is one that has as many; of several, the big ones come first, and the second row of a
    configuration is of the second kind. More threads than any kind has run on all cores.
    """
    engine = chosen.profile.engines[chosen.engine]
    pins = getattr(module_of(chosen.execution), "BENCHMARK_PINS_CORES", False)
    if not pins or not isinstance(engine, CpuEngine):
        return chosen
    counts: dict[str, int] = {}
    for cluster in engine.clusters:
        counts[cluster.core] = counts.get(cluster.core, 0) + cluster.count
    kinds = [kind for kind, count in counts.items() if count >= (chosen.threads or 1)]
    if repeat >= len(kinds) or kinds[repeat] == engine.clusters[0].core:
        return chosen
    clusters = [cluster for cluster in engine.clusters if cluster.core == kinds[repeat]]
    narrowed = {**chosen.profile.engines, chosen.engine: engine.model_copy(
        update={"clusters": clusters})}  # fmt: skip
    return replace(chosen, profile=chosen.profile.model_copy(update={"engines": narrowed}))


def _device(run: Run, hw: str) -> str:
    profile, _ = resolve(hw)
    name = run.device.partition(":")[0]
    here = name == HOST and profile.kind == "host"  # whoever measured called their machine that
    if name == profile.name or here:
        return hw if ":" in hw or ":" not in run.device else f"{hw}:{run.device.partition(':')[2]}"
    try:
        resolve(run.device)
    except CostModelError:
        return hw
    raise CostModelError(f"measured on {run.device}, not on {hw}")


@contextmanager
def processes(jobs: int) -> Iterator[ProcessPoolExecutor | None]:
    """Worker processes; ``None`` where one process is enough. They import torch only to trace."""
    if jobs < 2:
        yield None
        return
    pool = ProcessPoolExecutor(jobs, mp_context=get_context("spawn"))
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def default_jobs() -> int:
    """One process a core, but no more than eight: each holds a torch of its own."""
    return min(8, os.cpu_count() or 1)


def rows_of(
    pairs: Sequence[tuple[Run, Setting]], pool: ProcessPoolExecutor | None = None, title: str = ""
) -> tuple[list[Row], list[Skipped]]:
    """The rows to predict, in the order of ``pairs``, and the runs whose network cannot be traced.

    Work is cut by model, so that one process builds a model once for all its shapes and batches.
    """
    models: dict[str, dict[Key, Launch]] = {}
    launched = [(replace(run, dtype=chosen.format), chosen.lanes) for run, chosen in pairs]
    for run, lanes in launched:
        models.setdefault(run.model, {}).setdefault(_key(run, lanes), (run, lanes))
    batches = [list(runs.values()) for runs in _packed(models)]
    work: dict[Key, Work | str] = {}
    with _progress(title, sum(map(len, batches))) as advance:
        for done in _mapped(batches, pool):
            work.update(done)
            advance(len(done))
    rows: list[Row] = []
    skipped: list[Skipped] = []
    for (run, chosen), (actual, lanes) in zip(pairs, launched, strict=True):
        found = work[_key(actual, lanes)]
        if isinstance(found, str):
            skipped.append(Skipped(run.model, found, run.source))
        else:
            rows.append(Row(run, chosen, found))
    return rows, skipped


def _packed(models: Mapping[str, dict[Key, Launch]]) -> list[dict[Key, Launch]]:
    """Models of few runs put together, so that sending work costs little beside doing it."""
    packs: list[dict[Key, Launch]] = []
    for runs in models.values():
        if packs and len(packs[-1]) + len(runs) <= 8:
            packs[-1].update(runs)
        else:
            packs.append(dict(runs))
    return packs


def _mapped(
    batches: Sequence[list[Launch]], pool: ProcessPoolExecutor | None
) -> Iterator[dict[Key, Work | str]]:
    if pool is None or len(batches) < 2:
        yield from map(work_of, batches)
        return
    for future in as_completed([pool.submit(work_of, batch) for batch in batches]):
        yield future.result()


def work_of(launches: Sequence[Launch]) -> dict[Key, Work | str]:
    """The kernels of each run, or the reason why there are none. Runs in a worker process."""
    tracer = Tracer()
    found: dict[Key, Work | str] = {}
    for run, lanes in launches:
        key = _key(run, lanes)
        collecting = gc.isenabled()
        gc.disable()  # a trace is many small objects, none of them garbage
        try:
            found[key] = _work(run, lanes, tracer)
        except CostModelError as error:
            found[key] = str(error)
        except Exception as error:  # somebody else's model code
            reason = " ".join(str(error).split())[:200]
            found[key] = f"cannot trace it: {type(error).__name__}: {reason}"
        finally:
            if collecting:
                gc.enable()
    return found


def _work(run: Run, lanes: int, tracer: Tracer) -> Work:
    table = convolution_table(run) if run.convolution else tracer.table(subject_of(run))
    kernels = tuple(kernels_of(table.rows, run.execution, run.dtype, run.batch, lanes))
    return Work(kernels, int(table.total.macs), activations_of(table))


@contextmanager
def _progress(title: str, total: int) -> Iterator[_Advance]:
    """A bar on stderr, where somebody looks at it."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
               TimeRemainingColumn())  # fmt: skip
    console = Console(stderr=True)
    with Progress(
        *columns, console=console, disable=not sys.stderr.isatty(), transient=True
    ) as bar:
        task = bar.add_task(title, total=total)
        yield _Advance(bar, task)


@dataclass(frozen=True, slots=True)
class _Advance:
    bar: object
    task: object

    def __call__(self, steps: int) -> None:
        self.bar.advance(self.task, steps)  # type: ignore[attr-defined]
