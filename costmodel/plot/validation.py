"""Predicted against measured latency, both axes logarithmic, with the band of ±10 %."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from costmodel.errors import CostModelError
from costmodel.plot import style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BAND = 0.10


def data(document: Mapping[str, Any]) -> dict[str, Any]:
    """The points of a figure from the object of ``validate --format json``.

    Seconds; a series for each device, execution, layout, dtype and tier. Raises `CostModelError`
    without rows.
    """
    series: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
    for row in document["rows"]:
        key = tuple(str(row[name]) for name in ("hw", "execution", "layout", "dtype", "tier"))
        series.setdefault(key, []).append(row)
    if not series:
        raise CostModelError("no predicted runs to draw; see `skipped` for the reasons")
    return {
        "schema": 1,
        "band": BAND,
        "series": [
            {
                "hw": key[0], "execution": key[1], "layout": key[2], "dtype": key[3],
                "tier": key[4],
                "within_band": _within(rows),
                "points": [
                    {
                        "model": row["model"],
                        "measured_s": row["measured_ms"] * 1e-3,
                        "predicted_s": row["predicted_ms"] * 1e-3,
                    }
                    for row in rows
                ],
            }
            for key, rows in series.items()
        ],
    }  # fmt: skip


def _within(rows: Sequence[Mapping[str, Any]]) -> float:
    near = [abs(row["predicted_ms"] / row["measured_ms"] - 1) <= BAND for row in rows]
    return float(sum(near) / len(near))


def draw(shown: Mapping[str, Any], *, columns: style.Columns = "one", dark: bool = False) -> Figure:
    """A square of points about the diagonal, and how many fall inside the band."""
    with style.styled(dark) as look:
        size = style.WIDTHS[columns] if columns == "one" else 4.6
        made = style.figure(columns, size + 0.14 * len(shown["series"]))
        axes = made.subplots()
        values = [
            point[name]
            for series in shown["series"]
            for point in series["points"]
            for name in ("measured_s", "predicted_s")
        ]
        low, high = min(values) / 1.5, max(values) * 1.5
        ends = [low, high]
        axes.fill_between(ends, [v * (1 - BAND) for v in ends], [v * (1 + BAND) for v in ends],
                          color=look.grid, label=f"±{100 * BAND:.0f} %", linewidth=0)  # fmt: skip
        axes.plot(ends, ends, color=look.faint, lw=0.7)
        for index, series in enumerate(shown["series"]):
            kind = style.SERIES[index % len(style.SERIES)]
            name = f"{series['hw']}, {series['execution']}, {series['dtype']}"
            axes.plot(
                [point["measured_s"] for point in series["points"]],
                [point["predicted_s"] for point in series["points"]],
                ls="", marker=kind.marker, ms=3.5, color=kind.colour, mec=look.ink, mew=0.3,
                alpha=0.8,
                label=f"{name}: {100 * series['within_band']:.0f} % of {len(series['points'])} "
                "in the band",
            )  # fmt: skip
        axes.set(xscale="log", yscale="log", xlim=ends, ylim=ends, aspect="equal",
                 xlabel="measured latency (s)", ylabel="predicted latency (s)")  # fmt: skip
        made.legend(loc="outside lower center")
    return made
