"""Which networks fit a budget on a device, and which of them are worth having.

A network is on the Pareto front when no other is both at least as accurate and at least as fast,
and better in one of the two. A network that is not is dominated by the most accurate one that is
no slower.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from costmodel.accuracy import Score
from costmodel.errors import CostModelError
from costmodel.hardware import resolve


@dataclass(frozen=True, slots=True)
class Candidate:
    """A trained network on a device. Seconds, joules, bytes; ``top1`` in percent."""

    target: str
    model: str
    input: str
    top1: float
    macs: int
    params: int
    latency_s: float
    energy_j: float | None
    memory_bytes: int | None
    pareto: bool = False
    dominated_by: str | None = None


@dataclass(frozen=True, slots=True)
class Budget:
    """Upper limits; ``None`` is no limit. ``battery_j`` is for ``runs`` runs together."""

    latency_s: float | None = None
    memory_bytes: float | None = None
    energy_j: float | None = None
    macs: float | None = None
    params: float | None = None
    battery_j: float | None = None
    runs: int = 1

    def allows(self, found: Candidate) -> bool:
        """Whether the candidate is within every limit; an unknown figure is not."""
        energy = found.energy_j
        pairs = (
            (found.latency_s, self.latency_s),
            (found.memory_bytes, self.memory_bytes),
            (energy, self.energy_j),
            (found.macs, self.macs),
            (found.params, self.params),
            (None if energy is None else energy * self.runs, self.battery_j),
        )
        return all(
            limit is None or (value is not None and value <= limit) for value, limit in pairs
        )


@dataclass(frozen=True)
class Choice:
    """What `pick` found: ``rows`` within the budget, most accurate first.

    ``considered`` networks had both an accuracy and a prediction; ``missing`` had only the former.
    """

    hw: str
    dtype: str
    budget: Budget
    rows: tuple[Candidate, ...]
    considered: int
    missing: int = 0
    notes: tuple[str, ...] = field(default=())

    @property
    def front(self) -> list[Candidate]:
        """The rows on the Pareto front, fastest first."""
        return sorted((r for r in self.rows if r.pareto), key=lambda r: r.latency_s)

    def to_dict(self) -> dict[str, Any]:
        """The object that ``pick --format json`` prints."""
        return {
            "schema": 1, "hw": self.hw, "dtype": self.dtype, "considered": self.considered,
            "missing": self.missing,
            "rows": [
                {name: getattr(row, name) for name in Candidate.__slots__} for row in self.rows
            ],
        }  # fmt: skip


def pick(
    scores: Iterable[Score], rows: Sequence[Mapping[str, Any]], hw: str, budget: Budget,
    dtype: str = "",
) -> Choice:  # fmt: skip
    """The scored networks whose row in a sweep is within the budget, with the Pareto front.

    Raises `CostModelError` when the sweep lacks the device, or nothing fits the budget.
    """
    known = {(r["target"], r["input"]): r for r in rows if _is(r, hw, dtype)}
    if not known:
        have = ", ".join(sorted({str(r["hw"]) for r in rows})) or "nothing"
        raise CostModelError(
            f"the sweep has no rows for {hw}{f' in {dtype}' if dtype else ''}; it has {have}: "
            f"add them with costmodel sweep --hw {hw}"
        )
    found, missing = [], 0
    for score in scores:
        row = known.get((score.target, score.input)) or known.get((score.target, ""))
        if row is None or row["latency_s"] is None:
            missing += 1
            continue
        found.append(
            Candidate(
                score.target, score.model, row["input"], score.top1, row["macs"], row["params"],
                row["latency_s"], row["energy_j"], row["memory_bytes"],
            )
        )  # fmt: skip
    if not found:
        raise CostModelError("no network of the accuracy table is in the sweep; sweep it first")
    fitting = [candidate for candidate in found if budget.allows(candidate)]
    if not fitting:
        fastest = min(found, key=lambda c: c.latency_s)
        raise CostModelError(
            f"none of {len(found)} networks is within the budget on {hw}; the fastest is "
            f"{fastest.model} with {fastest.latency_s * 1e3:.3g} ms"
        )
    name = known[next(iter(known))]["dtype"] or dtype
    return Choice(hw, name, budget, tuple(_judged(fitting)), len(found), missing)


def _is(row: Mapping[str, Any], hw: str, dtype: str) -> bool:
    if dtype and dtype != row["dtype"]:
        return False
    if not dtype and row["dtype"]:
        return False
    return bool(row["hw"] == hw or _same(str(row["hw"]), hw))


def _same(one: str, other: str) -> bool:
    """``pixel8`` and ``pixel8:cpu`` are one device if the CPU is its default engine."""
    if one.partition(":")[0] != other.partition(":")[0]:
        return False
    (a, first), (b, second) = resolve(one), resolve(other)
    return (a.name, first) == (b.name, second)


def _judged(candidates: Sequence[Candidate]) -> list[Candidate]:
    """The candidates, most accurate first, each with whether and by what it is dominated."""
    from dataclasses import replace

    order = sorted(candidates, key=lambda c: (c.latency_s, -c.top1, c.model))
    best: Candidate | None = None
    judged = []
    for candidate in order:
        if best is None or candidate.top1 > best.top1:
            best = candidate
            judged.append(replace(candidate, pareto=True))
        else:
            judged.append(replace(candidate, dominated_by=_name(best)))
    return sorted(judged, key=lambda c: (-c.top1, c.latency_s, c.model))


def _name(candidate: Candidate) -> str:
    size = candidate.input.rpartition("x")[2]
    return f"{candidate.model} at {size}" if size else candidate.model
