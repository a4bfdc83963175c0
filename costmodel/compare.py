"""Networks side by side: costs, latency on several devices, and where the two disagree.

FLOPs and latency rank networks differently when ops differ in how fast they run. For each pair
whose ranks are swapped, the ops to blame are those on which the network with fewer MACs spends
more time: its excess over what it would take if its time went with its MACs as the other's does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from costmodel.errors import CostModelError
from costmodel.roofline import predict
from costmodel.setting import setting
from costmodel.table import CostTable, cost

#: A swap counts when both differ by more than this share: closer is a tie.
MARGIN = 0.02


@dataclass(frozen=True, slots=True)
class Row:
    """One network. Latencies are by device, ``families`` by device and op family, in seconds."""

    target: str
    macs: int
    flops: int
    params: int
    bytes: int
    peak_activation_bytes: int | None
    complete: bool
    latency_s: dict[str, float]
    families: dict[str, dict[str, float]]
    family_macs: dict[str, int]


@dataclass(frozen=True, slots=True)
class Swap:
    """``fewer`` has fewer MACs than ``more`` and yet takes longer on ``hw``.

    ``blame`` are the op families with the largest excess seconds, largest first.
    """

    hw: str
    fewer: str
    more: str
    macs: float
    latency: float
    blame: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Comparison:
    """Rows in the order given; ratios are to the first."""

    rows: tuple[Row, ...]
    hw: tuple[str, ...]
    swaps: tuple[Swap, ...]

    def ratios(self, row: Row) -> dict[str, Any]:
        """Macs, parameters and latencies of a row over those of the first; ``None`` over zero."""
        first = self.rows[0]
        return {
            "target": row.target,
            "macs": _over(row.macs, first.macs),
            "params": _over(row.params, first.params),
            "bytes": _over(row.bytes, first.bytes),
            "latency_s": {name: row.latency_s[name] / first.latency_s[name] for name in self.hw},
        }

    def to_dict(self) -> dict[str, Any]:
        """The object that ``compare --format json`` prints."""
        return {
            "schema": 1,
            "rows": [
                {
                    "target": row.target, "macs": row.macs, "flops": row.flops,
                    "params": row.params, "bytes": row.bytes,
                    "peak_activation_bytes": row.peak_activation_bytes, "complete": row.complete,
                    "latency_s": row.latency_s,
                }
                for row in self.rows
            ],
            "ratios": [self.ratios(row) for row in self.rows],
            "disagreements": [
                {
                    "hw": swap.hw, "fewer_macs": swap.fewer, "faster": swap.more,
                    "macs_ratio": swap.macs, "latency_ratio": swap.latency,
                    "blame": [{"family": f, "excess_s": s} for f, s in swap.blame],
                }
                for swap in self.swaps
            ],
        }  # fmt: skip


def compare(
    targets: Sequence[str],
    hw: Sequence[str] = (),
    inputs: Sequence[str] | None = None,
    batch: int | None = None,
    **options: Any,
) -> Comparison:
    """Analyse ``targets`` and set them side by side.

    ``options`` are those of `costmodel.predict`. Raises `CostModelError` when there are fewer than
    two targets, and when a target or device cannot be used.
    """
    from costmodel.api import trace

    if len(targets) < 2:
        raise CostModelError("one network compares with nothing; give two or more TARGETs")
    for name in hw:
        setting(name, **options)
    tables = [cost(trace(target, inputs, batch=batch)) for target in targets]
    rows = tuple(
        _row(target, table, hw, options) for target, table in zip(targets, tables, strict=True)
    )
    return Comparison(rows, tuple(hw), tuple(_swaps(rows, hw)))


def _row(target: str, table: CostTable, hw: Sequence[str], options: dict[str, Any]) -> Row:
    total = table.total
    latency, families = {}, {}
    for name in hw:
        prediction = predict(table, name, **options)
        latency[name] = prediction.latency_s
        spent: dict[str, float] = {}
        for kernel in prediction.kernels:
            spent[kernel.family] = spent.get(kernel.family, 0.0) + kernel.latency_s
        families[name] = spent
    macs = {name: int(group.macs) for name, group in table.group_by("family").items()}
    return Row(
        target, int(total.macs), int(total.flops), int(total.params), int(total.bytes),
        table.peak_activation_bytes, table.complete, latency, families, macs,
    )  # fmt: skip


def _swaps(rows: Sequence[Row], hw: Sequence[str]) -> list[Swap]:
    found = []
    for name in hw:
        for one, other in combinations(rows, 2):
            fewer, more = sorted((one, other), key=lambda row: row.macs)
            if not fewer.macs or more.macs < fewer.macs * (1 + MARGIN):
                continue
            latency = fewer.latency_s[name] / more.latency_s[name]
            if latency > 1 + MARGIN:
                blame = _blame(fewer, more, name)
                macs = fewer.macs / more.macs
                found.append(Swap(name, fewer.target, more.target, macs, latency, blame))
    return found


def _blame(fewer: Row, more: Row, name: str) -> tuple[tuple[str, float], ...]:
    """Families on which ``fewer`` spends more than its share of ``more``'s time for its MACs."""
    pace = more.latency_s[name] / more.macs
    excess = {
        family: seconds - pace * fewer.family_macs.get(family, 0)
        for family, seconds in fewer.families[name].items()
    }
    worst = sorted(excess.items(), key=lambda item: -item[1])
    return tuple((family, seconds) for family, seconds in worst[:3] if seconds > 0)


def _over(value: int, base: int) -> float | None:
    return value / base if base else None


def text(found: Comparison) -> str:
    """The comparison for people: figures, ratios to the first, disagreements of rank."""
    from costmodel.report.units import count, seconds, size
    from costmodel.scaling.text import columns

    def ratio(value: float | None) -> str:
        return "" if value is None else f"({value:.2f}×)"

    head = ["", "MACs", "", "params", "", "bytes", ""]
    for name in found.hw:
        head += [name, ""]
    lines = [head]
    for row in found.rows:
        ratios = found.ratios(row)
        least = "" if row.complete else "≥ "
        line = [row.target]
        for name, shown in (("macs", count(row.macs)), ("params", count(row.params)),
                            ("bytes", size(row.bytes))):  # fmt: skip
            line += [(least if name != "params" else "") + shown, ratio(ratios[name])]
        for name in found.hw:
            line += [least + seconds(row.latency_s[name]), ratio(ratios["latency_s"][name])]
        lines.append(line)
    parts = columns(lines)
    if found.swaps:
        parts += ["", "Fewer MACs, but slower"]
    for swap in found.swaps:
        blame = ", ".join(f"{family} (+{seconds(extra)})" for family, extra in swap.blame)
        parts.append(
            f"  {swap.hw}: {swap.fewer} has {swap.macs:.2f} times the MACs of {swap.more} and "
            f"takes {swap.latency:.2f} times as long; more time than its MACs explain: {blame}"
        )
    if found.hw and not found.swaps:
        parts += ["", "MACs and latency rank the networks alike"]
    return "\n".join(parts) + "\n"
