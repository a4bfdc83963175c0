"""Convolutions, 1-D to 3-D, grouped, depthwise, dilated, transposed."""

from __future__ import annotations

import math
from typing import Any

from costmodel.ir import Cost, Dim, Op, TensorSpec
from costmodel.rules.registry import rule


def is_depthwise(weight: TensorSpec, groups: Dim) -> bool:
    """One input channel a group; a channel multiplier is allowed."""
    return bool(groups != 1 and weight.shape[1] == 1)


def convolution_family(op: Op) -> str:
    """``depthwise``, ``grouped``, ``pointwise`` or ``convolution``, by the weight's shape."""
    weight, groups = _weight(op), _groups(op)
    if groups != 1:
        return "depthwise" if is_depthwise(weight, groups) else "grouped"
    return "pointwise" if all(k == 1 for k in weight.shape[2:]) else "convolution"


def _weight(op: Op) -> TensorSpec:
    position = 2 if op.target == "aten.convolution_backward" else 1
    weight: TensorSpec = op.args[position] if len(op.args) > position else op.kwargs["weight"]
    return weight


def _groups(op: Op) -> Dim:
    if op.target in ("aten.convolution", "aten._convolution"):
        return op.args[8]
    if op.target == "aten.convolution_backward":
        return op.args[9]
    return op.args[6] if len(op.args) > 6 else op.kwargs.get("groups", 1)


def forward_macs(weight: TensorSpec, x: TensorSpec, out: TensorSpec, transposed: bool) -> Dim:
    """MACs of a convolution, padded taps counted.

    A convolution reads a window for each *output* position: ``out.numel`` windows of
    ``weight.numel / C_out`` taps. A transposed one scatters each *input* position:
    ``x.numel`` times ``weight.numel / C_in`` taps. Weights are ``(C_out, C_in/g, *k)`` and
    ``(C_in, C_out/g, *k)``, so both are a product of the anchor's size and ``weight.shape[1:]``.
    """
    anchor = x if transposed else out
    return anchor.numel * math.prod(weight.shape[1:])


@rule("aten.conv1d", "aten.conv2d", "aten.conv3d", family=convolution_family)
def conv(
    x: TensorSpec,
    weight: TensorSpec,
    bias: TensorSpec | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: Dim = 1,
    *,
    out: TensorSpec,
) -> Cost:
    """K·C_in/g MACs for each output element, one add each for the bias."""
    return Cost(forward_macs(weight, x, out, False), out.numel if bias is not None else 0)


@rule(
    "aten.conv_transpose1d",
    "aten.conv_transpose2d",
    "aten.conv_transpose3d",
    family=convolution_family,
)
def conv_transpose(
    x: TensorSpec,
    weight: TensorSpec,
    bias: TensorSpec | None = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: Dim = 1,
    dilation: Any = 1,
    *,
    out: TensorSpec,
) -> Cost:
    """K·C_out/g MACs for each input element, one add an output element for the bias."""
    return Cost(forward_macs(weight, x, out, True), out.numel if bias is not None else 0)


@rule("aten.convolution", "aten._convolution", family=convolution_family)
def convolution(
    x: TensorSpec,
    weight: TensorSpec,
    bias: TensorSpec | None,
    stride: Any,
    padding: Any,
    dilation: Any,
    transposed: bool,
    output_padding: Any,
    groups: Dim,
    *flags: bool,
    out: TensorSpec,
) -> Cost:
    """The form below autograd: transposed or not by an argument."""
    macs = forward_macs(weight, x, out, transposed)
    return Cost(macs, out.numel if bias is not None else 0)


@rule("aten.convolution_backward", family=convolution_family)
def convolution_backward(
    grad: TensorSpec,
    x: TensorSpec,
    weight: TensorSpec,
    bias_sizes: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    transposed: bool,
    output_padding: Any,
    groups: Dim,
    output_mask: tuple[bool, bool, bool],
    *,
    out: Any,
) -> Cost:
    """One forward's MACs for each of the input's and the weight's gradient that is asked for.

    The bias gradient sums the output gradient: one add an element.
    """
    products = int(output_mask[0]) + int(output_mask[1])
    macs = products * forward_macs(weight, x, grad, transposed)
    return Cost(macs, grad.numel if output_mask[2] else 0)


def convolution_of_image(
    x: TensorSpec, weight: TensorSpec, out: TensorSpec, stride: int, padding: int
) -> Op:
    """A convolution by itself, without bias, as a trace of it would have it."""
    args = (x, weight, None, (stride,) * 2, (padding,) * 2, (1, 1), 1)
    return Op(0, "conv2d", "aten.conv2d", "default", args, {}, (out,))
