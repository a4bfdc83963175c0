"""Sweeps: the same rows from one process, from joblib and from Dask, whatever is interrupted."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections import Counter

import pytest
from click.testing import CliRunner

import costmodel.cli as frame
from costmodel import CostModelError
from costmodel import sweep as engine
from costmodel.sweep import COLUMNS, Store, cluster, local, read
from costmodel.sweep.work import Task, work

NET = """
import time
import torch
from torch import nn
class Net(nn.Module):
    def __init__(self, width=4, delay=0.0, broken=False):
        super().__init__()
        time.sleep(delay)
        if broken:
            raise ValueError("nobody can build this")
        print("building")
        self.conv = nn.Conv2d(3, width, 3)
    def forward(self, x):
        return self.conv(x)
def example_inputs():
    return (torch.randn(1, 3, 8, 8),)
"""
HW = ("rtx4090", "pixel8:gpu")


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("COSTMODEL_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def net(tmp_path):
    file = tmp_path / "net.py"
    file.write_text(NET)
    return lambda **kwargs: (
        f"{file}:Net({', '.join(f'{k}={v!r}' for k, v in kwargs.items())})",
        "",
    )


def run(*words):
    return CliRunner().invoke(frame.cli, ["sweep", *map(str, words)])


def told_apart(rows):
    return {(r["target"], r["hw"], r["macs"], r["latency_s"]) for r in rows}


def test_rows_have_the_schema_and_exact_counts(tmp_path, net):
    path = tmp_path / "out.parquet"
    engine.sweep([net(width=4), net(width=8)], HW, path)
    rows = read(path)
    assert len(rows) == 4
    for row in rows:
        assert tuple(row) == tuple(COLUMNS)
        width = 8 if "width=8" in row["target"] else 4
        assert row["macs"] == 36 * 27 * width
        assert row["params"] == 28 * width
        assert row["latency_s"] > 0
        assert row["low_s"] <= row["latency_s"] <= row["high_s"]
        # Weights and the largest set of live activations, 4 bytes an element.
        assert row["memory_bytes"] == 4 * 28 * width + row["peak_activation_bytes"]
        assert row["error"] is None
    assert not Store(path).journal.exists()


def test_dtypes_multiply_and_shrink_the_memory(tmp_path, net):
    rows = engine.sweep([net()], ["rtx4090"], tmp_path / "out.parquet", dtypes=["fp32", "fp16"])
    wide, narrow = sorted(rows, key=lambda r: -r["memory_bytes"])
    assert (wide["dtype"], narrow["dtype"]) == ("fp32", "fp16")
    assert wide["memory_bytes"] == 2 * narrow["memory_bytes"]


def test_a_failed_model_is_a_row_with_its_reason(tmp_path, net):
    path = tmp_path / "out.parquet"
    engine.sweep([net(broken=True), net(), ("timm:no_such_net", "")], HW, path)
    rows = read(path)
    assert len(rows) == 6
    errors = Counter(r["error"] for r in rows)
    assert errors.pop(None) == 2
    assert any("nobody can build this" in text for text in errors)
    assert any("no_such_net" in text for text in errors)
    failed = next(r for r in rows if r["error"])
    assert failed["macs"] is None


def test_an_input_size_that_a_transformer_must_be_built_for(tmp_path):
    target = "timm:vit_tiny_patch16_224"
    (row,) = work(Task(target, "1x3x32x32", (("rtx4090", ""),)))
    assert row["error"] is None
    assert row["target"] == target
    assert row["macs"] > 0


def test_duckdb_and_parquet_hold_the_same(tmp_path, net):
    networks = [net(width=4), net(broken=True)]
    one, two = tmp_path / "out.parquet", tmp_path / "out.duckdb"
    engine.sweep(networks, HW, one)
    engine.sweep(networks, HW, two)
    assert read(one) == read(two)


def test_processes_give_the_same_rows(tmp_path, net):
    networks = [net(width=w) for w in (4, 8, 12)]
    alone = engine.sweep(networks, HW, tmp_path / "a.parquet")
    together = engine.sweep(networks, HW, tmp_path / "b.parquet", runner=local(2))
    assert told_apart(alone) == told_apart(together)


def test_a_sweep_that_was_cut_off_goes_on(tmp_path, net):
    path = tmp_path / "out.parquet"
    networks = [net(width=w) for w in (4, 8, 12)]
    ran = []

    def failing(tasks):
        for number, task in enumerate(tasks):
            if number == 2:
                raise KeyboardInterrupt
            ran.append(task.target)
            yield work(task)

    with pytest.raises(KeyboardInterrupt):
        engine.sweep(networks, HW, path, runner=failing)
    assert not path.exists()
    with Store(path).journal.open("a") as file:
        file.write('[{"target": "torn')  # as a machine that lost power leaves it

    def counting(tasks):
        ran.extend(task.target for task in tasks)
        yield from map(work, tasks)

    rows = engine.sweep(networks, HW, path, runner=counting)
    assert Counter(ran) == {target: 1 for target, _ in networks}
    assert len(rows) == len(read(path)) == 6


def test_a_finished_sweep_grows_by_what_is_new(tmp_path, net):
    path = tmp_path / "out.parquet"
    engine.sweep([net()], ["rtx4090"], path)
    asked = []

    def spy(tasks):
        asked.extend(tasks)
        yield from map(work, tasks)

    engine.sweep([net(), net(broken=True)], HW, path, runner=spy)
    assert [task.settings for task in asked] == [
        (("pixel8:gpu", ""),),
        (("rtx4090", ""), ("pixel8:gpu", "")),
    ]
    asked.clear()
    engine.sweep([net(), net(broken=True)], HW, path, runner=spy, retry=True)
    assert len(asked) == 1
    assert "broken" in asked[0].target


def test_dask_gives_the_same_rows_though_a_worker_is_killed(tmp_path, net):
    from distributed import Client, LocalCluster

    networks = [net(width=4 * i, delay=0.2) for i in range(1, 21)]
    path = tmp_path / "dask.parquet"
    options = {"n_workers": 2, "threads_per_worker": 1, "processes": True}
    with (
        LocalCluster(**options, dashboard_address=None, silence_logs=50) as servers,
        Client(servers) as client,
    ):
        pids = client.run(os.getpid)
        killed = []

        def progress(done, total):
            if done == 6 and not killed:
                victim = next(iter(pids.values()))
                killed.append(victim)
                os.kill(victim, signal.SIGKILL)

        rows = engine.sweep(
            networks, HW, path, runner=cluster(servers.scheduler_address), progress=progress
        )
    assert killed
    assert Counter(r["target"] for r in rows) == {target: 2 for target, _ in networks}
    assert all(row["error"] is None for row in rows)
    alone = engine.sweep(networks, HW, tmp_path / "alone.parquet")
    assert told_apart(alone) == told_apart(read(path))


def test_the_command_writes_the_file_and_says_what_failed(tmp_path, net):
    path = tmp_path / "out.parquet"
    result = run(net()[0], net(broken=True)[0], "--hw", "rtx4090", "--jobs", 1, "-o", path)
    assert result.exit_code == 0, result.output
    assert "2 rows; 1 failed" in result.output
    assert "building" not in result.output
    table = tmp_path / "accuracy.csv"
    table.write_text("model,img_size,top1\nresnet18.a1_in1k,64,70\nresnet18.tv,64,69\n")
    result = run("--accuracy", table, "--hw", "rtx4090", "--jobs", 1, "-o", tmp_path / "a.duckdb")
    assert result.exit_code == 0, result.output
    (row,) = read(tmp_path / "a.duckdb")
    assert (row["target"], row["input"]) == ("timm:resnet18", "1x3x64x64")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--hw", "rtx4090", "-o", "{tmp}/x.parquet"), "no networks to sweep"),
        (("{net}", "--hw", "pixle8", "-o", "{tmp}/x.parquet"), "pixle8"),
        (("{net}", "--hw", "rtx4090", "--dtype", "fp7", "-o", "{tmp}/x.parquet"), "no dtype 'fp7'"),
        (("{net}", "--hw", "rtx4090", "-o", "{tmp}/x.csv"), "a .parquet or a .duckdb file"),
        (("{net}", "--hw", "rtx4090", "-o", "{tmp}/no/x.parquet"), "no such folder"),
        (("{net}", "--hw", "rtx4090", "--match", "(", "-o", "{tmp}/x.parquet"), "--match"),
        (("--accuracy", "{tmp}/no.csv", "--hw", "rtx4090", "-o", "{tmp}/x.parquet"), "no.csv"),
    ],
)
def test_bad_input_is_one_line(tmp_path, net, words, said):
    result = run(*(w.format(tmp=tmp_path, net=net()[0]) for w in words))
    assert isinstance(result.exception, (CostModelError, SystemExit))
    assert said in str(result.exception) + result.output
    assert "\n" not in str(result.exception)


def test_an_unreachable_scheduler_is_one_line(tmp_path, net):
    start = time.monotonic()
    with pytest.raises(CostModelError, match=r"no Dask scheduler answers at tcp://127\.0\.0\.1:9"):
        engine.sweep([net()], HW, tmp_path / "x.parquet", runner=cluster("tcp://127.0.0.1:9", 1))
    assert time.monotonic() - start < 20
    with pytest.raises(CostModelError, match="no Dask scheduler answers at nonsense"):
        engine.sweep([net()], HW, tmp_path / "x.parquet", runner=cluster("nonsense://x", 1))
    assert threading.active_count() < 50


def test_files_that_are_no_sweep_are_one_line(tmp_path):
    file = tmp_path / "bad.parquet"
    file.write_text(json.dumps({}))
    with pytest.raises(CostModelError, match="is no file of costmodel sweep"):
        read(file)
    with pytest.raises(CostModelError, match="no such file"):
        read(tmp_path / "none.duckdb")
