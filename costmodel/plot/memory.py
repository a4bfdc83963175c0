"""Activations in memory along the schedule, and what lives at the peak."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from costmodel import memory
from costmodel.errors import CostModelError
from costmodel.plot import style
from costmodel.plot.names import label, short
from costmodel.report import units

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from costmodel.report.findings import Findings


def data(report: Findings) -> dict[str, Any]:
    """Bytes of live activations while each op runs, and the op of the peak.

    Raises `CostModelError` while a dimension is a symbol.
    """
    ops = [row.op for row in report.table.rows]
    levels = memory.timeline(ops, report.table.info)
    if not all(isinstance(level, int) for level in levels):
        raise CostModelError("activation memory needs numbers; put them in with table.at(...)")
    peak = max(range(len(levels)), key=levels.__getitem__) if levels else None
    return {
        "schema": 1,
        "target": report.target,
        "ops": [op.name for op in ops],
        "bytes": levels,
        "peak": None
        if peak is None
        else {"index": peak, "op": ops[peak].name, "module": ops[peak].module,
              "bytes": levels[peak]},
    }  # fmt: skip


def draw(shown: Mapping[str, Any], *, columns: style.Columns = "two", dark: bool = False) -> Figure:
    """A filled step curve with the peak marked."""
    with style.styled(dark) as look:
        made = style.figure(columns, 2.3)
        axes = made.subplots()
        levels = shown["bytes"]
        curve = range(len(levels) + 1), [*levels, *levels[-1:]]
        fill, line = style.CLASSES["pointwise"].colour, style.CLASSES["convolution"].colour
        axes.fill_between(*curve, step="post", color=fill, alpha=0.55, linewidth=0)
        axes.step(*curve, where="post", color=line, lw=0.9)
        axes.yaxis.set_major_formatter(lambda value, _: f"{short(value)}B")
        axes.set(xlabel="ops in the order in which they run", ylabel="live activations")
        axes.set_ylim(0, 1.18 * max(levels, default=1))
        axes.set_title(shown["target"], loc="left")
        axes.margins(x=0.01)
        axes.grid(True, axis="y")
        peak = shown["peak"]
        if peak:
            text = f"peak {units.size(peak['bytes'])} in {label(peak['module'] or peak['op'])}"
            left = peak["index"] < len(levels) / 2
            axes.plot(peak["index"] + 0.5, peak["bytes"], "v", ms=5, color=look.ink)
            axes.annotate(
                text, (peak["index"] + 0.5, peak["bytes"]), xytext=(6 if left else -6, 5),
                textcoords="offset points", ha="left" if left else "right", va="bottom",
            )  # fmt: skip
    return made
