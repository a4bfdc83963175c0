"""``costmodel validate --measure``: ops paired by their order, and the command end to end."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import nn

import costmodel as cm
from costmodel.cli import cli
from costmodel.errors import CostModelError
from costmodel.measure.job import Job
from costmodel.measure.per_op import TOGETHER, OpRun, medians, profiled, seconds_of
from costmodel.validate.bounds import Case, Trial, cases, experiment
from costmodel.validate.measured import Network, network_of
from costmodel.validate.per_op import by_family, error, pair
from costmodel.validate.runs import COLUMNS

NETS = '''
import os
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, width=8):
        super().__init__()
        self.conv = nn.Conv2d(3, width, 3, padding=1)
        self.norm = nn.BatchNorm2d(width)
        self.head = nn.Linear(width * 16, 4)

    def forward(self, x):
        return self.head(torch.relu(self.norm(self.conv(x))).flatten(1))

class Never(nn.Module):
    def forward(self, x):
        if x.is_meta:
            return x
        raise ValueError("no way")

class Crashes(nn.Module):
    def forward(self, x):
        if not x.is_meta:
            os._exit(3)
        return x * 2

class FirstRunOnly(nn.Module):
    """Keeps a table that it makes in its first run."""
    kept = None
    def forward(self, x):
        if self.kept is None:
            self.kept = torch.exp(x)
        return torch.tanh(x + self.kept)

def example_inputs():
    return torch.zeros(1, 3, 4, 4)
'''
HOSTS = Path(__file__).parents[1] / "benchmarks" / "host"
SHORT = ("--hw", "i9-10940x", "--threads", "1", "--seconds", "0.01")


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1, bias=True)
        self.drop = nn.Dropout()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.drop(torch.relu(self.conv(x)))
        return (x.flatten(2).transpose(1, 2) + 1).contiguous().mean(1)


@pytest.fixture(scope="module")
def report() -> Any:
    return cm.analyze(Block(), "2x3x8x8", hw="i9-10940x", execution="eager")


def runs_of(report: Any, seconds: float = 1.0, before: float = 0.5) -> list[OpRun]:
    """A run as the trace says, every op taking as long as the others."""
    return [OpRun(row.op.target, seconds, before) for row in report.table.rows]


def test_ops_are_paired_by_their_place_and_views_go_to_the_op_that_follows(report):
    runs = runs_of(report)
    names = [row.op.name for row in report.table.rows]
    free = {"drop.dropout", "flatten", "view", "transpose"} & set(names)
    assert len(free) >= 3
    whole = len(runs) * 1.5
    found = pair(report.table, report.prediction, runs, whole)
    assert [row.name for row in found.rows] == [name for name in names if name not in free]
    assert (found.ops_factor, found.between_factor, found.matched) == (1, 1, 1)
    assert sum(row.measured_s for row in found.rows) == pytest.approx(whole)
    predicted = sum(row.predicted_s for row in found.rows)
    assert predicted == pytest.approx(report.prediction.latency_s)
    conv, relu, add, *_ = found.rows
    assert (conv.name, conv.module, conv.family) == ("conv.conv2d", "conv", "convolution")
    assert conv.bound in ("compute", "memory", "overhead")
    assert (conv.measured_s, relu.measured_s) == (1.5, 1.5)
    assert add.measured_s == 1.5 * (1 + len(free))


def test_a_longer_run_slows_all_and_a_shorter_one_takes_from_the_host_first(report):
    runs = runs_of(report)
    ops = len(pair(report.table, report.prediction, runs, 1).rows)
    own, whole = float(ops), len(runs) * 1.5
    for total, factors in (
        (2 * whole, (2, 2)),
        ((own + whole) / 2, (1, 0.5)),
        (own, (1, 0)),
        (own / 4, (0.25, 0)),
    ):
        found = pair(report.table, report.prediction, runs, total)
        assert (found.ops_factor, found.between_factor) == pytest.approx(factors)
        assert sum(row.measured_s for row in found.rows) == pytest.approx(total)


def test_an_op_that_did_not_run_and_one_that_nobody_foresaw_are_rows_of_their_own(report):
    runs = runs_of(report)
    relu = next(i for i, run in enumerate(runs) if run.name == "aten.relu")
    del runs[relu]
    runs.append(OpRun("aten.sort", 2.0, 0.0))
    runs.append(OpRun("aten.view", 1.0, 0.0))
    total = sum(run.seconds + run.before_s for run in runs)
    found = pair(report.table, report.prediction, runs, total)
    rows = {row.name: row for row in found.rows}
    assert rows["relu"].measured_s == 0
    assert rows["relu"].predicted_s > 0
    assert (rows["aten.sort to aten.view"].family, rows["aten.sort to aten.view"].bound) == (
        "not predicted", "",
    )  # fmt: skip
    assert rows["aten.sort to aten.view"].measured_s == 3
    assert rows["aten.sort to aten.view"].predicted_s == 0
    assert found.matched == pytest.approx(1 - 3 / (len(found.rows) - 2 + 3))


def test_a_kernel_of_another_name_is_compared_as_a_stretch(report):
    runs = runs_of(report)
    names = [run.name for run in runs]
    first, last = names.index("aten.conv2d"), names.index("aten.relu")
    runs[first : last + 1] = [OpRun("aten._fused", 7.0, 0.5)]
    found = pair(report.table, report.prediction, runs, sum(r.seconds + r.before_s for r in runs))
    stretch = found.rows[0]
    assert (stretch.name, stretch.count) == ("conv.conv2d to relu", last - first + 1)
    assert stretch.measured_s == 7.5
    each = pair(report.table, report.prediction, runs_of(report), 1).rows
    assert stretch.predicted_s == pytest.approx(each[0].predicted_s + each[1].predicted_s)
    assert stretch.family == max(each[:2], key=lambda row: row.predicted_s).family


def test_the_error_is_weighted_by_time(report):
    rows = pair(report.table, report.prediction, runs_of(report), 10).rows
    apart = sum(abs(row.predicted_s - row.measured_s) for row in rows)
    assert error(rows) == pytest.approx(apart / 10)
    groups = by_family(rows)
    assert sum(map(len, groups.values())) == len(rows)
    sizes = [sum(abs(row.difference_s) for row in some) for some in groups.values()]
    assert sizes == sorted(sizes, reverse=True)


def test_a_run_is_cut_into_the_ops_that_the_tracer_records():
    model, x = Block().eval(), torch.randn(2, 3, 8, 8)
    with torch.inference_mode():
        model(x)
        runs = profiled(lambda: model(x))
    table = cm.analyze(model, (x,)).table
    assert len(runs) == TOGETHER
    for ops in runs:
        assert [op.name for op in ops] == [row.op.target for row in table.rows]
        assert all(op.seconds >= 0 and op.before_s >= 0 for op in ops)
        assert seconds_of(ops) > 0
    assert profiled(lambda: None) == [[]] * TOGETHER


def test_medians_are_of_the_runs_that_did_the_same():
    def run(*times: float, names: str = "ab") -> list[OpRun]:
        return [OpRun(name, time, 2 * time) for name, time in zip(names, times, strict=True)]

    found = medians([run(9, 9, 9, names="abc"), run(1, 5), run(2, 4), run(3, 30)])
    assert found == run(2, 5)


# -- the command ---------------------------------------------------------------------------


@pytest.fixture
def nets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COSTMODEL_CACHE", str(tmp_path / "cache"))
    Path("nets.py").write_text(NETS)
    return "nets.py"


def run(*words: str) -> Result:
    return CliRunner().invoke(cli, ["validate", *words])


def test_networks_are_measured_beside_their_predictions_and_failures_are_skipped(nets):
    measured = [
        word for name in ("Net", "Never", "Crashes") for word in ("--measure", f"{nets}:{name}")
    ]
    result = run(*measured, *SHORT, "--batch", "1", "--batch", "2", "--format", "json")
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    assert [(row["model"], row["batch"]) for row in found["rows"]] == [
        (f"{nets}:Net", 1),
        (f"{nets}:Net", 2),
    ]
    (group,) = found["groups"]
    assert (group["hw"], group["execution"], group["rows"]) == ("host", "eager", 2)
    skipped = {(item["model"], item["why"]) for item in found["skipped"]}
    assert len(found["skipped"]) == 4
    assert {model for model, _ in skipped} == {"nets.py:Never", "nets.py:Crashes"}
    assert any("no way" in why for _, why in skipped)
    assert any("ended with status 3" in why for _, why in skipped)
    assert "nets.py:Never batch 1 eager: not measured: " in result.stderr
    for row, entry in zip(found["rows"], found["per_op"], strict=True):
        assert (entry["model"], entry["batch"]) == (row["model"], row["batch"])
        assert (entry["threads"], entry["matched"]) == (1, 1)
        ops = entry["ops"]
        assert [op["op"] for op in ops] == ["conv.conv2d", "norm.batch_norm", "relu", "head.linear"]
        assert [op["module"] for op in ops] == ["conv", "norm", "", "head"]
        assert sum(op["measured_us"] for op in ops) == pytest.approx(row["measured_ms"] * 1e3)
        assert sum(op["predicted_us"] for op in ops) == pytest.approx(row["predicted_ms"] * 1e3)
        apart = sum(abs(op["predicted_us"] - op["measured_us"]) for op in ops)
        assert entry["error"] == pytest.approx(apart / row["measured_ms"] / 1e3)
        assert sum(family["ops"] for family in entry["by_family"].values()) == len(ops)


class Told:
    """A worker that says what was measured."""

    def __init__(self, probe_ms: float) -> None:
        self.fields = dict.fromkeys(COLUMNS, "") | {
            "device": "host", "execution": "eager", "dtype": "fp32", "layout": "nchw",
            "threads": "2", "batch": "1", "latency_ms": "1.0", "p10_ms": "0.9", "p90_ms": "1.1",
            "probe_ms": str(probe_ms), "probe_1_ms": "0.9119",
        }  # fmt: skip

    def ask(self, what: str, _: Job) -> Any:
        return (self.fields, []) if what == "perform" else [("aten.conv2d", 1e-3, 0.0)]


def test_a_network_is_predicted_with_threads_that_wake_as_late_as_beside_it(nets):
    """0.64 ms on two threads is what the programs took beside the calibration, too."""
    host = HOSTS / "epyc-genoa-vm-3" / "profile.yaml"
    job = Job(f"{nets}:Net", "eager", threads=2)
    late, usual = (network_of(job, str(host), Told(ms), print) for ms in (0.8, 0.6448))
    assert usual.predicted.row.waking_us == pytest.approx(0.0, abs=0.1)
    assert late.predicted.row.waking_us > 10
    assert late.prediction.latency_s > usual.prediction.latency_s + 10e-6
    assert late.prediction.interval_s[1] / late.prediction.latency_s == pytest.approx(
        usual.prediction.interval_s[1] / usual.prediction.latency_s
    )


def test_the_table_says_which_op_is_wrong_and_goes_to_a_file(nets):
    result = run("--measure", f"{nets}:Net", *SHORT, "-o", "out.txt")
    assert (result.exit_code, result.stdout) == (0, "")
    text = Path("out.txt").read_text()
    assert max(map(len, text.splitlines())) <= 80
    for words in ("Measured here and predicted: eager", "Op families", "Ops mispredicted most",
                  "conv.conv2d", "nets.py:Net ", "multiplied by"):  # fmt: skip
        assert words in text
    assert "paired one by one" not in text


def test_a_file_that_cannot_be_written_leaves_the_result_on_stdout(nets):
    result = run("--measure", f"{nets}:Net", *SHORT, "-o", "nowhere/out.txt")
    assert result.exit_code == 2
    assert "cannot write nowhere/out.txt" in result.stderr
    assert "Ops mispredicted most" in result.stdout


def test_an_op_that_runs_once_only_is_told_from_those_that_run_every_time(nets):
    result = run("--measure", f"{nets}:FirstRunOnly", *SHORT, "--format", "json")
    assert result.exit_code == 0, result.stderr
    (entry,) = json.loads(result.stdout)["per_op"]
    measured = {op["op"]: op["measured_us"] for op in entry["ops"]}
    assert measured["exp"] == 0
    assert measured["add"] > 0
    assert measured["tanh"] > 0


def test_another_runtime_is_measured_whole(nets):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    result = run("--measure", f"{nets}:Net", *SHORT, "--execution", "eager,onnxruntime")
    assert result.exit_code == 0, result.stderr
    assert "nets.py:Net onnxruntime" in result.stdout
    only = run("--measure", f"{nets}:Net", *SHORT, "--execution", "onnxruntime")
    assert "Times of single ops: for --execution eager on the CPU only" in only.stdout


def test_files_and_networks_measured_here_are_one_validation(nets):
    lines = [",".join(COLUMNS), f"rtx4090,torch,eager,fp32,nchw,,{nets}:Net,3x4x4,8,5.0,mean,test"]
    Path("runs.csv").write_text("\n".join(lines) + "\n")
    result = run("runs.csv", "--measure", f"{nets}:Never", "--threads", "1", "--jobs", "1",
                 "--format", "json")  # fmt: skip
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    assert [row["hw"] for row in found["rows"]] == ["rtx4090"]
    assert [item["model"] for item in found["skipped"]] == ["nets.py:Never"]
    assert found["per_op"] == []


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ((), "nothing to validate; give RUNS.csv or --measure TARGET"),
        (("runs.csv", "--batch", "2"), "--batch needs --measure TARGET"),
        (("runs.csv", "--threads", "2"), "--threads needs --measure TARGET"),
        (("--measure", "x.py", "--calibrate", "one"), "are for files of runs; measure into one"),
        (("--measure", "x.py", "--hw", "nobodys"), "nobodys"),
        (("--measure", "x.py", "--execution", "tflite"), "nothing measures execution 'tflite'"),
        (("--measure", "x.py", "--threads", "9999"), "--threads 9999: this process may use"),
    ],
)
def test_options_that_make_no_sense(words, why):
    result = run(*words)
    assert result.exit_code == 2
    assert why in result.stderr
    assert result.stderr.count("\n") == 1


# -- what bounds an op -----------------------------------------------------------------------


def case(measured: float, bound: str = "compute", **expected: float) -> Case:
    shares = {name: 0.8 if name == bound else 0.1 for name in expected}
    return Case("op", "matmul", bound, 1.0, measured, expected, shares)


def test_an_op_agrees_if_it_changed_as_its_bound_foretells_rather_than_as_another():
    work = {"compute": 4.0, "memory": 3.8, "overhead": 1.0}
    assert case(3.0, **work).rivals == ("overhead",)
    assert case(3.0, **work).agrees
    assert not case(1.5, **work).agrees
    assert case(1.5, "overhead", **work).agrees
    assert not case(3.0, "overhead", **work).agrees
    assert case(3.0, **work).tries
    assert not case(9.0, compute=4.0, memory=4.0).tries, "nothing to tell apart"


@given(
    share=st.floats(0.51, 1.0), factor=st.floats(1.6, 32.0), fewer=st.booleans(),
    bound=st.sampled_from(["compute", "overhead"]),
)  # fmt: skip
def test_a_prediction_that_is_right_agrees_whatever_is_changed(share, factor, fewer, bound):
    """By ratios it would not: 60 % issuing and 40 % work take 3.8 times as long at batch 8, which
    is nearer to 8 than to 1."""
    expected = {"compute": 1 / factor if fewer else factor, "overhead": 1.0}
    shares = {name: share if name == bound else 1 - share for name in expected}
    measured = sum(shares[name] * expected[name] for name in expected)
    right = Case("op", "matmul", bound, 1.0, measured, expected, shares)
    assert right.tries
    assert right.agrees
    wrong = min(expected, key=lambda name: shares[name])
    assert not Case("op", "matmul", wrong, 1.0, measured, expected, shares).agrees


@given(
    parts=st.lists(st.floats(0.01, 1.0), min_size=3, max_size=3),
    factors=st.lists(st.floats(1 / 64, 64.0), min_size=3, max_size=3),
)
def test_of_three_resources_one_that_takes_little_is_not_taken_for_the_bound(parts, factors):
    """A memory-bound op whose operands move from main memory into a cache as the batch falls from 8
    to 1: 80 % of it takes a fortieth, 10 % an eighth, 10 % as long as before. The mean is 0.13."""
    names = ("compute", "memory", "overhead")
    shares = {name: part / sum(parts) for name, part in zip(names, parts, strict=True)}
    expected = dict(zip(names, factors, strict=True))
    measured = sum(shares[name] * expected[name] for name in names)
    for bound in names:
        told = Case("op", "add", bound, 1.0, measured, expected, shares)
        assume(len(told.rivals) == 2)
        assert told.tries == (shares[bound] > 0.5)
        assert told.agrees or not told.tries
    cached = Case(
        "op", "add", "memory", 1.0, 0.8 / 40 + 0.1 / 8 + 0.1,
        {"compute": 1 / 8, "memory": 1 / 40, "overhead": 1.0},
        {"compute": 0.1, "memory": 0.8, "overhead": 0.1},
    )  # fmt: skip
    assert cached.tries
    assert cached.agrees
    assert not replace(cached, measured=0.9 / 8 + 0.1).agrees, "arithmetic took it"
    assert not replace(cached, measured=0.9).agrees, "issuing took it"


def test_an_op_that_no_resource_takes_most_of_tries_nothing():
    """Compute and memory change alike: together they have more than the bound that is named."""
    expected = {"compute": 8.0, "memory": 8.0, "overhead": 1.0}
    shares = {"compute": 0.3, "memory": 0.3, "overhead": 0.4}
    assert not Case("op", "matmul", "overhead", 1.0, 5.2, expected, shares).tries
    assert Case("op", "matmul", "compute", 1.0, 5.2, expected, shares).tries


def test_the_agreement_is_that_of_the_cases_by_number_and_by_time():
    work = {"compute": 4.0, "overhead": 1.0}
    long = replace(case(3.9, **work), name="long", before_s=3.0)
    trial = Trial((long, case(1.1, **work)))
    assert (trial.agreement, trial.agreement_by_time) == (0.5, 0.75)
    assert math.isnan(Trial(()).agreement)


def test_cases_come_from_two_networks_op_by_op(report):
    """The second one is measured while the machine takes twice as long for anything."""
    larger = cm.analyze(Block(), "8x3x8x8", hw="i9-10940x", execution="eager")
    networks = []
    for one, factor, pace in ((report, 0.5, 1.0), (larger, 4.0, 2.0)):
        ops = pair(one.table, one.prediction, runs_of(one), factor, pace)
        predicted = sum(row.predicted_s for row in ops.rows)
        assert predicted == pytest.approx(pace * one.prediction.latency_s)
        networks.append(Network(None, one.prediction, (0, 0), ops))
    found = cases(*networks)
    assert [c.name for c in found] == [row.name for row in networks[0].ops.rows]
    for c, row in zip(found, networks[0].ops.rows, strict=True):
        assert (c.bound, c.before_s, c.measured) == (row.bound, row.measured_s, pytest.approx(4))
        kernels = [
            next(k for k in n.prediction.kernels if k.ops[0] == c.name and k.latency_s > 0)
            for n in networks
        ]
        for resource, ratio in c.expected.items():
            first, second = (getattr(kernel, f"{resource}_s") for kernel in kernels)
            assert ratio == pytest.approx(second / first)
        assert c.bound in c.expected


def test_the_experiment_measures_a_network_twice(nets):
    small = Job(f"{nets}:Net", "eager", batch=1, seconds=0.01)
    trial = experiment(small, replace(small, batch=64), "i9-10940x")
    assert {c.name for c in trial.cases} <= {"conv.conv2d", "norm.batch_norm", "relu",
                                             "head.linear"}  # fmt: skip
    assert "conv.conv2d" in {c.name for c in trial.cases}
    assert 0 <= trial.agreement <= 1
    with pytest.raises(CostModelError, match="no way"):
        experiment(Job(f"{nets}:Never", "eager"), small, "i9-10940x")
