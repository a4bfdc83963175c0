"""Pointwise ops: scalar operations for each output element.

One operation is one add, subtract, multiply, divide, compare, select, bit operation, or one
transcendental (exp, log, sin, tanh, erf, sqrt, pow). A composed function counts its parts:
``silu(x) = x · 1/(1 + exp(-x))`` is negate, exp, add, divide, multiply: 5.
"""

from __future__ import annotations

from typing import Any

from costmodel.ir import Cost, Dim, Op, TensorSpec
from costmodel.rules.registry import RuleFunction, rule

# fmt: off
#: Operations for each output element, by op; in-place forms (``relu_``) are the same op.
ARITHMETIC: dict[str, int] = {
    "mul": 1, "div": 1, "multiply": 1, "divide": 1, "true_divide": 1, "floor_divide": 1,
    "remainder": 1, "fmod": 1, "neg": 1, "abs": 1, "sign": 1, "sgn": 1, "reciprocal": 1,
    "square": 1, "sqrt": 1, "rsqrt": 2, "pow": 1, "float_power": 1,
    "exp": 1, "exp2": 1, "expm1": 2, "log": 1, "log2": 1, "log10": 1, "log1p": 2,
    "sin": 1, "cos": 1, "tan": 1, "asin": 1, "acos": 1, "atan": 1, "atan2": 1,
    "sinh": 1, "cosh": 1, "asinh": 1, "acosh": 1, "atanh": 1, "hypot": 4, "sinc": 3,
    "erf": 1, "erfc": 1, "erfinv": 1, "lgamma": 1, "digamma": 1, "special_i0": 1,
    "special_expit": 4, "logaddexp": 5, "logaddexp2": 5, "xlogy": 2,
    "floor": 1, "ceil": 1, "round": 1, "trunc": 1, "frac": 2, "deg2rad": 1, "rad2deg": 1,
    "angle": 1, "nan_to_num": 3, "logit": 3, "copysign": 1, "heaviside": 1, "lerp": 3,
    "addcmul": 2, "addcdiv": 2, "_conj_physical": 1, "conj_physical": 1,
    "polar": 2,          # a function and a product for each of the two parts
    "complex": 0, "view_as_complex_copy": 0,
}
COMPARISON: dict[str, int] = {
    "eq": 1, "ne": 1, "lt": 1, "le": 1, "gt": 1, "ge": 1, "maximum": 1, "minimum": 1,
    "fmax": 1, "fmin": 1, "isnan": 1, "isinf": 1, "isfinite": 2, "isclose": 5,
    "logical_and": 1, "logical_or": 1, "logical_not": 1, "logical_xor": 1,
    "bitwise_and": 1, "bitwise_or": 1, "bitwise_not": 1, "bitwise_xor": 1,
    "bitwise_left_shift": 1, "bitwise_right_shift": 1, "__and__": 1, "__or__": 1, "__xor__": 1,
    "__iand__": 1, "__ior__": 1, "__ixor__": 1, "__lshift__": 1, "__rshift__": 1, "signbit": 1,
    "where": 1, "masked_fill": 1, "clamp_min": 1, "clamp_max": 1, "threshold": 1,
}
ACTIVATION: dict[str, int] = {
    "relu": 1, "relu6": 2, "leaky_relu": 2, "prelu": 2, "_prelu_kernel": 2, "rrelu": 2,
    "rrelu_with_noise": 2, "hardtanh": 2, "hardsigmoid": 4, "hardswish": 5,
    "sigmoid": 4,        # negate, exp, add, divide
    "silu": 5,           # the sigmoid, times x
    "tanh": 1, "softplus": 3, "mish": 5, "elu": 4, "celu": 5, "selu": 5,
    "log_sigmoid": 5, "log_sigmoid_forward": 5, "hardshrink": 2, "softshrink": 3,
    }
#: Ops of the tables above that have no in-place form.
NEW_ONLY = {
    "_prelu_kernel", "angle", "complex", "fmax", "fmin", "hardshrink", "isclose", "isfinite",
    "isinf", "isnan", "log_sigmoid", "log_sigmoid_forward", "logaddexp", "logaddexp2", "maximum",
    "minimum", "polar", "prelu", "signbit", "softplus", "softshrink", "special_expit",
    "special_i0", "view_as_complex_copy", "where", "__iand__", "__ior__", "__ixor__",
    "_conj_physical", "__and__", "__or__", "__xor__", "__lshift__", "__rshift__",
}
# fmt: on


def _family(op: Op) -> str:
    return "activation" if op.target.removesuffix("_")[5:] in ACTIVATION else "elementwise"


def _per_element(count: int) -> RuleFunction:
    def pointwise(*args: Any, out: Any, **kwargs: Any) -> Cost:
        first = out if isinstance(out, TensorSpec) else out[0]
        weight = 2 if first.dtype.startswith("complex") else 1
        return Cost(ops=count * weight * first.numel)

    return pointwise


for _names in (ARITHMETIC, COMPARISON, ACTIVATION):
    for _name, _count in _names.items():
        _forms = [f"aten.{_name}"] if _name in NEW_ONLY else [f"aten.{_name}", f"aten.{_name}_"]
        rule(*_forms, family=_family)(_per_element(_count))


@rule(
    "aten.add", "aten.add_", "aten.sub", "aten.sub_", "aten.subtract", "aten.subtract_",
    "aten.rsub", "aten._add_relu", "aten._add_relu_", family="elementwise",
)  # fmt: skip
def add(a: Any, b: Any, *args: Any, alpha: Any = 1, out: TensorSpec) -> Cost:
    """a ± α·b: one add an element, one multiply more for a scale that is not 1."""
    return Cost(ops=out.numel * (1 + int(alpha != 1)))


@rule("aten.clamp", "aten.clamp_", "aten.clip", "aten.clip_", family="elementwise")
def clamp(x: TensorSpec, min: Any = None, max: Any = None, *, out: TensorSpec) -> Cost:
    """One compare for each bound that is given."""
    return Cost(ops=out.numel * (int(min is not None) + int(max is not None)))


@rule("aten.gelu", "aten.gelu_", family="activation")
def gelu(x: TensorSpec, *, approximate: str = "none", out: TensorSpec) -> Cost:
    """Exact: x/√2, erf, +1, ·x, ·½ = 5. Tanh form: x³ (2), scale, add, scale, tanh, +1, ·x, ·½."""
    return Cost(ops=out.numel * (5 if approximate == "none" else 9))


@rule("aten.glu", family="activation")
def glu(x: TensorSpec, dim: int = -1, *, out: TensorSpec) -> Cost:
    """a · sigmoid(b) on the two halves."""
    return Cost(ops=5 * out.numel)


@rule("aten._to_copy", "aten.to", family="movement")
def convert(x: TensorSpec, *args: Any, out: TensorSpec, **kwargs: Any) -> Cost:
    """A copy, unless nothing changes; changing the number format is not counted as arithmetic."""
    if out.value == x.value >= 0:
        return Cost(bytes_read=0, bytes_written=0)
    return Cost()


@rule(
    "aten._foreach_add", "aten._foreach_add_", "aten._foreach_mul", "aten._foreach_mul_",
    "aten._foreach_div_", "aten._foreach_sqrt", "aten._foreach_sqrt_", "aten._foreach_neg",
    "aten._foreach_sub_", "aten._foreach_sub", "aten._foreach_pow", "aten._foreach_reciprocal_",
    family="elementwise",
)  # fmt: skip
def foreach(lists: Any, *args: Any, out: Any = (), **kwargs: Any) -> Cost:
    """One operation an element of every tensor of the list."""
    return Cost(ops=_total(lists))


@rule(
    "aten._foreach_addcmul_", "aten._foreach_addcdiv_", "aten._foreach_lerp_",
    family="elementwise",
)  # fmt: skip
def foreach_fused(lists: Any, *args: Any, out: Any = (), **kwargs: Any) -> Cost:
    """A product or quotient, scaled, and an add: three operations an element."""
    return Cost(ops=3 * _total(lists))


def _total(lists: Any) -> Dim:
    total: Dim = 0
    for spec in lists:
        total = total + spec.numel
    return total
