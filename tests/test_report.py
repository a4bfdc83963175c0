"""The report: exact JSON, tables that add up, advice that follows from the numbers."""

from __future__ import annotations

import csv
import io
import json
import math
import subprocess
import sys

import jsonschema
import pytest
import torch
from torch import nn

import costmodel as cm
from costmodel.prediction import KernelTime, Prediction
from costmodel.report import units
from costmodel.report.advice import Claim, advice, claim, saved, without_device
from costmodel.report.groups import groups, largest
from costmodel.report.terminal import bar, text


class Net(nn.Module):
    """Two convolutions and a head; the head is used twice."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU())
        self.body = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.Conv2d(8, 16, 1))
        self.head = nn.Linear(16, 16)

    def forward(self, x):
        x = self.body(self.stem(x)).mean((2, 3))
        return self.head(self.head(x))


# By hand at 8x8: stem 64·8·27, depthwise 64·8·9, pointwise 64·16·8, head 2·16·16.
STEM, DEPTHWISE, POINTWISE, HEAD = 13_824, 4_608, 8_192, 512
PARAMS = 8 * 27 + 8 + 8 * 9 + 8 + 16 * 8 + 16 + 16 * 16 + 16


@pytest.fixture(scope="module")
def counted() -> cm.Report:
    return cm.analyze(Net(), "1x3x8x8")


@pytest.fixture(scope="module")
def timed() -> cm.Report:
    return cm.analyze(Net(), "1x3x8x8", hw="pixel8")


@pytest.fixture(scope="module")
def partial() -> cm.Report:
    """A model with an op that no rule knows."""
    with torch.library._scoped_library("costmodel_test", "FRAGMENT") as library:
        library.define("mystery(Tensor x) -> Tensor")
        library.impl("mystery", lambda x: x.clone(), "CPU")
        library.impl("mystery", torch.empty_like, "Meta")

        class Mystery(nn.Module):
            def forward(self, x):
                return torch.ops.costmodel_test.mystery(x)

        return cm.analyze(nn.Sequential(nn.Linear(8, 4), Mystery()), "2x8")


@pytest.fixture(scope="module")
def schema(repository):
    found = json.loads((repository / "specs" / "analyze.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(found)
    return jsonschema.Draft202012Validator(found)


def kernel(family, bound, latency, compute, memory, overhead=0.0, module="m"):
    return KernelTime(
        (f"{module}.{family}",), module, family, latency, compute, memory, overhead, bound, 10, 10
    )


def prediction(*kernels, dtype="fp32", execution="eager"):
    latency = sum(k.latency_s for k in kernels)
    return Prediction(
        "toy:cpu", dtype, execution, "nchw", 2, 1, latency, (latency / 2, 2 * latency), 0.9,
        "datasheet", "not validated on this device", 0.01, None, kernels,
    )  # fmt: skip


# -- values ---------------------------------------------------------------------------------------


def test_the_properties_are_the_totals_by_hand(counted):
    assert counted.macs == STEM + DEPTHWISE + POINTWISE + HEAD
    assert counted.params == PARAMS
    assert counted.flops == 2 * counted.macs + counted.table.total.ops
    assert counted.complete
    assert counted.unsupported == ()
    assert counted.latency_s is None
    assert counted.graph.number_of_nodes() == len(counted.table)


def test_tensors_shapes_and_keywords_are_the_same_question(counted):
    x = torch.randn(1, 3, 8, 8)
    for report in (
        cm.analyze(Net(), x),
        cm.analyze(Net(), (x,)),
        cm.analyze(Net(), ["1x3x8x8"]),
        cm.analyze(Net(), kwargs={"x": x}),
        cm.analyze(Net(), kwargs={"x": "1x3x8x8"}),
        cm.analyze(Net(), "x=1x3x8x8"),
        cm.analyze(Net(), "7x3x8x8", batch=1),
    ):
        assert report.to_dict() == counted.to_dict()


def test_the_stages_give_what_analyze_gives(timed):
    table = cm.cost(cm.trace(Net(), "1x3x8x8"))
    assert table.total == timed.table.total
    assert cm.predict(table, "pixel8").latency_s == timed.latency_s


def test_a_batch_multiplies_macs_and_leaves_parameters(counted):
    four = cm.analyze(Net(), "1x3x8x8", batch=4)
    assert (four.macs, four.params) == (4 * counted.macs, counted.params)


def test_a_module_without_declared_inputs_asks_for_them():
    with pytest.raises(cm.CostModelError, match="Net declares no input size; give one, as in"):
        cm.analyze(Net())
    with pytest.raises(cm.CostModelError, match="a int is no model"):
        cm.analyze(3)  # type: ignore[arg-type]
    with pytest.raises(cm.CostModelError, match="no mode 'test'"):
        cm.analyze(Net(), "1x3x8x8", mode="test")  # type: ignore[arg-type]


def test_an_unknown_device_is_said_before_the_model_is_looked_at():
    with pytest.raises(cm.CostModelError, match="no device is called 'pixel99'"):
        cm.analyze("nothing.py", hw="pixel99")


def test_integers_do_not_multiply_floats():
    message = r"aten\.linear in head multiplies int64 by float32"
    model = nn.Sequential()
    model.head = nn.Linear(8, 4)
    with pytest.raises(cm.CostModelError, match=message):
        cm.analyze(model, "int64:1x8")


def test_importing_costmodel_imports_no_torch_and_keeps_its_names():
    code = (
        "import sys, costmodel as cm\n"
        "assert 'torch' not in sys.modules\n"
        "import costmodel.formula\n"
        "assert callable(cm.formula) and set(cm.__all__) <= set(dir(cm))\n"
        "assert all(getattr(cm, name) is not None for name in cm.__all__)\n"
        "try: cm.nothing\n"
        "except AttributeError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "module 'costmodel' has no attribute 'nothing'\n"


# -- JSON, CSV, Markdown, data frame --------------------------------------------------------------


@pytest.mark.parametrize("name", ["counted", "timed", "partial"])
def test_the_json_keeps_its_schema(name, schema, request):
    report = request.getfixturevalue(name)
    found = json.loads(report.to_json())
    schema.validate(found)
    assert found == report.to_dict()


def test_the_ops_add_up_to_the_totals_exactly(timed):
    found = timed.to_dict()
    for key in ("macs", "ops", "params", "bytes_read", "bytes_written"):
        assert sum(op[key] for op in found["ops"]) == found["totals"][key], key
    assert found["totals"]["params"] == PARAMS
    kernels = found["prediction"]["kernels"]
    assert math.isclose(sum(found["prediction"]["bound"].values()), 1)
    assert math.isclose(
        sum(kernel["latency_s"] for kernel in kernels), found["prediction"]["latency_s"]
    )


def test_an_unknown_op_is_null_and_not_zero(partial):
    found = partial.to_dict()
    assert found["complete"] is False
    assert found["unsupported"] == [{"op": "costmodel_test.mystery", "count": 1, "module": "1"}]
    assert [op["macs"] for op in found["ops"]] == [2 * 8 * 4, None]
    assert "≥ 0" in partial.to_markdown()
    assert "No cost rule: costmodel_test.mystery, 1 × from 1." in partial.to_markdown()


def test_csv_and_data_frame_have_a_row_an_op(timed):
    from costmodel.report.formats import to_csv

    rows = list(csv.DictReader(io.StringIO(to_csv(timed))))
    assert sum(int(row["macs"]) for row in rows) == timed.macs
    assert rows[0]["output_shape"] == "1x8x8x8"
    frame = timed.to_dataframe()
    assert len(frame) == len(rows) == len(timed.table)
    assert frame["macs"].sum() == timed.macs
    grouped = list(csv.DictReader(io.StringIO(to_csv(timed, "family"))))
    assert sum(int(row["macs"]) for row in grouped) == timed.macs


def test_markdown_is_a_table_of_exact_numbers(timed):
    lines = timed.to_markdown().splitlines()
    assert f"| MACs | {timed.macs:,} |" in lines
    assert "data-sheet estimate" in timed.to_markdown()
    width = {line.count("|") for line in lines if line.startswith(("| module", "| stem", "| head"))}
    assert len(width) == 1


# -- groups ---------------------------------------------------------------------------------------


def test_the_tree_counts_each_module_with_all_below_it(counted):
    found = {line.path: line for line in groups(counted, "module", 2)}
    assert list(found) == ["stem", "stem.0", "stem.1", "body", "body.0", "body.1", "head", ""]
    assert found["stem"].totals.macs == STEM
    assert found["body"].totals.macs == DEPTHWISE + POINTWISE
    assert found["body.1"].totals.macs == POINTWISE
    assert found["head"].totals.params == 16 * 16 + 16
    assert [found[p].level for p in ("body", "body.0")] == [1, 2]
    assert [line.path for line in groups(counted, "module", 1)] == ["stem", "body", "head", ""]
    tops = [line.totals for line in found.values() if line.level == 1]
    assert sum(totals.bytes for totals in tops) == counted.table.total.bytes
    assert found[""].name == "(itself)"
    assert groups(counted, "module", 10**9) == groups(counted, "module", 2)


@pytest.mark.parametrize("by", ["op", "family"])
def test_shares_of_ops_and_families_add_up(counted, timed, by):
    for report in (counted, timed):
        lines = groups(report, by)
        assert math.isclose(sum(line.share for line in lines), 1)
        assert lines == sorted(lines, key=lambda line: -line.share)


def test_the_largest_lines_are_the_fewest_that_reach_the_share(timed):
    lines = groups(timed, "family")
    top = largest(lines, 0.8)
    assert sum(line.share for line in top) >= 0.8
    assert sum(line.share for line in top[:-1]) < 0.8


# -- advice ---------------------------------------------------------------------------------------


def test_the_claim_is_the_largest_family_and_bound():
    found = prediction(
        kernel("depthwise", "memory", 3.0, 1.0, 3.0),
        kernel("pointwise", "compute", 4.0, 4.0, 2.0),
        kernel("depthwise", "memory", 3.0, 0.5, 3.0),
    )
    assert claim(found) == Claim("depthwise", "memory", 0.6, 2)
    # Half the bytes: 1.5 + 4 + 1.5 of 10. Twice the FLOP/s: 3 + 2 + 3 of 10.
    assert math.isclose(saved(found, memory=0.5), 0.3)
    assert math.isclose(saved(found, compute=0.5), 0.2)
    assert advice(found) == (
        "60 % of the time is memory-bound depthwise convolution: half the bytes (fp16 or fusion) "
        "would save 30 % of the whole, twice the FLOP/s 20 %, half the overhead 0 %."
    )


def test_overhead_stays_when_the_work_shrinks():
    found = prediction(kernel("matmul", "overhead", 5.0, 1.0, 0.5, overhead=4.0), dtype="fp16")
    assert math.isclose(saved(found, compute=0.5), 0.1)
    assert math.isclose(saved(found, overhead=0.5), 0.4)
    assert advice(found) == (
        "100 % of the time is overhead-bound matrix products: half the overhead (fusion, a larger "
        "batch) would save 40 % of the whole, twice the FLOP/s 10 %, half the bytes 0 %."
    )


def test_a_network_without_work_gets_no_advice():
    assert claim(prediction()) is None
    assert saved(prediction(), compute=0.5) == 0
    assert advice(prediction()) == "Nothing to speed up: no kernel takes any time."


@pytest.mark.parametrize("hw", ["pixel8", "rpi4", "rtx4090"])
@pytest.mark.parametrize(
    "target",
    [
        "timm:resnet50", "timm:mobilenetv3_large_100", "timm:efficientnet_b0",
        "timm:vit_tiny_patch16_224", "timm:convnext_atto", "timm:swin_tiny_patch4_window7_224",
        "timm:vgg11", "timm:mixnet_s", "timm:ghostnet_100", "timm:mobileone_s0",
    ],
)  # fmt: skip
def test_the_advice_agrees_with_the_numbers(target, hw, tables):
    found = cm.predict(tables(target), hw)
    sentence = advice(found)
    time: dict[tuple[str, str], float] = {}
    for k in found.kernels:
        time[k.family, k.bound] = time.get((k.family, k.bound), 0.0) + k.latency_s
    (_, bound), most = max(time.items(), key=lambda item: item[1])
    whole = sum(time.values())
    assert sentence.startswith(f"{units.percent(most / whole)} of the time is {bound}-bound ")
    halved = sum(
        min(k.overhead_s, k.latency_s)
        + (k.latency_s - min(k.overhead_s, k.latency_s))
        * (max(k.compute_s, k.memory_s / 2) / (max(k.compute_s, k.memory_s) or 1))
        for k in found.kernels
        if k.compute_s or k.memory_s
    ) + sum(k.latency_s for k in found.kernels if not (k.compute_s or k.memory_s))
    share = units.percent(1 - halved / whole)
    assert f"half the bytes {share}" in sentence or f"would save {share} of the whole" in sentence


@pytest.fixture(scope="module")
def tables():
    known: dict[str, cm.CostTable] = {}

    def get(target: str) -> cm.CostTable:
        if target not in known:
            known[target] = cm.cost(cm.trace(target))
        return known[target]

    return get


def test_without_a_device_the_sentence_is_about_counts(counted):
    share = units.percent(STEM / counted.macs)
    families = counted.table.group_by("family")
    most = max(family.bytes for family in families.values())
    assert families["convolution"].bytes < most
    moved = units.percent(most / counted.table.total.bytes)
    found = without_device(counted.table)
    assert found.startswith(f"{share} of the MACs are dense convolution, {moved} of the bytes are ")


# -- the terminal and the notebook ----------------------------------------------------------------


def test_plain_text_has_no_colour_no_bars_and_fits_on_eighty_columns(timed):
    found = text(timed)
    assert "\x1b" not in found
    assert not set(found) & set("▏▎▍▌▋▊▉█")
    assert max(map(len, found.splitlines())) <= 80
    assert found.index("Where 80 % of the time goes") < found.index("module")
    assert "data-sheet estimate" in found


def test_a_terminal_gets_colour_and_bars(timed):
    from rich.console import Console

    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=80, color_system="standard")
    from costmodel.report.terminal import render

    render(timed, console)
    assert "\x1b[" in stream.getvalue()
    assert "█" in stream.getvalue()


def test_an_unknown_op_is_the_first_thing_that_is_said(partial):
    first, second = text(partial).splitlines()[:2]
    assert first.startswith("INCOMPLETE")
    assert second == "  1 × costmodel_test.mystery in 1"
    assert "MACs at least 64" in text(partial)


def test_the_exact_half_of_causal_attention_is_printed():
    class Causal(nn.Module):
        def forward(self, q):
            return nn.functional.scaled_dot_product_attention(q, q, q, is_causal=True)

    report = cm.analyze(Causal(), "1x2x4x8")
    # Of 4x4 scores the 6 above the diagonal are masked, in both products, for 2 heads of width 8.
    masked = 2 * 6 * 2 * 8
    assert report.macs == 2 * 16 * 2 * 8
    line = f"causal masks hide {masked} MACs: {report.macs - masked} without them"
    assert line in text(report)


def test_a_bar_is_as_long_as_its_share():
    assert bar(1.0, 1.0) == "█" * 10
    assert bar(0.5, 1.0) == "█" * 5
    assert bar(0.0125, 1.0) == "▏"
    assert bar(0.0, 0.0) == ""


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: units.count(9999), "9999"),
        (lambda: units.count(568_740_352), "568.7 M"),
        (lambda: units.count(999_999), "1.000 M"),
        (lambda: units.size(999), "999 B"),
        (lambda: units.size(78_130_000), "78.13 MB"),
        (lambda: units.seconds(0.0123), "12.30 ms"),
        (lambda: units.seconds(2.5), "2.500 s"),
        (lambda: units.seconds(9.9999e-4), "1.000 ms"),
        (lambda: units.seconds(0.0), "0 s"),
        (lambda: units.percent(0.71), "71 %"),
        (lambda: units.percent(0.001), "<1 %"),
        (lambda: units.percent(0.0), "0 %"),
    ],
)
def test_numbers_for_people(call, words):
    assert call() == words


def test_a_notebook_gets_the_table_and_a_picture(timed):
    from html.parser import HTMLParser

    class Reader(HTMLParser):
        def __init__(self):
            super().__init__()
            self.tags: list[str] = []

        def handle_starttag(self, tag, attrs):
            self.tags.append(tag)

    found = Reader()
    found.feed(timed._repr_html_())
    assert found.tags.count("svg") == 1
    assert found.tags.count("tr") == 1 + len(groups(timed, "module"))
    shown = [line for line in groups(timed, "family") if line.share >= 0.005]
    assert found.tags.count("rect") == len(shown)
    assert "script" not in found.tags


def test_a_report_says_what_it_is(counted):
    assert repr(counted) == f"Report('Net', macs={counted.macs}, params={PARAMS})"
    assert str(counted) == text(counted)


def test_a_bare_module_is_one_line_of_itself():
    report = cm.analyze(nn.Linear(8, 4), "1x8")
    (line,) = groups(report, "module")
    assert (line.name, line.totals.macs, line.share) == ("(itself)", 32, 1.0)
    assert line.totals.params == 36


def test_modules_that_cost_nothing_are_left_out():
    model = nn.Sequential(nn.Linear(8, 4), nn.Dropout(), nn.Identity())
    assert [line.path for line in groups(cm.analyze(model, "1x8"), "module")] == ["0"]
