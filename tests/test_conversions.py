"""Weights that a model converts to the format of its activations, which a graph of one format shows
nowhere but in `TensorSpec.recast`."""

from __future__ import annotations

from contextlib import suppress

import pytest
import torch
from torch import nn

import costmodel as cm
from costmodel import serial
from costmodel.conversions import noticing
from costmodel.execution import eager
from costmodel.ir import ops_of


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
        return x * scale


@pytest.mark.parametrize(
    ("how", "formats"),
    [
        ("of x", ["fp16", "fp16"]),
        ("like x", ["fp16", "fp16"]),
        ("by name", ["fp32"]),
        ("to its place", ["fp32"]),
        ("as it is", ["fp32"]),
    ],
)
def test_what_a_weight_multiplies_keeps_its_format_where_the_model_converts_the_weight(
    how: str, formats: list[str]
) -> None:
    graph = cm.trace(Scaled(how).eval(), "2x3x8x8")
    (mul,) = [op for op in ops_of(graph) if op.target == "aten.mul"]
    assert [spec.recast for spec in mul.inputs] == [False, len(formats) == 2]
    run = eager.kernels(cm.cost(graph).rows, "amp-fp16")
    own = [k for k in run if k.names[0].startswith("mul")]
    assert [k.dtype for k in own] == formats
    assert [k.names[0] for k in own][-1] == "mul"
    # In one format there is nothing to convert.
    assert len(eager.kernels(cm.cost(graph).rows, "fp16")) == 2
    assert serial.loads(serial.dumps(graph)).nodes[mul.index]["op"] == mul


def test_a_weight_that_is_converted_where_it_is_used_is_copied_each_time() -> None:
    class Twice(Scaled):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x) * self.scale.view(1, -1, 1, 1).to(x.dtype)

    run = eager.kernels(cm.cost(cm.trace(Twice("of x").eval(), "2x3x8x8")).rows, "amp-fp16")
    casts = [k for k in run if k.names[0].startswith("mul") and k.names[0].endswith("cast")]
    assert [k.nbytes for k in casts] == [8 * (4 + 2)] * 2


def test_methods_are_put_back_whatever_happens() -> None:
    before = {name: getattr(torch.Tensor, name) for name in ("to", "type_as")}
    with suppress(ZeroDivisionError), noticing(lambda _: None):
        assert torch.Tensor.to is not before["to"]
        raise ZeroDivisionError
    assert {name: getattr(torch.Tensor, name) for name in before} == before
    assert not {*before} & {*vars(torch.Tensor)}


def test_only_conversions_that_do_nothing_are_noticed() -> None:
    seen: list[torch.Tensor] = []
    x, y = torch.ones(2), torch.ones(2, dtype=torch.float64)
    with noticing(seen.append):
        assert x.to(y.dtype).dtype == torch.float64
        assert x.to("cpu") is x
        assert not seen
        assert x.to(x.dtype) is x
        assert y.type_as(y) is y
    assert [id(tensor) for tensor in seen] == [id(x), id(y)]
