"""What `costmodel validate` says: groups, rows and skipped lines, as JSON and as tables."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from costmodel.validate.runs import Skipped
from costmodel.validate.score import Score
from costmodel.validate.tiers import Predicted

#: Rows that a table shows of the worst predictions, and families of a group.
WORST, FAMILIES = 12, 8
#: Microseconds of waking that are worth a line.
_TOLD = 0.5


@dataclass(frozen=True, slots=True)
class Group:
    """Rows of one device, execution, layout and dtype under one tier.

    ``baselines`` are MAPEs of the trivial predictors, NaN where they cannot be cross-validated.
    """

    hw: str
    execution: str
    layout: str
    dtype: str
    tier: str
    basis: str
    honest: bool
    score: Score
    baselines: dict[str, float]
    predicted: tuple[Predicted, ...]

    @property
    def key(self) -> dict[str, str]:
        """What the rows have in common."""
        return {
            "hw": self.hw,
            "execution": self.execution,
            "layout": self.layout,
            "dtype": self.dtype,
            "tier": self.tier,
        }


@dataclass(frozen=True, slots=True)
class Validation:
    """All groups in order of first appearance, and what was not predicted."""

    groups: tuple[Group, ...]
    skipped: tuple[Skipped, ...]


def to_dict(validation: Validation) -> dict[str, Any]:
    """The document of ``validate --format json``. Fractions, not percents; unknown is null."""
    return {
        "schema": 1,
        "groups": [_group(group) for group in validation.groups],
        "rows": [_row(group, item) for group in validation.groups for item in group.predicted],
        "skipped": [
            {"model": item.model, "why": item.why, "place": item.place}
            for item in validation.skipped
        ],
    }


def _group(group: Group) -> dict[str, Any]:
    score = group.score
    return {
        **group.key,
        "basis": group.basis,
        "independent": group.honest,
        "rows": score.rows,
        "mape": score.mape,
        "median_ape": score.median_ape,
        "within_10": score.within_10,
        "within_20": score.within_20,
        "bias": score.bias,
        "spearman": _number(score.spearman),
        "interval_coverage": score.interval_coverage,
        "mape_as_calibrated": mape_as_calibrated(group),
        "baselines": {name: _number(value) for name, value in group.baselines.items()},
        "by_family": {
            name: {"rows": family.rows, "mape": family.mape, "bias": family.bias}
            for name, family in score.by_family.items()
        },
    }


def _row(group: Group, item: Predicted) -> dict[str, Any]:
    run = item.row.run
    return {
        "model": run.model,
        "input_shape": run.input_shape,
        "batch": run.batch,
        **group.key,
        "threads": item.row.setting.threads,
        "family": run.family,
        "measured_ms": run.latency_ms,
        "predicted_ms": item.latency * 1e3,
        "low_ms": item.interval[0] * 1e3,
        "high_ms": item.interval[1] * 1e3,
        "error": error_of(item),
        "pace": item.row.pace,
        "waking_us": item.row.waking_us,
        "source": run.source,
    }


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None


def error_of(item: Predicted) -> float:
    """predicted / measured - 1."""
    return item.latency / item.row.measured - 1


def mape_as_calibrated(group: Group) -> float:
    """The mean absolute error of predictions for the pace at which the device was calibrated."""
    return statistics.fmean(
        abs(item.latency / item.row.pace / item.row.measured - 1) for item in group.predicted
    )


def render(validation: Validation, console: Console) -> None:
    """Tables for a terminal of 80 columns or more."""
    if validation.groups:
        console.print(_groups_table(validation.groups))
        for line in _paces(validation.groups):
            console.print(line)
        if any(not group.honest for group in validation.groups):
            console.print("* constants of this class were fixed on this device's own runs")
        console.print(_families_table(validation.groups))
        console.print(_worst_table(validation.groups))
    if validation.skipped:
        console.print(_skipped_table(validation.skipped))


def _paces(groups: Sequence[Group]) -> Iterator[str]:
    """What the machine's pace made of the predictions, of groups that tell it."""
    for group in groups:
        paces = [item.row.pace for item in group.predicted]
        if any(pace != 1 for pace in paces):
            yield (
                f"{group.hw} {group.execution}: small programs took {min(paces):.2f} to "
                f"{max(paces):.2f} times as long beside the runs as beside the calibration. "
                "Predictions are multiplied by that; without it MAPE is "
                f"{percent(mape_as_calibrated(group))}."
            )
        waking = [item.row.waking_us for item in group.predicted]
        if max(map(abs, waking)) >= _TOLD:
            yield (
                f"Waking a thread took them {min(waking):+.0f} to {max(waking):+.0f} us longer; so "
                "do predictions."
            )


def _groups_table(groups: Sequence[Group]) -> Table:
    table = Table(title="Error in % of the measured latency", title_justify="left", box=None)
    table.add_column("device, execution, tier", overflow="fold")
    heads = ("rows", "MAPE", "median", "≤10", "≤20", "bias", "rank", "in", "k·M", "k·(M+λA)")
    for head in heads:
        table.add_column(head, justify="right", no_wrap=True)
    for group in groups:
        s = group.score
        mark = "" if group.honest else "*"
        name = f"{group.hw} {group.execution} {group.layout} {group.dtype} {group.tier}{mark}"
        table.add_row(
            name, str(s.rows), percent(s.mape), percent(s.median_ape),
            *(f"{100 * v:.0f}" for v in (s.within_10, s.within_20)), f"{100 * s.bias:+.1f}",
            "-" if math.isnan(s.spearman) else f"{s.spearman:.2f}",
            f"{100 * s.interval_coverage:.0f}",
            *(percent(value) for value in group.baselines.values()),
        )  # fmt: skip
    table.caption = (
        "≤10, ≤20: share of rows within; rank: Spearman; in: share inside the interval;\n"
        "k·M, k·(M+λA): error of MACs, and of MACs and activations, fitted on other families"
    )
    table.caption_justify = "left"
    return table


def _families_table(groups: Sequence[Group]) -> Table:
    table = Table(title="\nFamilies that carry the error", title_justify="left", box=None)
    for head in ("device", "family"):
        table.add_column(head, overflow="fold")
    for head in ("rows", "MAPE", "bias"):
        table.add_column(head, justify="right", no_wrap=True)
    for group in groups:
        shown = list(group.score.by_family.items())[: FAMILIES if len(groups) == 1 else 3]
        for name, family in shown:
            table.add_row(
                f"{group.hw} {group.execution} {group.layout} {group.dtype}", name,
                str(family.rows), percent(family.mape), f"{100 * family.bias:+.1f}",
            )  # fmt: skip
    return table


def _worst_table(groups: Sequence[Group]) -> Table:
    table = Table(title="\nWorst rows", title_justify="left", box=None)
    for head in ("device", "model"):
        table.add_column(head, overflow="fold")
    for head in ("batch", "measured", "predicted", "error"):
        table.add_column(head, justify="right", no_wrap=True)
    for group, item in worst(groups)[:WORST]:
        run = item.row.run
        table.add_row(
            f"{group.hw} {group.execution}", f"{run.model} {run.input_shape}", str(run.batch),
            f"{run.latency_ms:.4g} ms", f"{item.latency * 1e3:.4g} ms",
            f"{100 * error_of(item):+.0f}",
        )  # fmt: skip
    return table


def worst(groups: Sequence[Group]) -> list[tuple[Group, Predicted]]:
    """Rows by the size of the logarithm of predicted/measured, largest first."""
    rows = [(group, item) for group in groups for item in group.predicted]
    return sorted(rows, key=lambda pair: -abs(math.log(pair[1].latency / pair[1].row.measured)))


def _skipped_table(skipped: Sequence[Skipped]) -> Table:
    table = Table(title=f"\nSkipped: {len(skipped)} rows", title_justify="left", box=None)
    for head in ("model", "why"):
        table.add_column(head, overflow="fold")
    counts: dict[tuple[str, str], int] = {}
    for item in skipped:
        key = (item.model or item.place, item.why)
        counts[key] = counts.get(key, 0) + 1
    for (model, why), count in counts.items():
        table.add_row(model if count == 1 else f"{model} ({count} rows)", why)
    return table


def percent(fraction: float) -> str:
    """A fraction as percents with one decimal; a dash where it is unknown."""
    return "-" if math.isnan(fraction) else f"{100 * fraction:.1f}"
