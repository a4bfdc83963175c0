"""How pictures look: colours that survive colour blindness and grey print, sizes of paper columns.

The palette is that of Okabe and Ito ("Color Universal Design", 2008). Colour never stands alone:
each class has its own marker, and neighbouring areas are parted by lines and named.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from costmodel.errors import CostModelError
from costmodel.files import write_atomic
from costmodel.plot.names import short

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

Columns = Literal["one", "two"]
#: Inches: the columns of a two-column paper (IEEE and ACM: 3.5 and about 7.16).
WIDTHS: dict[str, float] = {"one": 3.5, "two": 7.16}
FORMATS = ("png", "svg", "pdf")


@dataclass(frozen=True, slots=True)
class Look:
    """Colour and marker of a class of ops; the marker as matplotlib names it."""

    colour: str
    marker: str


#: Classes of op families, in the order of legends.
CLASSES: dict[str, Look] = {
    "convolution": Look("#0072b2", "o"),
    "pointwise": Look("#56b4e9", "s"),
    "depthwise": Look("#d55e00", "D"),
    "matmul": Look("#009e73", "^"),
    "attention": Look("#cc79a7", "v"),
    "normalization": Look("#e69f00", "P"),
    "elementwise": Look("#f0e442", "X"),
    "other": Look("#8c8c8c", "h"),
}
MEMBERS = {
    "grouped": "convolution",
    "linalg": "matmul",
    "recurrent": "matmul",
    "quantized": "matmul",
    "softmax": "attention",
    "batch_norm": "normalization",
    "activation": "elementwise",
}
BOUNDS: dict[str, Look] = {
    "compute": Look("#56b4e9", "o"),
    "memory": Look("#d55e00", "s"),
    "overhead": Look("#e69f00", "^"),
}
#: For curves and overlaid models: colour and marker by position.
SERIES = tuple(CLASSES[name] for name in ("convolution", "depthwise", "matmul", "attention",
                                          "normalization", "pointwise", "other"))  # fmt: skip


@dataclass(frozen=True, slots=True)
class Theme:
    """Paper or night."""

    back: str
    ink: str
    faint: str
    grid: str


LIGHT = Theme("#ffffff", "#1a1a1a", "#6b6b6b", "#e3e3e3")
DARK = Theme("#14171c", "#eceff4", "#a3abb8", "#2c323c")


def class_of(family: str) -> str:
    """The class that an op family is drawn as."""
    name = MEMBERS.get(family, family)
    return name if name in CLASSES else "other"


def theme(dark: bool) -> Theme:
    """The colours of ground and ink."""
    return DARK if dark else LIGHT


@contextmanager
def styled(dark: bool = False) -> Iterator[Theme]:
    """matplotlib's settings for a paper: 8-point text and thin lines."""
    import matplotlib as mpl

    look = theme(dark)
    settings: Any = {
        "font.family": "DejaVu Sans", "font.size": 7.5, "axes.titlesize": 8, "axes.labelsize": 7.5,
        "xtick.labelsize": 7, "ytick.labelsize": 7, "legend.fontsize": 7, "axes.linewidth": 0.6,
        "lines.linewidth": 1.0, "axes.spines.top": False, "axes.spines.right": False,
        "figure.facecolor": look.back, "axes.facecolor": look.back, "savefig.facecolor": look.back,
        "text.color": look.ink, "axes.labelcolor": look.ink, "axes.edgecolor": look.faint,
        "xtick.color": look.faint, "ytick.color": look.faint, "xtick.labelcolor": look.ink,
        "ytick.labelcolor": look.ink, "grid.color": look.grid, "grid.linewidth": 0.5,
        "axes.axisbelow": True, "legend.frameon": False,
    }  # fmt: skip
    with mpl.rc_context(settings):
        yield look


def figure(columns: Columns = "two", height: float = 2.6) -> Figure:
    """An empty figure as wide as one or two paper columns, ``height`` in inches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    made = Figure(figsize=(WIDTHS[columns], height), layout="constrained")
    FigureCanvasAgg(made)
    return made


def grid(axes: Axes) -> None:
    """Faint lines behind the data."""
    axes.grid(True, which="major")


def suffix(path: str | Path) -> str:
    """The format that a file's name asks for. Raises `CostModelError` for one that is not made."""
    found = Path(path).suffix.lower().lstrip(".")
    if found not in (*FORMATS, "html"):
        raise CostModelError(
            f"cannot draw {path}: its name must end in .{', .'.join(FORMATS)} or .html"
        )
    return found


def encode(picture: Figure, form: str) -> bytes:
    """The picture as ``png`` (300 dpi), ``svg`` or ``pdf``; equal pictures give equal bytes."""
    import matplotlib as mpl

    stream = io.BytesIO()
    dates = {"png": None, "svg": {"Date": None}, "pdf": {"CreationDate": None}}
    # Text stays text in PDF, as journals ask, and becomes outlines in SVG, as fonts differ.
    with mpl.rc_context({"svg.hashsalt": "costmodel", "svg.fonttype": "path", "pdf.fonttype": 42}):
        picture.savefig(stream, format=form, dpi=300, metadata=dates[form])
    return stream.getvalue()


def save(picture: Figure, path: str | Path) -> None:
    """Write the picture to ``path`` in the format of its suffix, whole or not at all."""
    write_atomic(path, encode(picture, suffix(path)))


def plain_ticks(axis: Axis) -> None:
    """Numbers as people say them (400 M, not 4 x 10^8) at the ticks of a logarithmic axis."""
    from matplotlib.ticker import LogFormatterSciNotation

    class Plain(LogFormatterSciNotation):
        def __call__(self, x: float, pos: int | None = None) -> str:
            return short(x).strip() if super().__call__(x, pos) else ""

    axis.set_major_formatter(Plain(labelOnlyBase=False))
    axis.set_minor_formatter(Plain(labelOnlyBase=False, minor_thresholds=(1, 0.4)))
