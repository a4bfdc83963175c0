"""Fourier transforms by the fast algorithm."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from costmodel.ir import Cost, Dim, TensorSpec
from costmodel.rules.registry import rule

FAMILY = "fft"


def transform_ops(elements: Dim, lengths: Sequence[Dim], real: bool) -> Dim:
    """5·N·log₂N real operations for a complex transform of N points (Cooley & Tukey 1965).

    The logarithm is rounded up, so the count is an integer; a transform of real data is half.
    """
    total: Dim = 0
    for n in lengths:
        levels = (n - 1).bit_length() if isinstance(n, int) else _log2(n)
        total = total + 5 * elements * levels
    return total // 2 if real else total


def _log2(n: Dim) -> Dim:
    import sympy

    return sympy.ceiling(sympy.log(n, 2))


@rule("aten._fft_c2c", family=FAMILY)
def complex_to_complex(x: TensorSpec, dim: Sequence[int], *args: Any, out: TensorSpec) -> Cost:
    """Along each of ``dim``."""
    return Cost(ops=transform_ops(x.numel, [x.shape[d] for d in dim], real=False))


@rule("aten._fft_r2c", family=FAMILY)
def real_to_complex(x: TensorSpec, dim: Sequence[int], *args: Any, out: TensorSpec) -> Cost:
    """Real data in: half the work."""
    return Cost(ops=transform_ops(x.numel, [x.shape[d] for d in dim], real=True))


@rule("aten._fft_c2r", family=FAMILY)
def complex_to_real(x: TensorSpec, dim: Sequence[int], *args: Any, out: TensorSpec) -> Cost:
    """Real data out: half the work."""
    return Cost(ops=transform_ops(out.numel, [out.shape[d] for d in dim], real=True))
