"""Random numbers: one draw an element. In eval mode dropout is the identity."""

from __future__ import annotations

from typing import Any

from costmodel.ir import Cost, TensorSpec
from costmodel.rules.registry import rule

FAMILY = "random"


@rule(
    "aten.rand", "aten.randn", "aten.randint", "aten.rand_like", "aten.randn_like",
    "aten.randint_like", "aten.randperm", "aten.normal", "aten.normal_functional",
    "aten.uniform_", "aten.uniform", "aten.normal_", "aten.random_", "aten.random",
    "aten.exponential_", "aten.exponential", "aten.log_normal_", "aten.cauchy_",
    "aten.geometric_", "aten._standard_gamma", "aten._sample_dirichlet", "aten.poisson",
    "aten.binomial", family=FAMILY,
)  # fmt: skip
def draw(*args: Any, out: TensorSpec, **kwargs: Any) -> Cost:
    """One operation a draw; the generator's own arithmetic is not counted."""
    return Cost(ops=out.numel, bytes_read=0)


@rule("aten.bernoulli", "aten.bernoulli_", family=FAMILY)
def bernoulli(x: TensorSpec, *args: Any, out: TensorSpec, **kwargs: Any) -> Cost:
    """A draw and a compare."""
    return Cost(ops=2 * out.numel)


@rule("aten.multinomial", family=FAMILY)
def multinomial(x: TensorSpec, samples: Any, *args: Any, out: TensorSpec, **kwargs: Any) -> Cost:
    """A cumulative sum, then a draw and a search a sample."""
    return Cost(ops=x.numel + 2 * out.numel)


@rule(
    "aten.dropout", "aten.dropout_", "aten.feature_dropout", "aten.feature_dropout_",
    "aten.alpha_dropout", "aten.alpha_dropout_", "aten.feature_alpha_dropout",
    "aten.feature_alpha_dropout_", family=FAMILY,
)  # fmt: skip
def dropout(x: TensorSpec, p: float, train: bool, *, out: TensorSpec) -> Cost:
    """The identity in eval mode; else a draw, a compare, a mask and a scale an element."""
    if not train:
        return Cost(bytes_read=0, bytes_written=0)
    return Cost(ops=4 * x.numel)


@rule("aten.native_dropout", "aten._fused_dropout", family=FAMILY)
def native_dropout(x: TensorSpec, *args: Any, out: Any) -> Cost:
    """A draw, a compare, a mask and a scale an element."""
    return Cost(ops=4 * x.numel)
