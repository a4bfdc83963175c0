"""Quantised ops: the MACs of their float twins on int8 weights, and conversions at the edges."""

from __future__ import annotations

from typing import Any

from costmodel.ir import Cost, TensorSpec
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
