"""How cost grows: scaled networks against the growth that their coefficients promise."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from costmodel.plot import style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_CURVES = {
    "ratio": "MACs",
    "two_to_phi": "2^φ",
    "coefficient_ratio": "d·w²·r² of its coefficients",
}


def data(document: Mapping[str, Any]) -> dict[str, Any]:
    """The curves over φ from the object of ``scale --format json``; all relative to φ = 0.

    Latencies of each device are added as ratios to its first.
    """
    rows = [row for row in document["rows"] if row.get("phi") is not None]
    curves = {
        word: [[row["phi"], row[key]] for row in rows if row.get(key) is not None]
        for key, word in _CURVES.items()
    }
    if factor := document.get("nominal_factor"):
        curves[f"{factor:.3g}^φ"] = [[row["phi"], factor ** row["phi"]] for row in rows]
    devices = dict.fromkeys(name for row in rows for name in row.get("latency_s") or {})
    for name in devices:
        times = [[row["phi"], row["latency_s"][name]] for row in rows if name in row["latency_s"]]
        curves[f"latency on {name}"] = [[phi, value / times[0][1]] for phi, value in times]
    return {"schema": 1, "curves": {name: points for name, points in curves.items() if points}}


def draw(shown: Mapping[str, Any], *, columns: style.Columns = "one", dark: bool = False) -> Figure:
    """One line a curve, the cost axis logarithmic to base 2."""
    from matplotlib.ticker import MaxNLocator

    with style.styled(dark) as look:
        made = style.figure(columns, 3.0)
        axes = made.subplots()
        dashes: list[Any] = ["-", (0, (4, 2)), (0, (1, 1.5)), (0, (5, 1, 1, 1))]
        for index, (name, points) in enumerate(shown["curves"].items()):
            kind = style.SERIES[index % len(style.SERIES)]
            axes.plot(
                *zip(*points, strict=True), color=kind.colour, marker=kind.marker, ms=4, mew=0.3,
                mec=look.ink, ls=dashes[index % len(dashes)], label=name,
            )  # fmt: skip
        axes.set_yscale("log", base=2)
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}×")
        axes.set(xlabel="compound coefficient φ", ylabel="relative to φ = 0")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        style.grid(axes)
        axes.legend(loc="upper left")
    return made
