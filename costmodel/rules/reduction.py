"""Reductions and scans: operations for each input element."""

from __future__ import annotations

from typing import Any

from costmodel.ir import Cost, TensorSpec
from costmodel.rules.registry import RuleFunction, rule

FAMILY = "reduction"
#: Norms along dimensions, of any power.
VECTOR_NORMS = frozenset({"aten.linalg_vector_norm"})

# fmt: off
PER_INPUT: dict[str, int] = {
    "sum": 1, "nansum": 2, "prod": 1, "amax": 1, "amin": 1, "aminmax": 2,
    "argmax": 1, "argmin": 1, "any": 1, "all": 1, "count_nonzero": 1, "trace": 1,
    "cumsum": 1, "cumprod": 1, "cummax": 1, "cummin": 1, "_cummax_helper": 1, "logcumsumexp": 4,
    "logsumexp": 4, "std": 4, "var": 4, "std_mean": 4, "var_mean": 4,
    "norm": 2, "linalg_vector_norm": 2, "frobenius_norm": 2, "linalg_norm": 2, "dist": 3,
    "equal": 1, "cumsum_": 1, "cumprod_": 1, "diff": 1, "bincount": 1, "histc": 2, "median": 1,
    "nanmedian": 2, "mode": 1, "segment_reduce": 1,
}
# fmt: on


def _per_input(count: int) -> RuleFunction:
    def reduce(x: TensorSpec, *args: Any, out: Any = None, **kwargs: Any) -> Cost:
        return Cost(ops=count * x.numel)

    return reduce


for _name, _count in PER_INPUT.items():
    rule(f"aten.{_name}", family=FAMILY)(_per_input(_count))


@rule("aten.max", "aten.min", family=FAMILY)
def extreme(x: TensorSpec, other: Any = None, *args: Any, out: Any, **kwargs: Any) -> Cost:
    """One compare an input element; of two tensors, one an output element."""
    pointwise = isinstance(other, TensorSpec)
    return Cost(ops=out.numel if pointwise else x.numel)


@rule("aten.mean", "aten.nanmean", family=FAMILY)
def mean(x: TensorSpec, *args: Any, out: TensorSpec, **kwargs: Any) -> Cost:
    """One add an input element, one divide an output."""
    return Cost(ops=x.numel + out.numel)


@rule("aten._linalg_det", "aten.linalg_det", "aten._linalg_slogdet", family="linalg")
def determinant(x: TensorSpec, *args: Any, out: Any, **kwargs: Any) -> Cost:
    """LU factorisation: n³/3 multiply-adds (Golub & Van Loan, §3.2), rounded down."""
    return Cost(x.numel * x.shape[-1] // 3)


@rule("aten.linalg_inv_ex", "aten.linalg_inv", "aten.inverse", family="linalg")
def inverse(x: TensorSpec, *args: Any, out: Any, **kwargs: Any) -> Cost:
    """n³ multiply-adds (Golub & Van Loan, §3.4)."""
    return Cost(x.numel * x.shape[-1])


@rule("aten.linalg_cholesky_ex", "aten.cholesky", family="linalg")
def cholesky(x: TensorSpec, *args: Any, out: Any, **kwargs: Any) -> Cost:
    """n³/6 multiply-adds (Golub & Van Loan, §4.2), rounded down."""
    return Cost(x.numel * x.shape[-1] // 6)


@rule("aten._linalg_solve_ex", "aten.linalg_solve_ex", family="linalg")
def solve(a: TensorSpec, b: TensorSpec, *args: Any, out: Any, **kwargs: Any) -> Cost:
    """n³/3 for the factorisation and n² for each right-hand side."""
    return Cost(a.numel * a.shape[-1] // 3 + b.numel * a.shape[-1])


@rule("aten.linalg_solve_triangular", "aten.triangular_solve", family="linalg")
def solve_triangular(a: TensorSpec, b: TensorSpec, *args: Any, out: Any, **kwargs: Any) -> Cost:
    """n²/2 multiply-adds for each right-hand side, rounded down."""
    return Cost(b.numel * a.shape[-1] // 2)
