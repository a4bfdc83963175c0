"""An experiment on the bound that is named for each op: change a resource, and see who follows.

A network is measured twice, at another batch or with other threads. The prediction says how the
time that each resource takes changes: products, bytes, and the cost of issuing a kernel, which
hardly does. An op agrees if its measured time changed more like that of its own bound than like
that of any other.

The parts of a time add up, so it changes by the mean of the factors of its parts, weighted by their
shares: of two, it is nearer, by difference and not by ratio, to the factor of the one that has more
than half. An op tries its bound, therefore, if the resources that change like it are foretold more
than half of its time. Of three, the mean may lie nearest to one that has next to nothing, so the
bound is held against one rival at a time, and the part of the third taken as it is foretold.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from costmodel.errors import CostModelError
from costmodel.measure.job import Job
from costmodel.measure.run import Say, label
from costmodel.measure.worker import Worker
from costmodel.prediction import Prediction
from costmodel.validate.measured import Network, network_of

#: Two resources tell something from each other if their times change by factors this far apart.
APART = 1.5
#: Share of an op's predicted time beyond which its change is that of the resources that have it.
_MOST = 0.5


@dataclass(frozen=True, slots=True)
class Case:
    """One op of two runs. Times of the second over the first: measured, and by resource.

    ``before_s`` is its measured time in the first run, ``shares`` what each resource takes of the
    predicted one.
    """

    name: str
    family: str
    bound: str
    before_s: float
    measured: float
    expected: Mapping[str, float]
    shares: Mapping[str, float]

    @property
    def rivals(self) -> tuple[str, ...]:
        """The resources whose time would change otherwise than that of the bound."""
        own = self.expected[self.bound]
        least = math.log(APART)
        return tuple(n for n, ratio in self.expected.items() if abs(math.log(ratio / own)) >= least)

    @property
    def tries(self) -> bool:
        """Whether the bound, and what changes like it, has rivals and most of the time."""
        alike = sum(self.shares[name] for name in self.expected if name not in self.rivals)
        return bool(self.rivals) and alike > _MOST

    @property
    def agrees(self) -> bool:
        """Whether no rival foretells the measured change better than the bound does."""
        own = self.expected[self.bound]
        changes = {name: self.expected[name] for name in self.rivals}
        for rival, foretold in changes.items():
            thirds = [name for name in changes if name != rival]
            left = 1.0 - sum(self.shares[name] for name in thirds)
            rest = self.measured - sum(self.shares[name] * changes[name] for name in thirds)
            if abs(rest - left * own) > abs(rest - left * foretold):
                return False
        return True


@dataclass(frozen=True, slots=True)
class Trial:
    """The cases that the experiment tries."""

    cases: tuple[Case, ...]

    @property
    def agreement(self) -> float:
        """The share of cases that agree; NaN without cases."""
        if not self.cases:
            return math.nan
        return sum(case.agrees for case in self.cases) / len(self.cases)

    @property
    def agreement_by_time(self) -> float:
        """The share of their measured time in the first run that agrees."""
        total = sum(case.before_s for case in self.cases)
        agreeing = sum(case.before_s for case in self.cases if case.agrees)
        return agreeing / total if total else math.nan


def experiment(before: Job, after: Job, hw: str, say: Say = lambda _: None) -> Trial:
    """Measure a network as two jobs that differ in batch or threads; the ops of both decide.

    The bounds are those of ``before``, predicted for ``hw``. Raises `CostModelError` where a job
    cannot be measured, or its ops cannot be told apart.
    """
    networks = []
    for job in (before, after):
        with Worker(job.threads) as worker:
            networks.append(network_of(job, hw, worker, say))
        if networks[-1].ops is None:
            raise CostModelError(f"{label(job)}: its ops cannot be timed; use eager on the CPU")
    return Trial(tuple(case for case in cases(*networks) if case.tries))


def cases(before: Network, after: Network) -> list[Case]:
    """Every op that both runs have with a measured time, decided or not.

    Resources that an op does not use at all are left out of what is expected.
    """
    assert before.ops is not None
    assert after.ops is not None
    later = {row.name: row for row in after.ops.rows}
    names = list(later)
    first, second = (_resources(network.prediction, names) for network in (before, after))
    found = []
    for row in before.ops.rows:
        if row.name not in first or row.name not in second:
            continue
        # As long as both would take at the pace of the calibration.
        measured = (
            row.measured_s / before.ops.pace,
            later[row.name].measured_s / after.ops.pace,
        )
        expected = {
            resource: second[row.name][resource] / time
            for resource, time in first[row.name].items()
            if time > 0 and second[row.name][resource] > 0
        }
        if row.bound in expected and min(measured) > 0:
            total = sum(first[row.name].values())
            shares = {resource: time / total for resource, time in first[row.name].items()}
            ratio = measured[1] / measured[0]
            found.append(
                Case(row.name, row.family, row.bound, measured[0], ratio, expected, shares)
            )
    return found


def _resources(prediction: Prediction, names: Sequence[str]) -> dict[str, dict[str, float]]:
    """Predicted seconds of each op by resource, its kernels together."""
    found: dict[str, dict[str, float]] = {}
    known = set(names)
    for kernel in prediction.kernels:
        name = kernel.ops[0] if kernel.ops[0] in known else kernel.ops[0].rpartition(".")[0]
        if name in known and kernel.latency_s > 0:
            times = found.setdefault(name, {"compute": 0.0, "memory": 0.0, "overhead": 0.0})
            times["compute"] += kernel.compute_s
            times["memory"] += kernel.memory_s
            times["overhead"] += kernel.overhead_s
    return found
