"""A report as JSON, CSV, Markdown or a data frame. Counts stay exact integers."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, Any

from costmodel.errors import CostModelError
from costmodel.ir import Dim, TensorSpec
from costmodel.report import units
from costmodel.report.groups import ITSELF, Group, groups
from costmodel.rules import is_free
from costmodel.table import By, Row, Totals

if TYPE_CHECKING:
    import pandas as pd

    from costmodel.report.findings import Findings

COUNTS = ("macs", "ops", "flops", "params", "buffers", "bytes_read", "bytes_written")


def to_dict(report: Findings, by: By | None = None, depth: int | None = None) -> dict[str, Any]:
    """The object of ``analyze --format json``; ``groups`` are added when ``by`` asks for them.

    An op without a rule has ``null`` for its counts: unknown is not zero. A parameter is counted at
    the first op that works with it.
    """
    table, info = report.table, report.table.info
    found: dict[str, Any] = {
        "schema": 1,
        "target": report.target,
        "inputs": [_tensor(spec) for spec in info.inputs],
        "mode": info.mode,
        "totals": {
            **_counts(table.total),
            "peak_activation_bytes": table.peak_activation_bytes,
            "masked_macs": _plain(table.total.masked_macs),
        },
        "complete": table.complete,
        "unsupported": [
            {"op": item.op, "count": item.count, "module": item.module}
            for item in table.unsupported
        ],
        "ops": _ops(report),
        "prediction": report.prediction.to_dict() if report.prediction else None,
        "tracer": info.tracer,
        "notes": [*report.notes, *info.notes],
    }
    if by is not None:
        found["groups"] = [_line(line) for line in groups(report, by, depth)]
    return found


def to_csv(report: Findings, by: By | None = None, depth: int | None = None) -> str:
    """One line an op, or a group if ``by`` asks for them, under a header."""
    rows = _ops(report) if by is None else [_line(line) for line in groups(report, by, depth)]
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    header = list(rows[0]) if rows else ["name"]
    writer.writerow(header)
    for row in rows:
        values = (row[name] for name in header)
        writer.writerow("x".join(map(str, v)) if isinstance(v, list) else v for v in values)
    return stream.getvalue()


def to_markdown(report: Findings, by: By = "module", depth: int | None = None) -> str:
    """Totals, prediction and one line a group, as Markdown tables."""
    table, prediction = report.table, report.prediction
    least = "" if table.complete else "at least "
    inputs = ", ".join(f"{'x'.join(map(str, s.shape))} {s.dtype}" for s in table.info.inputs)
    totals = [
        ("inputs", inputs),
        ("mode", table.info.mode),
        ("parameters", f"{report.params:,}"),
        ("MACs", f"{least}{report.macs:,}"),
        ("FLOPs", f"{least}{report.flops:,}"),
        ("bytes read", f"{least}{report.bytes_read:,}"),
        ("bytes written", f"{least}{report.bytes_written:,}"),
        ("peak activation bytes", f"{report.peak_activation_bytes or 0:,}"),
    ]
    if table.total.masked_macs:
        totals.append(("MACs without the causally masked", f"{unmasked(report):,}"))
    if prediction:
        low, high = map(units.seconds, prediction.interval_s)
        totals += [
            ("device", f"{prediction.hw}, {prediction.dtype}, {prediction.execution}"),
            ("latency", f"{units.seconds(prediction.latency_s)} ({low} to {high})"),
            ("basis", basis(report)),
        ]
    lines = [f"# {report.target}", "", "| | |", "|---|---|"]
    lines += [f"| {name} | {_cell(value)} |" for name, value in totals]
    for item in table.unsupported:
        lines += ["", f"**No cost rule: {item.op}, {item.count} × from {where(item.module)}.**"]
    timed = " latency | bound |" if prediction else ""
    lines += ["", f"| {by} | parameters | MACs | FLOPs | bytes | share |{timed}"]
    lines.append("|---|--:|--:|--:|--:|--:|" + ("--:|---|" if prediction else ""))
    for group in groups(report, by, depth):
        known = group.totals
        bound = "" if group.complete else "≥ "
        cells = [
            group.path or ITSELF,
            f"{known.params:,}",
            *(f"{bound}{value:,}" for value in (known.macs, known.flops, known.bytes)),
            units.percent(group.share),
        ]
        if prediction:
            cells += [units.seconds(group.latency_s or 0.0), group.bound or ""]
        lines.append(f"| {' | '.join(_cell(cell) for cell in cells)} |")
    notes = [*report.notes, *table.info.notes, *(prediction.notes if prediction else ())]
    lines += [line for note in notes for line in ("", f"Note: {note}.")]
    return "\n".join(lines) + "\n"


def to_dataframe(report: Findings) -> pd.DataFrame:
    """One row per op. Raises `CostModelError` where pandas is not installed."""
    try:
        import pandas as pd
    except ModuleNotFoundError as error:
        raise CostModelError("a data frame needs pandas; try: pip install pandas") from error
    return pd.DataFrame(_ops(report))


def basis(report: Findings) -> str:
    """What the prediction rests on, in words."""
    assert report.prediction is not None
    kind = "data-sheet estimate" if report.prediction.basis == "datasheet" else "calibrated"
    said = report.prediction.validated
    return said if said.startswith(kind) else f"{kind}; {said}"


def unmasked(report: Findings) -> Dim:
    """The MACs that are left when causal masks skip what they hide."""
    return report.macs - report.table.total.masked_macs


def where(module: str) -> str:
    """A module's path, or words for the root."""
    return module or "the model itself"


def _ops(report: Findings) -> list[dict[str, Any]]:
    shapes = {weight.storage: weight.numel for weight in report.table.info.weights}
    seen: set[int] = set()
    found = []
    for row in report.table.rows:
        own = () if is_free(row.op.target) else tuple(set(row.weights) - seen)
        seen.update(own)
        found.append(_op(row, sum(shapes.get(storage, 0) for storage in own)))
    return found


def _op(row: Row, params: Dim) -> dict[str, Any]:
    op, cost = row.op, row.cost
    outputs = op.outputs or op.writes
    return {
        "name": op.name,
        "op": op.target,
        "module": op.module,
        "family": row.family,
        "phase": op.phase,
        "output_shape": [_plain(extent) for extent in outputs[0].shape] if outputs else [],
        "macs": _plain(cost.macs) if cost else None,
        "ops": _plain(cost.ops) if cost else None,
        "bytes_read": _plain(cost.bytes_read) if cost else None,
        "bytes_written": _plain(cost.bytes_written) if cost else None,
        "params": _plain(params),
        "masked_macs": _plain(cost.masked_macs) if cost else None,
    }


def _line(group: Group) -> dict[str, Any]:
    return {
        "name": group.path,
        "level": group.level,
        "calls": group.totals.calls,
        **_counts(group.totals),
        "complete": group.complete,
        "share": group.share,
        "latency_s": group.latency_s,
        "bound": group.bound,
    }


def _counts(totals: Totals) -> dict[str, Any]:
    return {name: _plain(getattr(totals, name)) for name in COUNTS}


def _tensor(spec: TensorSpec) -> dict[str, Any]:
    return {"shape": [_plain(extent) for extent in spec.shape], "dtype": spec.dtype}


def _plain(value: Dim | None) -> int | str | None:
    """An integer, or the text of a formula."""
    return value if value is None or isinstance(value, int) else str(value)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
