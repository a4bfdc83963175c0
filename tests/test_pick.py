"""Networks within a budget: the front, what beats what, and budgets that nothing meets."""

from __future__ import annotations

import json
import time

import pytest
from click.testing import CliRunner

import costmodel.cli as frame
from costmodel import CostModelError, accuracy
from costmodel import sweep as engine
from costmodel.accuracy import Score
from costmodel.pick import Budget, pick

TABLE = """model,img_size,top1
resnet18.a1_in1k,64,71.5
resnet18.tv_in1k,64,69.8
mobilenetv3_small_100.lamb_in1k,64,67.7
mobilenetv3_small_050.lamb_in1k,64,57.9
resnet26.bt_in1k,64,75.4
"""


def row(name, latency, memory=1e6, energy=1e-3, **more):
    return {
        "target": f"timm:{name}", "input": "1x3x64x64", "hw": "rtx4090", "dtype": "", "macs": 10,
        "params": 5, "latency_s": latency, "energy_j": energy, "memory_bytes": memory, **more,
    }  # fmt: skip


def score(name, top1):
    return Score(f"{name}.x", f"timm:{name}", "1x3x64x64", top1)


SCORES = [score("a", 70), score("b", 75), score("c", 74), score("d", 80), score("gone", 99)]
ROWS = [row("a", 1e-3), row("b", 2e-3), row("c", 3e-3, energy=None), row("d", 9e-3, 5e6, 9e-3)]


def run(*words):
    return CliRunner().invoke(frame.cli, ["pick", *map(str, words)])


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pick")
    table = folder / "accuracy.csv"
    table.write_text(TABLE)
    networks = [(s.target, s.input) for s in accuracy.read(table)]
    engine.sweep(networks, ["rtx4090", "pixel8:gpu"], folder / "sweep.parquet")
    return folder


def test_the_front_and_what_beats_the_rest():
    found = pick(SCORES, ROWS, "rtx4090", Budget())
    assert [r.model for r in found.rows] == ["d.x", "b.x", "c.x", "a.x"]
    assert [r.model for r in found.front] == ["a.x", "b.x", "d.x"]
    beaten = {r.model: r.dominated_by for r in found.rows}
    assert beaten == {"d.x": None, "b.x": None, "a.x": None, "c.x": "b.x at 64"}
    assert (found.considered, found.missing) == (4, 1)


@pytest.mark.parametrize(
    ("budget", "left"),
    [
        (Budget(latency_s=2e-3), "ab"),
        (Budget(memory_bytes=2e6), "abc"),
        (Budget(energy_j=5e-3), "ab"),  # nobody knows what c takes
        (Budget(battery_j=2.0, runs=1000), "ab"),
        (Budget(battery_j=10.0, runs=1000), "abd"),
        (Budget(latency_s=2.5e-3, params=4), ""),
    ],
)
def test_every_budget_limits(budget, left):
    if not left:
        with pytest.raises(
            CostModelError, match=r"none of 4 networks is within .* fastest is a\.x"
        ):
            pick(SCORES, ROWS, "rtx4090", budget)
        return
    found = pick(SCORES, ROWS, "rtx4090", budget)
    assert sorted(r.model[0] for r in found.rows) == list(left)


def test_equal_latency_leaves_the_more_accurate(stored):
    """Two trainings of one network cost the same, so only the better one is on the front."""
    result = run(
        "--hw", "rtx4090", "--accuracy", stored / "accuracy.csv", "--sweep",
        stored / "sweep.parquet", "--format", "json",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    rows = {r["model"]: r for r in json.loads(result.output)["rows"]}
    assert not rows["resnet18.tv_in1k"]["pareto"]
    assert rows["resnet18.tv_in1k"]["dominated_by"].startswith("resnet")
    assert rows["resnet26.bt_in1k"]["pareto"]
    assert rows["resnet18.a1_in1k"].keys() >= {
        "target", "top1", "macs", "params", "latency_s", "energy_j", "pareto",
    }  # fmt: skip


def test_the_table_for_people_and_the_figure(stored, tmp_path):
    picture = tmp_path / "front.png"
    result = run(
        "--hw", "rtx4090:gpu", "--accuracy", stored / "accuracy.csv", "--sweep",
        stored / "sweep.parquet", "--latency", 1000, "--plot", picture,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "5 of 5 networks fit on rtx4090:gpu" in result.output
    assert "* resnet26.bt_in1k" in result.output
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_named_targets_are_analysed_on_the_spot(stored, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    result = run(
        "timm:resnet18", "--hw", "rtx4090", "--accuracy", stored / "accuracy.csv",
        "--format", "json",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    found = json.loads(result.output)
    assert {r["model"] for r in found["rows"]} == {"resnet18.a1_in1k", "resnet18.tv_in1k"}


def test_a_large_table_is_quick(tmp_path):
    scores = [score(f"n{i}", i % 97) for i in range(20_000)]
    rows = [row(f"n{i}", 1e-6 * (1 + i * 7919 % 20_011)) for i in range(20_000)]
    start = time.process_time()
    found = pick(scores, rows, "rtx4090", Budget(latency_s=15e-3))
    assert time.process_time() - start < 5
    assert found.front[-1].top1 == 96


def test_a_users_own_table_names_targets(tmp_path):
    file = tmp_path / "own.csv"
    file.write_text("model,top1\nnet.py:Net(width=2),80\n")
    (found,) = accuracy.read(file)
    assert (found.target, found.input, found.top1) == ("net.py:Net(width=2)", "", 80.0)
    # timm's training of that name is no Python file.
    file.write_text("model,img_size,top1\nregnetx_002.pycls_in1k,224,68.7\n")
    assert accuracy.read(file)[0].target == "timm:regnetx_002"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("model,top5\na,1\n", "has no column 'top1', but model, top5"),
        ("", "has no column 'model', but none"),
        ("model,top1\na,high\n", ":2: top1 and img_size of a must be numbers"),
    ],
)
def test_accuracy_tables_without_what_is_needed(tmp_path, text, said):
    file = tmp_path / "bad.csv"
    file.write_text(text)
    with pytest.raises(CostModelError) as error:
        accuracy.read(file)
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--hw", "pixle8"), "pixle8"),
        (("--hw", "rtx4090"), "--accuracy CSV"),
        (("--hw", "rtx4090", "--accuracy", "{dir}/accuracy.csv"), "no stored sweep"),
        (
            ("--hw", "rpi4", "--accuracy", "{dir}/accuracy.csv", "--sweep", "{dir}/sweep.parquet"),
            "the sweep has no rows for rpi4; it has pixel8:gpu, rtx4090",
        ),
        (
            ("--hw", "rtx4090", "--accuracy", "{dir}/accuracy.csv", "--sweep",
             "{dir}/sweep.parquet", "--latency", "1e-9"),
            "none of 5 networks is within the budget",
        ),
        (("--hw", "rtx4090", "--battery", "15"), "--runs N belong together"),
        (("--hw", "rtx4090", "--latency", "-1"), "--latency"),
        (("nonet", "--hw", "rtx4090", "--accuracy", "{dir}/accuracy.csv"), "has none of nonet"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line(stored, tmp_path, monkeypatch, words, said):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("COSTMODEL_SWEEP", raising=False)
    result = run(*(word.format(dir=stored) for word in words))
    assert result.exit_code != 0
    assert said in str(result.exception) + result.output
    assert "\n" not in str(result.exception)
