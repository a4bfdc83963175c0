"""Tracing: whatever a model does, every op is written down, and the model is left as it was."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
import torch.nn.functional as F
from counting import Function, meta, table
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from costmodel import rules
from costmodel.errors import CostModelError
from costmodel.ir import info_of, ops_of
from costmodel.tracer import trace

# -- what models do -------------------------------------------------------------------------------


class Looping(nn.Module):
    def __init__(self):
        super().__init__()
        self.step = nn.Linear(8, 8)

    def forward(self, x, times=3):
        for _ in range(times):
            x = self.step(x) if x.shape[0] > 2 else x
        return x


def test_python_control_flow_is_followed():
    assert table(Looping(), (3, 8)).total.macs == 3 * 3 * 64
    assert table(Looping(), (3, 8), kwargs={"times": 5}).total.macs == 5 * 3 * 64
    assert table(Looping(), (2, 8)).total.macs == 0


class InPlace(nn.Module):
    def forward(self, x):
        y = x * 2
        y.add_(1).relu_()
        y[:, 0] = 0
        return y


def test_an_in_place_op_depends_on_the_last_writer():
    graph = trace(InPlace(), (meta(4, 8),))
    names = {op.index: op.target for op in ops_of(graph)}
    edges = {(names[a], names[b]) for a, b in graph.edges}
    assert ("aten.mul", "aten.add_") in edges
    assert ("aten.add_", "aten.relu_") in edges
    assert ("aten.mul", "aten.relu_") not in edges
    storages = {op.out.storage for op in ops_of(graph) if op.target != "aten.zeros"}
    assert len({op.out.storage for op in ops_of(graph) if op.target.endswith("_")} & storages) <= 2


def test_an_edge_carries_the_bytes_that_flow():
    graph = trace(nn.Sequential(nn.Linear(4, 8), nn.ReLU()), (meta(3, 4),))
    ((_, _, data),) = graph.edges(data=True)
    assert data["nbytes"] == 3 * 8 * 4


class Keywords(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(4, 2), nn.Linear(6, 2)

    def forward(self, pair, *, options):
        a, (b,) = pair
        return {"sums": [self.first(a) + self.second(b) * options["scale"]], "n": 3}


def test_nested_and_keyword_inputs_and_nested_outputs():
    pair = (meta(5, 4), [meta(5, 6)])
    graph = trace(Keywords(), (pair,), {"options": {"scale": meta(1), "unused": None}})
    info = info_of(graph)
    assert [spec.shape for spec in info.inputs] == [(5, 4), (5, 6), (1,)]
    assert [spec.shape for spec in info.outputs] == [(5, 2)]
    assert all(spec.kind == "input" for spec in info.inputs)


def test_complex_numbers():
    def filtered(x, weight):
        return torch.fft.irfft2(torch.fft.rfft2(x) * torch.view_as_complex(weight), s=(8, 8))

    result = table(filtered, (2, 8, 8), (8, 5, 2))
    assert result.complete
    product = result.filter_by(op="aten.mul")
    assert product.rows[0].op.out.dtype == "complex64"


def test_integer_inputs():
    model = nn.Sequential(nn.Embedding(10, 4), nn.Linear(4, 2))
    assert table(model, meta(3, dtype=torch.int64)).total.macs == 3 * 8


class Reused(nn.Module):
    """The same ops as the keyword ones, names must not clash: relu, relu_1 and relu__1."""

    def forward(self, x):
        for _ in range(3):
            x = F.relu(x.clone()).relu_()
        return x


def test_names_are_unique():
    ops = ops_of(trace(Reused(), (meta(2),)))
    assert len({op.name for op in ops}) == len(ops)


def test_an_op_knows_its_module_and_its_line():
    block = nn.Sequential(nn.Sequential(nn.Linear(4, 4)), Looping())
    block[1].step = nn.Linear(4, 4)
    linears = [op for op in ops_of(trace(block, (meta(3, 4),))) if op.target == "aten.linear"]
    assert [op.module for op in linears] == ["0.0", "1.step", "1.step", "1.step"]
    file, line = linears[1].source.rsplit(":", 1)
    assert file == __file__
    assert "self.step(x)" in Path(file).read_text().splitlines()[int(line) - 1]


class Homemade(nn.Module):
    def forward(self, x):
        return nn.Conv2d(3, 4, 1, device=x.device)(x)  # made during the call


def test_a_module_made_during_the_call_goes_by_its_type():
    rows = table(nn.Sequential(Homemade()), (1, 3, 4, 4)).rows
    assert "0.Conv2d" in {row.op.module for row in rows}


def test_equal_regions_are_equal_values_and_others_are_not():
    def views(x):
        return x.t() + x.reshape(8, 8), x[:, :4] * x[:4].view(8, 4), x[:4] + x[:4]

    plus, times, twice = (r for r in table(views, (8, 8)) if r.cost.ops)
    assert plus.cost.bytes_read == 8 * 8 * 4  # a transpose holds the same elements
    assert times.cost.bytes_read == 2 * 32 * 4  # the left half is not the upper half
    assert twice.cost.bytes_read == 32 * 4


def test_an_expanded_tensor_is_stored_once():
    result = table(lambda x, y: x.expand(8, 3) + y, (1, 3), (8, 3))
    assert result.filter_by(op="aten.add").total.bytes_read == 3 * 4 + 24 * 4


# -- ways of tracing ------------------------------------------------------------------------------


class Insisting(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x):
        y = self.layer(x)
        return y * 2 if y.sum().item() > 0 else y + torch.ones(4)


@pytest.mark.parametrize("device", ["meta", "cpu"])
def test_a_model_that_asks_for_values_runs_on_the_cpu_and_says_so(device):
    result = table(Insisting().to(device), (3, 4))
    assert result.total.macs == 3 * 16
    assert result.info.tracer == "cpu"
    (note,) = result.info.notes
    assert "ran on the CPU, on zeros" in note
    assert "item()" in note


def test_tied_weights_stay_tied_on_the_cpu():
    model = Insisting().to("meta")
    model.head = nn.Linear(4, 4, device="meta")
    model.head.weight = model.layer.weight
    assert table(model, (3, 4)).total.params == 16 + 4 + 4
    assert model.head.weight is model.layer.weight
    assert model.layer.weight.is_meta


class Normalised(nn.Module):
    """Tied weights, running statistics, buffers that are views of one; asks for values or not."""

    def __init__(self, asks):
        super().__init__()
        self.asks = asks
        self.norm = nn.BatchNorm1d(8)
        self.first = nn.Linear(8, 8)
        self.second = nn.Linear(8, 8, bias=False)
        self.second.weight = nn.Parameter(self.first.weight.data)  # other object, same memory
        table = torch.zeros(16)
        self.register_buffer("low", table[:8])
        self.register_buffer("high", table[8:])

    def forward(self, x):
        x = self.norm(x)
        if self.asks and x.sum().item() > 1:
            return x
        return self.second(self.first(x)) * (self.low * self.high)


@pytest.mark.parametrize("mode", ["eval", "train"])
@pytest.mark.parametrize("asks", [False, True], ids=["meta", "cpu"])
@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_weights_are_weights_wherever_the_model_was_built_and_runs(device, asks, mode):
    with torch.device(device):
        model = Normalised(asks)
    graph = trace(model, (meta(2, 8),), mode=mode)
    info, ops = info_of(graph), [op for op in ops_of(graph) if op.phase == "forward"]
    assert info.tracer == ("cpu" if asks else "meta")
    weights = {weight.storage: weight for weight in info.weights}
    sizes = {weight.names[-1]: (weight.kind, weight.numel) for weight in info.weights}
    assert sizes["second.weight"] == ("parameter", 64)
    assert sizes["high"] == ("buffer", 16), "both halves of the memory"
    norm = next(op for op in ops if op.target.endswith("batch_norm"))
    assert [spec.kind for spec in norm.args[1:5]] == ["parameter"] * 2 + ["buffer"] * 2
    assert all(spec.storage in weights for spec in norm.args[1:5])
    low, high = next(op for op in ops if op.target == "aten.mul").inputs
    assert (low.kind, high.kind) == ("buffer", "buffer")
    assert low.storage == high.storage
    assert low.value != high.value, "two halves of one memory are not the same contents"
    named = {"linear": 1, "addmm": 2, "mm": 1}  # where the product keeps its weight
    products = {op.module: op.args[named[op.target[5:]]] for op in ops if op.target[5:] in named}
    assert products["first"].value == products["second"].value


def test_other_models_never_touch_data():
    result = table(nn.Linear(4, 4), torch.zeros(3, 4))
    assert result.info.tracer == "meta"


def test_a_real_models_weights_are_not_copied():
    model = nn.Linear(1024, 1024)
    copies = []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            if isinstance(out, torch.Tensor) and not out.is_meta and out.numel() == 1024**2:
                copies.append(out.data_ptr() != model.weight.data_ptr())
            return out

    with Watch():
        table(model, meta(1, 1024))
    assert not any(copies)


class Failing(nn.Module):
    def forward(self, x):
        raise ValueError("seven is\na bad size")


def test_an_error_is_one_line_that_names_the_module():
    model = nn.Sequential(nn.ReLU(), nn.Sequential(Failing()))
    with pytest.raises(CostModelError) as caught:
        trace(model, (meta(2),))
    message = str(caught.value)
    assert message == (
        "cannot run the model: ValueError in 1.0 (Failing): seven is a bad size; "
        "check the input shapes and dtypes (--input)"
    )


def test_a_wrong_shape_names_the_layer():
    with pytest.raises(CostModelError, match=r"RuntimeError in 1 \(Linear\): .*; check the input"):
        trace(nn.Sequential(nn.ReLU(), nn.Linear(4, 4)), (meta(2, 5),))


def test_a_lazy_module_is_told_what_to_do():
    with pytest.raises(CostModelError, match=r"0.weight has no shape .* run the model once"):
        trace(nn.Sequential(nn.LazyLinear(4)), (meta(2, 5),))


def test_wrappers_are_looked_through():
    model = nn.Sequential(nn.Linear(4, 4))
    plain = table(model, (2, 4))
    assert table(nn.DataParallel(model), (2, 4)).total == plain.total
    assert table(torch.compile(model), (2, 4)).total == plain.total


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_scripted_module_is_counted():
    scripted = torch.jit.script(nn.Sequential(nn.Linear(4, 4), nn.ReLU()).eval())
    assert table(scripted, (2, 4)).total.macs == 32


def test_an_exported_program_keeps_its_module_paths():
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Sequential(nn.ReLU(), nn.Conv2d(8, 4, 1))).eval()
    program, file = torch.export.export(model, (torch.zeros(2, 3, 8, 8),)), io.BytesIO()
    torch.export.save(program, file)
    file.seek(0)
    loaded, plain = (table(m, (2, 3, 8, 8)) for m in (torch.export.load(file).module(), model))
    assert loaded.total == plain.total
    assert [row.op.name for row in loaded] == [row.op.name for row in plain]
    assert loaded.info.module_types["1.1"] == "Conv2d"


def test_an_exported_program_with_keywords():
    program = torch.export.export(
        Keywords(),
        ((torch.zeros(5, 4), [torch.zeros(5, 6)]),),
        {"options": {"scale": torch.zeros(1)}},
    )
    pair = (meta(5, 4), [meta(5, 6)])
    graph = trace(program.module(), (pair,), {"options": {"scale": meta(1)}})
    linears = [op.module for op in ops_of(graph) if op.target == "aten.linear"]
    assert linears == ["first", "second"]


# -- the model is left as it was ------------------------------------------------------------------


class Hoarding(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(4)
        self.register_buffer("seen", torch.zeros(4))
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        self.last = x
        self.seen += 1
        self.extra = nn.Linear(4, 4)
        self.register_buffer("more", x)
        return self.norm(x)


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_a_models_state_is_left_alone(mode):
    model = nn.Sequential(nn.Linear(4, 4), Hoarding())
    model[1].norm.eval()
    hook = model[0].register_forward_hook(lambda *call: call[2] + 1)
    state = {name: value.clone() for name, value in model.state_dict().items()}
    attributes = {name: dict(vars(module)) for name, module in model.named_modules()}
    flags = {name: module.training for name, module in model.named_modules()}
    result = table(model, torch.zeros(3, 4), mode=mode)
    assert result.filter_by(op="aten.add").total.calls >= 1  # the hook ran
    assert {name: module.training for name, module in model.named_modules()} == flags
    assert model.state_dict().keys() == state.keys()
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert {n: set(vars(m)) for n, m in model.named_modules()} == {
        n: set(values) for n, values in attributes.items()
    }
    assert model[1].calls == 0
    assert hook.id in model[0]._forward_hooks
    assert not any(tensor.is_meta for tensor in model.state_dict().values())
    assert nn.Module.__call__.__qualname__ == "Module._wrapped_call_impl"


# -- plug-ins -------------------------------------------------------------------------------------


@torch.library.custom_op("costmodel_tests::doubled", mutates_args=())
def doubled(x: torch.Tensor) -> torch.Tensor:
    return x * 2


@doubled.register_fake
def _(x):
    return torch.empty_like(x)


def test_a_plug_in_adds_a_rule_through_an_entry_point(monkeypatch):
    import importlib
    import importlib.metadata
    from importlib.metadata import EntryPoint

    from costmodel.ir import Cost
    from costmodel.rules import registry

    model = Function(torch.ops.costmodel_tests.doubled)
    assert table(model, (2, 3)).unsupported[0].op == "costmodel_tests.doubled"

    plugin = ModuleType("costmodel_plugin")

    def getattr_(name):
        @registry.rule("costmodel_tests.doubled", family="plugin")
        def double(x, *, out):
            return Cost(ops=out.numel)

    plugin.__getattr__ = getattr_
    monkeypatch.setitem(sys.modules, "costmodel_plugin", plugin)
    point = EntryPoint("plugin", "costmodel_plugin:install", "costmodel.rules")
    real = importlib.metadata.entry_points
    monkeypatch.setattr(
        importlib.metadata,
        "entry_points",
        lambda **query: [point] if query == {"group": "costmodel.rules"} else real(**query),
    )
    importlib.reload(rules)
    try:
        result = table(model, (2, 3))
        assert result.complete
        assert result.total.ops == 6
        assert list(result.group_by("family")) == ["plugin"]
    finally:
        del registry._RULES["costmodel_tests.doubled"]


# -- properties -----------------------------------------------------------------------------------

sizes = st.integers(1, 6)


@given(batch=sizes, channels=sizes, width=sizes, size=st.integers(3, 9))
def test_doubling_the_batch_doubles_the_work_and_leaves_the_parameters(
    batch, channels, width, size
):
    model = nn.Sequential(
        nn.Conv2d(channels, width, 3), nn.BatchNorm2d(width), nn.GELU(), nn.Flatten(),
        nn.Linear(width * (size - 2) ** 2, 5), nn.Softmax(-1),
    ).to("meta")  # fmt: skip
    one, two = (table(model, (n, channels, size, size)).total for n in (batch, 2 * batch))
    assert (two.macs, two.ops, two.params) == (2 * one.macs, 2 * one.ops, one.params)
    assert two.bytes_written == 2 * one.bytes_written


@given(batch=sizes, c_in=sizes, c_out=sizes, size=sizes, bias=st.booleans())
def test_a_linear_is_a_1x1_convolution(batch, c_in, c_out, size, bias):
    linear = table(nn.Linear(c_in, c_out, bias), (batch, size, c_in)).total
    conv = table(nn.Conv1d(c_in, c_out, 1, bias=bias), (batch, c_in, size)).total
    assert (linear.macs, linear.ops, linear.params) == (conv.macs, conv.ops, conv.params)
    assert (linear.bytes_read, linear.bytes_written) == (conv.bytes_read, conv.bytes_written)


@given(groups=sizes, c_in=sizes, c_out=sizes, kernel=st.integers(1, 3), mode=st.sampled_from(
    ["eval", "train"]))  # fmt: skip
def test_g_groups_have_one_gth_of_the_dense_macs(groups, c_in, c_out, kernel, mode):
    shape = (2, groups * c_in, 5, 5)
    macs = [
        table(
            nn.Conv2d(groups * c_in, groups * c_out, kernel, groups=g), shape, mode=mode
        ).total.macs
        for g in (1, groups)
    ]
    assert macs[0] == groups * macs[1]


@given(
    kernel=st.integers(1, 4),
    stride=st.integers(1, 3),
    dilation=st.integers(1, 2),
    size=st.integers(8, 12),
)
def test_a_transposed_convolution_is_a_convolution_turned_round(kernel, stride, dilation, size):
    options = {"stride": stride, "dilation": dilation}
    forward = table(nn.Conv2d(3, 5, kernel, **options), (2, 3, size, size))
    small = forward.rows[0].op.out.shape
    back = table(nn.ConvTranspose2d(5, 3, kernel, **options), small)
    assert back.total.macs == forward.total.macs


# -- memory format --------------------------------------------------------------------------------


class Shuffled(nn.Module):
    """Two convolutions that share a filter, one whose filter is a buffer, and one of a video."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 8, 3, bias=False)
        self.again = nn.Conv2d(4, 8, 3, bias=False)
        self.again.weight = self.conv.weight
        self.register_buffer("blur", torch.ones(8, 2, 3, 3))
        self.video = nn.Conv3d(2, 2, 3, bias=False)

    def forward(self, x, clip):
        blurred = F.conv2d(self.conv(x) + self.again(x), self.blur, groups=4)
        return blurred, self.video(clip)


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_a_trace_channels_last_orders_maps_and_filters_and_leaves_the_model_as_it_was(mode):
    model = Shuffled()
    kept = dict(model.named_parameters()), dict(model.named_buffers())
    inputs = (torch.randn(2, 4, 16, 16), torch.randn(2, 2, 8, 8, 8))
    graph = trace(model, inputs, mode=mode, channels_last=True)
    first, second, blur, video = [
        op for op in ops_of(graph) if op.target.startswith("aten.conv") and op.phase == "forward"
    ]
    assert [(s.channels_last, s.contiguous) for s in first.inputs[:2]] == [(True, False)] * 2
    assert first.inputs[1].storage == second.inputs[1].storage  # still one filter
    assert [(s.channels_last, s.contiguous) for s in blur.inputs[:2]] == [(True, False)] * 2
    assert all(spec.contiguous for spec in video.inputs)
    assert [(s.channels_last, s.contiguous) for s in info_of(graph).inputs] == [
        (True, False), (False, True)
    ]  # fmt: skip
    plain = ops_of(trace(model, inputs, mode=mode))
    assert not any(spec.channels_last and not spec.contiguous for op in plain for spec in op.inputs)
    after = dict(model.named_parameters()), dict(model.named_buffers())
    for before, now in zip(kept, after, strict=True):
        assert {name: id(tensor) for name, tensor in before.items()} == {
            name: id(tensor) for name, tensor in now.items()
        }
        assert all(tensor.is_contiguous() for tensor in now.values())


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("way", ["script", "trace"])
def test_a_module_of_torchscript_is_traced_channels_last_too(way):
    net, x = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU()).eval(), torch.randn(1, 3, 16, 16)
    made = torch.jit.script(net) if way == "script" else torch.jit.trace(net, x)
    first, *rest = ops_of(trace(made, (x,), channels_last=True))
    assert (first.inputs[0].channels_last, first.inputs[0].contiguous) == (True, False)
    assert [op.target for op in (first, *rest)][-1] == "aten.relu"


# -- what an import costs -------------------------------------------------------------------------


def test_counting_imports_neither_networkx_nor_sympy():
    code = (
        "import sys, costmodel.table, costmodel.tracer, costmodel.rules\n"
        "print(*{'networkx', 'sympy', 'pydantic', 'matplotlib', 'timm'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "\n"
