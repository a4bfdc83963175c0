"""The measured roofs of a machine: the microbenchmarks under them, and bandwidth by working set."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from costmodel.errors import CostModelError
from costmodel.plot import labels, roof_lines, style

if TYPE_CHECKING:
    from collections.abc import Mapping

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from costmodel.hardware import Profile

_LOOKS = {
    "product fp32": style.CLASSES["convolution"],
    "product bf16": style.CLASSES["matmul"],
    "product fp16": style.CLASSES["attention"],
    "sum fp32": style.CLASSES["pointwise"],
    "copy fp32": style.CLASSES["normalization"],
    "triad fp32": style.CLASSES["depthwise"],
}


def data(profile: Profile) -> dict[str, Any]:
    """Roofs and points as plain values: FLOP/s, bytes/s, FLOPs per byte, KB.

    Raises `CostModelError` for a profile without measured roofs.
    """
    from costmodel.hardware import CpuEngine

    measured = profile.measured
    engine = profile.engines[profile.default.engine]
    if measured is None or not (measured.gb_per_s and measured.tflops):
        raise CostModelError(
            f"{profile.name} has no measured roofs; costmodel hw calibrate measures this machine"
        )
    compute = [
        {"dtypes": [dtype], "flops_per_s": rate * 1e12, "active": dtype == "fp32"}
        for dtype, rate in sorted(measured.tflops.items(), key=lambda item: item[1])
    ]
    memory = [
        {"level": level.upper(), "bytes_per_s": rate * 1e9, "origin": "measured"}
        for level, rate in sorted(measured.gb_per_s.items(), key=lambda item: item[1])
    ]
    return {
        "schema": 1,
        "hw": profile.name,
        "chip": profile.chip,
        "date": measured.date,
        "threads": max((point.threads for point in measured.points), default=1),
        "roofs": {"compute": compute, "memory": memory},
        "ridges": [
            {
                "dtypes": top["dtypes"],
                "level": side["level"],
                "intensity": top["flops_per_s"] / side["bytes_per_s"],  # type: ignore[operator]
                "flops_per_s": top["flops_per_s"],
            }
            for top in compute
            for side in memory
        ],
        "caches_kb": _caches(engine) if isinstance(engine, CpuEngine) else {},
        "points": [
            {
                "name": f"{point.kernel} {point.dtype}",
                "threads": point.threads,
                "working_set_kb": point.working_set_kb,
                "intensity": point.flops / point.bytes,
                "flops_per_s": point.flops / point.us * 1e6,
                "bytes_per_s": point.bytes / point.us * 1e6,
            }
            for point in measured.points
        ],
    }


def draw(shown: Mapping[str, Any], *, columns: style.Columns = "two", dark: bool = False) -> Figure:
    """Left the roofs with the kernels under them; right the bandwidth of streams by working set."""
    with style.styled(dark) as look:
        made = style.figure(columns, 3.3 if columns == "two" else 6.0)
        two = columns == "two"
        grid = made.subplots(1 if two else 2, 2 if two else 1, squeeze=False)
        under, reach = grid.flat
        _under_roofs(under, shown, look)
        _by_working_set(reach, shown, look)
        _legend(made, shown, look, columns)
        made.draw_without_rendering()  # places are final: labels can look for theirs
        taken = roof_lines.taken_by(under, shown)
        _, unit, _ = labels.frame_of(under)
        for point in shown["points"]:
            if point["intensity"] > 0:
                place = (point["intensity"], point["flops_per_s"])
                x, y = under.transData.transform(place)
                taken.append(labels.around(float(x), float(y), 3 * unit))
        roof_lines.write(under, shown, taken, look)
        made.set_layout_engine("none")
    return made


def _under_roofs(axes: Axes, shown: Mapping[str, Any], look: style.Theme) -> None:
    counted = [point for point in shown["points"] if point["intensity"] > 0]
    _scatter(axes, shown, counted, "intensity", "flops_per_s", look)
    tops = [roof["flops_per_s"] for roof in shown["roofs"]["compute"]]
    axes.set(xscale="log", yscale="log", xlabel="FLOPs per byte", ylabel="FLOP/s")
    xs, ys = [p["intensity"] for p in counted], [p["flops_per_s"] for p in counted]
    axes.set_xlim(min(xs) / 12, max(xs) * 4)
    axes.set_ylim(min(ys) / 2.5, max(tops) * 3)
    style.grid(axes)
    roof_lines.lines(axes, shown, look)
    axes.set_title(f"{shown['chip']}\nmeasured {shown['date']}", loc="left", fontsize=7)


def _by_working_set(axes: Axes, shown: Mapping[str, Any], look: style.Theme) -> None:
    streams = [point for point in shown["points"] if not point["name"].startswith("product")]
    names = dict.fromkeys((point["name"], point["threads"]) for point in streams)
    for name, threads in names:
        line = [p for p in streams if (p["name"], p["threads"]) == (name, threads)]
        axes.plot(
            [p["working_set_kb"] for p in line], [p["bytes_per_s"] for p in line], lw=0.7,
            color=_LOOKS[name].colour, ls="-" if threads == shown["threads"] else (0, (2, 2)),
            zorder=3,
        )  # fmt: skip
    _scatter(axes, shown, streams, "working_set_kb", "bytes_per_s", look)
    axes.set(xscale="log", yscale="log", xlabel="working set (KB)", ylabel="bytes/s")
    low, high = axes.get_ylim()
    axes.set_ylim(low, high * 1.6)
    style.grid(axes)
    for level, kb in shown["caches_kb"].items():
        axes.axvline(kb, color=look.faint, lw=0.7, ls=(0, (1, 1.5)), zorder=2)
        axes.annotate(level, (kb, 1.0), xycoords=("data", "axes fraction"), xytext=(-2, -2),
                      textcoords="offset points", ha="right", va="top", fontsize=5.8,
                      color=look.faint)  # fmt: skip
    axes.set_title("Bandwidth of streams by working set\n", loc="left", fontsize=7)


def _scatter(
    axes: Axes, shown: Mapping[str, Any], points: list[Any], x: str, y: str, look: style.Theme
) -> None:
    """Filled on all threads, hollow on one."""
    for point in points:
        kind = _LOOKS[point["name"]]
        full = point["threads"] == shown["threads"]
        axes.scatter(
            point[x], point[y], s=14, marker=kind.marker, zorder=4, linewidths=0.7,
            c=kind.colour if full else look.back, edgecolors=look.ink if full else kind.colour,
        )  # fmt: skip


def _legend(
    made: Figure, shown: Mapping[str, Any], look: style.Theme, columns: style.Columns
) -> None:
    from matplotlib.lines import Line2D

    there = dict.fromkeys(point["name"] for point in shown["points"])
    handles = [
        Line2D([], [], ls="", marker=_LOOKS[name].marker, color=_LOOKS[name].colour, mec=look.ink,
               mew=0.4, ms=4.5, label=name)
        for name in there
    ]  # fmt: skip
    many = shown["threads"]
    words = f"filled: {many} threads, hollow: 1 thread; " if many > 1 else ""
    made.legend(
        handles=handles, loc="outside lower center", ncols=6 if columns == "two" else 3,
        columnspacing=1.2, handletextpad=0.3,
        title=f"{words}number at a ridge: FLOPs per byte", title_fontsize=6.5,
    )  # fmt: skip


def _caches(engine: Any) -> dict[str, float]:
    """KB of each cache level that all cores have together."""
    first, cores = engine.clusters[0], engine.cores
    found = {"L1": first.l1d_kb and first.l1d_kb * cores}
    found["L2"] = first.l2_kb and first.l2_kb * (1 if first.l2_shared else cores)
    found["L3"] = engine.l3_mb and engine.l3_mb * 1024 * engine.l3_count
    return {level: float(kb) for level, kb in found.items() if kb}
