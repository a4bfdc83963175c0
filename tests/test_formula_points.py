"""A formula at a point equals a trace with numbers there: every count, for many modules.

Points are drawn at random among those that the formula's own domain admits, and are other than the
points at which the formula checked itself.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn

from costmodel.errors import CostModelError
from costmodel.formula import Formula, formula
from costmodel.formula.arithmetic import evaluate
from costmodel.formula.ask import parse_shape
from costmodel.table import cost
from costmodel.tracer import trace

IMAGE = "N x C x H x W"
SEQUENCE = "N x L x d"

#: Module, its arguments (text: symbols), its input. ``name.Class`` is one of the examples.
CASES: list[tuple[Any, dict[str, Any], str]] = [
    (nn.Linear, {"in_features": "I", "out_features": "O"}, "N x L x I"),
    (nn.Bilinear, {"in1_features": "I", "in2_features": "I", "out_features": "O"}, "N x I; N x I"),
    (nn.Conv1d, {"in_channels": "C", "out_channels": "F", "kernel_size": 3}, "N x C x L"),
    (nn.Conv2d,
     {"in_channels": "C", "out_channels": "F", "kernel_size": "K", "stride": "S", "padding": "P",
      "dilation": "D", "groups": "g"}, IMAGE),
    (nn.Conv3d, {"in_channels": "C", "out_channels": "F", "kernel_size": 3}, "N x C x T x H x W"),
    (nn.ConvTranspose2d,
     {"in_channels": "C", "out_channels": "F", "kernel_size": "K", "stride": "S", "padding": "P"},
     IMAGE),
    (nn.BatchNorm2d, {"num_features": "C"}, IMAGE),
    (nn.LayerNorm, {"normalized_shape": "d"}, SEQUENCE),
    (nn.GroupNorm, {"num_groups": "g", "num_channels": "C"}, IMAGE),
    (nn.InstanceNorm2d, {"num_features": "C"}, IMAGE),
    (nn.RMSNorm, {"normalized_shape": "d"}, SEQUENCE),
    (nn.Embedding, {"num_embeddings": "V", "embedding_dim": "d"}, "int64: N x L"),
    (nn.PReLU, {"num_parameters": "C"}, IMAGE),
    (nn.SiLU, {}, IMAGE),
    (nn.GELU, {}, SEQUENCE),
    (nn.Softmax, {"dim": -1}, SEQUENCE),
    (nn.GLU, {"dim": -1}, "N x L x 2*d"),
    (nn.MaxPool2d, {"kernel_size": 3, "stride": 2, "padding": 1}, IMAGE),
    (nn.AvgPool2d, {"kernel_size": 3, "stride": 2, "padding": 1}, IMAGE),
    (nn.AdaptiveAvgPool2d, {"output_size": 1}, IMAGE),
    (nn.AdaptiveAvgPool2d, {"output_size": 7}, IMAGE),
    (nn.PixelShuffle, {"upscale_factor": "r"}, "N x C*r*r x H x W"),
    (nn.UpsamplingBilinear2d, {"scale_factor": 2}, IMAGE),
    (nn.ZeroPad2d, {"padding": 2}, IMAGE),
    (nn.MultiheadAttention, {"embed_dim": "d", "num_heads": "h", "batch_first": True},
     "N x L x d; N x L x d; N x L x d"),
    (nn.TransformerEncoderLayer,
     {"d_model": "d", "nhead": "h", "dim_feedforward": "f", "batch_first": True}, SEQUENCE),
    (nn.LSTM, {"input_size": "I", "hidden_size": "H", "num_layers": "n"}, "T x N x I"),
    (nn.GRU, {"input_size": "I", "hidden_size": "H", "bidirectional": True}, "T x N x I"),
    (nn.RNN, {"input_size": "I", "hidden_size": "H"}, "T x N x I"),
    ("conv.StandardConv", {"in_ch": "C", "out_ch": "F", "kernel": "K"}, IMAGE),
    ("depthwise_separable.DepthwiseSeparable", {"in_ch": "C", "out_ch": "F", "stride": "S"}, IMAGE),
    ("inverted_residual.InvertedResidual", {"in_ch": "C", "out_ch": "F", "expand": "t"}, IMAGE),
    ("inverted_residual.InvertedResidual",
     {"in_ch": "C", "out_ch": "C", "stride": 2, "expand": "t"}, IMAGE),
    ("bottleneck.Bottleneck", {"in_ch": "C", "width": "w"}, IMAGE),
    ("bottleneck.Bottleneck", {"in_ch": "4*w", "width": "w"}, "N x 4*w x H x W"),
    ("squeeze_excitation.SqueezeExcitation", {"channels": "C", "reduction": "r"}, IMAGE),
    ("squeeze_excitation.SEBottleneck", {"in_ch": "C", "width": "w"}, IMAGE),
    ("shufflenet.ShuffleUnit", {"in_ch": "C", "out_ch": "C", "groups": "g"}, IMAGE),
    ("mbconv.MBConv", {"in_ch": "C", "out_ch": "C", "kernel": "K", "expand": "t"}, IMAGE),
    ("attention.SelfAttention", {"dim": "d", "heads": "h"}, SEQUENCE),
    ("attention.SelfAttention", {"dim": "4*d", "causal": True}, "N x L x 4*d"),
    ("attention.EncoderLayer", {"dim": "d", "heads": "h", "hidden": "f"}, SEQUENCE),
    ("lstm.SequenceClassifier", {"embed": "E", "hidden": "H", "vocab": 50}, "int64: N x T"),
    ("reparam.ReparamBlock", {"in_ch": "C", "out_ch": "F", "copies": "c"}, IMAGE),
    ("decoder.Decoder", {"layers": "n", "hidden": "d", "heads": "h", "vocab": "V"},
     "int64: N x L"),
    ("vit.VisionTransformer", {"depth": "n", "width": "d", "resolution": "R"}, "N x 3 x R x R"),
]  # fmt: skip


def identify(case: tuple[Any, dict[str, Any], str]) -> str:
    builder, arguments, _ = case
    name = builder if isinstance(builder, str) else builder.__name__
    return f"{name}({', '.join(map(str, arguments.values()))})"


@pytest.mark.parametrize("case", CASES, ids=identify)
def test_equals_traces_at_random_points(
    case: tuple[Any, dict[str, Any], str], example: Callable[[str], ModuleType]
) -> None:
    builder, arguments, inputs = case
    if isinstance(builder, str):
        file, _, name = builder.partition(".")
        builder = getattr(example(file), name)
    shapes = inputs.split("; ")
    found = formula(builder, inputs=shapes, **arguments)
    points = 0
    for values in admitted(found):
        said = found.evaluate(**values)
        counted = concrete(builder, arguments, shapes, values)
        assert said["macs"] == counted.macs, values
        assert said["ops"] == counted.ops, values
        assert said["params"] == counted.params, values
        assert said["bytes_read"] == counted.bytes_read, values
        assert said["bytes_written"] == counted.bytes_written, values
        assert said["flops"] == 2 * counted.macs + counted.ops
        points += 1
    assert points == 4


def admitted(found: Formula, count: int = 4) -> Iterator[dict[str, int]]:
    """Random points of the domain: small numbers, and multiples that satisfy divisibility."""
    chance = random.Random(7)
    pool = (1, 2, 3, 4, 5, 6, 8, 9, 10, 12, 16, 18, 20, 24, 30, 32, 36, 60, 70)
    names = [s.name for s in found.symbols]
    for _ in range(40_000):
        small = {"N", "n", "K", "S", "P", "D", "g", "t", "r", "h", "c"}
        values = {n: chance.choice(pool[:7] if n in small else pool[3:]) for n in names}
        try:
            found.check(values)
        except CostModelError:
            continue
        yield values
        count -= 1
        if count == 0:
            return


def concrete(builder: Any, arguments: dict[str, Any], shapes: list[str], values: Any) -> Any:
    given = {k: evaluate(v, values) if isinstance(v, str) else v for k, v in arguments.items()}
    with torch.device("meta"):
        module = builder(**given)
    tensors = []
    for shape in map(parse_shape, shapes):
        dims = [evaluate(d, values) for d in shape.dims]
        tensors.append(torch.empty(dims, dtype=getattr(torch, shape.dtype), device="meta"))
    return cost(trace(module, tensors)).total
