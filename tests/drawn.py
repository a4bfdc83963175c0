"""Where the texts of a drawn figure are, as the renderer says: rectangles that may be turned."""

from __future__ import annotations

import itertools
import math

import numpy as np
from matplotlib.text import Annotation, Text

#: Pixels (of 300 an inch) that rounding may take.
SLACK = 2.0


def corners(text, renderer):
    """The four corners of a text in pixels, its own rotation applied about its anchor."""
    if isinstance(text, Annotation):
        text.update_positions(renderer)
    turn = text.get_rotation()
    text.set_rotation(0)
    extent = Text.get_window_extent(text, renderer)
    text.set_rotation(turn)
    found = np.array([[extent.x0, extent.y0], [extent.x1, extent.y0],
                      [extent.x1, extent.y1], [extent.x0, extent.y1]])  # fmt: skip
    c, s = math.cos(math.radians(turn)), math.sin(math.radians(turn))
    anchor = text.get_transform().transform(text.get_position())
    return (found - anchor) @ np.array([[c, s], [-s, c]]) + anchor if turn else found


def meet(one, other):
    """Whether two convex polygons share more than a rim (separating axis theorem)."""
    for edges in (one, other):
        for start, end in zip(edges, np.roll(edges, -1, axis=0), strict=True):
            normal = np.array([start[1] - end[1], end[0] - start[0]])
            a, b = (shape @ (normal / np.hypot(*normal)) for shape in (one, other))
            if min(a.max(), b.max()) - max(a.min(), b.min()) <= SLACK:
                return False
    return True


def faults(figure):
    """Texts within axes that overlap one another or leave their axes, in words."""
    figure.set_dpi(300)
    renderer = figure.canvas.get_renderer()
    found = []
    for axes in figure.axes:
        frame = axes.get_window_extent(renderer)
        shapes = [(t.get_text(), corners(t, renderer)) for t in axes.texts if t.get_text()]
        for name, shape in shapes:
            low, high = shape.min(axis=0), shape.max(axis=0)
            if (low < frame.min - SLACK).any() or (high > frame.max + SLACK).any():
                found.append(f"{name!r} leaves the axes")
        found += [
            f"{one!r} over {other!r}"
            for (one, a), (other, b) in itertools.combinations(shapes, 2)
            if meet(a, b)
        ]
    return found
