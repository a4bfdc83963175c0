"""Measured times of ops beside predicted ones: which op is mispredicted.

Both come in the order of execution, so ops are paired by their place. Where the two sequences
differ (a kernel of another name, a result that the model keeps from its first run), the stretch
between the nearest pairs is compared as a whole.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher

from costmodel import rules
from costmodel.measure.per_op import OpRun
from costmodel.prediction import KernelTime, Prediction
from costmodel.table import CostTable, Row


@dataclass(frozen=True, slots=True)
class OpTime:
    """An op, or a stretch of ``count`` ops, in seconds.

    ``family`` and ``bound`` are those of the kernel that is predicted to take longest; without one
    they are ``"not predicted"`` and empty.
    """

    name: str
    module: str
    family: str
    bound: str
    measured_s: float
    predicted_s: float
    count: int = 1

    @property
    def difference_s(self) -> float:
        """Predicted less measured."""
        return self.predicted_s - self.measured_s


@dataclass(frozen=True, slots=True)
class OpTimes:
    """All ops of one network.

    ``matched`` is the share of the measured time in ops that are paired one by one. The profiler's
    times of ops were multiplied by ``ops_factor``, those between ops by ``between_factor``, and
    predicted times by ``pace``, the machine's.
    """

    rows: tuple[OpTime, ...]
    matched: float
    ops_factor: float
    between_factor: float
    pace: float = 1.0

    @property
    def error(self) -> float:
        """Time-weighted: the sum of absolute differences over the measured time."""
        return error(self.rows)


def error(rows: Sequence[OpTime]) -> float:
    """Sum of absolute differences over the sum of measured times; NaN of nothing measured."""
    measured = sum(row.measured_s for row in rows)
    return sum(abs(row.difference_s) for row in rows) / measured if measured else float("nan")


def by_family(rows: Sequence[OpTime]) -> dict[str, list[OpTime]]:
    """Rows by family, those first whose times differ most in all."""
    groups: dict[str, list[OpTime]] = {}
    for row in rows:
        groups.setdefault(row.family, []).append(row)

    def apart(name: str) -> float:
        return sum(abs(row.difference_s) for row in groups[name])

    return {name: groups[name] for name in sorted(groups, key=apart, reverse=True)}


@dataclass(frozen=True, slots=True)
class _Unit:
    """Traced ops, the kernels that they launch, and the measured ops that are the same work."""

    rows: Sequence[Row]
    kernels: Sequence[KernelTime]
    runs: Sequence[OpRun]

    @property
    def idle(self) -> bool:
        """Whether nothing is launched: views, and ops that return what they were given."""
        views = all(rules.is_free(run.name) for run in self.runs)
        return not self.kernels and (self.alone or views)

    @property
    def alone(self) -> bool:
        """Whether it is one op that was found in both sequences."""
        return [row.op.target for row in self.rows] == [run.name for run in self.runs]


def pair(
    table: CostTable,
    prediction: Prediction,
    runs: Sequence[OpRun],
    total_s: float,
    pace: float = 1.0,
) -> OpTimes:
    """The ops of a table with their predicted times and those of a profiled run.

    An op's measured time is its own, and that of the host before it, when it ran Python and made
    views. They are scaled to add up to ``total_s``, the time of a run without the profiler, and
    predicted times by ``pace``, of the machine in that run.
    """
    rows: list[OpTime] = []
    own: list[float] = []
    between: list[float] = []
    waited = matched = 0.0
    for unit in _units(table, prediction, runs):
        seconds = sum(run.seconds for run in unit.runs)
        waited += sum(run.before_s for run in unit.runs)
        if unit.idle:
            waited += seconds
            continue
        rows.append(_row(unit))
        own.append(seconds)
        between.append(waited if unit.runs else 0.0)
        waited = 0.0 if unit.runs else waited
        matched += seconds if unit.alone else 0.0
    if between:
        between[-1] += waited
    busy, idle = sum(own), sum(between)
    ops_factor, between_factor = _factors(busy, idle, total_s)
    timed = tuple(
        replace(
            row, measured_s=ops_factor * a + between_factor * b, predicted_s=pace * row.predicted_s
        )
        for row, a, b in zip(rows, own, between, strict=True)
    )
    return OpTimes(timed, matched / busy if busy else 1.0, ops_factor, between_factor, pace)


def _factors(busy: float, idle: float, total: float) -> tuple[float, float]:
    """What to multiply times of ops and between ops by, so that they add up to ``total``.

    The profiler lengthens the time between ops, so that is shortened, and the ops only when they
    alone take longer. A longer total is another state of the machine, which slows all alike.
    """
    if not busy + idle:
        return 1.0, 1.0
    if total >= busy + idle:
        return total / (busy + idle), total / (busy + idle)
    if total >= busy:
        return 1.0, (total - busy) / idle
    return total / busy, 0.0


def _units(table: CostTable, prediction: Prediction, runs: Sequence[OpRun]) -> Iterator[_Unit]:
    rows, kernels = table.rows, _launched(table, prediction)
    traced, ran = [row.op.target for row in rows], [run.name for run in runs]
    for kind, a, b, c, d in SequenceMatcher(None, traced, ran, autojunk=False).get_opcodes():
        if kind == "equal":
            for i, run in zip(range(a, b), runs[c:d], strict=True):
                yield _Unit(rows[i : i + 1], kernels[i], (run,))
        else:
            yield _Unit(rows[a:b], [k for some in kernels[a:b] for k in some], runs[c:d])


def _launched(table: CostTable, prediction: Prediction) -> list[list[KernelTime]]:
    """The kernels of each op; one that a kernel of its own prepares is named before the dot."""
    place = {row.op.name: i for i, row in enumerate(table.rows)}
    found: list[list[KernelTime]] = [[] for _ in table.rows]
    for kernel in prediction.kernels:
        name = kernel.ops[0]
        found[place[name if name in place else name.rpartition(".")[0]]].append(kernel)
    return found


def _row(unit: _Unit) -> OpTime:
    """The row of a unit, not yet timed."""
    predicted = sum(kernel.latency_s for kernel in unit.kernels)
    longest = max(unit.kernels, key=lambda kernel: kernel.latency_s, default=None)
    names = [row.op.name for row in unit.rows] or [run.name for run in unit.runs]
    several = len(names) > 1
    return OpTime(
        name=f"{names[0]} to {names[-1]}" if several else names[0],
        module=longest.module if longest else "",
        family=longest.family if longest else "not predicted",
        bound=longest.bound if longest else "",
        measured_s=0.0,
        predicted_s=predicted,
        count=len(names),
    )
