"""Pooling: one compare or add for each element of a window, a divide for each average."""

from __future__ import annotations

import math
from typing import Any

from costmodel.ir import Cost, Dim, Op, TensorSpec
from costmodel.rules.registry import rule

FAMILY = "pooling"
#: Maxima and averages over windows of maps.
OF_MAPS = frozenset({"aten.max_pool2d", "aten.avg_pool2d"})


def window(kernel: Any, rank: int) -> Dim:
    """Elements of a pooling window; a single number is the same in every direction."""
    if isinstance(kernel, (tuple, list)):
        return math.prod(kernel) if len(kernel) > 1 else kernel[0] ** rank
    return kernel**rank


def _first(out: Any) -> TensorSpec:
    return out if isinstance(out, TensorSpec) else out[0]


def _pool(rank: int, extra: int) -> Any:
    def pool(x: TensorSpec, kernel_size: Any, *args: Any, out: Any, **kwargs: Any) -> Cost:
        return Cost(ops=_first(out).numel * (window(kernel_size, rank) + extra))

    return pool


for _rank in (1, 2, 3):
    rule(
        f"aten.max_pool{_rank}d",
        f"aten.max_pool{_rank}d_with_indices",
        family=FAMILY,
    )(_pool(_rank, 0))
    rule(f"aten.avg_pool{_rank}d", family=FAMILY)(_pool(_rank, 1))


def averages_border(op: Op) -> bool:
    """Whether ``op`` takes averages to which the zeros of a border around its input count."""
    if not op.target.startswith("aten.avg_pool"):
        return False
    named = dict(zip(("padding", "ceil_mode", "count_include_pad"), op.args[3:], strict=False))
    named |= op.kwargs
    padding = named.get("padding", 0)
    padded = any(padding) if isinstance(padding, (tuple, list)) else bool(padding)
    return padded and bool(named.get("count_include_pad", True))


@rule("aten.mkldnn_max_pool2d", "aten.quantized_max_pool2d", family=FAMILY)
def other_max_pool(x: TensorSpec, kernel_size: Any, *args: Any, out: Any, **kwargs: Any) -> Cost:
    """Backend forms of ``max_pool2d``."""
    return Cost(ops=_first(out).numel * window(kernel_size, 2))


@rule(
    "aten.adaptive_avg_pool1d", "aten.adaptive_avg_pool2d", "aten.adaptive_avg_pool3d",
    "aten._adaptive_avg_pool2d", "aten._adaptive_avg_pool3d", family=FAMILY,
)  # fmt: skip
def adaptive_avg_pool(x: TensorSpec, output_size: Any, *, out: TensorSpec) -> Cost:
    """Every window's elements added, one divide an output.

    Windows are ⌊i·n/m⌋ … ⌈(i+1)·n/m⌉ and overlap where m does not divide n; the overlap is counted.
    """
    return Cost(ops=_covered(x, out) + out.numel)


@rule(
    "aten.adaptive_max_pool1d", "aten.adaptive_max_pool2d", "aten.adaptive_max_pool3d",
    family=FAMILY,
)  # fmt: skip
def adaptive_max_pool(x: TensorSpec, output_size: Any, *, out: Any) -> Cost:
    """Every window's elements compared."""
    return Cost(ops=_covered(x, _first(out)))


def _covered(x: TensorSpec, out: TensorSpec) -> Dim:
    """Input elements that the windows of an adaptive pooling cover, overlaps counted twice."""
    total: Dim = 1
    for n, m in zip(x.shape, out.shape, strict=True):
        if n == m:
            total = total * n
        elif not isinstance(m, int):
            raise ValueError("an adaptive output size must be a number, or the input's own size")
        else:
            total = total * sum(-(-(i + 1) * n // m) - i * n // m for i in range(m))
    return total


@rule("aten.max_unpool2d", "aten.max_unpool3d", family=FAMILY)
def max_unpool(x: TensorSpec, *args: Any, out: TensorSpec) -> Cost:
    """Values are scattered, nothing is computed."""
    return Cost()


@rule("aten.fractional_max_pool2d", "aten.fractional_max_pool3d", family=FAMILY)
def fractional_max_pool(x: TensorSpec, kernel: Any, *args: Any, out: Any) -> Cost:
    """A compare for each element of a window."""
    return Cost(ops=_first(out).numel * window(kernel, len(kernel)))
