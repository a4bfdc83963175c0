"""What `costmodel validate --measure` says: networks, op families, and the ops that are wrong."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from costmodel.report.units import seconds
from costmodel.validate.measured import Network
from costmodel.validate.per_op import OpTime, OpTimes, by_family, error
from costmodel.validate.report import error_of

#: Ops that the table shows, those first whose times differ most.
WORST = 15
#: Logarithm of the factor on ops' times beyond which it is remarked.
UNLIKE = 0.2
#: Characters of a name in a table.
_WIDE = 34


def to_list(networks: Sequence[Network]) -> list[dict[str, Any]]:
    """The ``per_op`` of ``validate --format json``: one entry a network whose ops were timed."""
    return [_entry(network, network.ops) for network in networks if network.ops is not None]


def _entry(network: Network, ops: OpTimes) -> dict[str, Any]:
    row = network.predicted.row
    return {
        "model": row.run.model,
        "input_shape": row.run.input_shape,
        "batch": row.run.batch,
        "execution": row.setting.execution,
        "threads": row.setting.threads,
        "error": _known(ops.error),
        "matched": ops.matched,
        "ops_factor": ops.ops_factor,
        "between_factor": ops.between_factor,
        "by_family": {
            family: {
                "ops": sum(r.count for r in rows),
                **_times(rows),
                "error": _known(error(rows)),
            }
            for family, rows in by_family(ops.rows).items()
        },
        "ops": [
            {
                "op": r.name,
                "module": r.module,
                "family": r.family,
                "bound": r.bound or None,
                "count": r.count,
                **_times([r]),
            }
            for r in ops.rows
        ],
    }


def _times(rows: Sequence[OpTime]) -> dict[str, float]:
    return {
        "measured_us": sum(row.measured_s for row in rows) * 1e6,
        "predicted_us": sum(row.predicted_s for row in rows) * 1e6,
    }


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None


def render(networks: Sequence[Network], console: Console) -> None:
    """Tables for a terminal of 80 columns or more."""
    if not networks:
        return
    console.print(_networks_table(networks))
    timed = [(network, network.ops) for network in networks if network.ops is not None]
    if not timed:
        console.print("\nTimes of single ops: for --execution eager on the CPU only")
        return
    console.print(_families_table([row for _, ops in timed for row in ops.rows]))
    console.print(_worst_table(timed))
    for line in _remarks([ops for _, ops in timed]):
        console.print(line)


def _networks_table(networks: Sequence[Network]) -> Table:
    executions = list(dict.fromkeys(network.predicted.row.run.execution for network in networks))
    table = _table(f"Measured here and predicted: {', '.join(executions)}", ("network",),
                   ("batch", "measured", "±", "pace", "predicted", "error", "by op"))  # fmt: skip
    for network in networks:
        item, (low, high) = network.predicted, network.spread_ms
        run = item.row.run
        spread = (high - low) / 2 / run.latency_ms
        ops = network.ops.error if network.ops else math.nan
        table.add_row(
            run.model if len(executions) == 1 else f"{run.model} {run.execution}", str(run.batch),
            seconds(item.row.measured),
            f"{spread:.0%}", f"{item.row.pace:.2f}", seconds(item.latency),
            f"{error_of(item):+.0%}", "-" if math.isnan(ops) else f"{ops:.0%}",
        )  # fmt: skip
    table.caption = (
        "±: half of p10 to p90; pace: time of small programs beside it, over that beside the "
        "calibration;\nby op: sum of the ops' absolute errors over the measured time"
    )
    table.caption_justify = "left"
    return table


def _families_table(rows: Sequence[OpTime]) -> Table:
    table = _table("\nOp families, all networks", ("family",),
                   ("ops", "measured", "predicted", "error", "by op"))  # fmt: skip
    for family, some in by_family(rows).items():
        measured, predicted = sum(r.measured_s for r in some), sum(r.predicted_s for r in some)
        table.add_row(
            family, str(sum(r.count for r in some)), seconds(measured), seconds(predicted),
            f"{predicted / measured - 1:+.0%}" if measured else "-",
            f"{error(some):.0%}" if measured else "-",
        )  # fmt: skip
    return table


def _worst_table(timed: Sequence[tuple[Network, OpTimes]]) -> Table:
    table = _table("\nOps mispredicted most", ("op",),
                   ("family", "bound", "measured", "predicted"))  # fmt: skip
    for network, row in worst(timed)[:WORST]:
        table.add_row(
            _title(network, row, len(timed) > 1), row.family, row.bound or "-",
            seconds(row.measured_s), seconds(row.predicted_s),
        )  # fmt: skip
    return table


def worst(timed: Sequence[tuple[Network, OpTimes]]) -> list[tuple[Network, OpTime]]:
    """Ops of all networks by the absolute difference in seconds, largest first."""
    rows = [(network, row) for network, ops in timed for row in ops.rows]
    return sorted(rows, key=lambda pair: -abs(pair[1].difference_s))


def _remarks(found: Sequence[OpTimes]) -> list[str]:
    """How the ops' times came about."""
    ops, between = _range([o.ops_factor for o in found]), _range([o.between_factor for o in found])
    first = f"its times of ops are multiplied by {ops}, those between ops by {between}"
    lines = [f"\nOps are timed under a profiler; to add up to the measured time, {first}."]
    if any(abs(math.log(o.ops_factor)) > UNLIKE for o in found):
        lines.append("A factor far from 1 is of a machine that did something else meanwhile.")
    matched = min(o.matched for o in found)
    if matched < 0.995:
        lines.append(
            f"Only {matched:.0%} of the time is in ops that could be paired one by one; "
            '"A to B" is a stretch compared as a whole.'
        )
    return lines


def _range(values: Sequence[float]) -> str:
    low, high = min(values), max(values)
    return f"{low:.2f}" if f"{low:.2f}" == f"{high:.2f}" else f"{low:.2f} to {high:.2f}"


def _table(title: str, left: Sequence[str], right: Sequence[str]) -> Table:
    table = Table(title=title, title_justify="left", box=None)
    for name in left:
        table.add_column(name, overflow="fold")
    for name in right:
        words = name in ("family", "bound")
        table.add_column(name, justify="left" if words else "right", no_wrap=True)
    return table


def _title(network: Network, row: OpTime, several: bool) -> str:
    """The op, its name cut at the front; its network before it where there is more than one."""
    run = network.predicted.row.run
    model = run.model.partition(":")[2] or Path(run.model).stem
    where = f"{model[: _WIDE - 8]}{f' ×{run.batch}' if run.batch > 1 else ''}:" if several else ""
    op = row.name if len(row.name) < _WIDE else f"…{row.name[2 - _WIDE :]}"
    whole = f"{where} {op}".lstrip()
    return whole if len(whole) <= _WIDE else f"{where}\n {op}"
