"""``costmodel compare`` in numbers: ratios, swapped ranks and the ops to blame."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

import costmodel as cm
import costmodel.cli as frame
from costmodel.compare import Row, _swaps, compare

DENSE = "timm:resnet18"
SPARSE = "timm:efficientnet_b0"


def run(*words):
    return CliRunner().invoke(frame.cli, ["compare", *map(str, words)])


def row(target, macs, latency, families, family_macs):
    return Row(target, macs, 2 * macs, 1, 1, 1, True, {"x": latency}, {"x": families}, family_macs)


def test_rows_are_the_analyses_and_ratios_are_to_the_first():
    found = compare([DENSE, SPARSE], ["rtx4090"]).to_dict()
    for line in found["rows"]:
        report = cm.analyze(line["target"], hw="rtx4090")
        assert line["macs"] == report.macs
        assert line["params"] == report.params
        assert line["latency_s"] == {"rtx4090": report.latency_s}
    first, second = found["rows"]
    assert found["ratios"][0]["macs"] == 1
    assert found["ratios"][1]["macs"] == second["macs"] / first["macs"]
    assert found["ratios"][1]["latency_s"]["rtx4090"] > 1


def test_fewer_macs_that_take_longer_are_blamed_on_ops():
    found = compare([DENSE, SPARSE], ["rtx4090"]).to_dict()["disagreements"]
    (swap,) = found
    assert (swap["fewer_macs"], swap["faster"]) == (SPARSE, DENSE)
    assert swap["macs_ratio"] < 1 < swap["latency_ratio"]
    excess = [b["excess_s"] for b in swap["blame"]]
    assert excess == sorted(excess, reverse=True)
    assert all(seconds > 0 for seconds in excess)


def test_blame_by_hand():
    few = row("few", 50, 4.0, {"depthwise": 3.0, "dense": 1.0}, {"depthwise": 10, "dense": 40})
    many = row("many", 100, 2.0, {"dense": 2.0}, {"dense": 100})
    (swap,) = _swaps([many, few], ["x"])
    assert (swap.fewer, swap.more, swap.macs, swap.latency) == ("few", "many", 0.5, 2.0)
    # At 0.02 s a MAC the depthwise ops would take 0.2 s and the dense ones 0.8 s.
    assert dict(swap.blame) == pytest.approx({"depthwise": 2.8, "dense": 0.2})
    assert _swaps([many, row("fast", 50, 1.0, {"dense": 1.0}, {"dense": 50})], ["x"]) == []
    assert _swaps([many, row("tie", 99, 2.01, {"dense": 2.0}, {"dense": 99})], ["x"]) == []


def test_the_command_prints_text_and_json():
    result = run(DENSE, SPARSE, "--hw", "rtx4090", "--hw", "pixel8:gpu", "--input", "1x3x64x64")
    assert result.exit_code == 0, result.output
    assert "(1.00×)" in result.output
    assert "Fewer MACs, but slower" in result.output
    assert f"rtx4090: {SPARSE} has" in result.output
    result = run(DENSE, SPARSE, "--format", "json", "--input", "1x3x64x64")
    assert json.loads(result.output)["rows"][0]["latency_s"] == {}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((DENSE,), "give two or more TARGETs"),
        ((DENSE, SPARSE, "--hw", "pixle8"), "pixle8"),
        ((DENSE, SPARSE, "--dims", "N,H,W", "--hw", "rtx4090"), "formulas know no device"),
        ((DENSE, "timm:nonet"), "nonet"),
    ],
)
def test_bad_input_is_one_line(words, said):
    result = run(*words)
    assert result.exit_code != 0
    assert said in str(result.exception) + result.output
    assert "\n" not in str(result.exception)
