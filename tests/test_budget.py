"""Budgets: ``costmodel check``, the helper for tests, and ``costmodel diff``."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner
from torch import nn

import costmodel as cm
import costmodel.cli as frame
from costmodel import budget, difference
from costmodel.testing import assert_within

NET = """
import torch
from torch import nn
class Net(nn.Module):
    def __init__(self, width=4):
        super().__init__()
        self.conv = nn.Conv2d(3, width, 3, padding=1)
    def forward(self, x):
        return self.conv(x)
def example_inputs():
    return (torch.randn(1, 3, 8, 8),)
"""
# By hand: 4 channels at 64 positions of 27 products; 4·27 + 4 parameters.
MACS, PARAMS = 4 * 64 * 27, 112


@pytest.fixture
def net(tmp_path):
    file = tmp_path / "net.py"
    file.write_text(NET)
    return f"{file}:Net"


@pytest.fixture
def written(tmp_path, net):
    def write(text):
        file = tmp_path / "budget.toml"
        file.write_text(text.replace("NET", net))
        return file

    return write


def run(*words):
    return CliRunner().invoke(frame.cli, [*map(str, words)])


def test_a_budget_that_holds_exits_with_0(written):
    file = written(f'[[model]]\ntarget = "NET"\nmacs = {MACS}\nparams = "112"\n')
    result = run("check", file)
    assert result.exit_code == 0
    assert "6,912" in result.output
    assert not any(line.startswith("+") for line in result.output.splitlines())


def test_a_budget_that_is_exceeded_exits_with_1_and_marks_the_line(written):
    file = written(
        f'[[model]]\ntarget = "NET"\nmacs = {MACS - 1}\nparams = "1k"\n'
        "[model.latency_ms]\nrtx4090 = 1e-9\npixel8 = 1e6\n"
    )
    result = run("check", file)
    assert result.exit_code == 1
    marked = [line for line in result.output.splitlines() if line.startswith("+")]
    assert len(marked) == 2
    assert " macs " in marked[0]
    assert "6,911" in marked[0]
    assert "latency rtx4090" in marked[1]
    assert "2 of 4 limits exceeded" in result.output
    found = json.loads(run("check", file, "--format", "json").stdout)
    assert [r["exceeded"] for r in found["rows"]] == [True, False, True, False]


def test_sizes_read_like_text(written, net):
    file = written('[[model]]\ntarget = "NET"\nmacs = "6.9k"\npeak_activation_bytes = "2MB"\n')
    (limits,) = budget.read(file)
    assert limits.counts == {"macs": 6900, "peak_activation_bytes": 2_000_000}
    values = {f.what: f.value for f in budget.check([limits])}
    assert values["macs"] == MACS
    # The input of 3·64 and the output of 4·64 floats live together.
    assert values["peak_activation_bytes"] == 4 * 64 * 7


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[[model]\n", "is no TOML"),
        ("", "needs tables [[model]]"),
        ("[model]\n", "needs tables [[model]]"),
        ("macs = 1\n", "not 'macs'"),
        ("[[model]]\nmacs = 1\n", "has no target"),
        ('[[model]]\ntarget = "NET"\n', "has no limit"),
        ('[[model]]\ntarget = "NET"\nmasc = 1\n', "no limit 'masc'"),
        ('[[model]]\ntarget = "NET"\nmacs = "lots"\n', "no positive number"),
        ('[[model]]\ntarget = "NET"\nmacs = -5\n', "no positive number"),
        ('[[model]]\ntarget = "NET"\nmacs = true\n', "no positive number"),
        ('[[model]]\ntarget = "NET"\nlatency_ms = 5\n', "needs devices"),
        ('[[model]]\ntarget = "NET"\n[model.latency_ms]\npixle8 = 5\n', "pixle8"),
        ('[[model]]\ntarget = "nowhere.py"\nmacs = 1\n', "nowhere.py"),
    ],
)
def test_bad_budgets_are_one_line(written, text, said):
    result = run("check", written(text))
    assert result.exit_code != 0
    assert isinstance(result.exception, (cm.CostModelError, SystemExit))
    assert said in str(result.exception) + result.output
    assert "\n" not in str(result.exception)


def test_a_budget_needs_all_counts(tmp_path):
    file = tmp_path / "odd.py"
    file.write_text(
        "import torch\nfrom torch import nn\nclass Odd(nn.Module):\n"
        "    def forward(self, x):\n        return torch.linalg.matrix_exp(x)\n"
        "def example_inputs():\n    return (torch.randn(4, 4),)\n"
    )
    limits = budget.Limits(f"{file}:Odd", None, {"macs": 10**9})
    with pytest.raises(cm.CostModelError, match="no cost rule for aten"):
        budget.check([limits])


def test_the_helper_asserts():
    net = nn.Conv2d(3, 4, 3, padding=1)
    found = assert_within(net, "1x3x8x8", macs="7k", params=PARAMS)
    assert [f.value for f in found] == [MACS, PARAMS]
    with pytest.raises(AssertionError, match=r"\+ Conv2d +macs +6,000 +6,912"):
        assert_within(net, "1x3x8x8", macs="6k")
    with pytest.raises(AssertionError, match="latency rtx4090"):
        assert_within(net, "1x3x8x8", latency_ms={"rtx4090": 1e-9})
    with pytest.raises(cm.CostModelError, match="no limit 'mac'"):
        assert_within(net, "1x3x8x8", mac=1)


def test_the_difference_of_two_reports(tmp_path, net):
    old, new = tmp_path / "old.json", tmp_path / "new.json"
    for path, width in ((old, 4), (new, 6)):
        report = cm.analyze(f"{net}(width={width})", hw="rtx4090")
        path.write_text(report.to_json())
    result = run("diff", old, new)
    assert result.exit_code == 0
    assert "| macs | 6,912 | 10,368 | +50.00 % |" in result.output
    assert "| conv: MACs | 6,912 | 10,368 | +50.00 % |" in result.output
    assert "target: " in result.output
    assert run("diff", old, new, "--exit-code").exit_code == 1
    same = run("diff", old, old, "--exit-code")
    assert (same.exit_code, same.output) == (0, "No change in cost.\n")
    found = json.loads(run("diff", old, new, "--format", "json").output)
    assert {"what": "params", "old": 112, "new": 168} in found["totals"]
    file = tmp_path / "diff.md"
    run("diff", old, new, "-o", file)
    assert file.read_text() == result.output


def test_modules_come_and_go():
    base = {"schema": 1, "totals": {"macs": 5}, "prediction": None}
    old = {**base, "ops": [{"module": "a", "macs": 5}]}
    new = {**base, "ops": [{"module": "b", "macs": 5}]}
    text = difference.text(difference.difference(old, new))
    assert "| a: MACs | 5 |  | gone |" in text
    assert "| b: MACs |  | 5 | new |" in text


@pytest.mark.parametrize(
    ("content", "said"), [("{", "is no JSON"), ("[]", "is no report"), (None, "No such file")]
)
def test_bad_reports_are_one_line(tmp_path, content, said):
    file = tmp_path / "bad.json"
    if content is not None:
        file.write_text(content)
    result = run("diff", file, file)
    assert result.exit_code != 0
    assert said in str(result.exception) + result.output
