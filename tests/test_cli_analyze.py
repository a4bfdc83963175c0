"""``costmodel analyze``: what it prints to the letter, and how it ends when something is wrong."""

from __future__ import annotations

import csv
import io
import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
from click.testing import CliRunner, Result

import costmodel.cli as frame

NET = """
import torch
from torch import nn
class Net(nn.Module):
    def __init__(self, width=4):
        super().__init__()
        self.conv = nn.Conv2d(3, width, 3, padding=1)
        self.act = nn.ReLU()
        self.head = nn.Linear(width, 2)
    def forward(self, x):
        return self.head(self.act(self.conv(x)).mean((2, 3)))
def model():
    return Net()
def example_inputs():
    return (torch.randn(1, 3, 8, 8),)
"""

# By hand: the convolution has 4·64·27 MACs and a bias per output, ReLU an op per element, the mean
# 64 ops a channel (63 adds and a division), the head 2·4 MACs and a bias per output. Bytes, 4 an
# element: the convolution reads 192 + 112 and writes 256, ReLU reads and writes 256, the mean reads
# 256 and writes 4, the head reads 4 + 10 and writes 2. Two maps of 256 and the caller's input of
# 192 live during ReLU.
TABLE = """\
net.py
input 1x3x8x8 float32, eval
params 122, MACs 6920, FLOPs 14.61 k
bytes 5.392 kB (read 3.320 kB, written 2.072 kB), peak activations 2.816 kB

Where 80 % of the MACs are
family       params  MACs     bytes  share
convolution     112  6912  2.240 kB  100 %

100 % of the MACs and 42 % of the bytes are dense convolution; --hw NAME tells
which of it takes the time.

module    params  MACs     bytes  share
conv         112  6912  2.240 kB  100 %
act            0     0  2.048 kB    0 %
head          10     8      64 B   <1 %
(itself)       0     0  1.040 kB    0 %
"""


def run(*words: str) -> Result:
    return CliRunner().invoke(frame.cli, ["analyze", *words])


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with ``net.py`` and with files that are wrong in one way each."""
    files = {
        "net.py": NET,
        "none.py": "X = 1",
        "two.py": "from torch import nn\nclass A(nn.Module): pass\nclass B(nn.Module): pass",
        "constructor.py": "def model():\n    raise ValueError('width must\\n be even')",
        "forward.py": "from torch import nn\nclass A(nn.Module):\n"
        "    def forward(self, x):\n        raise KeyError('nope')",
        "loud.py": NET + "print('hello')",
        "odd.py": ODD,
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    return tmp_path


ODD = """
import torch
from torch import nn
LIBRARY = torch.library.Library("costmodel_cli_test", "FRAGMENT")
if not hasattr(torch.ops.costmodel_cli_test, "odd"):
    LIBRARY.define("odd(Tensor x) -> Tensor")
    LIBRARY.impl("odd", torch.empty_like, "Meta")
class Odd(nn.Module):
    def forward(self, x):
        return torch.ops.costmodel_cli_test.odd(x)
"""


# -- what it prints -------------------------------------------------------------------------------


def test_the_table_to_the_letter(here):
    done = run("net.py")
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout == TABLE


def test_json_is_the_data_and_nothing_else(here, repository):
    schema = json.loads((repository / "specs" / "analyze.schema.json").read_text())
    done = run("loud.py", "--hw", "pixel8", "--format", "json")
    found = json.loads(done.stdout)
    jsonschema.validate(found, schema)
    assert done.stderr == "hello\n"
    assert found["target"] == "loud.py"
    assert found["inputs"] == [{"shape": [1, 3, 8, 8], "dtype": "float32"}]
    assert found["totals"]["macs"] == 4 * 64 * 27 + 8
    assert found["totals"]["params"] == 4 * 27 + 4 + 8 + 2
    assert found["prediction"]["hw"] == "pixel8:cpu"


@pytest.mark.parametrize(
    ("words", "macs"),
    [
        (("--batch", "3"), 3 * 6920),
        (("--input", "1x3x16x16"), 4 * 256 * 27 + 8),
        (("--input", "x=2x3x8x8"), 2 * 6920),
        # The head three times over, the convolution without its input's gradient.
        (("--mode", "train"), 2 * 4 * 64 * 27 + 3 * 8),
    ],
)
def test_inputs_and_mode_change_the_count(here, words, macs):
    done = run("net.py", "--format", "json", *words)
    assert done.stderr == ""
    assert json.loads(done.stdout)["totals"]["macs"] == macs


@pytest.mark.parametrize(
    ("by", "names"),
    [
        ("module", ["conv", "act", "head", ""]),
        ("op", ["aten.conv2d", "aten.linear", "aten.relu", "aten.mean"]),
        ("family", ["convolution", "matmul", "activation", "reduction"]),
    ],
)
def test_lines_stand_for_what_by_says(here, by, names):
    rows = list(csv.DictReader(io.StringIO(run("net.py", "--format", "csv", "--by", by).stdout)))
    found = [row["name"] for row in rows]
    assert found[: len(names)] == names or sorted(found) == sorted(names)
    table = run("net.py", "--by", by).stdout
    assert all(f"\n{name} " in table for name in names if name)
    assert [g["name"] for g in json.loads(run("net.py", "--format", "json", "--by", by).stdout)[
        "groups"
    ]] == found  # fmt: skip


def test_an_output_file_holds_what_stdout_would(here):
    for form in ("table", "json", "csv", "markdown"):
        done = run("net.py", "--hw", "pixel8", "--format", form, "-o", f"out.{form}")
        assert (done.exit_code, done.stdout, done.stderr) == (0, "", "")
        wanted = run("net.py", "--hw", "pixel8", "--format", form).stdout
        assert (here / f"out.{form}").read_text() == wanted


def test_strict_names_the_unknown_op_and_answers_no(here):
    done = run("odd.py", "--input", "1x8", "--strict")
    assert done.exit_code == 1
    assert done.stdout.startswith("INCOMPLETE")
    line = "costmodel: no cost rule for costmodel_cli_test.odd (1 ×); totals are lower bounds\n"
    assert done.stderr == line
    assert run("odd.py", "--input", "1x8").exit_code == 0
    assert run("net.py", "--strict").exit_code == 0


@pytest.mark.slow
def test_a_terminal_gets_colour_and_a_pipe_does_not(here):
    words = [sys.executable, "-m", "costmodel", "analyze", "net.py", "--hw", "pixel8"]
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "80"}
    environment.pop("NO_COLOR", None)
    master, slave = pty.openpty()
    process = subprocess.Popen(words, stdout=slave, stderr=subprocess.PIPE, env=environment)
    os.close(slave)
    shown = b""
    try:
        while chunk := os.read(master, 65536):
            shown += chunk
    except OSError:
        pass  # how Linux says that the other side has closed
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (0, b"")
    assert b"\x1b[" in shown
    assert "█".encode() in shown
    piped = subprocess.run(words, capture_output=True, env={**environment, "FORCE_COLOR": "1"})
    assert b"\x1b[" not in piped.stdout
    assert "█".encode() not in piped.stdout


# -- what is wrong --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["missing.py"], "missing.py: there is no such file; give the path of a Python file"),
        (["none.py"], "none.py has no model: define `model`, or one nn.Module subclass, in it"),
        (["two.py"], "two.py has 2 models, A and B; name one, as in two.py:A"),
        (["constructor.py"], "constructor.py:2: ValueError: width must be even; cannot build"),
        (["forward.py", "--input", "1x3"], "cannot run the model: KeyError in A: 'nope'"),
        (["forward.py"], "forward.py declares no input size; give one, as in --input 1x3x224x224"),
        (["net.py", "--input", "1x4x8x8"], "cannot run the model: RuntimeError in conv (Conv2d): "),
        (["net.py", "--input", "int64:1x3x8x8"], "cannot run the model: "),
        (["net.py", "--input", "1x3xABC"], "input '1x3xABC' is not a shape; write one like"),
        (["net.py", "--input", "nan"], "input 'nan' is not a shape; write one like"),
        (["net.py", "--input", "0x3x8x8"], "input 0x3x8x8: every dimension must be at least 1"),
        (["net.py:Net(width=nan)"], "net.py:Net(width=nan): argument nan is not a Python literal"),
        (["net.py:Net(width=-1)"], "net.py:7: "),
        (["net.py", "--batch", "nan"], "Invalid value for '--batch': 'nan' is not a valid"),
        (["net.py", "--batch", "0"], "Invalid value for '--batch': 0 is not in the range"),
        (["timm:resnet5"], "timm has no model 'resnet5'; did you mean resnet50"),
        (["net.py", "--hw", "pixel99"], "no device is called 'pixel99'; did you mean pixel9"),
        (["net.py", "--hw", "pixel8", "--dtype", "fp17"], "tflite has no dtype 'fp17'; choose"),
        (["net.py", "--hw", "rtx4090", "--layout", "nwhc"], "unknown layout 'nwhc'; choose nchw"),
        (["net.py", "--dtype", "fp16"], "--dtype is about a device; add --hw NAME"),
        (["net.py", "--format", "xml"], "Invalid value for '--format': 'xml' is not one of"),
        (["net.py", "-o", "no/such/folder.json"], "cannot write no/such/folder.json: No such file"),
        (["net.py", "-o", "."], "cannot write .: "),
    ],
)
def test_bad_input_is_one_line_and_status_2(here, words, line):
    before = sorted(here.rglob("*"))
    done = run(*words)
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.startswith(f"costmodel: error: {line}")
    assert done.stderr.count("\n") == 1
    after = [path for path in sorted(here.rglob("*")) if "__pycache__" not in path.parts]
    assert after == before


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
def test_a_full_disk_is_one_line_and_leaves_the_device_alone(here):
    done = run("net.py", "-o", "/dev/full")
    assert done.exit_code == 2
    reason = "cannot write /dev/full: No space left on device; choose another path with -o"
    assert done.stderr == f"costmodel: error: {reason}\n"
    assert Path("/dev/full").is_char_device()


def test_a_failed_run_leaves_the_old_output(here):
    (here / "out.json").write_text("old")
    assert run("forward.py", "--input", "1x3", "-o", "out.json").exit_code == 2
    assert (here / "out.json").read_text() == "old"
