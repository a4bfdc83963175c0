"""``costmodel pick``: networks that fit a budget."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from costmodel.errors import CostModelError
from costmodel.files import write_atomic

if TYPE_CHECKING:
    from costmodel.pick import Choice

#: Costs that a figure can show, and their columns.
_AXES = {"latency": "latency_s", "macs": "macs", "params": "params", "energy": "energy_j"}
_POSITIVE = click.FloatRange(min=0, min_open=True)


@click.command("pick")
@click.argument("targets", nargs=-1)
@click.option("--hw", required=True, metavar="NAME[:ENGINE]", help="The device.")
@click.option("--dtype", default="", metavar="D", help="Arithmetic.  [the device's default]")
@click.option("--latency", type=_POSITIVE, metavar="MS", help="At most so many milliseconds.")
@click.option("--memory", type=_POSITIVE, metavar="MB", help="Weights and activations together.")
@click.option("--energy", type=_POSITIVE, metavar="MJ", help="Millijoules a run.")
@click.option("--battery", type=_POSITIVE, metavar="WH", help="A battery that lasts for --runs.")
@click.option("--runs", type=click.IntRange(min=1), metavar="N", help="Runs on one battery.")
@click.option("--macs", type=_POSITIVE, metavar="M", help="At most so many million MACs.")
@click.option("--params", type=_POSITIVE, metavar="M", help="At most so many million parameters.")
@click.option(
    "--accuracy", metavar="CSV", help="Accuracy table with columns model, top1, img_size."
)
@click.option("--sweep", "stored", metavar="FILE",
              help="File of costmodel sweep.  [$COSTMODEL_SWEEP, else sweep.parquet]")  # fmt: skip
@click.option("--top", type=click.IntRange(min=1), default=10, show_default=True,
              help="Lines beside the Pareto front.")  # fmt: skip
@click.option("--plot", metavar="FILE", help="Draw accuracy against cost: .png, .svg or .pdf.")
@click.option("--against", type=click.Choice(tuple(_AXES)), default="latency", show_default=True,
              help="The cost in the figure.")  # fmt: skip
@click.option("--format", "form", type=click.Choice(("table", "json")), default="table",
              show_default=True)  # fmt: skip
@click.option("-o", "--output", metavar="FILE", help="Write there instead of to stdout.")
def pick(
    targets: tuple[str, ...],
    hw: str,
    dtype: str,
    accuracy: str | None,
    stored: str | None,
    top: int,
    plot: str | None,
    against: str,
    form: str,
    output: str | None,
    **limits: Any,
) -> None:
    """Find the networks that fit a budget.

    Accuracy comes from a CSV (timm's results format), latency from a file of costmodel sweep.
    With TARGETs, only rows of those networks count, and they are analysed on the spot.
    """
    from costmodel import accuracy as table
    from costmodel.pick import pick as run
    from costmodel.setting import setting

    setting(hw, dtype=dtype or None)
    budget = _budget(limits)
    if accuracy is None:
        raise CostModelError("give the accuracy of networks with --accuracy CSV, as timm's results")
    scores = table.read(accuracy)
    if targets:
        wanted = set(targets)
        scores = [s for s in scores if wanted & {s.target, s.model, f"timm:{s.model}"}]
        if not scores:
            raise CostModelError(f"{accuracy} has none of {', '.join(targets)}")
        rows = _analysed(scores, hw, dtype)
    else:
        rows = _stored(stored)
    found = run(scores, rows, hw, budget, dtype)
    if plot is not None:
        from costmodel.plot import pareto, style

        style.save(pareto.draw(pareto.data(found.to_dict(), _AXES[against])), plot)
    if form == "json":
        page = json.dumps(found.to_dict(), indent=2, allow_nan=False, ensure_ascii=False) + "\n"
    else:
        page = _text(found, top)
    if output is None:
        click.echo(page, nl=False)
    else:
        write_atomic(output, page)


def _budget(limits: dict[str, Any]) -> Any:
    from costmodel.pick import Budget

    battery, runs = limits.pop("battery"), limits.pop("runs")
    if (battery is None) != (runs is None):
        raise CostModelError("--battery WH and --runs N belong together: give both")
    scale = {"latency": 1e-3, "memory": 1e6, "energy": 1e-3, "macs": 1e6, "params": 1e6}
    found = {name: value * scale[name] for name, value in limits.items() if value is not None}
    return Budget(
        found.get("latency"), found.get("memory"), found.get("energy"), found.get("macs"),
        found.get("params"), None if battery is None else battery * 3600, runs or 1,
    )  # fmt: skip


def _stored(path: str | None) -> Any:
    from costmodel.sweep import read

    chosen = path or os.environ.get("COSTMODEL_SWEEP") or "sweep.parquet"
    if not Path(chosen).exists():
        raise CostModelError(
            f"{chosen}: no stored sweep; make one with costmodel sweep --accuracy CSV --hw NAME "
            f"-o {chosen}, or name TARGETs"
        )
    return read(chosen)


def _analysed(scores: Any, hw: str, dtype: str) -> Any:
    from costmodel.sweep import Task
    from costmodel.sweep.work import work

    networks = dict.fromkeys((score.target, score.input) for score in scores)
    rows = [row for network in networks for row in work(Task(*network, ((hw, dtype),)))]
    if all(row["error"] for row in rows):
        raise CostModelError(rows[0]["error"])
    return rows


def _text(found: Choice, top: int) -> str:
    from costmodel.report.units import count, joules, seconds, size
    from costmodel.scaling.text import columns

    def line(row: Any, mark: str) -> list[str]:
        return [
            mark + row.model, row.input.rpartition("x")[2] or "own", f"{row.top1:.2f}",
            seconds(row.latency_s), "?" if row.energy_j is None else joules(row.energy_j),
            count(row.macs), count(row.params), size(row.memory_bytes), row.dominated_by or "",
        ]  # fmt: skip

    head = [
        "network",
        "size",
        "top-1",
        "latency",
        "energy",
        "MACs",
        "params",
        "memory",
        "beaten by",
    ]
    others = [row for row in found.rows if not row.pareto][:top]
    lines = [head, *(line(row, "* ") for row in reversed(found.front))]
    lines += [line(row, "  ") for row in others]
    more = len(found.rows) - len(found.front) - len(others)
    title = (
        f"{len(found.rows)} of {found.considered} networks fit on {found.hw}, "
        f"{len(found.front)} of them on the Pareto front (*)"
    )
    parts = [title, "", *columns(lines)]
    if more:
        parts.append(f"  … and {more} more that others beat")
    if found.missing:
        parts.append(f"note: {found.missing} networks of the table have no prediction in the sweep")
    return "\n".join(parts) + "\n"
