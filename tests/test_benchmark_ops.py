"""Ops of a machine's folder: kept as they were timed, and what they say of predictions."""

from __future__ import annotations

import importlib
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from costmodel.api import analyze
from costmodel.measure.job import Job
from costmodel.measure.per_op import OpRun
from costmodel.validate.measured import Timed, predicted
from costmodel.validate.runs import COLUMNS

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
MODEL = "timm:mobilenetv3_small_050"


@pytest.fixture
def host_ops(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    yield importlib.import_module("host_ops")
    sys.modules.pop("host_ops", None)


def timed_as_told(threads: int, batch: int, slower: float) -> Timed:
    """A network whose every op took ``slower`` times what is predicted, and the host none."""
    job = Job(MODEL, "eager", batch=batch, threads=threads)
    fields = dict.fromkeys(COLUMNS, "") | {
        "device": "host", "execution": "eager", "dtype": "fp32", "layout": "nchw",
        "threads": str(threads), "batch": str(batch), "model": MODEL, "latency_ms": "1000",
        "p10_ms": "1000", "p90_ms": "1000", "probe_ms": "", "probe_1_ms": "",
    }  # fmt: skip
    kernels: dict[str, float] = {}
    for kernel in predicted(Timed(job, fields, None), "i9-10940x").prediction.kernels:
        kernels[kernel.ops[0]] = kernels.get(kernel.ops[0], 0.0) + kernel.latency_s
    rows = analyze(MODEL, batch=batch).table.rows
    ops = tuple(OpRun(row.op.target, slower * kernels.get(row.op.name, 0.0), 0.0) for row in rows)
    told = sum(op.seconds for op in ops)
    return Timed(job, fields | {"latency_ms": f"{told * 1e3}"}, ops)


def test_what_is_kept_is_what_was_timed(host_ops: Any) -> None:
    found = timed_as_told(1, 1, 1.0)
    kept = host_ops._timed(json.loads(host_ops._line(found)))
    assert (kept.job, dict(kept.fields)) == (found.job, found.fields)
    assert [op.seconds for op in kept.ops] == pytest.approx(
        [op.seconds for op in found.ops], abs=1e-9
    )


def test_a_machine_without_timed_ops_has_no_lines(host_ops: Any, tmp_path: Path) -> None:
    assert list(host_ops.section(tmp_path, tmp_path / "profile.yaml")) == []


def test_lines_say_how_far_ops_are_off_and_whether_bounds_hold(
    host_ops: Any, tmp_path: Path
) -> None:
    settings = {(1, 1): 1.0, (1, 8): 1.0, (2, 1): 1.25, (2, 8): 1.0}
    found = [timed_as_told(*place, slower) for place, slower in settings.items()]
    (tmp_path / "ops.json").write_text(json.dumps([json.loads(host_ops._line(f)) for f in found]))
    text = "\n".join(host_ops.section(tmp_path, "i9-10940x"))
    ops = re.findall(r"\| (\d) \| (\d) \| (\d+) \| ([\d.]+)% \| (\d+)% \| (\d+)% \|", text)
    assert [line[:2] for line in ops] == [("1", "1"), ("1", "8"), ("2", "1"), ("2", "8")]
    assert [line[3:] for line in ops] == [("0.0", "0", "0")] * 2 + [
        ("20.0", "20", "20"),
        ("0.0", "0", "0"),
    ]
    assert len({line[2] for line in ops}) == 1
    trials = re.findall(r", then \w+ \| (\d+) \| (\d+)% \|", text)
    assert len(trials) == len(host_ops.EXPERIMENTS)
    # The traffic of two batches may come from different levels, which no bound tells apart.
    assert all(int(tried) > 20 and int(agree) >= 98 for tried, agree in trials)
