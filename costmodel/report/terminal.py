"""The report on a terminal: where the cost sits first, then the module tree.

A terminal gets colour and bars; a pipe or a file gets the same words and numbers without them.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from costmodel.report import units
from costmodel.report.advice import advice, without_device
from costmodel.report.formats import basis, unmasked, where
from costmodel.report.groups import Group, groups, largest
from costmodel.table import By

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from costmodel.report.findings import Findings

WIDTH = 80
BAR = 10
_COLOURS = {"compute": "cyan", "memory": "magenta", "overhead": "yellow", None: "blue"}
_EIGHTHS = " ▏▎▍▌▋▊▉█"


def text(report: Findings, by: By = "module", depth: int | None = None) -> str:
    """The report as plain text, without colour and bars, at most 80 columns wide."""
    from rich.console import Console

    stream = io.StringIO()
    console = Console(file=stream, width=WIDTH, color_system=None, highlight=False, _environ={})
    render(report, console, by, depth)
    return "".join(f"{line.rstrip()}\n" for line in stream.getvalue().splitlines())


def render(report: Findings, console: Console, by: By = "module", depth: int | None = None) -> None:
    """Print the report; bars only where the console is a terminal."""
    from rich.text import Text

    def say(words: str, style: str = "") -> None:
        console.print(Text(words, style=style), soft_wrap=False)

    for line in _warnings(report):
        say(line, "bold red")
    for index, line in enumerate(_header(report)):
        say(line, "" if index else "bold")
    if by != "family":
        measure, verb = ("time", "goes") if report.prediction else ("MACs", "are")
        top = largest(groups(report, "family"))
        if top:
            say(f"\nWhere 80 % of the {measure} {verb}", "bold")
            console.print(_table(report, top, "family", console.is_terminal))
    sentence = advice(report.prediction) if report.prediction else without_device(report.table)
    say(f"\n{sentence}", "green")
    lines = groups(report, by, depth)
    if lines:
        say("")
        console.print(_table(report, lines, by, console.is_terminal))
    for note in _notes(report):
        say(f"note: {note}", "dim")


def _warnings(report: Findings) -> list[str]:
    if report.complete:
        return []
    lines = ['INCOMPLETE: ops without a cost rule; every count below is "at least".']
    found = (f"  {item.count} × {item.op} in {where(item.module)}" for item in report.unsupported)
    return [*lines, *found]


def _header(report: Findings) -> list[str]:
    table, prediction = report.table, report.prediction
    inputs = ", ".join(f"{'x'.join(map(str, s.shape))} {s.dtype}" for s in table.info.inputs)
    mode = "train (forward and backward)" if table.info.mode == "train" else "eval"
    least = "" if table.complete else "at least "
    work = (
        f"params {units.count(report.params)}, MACs {least}{units.count(report.macs)}, "
        f"FLOPs {least}{units.count(report.flops)}"
    )
    traffic = (
        f"bytes {least}{units.size(table.total.bytes)} "
        f"(read {units.size(report.bytes_read)}, written {units.size(report.bytes_written)}), "
        f"peak activations {units.size(report.peak_activation_bytes)}"
    )
    lines = [report.target, f"input {inputs}, {mode}", work, traffic]
    if table.total.masked_macs:
        lines.append(
            f"causal masks hide {table.total.masked_macs:,} MACs: {unmasked(report):,} without them"
        )
    if prediction is None:
        return lines
    setting = [prediction.hw, prediction.dtype, prediction.execution, prediction.layout]
    if prediction.threads:
        setting.append(f"{prediction.threads} threads")
    low, high = map(units.seconds, prediction.interval_s)
    energy = f", {units.joules(prediction.energy_j)}" if prediction.energy_j is not None else ""
    shares = ", ".join(f"{name} {units.percent(part)}" for name, part in prediction.bound.items())
    latency = (
        f"latency {least}{units.seconds(prediction.latency_s)} "
        f"({units.percent(prediction.coverage)} interval {low} to {high}){energy}"
    )
    return [*lines, "", ", ".join(setting), latency, f"bound by {shares}", basis(report)]


def _table(report: Findings, lines: list[Group], by: str, bars: bool) -> Table:
    from rich.table import Table
    from rich.text import Text

    timed = report.prediction is not None
    table = Table(box=None, pad_edge=False, padding=(0, 1), header_style="underline")
    table.add_column(by, overflow="fold", ratio=1)
    columns = ["params", "MACs", "bytes", *(["time"] if timed else []), "share"]
    for name in columns:
        table.add_column(name, justify="right", no_wrap=True)
    if bars:
        table.add_column("", width=BAR, no_wrap=True)
    if timed:
        table.add_column("bound", no_wrap=True)
    scale = max((line.share for line in lines), default=0.0)
    for line in lines:
        least = "" if line.complete else "≥ "
        cells = [
            "  " * (line.level - 1) + line.name,
            units.count(line.totals.params),
            least + units.count(line.totals.macs),
            least + units.size(line.totals.bytes),
            *([units.seconds(line.latency_s or 0.0)] if timed else []),
            units.percent(line.share),
        ]
        row = [Text(cell) for cell in cells]
        if bars:
            row.append(Text(bar(line.share, scale), style=_COLOURS[line.bound]))
        if timed:
            row.append(Text(line.bound or "", style=_COLOURS[line.bound]))
        table.add_row(*row)
    return table


def bar(share: float, scale: float, width: int = BAR) -> str:
    """A bar of ``width`` cells for the largest share, in steps of an eighth of a cell."""
    if scale <= 0:
        return ""
    eighths = round(8 * width * share / scale)
    full, rest = divmod(eighths, 8)
    return _EIGHTHS[8] * full + (_EIGHTHS[rest] if rest else "")


def _notes(report: Findings) -> list[str]:
    predicted = report.prediction.notes if report.prediction else ()
    return [*report.notes, *report.table.info.notes, *predicted]
