"""``costmodel measure`` as users run it: models that fail, interrupts, and files that resume."""

from __future__ import annotations

import contextlib
import csv
import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

import costmodel.cli as frame
from costmodel.measure import worker as workers
from costmodel.measure.job import Job
from costmodel.measure.rows import HEADER
from costmodel.measure.runtimes import RUNTIMES
from costmodel.validate.runs import read

NETS = '''
import os, signal, sys, time
from torch import nn

class Good(nn.Module):
    """Prints, which must not end up in the data."""
    def forward(self, x):
        print("on stdout")
        return x * 2

class Other(Good):
    pass

class HalfWay(nn.Module):
    """Fails at its fifth call, while it is timed."""
    calls = 0
    def forward(self, x):
        self.calls += 1
        if self.calls > 4:
            raise RuntimeError("tired of it")
        return x

class Never(nn.Module):
    def forward(self, x):
        raise ValueError("no way")

class Crashes(nn.Module):
    def forward(self, x):
        os.kill(os.getpid(), signal.SIGSEGV)

class Leaves(nn.Module):
    def forward(self, x):
        print("last words", file=sys.stderr, flush=True)
        os._exit(3)

class Long(nn.Module):
    def forward(self, x):
        time.sleep(60)
        return x
'''
SHORT = ("--input", "1x3x4x4", "--threads", "1", "--seconds", "0.01")


@pytest.fixture
def nets(tmp_path, monkeypatch) -> str:
    """A file of targets in the current folder."""
    monkeypatch.chdir(tmp_path)
    Path("nets.py").write_text(NETS)
    return "nets.py"


def run(*words: str) -> tuple[int, str, str]:
    """Exit status, stdout, stderr."""
    done = CliRunner().invoke(frame.cli, ["measure", *words])
    return done.exit_code, done.stdout, done.stderr


def errors(stderr: str) -> list[str]:
    return [line for line in stderr.splitlines() if "not measured" in line]


def test_rows_are_appended_and_a_second_call_measures_only_what_is_missing(nets):
    status, out, err = run(f"{nets}:Good", *SHORT, "--batch", "2", "-o", "runs.csv")
    assert (status, out) == (0, "")
    assert "runs.csv: 1 rows added" in err
    first = Path("runs.csv").read_text()
    header, row = csv.reader(io.StringIO(first))
    assert tuple(header) == HEADER
    fields = dict(zip(header, row, strict=True))
    setting = [fields[name] for name in ("device", "execution", "dtype", "layout", "threads")]
    assert setting == ["host", "eager", "fp32", "nchw", "1"]
    assert (fields["model"], fields["input_shape"], fields["batch"]) == (
        "nets.py:Good",
        "3x4x4",
        "2",
    )
    assert (fields["statistic"], fields["mode"]) == ("median", "eval")
    assert fields["source"].startswith("measured 20")
    assert 0 < float(fields["p10_ms"]) <= float(fields["latency_ms"]) <= float(fields["p90_ms"])
    assert int(fields["runs"]) >= 3

    status, _, err = run(f"{nets}:Good", f"{nets}:Other", *SHORT, "--batch", "2", "-o", "runs.csv")
    assert status == 0
    assert "nets.py:Good batch 2 eager: in runs.csv already" in err
    assert "runs.csv: 1 rows added, 1 there already" in err
    assert Path("runs.csv").read_text().startswith(first)
    runs, skipped = read("runs.csv")
    assert ([run.model for run in runs], skipped) == (["nets.py:Good", "nets.py:Other"], [])


def test_models_that_fail_or_crash_cost_one_line_each_and_stop_no_other(nets):
    names = ("Good", "HalfWay", "Never", "Crashes", "Leaves", "Nowhere", "Other")
    status, out, err = run(*(f"{nets}:{name}" for name in names), *SHORT, "-o", "runs.csv")
    assert (status, out) == (1, "")
    lines = errors(err)
    assert len(lines) == 5
    for line, words in zip(lines, (
        ("HalfWay", "stopped while it was timed", "RuntimeError: tired of it"),
        ("Never", "eager cannot run this model: ValueError: no way"),
        ("Crashes", "eager crashed with SIGSEGV"),
        ("Leaves", "ended with status 3 (last words)"),
        ("Nowhere", "has no Nowhere"),
    ), strict=True):  # fmt: skip
        assert [word for word in words if word not in line] == []
    assert "runs.csv: 2 rows added, 5 failed" in err
    assert [run.model for run in read("runs.csv")[0]] == ["nets.py:Good", "nets.py:Other"]


def test_nothing_measured_is_bad_input_and_csv_on_stdout_is_only_csv(nets):
    status, out, err = run(f"{nets}:Never", *SHORT)
    assert (status, out, len(errors(err))) == (2, "", 1)
    status, out, _ = run(f"{nets}:Good", *SHORT, "--batch", "1", "--batch", "4", "--format", "csv")
    assert status == 0
    rows = list(csv.DictReader(io.StringIO(out)))
    assert [(row["model"], row["batch"]) for row in rows] == [
        ("nets.py:Good", "1"),
        ("nets.py:Good", "4"),
    ]
    status, out, _ = run(f"{nets}:Good", *SHORT)
    assert "nets.py:Good" in out
    assert "p10–p90" in out
    assert "on stdout" not in out


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("-o", "/dev/full"), "cannot write /dev/full: No space left on device"),
        (("-o", "nowhere/runs.csv"), "cannot write nowhere/runs.csv: No such file or directory"),
        (("-o", "notes.csv"), "notes.csv is no file of runs"),
        (("--execution", "eager,tflite"), "nothing measures execution 'tflite'"),
        (("--threads", "4096"), "--threads 4096: this process may use"),
        (("--device", "cuda"), "no CUDA GPU here; leave --device out"),
    ],
)
def test_what_cannot_be_is_said_before_anything_is_measured(nets, words, line, monkeypatch):
    if "cuda" in words:
        torch = pytest.importorskip("torch")
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    Path("notes.csv").write_text("day,weather\n")
    monkeypatch.setattr(workers.Worker, "ask", None)
    status, out, err = run(f"{nets}:Good", "--input", "1x3x4x4", *words)
    assert (status, out) == (2, "")
    assert err.startswith(f"costmodel: error: {line}")
    assert err.count("\n") == 1


def test_a_row_that_cannot_be_written_is_said_and_ends_the_list(nets, monkeypatch):
    from costmodel.errors import CostModelError
    from costmodel.measure import rows

    def full(path, row):
        raise CostModelError(f"cannot write {path}: No space left on device; choose another path")

    monkeypatch.setattr(rows, "append", full)
    status, _, err = run(f"{nets}:Good", f"{nets}:Other", *SHORT, "-o", "runs.csv")
    assert status == 2
    assert " ms, which is not in runs.csv" in err
    assert "error: cannot write runs.csv: No space left on device" in err
    assert "Other" not in err


def test_an_interrupt_keeps_the_rows_and_leaves_no_process(nets):
    # A suite that was started in the background hands on an ignored SIGINT.
    body = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler);"
        "from costmodel.cli import main; main()"
    )
    command = [sys.executable, "-c", body, "measure", f"{nets}:Good", f"{nets}:Long"]
    process = subprocess.Popen(
        [*command, *SHORT, "-o", "runs.csv"], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    _until(lambda: "Good" in Path("runs.csv").read_text())
    children = _children(process.pid)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    assert "runs.csv: 1 rows added, 1 not reached" in err
    assert "interrupted" in err
    assert [run.model for run in read("runs.csv")[0]] == ["nets.py:Good"]
    assert children
    assert [child for child in children if _runs(child)] == []


def test_a_kill_keeps_the_rows_and_the_worker_follows(nets):
    command = [sys.executable, "-m", "costmodel", "measure", f"{nets}:Good", f"{nets}:Long"]
    process = subprocess.Popen(
        [*command, *SHORT, "-o", "runs.csv"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    _until(lambda: "Good" in Path("runs.csv").read_text())
    (child,) = _children(process.pid)
    process.kill()
    process.wait()
    _until(lambda: not _runs(child))
    assert not _runs(child)
    assert [run.model for run in read("runs.csv")[0]] == ["nets.py:Good"]


def _until(true: Callable[[], bool], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with contextlib.suppress(FileNotFoundError):
            if true():
                return
        time.sleep(0.1)


def _runs(pid: int) -> bool:
    """Whether the process is there and not a zombie that nobody has waited for."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def _children(parent: int) -> list[int]:
    if not Path("/proc").is_dir():
        pytest.skip("this system has no /proc")
    tasks = Path(f"/proc/{parent}/task/{parent}/children").read_text()
    return [int(child) for child in tasks.split()]


def test_two_measuring_the_same_list_at_once_lose_nothing_and_double_nothing(nets):
    command = [sys.executable, "-m", "costmodel", "measure", f"{nets}:Good", f"{nets}:Other"]
    both = [
        subprocess.Popen(
            [*command, *SHORT, "--batch", "1", "--batch", "2", "-o", "runs.csv"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )
        for _ in range(2)
    ]  # fmt: skip
    assert [process.wait(120) for process in both] == [0, 0]
    runs, skipped = read("runs.csv")
    assert skipped == []
    assert sorted((run.model, run.batch) for run in runs) == [
        ("nets.py:Good", 1), ("nets.py:Good", 2), ("nets.py:Other", 1), ("nets.py:Other", 2),
    ]  # fmt: skip


def test_a_worker_is_pinned_to_as_many_cores_as_threads(nets):
    if not hasattr(os, "sched_setaffinity"):
        pytest.skip("this system pins no process")
    Path("pinned.py").write_text(
        "import os\nfrom torch import nn\nimport torch\n"
        "class Net(nn.Module):\n"
        "    def forward(self, x):\n"
        "        raise RuntimeError(f'{os.sched_getaffinity(0)} {torch.get_num_threads()}')\n"
    )
    _, _, err = run("pinned.py:Net", *SHORT)
    (line,) = errors(err)
    assert line.endswith(f"{{{frame_cores()[0]}}} 1")


def frame_cores() -> list[int]:
    from costmodel.measure import host

    return host.cores()


def test_help_names_every_runtime_and_a_job_knows_its_defaults():
    text = CliRunner().invoke(frame.cli, ["measure", "--help"]).stdout
    assert [name for name in RUNTIMES if name not in text] == []
    assert Job("net.py", "eager") == Job("net.py", "eager", (), None, "fp32", "nchw", 1, "eval")
