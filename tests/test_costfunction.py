"""The cost of a search space as a function: it says what the analysis of the built network says."""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch
from torch import nn

import costmodel as cm
from costmodel.costfunction import CostFunction, cost_function
from costmodel.machine.constants import blocks
from costmodel.setting import setting

CHOICES = {
    "width1": (16, 24),
    "depth1": (1, 3),
    "kernel1": (3, 5),
    "expand1": (2, 3),
    "width2": (24, 32),
    "depth2": (1, 2),
    "size": (64, 96),
}
DEVICES = ("pixel8", "rpi4", "rtx4090", "t4", "i9-10940x", "epyc-genoa")


def conv_bn(in_ch, out_ch, kernel, stride=1, groups=1):
    return nn.Sequential(
        nn.Conv2d(in_ch, out_ch, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(out_ch),
    )


class Block(nn.Module):
    def __init__(self, in_ch, out_ch, kernel, stride, expand):
        super().__init__()
        wide = in_ch * expand
        self.expand = conv_bn(in_ch, wide, 1)
        self.depthwise = conv_bn(wide, wide, kernel, stride, wide)
        self.project = conv_bn(wide, out_ch, 1)
        self.act = nn.ReLU6(inplace=True)
        self.skip = stride == 1 and in_ch == out_ch

    def forward(self, x):
        y = self.project(self.act(self.depthwise(self.act(self.expand(x)))))
        return x + y if self.skip else y


class Net(nn.Module):
    def __init__(self, width1, depth1, kernel1, expand1, width2, depth2):
        super().__init__()
        self.stem = conv_bn(3, 16, 3, 2)
        self.one = nn.Sequential(
            *(Block(width1 if i else 16, width1, kernel1, 1 if i else 2, expand1)
              for i in range(depth1))
        )  # fmt: skip
        self.two = nn.Sequential(
            *(Block(width2 if i else width1, width2, 3, 1 if i else 2, 2) for i in range(depth2))
        )
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(width2, 10)

    def forward(self, x):
        return self.head(torch.flatten(self.pool(self.two(self.one(self.stem(x)))), 1))


class Flat(nn.Module):
    """Two stages in one list: the names of the second move with the depth of the first."""

    def __init__(self, depth1, width1, depth2, width2):
        super().__init__()
        layers, ch = [], 3
        for depth, width in ((depth1, width1), (depth2, width2)):
            for _ in range(depth):
                layers.append(nn.Conv2d(ch, width, 3, padding=1))
                ch = width
        self.layers = nn.Sequential(*layers)

    def forward(self, x):
        return self.layers(x)


class Joined(nn.Module):
    """Biases, in passes of their own where cuDNN runs; joins of many tensors of one size; norms and
    attention, whose operands lie across memory."""

    def __init__(self, width, depth, dim):
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, 2, 1)
        self.body = nn.ModuleList(nn.Conv2d(width, width, 3, 1, 1) for _ in range(depth))
        self.join = nn.Conv2d(width * (depth + 1), dim, 8, 8)
        self.norm = nn.LayerNorm(dim)
        self.mix = nn.ModuleList(
            nn.TransformerEncoderLayer(dim, 4, 2 * dim, dropout=0.0, batch_first=True)
            for _ in range(depth)
        )
        self.head = nn.Linear(dim, 10)

    def forward(self, x):
        found = [self.stem(x)]
        for layer in self.body:
            found.append(torch.relu(layer(found[-1])))
        x = self.norm(self.join(torch.cat(found, 1)).flatten(2).transpose(1, 2))
        for layer in self.mix:
            x = layer(x)
        return self.head(x.mean(1))


class Turned(nn.Module):
    """The first convolution sees the network's input in another order."""

    def __init__(self, width, depth):
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3)
        self.body = nn.Sequential(*(nn.Conv2d(width, width, 3) for _ in range(depth)))

    def forward(self, x):
        return self.body(self.stem(x.permute(0, 3, 1, 2)))


@pytest.fixture(scope="module")
def function():
    return cost_function(Net, CHOICES, "1x3x{size}x{size}")


def rows_of(function, count, seed=3):
    return function.draw(count, seed)


def whole(function, row, hw=None):
    """The full analysis of the built network."""
    values = dict(zip(CHOICES, map(int, row), strict=True))
    size = values.pop("size")
    with torch.device("meta"):
        net = Net(**values)
    return cm.analyze(net, f"1x3x{size}x{size}", hw=hw)


def test_counts_are_those_of_the_built_network(function):
    rows = rows_of(function, 12)
    costs = function(rows)
    for i, row in enumerate(rows):
        report = whole(function, row)
        total = report.table.total
        assert costs.macs[i] == report.macs
        assert costs.params[i] == report.params
        assert costs.ops[i] == total.ops
        assert costs.flops[i] == report.flops
        assert costs.buffers[i] == total.buffers
        assert costs.bytes_read[i] == report.bytes_read
        assert costs.bytes_written[i] == report.bytes_written
        assert costs.peak_activation_bytes[i] == report.peak_activation_bytes
    assert costs.macs.dtype == np.int64


def test_fewer_networks_are_traced_than_there_are(function):
    assert function.space.size == 2**7
    assert function.traced < 2**7


@pytest.mark.parametrize("hw", DEVICES)
def test_latency_is_that_of_the_built_network(function, hw):
    on = function.on(hw)
    rows = rows_of(on, 8, seed=5)
    latency = on.latency(rows)
    for i, row in enumerate(rows):
        assert latency[i] == pytest.approx(whole(function, row, hw).latency_s, rel=1e-6)


@pytest.mark.parametrize(
    ("hw", "options"),
    [
        ("rtx4090", {"dtype": "amp-fp16"}),
        ("rtx4090", {"execution": "compiled"}),
        ("rtx4090", {"execution": "compiled", "dtype": "amp-fp16"}),
        ("rtx4090", {"dtype": "fp16", "layout": "nhwc"}),
        ("snapdragon-855", {"execution": "ncnn", "dtype": "int8"}),
        ("pixel8:gpu", {}),
        ("galaxy-s24:npu", {}),
        ("rpi5", {"threads": 1}),
        ("rpi5", {"execution": "eager"}),
        ("epyc-genoa", {"dtype": "amp-bf16"}),
        ("i9-10940x:cpu", {"execution": "onnxruntime", "dtype": "int8"}),
    ],
)
def test_settings_are_those_of_predict(function, hw, options):
    on = function.on(hw, **options)
    (row,) = rows_of(on, 1, seed=8)
    table = whole(function, row).table
    assert on.latency([row])[0] == pytest.approx(
        cm.predict(table, hw, **options).latency_s, rel=1e-6
    )


@pytest.fixture(scope="module", params=[1, 8], ids=lambda batch: f"batch {batch}")
def spaces(request):
    """Functions of three spaces with a few architectures each: codes and their full tables."""
    batch = request.param
    made = (
        (Net, CHOICES, f"{batch}x3x{{size}}x{{size}}"),
        (Joined, {"width": (16, 24), "depth": (1, 4), "dim": (64, 128)}, f"{batch}x3x64x64"),
        (Turned, {"width": (8, 64), "depth": (1, 3)}, f"{batch}x48x48x3"),
    )
    found = []
    for builder, choices, inputs in made:
        function = cost_function(builder, choices, inputs)
        rows = function.draw(4, seed=4)
        tables = [function.space.table(tuple(code)) for code in function.space.codes(rows)]
        found.append((function, rows, tables))
    return found


X86_EXECUTIONS = sorted(b.removeprefix("x86/") for b in blocks() if b.startswith("x86/"))


@pytest.mark.parametrize("execution", X86_EXECUTIONS)
@pytest.mark.parametrize(
    ("hw", "threads"),
    [("i9-10940x:cpu", 1), ("i9-10940x:cpu", 8), ("i7-12700h:cpu", 6), ("epyc-genoa:cpu", 16),
     ("host:cpu", 2)],
)  # fmt: skip
def test_x86_latencies_are_those_of_the_built_networks(spaces, hw, execution, threads):
    agrees(spaces, hw, execution, threads)


@pytest.mark.parametrize("execution", ["eager", "ncnn", "tflite", "paddle-lite", "onnxruntime"])
@pytest.mark.parametrize(("hw", "threads"), [("rpi5:cpu", 1), ("pixel8:cpu", 4), ("rpi4:cpu", 2)])
def test_arm_latencies_are_those_of_the_built_networks(spaces, hw, execution, threads):
    agrees(spaces, hw, execution, threads)


def agrees(spaces, hw, execution, threads):
    for function, rows, tables in spaces:
        on = CostFunction(function.survey, setting(hw, execution=execution, threads=threads))
        wanted = [
            cm.predict(table, hw, execution=execution, threads=threads).latency_s
            for table in tables
        ]
        np.testing.assert_allclose(on.latency(rows), wanted, rtol=1e-9)
        soft = on.relaxed(on.relaxed.certain(rows))["latency_s"]
        np.testing.assert_allclose(soft.numpy(), wanted, rtol=1e-9)


@pytest.mark.parametrize("hw", ["i9-10940x:cpu", "rpi4"])
def test_a_mixture_on_a_cpu_has_the_slope_of_its_differences(spaces, hw):
    # At batch 8 operands lie about where one core's caches end, so that costs a byte have slopes.
    on = CostFunction(spaces[0][0].survey, setting(hw, threads=1))
    logits = [torch.zeros(2, dtype=torch.float64, requires_grad=True) for _ in CHOICES]

    def seconds(shift):
        shifted = [logit + torch.tensor([0.0, shift], dtype=torch.float64) for logit in logits]
        return on.relaxed([torch.softmax(logit, 0) for logit in shifted])["latency_s"][0]

    seconds(0.0).backward()
    slope = sum(float(logit.grad[1]) for logit in logits)
    with torch.no_grad():
        step = float(seconds(1e-6) - seconds(-1e-6)) / 2e-6
    assert step == pytest.approx(slope, rel=1e-4)
    assert slope > 0


@pytest.mark.parametrize("hw", DEVICES)
def test_the_torch_function_meets_the_numpy_one_at_vertices(function, hw):
    on = function.on(hw)
    rows = rows_of(on, 5)
    found = on.relaxed(on.relaxed.certain(rows))
    np.testing.assert_allclose(found["latency_s"].numpy(), on.latency(rows), rtol=1e-12)
    np.testing.assert_array_equal(found["macs"].numpy(), on(rows).macs)
    np.testing.assert_array_equal(
        found["peak_activation_bytes"].numpy(), on(rows).peak_activation_bytes
    )


def test_the_torch_peak_is_that_of_the_built_network_and_has_a_gradient(function):
    rows = rows_of(function, 6, seed=3)
    found = function.relaxed(function.relaxed.certain(rows))["peak_activation_bytes"]
    for peak, row in zip(found, rows, strict=True):
        assert float(peak) == pytest.approx(whole(function, row).peak_activation_bytes, rel=1e-9)
    logits = [torch.zeros(2, dtype=torch.float64, requires_grad=True) for _ in CHOICES]
    mixed = function.relaxed([torch.softmax(logit, 0) for logit in logits])
    (peak,) = mixed["peak_activation_bytes"]
    every = np.array(np.meshgrid(*CHOICES.values(), indexing="ij")).reshape(len(CHOICES), -1).T
    peaks = function(every).peak_activation_bytes
    assert peaks.min() <= float(peak.detach()) <= peaks.mean()  # Jensen: a maximum is convex
    peak.backward()
    assert logits[list(CHOICES).index("size")].grad[1] > 0


def test_the_torch_function_is_the_expectation_of_counts_and_has_a_gradient(function):
    on = function.on("rtx4090")
    rows = np.array(np.meshgrid(*CHOICES.values(), indexing="ij")).reshape(len(CHOICES), -1).T
    logits = [torch.zeros(2, dtype=torch.float64, requires_grad=True) for _ in CHOICES]
    found = on.relaxed([torch.softmax(logit, 0) for logit in logits])
    assert float(found["macs"][0].detach()) == pytest.approx(on(rows).macs.mean(), rel=1e-12)
    found["latency_s"][0].backward()
    names = list(CHOICES)
    # The second value of each choice is the larger one: it never makes a network faster.
    for name, logit in zip(names, logits, strict=True):
        assert logit.grad[1] >= -1e-12, name
    assert logits[names.index("depth1")].grad[1] > 0
    with torch.no_grad():
        sharper = [torch.softmax(logit + torch.tensor([0.0, 1e-6]), 0) for logit in logits]
        step = on.relaxed(sharper)["latency_s"][0] - found["latency_s"][0]
    slope = sum(float(logit.grad[1]) for logit in logits) * 1e-6
    assert float(step) == pytest.approx(slope, rel=1e-3)


def test_values_go_in_by_name_or_as_rows(function):
    by_name = function(**{name: values[-1] for name, values in CHOICES.items()})
    by_row = function([[values[-1] for values in CHOICES.values()]])
    assert by_name.macs == by_row.macs
    assert len(function(rows_of(function, 20_000)).macs) == 20_000


def test_a_million_architectures_take_seconds(function):
    on = function.on("pixel8")
    rows = rows_of(on, 200_000)
    start = time.process_time()
    costs = on(rows)
    assert time.process_time() - start < 2.0
    assert costs.latency_s.min() > 0


def test_flat_lists_are_exact_too_when_the_space_is_small():
    function = cost_function(
        Flat, {"depth1": (1, 2), "width1": (4, 8), "depth2": (1, 2), "width2": (4, 8)}, "1x3x8x8"
    )
    for row in function.draw(6):
        report = cm.analyze(Flat(*map(int, row)), "1x3x8x8")
        assert function(row[None]).macs[0] == report.macs


def test_a_space_that_does_not_decompose_is_refused(monkeypatch):
    from costmodel.costfunction import explore

    monkeypatch.setattr(explore, "MOST_COMBINATIONS", 20)
    choices = {"depth1": (1, 2, 3), "width1": (4, 8), "depth2": (1, 2, 3), "width2": (4, 8)}
    with pytest.raises(cm.CostModelError, match="give each stage a module of its own"):
        cost_function(Flat, choices, "1x3x8x8")


def test_a_latency_that_does_not_add_up_is_refused(function, monkeypatch):
    from costmodel.costfunction.clocks import QueueClock

    monkeypatch.setattr(QueueClock, "latency", lambda _self, columns, _xp: 1 + columns[0][0])
    with pytest.raises(cm.CostModelError, match="does not add up"):
        function.on("rtx4090")


@pytest.mark.parametrize(
    ("choices", "inputs", "said"),
    [
        ({"width1": (16,)}, "1x3x8x8", "Net needs the argument 'depth1'"),
        ({**CHOICES, "widht": (1,)}, "1x3x{size}x{size}", "Net has no argument 'widht'"),
        (CHOICES, "1x3x{side}x{side}", "inputs name {side}"),
        (CHOICES, None, "say what goes in"),
        ({}, "1x3x8x8", "no choices to make"),
        ({**CHOICES, "width1": (16.5,)}, "1x3x{size}x{size}", "choices are integers"),
        ({**CHOICES, "width1": (16, 16)}, "1x3x{size}x{size}", "different values"),
        ({**CHOICES, "width1": (-1,)}, "1x3x{size}x{size}", "width1=-1"),
    ],
)
def test_bad_spaces_are_one_line(choices, inputs, said):
    with pytest.raises(cm.CostModelError) as error:
        cost_function(Net, choices, inputs)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_bad_architectures_are_one_line(function):
    row = [values[0] for values in CHOICES.values()]
    with pytest.raises(cm.CostModelError, match="width1=17 is not in the space; it has 16, 24"):
        function([[17, *row[1:]]])
    with pytest.raises(cm.CostModelError, match="with 7 columns"):
        function([row[:-1]])
    with pytest.raises(cm.CostModelError, match="no value for the choice 'depth1'"):
        function(width1=16)
    with pytest.raises(cm.CostModelError, match="no device was named"):
        function.latency([row])
    with pytest.raises(cm.CostModelError, match="width1 has 2 values, not 3"):
        function.relaxed([torch.ones(3)] * 7)


def test_an_op_without_a_rule_is_no_zero():
    class Odd(nn.Module):
        def __init__(self, width):
            super().__init__()
            self.width = width

        def forward(self, x):
            return torch.linalg.matrix_exp(x)

    with pytest.raises(cm.CostModelError, match="no cost rule for aten"):
        cost_function(Odd, {"width": (1, 2)}, "4x4")


def test_a_target_works_as_builder(tmp_path):
    file = tmp_path / "net.py"
    file.write_text(
        "import torch\nfrom torch import nn\n"
        "class Net(nn.Module):\n"
        "    def __init__(self, width=4):\n"
        "        super().__init__()\n"
        "        self.conv = nn.Conv2d(3, width, 3)\n"
        "    def forward(self, x):\n"
        "        return self.conv(x)\n"
        "def example_inputs():\n    return (torch.randn(1, 3, 8, 8),)\n"
    )
    function = cm.cost_function(f"{file}:Net", {"width": (4, 8)})
    assert function(width=[4, 8]).macs.tolist() == [36 * 27 * 4, 36 * 27 * 8]
