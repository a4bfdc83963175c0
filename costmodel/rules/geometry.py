"""The shape of an op's matrix work: how many products, of which extents.

A cost rule says how much; what it takes on a machine depends on the extents too (tiles that are
only partly filled, Winograd for a 3x3 window). Executions read them from here, so that they need
not know any op by name.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from costmodel.ir import Dim, Op, TensorSpec
from costmodel.rules.convolution import is_depthwise

Kind = Literal["gemm", "conv", "depthwise", "attention", "recurrent"]


@dataclass(frozen=True, slots=True)
class Geometry:
    """``groups`` independent products of (m x k) by (k x n), so MACs = groups·m·n·k.

    For a convolution m runs over output positions of the batch, n over a group's output channels,
    k over taps and a group's input channels. ``taps``, ``stride`` and ``dilation`` are per
    direction; ``spatial`` is the output's extent. An attention's m and n are query
    and key lengths, k the head's width. ``padded``: a border of zeros surrounds the input.
    """

    kind: Kind
    groups: Dim
    m: Dim
    n: Dim
    k: Dim
    taps: tuple[int, ...] = ()
    stride: tuple[int, ...] = ()
    dilation: tuple[int, ...] = ()
    spatial: tuple[Dim, ...] = ()
    transposed: bool = False
    steps: Dim = 1
    padded: bool = False


_READERS: dict[str, Callable[[Op], Geometry | None]] = {}


def geometry_of(op: Op) -> Geometry | None:
    """The extents of an op's matrix work; ``None`` for an op that has none."""
    reader = _READERS.get(op.target)
    return reader(op) if reader is not None else None


def _reader(*targets: str) -> Callable[[Any], Any]:
    def register(function: Callable[[Op], Geometry | None]) -> Callable[[Op], Geometry | None]:
        for target in targets:
            _READERS[target] = function
        return function

    return register


def _argument(op: Op, position: int, name: str, default: Any = None) -> Any:
    return op.args[position] if len(op.args) > position else op.kwargs.get(name, default)


def _per_direction(value: Any, rank: int) -> tuple[int, ...]:
    if isinstance(value, (tuple, list)):
        return tuple(value) if len(value) == rank else tuple(value) * rank
    if isinstance(value, str):
        return (1,) * rank
    return (value,) * rank


@_reader(
    "aten.conv1d", "aten.conv2d", "aten.conv3d", "aten.convolution",
    "aten.conv_transpose1d", "aten.conv_transpose2d", "aten.conv_transpose3d",
)  # fmt: skip
def _convolution(op: Op) -> Geometry:
    x, weight = op.args[0], op.args[1]
    rank = weight.ndim - 2
    below = op.target == "aten.convolution"
    transposed = op.args[6] if below else "transpose" in op.target
    if below:
        stride, padding, dilation, groups = *op.args[3:6], op.args[8]
    elif transposed:
        stride, padding = _argument(op, 3, "stride", 1), _argument(op, 4, "padding", 0)
        groups, dilation = _argument(op, 6, "groups", 1), _argument(op, 7, "dilation", 1)
    else:
        stride, padding = _argument(op, 3, "stride", 1), _argument(op, 4, "padding", 0)
        dilation, groups = _argument(op, 5, "dilation", 1), _argument(op, 6, "groups", 1)
    anchor = x if transposed else op.out
    spatial = tuple(anchor.shape[-rank:])
    samples = anchor.shape[0] if anchor.ndim == rank + 2 else 1
    taps = tuple(weight.shape[2:])
    if transposed:
        n, k = weight.shape[1] * math.prod(taps), weight.shape[0] // groups
    else:
        n, k = weight.shape[0] // groups, weight.shape[1] * math.prod(taps)
    return Geometry(
        "depthwise" if is_depthwise(weight, groups) else "conv",
        groups,
        samples * math.prod(spatial),
        n,
        k,
        taps,
        _per_direction(stride, rank),
        _per_direction(dilation, rank),
        spatial,
        bool(transposed),
        padded=padding != "valid" and any(_per_direction(padding, rank)),
    )


@_reader("aten.linear")
def _linear(op: Op) -> Geometry:
    weight = op.args[1]
    k = weight.shape[-1]
    n = weight.shape[0] if weight.ndim == 2 else 1
    return Geometry("gemm", 1, op.args[0].numel // k, n, k)


#: Dimensions of a matrix.
_MATRIX = 2


def multiplies_first(op: Op) -> bool:
    """Whether ``op`` is a linear layer that PyTorch computes as a product, then adds the bias to.

    The product takes the bias of a matrix and of what is contiguous (``linear`` in
    aten/src/ATen/native/Linear.cpp), not of tokens and channels exchanged.
    """
    if op.target != "aten.linear":
        return False
    x = op.inputs[0]
    return x.ndim > _MATRIX and not x.contiguous


@_reader("aten.mm", "aten.bmm", "aten.matmul", "aten.mv")
def _product(op: Op) -> Geometry:
    return _of_product(op.args[0], op.args[1], op.out)


@_reader("aten.addmm", "aten.baddbmm", "aten.addmv")
def _add_product(op: Op) -> Geometry:
    return _of_product(op.args[1], op.args[2], op.out)


def _of_product(a: TensorSpec, b: TensorSpec, out: TensorSpec) -> Geometry:
    k = a.shape[-1]
    if a.ndim == 1 or b.ndim == 1:
        return Geometry("gemm", 1, out.numel, 1, k)
    if b.ndim == 2:  # the batch of the left operand joins its rows
        return Geometry("gemm", 1, a.numel // k, b.shape[-1], k)
    return Geometry("gemm", math.prod(out.shape[:-2]), a.shape[-2], b.shape[-1], k)


@_reader("aten.einsum")
def _einsum(op: Op) -> Geometry | None:
    from costmodel.rules.matmul import parse_einsum

    operands = op.args[1]
    if len(operands) != 2:
        return None
    (left, right), result = parse_einsum(op.args[0], [spec.ndim for spec in operands])
    extents = dict(zip(left, operands[0].shape, strict=True))
    extents.update(zip(right, operands[1].shape, strict=True))

    def extent(labels: set[str]) -> Dim:
        return math.prod(extents[label] for label in labels)

    a, b, kept = set(left), set(right), set(result)
    return Geometry(
        "gemm", extent(a & b & kept), extent((a - b) & kept), extent((b - a) & kept),
        extent((a & b) - kept),
    )  # fmt: skip


@_reader(
    "aten.scaled_dot_product_attention", "aten._scaled_dot_product_flash_attention",
    "aten._scaled_dot_product_flash_attention_for_cpu",
    "aten._scaled_dot_product_efficient_attention", "aten._scaled_dot_product_cudnn_attention",
)  # fmt: skip
def _attention(op: Op) -> Geometry:
    query, key = op.args[0], op.args[1]
    *heads, length, width = query.shape
    return Geometry("attention", math.prod(heads), length, key.shape[-2], width)


@_reader("aten.lstm", "aten.gru", "aten.rnn_tanh", "aten.rnn_relu")
def _recurrent(op: Op) -> Geometry | None:
    """One step of one layer as a product; ``steps`` of them follow one another."""
    weights = [s for a in op.args if isinstance(a, tuple) for s in a if isinstance(s, TensorSpec)]
    matrices = [s for s in weights if s.ndim == 2 and s.kind == "parameter"]
    if not matrices:
        return None
    x = op.args[0]
    time, batch = (x.shape[0], x.shape[1]) if x.ndim == 3 else (x.shape[0], 1)
    widest = max(matrices, key=lambda s: s.numel)
    return Geometry(
        "recurrent", 1, batch, widest.shape[0], sum(s.numel for s in matrices) // widest.shape[0],
        steps=time,
    )  # fmt: skip


#: Where each product has the first of its two factors; the second follows it.
_FIRST = {
    **dict.fromkeys(("linear", "mm", "bmm", "mv", "matmul", "convolution"), 0),
    **{f"conv{turned}{rank}d": 0 for turned in ("", "_transpose") for rank in (1, 2, 3)},
    **dict.fromkeys(("addmm", "baddbmm", "addmv"), 1),
}


def factors_of(op: Op) -> tuple[TensorSpec, TensorSpec] | None:
    """The tensors that a product multiplies, which torch wants in one number format; or none."""
    first = _FIRST.get(op.target.removeprefix("aten."))
    if first is None or len(op.args) < first + 2:
        return None
    return op.args[first], op.args[first + 1]
