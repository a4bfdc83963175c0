"""A report in a notebook: the totals, a bar per family as inline SVG, and the module tree."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from costmodel.report import units
from costmodel.report.advice import advice, without_device
from costmodel.report.formats import basis, where
from costmodel.report.groups import Group, groups

if TYPE_CHECKING:
    from costmodel.report.findings import Findings

#: Colour-blind-safe (Okabe and Ito, 2008) and apart in grey.
_COLOURS = {"compute": "#56b4e9", "memory": "#d55e00", "overhead": "#e69f00", None: "#0072b2"}
_ROW, _LABEL, _LENGTH = 20, 130, 260


def to_html(report: Findings) -> str:
    """A fragment of HTML that needs no script and no network."""
    timed = report.prediction is not None
    head = ["module", "params", "MACs", "FLOPs", "bytes", *(["time", "bound"] if timed else [])]
    rows = "".join(_row(line, timed) for line in groups(report, "module"))
    titles = "".join(f"<th>{escape(title)}</th>" for title in head)
    sentence = advice(report.prediction) if report.prediction else without_device(report.table)
    return (
        f"<div><p><b>{escape(report.target)}</b><br>{escape(_summary(report))}</p>"
        f"{_warning(report)}{_bars(report)}<p>{escape(sentence)}</p>"
        f"<table><thead><tr>{titles}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _summary(report: Findings) -> str:
    least = "" if report.complete else "at least "
    words = (
        f"{units.count(report.params)} params, {least}{units.count(report.macs)} MACs, "
        f"{least}{units.count(report.flops)} FLOPs, {least}{units.size(report.table.total.bytes)}"
    )
    if report.prediction is None:
        return words
    low, high = map(units.seconds, report.prediction.interval_s)
    latency = units.seconds(report.prediction.latency_s)
    return f"{words}; {report.prediction.hw}: {latency} ({low} to {high}), {basis(report)}"


def _warning(report: Findings) -> str:
    if report.complete:
        return ""
    names = ", ".join(f"{u.op} ({u.count} × in {where(u.module)})" for u in report.unsupported)
    return f"<p><b>Incomplete: no cost rule for {escape(names)}.</b></p>"


def _row(line: Group, timed: bool) -> str:
    indent = "&nbsp;" * 3 * (line.level - 1)
    least = "" if line.complete else "≥ "
    totals = line.totals
    cells = [
        units.count(totals.params),
        least + units.count(totals.macs),
        least + units.count(totals.flops),
        least + units.size(totals.bytes),
    ]
    if timed:
        cells += [units.seconds(line.latency_s or 0.0), line.bound or ""]
    name = f'<td style="text-align:left">{indent}{escape(line.name)}</td>'
    return f"<tr>{name}{''.join(f'<td>{escape(cell)}</td>' for cell in cells)}</tr>"


def _bars(report: Findings) -> str:
    """Share of the time (or MACs) by family, as SVG."""
    lines = [line for line in groups(report, "family") if line.share >= 0.005]
    if not lines:
        return ""
    scale = lines[0].share
    parts = []
    for index, line in enumerate(lines):
        y, length = index * _ROW, _LENGTH * line.share / scale
        parts.append(
            f'<text x="{_LABEL - 6}" y="{y + 14}" text-anchor="end">{escape(line.name)}</text>'
            f'<rect x="{_LABEL}" y="{y + 3}" width="{length:.1f}" height="{_ROW - 6}" '
            f'fill="{_COLOURS[line.bound]}"/>'
            f'<text x="{_LABEL + length + 6:.1f}" y="{y + 14}">{units.percent(line.share)}</text>'
        )
    of = "time" if report.prediction else "MACs"
    width, height = _LABEL + _LENGTH + 60, len(lines) * _ROW
    return (
        f'<svg width="{width}" height="{height}" role="img" aria-label="{of} by family" '
        f'font-family="sans-serif" font-size="12" fill="currentColor">{"".join(parts)}</svg>'
    )
