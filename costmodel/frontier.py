"""Accuracy against cost, with the upper-left frontier: a small figure, from values or a `Choice`."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from costmodel.errors import CostModelError
from costmodel.files import write_atomic

if TYPE_CHECKING:
    from costmodel.pick import Choice

FORMATS = ("png", "svg", "pdf")
#: More points than this carry no names, except those on the front.
_NAMED = 30


@dataclass(frozen=True, slots=True)
class Point:
    """A network: its cost on the logarithmic axis, its accuracy in percent."""

    name: str
    cost: float
    top1: float


def frontier(points: Sequence[Point]) -> list[Point]:
    """The points that no other beats or equals in both cost and accuracy, cheapest first."""
    found: list[Point] = []
    for point in sorted(points, key=lambda p: (p.cost, -p.top1)):
        if not found or point.top1 > found[-1].top1:
            found.append(point)
    return found


def draw(panels: Sequence[tuple[str, Sequence[Point]]], path: str) -> None:
    """Panels side by side, each a label of its cost axis and its points.

    Raises `CostModelError` for a suffix that is no figure's and for a path that cannot be written.
    """
    form = Path(path).suffix.lstrip(".").lower()
    if form not in FORMATS:
        raise CostModelError(f"cannot draw {path}: write a .png, .svg or .pdf file")
    import matplotlib as mpl
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.6 * len(panels), 4.0), layout="constrained")
    axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axis, (label, points) in zip(axes, panels, strict=True):
        front = frontier(points)
        axis.plot([p.cost for p in points], [p.top1 for p in points], "o", ms=4, color="0.7")
        axis.plot([p.cost for p in front], [p.top1 for p in front], "o-", ms=5, color="C0")
        for point in points if len(points) <= _NAMED else front:
            axis.annotate(
                point.name, (point.cost, point.top1), xytext=(4, -9), textcoords="offset points",
                fontsize=7, color="C0" if point in front else "0.45",
            )  # fmt: skip
        axis.set_xscale("log")
        axis.margins(x=0.22, y=0.1)
        axis.set_xlabel(label)
        axis.grid(alpha=0.3, which="both", lw=0.5)
    axes[0].set_ylabel("top-1 accuracy, %")
    buffer = io.BytesIO()
    with mpl.rc_context({"svg.hashsalt": "costmodel"}):
        figure.savefig(buffer, format=form, dpi=150)
    write_atomic(path, buffer.getvalue())


def draw_choice(found: Choice, path: str) -> None:
    """The networks of a `Choice` by latency."""
    points = [Point(row.model, row.latency_s * 1e3, row.top1) for row in found.rows]
    draw([(f"predicted latency on {found.hw}, ms", points)], path)
