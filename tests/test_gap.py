"""Where a measured latency goes: parts worked out by hand, their sum, and the words."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
from click.testing import CliRunner

import costmodel as cm
from costmodel.cli import cli
from costmodel.errors import CostModelError
from costmodel.execution.kernel import Access, Kernel
from costmodel.measure.gap import Gap, compulsory_bytes, gap
from costmodel.report import gap as words

NET = """
from torch import nn
def model():
    return nn.Sequential(nn.Linear(1024, 1024, bias=False), nn.ReLU())
"""
#: Raspberry Pi 4: four Cortex-A72 of 8 FLOPs a cycle at 1.8 GHz, 12.8 GB/s.
PEAK, BANDWIDTH = 4 * 8 * 1.8e9, 12.8e9
WEIGHT, VECTOR = 4 * 1024 * 1024, 4 * 1024


@pytest.fixture
def net(tmp_path, monkeypatch) -> str:
    (tmp_path / "net.py").write_text(NET)
    monkeypatch.chdir(tmp_path)
    return "net.py"


def parts(net: str, batch: int, measured: float = 1e-3) -> Gap:
    table = cm.cost(cm.trace(net, f"{batch}x1024"))
    return gap(table, cm.predict(table, "rpi4", execution="eager"), measured)


def test_memory_bound_floor_by_hand(net):
    found = parts(net, 1)
    assert found.floor == "memory"
    # weight, input and output once
    assert found.floor_s == pytest.approx((WEIGHT + 2 * VECTOR) / BANDWIDTH, rel=1e-12)
    # the product's output is written and read again
    assert found.traffic_s == pytest.approx(2 * VECTOR / BANDWIDTH, rel=1e-9)


def test_compute_bound_floor_by_hand(net):
    found = parts(net, 256)
    assert found.floor == "compute"
    assert found.floor_s == pytest.approx(2 * 256 * 1024**2 / PEAK, rel=1e-12)
    # The product alone is bound by its arithmetic too; ReLU reads and writes 256 vectors.
    assert found.traffic_s == pytest.approx(2 * 256 * VECTOR / BANDWIDTH, rel=1e-9)


@pytest.mark.parametrize(
    ("hw", "dtype", "peak"),
    [
        ("rk3588:gpu", "fp32", 1.024e12),  # ncnn computes in half precision: 4 cores, 1 GHz
        ("rk3588:cpu", "int8", 4 * 64 * 2.4e9),  # the dot product of four Cortex-A76
    ],
)
def test_the_floor_is_that_of_the_format_that_a_runtime_computes_in(net, hw, dtype, peak):
    table = cm.cost(cm.trace(net, "4096x1024"))
    found = gap(table, cm.predict(table, hw, execution="ncnn", dtype=dtype), 1.0)
    assert found.floor == "compute"
    assert found.floor_s == pytest.approx(2 * 4096 * 1024**2 / peak, rel=1e-9)


@pytest.mark.parametrize("measured", [1e-5, 1e-3, 1.0])
def test_the_parts_add_up_to_what_was_measured(net, measured):
    for batch in (1, 256):
        found = parts(net, batch, measured)
        assert sum(found.parts.values()) == pytest.approx(measured, rel=1e-12)
        assert found.rest_s == measured - found.predicted_s
        assert found.traffic_s >= 0
        assert found.overhead_s > 0


@pytest.mark.parametrize("hw", ["rtx4090", "pixel8", "epyc-genoa", "apple-m1"])
def test_the_parts_add_up_on_other_machines(hw):
    table = cm.cost(cm.trace("examples/mobilenet_v1.py"))
    for execution in (None, "compiled") if hw == "rtx4090" else (None,):
        prediction = cm.predict(table, hw, execution=execution)
        found = gap(table, prediction, 0.02)
        assert sum(found.parts.values()) == pytest.approx(0.02, rel=1e-12)
        assert found.traffic_s >= 0
        assert 0 < found.floor_s < prediction.latency_s


def test_fusion_lowers_the_traffic_and_not_the_floor():
    table = cm.cost(cm.trace("examples/mobilenet_v1.py"))
    eager, compiled = (
        gap(table, cm.predict(table, "rtx4090", execution=e), 0.01) for e in ("eager", "compiled")
    )
    # Of convolution, norm and ReLU, each reading and writing a map, the last two become one.
    assert compiled.traffic_s == pytest.approx(2 / 3 * eager.traffic_s, rel=0.03)
    assert compiled.floor_s == pytest.approx(eager.floor_s, rel=0.01)


@pytest.mark.parametrize("measured", [0.0, -1.0, float("nan"), float("inf")])
def test_a_time_that_is_none_is_refused(net, measured):
    with pytest.raises(CostModelError, match="is none; give milliseconds"):
        parts(net, 1, measured)


def kernel(reads: dict[int, int], writes: dict[int, int]) -> Kernel:
    return Kernel(
        ("k",), "", "elementwise", "vector", "fp32", 0, 1,
        tuple(Access(s, n) for s, n in reads.items()),
        tuple(Access(s, n) for s, n in writes.items()),
    )  # fmt: skip


def test_compulsory_bytes_count_a_storage_once():
    # 1 is the input, read twice; 9 a weight, read twice; 2 and 3 are inside; 4 is the output.
    chain = [kernel({1: 10, 9: 7}, {2: 20}), kernel({2: 20, 9: 7, 1: 10}, {3: 30}),
             kernel({3: 30}, {4: 40})]  # fmt: skip
    assert compulsory_bytes(chain) == 10 + 7 + 40
    # A state that is read, updated in place and not read again counts both ways.
    assert compulsory_bytes([kernel({5: 8}, {5: 8})]) == 16


HAND = Gap(
    measured_s=10e-3, predicted_s=11e-3, floor="memory", floor_s=4e-3, traffic_s=3e-3,
    overhead_s=5e-3, efficiency_s=-1e-3, rest_s=-1e-3,
)  # fmt: skip
TEXT = """\
Where the measured 10.00 ms go
compulsory floor (memory)   4.000 ms   40 %
unfused traffic             3.000 ms   30 %
overhead                    5.000 ms   50 %
lower efficiency           -1.000 ms  -10 %
the rest                   -1.000 ms  -10 %
measured                    10.00 ms  100 %
note: lower efficiency below 0: caches serve what the roof takes from main memory
note: the rest below 0: the run is faster than the prediction
"""
MARKDOWN = """\
| where the measured time goes | time | share |
|---|--:|--:|
| compulsory floor (memory) | 4.000 ms | 40 % |
| unfused traffic | 3.000 ms | 30 % |
| overhead | 5.000 ms | 50 % |
| lower efficiency | -1.000 ms | -10 % |
| the rest | -1.000 ms | -10 % |
| measured | 10.00 ms | 100 % |

note: lower efficiency below 0: caches serve what the roof takes from main memory

note: the rest below 0: the run is faster than the prediction
"""


def test_the_words_to_the_letter():
    assert words.text(HAND) == TEXT
    assert words.markdown(HAND) == MARKDOWN


# The command


def run(*more: str):
    return CliRunner().invoke(
        cli, ["analyze", "net.py", "--input", "1x1024", "--hw", "rpi4", "--execution", "eager",
              *more]
    )  # fmt: skip


def test_analyze_adds_the_section(net):
    lines = run("--measured", "1.5").stdout.splitlines()
    start = lines.index("Where the measured 1.500 ms go")
    assert lines[start + 1].split() == ["compulsory", "floor", "(memory)", "328.3", "µs", "22", "%"]
    assert lines[start + 6].split() == ["measured", "1.500", "ms", "100", "%"]
    assert (
        "| compulsory floor (memory) |" in run("--measured", "1.5", "--format", "markdown").stdout
    )


def test_json_has_the_parts_and_keeps_its_schema(net):
    found = json.loads(run("--measured", "1.5", "--format", "json").stdout)
    schema = Path(__file__).parents[1] / "specs" / "analyze.schema.json"
    jsonschema.validate(found, json.loads(schema.read_text()))
    parts = found["gap"]
    names = ("floor_s", "traffic_s", "overhead_s", "efficiency_s", "rest_s")
    assert sum(parts[name] for name in names) == pytest.approx(1.5e-3, rel=1e-12)
    assert "gap" not in json.loads(run("--format", "json").stdout)


def test_a_file_of_runs_gives_the_run_of_this_setting(net, tmp_path):
    head = "device,software,execution,dtype,layout,threads,model,input_shape,batch,latency_ms"
    rows = [
        "rpi4,torch,eager,fp32,nchw,4,net.py,1024,1,2.0,median,a",
        "rpi4,torch,eager,fp32,nchw,4,net.py,1024,1,4.0,median,b",
        "rpi4,torch,eager,fp32,nchw,4,net.py,1024,1,3.0,median,c",
        "rpi4,torch,eager,fp32,nchw,1,net.py,1024,1,9.0,median,d",
        "rpi5,torch,eager,fp32,nchw,4,net.py,1024,1,9.0,median,e",
    ]
    path = tmp_path / "runs.csv"
    path.write_text("\n".join([f"{head},statistic,source", *rows]) + "\n")
    assert "Where the measured 3.000 ms go" in run("--measured", str(path)).stdout
    path.write_text("\n".join([f"{head},statistic,source", *rows[3:]]) + "\n")
    done = run("--measured", str(path))
    assert done.exit_code == 2
    assert "none of the 2 runs" in done.stderr


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--measured", "fast"], "cannot read fast"),
        (["--measured", "0"], "give milliseconds"),
        (["--measured", "1", "--format", "csv"], "table, json or markdown"),
    ],
)
def test_bad_use_is_one_line(net, more, said):
    done = run(*more)
    assert done.exit_code == 2
    assert said in done.stderr
    assert done.stdout == ""


def test_it_needs_a_device(net):
    done = CliRunner().invoke(cli, ["analyze", "net.py", "--input", "1x1024", "--measured", "1"])
    assert done.exit_code == 2
    assert "add --hw NAME" in done.stderr
