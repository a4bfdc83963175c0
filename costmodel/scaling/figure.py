"""The compound-scaling curve: MACs (and latency) of the members against 2^phi."""

from __future__ import annotations

from pathlib import Path

from costmodel.errors import CostModelError
from costmodel.files import write_atomic
from costmodel.scaling import Scaling

FORMATS = ("png", "svg", "pdf")


def draw(found: Scaling, path: str) -> None:
    """Write the figure; its format is the suffix of ``path``."""
    import io

    form = Path(path).suffix.lstrip(".").lower()
    if form not in FORMATS:
        raise CostModelError(f"cannot draw {path}: write a .png, .svg or .pdf file")
    import matplotlib as mpl
    from matplotlib.figure import Figure
    from matplotlib.ticker import ScalarFormatter

    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axes = figure.add_subplot()
    phis = [row.phi for row in found.rows]
    axes.plot(phis, [row.two_to_phi for row in found.rows], "--", color="0.6", label="2^φ")
    if found.constants is not None:
        axes.plot(
            phis,
            [found.constants.factor**phi for phi in phis],
            ":",
            color="0.4",
            label=f"(α·β²·γ²)^φ = {found.constants.factor:.3f}^φ",
        )
    axes.plot(phis, [r.coefficient_ratio for r in found.rows], "s-", color="C1", ms=4,
              label="coefficients d·w²·r²")  # fmt: skip
    axes.plot(phis, [r.ratio for r in found.rows], "o-", color="C0", label="exact MACs")
    for number, device in enumerate(found.rows[0].latency_s):
        first = found.rows[0].latency_s[device]
        growth = [row.latency_s[device] / first for row in found.rows]
        axes.plot(phis, growth, "^-", ms=4, color=f"C{number + 2}", label=f"latency, {device}")
    axes.set_yscale("log", base=2)
    axes.yaxis.set_major_formatter(ScalarFormatter())
    axes.set_xticks(phis)
    axes.set_xlabel("φ")
    axes.set_ylabel("times the first member")
    axes.set_title(found.title, fontsize=11)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, fontsize=9)
    buffer = io.BytesIO()
    with mpl.rc_context({"svg.hashsalt": "costmodel"}):
        figure.savefig(buffer, format=form, dpi=150)
    write_atomic(path, buffer.getvalue())
