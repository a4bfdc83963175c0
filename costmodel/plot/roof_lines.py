"""The lines of a roofline figure, and the texts along them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from costmodel.plot.labels import (
    Box,
    Wish,
    along,
    annotate,
    around,
    clear,
    crowding,
    frame_of,
    measure,
)
from costmodel.plot.names import short

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from costmodel.plot.style import Theme

_SIZE = 5.8
_Point = tuple[float, float]


def lines(axes: Axes, panel: Mapping[str, Any], look: Theme) -> None:
    """Draw the roofs between the limits of ``axes``, the prediction's own ones strong."""
    for (start, end), roof in _segments(axes, panel):
        strong = roof.get("active", roof.get("level") == "DRAM")
        dashes: Any = "-" if strong else (0, (4, 2)) if "dtypes" in roof else (0, (1, 1.5))
        axes.plot(
            *zip(start, end, strict=True), color=look.ink if strong else look.faint,
            lw=1.2 if strong else 0.7, ls=dashes, zorder=2,
        )  # fmt: skip
    for ridge in _ridges(panel):
        axes.plot(ridge["intensity"], ridge["flops_per_s"], "o", ms=2.6, zorder=3,
                  color=look.ink if ridge["own"] else look.faint)  # fmt: skip


def taken_by(axes: Axes, panel: Mapping[str, Any]) -> list[Box]:
    """Where the lines run, in pixels."""
    to = axes.transData.transform
    found: list[Box] = []
    for (start, end), _ in _segments(axes, panel):
        found += along(tuple(to(start)), tuple(to(end)))
    return found


def write(axes: Axes, panel: Mapping[str, Any], taken: list[Box], look: Theme) -> list[Box]:
    """The name and rate of every roof and the intensity of ridge points, each in a free place.

    Returns where the texts are, which is added to ``taken`` too.
    """
    before = len(taken)
    segments = list(_segments(axes, panel))
    apart = []
    for segment, roof in sorted(segments, key=lambda item: not item[1].get("active", True)):
        strong = roof.get("active", roof.get("level") == "DRAM")
        colour = look.ink if strong else look.faint
        if "dtypes" in roof:
            _compute(axes, roof, segment, taken, colour)
        else:
            apart += _memory(axes, roof, segment, taken, colour)
    annotate(axes, apart, taken, look, _SIZE, look.faint, texts=taken[before:])
    wishes = [
        Wish(ridge["intensity"], ridge["flops_per_s"], f"{ridge['intensity']:.3g}", 1.5)
        for ridge in sorted(_ridges(panel), key=lambda ridge: not ridge["own"])
    ]
    at = [axes.transData.transform((wish.x, wish.y)) for wish in wishes]
    dots = [around(float(x), float(y), 1.0) for x, y in at]
    annotate(axes, wishes, taken, look, 5.4, look.faint, 24.0, taken[before:], dots)
    return taken[before:]


def _segments(
    axes: Axes, panel: Mapping[str, Any]
) -> Iterator[tuple[tuple[_Point, _Point], Mapping[str, Any]]]:
    left, right = axes.get_xlim()
    bottom = axes.get_ylim()[0]
    sides, tops = panel["roofs"]["memory"], panel["roofs"]["compute"]
    fastest = max(side["bytes_per_s"] for side in sides)
    highest = max(top["flops_per_s"] for top in tops)
    for top in tops:
        rate = top["flops_per_s"]
        yield ((max(left, rate / fastest), rate), (right, rate)), top
    for side in sides:
        speed = side["bytes_per_s"]
        start = max(left, bottom / speed)
        yield ((start, start * speed), (highest / speed, highest)), side


def _ridges(panel: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The ridge points that are shown: of the prediction's dtype, and of all with main memory."""
    own = {tuple(top["dtypes"]) for top in panel["roofs"]["compute"] if top["active"]}
    return [
        {**ridge, "own": tuple(ridge["dtypes"]) in own}
        for ridge in panel["ridges"]
        if tuple(ridge["dtypes"]) in own or ridge["level"] == "DRAM"
    ]


def _compute(
    axes: Axes, roof: Mapping[str, Any], segment: tuple[_Point, _Point], taken: list[Box],
    colour: str,
) -> None:  # fmt: skip
    """Above the line as far right as there is room, else below it, else left of its start.

    A roof that others leave no room for goes without a text, unless it is the prediction's own.
    """
    text = f"{', '.join(roof['dtypes'])} {short(roof['flops_per_s'])}"
    frame, unit, _ = frame_of(axes)
    width, height = measure(axes, text, _SIZE)
    start, end = (axes.transData.transform(point) for point in segment)
    gap = 1.5 * unit
    right = float(end[0]) - width - unit
    slides = [right - 6 * unit * i for i in range(int((right - float(start[0])) / (6 * unit)))]
    places = [(x, float(end[1]) + gap) for x in [right, *slides]]
    places += [(x, float(end[1]) - gap - height) for x in [right, *slides]]
    places += [
        (float(start[0]) - width - gap * (1 + 4 * away), float(start[1]) + rise)
        for away in range(4)
        for rise in (-height / 2, gap)
    ]
    boxes = [Box(x, y, x + width, y + height) for x, y in places]
    boxes = [box for box in boxes if box.inside(frame)] or boxes[:1]
    met = crowding(boxes, taken)
    box = boxes[int(met.argmin())]  # the first free one, else the freest
    if met.min() and not roof["active"]:
        return
    x, y = axes.transData.inverted().transform((box.left, box.bottom))
    ground = {"facecolor": axes.get_facecolor(), "edgecolor": "none", "pad": 0.2, "alpha": 0.8}
    axes.text(
        x, y, text, fontsize=_SIZE, color=colour, va="bottom", zorder=3, bbox=ground
    ).set_in_layout(False)
    taken.append(Box(box.left - 3 * unit, box.bottom, box.right + 3 * unit, box.top))


def _memory(
    axes: Axes, roof: Mapping[str, Any], segment: tuple[_Point, _Point], taken: list[Box],
    colour: str,
) -> list[Wish]:  # fmt: skip
    """Along the line at the first free stretch, above it or else below.

    Where there is none, the label that is wanted beside the line.
    """
    text = f"{roof['level']} {short(roof['bytes_per_s'])}B/s"
    frame, unit, _ = frame_of(axes)
    width, height = measure(axes, text, _SIZE)
    (x0, y0), (x1, y1) = (axes.transData.transform(point) for point in segment)
    length = math.hypot(x1 - x0, y1 - y0)
    if length < width * 1.1:
        return []
    ex, ey = (x1 - x0) / length, (y1 - y0) / length
    options = []
    step = 4 * unit
    parts = 2 * math.ceil(width / height)
    for base in (2.6 * unit, -2.6 * unit - 0.8 * height):  # of the text, from the line
        lift = base + height / 2
        for index in range(1 + int((length - width) / step)):
            at = 3 * unit + index * step
            centres = [at + part * width / parts for part in range(parts + 1)]
            boxes = [
                around(x0 + c * ex - lift * ey, y0 + c * ey + lift * ex, height * 0.5)
                for c in centres
            ]
            if all(box.inside(frame) for box in boxes):
                options.append((at, base, boxes))
    free = next((o for o in options if clear(o[2], taken)), None)
    if free is None:
        x, y = axes.transData.inverted().transform((x0 + length * ex / 5, y0 + length * ey / 5))
        return [Wish(float(x), float(y), text, 1.0)]
    at, base, boxes = free
    corner = (x0 + at * ex - base * ey, y0 + at * ey + base * ex)
    x, y = axes.transData.inverted().transform(corner)
    axes.text(
        x, y, text, fontsize=_SIZE, color=colour, rotation=math.degrees(math.atan2(ey, ex)),
        rotation_mode="anchor", va="baseline", zorder=3,
    ).set_in_layout(False)  # fmt: skip
    taken += boxes
    return []
