"""Conversions that do nothing in a graph of float32, which shows them nowhere but in
`TensorSpec.recast`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

import costmodel as cm
from costmodel import serial
from costmodel.conversions import noticing
from costmodel.costfunction.pieces import _shape_of
from costmodel.execution import compiled, eager
from costmodel.execution.kernel import Kernel
from costmodel.ir import Op, info_of, ops_of
from costmodel.symbolic import Session, trace
from costmodel.targets.libraries import imported


class Scaled(nn.Module):
    """A convolution whose channels are scaled, in a format that one line chooses."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how, self.conv = how, nn.Conv2d(3, 8, 3, bias=False)
        self.scale = nn.Parameter(torch.ones(8))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv(x)
        scale = self.scale.view(1, -1, 1, 1)
        if self.how == "of x":
            scale = scale.to(x.dtype)
        elif self.how == "like x":
            scale = scale.type_as(x)
        elif self.how == "by name":
            scale = scale.to(torch.float32)
        elif self.how == "to its place":
            scale = scale.to(scale.device)
        elif self.how == "as others say":
            scale = scale.to(_format_of(x))
        return x * scale


def _format_of(x: torch.Tensor) -> torch.dtype:
    return x.dtype


@pytest.mark.parametrize(
    ("how", "formats"),
    [
        ("of x", ["fp16", "fp16"]),
        ("like x", ["fp16", "fp16"]),
        ("as others say", ["fp16", "fp16"]),
        ("by name", ["fp32"]),
        ("to its place", ["fp32"]),
        ("as it is", ["fp32"]),
    ],
)
def test_what_a_weight_multiplies_keeps_its_format_where_the_model_converts_the_weight(
    how: str, formats: list[str]
) -> None:
    graph = cm.trace(Scaled(how).eval(), "2x3x8x8")
    (mul,) = _ops(graph, "aten.mul")
    assert mul.inputs[0].recast is None
    run = eager.kernels(cm.cost(graph).rows, "amp-fp16")
    own = [k for k in run if k.names[0].startswith("mul")]
    assert [k.dtype for k in own] == formats
    assert [k.names[0] for k in own][-1] == "mul"
    # In one format there is nothing to convert.
    assert len(eager.kernels(cm.cost(graph).rows, "fp32")) == 2
    assert serial.loads(serial.dumps(graph)).nodes[mul.index]["op"] == mul


def test_a_weight_that_is_converted_where_it_is_used_is_copied_each_time() -> None:
    class Twice(Scaled):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = super().forward(x)
            return x * self.scale.view(1, -1, 1, 1).to(x.dtype)

    run = eager.kernels(cm.cost(cm.trace(Twice("of x").eval(), "2x3x8x8")).rows, "amp-fp16")
    casts = [k for k in run if k.names[0].startswith("mul") and k.names[0].endswith("cast")]
    assert [k.nbytes for k in casts] == [8 * (4 + 2)] * 2


def test_a_converted_weight_is_copied_once_whatever_views_there_are_of_the_copy() -> None:
    class Viewed(Scaled):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.conv(x)
            return x * self.scale.to(x.dtype).view(1, -1, 1, 1).expand(2, 8, 6, 6)

    run = eager.kernels(cm.cost(cm.trace(Viewed("").eval(), "2x3x8x8")).rows, "amp-fp16")
    assert [(k.names[0], k.dtype) for k in run[-3:]] == [
        ("conv.conv2d", "fp16"),
        ("view.cast", "fp16"),
        ("mul", "fp16"),
    ]


class Normed(nn.Module):
    """A norm that measures in float32 and answers in the format that it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(64, 64), nn.Linear(64, 64)
        self.weight = nn.Parameter(torch.ones(64))

    def norm(self, x: torch.Tensor) -> torch.Tensor:
        given = x.dtype
        x = x.to(torch.float32)
        x = x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6)
        return self.weight * x.to(
            given,
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.norm(self.first(x)))


class _Formats(TorchDispatchMode):
    """What really runs: the format of each result that is no view of an argument."""

    def __init__(self) -> None:
        super().__init__()
        self.made: list[tuple[str, int]] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        view = any(r.alias_info is not None for r in func._schema.returns)
        first = result[0] if isinstance(result, tuple) else result
        if isinstance(first, torch.Tensor) and not view and "view" not in func.__name__:
            self.made.append((str(first.dtype).removeprefix("torch."), first.numel()))
        return result


_LONG = {"fp32": "float32", "bf16": "bfloat16"}


def _written(kernels: list[Kernel]) -> list[tuple[str, int]]:
    sizes = {"fp32": 4, "bf16": 2}
    return [(_LONG[k.dtype], k.writes[0].nbytes // sizes[k.dtype]) for k in kernels]


def test_a_network_of_bfloat16_runs_the_conversions_that_it_asks_for() -> None:
    model = Normed().eval()
    kernels = eager.kernels(cm.cost(cm.trace(model, "8x64")).rows, "bf16")
    model.bfloat16()
    x = torch.zeros(8, 64, dtype=torch.bfloat16)
    with torch.no_grad(), _Formats() as truth:
        model(x)
    assert _written(kernels) == truth.made
    assert [k.names[0] for k in kernels if k.names[0].endswith("cast")] == [
        "square.cast",
        "mul_1.cast",
    ]


def test_under_autocast_a_norm_answers_in_the_format_it_was_given() -> None:
    run = eager.kernels(cm.cost(cm.trace(Normed().eval(), "8x64")).rows, "amp-bf16")
    formats = [(k.names[0], k.dtype) for k in run if ".linear" not in k.names[0]]
    assert formats == [
        ("square.cast", "fp32"),
        ("square", "fp32"),
        ("mean", "fp32"),
        ("add", "fp32"),
        ("rsqrt", "fp32"),
        ("mul", "fp32"),
        ("mul_1.cast", "bf16"),
        ("mul_1", "fp32"),  # its weight is float32
    ]


def test_a_copy_lies_in_memory_of_its_own() -> None:
    run = eager.kernels(cm.cost(cm.trace(Normed().eval(), "8x64")).rows, "bf16")
    named = {k.names[0]: k for k in run}
    cast, source = named["square.cast"], named["first.linear"].writes[0].storage
    copy = cast.writes[0].storage
    assert [a.storage for a in cast.reads] == [source] != [copy]
    assert [a.storage for a in named["square"].reads] == [copy]
    assert named["mul"].reads[0].storage == copy
    assert named["mul"].reads[0].nbytes == 8 * 64 * 4


@pytest.mark.parametrize("dtype", ["bf16", "amp-bf16"])
def test_inductor_fuses_the_conversions_of_a_norm_into_it(dtype: str) -> None:
    run = compiled.kernels(cm.cost(cm.trace(Normed().eval(), "8x64")).rows, dtype)
    first = next(i for i, k in enumerate(run) if k.names == ("first.linear",))
    norm = run[first + 1]
    assert norm.names[0] == "square.cast"
    assert {"rsqrt", "mul_1.cast", "mul_1"} <= {*norm.names}
    made, *weights = sorted(norm.reads, key=lambda access: access.weight)
    assert [made.storage] == [a.storage for a in run[first].writes]
    assert all(access.weight for access in weights)


def test_llama_in_bfloat16_launches_what_transformers_launches(
    needs: Callable[[str], None],
) -> None:
    needs("transformers")
    transformers = imported("transformers")
    config = transformers.LlamaConfig(
        num_hidden_layers=2, hidden_size=64, intermediate_size=128, num_attention_heads=4,
        num_key_value_heads=4, vocab_size=100,
    )  # fmt: skip
    model = transformers.LlamaModel(config).eval()
    ids = torch.zeros(1, 8, dtype=torch.int64)
    kernels = eager.kernels(
        cm.cost(cm.trace(model, "int64:1x8", {"use_cache": False})).rows, "bf16"
    )
    model.bfloat16()
    with torch.no_grad(), _Formats() as truth:
        model(ids, use_cache=False)

    def large(made: list[tuple[str, int]]) -> Counter[tuple[str, int]]:
        return Counter(kernel for kernel in made if kernel[1] >= 128)

    assert large(_written(kernels)) == large(truth.made)
    casts = [k for k in kernels if k.names[0].endswith("cast") and "norm" in k.names[0]]
    assert len(casts) == 2 * 5


class Attending(nn.Module):
    """Attention whose products are summed up, too; it may name float32 itself."""

    def __init__(self, dtype: torch.dtype | None) -> None:
        super().__init__()
        self.dtype = dtype

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        products = x @ x
        scores = torch.softmax(products, -1, dtype=self.dtype).to(x.dtype)
        return scores @ x + products.sum(-1, keepdim=True, dtype=self.dtype)


@pytest.mark.parametrize(
    ("named", "dtype", "expected"),
    [
        # SoftMax.cpp widens half precision inside its kernel; of bfloat16 it makes a copy first.
        (None, "amp-fp16", "matmul softmax matmul_1.cast matmul_1.cast matmul_1 sum add"),
        (
            None,
            "amp-bf16",
            "matmul softmax.cast softmax matmul_1.cast matmul_1.cast matmul_1 sum add",
        ),
        (None, "fp16", "matmul softmax matmul_1 sum add"),
        (torch.float32, "fp16", "matmul softmax matmul_1.cast matmul_1 sum add"),
        (torch.float32, "bf16", "matmul softmax.cast softmax matmul_1.cast matmul_1 sum add"),
        (torch.float32, "fp32", "matmul softmax matmul_1 sum add"),
    ],
)
def test_what_answers_in_float32_copies_its_input_only_where_its_kernel_can_not_read_it(
    named: torch.dtype | None, dtype: str, expected: str
) -> None:
    rows = cm.cost(cm.trace(Attending(named), "2x16x16")).rows
    run = eager.kernels(rows, dtype)
    own = [k for k in run if k.names[0] != "matmul.cast"]
    assert " ".join(k.names[0] for k in own) == expected
    formats = {k.names[0]: k.dtype for k in own}
    plain = dtype == "fp32" or (named is None and not dtype.startswith("amp"))
    assert formats["softmax"] == formats["sum"] == (dtype if plain else "fp32")
    given, answered = {"fp32": (4, 4)}.get(dtype, (2, 2 if plain else 4))
    softmax, total = (next(k for k in own if k.names[0] == name) for name in ("softmax", "sum"))
    given_to_softmax = 4 if "softmax.cast" in expected else given
    assert softmax.nbytes == 2 * 256 * (given_to_softmax + answered)
    assert total.nbytes == 2 * (256 * given + 16 * answered)


def _elsewhere(y: torch.Tensor) -> torch.Tensor:
    return torch.neg(y.to(_format_of(y)))  # whose, this function cannot tell


class Asking(nn.Module):
    """Asks for a format in every way that there is."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(4))

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        y = x + 1
        return [
            torch.neg(y.float()),
            torch.neg(y.to(torch.float32)),
            torch.neg(y.to(dtype=torch.float)),
            torch.neg(y.to(torch.float, copy=False)),
            torch.neg(y.to(
                y.dtype
            )),
            torch.neg(y.to(x)),
            torch.neg(y.type_as(x)),
            torch.neg(y.float().to(torch.float32)),
            torch.neg(y.to(torch.float32).view(-1)),
            torch.neg(y.to(y.dtype)) if y.dtype == torch.float32 else y,
            torch.neg(y.to(self.scale.dtype)),
            torch.neg(y.to(torch.float32).view(-1).to(y.dtype)),
            torch.neg(y.float().add_(1)),
            _elsewhere(y),
        ]  # fmt: skip


def test_what_another_call_has_read_says_nothing() -> None:
    """A frame that is gone leaves its place to one of its size, as these two have."""
    origins: list[int | None] = []
    wanted = torch.float32

    def reads(tensor: torch.Tensor) -> tuple[Any, torch.dtype]:
        return tensor.dtype, wanted

    def asks(tensor: torch.Tensor) -> tuple[Any, torch.dtype]:
        return tensor.to(wanted), wanted

    def convert(tensor: torch.Tensor, origin: int | None, by_name: bool) -> torch.Tensor:
        assert not by_name
        origins.append(origin)
        return tensor

    x = torch.ones(2)
    with noticing(id, convert):
        for _ in range(50):
            reads(x)
            asks(x)
    assert origins == [None] * 50


def test_each_way_of_asking_is_understood() -> None:
    graph = cm.trace(Asking(), "4")
    asked = [op.inputs[0].recast for op in _ops(graph, "aten.neg")]
    (weight,) = [w.storage for w in info_of(graph).weights]
    y = next(op.out.storage for op in ops_of(graph) if op.target == "aten.add")
    x = info_of(graph).inputs[0].storage
    named, own, like = ("float32", -1), ("like", y), ("like", x)
    assert [r and (r.to, r.like) for r in asked] == [
        named, named, named, named, own, like, like, named, named, own, ("like", weight), own,
        named, None,
    ]  # fmt: skip
    numbers = [r.number for r in asked if r is not None]
    assert len(set(numbers)) == len(numbers)


def test_a_copy_in_the_format_of_a_copy_takes_its_format() -> None:
    class Chained(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = x.float()
            return (x + 1).to(y.dtype) * 2

    (mul,) = _ops(cm.trace(Chained(), "4"), "aten.mul")
    assert mul.inputs[0].recast is not None
    assert mul.inputs[0].recast.to == "float32"


def test_what_is_in_its_format_already_is_copied_no_second_time() -> None:
    class Twice(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = x.float()
            return torch.exp(y.view(-1).to(torch.float32)) + x.view(-1)

    run = eager.kernels(cm.cost(cm.trace(Twice(), "4x4")).rows, "bf16")
    assert [(k.names[0], k.dtype) for k in run] == [
        ("view.cast", "fp32"),
        ("exp", "fp32"),
        ("add", "fp32"),
    ]
    assert [a.nbytes for a in run[2].reads] == [16 * 4, 16 * 2]


def test_a_tensor_and_its_copy_are_two_operands() -> None:
    class Both(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = torch.exp(x)
            return y.float().view(-1).view(4, 4) * y

    (_, cast, mul) = eager.kernels(cm.cost(cm.trace(Both(), "4x4")).rows, "bf16")
    assert cast.names == ("view.cast",)
    assert [a.nbytes for a in mul.reads] == [16 * 4, 16 * 2]


def test_a_view_of_the_copy_of_an_input_leaves_the_input_as_it_is() -> None:
    class Input(nn.Module):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return torch.exp(x.float().view(-1)), torch.neg(x)

    run = eager.kernels(cm.cost(cm.trace(Input(), "4x4")).rows, "bf16")
    assert [(k.names[0], k.dtype) for k in run] == [
        ("view.cast", "fp32"),
        ("exp", "fp32"),
        ("neg", "bf16"),
    ]


def test_autocast_converts_a_weight_once_that_is_in_its_format_already() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight, self.scale = (nn.Parameter(torch.ones(8, 8)) for _ in range(2))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = nn.functional.linear(x, self.weight.to(x.dtype))
            z = nn.functional.linear(x, self.weight.to(x.dtype))
            return self.scaled(torch.exp(y + z))

        def scaled(self, y: torch.Tensor) -> torch.Tensor:
            return y * self.scale.to(_format_of(y))  # float32, as exp answers

    run = eager.kernels(cm.cost(cm.trace(Tied(), "8x8")).rows, "amp-fp16")
    assert [(k.names[0], k.reads[0].weight) for k in run if k.names[0].endswith("cast")] == [
        ("linear.cast", False),
        ("linear.cast", True),
        ("linear_1.cast", False),
        ("exp.cast", False),
    ]
    assert (run[-1].names, run[-1].dtype) == (("mul",), "fp32")


def test_a_view_of_the_copy_of_a_weight_leaves_the_weight_as_it_is() -> None:
    class Again(Scaled):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.conv(x)
            x = x * self.scale.type_as(x).view(1, -1, 1, 1)
            return x + self.scale.view(1, -1, 1, 1)

    run = eager.kernels(cm.cost(cm.trace(Again("").eval(), "2x3x8x8")).rows, "amp-fp16")
    assert [(k.names[0], k.dtype) for k in run[-3:]] == [
        ("view.cast", "fp16"),
        ("mul", "fp16"),
        ("add", "fp32"),
    ]


def test_the_copy_of_a_weight_is_none() -> None:
    run = eager.kernels(cm.cost(cm.trace(Scaled("of x").eval(), "2x3x8x8")).rows, "amp-fp16")
    cast, mul = run[-2:]
    assert [a.weight for a in cast.reads] == [True]
    assert [a.weight for a in mul.reads] == [False, False]


def test_formulas_are_asked_for_no_format() -> None:
    session = Session({"N": 3})
    graph = trace(session, Normed().eval(), [((session.integers["N"], 64), "float32")])
    assert {op.target for op in ops_of(graph)} >= {"aten.linear", "aten.rsqrt"}
    assert all(spec.recast is None for op in ops_of(graph) for spec in op.inputs)


def test_edges_reach_through_a_conversion() -> None:
    graph = cm.trace(Normed().eval(), "8x64")
    index = {op.name: op.index for op in ops_of(graph)}
    for reader in ("square", "mul"):
        assert graph.edges[index["to"], index[reader]]["nbytes"] == 8 * 64 * 4


def test_training_and_counting_do_not_change_by_conversions() -> None:
    model = Normed()
    graph = cm.trace(model, "8x64", mode="train")
    assert all(spec.recast is None for op in ops_of(graph) for spec in op.inputs)
    assert {op.phase for op in ops_of(graph)} == {"forward", "backward"}
    copies = [op for op in ops_of(cm.trace(model, "8x64")) if op.target == "aten.alias"]
    assert copies == []


def test_repeated_blocks_with_conversions_are_alike() -> None:
    model = nn.Sequential(nn.Linear(64, 64), Normed(), Normed()).eval()
    rows = cm.cost(cm.trace(model, "8x64")).rows
    first, second = ([r for r in rows if r.op.module.startswith(n)] for n in "12")
    assert _shape_of(first) == _shape_of(second)
    plain = nn.Sequential(Scaled("of x"), nn.Conv2d(8, 3, 3, padding=2), Scaled("by name")).eval()
    rows = cm.cost(cm.trace(plain, "2x3x8x8")).rows
    first, last = ([r for r in rows if r.op.module.startswith(n)] for n in "02")
    assert _shape_of(first) != _shape_of(last)


def test_methods_are_put_back_whatever_happens() -> None:
    names = ("to", "type_as", "float", "dtype")
    before = {name: getattr(torch.Tensor, name) for name in names}
    with suppress(ZeroDivisionError), noticing(lambda _: None, lambda tensor, *_: tensor):
        assert all(getattr(torch.Tensor, name) is not before[name] for name in names)
        assert torch.ones(2).dtype == torch.float32
        raise ZeroDivisionError
    assert {name: getattr(torch.Tensor, name) for name in names} == before
    assert not {*names} & {*vars(torch.Tensor)}


def test_only_conversions_that_do_nothing_are_noticed() -> None:
    seen: list[tuple[int, int | None, bool]] = []
    x, y = torch.ones(2), torch.ones(2, dtype=torch.float64)

    def convert(tensor: torch.Tensor, origin: int | None, by_name: bool) -> torch.Tensor:
        seen.append((id(tensor), origin, by_name))
        return tensor

    with noticing(id, convert):
        assert x.to(y.dtype).dtype == torch.float64
        assert x.to("cpu") is x
        assert not seen
        assert x.to(x.dtype) is x
        assert y.type_as(y) is y
        assert x.float() is x
    assert seen == [(id(x), id(x), False), (id(y), id(y), False), (id(x), None, True)]


def _ops(graph: Any, target: str) -> list[Op]:
    return [op for op in ops_of(graph) if op.target == target]
