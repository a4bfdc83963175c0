"""Tensors made from nothing: written once (unless left uninitialised), never read."""

from __future__ import annotations

from typing import Any

from costmodel.ir import Cost, TensorSpec
from costmodel.rules.registry import free, rule

FAMILY = "creation"

free(
    "aten.empty", "aten.empty_like", "aten.empty_strided", "aten.new_empty",
    "aten.new_empty_strided", "aten.empty_permuted",
    family=FAMILY,
)  # fmt: skip


@rule(
    "aten.zeros", "aten.ones", "aten.full", "aten.zeros_like", "aten.ones_like",
    "aten.full_like", "aten.new_zeros", "aten.new_ones", "aten.new_full", "aten.eye",
    "aten.scalar_tensor", "aten.fill_", "aten.fill", "aten.zero_", "aten.zero",
    "aten.fill_diagonal_", "aten.tril_indices", "aten.triu_indices",
    family=FAMILY,
)  # fmt: skip
def fill(*args: Any, out: Any, **kwargs: Any) -> Cost:
    """A constant is written."""
    return Cost(bytes_read=0)


@rule("aten.arange", "aten.linspace", "aten.logspace", "aten.range", family=FAMILY)
def sequence(*args: Any, out: TensorSpec, **kwargs: Any) -> Cost:
    """start + i·step: a multiply and an add an element."""
    return Cost(ops=2 * out.numel, bytes_read=0)


@rule(
    "aten.hann_window", "aten.hamming_window", "aten.blackman_window", "aten.bartlett_window",
    "aten.kaiser_window", family=FAMILY,
)  # fmt: skip
def window(*args: Any, out: TensorSpec, **kwargs: Any) -> Cost:
    """Position, scale, cosine, scale, add."""
    return Cost(ops=5 * out.numel, bytes_read=0)
