"""MACs and bytes of each layer along the depth of a network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from costmodel.plot import style
from costmodel.plot.names import short

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from costmodel.report.findings import Findings


def data(report: Findings) -> dict[str, Any]:
    """The ops that compute or move anything, in schedule order, with exact counts.

    An op without a rule has ``None`` for its counts.
    """
    layers = [
        {
            "name": row.op.name,
            "module": row.op.module,
            "family": row.family,
            "class": style.class_of(row.family),
            "macs": row.cost.macs if row.cost else None,
            "bytes": row.cost.bytes if row.cost else None,
        }
        for row in report.table.rows
        if row.cost is None or row.cost.flops or row.cost.bytes
    ]
    return {"schema": 1, "target": report.target, "layers": layers}


def draw(shown: Mapping[str, Any], *, columns: style.Columns = "two", dark: bool = False) -> Figure:
    """Two rows of bars over one axis: MACs above, compulsory bytes below."""
    layers = shown["layers"]
    with style.styled(dark) as look:
        made = style.figure(columns, 3.2)
        upper, lower = made.subplots(2, 1, sharex=True)
        upper.set_title(shown["target"], loc="left")
        for axes, name, unit in ((upper, "macs", ""), (lower, "bytes", "B")):
            for kind, shape in style.CLASSES.items():
                places = [i for i, layer in enumerate(layers) if layer["class"] == kind]
                heights = [layers[i][name] or 0 for i in places]
                if any(heights):
                    axes.bar(places, heights, 1.0, color=shape.colour, label=kind,
                             edgecolor=look.back, linewidth=0.15)  # fmt: skip
            axes.yaxis.set_major_formatter(lambda v, _, unit=unit: f"{short(v)}{unit}".strip())
            axes.grid(True, axis="y")
            axes.set_ylabel({"macs": "MACs", "bytes": "bytes moved"}[name])
            axes.margins(x=0.005)
        lower.set_xlabel("ops in the order in which they run, views left out")
        handles = {
            label: handle
            for axes in (lower, upper)
            for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
        }
        made.legend(list(handles.values()), list(handles), loc="outside lower center",
                    ncols=3 if columns == "one" else 6)  # fmt: skip
    return made
