"""The machine's pace: small programs beside a measurement and beside the calibration."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

from costmodel.errors import CostModelError
from costmodel.execution import kernels_of
from costmodel.hardware import load_profile
from costmodel.machine.constants import constants_of, values_of
from costmodel.measure import job, pace, rows
from costmodel.measure.calibrate import Timed, rows_of
from costmodel.measure.microbench import microbenchmarks
from costmodel.measure.timing import LONG, time_calls
from costmodel.roofline import timer_of
from costmodel.setting import setting
from costmodel.validate import scored, waking
from costmodel.validate.fit import fit_all, one_by_one, seconds_of
from costmodel.validate.predict_rows import Row
from costmodel.validate.report import Validation, mape_as_calibrated, render, to_dict
from costmodel.validate.runs import COLUMNS, read
from costmodel.validate.tiers import Outcome, with_intervals

HERE = Path(__file__).parents[1] / "benchmarks" / "host" / "xeon-emerald-rapids-vm"
NET = """
import torch
from torch import nn

def model():
    return nn.Conv2d(3, 8, 3)

def example_inputs():
    return torch.zeros(1, 3, 8, 8)
"""


def measured_rows(probes: dict[str, float], *paces: float, execution: str = "eager") -> list[Row]:
    """Microbenchmarks as rows of a device that was calibrated beside ``probes``, by threads."""
    profile = load_profile(HERE / "profile.yaml")
    assert profile.measured is not None
    known = profile.measured.model_copy(update={"probe_ms": {execution: probes}})
    profile = profile.model_copy(update={"measured": known})
    some = [Timed(benchmark, 1, 1e-3) for benchmark in microbenchmarks()[: len(paces)]]
    return [
        replace(row, run=replace(row.run, probe_ms=probe))
        for row, probe in zip(rows_of(profile, execution, some), paces, strict=True)
    ]


def test_a_row_is_predicted_at_the_pace_it_was_measured_at() -> None:
    slow, same = measured_rows({"1": 2.0}, 3.0, 2.0)
    assert (slow.pace, same.pace) == (1.5, 1.0)
    bare = replace(slow, run=replace(slow.run, probe_ms=None))
    assert slow.predicted() == 1.5 * bare.predicted()
    together = seconds_of([slow, same])
    assert together is not None
    assert together({}) == pytest.approx([slow.predicted(), same.predicted()])


def team_of_two(probe_ms: float, probe_1_ms: float | None, **constants: float) -> Row:
    """A row on two threads, calibrated beside programs of 2 ms on one and of 1 ms on both."""
    (row,) = measured_rows({"1": 2.0, "2": 1.0}, probe_ms)
    chosen = replace(row.setting, threads=2)
    chosen = chosen.measuring({**chosen.measured_constants, **constants})
    return replace(row, setting=chosen, run=replace(row.run, probe_1_ms=probe_1_ms))


def test_what_slows_a_team_alone_is_the_waking_of_its_threads() -> None:
    """One thread takes 1.1 times as long as beside the calibration, both 1.5 times as long."""
    slow = team_of_two(1.5, 2.2, fork_us=4.0)
    assert slow.pace == pytest.approx(1.1)
    chosen = slow.setting
    programs = [
        timer_of(kernels_of(table.rows, "eager", "fp32", lanes=chosen.lanes), chosen)
        for table in waking._programs()
    ]

    def mean_log(us: float) -> float:
        constants = chosen.constants({"fork_us": us})
        return float(np.mean([np.log(timer(constants).latency.sum()) for timer in programs]))

    assert slow.waking_us > 1.0
    longer = mean_log(4.0 + slow.waking_us) - mean_log(4.0)
    assert longer == pytest.approx(np.log(1.5 / 1.1), rel=1e-6)
    bare = replace(slow, run=replace(slow.run, probe_ms=None, probe_1_ms=None))
    assert slow.beside() == bare.beside({"fork_us": 4.0 + slow.waking_us})
    assert slow.predicted() > 1.1 * bare.predicted()
    assert seconds_of([slow]) is None
    assert one_by_one([slow])({}).tolist() == [slow.predicted()]


def test_waking_is_that_of_the_calibration_where_nothing_else_is_known() -> None:
    same = team_of_two(1.1, 2.2, fork_us=4.0)
    assert same.waking_us == pytest.approx(0.0, abs=1e-6)
    assert team_of_two(1.5, None).waking_us == 0.0
    assert team_of_two(1.5, None).pace == 1.5
    fast = team_of_two(0.1, 2.0, fork_us=4.0)
    assert fast.waking_us == pytest.approx(-4.0)
    assert fast.beside()["fork_us"] == pytest.approx(0.0, abs=1e-9)
    limit = constants_of("x86/eager")["fork_us"].high
    assert team_of_two(99.0, 2.0, fork_us=4.0).beside()["fork_us"] == pytest.approx(limit)


def test_a_pace_is_unknown_where_the_calibration_had_no_such_runtime_or_threads() -> None:
    (row,) = measured_rows({"2": 2.0}, 3.0)
    assert row.pace == 1
    assert replace(row, setting=replace(row.setting, threads=2)).pace == 1.5
    assert replace(row, setting=replace(row.setting, threads=2, execution="ncnn")).pace == 1
    # Beside a runtime with threads of its own the programs run on one.
    (row,) = measured_rows({"1": 2.0}, 3.0, execution="ncnn")
    assert replace(row, setting=replace(row.setting, threads=2)).pace == 1.5
    assert replace(row, setting=setting("i9-10940x", execution="eager", threads=1)).pace == 1


def test_constants_fitted_on_slow_runs_are_those_of_the_calibrated_machine() -> None:
    planted = values_of("x86/eager")
    planted["matrix_efficiency"] *= 0.8
    measured = measured_rows({"1": 1.0}, *np.linspace(1.0, 2.0, 30).tolist())
    measured = [
        replace(row, run=replace(row.run, latency_ms=1e3 * row.predicted(planted)))
        for row in measured
    ]
    found = fit_all(measured, values_of("x86/eager"), most=30, seconds=seconds_of(measured))
    again = np.array([row.predicted(found) / row.measured for row in measured])
    assert np.median(np.abs(again - 1)) < 0.03


def test_the_report_says_what_the_pace_did() -> None:
    measured = measured_rows({"1": 1.0}, 1.0, 1.5)
    exact = [replace(r, run=replace(r.run, latency_ms=1e3 * r.predicted())) for r in measured]
    items = with_intervals([(row, row.predicted()) for row in exact], "none")
    group = scored(Outcome(items, {}, "made up"), "microbenchmarks")
    assert group.score.mape == pytest.approx(0)
    assert mape_as_calibrated(group) == pytest.approx((1 - 1 / 1.5) / 2)
    document = to_dict(Validation((group,), ()))
    assert document["groups"][0]["mape_as_calibrated"] == mape_as_calibrated(group)
    assert [row["pace"] for row in document["rows"]] == [1.0, 1.5]
    buffer = io.StringIO()
    render(Validation((group,), ()), Console(file=buffer, width=80))
    said = " ".join(buffer.getvalue().split())
    assert (
        "eager: small programs took 1.00 to 1.50 times as long beside the runs as beside the "
        "calibration. Predictions are multiplied by that; without it MAPE is 16.7." in said
    )


def test_the_report_says_how_much_longer_threads_took_to_wake() -> None:
    slow = team_of_two(1.5, 2.2, fork_us=4.0)
    items = with_intervals([(slow, slow.predicted())], "none")
    validation = Validation((scored(Outcome(items, {}, "made up"), "microbenchmarks"),), ())
    assert to_dict(validation)["rows"][0]["waking_us"] == slow.waking_us
    buffer = io.StringIO()
    render(validation, Console(file=buffer, width=80))
    us = f"{slow.waking_us:+.0f}"
    said = " ".join(buffer.getvalue().split())
    assert f"Waking a thread took them {us} to {us} us longer; so do predictions." in said


def test_the_report_is_silent_where_no_pace_is_known() -> None:
    measured = measured_rows({}, 1.0, 1.5)
    items = with_intervals([(row, row.predicted()) for row in measured], "none")
    buffer = io.StringIO()
    group = scored(Outcome(items, {}, "made up"), "microbenchmarks")
    render(Validation((group,), ()), Console(file=buffer, width=80))
    assert "small programs" not in buffer.getvalue()
    assert mape_as_calibrated(group) == group.score.mape


def test_a_round_is_the_geometric_mean_of_calls_that_follow_one_of_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    state, threads = torch.random.get_rng_state(), torch.get_num_threads()
    a_round = pace.probe()
    assert 0 < a_round(1) < 1e3
    used: list[int] = []

    def clock(_: object) -> float:
        used.append(torch.get_num_threads())
        return 1e-3 if len(used) % 2 else 4e-3

    monkeypatch.setattr(pace, "wall_clock", clock)
    assert a_round(2) == pytest.approx(2.0)
    assert used == [2] * len(pace.PROBES)
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.random.get_rng_state(), state)


def test_short_calls_meet_what_is_usual_and_long_ones_the_average() -> None:
    rounds = [1.0, 1.0, 8.0]
    assert pace.beside(rounds, 0.9 * LONG) == 1.0
    assert pace.beside(rounds, 1.1 * LONG) == pytest.approx(2.0)


def test_other_programs_run_between_samples_and_the_next_call_is_not_timed() -> None:
    said: list[str] = []

    def clock(_: object) -> float:
        said.append("timed")
        return 0.0625

    found = time_calls(
        lambda: said.append("call"), min_seconds=0.625, min_runs=10, clock=clock,
        aside=lambda: said.append("aside"),
    )  # fmt: skip
    assert found.runs == 10
    samples = said[said.index("aside") :]
    assert samples == ["aside", "call", "timed", "timed"] * 5


def test_after_other_programs_a_long_call_is_timed_at_once() -> None:
    said: list[str] = []
    time_calls(
        lambda: said.append("call"), min_seconds=0.5, min_runs=3, clock=lambda _: 2 * LONG,
        aside=lambda: said.append("aside"),
    )  # fmt: skip
    assert said == ["aside", "call", "aside", "aside"]


def test_a_measured_row_has_the_time_of_the_programs(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(NET)
    row, _ = job.perform(job.Job(f"{tmp_path}/net.py", "eager", seconds=0.01))
    assert 0 < float(row["probe_ms"]) < 1e3
    assert row["probe_1_ms"] == ""
    row, _ = job.perform(job.Job(f"{tmp_path}/net.py", "eager", threads=2, seconds=0.01))
    assert 0 < float(row["probe_1_ms"]) < 1e3


def test_the_column_is_read_where_a_file_has_it(tmp_path: Path) -> None:
    path = tmp_path / "runs.csv"
    line = "host,torch,eager,fp32,nchw,1,timm:resnet18,3x224x224,1,20,median,here"
    header = ",".join((*COLUMNS, "probe_ms", "probe_1_ms"))
    path.write_text(f"{header}\n{line},1.5,2.5\n{line},,\n{line},-1,2.5\n")
    runs, skipped = read(path)
    assert [(run.probe_ms, run.probe_1_ms) for run in runs] == [(1.5, 2.5), (None, None)]
    assert [item.why for item in skipped] == ["probe_ms '-1' is not a positive number"]


def test_a_file_without_the_column_is_gone_on_with(tmp_path: Path) -> None:
    path = tmp_path / "runs.csv"
    path.write_text(",".join(name for name in rows.HEADER if "probe" not in name) + "\n")
    rows.start(path)
    assert rows.append(path, dict.fromkeys(rows.HEADER, "1"))
    path.write_text(",".join(name for name in rows.HEADER if name != "mode") + "\n")
    with pytest.raises(CostModelError, match="has no column mode"):
        rows.start(path)
