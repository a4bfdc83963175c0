"""Timing, weights, the file of runs, and the machine's name, without a runtime."""

from __future__ import annotations

import errno
import multiprocessing
import os
import platform
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from torch import nn

from costmodel.errors import CostModelError
from costmodel.hardware import profile_names
from costmodel.measure import allocator, host, rows
from costmodel.measure.denormals import flushed
from costmodel.measure.timing import FEWEST, Timing, time_calls
from costmodel.measure.weights import materialise, randomise
from costmodel.validate.runs import read

ROW = {
    "device": "host", "software": "torch 2.13.0", "execution": "eager", "dtype": "fp32",
    "layout": "nchw", "threads": "1", "model": "net.py:Net(a=1,b=2)", "input_shape": "3x8x8",
    "batch": "1", "latency_ms": "1.5", "statistic": "median", "source": "measured here",
    "p10_ms": "1.4", "p90_ms": "1.6", "runs": "10", "mode": "eval", "probe_ms": "1.2",
}  # fmt: skip


def test_samples_are_sorted_into_percentiles_after_the_warm_up():
    """A clock that reads 9 s first, then settles at 2 s: the 9 is in no sample."""
    readings = iter([9.0, *[2.0] * 100])
    found = time_calls(lambda: None, min_seconds=8.0, min_runs=4, clock=lambda _: next(readings))
    assert found == Timing(2.0, 2.0, 2.0, 4, True)
    values = iter([1.0] * 5 + [float(n) for n in range(1, 12)])
    found = time_calls(lambda: None, min_seconds=5.0, min_runs=11, clock=lambda _: next(values))
    assert (found.median_s, found.p10_s, found.p90_s) == (6.0, 2.0, 10.0)
    assert found.spread == pytest.approx(8 / 6)


def test_a_call_that_never_settles_is_timed_and_said_to_be_unstable():
    calls = []

    def doubling(_) -> float:
        calls.append(time.sleep(0.001))
        return 2.0 ** len(calls)

    found = time_calls(lambda: None, min_seconds=0, max_seconds=0.05, clock=doubling)
    assert not found.stable
    assert found.runs >= FEWEST


def test_a_slow_call_is_sampled_a_few_times_though_the_limit_has_passed():
    calls = []
    found = time_calls(lambda: calls.append(time.sleep(0.02)), min_seconds=5, max_seconds=0.01)
    assert found.runs == FEWEST
    assert len(calls) <= FEWEST + 2


class Deep(nn.Module):
    """A hundred layers without a residual: default weights let the signal die away in it."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for _ in range(100):
            layers += [nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU()]
        self.layers = nn.Sequential(*layers)
        self.gate = nn.Parameter(torch.zeros(8))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)


def test_random_weights_keep_the_signal_away_from_zero_and_infinity():
    x = torch.randn(1, 8, 8, 8, generator=torch.Generator().manual_seed(0))
    fresh, ours = Deep().eval(), Deep().eval()
    randomise(ours)
    with torch.no_grad():
        assert fresh(x).abs().max() < 1e-20  # what the check is for
        out = ours(x)
    assert out.isfinite().all()
    assert 1e-6 < out.abs().max() < 1e12


def test_denormal_numbers_are_zero_while_something_is_measured_and_no_longer():
    tiny = torch.full((4,), 1e-38)
    with flushed():
        assert (tiny * 0.1).count_nonzero() == 0
        with flushed():
            pass
        assert (tiny * 0.1).count_nonzero() == 0
    assert (tiny * 0.1).count_nonzero() == 4


def test_random_weights_are_the_same_every_time_and_replace_missing_ones(tmp_path):
    file = tmp_path / "net.py"
    file.write_text(
        "from torch import nn\nimport torch\n"
        "with torch.device('meta'):\n"
        "    model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))\n"
    )
    first, (x,) = materialise(f"{file}", ["2x4"])
    second, (again,) = materialise(f"{file}", ["2x4"])
    assert not any(w.is_meta for w in first.parameters())
    assert torch.equal(x, again)
    assert torch.equal(first.eval()(x), second.eval()(x))
    assert first(x).isfinite().all()


def test_keywords_and_nested_inputs_become_positional_tensors(tmp_path):
    (tmp_path / "net.py").write_text(
        "import torch\nfrom torch import nn\n"
        "class Net(nn.Module):\n"
        "    def __init__(self):\n        super().__init__()\n        self.e = nn.Embedding(9, 4)\n"
        "    def forward(self, ids, attention_mask=None):\n"
        "        assert bool((attention_mask == 1).all()) and int(ids.max()) < 9\n"
        "        return {'y': self.e(ids) * attention_mask[..., None], 'none': None}\n"
        "def example_inputs():\n"
        "    m = torch.empty(2, 5, dtype=torch.int64, device='meta')\n"
        "    return {'ids': m, 'attention_mask': m}\n"
    )
    model, inputs = materialise(f"{tmp_path / 'net.py'}:Net", batch=3)
    assert [tuple(x.shape) for x in inputs] == [(3, 5), (3, 5)]
    (out,) = model(*inputs)
    assert out.shape == (3, 5, 4)


def test_a_target_without_an_input_size_says_how_to_give_one(tmp_path):
    (tmp_path / "net.py").write_text("from torch import nn\nmodel = nn.ReLU()\n")
    with pytest.raises(CostModelError, match="--input 1x3x224x224"):
        materialise(str(tmp_path / "net.py"))


def test_rows_are_read_back_by_validate_and_known_by_what_they_measured(tmp_path):
    path = tmp_path / "runs.csv"
    rows.start(path)
    assert rows.append(path, ROW)
    assert not rows.append(path, {**ROW, "latency_ms": "9"}), "the same measurement again"
    assert rows.append(path, {**ROW, "batch": "8"})
    assert rows.known(path) == {rows.key_of(ROW), rows.key_of({**ROW, "batch": "8"})}
    runs, skipped = read(path)
    assert skipped == []
    assert [(run.model, run.batch, run.latency_ms) for run in runs] == [
        ("net.py:Net(a=1,b=2)", 1, 1.5), ("net.py:Net(a=1,b=2)", 8, 1.5),
    ]  # fmt: skip


def test_a_file_that_is_there_keeps_its_rows_its_columns_and_a_torn_last_line(tmp_path):
    path = tmp_path / "runs.csv"
    header = [*reversed(rows.HEADER), "note"]
    path.write_text(",".join(header) + "\nhalf a li")
    rows.start(path)
    rows.append(path, ROW)
    lines = path.read_text().splitlines()
    assert lines[:2] == [",".join(header), "half a li"]
    runs, skipped = read(path)
    assert [run.latency_ms for run in runs] == [1.5]
    assert len(skipped) == 1


@pytest.mark.parametrize(
    ("content", "word"),
    [("name,value\n1,2\n", "is no file of runs"), ("model,device\n", "has no columns software")],
)
def test_a_file_of_something_else_is_refused_and_left_alone(tmp_path, content, word):
    path = tmp_path / "other.csv"
    path.write_text(content)
    with pytest.raises(CostModelError, match=word):
        rows.start(path)
    assert path.read_text() == content


def test_a_place_that_cannot_be_written_is_said_in_one_line(tmp_path):
    (tmp_path / "folder").mkdir()
    for path in ("/dev/full", tmp_path / "nowhere" / "runs.csv", tmp_path / "folder"):
        with pytest.raises(CostModelError, match=f"^cannot write {path}: .*; choose another path"):
            rows.start(path)


def _fails_after(monkeypatch, writes: int) -> None:
    """A disk that takes half of what is written once ``writes`` writes are done, then nothing."""
    real, done = os.write, []

    def write(handle: int, data: bytes) -> int:
        done.append(None)
        if len(done) <= writes:
            return real(handle, data)
        if len(done) == writes + 1:
            return real(handle, data[: len(data) // 2])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", write)


def test_a_disk_that_fills_up_leaves_whole_rows_only(tmp_path, monkeypatch):
    path = tmp_path / "runs.csv"
    rows.start(path)
    rows.append(path, ROW)
    before = path.read_bytes()
    _fails_after(monkeypatch, 0)
    with pytest.raises(CostModelError, match="No space left on device"):
        rows.append(path, {**ROW, "batch": "2"})
    assert path.read_bytes() == before


def test_a_disk_that_is_full_is_noticed_before_anything_is_measured(tmp_path, monkeypatch):
    path = tmp_path / "runs.csv"
    _fails_after(monkeypatch, 1)  # room for the header, none for rows
    with pytest.raises(CostModelError, match="No space left on device"):
        rows.start(path)
    assert path.read_text() == ",".join(rows.HEADER) + "\n"


def _append(path: Path, name: str, count: int) -> None:
    for number in range(count):
        rows.append(path, {**ROW, "model": name, "batch": str(number + 1)})
        rows.append(path, {**ROW, "model": "both", "batch": str(number + 1)})


def test_two_processes_appending_at_once_lose_nothing_and_double_nothing(tmp_path):
    path = tmp_path / "runs.csv"
    rows.start(path)
    context = multiprocessing.get_context("fork")
    others = [context.Process(target=_append, args=(path, name, 40)) for name in "ab"]
    for other in others:
        other.start()
    for other in others:
        other.join()
        assert other.exitcode == 0
    runs, skipped = read(path)
    assert skipped == []
    found = sorted((run.model, run.batch) for run in runs)
    assert found == sorted((m, b) for m in ("a", "b", "both") for b in range(1, 41))


def test_a_process_killed_while_it_appends_leaves_a_file_that_is_read(tmp_path):
    path = tmp_path / "runs.csv"
    rows.start(path)
    context = multiprocessing.get_context("fork")
    for turn in range(5):
        other = context.Process(target=_append, args=(path, f"turn{turn}", 10**6))
        other.start()
        deadline = time.monotonic() + 20
        while len(rows.known(path)) < 4 * (turn + 1) and time.monotonic() < deadline:
            time.sleep(0.002)
        assert other.pid is not None
        os.kill(other.pid, signal.SIGKILL)
        other.join()
        assert rows.append(path, {**ROW, "model": f"after{turn}"}), "the lock went with it"
    runs, skipped = read(path)
    assert skipped == []
    assert len({(run.model, run.batch) for run in runs}) == len(runs) > 20


FAULTS = """
import resource, sys
if sys.argv[1] == "keep":
    from costmodel.measure.allocator import keep_freed_memory
    print(keep_freed_memory())
import ctypes
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
libc.malloc.argtypes = [ctypes.c_size_t]
libc.memset.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]
def once():
    block = libc.malloc(64 << 20)
    libc.memset(block, 1, 64 << 20)
    libc.free(block)
once()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(4):
    once()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the allocator of glibc is told")
def test_memory_that_was_freed_is_used_again_without_a_fault():
    def said(word: str) -> list[str]:
        done = subprocess.run(
            [sys.executable, "-c", FAULTS, word], capture_output=True, text=True, check=True
        )
        return done.stdout.split()

    (usual,) = said("usual")
    told, kept = said("keep")
    assert told == "True"
    assert int(kept) < 100 < int(usual)


def test_another_c_library_is_left_alone(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    assert allocator.keep_freed_memory() is False


def test_a_gpu_is_the_profile_of_its_name():
    drivers = {
        "NVIDIA GeForce RTX 4090": "rtx4090", "Tesla T4": "t4", "NVIDIA L40S": "l40s",
        "Tesla V100-SXM2-16GB": "v100-sxm2-16gb", "NVIDIA A100-SXM4-80GB": "a100-sxm-80gb",
        "NVIDIA A100-PCIE-40GB": "a100-pcie-40gb", "NVIDIA H100 PCIe": "h100-pcie",
        "NVIDIA H100 80GB HBM3": "h100-sxm", "NVIDIA H200": "h200-sxm",
    }  # fmt: skip
    assert {title: host.gpu_device(title) for title in drivers} == drivers
    assert set(drivers.values()) <= set(profile_names())
    assert host.gpu_device("NVIDIA GeForce GTX 1080 Ti") == "gtx-1080-ti"


def test_more_threads_than_cores_are_refused():
    available = len(host.cores())
    host.check_threads(available)
    with pytest.raises(CostModelError, match=f"may use {available} cores"):
        host.check_threads(available + 1)
    assert 1 <= host.default_threads() <= available


def test_noise_is_said_with_its_reasons_and_quiet_is_not():
    calm = Timing(1.0, 0.99, 1.01, 10, True)
    assert host.remarks(host.Load(0.1, 0.0), calm) == []
    (line,) = host.remarks(host.Load(1.5, 0.3), Timing(1.0, 0.9, 1.4, 10, False))
    for word in ("never settled", "50%", "1.5 cores", "took 0.30 cores"):
        assert word in line


def test_the_load_of_another_process_is_seen():
    if host._jiffies() is None:
        pytest.skip("this system has no /proc/stat")
    context = multiprocessing.get_context("fork")
    other = context.Process(target=_spin, daemon=True)
    other.start()
    with host.watched() as load:
        time.sleep(1.0)
    other.kill()
    other.join()
    assert load.others > 0.05


def test_our_own_work_is_not_counted_as_others(monkeypatch):
    monkeypatch.setattr(host, "_jiffies", lambda: (sum(os.times()[:4]), 0.0))
    with host.watched() as load:
        until = time.perf_counter() + 0.3
        while time.perf_counter() < until:
            pass
    assert load == host.Load(pytest.approx(0, abs=0.1), 0.0)


def _spin() -> None:
    while True:
        pass
