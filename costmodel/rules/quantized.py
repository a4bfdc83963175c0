"""Quantised ops: the MACs of their float twins on int8 weights, and conversions at the edges."""

from __future__ import annotations

from typing import Any

from costmodel.ir import Cost, TensorSpec
from costmodel.rules.recurrent import layer_cost
from costmodel.rules.registry import rule

FAMILY = "quantized"


@rule(
    "aten.quantize_per_tensor", "aten.quantize_per_channel", "aten.quantize_per_tensor_dynamic",
    "quantized_decomposed.quantize_per_tensor", "quantized_decomposed.quantize_per_channel",
    "quantized_decomposed.quantize_per_token", family=FAMILY,
)  # fmt: skip
def quantize(x: TensorSpec, *args: Any, out: TensorSpec, **kwargs: Any) -> Cost:
    """Multiply by 1/scale, round, add the zero point, clamp on both sides."""
    return Cost(ops=5 * out.numel)


@rule(
    "aten.dequantize", "quantized_decomposed.dequantize_per_tensor",
    "quantized_decomposed.dequantize_per_channel", "quantized_decomposed.dequantize_per_token",
    family=FAMILY,
)  # fmt: skip
def dequantize(x: TensorSpec, *args: Any, out: TensorSpec, **kwargs: Any) -> Cost:
    """Subtract the zero point, multiply by the scale."""
    return Cost(ops=2 * out.numel)


@rule("aten.fake_quantize_per_tensor_affine_cachemask",
      "aten.fake_quantize_per_channel_affine_cachemask", family=FAMILY)  # fmt: skip
def fake_quantize(x: TensorSpec, *args: Any, out: Any, **kwargs: Any) -> Cost:
    """Quantise and dequantise."""
    return Cost(ops=7 * x.numel)


@rule("aten._int_mm", "aten._scaled_mm", family=FAMILY)
def scaled_product(a: TensorSpec, b: TensorSpec, *args: Any, out: Any, **kwargs: Any) -> Cost:
    """A matrix product on int8 or fp8 operands."""
    return Cost(a.numel * b.shape[-1])


@rule("aten._weight_int8pack_mm", family=FAMILY)
def weight_int8(a: TensorSpec, weight: TensorSpec, scales: TensorSpec, *, out: TensorSpec) -> Cost:
    """Weights (N, K) in int8, one scale a row."""
    return Cost(a.numel * weight.shape[0], ops=out.numel)


@rule("aten._weight_int4pack_mm", "aten._weight_int4pack_mm_for_cpu", family=FAMILY)
def weight_int4(a: TensorSpec, weight: TensorSpec, *args: Any, out: TensorSpec) -> Cost:
    """Packed int4 weights: the output's width tells N."""
    return Cost(a.numel * out.shape[-1])


@rule(
    "quantized.linear_dynamic", "quantized.linear_relu_dynamic", "quantized.linear",
    "quantized.linear_relu", family=FAMILY,
)  # fmt: skip
def linear(
    x: TensorSpec, packed: tuple[TensorSpec, ...], *args: Any, out: TensorSpec, **kwargs: Any
) -> Cost:
    """in_features MACs on int8 for each output element; a scale and a shift, and the bias' add."""
    weight = packed[0]
    return Cost(out.numel * weight.shape[1], ops=out.numel * (1 + len(packed)))


@rule(
    "quantized.conv1d", "quantized.conv1d_relu", "quantized.conv2d", "quantized.conv2d_relu",
    "quantized.conv3d", "quantized.conv3d_relu", "quantized.conv2d_dynamic", family=FAMILY,
)  # fmt: skip
def conv(
    x: TensorSpec, packed: tuple[TensorSpec, ...], *args: Any, out: TensorSpec, **kwargs: Any
) -> Cost:
    """K·C_in/g MACs on int8 for each output element; a scale and a shift, and the bias' add."""
    taps = packed[0].numel // packed[0].shape[0]
    return Cost(out.numel * taps, ops=out.numel * (1 + len(packed)))


@rule(
    "quantized.add", "quantized.add_relu", "quantized.mul", "quantized.mul_relu", family=FAMILY,
)  # fmt: skip
def pointwise(*args: Any, out: TensorSpec, **kwargs: Any) -> Cost:
    """Both sides are dequantised, combined, and quantised again: 2 + 2 + 1 + 5 an element."""
    return Cost(ops=10 * out.numel)


@rule(
    "quantized.add_scalar", "quantized.mul_scalar",
    "quantized.leaky_relu", "quantized.hardswish", "quantized.relu6", "quantized.sigmoid",
    "quantized.batch_norm2d", "quantized.layer_norm", "quantized.cat", "quantized.cat_relu",
    family=FAMILY,
)  # fmt: skip
def requantized(x: Any, *args: Any, out: TensorSpec, **kwargs: Any) -> Cost:
    """Dequantised, changed, and quantised again: 2 + 1 + 5 an element."""
    return Cost(ops=8 * out.numel)


@rule("aten.quantized_lstm", family="recurrent")
def lstm(
    x: TensorSpec, hx: Any, packed: tuple[tuple[TensorSpec, ...], ...], *args: Any, out: Any,
    **kwargs: Any,
) -> Cost:  # fmt: skip
    """An LSTM whose matrices are int8."""
    params = [spec for cell in packed for spec in cell]
    return layer_cost("lstm", params, x.shape[0] * x.shape[1])


@rule("aten.quantized_gru", family="recurrent")
def gru(
    x: TensorSpec, hx: Any, packed: tuple[tuple[TensorSpec, ...], ...], *args: Any, out: Any,
    **kwargs: Any,
) -> Cost:  # fmt: skip
    """A GRU whose matrices are int8."""
    params = [spec for cell in packed for spec in cell]
    return layer_cost("gru", params, x.shape[0] * x.shape[1])
