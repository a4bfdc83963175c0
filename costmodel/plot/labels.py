"""Labels beside points, none over another, over a point that matters, or over the edge.

Greedy: the most important label first takes the nearest free place around its point. One that
finds no place is left out; a label that lies or hides another is worse than none. All rectangles
are in pixels, so places are looked for when axes and limits are final.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from costmodel.plot.style import Theme

#: Places that are tried across the axes, in each direction.
_GRID = 48
#: A label this far from its point gets a line to it.
_FAR = 4.0


class Box(NamedTuple):
    """A rectangle in pixels."""

    left: float
    bottom: float
    right: float
    top: float

    def inside(self, other: Box) -> bool:
        return (
            self.left >= other.left
            and self.right <= other.right
            and self.bottom >= other.bottom
            and self.top <= other.top
        )


@dataclass(frozen=True, slots=True)
class Wish:
    """A label wanted at a data point whose marker has ``radius`` points."""

    x: float
    y: float
    text: str
    radius: float


def around(x: float, y: float, reach: float) -> Box:
    """The square about a point."""
    return Box(x - reach, y - reach, x + reach, y + reach)


def along(start: tuple[float, float], end: tuple[float, float], reach: float = 1.0) -> list[Box]:
    """Small squares along a line, which a label must not cross."""
    length = math.hypot(end[0] - start[0], end[1] - start[1])
    steps = max(1, int(length / max(reach, 1.0)))
    return [
        around(
            start[0] + (end[0] - start[0]) * i / steps,
            start[1] + (end[1] - start[1]) * i / steps,
            reach,
        )
        for i in range(steps + 1)
    ]


def clear(boxes: Sequence[Box], taken: Sequence[Box]) -> bool:
    """Whether none of ``boxes`` meets a taken one."""
    return not crowding(boxes, taken).any()


def crowding(boxes: Sequence[Box], taken: Sequence[Box]) -> NDArray[np.int_]:
    """For each box how many taken ones it meets."""
    if not boxes or not taken:
        return np.zeros(len(boxes), int)
    left, bottom, right, top = np.array(boxes, float).T[:, :, None]
    other = np.array(taken, float).T[:, None, :]
    meets = (left < other[2]) & (other[0] < right) & (bottom < other[3]) & (other[1] < top)
    found: NDArray[np.int_] = meets.sum(axis=1)
    return found


def place(
    size: tuple[float, float], at: tuple[float, float], reach: float, taken: Sequence[Box],
    frame: Box, uncrossed: Sequence[Box] = (), markers: Sequence[Box] = (), near: float = _FAR,
) -> tuple[Box, float] | None:  # fmt: skip
    """The free rectangle of ``size`` nearest to ``at``, and its distance from that point.

    ``reach`` is the radius of the marker there. Farther than ``near`` from it a label gets a line,
    which crosses none of ``uncrossed``; nearer it has none, and must be clearly farther from all
    other ``markers``, or it would seem to be the name of one of those.
    """
    width, height = size
    free_x, free_y = frame.right - frame.left - width, frame.top - frame.bottom - height
    if free_x <= 0 or free_y <= 0:
        return None
    lefts = [*np.linspace(frame.left, frame.left + free_x, _GRID),
             at[0] - width / 2, at[0] + reach, at[0] - reach - width]  # fmt: skip
    bottoms = [*np.linspace(frame.bottom, frame.bottom + free_y, _GRID),
               at[1] - height / 2, at[1] + reach, at[1] - reach - height]  # fmt: skip
    boxes = [Box(x, y, x + width, y + height) for x in lefts for y in bottoms]
    boxes = [box for box in boxes if box.inside(frame)]
    free = crowding(boxes, taken) == 0
    others = [marker for marker in markers if math.dist(_middle(marker), at) > 0.5]
    far = [_distance(box, at) for box in boxes]
    for index in sorted(np.flatnonzero(free), key=lambda i: far[i]):
        box, gap = boxes[index], far[index] - reach
        if gap <= near:
            found = all(_apart(box, other) >= max(gap, 0.0) + near / 3 for other in others)
        else:
            found = clear(along(at, _middle(box)), uncrossed)
        if found:
            return box, far[index]
    return None


def _apart(one: Box, other: Box) -> float:
    """Distance between two rectangles, 0 where they meet."""
    dx = max(one.left - other.right, 0.0, other.left - one.right)
    dy = max(one.bottom - other.top, 0.0, other.bottom - one.top)
    return math.hypot(dx, dy)


def _distance(box: Box, at: tuple[float, float]) -> float:
    dx = max(box.left - at[0], 0.0, at[0] - box.right)
    dy = max(box.bottom - at[1], 0.0, at[1] - box.top)
    return math.hypot(dx, dy)


def _middle(box: Box) -> tuple[float, float]:
    return (box.left + box.right) / 2, (box.bottom + box.top) / 2


def frame_of(axes: Axes) -> tuple[Box, float, Any]:
    """The inside of the axes, pixels a point (1/72 inch), and the renderer."""
    renderer: Any = axes.figure.canvas.get_renderer()  # type: ignore[attr-defined]
    extent = axes.get_window_extent(renderer)
    return (
        Box(extent.x0, extent.y0, extent.x1, extent.y1),
        float(renderer.points_to_pixels(1.0)),
        renderer,
    )


def box_of(artist: Any, figure: Any) -> Box:
    """The rectangle of a drawn text, legend or the like."""
    extent = artist.get_window_extent(figure.canvas.get_renderer())
    return Box(extent.x0, extent.y0, extent.x1, extent.y1)


def measure(axes: Axes, text: str, size: float) -> tuple[float, float]:
    """Width and height of a text in pixels."""
    _, _, renderer = frame_of(axes)
    drawn = axes.text(0, 0, text, fontsize=size, transform=None)
    extent = drawn.get_window_extent(renderer)
    drawn.remove()
    return float(extent.width), float(extent.height)


def annotate(
    axes: Axes, wishes: Sequence[Wish], taken: list[Box], look: Theme, size: float = 6.0,
    colour: str | None = None, farthest: float = 80.0, texts: Sequence[Box] = (),
    markers: Sequence[Box] = (),
) -> list[str]:  # fmt: skip
    """Write the labels that find a place, most important first; returns their texts.

    What they take is added to ``taken``. ``farthest`` is in points. A line to a label crosses none
    of ``texts`` nor of the labels; a label without a line is closest to its own of ``markers``.
    """
    frame, unit, _ = frame_of(axes)
    back = axes.transData.inverted().transform
    written: list[str] = []
    uncrossed = list(texts)
    for wish in wishes:
        x, y = (float(value) for value in axes.transData.transform((wish.x, wish.y)))
        width, height = measure(axes, wish.text, size)
        reach = (wish.radius + 1.0) * unit
        room = (width + 2 * unit, height + unit)
        found = place(room, (x, y), reach, taken, frame, uncrossed, markers, _FAR * unit)
        if found is None or found[1] > reach + farthest * unit:
            continue
        box, distance = found
        far = distance > reach + _FAR * unit
        line = {"arrowstyle": "-", "color": look.faint, "lw": 0.5, "shrinkA": 0.0,
                "shrinkB": wish.radius}  # fmt: skip
        axes.annotate(
            wish.text, (wish.x, wish.y), xytext=tuple(back(_middle(box))), ha="center",
            va="center", fontsize=size, color=colour or look.ink, zorder=6,
            arrowprops=line if far else None,
        ).set_in_layout(False)  # fmt: skip
        taken.append(box)
        uncrossed.append(box)
        if far:
            taken += along((x, y), _middle(box))
        written.append(wish.text)
    return written
