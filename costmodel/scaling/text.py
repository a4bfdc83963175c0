"""A scaling report for people."""

from __future__ import annotations

from collections.abc import Sequence

from costmodel.report.units import seconds
from costmodel.scaling import Scaling
from costmodel.scaling.polynomial import AXES
from costmodel.scaling.search import Search, Trial

#: Twice, within this share.
_NEAR = 0.03


def report(found: Scaling) -> str:
    """The table of members, the check of the constants, the exponents."""
    devices = list(found.rows[0].latency_s)
    head = ["phi", "size", "MACs", "ratio", "2^phi", "d·w²·r²", "depthwise", "params", *devices]
    lines = [
        [str(row.phi), str(row.resolution), f"{row.macs / 1e6:,.1f} M", f"{row.ratio:.3f}",
         f"{row.two_to_phi:g}", f"{row.coefficient_ratio:.3f}",
         f"{100 * row.depthwise_share:.1f} %", f"{row.params / 1e6:.2f} M",
         *(seconds(row.latency_s[d]) for d in devices)]
        for row in found.rows
    ]  # fmt: skip
    parts = [found.title, "", *columns([head, *lines])]
    if found.constants is not None:
        parts += ["", verdict(found)]
    total = found.total
    if total is not None:
        shares = [
            [kind, f"{100 * p.total / total.total:.1f} %",
             *(f"{p.exponent(i):.2f}" for i in range(3))]
            for kind, p in sorted(found.polynomials.items(), key=lambda item: -item[1].total)
        ]  # fmt: skip
        whole = ["network", "100.0 %", *(f"{total.exponent(i):.2f}" for i in range(3))]
        limit = ["in the limit", "", *(f"{total.degree(i)}" for i in range(3))]
        parts += ["", "Exponents of the MACs (local, at the base)", ""]
        parts += columns([["", "share", *AXES], *shares, whole, limit])
        parts += ["", f"MACs = {total.expression}"]
        parts += ["with d, w, r multiples of the base; exact, checked at points not used to solve"]
    if found.why:
        worst = max(found.rows, key=lambda r: abs(r.ratio / r.coefficient_ratio - 1))
        example = f"phi = {worst.phi}: {worst.ratio:.3f} for {worst.coefficient_ratio:.3f}"
        parts += ["", f"MACs grow by other factors than d·w²·r² says ({example}): {found.why}."]
    parts += [f"note: {note}" for note in found.notes]
    return "\n".join(parts) + "\n"


def verdict(found: Scaling) -> str:
    """Whether the constants double the cost: nominally, and in the networks that were built."""
    constants = found.constants
    assert constants is not None
    nominal = (
        f"alpha·beta²·gamma² = {constants.depth:g}·{constants.width:g}²·"
        f"{constants.resolution:g}² = {constants.factor:.4f}"
    )
    word = "close to 2" if constants.doubles else "NOT close to 2: the cost does not double"
    first, last = found.rows[0], found.rows[-1]
    span = last.phi - first.phi
    built = (last.ratio / first.ratio) ** (1 / span) if span else 1.0
    return f"{nominal}, {word}; built networks grow by {built:.3f} a unit of phi"


def search_report(found: Search) -> str:
    """Constants that double MACs, and those that double the latency of each device."""
    parts = [f"{len(found.trials)} networks at phi = 1", ""]
    head = ["doubles", "alpha, beta, gamma", "nominal", "MACs", *found.devices]

    def line(name: str, trial: Trial) -> list[str]:
        return [
            name, str(trial.constants), f"{trial.constants.factor:.3f}", f"{trial.macs:.3f}",
            *(f"{trial.latency[d]:.3f}" for d in found.devices),
        ]  # fmt: skip

    rows = [line("MACs", trial) for trial in found.doubling(None)]
    for device in found.devices:
        rows += [line(f"latency on {device}", trial) for trial in found.doubling(device)]
    parts += columns([head, *rows])
    parts += ["", *(_compared(found, device) for device in found.devices)]
    return "\n".join(parts) + "\n"


def _compared(found: Search, device: str) -> str:
    """How far doubling the latency is from doubling the MACs."""
    doubled = [t for t in found.trials if abs(t.latency[device] / 2 - 1) <= _NEAR]
    plain = found.doubling(None, 1)[0]
    other = (
        f"doubling the MACs ({plain.constants}) takes {plain.latency[device]:.2f} times the latency"
    )
    if not doubled:
        return f"no constants of the grid double the latency on {device}; {other}"
    least, most = min(doubled, key=lambda t: t.macs), max(doubled, key=lambda t: t.macs)
    return (
        f"the latency on {device} is doubled by {least.macs:.2f} ({least.constants}) to "
        f"{most.macs:.2f} ({most.constants}) times the MACs; {other}"
    )


def columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines with the columns aligned: the first to the left, the others to the right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
