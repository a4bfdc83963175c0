"""The roofline: kernels under the roofs of an engine, both axes logarithmic."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from costmodel.plot import labels, points, roof_lines, roofs, style
from costmodel.plot.names import label
from costmodel.report import units

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from costmodel.prediction import Prediction
    from costmodel.setting import Setting

#: Points that get a label: at most so many, each with at least this share of the time.
_LABELLED, _SHARE = 6, 0.02
_AREA = 420.0
_SMALLEST = 5.0
#: Share of the time that may fall below the frame, which says so.
_UNSEEN = 0.02


def data(
    target: str,
    prediction: Prediction,
    measured: Sequence[Mapping[str, Any]] = (),
    chosen: Setting | None = None,
) -> dict[str, Any]:
    """One panel: what is drawn of one model on one device, as plain values.

    Rates in FLOP/s and bytes/s, intensities in FLOPs per byte that the kernel must move, time in
    seconds. ``measured`` are whole runs, as `costmodel.plot.measured.matching` finds them;
    ``chosen`` is the prediction's setting where its device is a user's own file.
    """
    drawn, left = points.to_dicts(prediction)
    whole = points.network(prediction)
    flops = whole["flops"] if whole else 0
    return {
        "target": target,
        "hw": prediction.hw,
        "dtype": prediction.dtype,
        "execution": prediction.execution,
        "layout": prediction.layout,
        "threads": prediction.threads,
        "batch": prediction.batch,
        "latency_s": prediction.latency_s,
        "interval_s": list(prediction.interval_s),
        "basis": prediction.basis,
        "validated": prediction.validated,
        **roofs.to_dict(chosen or roofs.setting_of(prediction)),
        "points": drawn,
        "not_drawn": left,
        "network": whole,
        "measured": [{**run, "flops_per_s": flops / run["latency_s"]} for run in measured],
    }


def document(panels: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The object of ``roofline --format json``."""
    return {"schema": 1, "panels": list(panels)}


def draw(
    panels: Sequence[Mapping[str, Any]],
    *,
    columns: style.Columns = "two",
    dark: bool = False,
    overlay: bool = False,
    labelled: int = _LABELLED,
) -> Figure:
    """The figure: a row a model and a column a device, or (``overlay``) a panel a device.

    Colour and marker say the op family, or the model where models share a panel. A point's area is
    its share of its model's time.
    """
    with style.styled(dark) as look:
        groups = _panels(panels, overlay)
        devices = list(dict.fromkeys(group[0]["hw"] for group in groups))
        wide = 1 if columns == "one" else min(len(devices) if len(devices) > 1 else 2, 3)
        wide = min(wide, len(groups))
        tall = math.ceil(len(groups) / wide)
        height = {1: 3.9, 2: 3.0, 3: 2.9}[wide] if columns == "two" else 3.0
        made = style.figure(columns, tall * height + 0.45)
        grid = made.subplots(tall, wide, squeeze=False)
        for place in grid.flat[len(groups) :]:
            place.set_axis_off()
        models = list(dict.fromkeys(panel["target"] for panel in panels))
        for axes, group in zip(grid.flat, groups, strict=False):
            _panel(axes, group, look, models if overlay else [])
        _legend(made, panels, models if overlay else [], look, columns)
        made.draw_without_rendering()  # places are final: labels can look for theirs
        for axes, group in zip(grid.flat, groups, strict=False):
            _label(axes, group, look, labelled if wide < 3 else min(labelled, 4))
        made.set_layout_engine("none")
    return made


def _panels(panels: Sequence[Mapping[str, Any]], overlay: bool) -> list[list[Mapping[str, Any]]]:
    if not overlay:
        return [[panel] for panel in panels]
    by_device: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for panel in panels:
        key = tuple(panel[name] for name in ("hw", "dtype", "execution", "layout", "threads"))
        by_device.setdefault(key, []).append(panel)
    return list(by_device.values())


def _panel(
    axes: Axes, group: Sequence[Mapping[str, Any]], look: style.Theme, models: list[str]
) -> None:
    """Points, limits, lines and title of one panel."""
    for panel in group:
        for point in reversed(panel["points"]):
            shown = (
                style.SERIES[models.index(panel["target"]) % len(style.SERIES)]
                if models
                else style.CLASSES[point["class"]]
            )
            axes.scatter(
                point["intensity"], point["flops_per_s"], s=_area(point["share"]),
                c=shown.colour, marker=shown.marker, alpha=0.85, linewidths=0.4,
                edgecolors=look.ink, zorder=4,
            )  # fmt: skip
        own = models and style.SERIES[models.index(panel["target"]) % len(style.SERIES)].colour
        _network(axes, panel, look, own or look.back)
    axes.set(xscale="log", yscale="log", ylabel="FLOP/s")
    below = _limits(axes, group)
    style.grid(axes)
    roof_lines.lines(axes, group[0], look)
    axes.set_title(_title(group, models), loc="left", fontsize=7)
    axes.set_xlabel("FLOPs per byte moved" + _missing(group, below), fontsize=6.8)


def _title(group: Sequence[Mapping[str, Any]], models: list[str]) -> str:
    first = group[0]
    setting = f"{first['hw']}, {first['dtype']}, {first['execution']}"
    if first["threads"]:
        setting += f", {first['threads']} threads"
    if first["batch"] != 1:
        setting += f", batch {first['batch']}"
    if models:
        return setting
    low, high = (units.seconds(value) for value in first["interval_s"])
    latency = f"{units.seconds(first['latency_s'])} ({low} to {high})"
    return f"{model_name(first['target'])}\n{setting}\n{latency}"


def _missing(group: Sequence[Mapping[str, Any]], below: float) -> str:
    """What the panel does not show, in words under its axis."""
    if len(group) > 1:
        return ""
    words = [
        f"{units.percent(share)} {why}"
        for share, why in ((group[0]["not_drawn"]["share"], "no FLOPs"), (below, "lower"))
        if share >= 0.005
    ]
    return f"\ntime not shown: {', '.join(words)}" if words else ""


def _area(share: float) -> float:
    return max(_SMALLEST, _AREA * share)


def model_name(target: str) -> str:
    """A target without its library or folder."""
    return label(target.partition(":")[2] or target.rpartition("/")[2], longest=34)


def _network(axes: Axes, panel: Mapping[str, Any], look: style.Theme, fill: str) -> None:
    whole = panel["network"]
    if whole is None:
        return
    at, rate = whole["intensity"], whole["flops_per_s"]
    low, high = rate - whole["flops_per_s_low"], whole["flops_per_s_high"] - rate
    axes.errorbar(
        [at], [rate], yerr=[[max(low, 0.0)], [max(high, 0.0)]], fmt="*", ms=8, mfc=fill,
        mec=look.ink, mew=0.8, ecolor=look.ink, elinewidth=0.8, capsize=2, zorder=5,
    )  # fmt: skip
    if panel["measured"]:
        rates = [run["flops_per_s"] for run in panel["measured"]]
        axes.plot([at] * len(rates), rates, "*", ms=8, mfc=look.ink, mec=look.back, mew=0.4,
                  zorder=5.5)  # fmt: skip


def _limits(axes: Axes, group: Sequence[Mapping[str, Any]]) -> float:
    """Frame what takes the time; returns the share of the time that falls below the frame.

    The slowest points that together take under `_UNSEEN` would stretch the axis for nothing.
    """
    xs: list[float] = []
    ys: list[float] = []
    for panel in group:
        unseen = 0.0
        for point in sorted(panel["points"], key=lambda point: point["flops_per_s"]):
            xs.append(point["intensity"])
            unseen += point["share"]
            if unseen > _UNSEEN:
                ys.append(point["flops_per_s"])
        ys += [run["flops_per_s"] for run in panel["measured"]]
        if panel["network"]:
            ys += [panel["network"]["flops_per_s_low"], panel["network"]["flops_per_s_high"]]
    ridges = [r["intensity"] for r in group[0]["ridges"] if r["level"] == "DRAM"]
    tops = [roof["flops_per_s"] for roof in group[0]["roofs"]["compute"]]
    axes.set_xlim(min([*xs, min(ridges) / 8]) / 1.8, max([*xs, *ridges]) * 8)
    bottom = min([*ys, min(tops) / 100]) / 2.5
    top = max([*ys, *tops])
    axes.set_ylim(bottom, top * max(3.0, (top / bottom) ** 0.09))  # a text fits above the roof
    return max(
        float(sum(point["share"] for point in panel["points"] if point["flops_per_s"] < bottom))
        for panel in group
    )


def _label(axes: Axes, group: Sequence[Mapping[str, Any]], look: style.Theme, most: int) -> None:
    """Texts along the roofs, and names beside the points that take the most time."""
    _, unit, _ = labels.frame_of(axes)
    to = axes.transData.transform
    taken = roof_lines.taken_by(axes, group[0])
    found = []
    markers: list[labels.Box] = []
    for panel in group:
        for point in panel["points"]:
            radius = math.sqrt(_area(point["share"]) / math.pi)
            x, y = to((point["intensity"], point["flops_per_s"]))
            taken.append(labels.around(float(x), float(y), 0.8 * radius * unit))
            markers.append(taken[-1])
            found.append((point, radius))
        if panel["network"]:
            whole = panel["network"]
            at, rate = to((whole["intensity"], whole["flops_per_s"]))
            taken.append(labels.around(float(at), float(rate), 4.5 * unit))
            ends = [whole["flops_per_s_low"], whole["flops_per_s_high"]]
            bar = [tuple(to((whole["intensity"], end))) for end in ends]
            taken += labels.along(bar[0], bar[1])
    texts = roof_lines.write(axes, group[0], taken, look)
    found.sort(key=lambda item: -item[0]["share"])
    wishes = [
        labels.Wish(
            point["intensity"], point["flops_per_s"],
            f"{label(point['name'], point['count'])} {units.percent(point['share'])}", radius,
        )
        for point, radius in found[:most]
        if point["share"] >= _SHARE
    ]  # fmt: skip
    labels.annotate(axes, wishes, taken, look, texts=texts, markers=markers)


def _legend(
    made: Figure, panels: Sequence[Mapping[str, Any]], models: list[str], look: style.Theme,
    columns: style.Columns,
) -> None:  # fmt: skip
    from matplotlib.lines import Line2D

    if models:
        shown = {model_name(m): style.SERIES[i % len(style.SERIES)] for i, m in enumerate(models)}
    else:
        there = {point["class"] for panel in panels for point in panel["points"]}
        shown = {name: found for name, found in style.CLASSES.items() if name in there}
    handles = [
        Line2D([], [], ls="", marker=found.marker, color=found.colour, mec=look.ink, mew=0.4, ms=5,
               label=name)
        for name, found in shown.items()
    ]  # fmt: skip
    star = {"ls": "", "marker": "*", "ms": 8, "mec": look.ink, "mew": 0.8}
    handles.append(Line2D([], [], color=look.back, label="network, with interval", **star))  # type: ignore[arg-type]
    if any(panel["measured"] for panel in panels):
        handles.append(Line2D([], [], color=look.ink, label="network, measured", **star))  # type: ignore[arg-type]
    made.legend(
        handles=handles, loc="outside lower center", ncols=2 if columns == "one" else 5,
        columnspacing=1.2, handletextpad=0.3,
        title="area: share of the time; number at a ridge: FLOPs per byte", title_fontsize=6.5,
    )  # fmt: skip
