"""Time by module as an icicle: each level of the module tree a row, width its share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from costmodel.plot import style
from costmodel.plot.labels import measure
from costmodel.report import units
from costmodel.report.groups import groups

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from costmodel.report.findings import Findings

#: A part of the row that is thinner than this share of the whole is not drawn.
_THINNEST = 0.0015


def data(report: Findings, depth: int = 3) -> dict[str, Any]:
    """Modules down to ``depth`` with their share of the time, or of the MACs without a device.

    ``start`` is where a module's part begins, as a share of the whole.
    """
    found: list[dict[str, Any]] = []
    ends: dict[str, float] = {"": 0.0}
    for line in groups(report, "module", depth):
        path = line.path
        parent = path.rpartition(".")[0]
        start = ends.get(parent, 0.0)
        ends[parent] = start + line.share
        ends[path or "(itself)"] = start
        found.append(
            {
                "module": path or line.name,
                "level": line.level,
                "start": start,
                "share": line.share,
                "latency_s": line.latency_s,
                "macs": line.totals.macs,
                "bound": line.bound,
            }
        )
    return {
        "schema": 1,
        "target": report.target,
        "hw": report.prediction.hw if report.prediction else None,
        "of": "time" if report.prediction else "MACs",
        "modules": found,
    }


def draw(shown: Mapping[str, Any], *, columns: style.Columns = "two", dark: bool = False) -> Figure:
    """The icicle; colour says what bounds most of a module's time."""
    with style.styled(dark) as look:
        depth = max((module["level"] for module in shown["modules"]), default=1)
        made = style.figure(columns, 0.75 + 0.36 * depth)
        axes = made.subplots()
        axes.set(xlim=(0, 1), ylim=(-depth, 0), xlabel=f"share of the {shown['of']}")
        axes.set_title(f"{shown['target']}  {shown['hw'] or ''}", loc="left")
        axes.yaxis.set_visible(False)
        axes.spines[["left"]].set_visible(False)
        axes.xaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f} %")
        boxes = [m for m in shown["modules"] if m["share"] >= _THINNEST]
        for module in boxes:
            axes.barh(
                -module["level"] + 0.5, module["share"], 0.94, module["start"],
                color=style.BOUNDS[module["bound"]].colour if module["bound"] else look.grid,
                edgecolor=look.back, linewidth=0.6,
            )  # fmt: skip
        bounds = [name for name in style.BOUNDS if any(m["bound"] == name for m in boxes)]
        if bounds:
            from matplotlib.patches import Patch

            patches = [Patch(color=style.BOUNDS[name].colour, label=name) for name in bounds]
            made.legend(handles=patches, loc="outside lower right", ncols=3, title=None)
        made.draw_without_rendering()
        across = axes.get_window_extent().width
        for module in boxes:
            name = module["module"].rpartition(".")[2]
            room = module["share"] * across - 6
            for text in (f"{name}: {units.percent(module['share'])}", name):
                if measure(axes, text, 6)[0] <= room:
                    axes.text(
                        module["start"] + module["share"] / 2, -module["level"] + 0.5, text,
                        ha="center", va="center", fontsize=6,
                        color="#1a1a1a" if module["bound"] else look.ink,
                    ).set_in_layout(False)  # fmt: skip
                    break
    return made
