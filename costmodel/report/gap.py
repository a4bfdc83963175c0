"""The gap between the ideal roof and a measured run, in words and as tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

from costmodel.report import units

if TYPE_CHECKING:
    from costmodel.measure.gap import Gap


def text(gap: Gap) -> str:
    """A line a part with its time and its share of the measured one, and what to make of it."""
    rows = [(name, _signed(s), _share(s, gap)) for name, s in gap.parts.items()]
    rows.append(("measured", units.seconds(gap.measured_s), "100 %"))
    widths = [max(len(row[i]) for row in rows) for i in range(3)]
    lines = [f"Where the measured {units.seconds(gap.measured_s)} go"]
    lines += [
        f"{name:<{widths[0]}}  {time:>{widths[1]}}  {share:>{widths[2]}}"
        for name, time, share in rows
    ]
    return "\n".join([*lines, *notes(gap)]) + "\n"


def markdown(gap: Gap) -> str:
    """The same as a Markdown table."""
    lines = ["| where the measured time goes | time | share |", "|---|--:|--:|"]
    lines += [f"| {name} | {_signed(s)} | {_share(s, gap)} |" for name, s in gap.parts.items()]
    lines.append(f"| measured | {units.seconds(gap.measured_s)} | 100 % |")
    return "\n".join([*lines, *(f"\n{note}" for note in notes(gap))]) + "\n"


def notes(gap: Gap) -> list[str]:
    """What a negative part means."""
    found = []
    if gap.efficiency_s < 0:
        found.append("lower efficiency below 0: caches serve what the roof takes from main memory")
    if gap.rest_s < 0:
        found.append("the rest below 0: the run is faster than the prediction")
    return [f"note: {note}" for note in found]


def _signed(seconds: float) -> str:
    return f"-{units.seconds(-seconds)}" if seconds < 0 else units.seconds(seconds)


def _share(seconds: float, gap: Gap) -> str:
    share = seconds / gap.measured_s
    return f"-{units.percent(-share)}" if share < 0 else units.percent(share)
