"""Accuracy against cost, and the networks that nothing beats in both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from costmodel.errors import CostModelError
from costmodel.plot import labels, style
from costmodel.plot.roofline import model_name

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def front(points: Sequence[tuple[float, float]]) -> list[bool]:
    """Whether each (cost, value) is on the front: nothing costs no more and is worth no less.

    Equal points are on it together.
    """
    best = float("-inf")
    found = [False] * len(points)
    for index in sorted(range(len(points)), key=lambda i: (points[i][0], -points[i][1])):
        cost, value = points[index]
        if value > best:
            best, found[index] = value, True
        elif value == best:
            found[index] = any(found[i] and points[i] == (cost, value) for i in range(len(points)))
    return found


def data(
    document: Mapping[str, Any], cost: str = "latency_s", value: str = "top1"
) -> dict[str, Any]:
    """The points of rows with ``target`` and both figures (the object of ``pick --format json``).

    Rows without one of them are counted in ``left_out``. Raises `CostModelError` when none is left.
    """
    rows = document["rows"]
    known = [row for row in rows if row.get(cost) is not None and row.get(value) is not None]
    if not known:
        raise CostModelError(f"no row has both {cost} and {value}")
    chosen = front([(row[cost], row[value]) for row in known])
    return {
        "schema": 1,
        "cost": cost,
        "value": value,
        "left_out": len(rows) - len(known),
        "points": [
            {"target": row["target"], "cost": row[cost], "value": row[value], "pareto": on}
            for row, on in zip(known, chosen, strict=True)
        ],
    }


_WORDS = {"latency_s": "latency (ms)", "macs": "MACs", "params": "parameters",
          "energy_j": "energy (mJ)", "top1": "top-1 accuracy (%)"}  # fmt: skip
#: Figures in units that people say: milliseconds and millijoules.
_TIMES = {"latency_s": 1e3, "energy_j": 1e3}


def draw(shown: Mapping[str, Any], *, columns: style.Columns = "two", dark: bool = False) -> Figure:
    """All networks, the front as a stair, its corners named where there is room."""
    with style.styled(dark) as look:
        made = style.figure(columns, 3.2)
        axes = made.subplots()
        times = _TIMES.get(shown["cost"], 1.0)
        points = [{**p, "cost": times * p["cost"]} for p in shown["points"]]
        best = sorted((p for p in points if p["pareto"]), key=lambda p: p["cost"])
        rest = [p for p in points if not p["pareto"]]
        if rest:
            axes.plot([p["cost"] for p in rest], [p["value"] for p in rest], "o", ms=2.5,
                      color=look.faint, alpha=0.6, mew=0, label="dominated")  # fmt: skip
        kind = style.CLASSES["depthwise"]
        axes.step([p["cost"] for p in best], [p["value"] for p in best], where="post",
                  color=kind.colour, lw=0.9)  # fmt: skip
        axes.plot([p["cost"] for p in best], [p["value"] for p in best], kind.marker, ms=4, ls="",
                  color=kind.colour, mec=look.ink, mew=0.4, label="Pareto front")  # fmt: skip
        axes.set(xscale="log", xlabel=_WORDS.get(shown["cost"], shown["cost"]),
                 ylabel=_WORDS.get(shown["value"], shown["value"]))  # fmt: skip
        style.plain_ticks(axes.xaxis)
        axes.margins(0.08)
        style.grid(axes)
        axes.legend(loc="lower right")
        made.draw_without_rendering()
        pixels = axes.transData.transform
        taken = [
            labels.around(float(x), float(y), 4)
            for x, y in pixels([(p["cost"], p["value"]) for p in points])
        ]
        taken += _stair([tuple(pixels((p["cost"], p["value"]))) for p in best])
        taken.append(labels.box_of(axes.get_legend(), made))
        wishes = [labels.Wish(p["cost"], p["value"], model_name(p["target"]), 2) for p in best]
        labels.annotate(axes, wishes, taken, look, farthest=24)
        made.set_layout_engine("none")
    return made


def _stair(corners: Sequence[tuple[float, float]]) -> list[labels.Box]:
    """Where the line of the front runs, in pixels: right from each corner, then up to the next."""
    found: list[labels.Box] = []
    for (x0, y0), (x1, y1) in pairwise(corners):
        found += labels.along((x0, y0), (x1, y0)) + labels.along((x1, y0), (x1, y1))
    return found
