"""Normalisation and softmax."""

from __future__ import annotations

from typing import Any

from costmodel.ir import Cost, TensorSpec
from costmodel.rules.registry import rule

FAMILY = "normalization"

#: For each element: mean (1 add), variance (subtract, multiply, add), subtract mean, multiply by
#: the reciprocal deviation.
STATISTICS_OPS = 6
#: Layer and group norm kernels use E[x²]: 1 add and a multiply-add (2), then subtract, multiply.
NORM_OPS = 5


def affine(*parameters: Any) -> int:
    """One multiply for a scale, one add for a shift."""
    return sum(p is not None for p in parameters)


def batch_norm_cost(x: TensorSpec, weight: Any, bias: Any, training: bool) -> Cost:
    """Eval: a multiply and an add an element (four vectors fold into two). Training: statistics.

    Folding the vectors is per channel, done once a model, and not counted.
    """
    return Cost(ops=x.numel * (STATISTICS_OPS + affine(weight, bias) if training else 2))


@rule("aten.batch_norm", family="batch_norm")
def batch_norm(
    x: TensorSpec,
    weight: TensorSpec | None,
    bias: TensorSpec | None,
    mean: TensorSpec | None,
    var: TensorSpec | None,
    training: bool,
    momentum: float,
    eps: float,
    cudnn_enabled: bool,
    *,
    out: TensorSpec,
) -> Cost:
    """The whole op, above autograd."""
    return batch_norm_cost(x, weight, bias, training)


@rule(
    "aten.native_batch_norm", "aten._native_batch_norm_legit",
    "aten._batch_norm_with_update", "aten.cudnn_batch_norm", family="batch_norm",
)  # fmt: skip
def native_batch_norm(
    x: TensorSpec, weight: TensorSpec | None, bias: TensorSpec | None, *args: Any, out: Any,
    **kwargs: Any,
) -> Cost:  # fmt: skip
    """The forms below autograd: ``(running_mean, running_var, training, momentum, eps)`` follow."""
    flags = [a for a in args if isinstance(a, bool)]
    return batch_norm_cost(x, weight, bias, flags[0] if flags else True)


@rule(
    "aten._native_batch_norm_legit_no_training", "aten._batch_norm_no_update",
    family="batch_norm",
)  # fmt: skip
def batch_norm_inference(x: TensorSpec, weight: Any, bias: Any, *args: Any, out: Any) -> Cost:
    """Eval mode, always."""
    return batch_norm_cost(x, weight, bias, False)


@rule("aten.layer_norm", "aten.native_layer_norm", family=FAMILY)
def layer_norm(
    x: TensorSpec, normalized_shape: Any, weight: Any = None, bias: Any = None, *args: Any,
    out: Any,
) -> Cost:  # fmt: skip
    """Statistics of each row, then scale and shift."""
    return Cost(ops=x.numel * (NORM_OPS + affine(weight, bias)))


@rule("aten.group_norm", family=FAMILY)
def group_norm(
    x: TensorSpec, groups: Any, weight: Any = None, bias: Any = None, *args: Any, out: Any
) -> Cost:
    """Statistics of each group, then scale and shift."""
    return Cost(ops=x.numel * (NORM_OPS + affine(weight, bias)))


@rule("aten.native_group_norm", family=FAMILY)
def native_group_norm(x: TensorSpec, weight: Any, bias: Any, *args: Any, out: Any) -> Cost:
    """The form below autograd."""
    return Cost(ops=x.numel * (NORM_OPS + affine(weight, bias)))


@rule("aten.instance_norm", family=FAMILY)
def instance_norm(x: TensorSpec, weight: Any, bias: Any, *args: Any, out: TensorSpec) -> Cost:
    """Statistics of each channel of each sample."""
    return Cost(ops=x.numel * (NORM_OPS + affine(weight, bias)))


@rule("aten.rms_norm", "aten._fused_rms_norm", family=FAMILY)
def rms_norm(
    x: TensorSpec, normalized_shape: Any, weight: Any = None, *args: Any, out: Any
) -> Cost:
    """Square, add; multiply by the reciprocal root; scale."""
    return Cost(ops=x.numel * (3 + affine(weight)))


@rule("aten.softmax", "aten._softmax", "aten._safe_softmax", family="softmax")
def softmax(x: TensorSpec, *args: Any, out: TensorSpec, **kwargs: Any) -> Cost:
    """Maximum, subtract, exp, sum, divide: five an element."""
    return Cost(ops=5 * out.numel)


@rule("aten.log_softmax", "aten._log_softmax", family="softmax")
def log_softmax(x: TensorSpec, *args: Any, out: TensorSpec, **kwargs: Any) -> Cost:
    """Maximum, subtract, exp, sum, subtract the logarithm: five an element."""
    return Cost(ops=5 * out.numel)


@rule("aten._weight_norm", "aten._weight_norm_interface", family=FAMILY)
def weight_norm(v: TensorSpec, g: TensorSpec, *args: Any, out: Any) -> Cost:
    """w = g·v/‖v‖: square, add, multiply for each weight."""
    return Cost(ops=3 * v.numel)


@rule("aten.renorm", "aten.renorm_", "aten.embedding_renorm_", family=FAMILY)
def renorm(x: TensorSpec, *args: Any, out: TensorSpec) -> Cost:
    """Square, add, scale."""
    return Cost(ops=3 * x.numel)
