"""Backward ops that have no simpler form: operations for each gradient element."""

from __future__ import annotations

from typing import Any

from costmodel.ir import Cost, TensorSpec
from costmodel.rules.registry import RuleFunction, rule

FAMILY = "backward"

# fmt: off
#: Operations for each element of the gradient that comes in.
PER_ELEMENT: dict[str, int] = {
    "threshold_backward": 1, "hardtanh_backward": 2, "leaky_relu_backward": 2,
    "elu_backward": 4, "hardswish_backward": 5, "hardsigmoid_backward": 3,
    "silu_backward": 9, "sigmoid_backward": 3, "tanh_backward": 3, "mish_backward": 11,
    "softplus_backward": 4, "logit_backward": 3, "log_sigmoid_backward": 4,
    "hardshrink_backward": 2, "softshrink_backward": 2, "rrelu_with_noise_backward": 2,
    "glu_backward": 9, "_prelu_kernel_backward": 3,
    "native_dropout_backward": 2, "mse_loss_backward": 3,
    "smooth_l1_loss_backward": 4, "huber_loss_backward": 4, "binary_cross_entropy_backward": 5,
    "soft_margin_loss_backward": 6,
    "nll_loss_backward": 1, "nll_loss2d_backward": 1,
    "_softmax_backward_data": 4,       # multiply, sum, subtract, multiply
    "_log_softmax_backward_data": 4,   # sum, exp, multiply, subtract
    "max_pool2d_with_indices_backward": 1, "max_pool3d_with_indices_backward": 1,
    "upsample_nearest1d_backward": 1, "upsample_nearest2d_backward": 1,
    "upsample_nearest3d_backward": 1, "_upsample_nearest_exact2d_backward": 1,
    "upsample_linear1d_backward": 4, "upsample_bilinear2d_backward": 8,
    "upsample_trilinear3d_backward": 16, "upsample_bicubic2d_backward": 32,
    "_upsample_bilinear2d_aa_backward": 8, "_upsample_bicubic2d_aa_backward": 32,
    "reflection_pad1d_backward": 1, "reflection_pad2d_backward": 1,
    "replication_pad1d_backward": 1, "replication_pad2d_backward": 1,
    "native_layer_norm_backward": 11, "native_group_norm_backward": 11,
    "native_batch_norm_backward": 11, "cudnn_batch_norm_backward": 11,
    "batch_norm_backward": 11, "_fused_rms_norm_backward": 9,
    "grid_sampler_2d_backward": 20, "index_select_backward": 1,
    "cumprod_backward": 3,             # multiply, sum from the end, divide
    # tanh c; c' = g·o·(1-t²) + c'; g·t·o·(1-o), c'·g·i·(1-i), c'·c·f·(1-f), c'·i·(1-g²); c'·f
    "_thnn_fused_lstm_cell_backward_impl": 1 + 5 + 4 * 4 + 1,
}
#: Gradients that are spread or copied without arithmetic beyond one scale.
SPREAD = (
    "select_backward", "slice_backward", "diagonal_backward", "unfold_backward",
    "avg_pool2d_backward", "avg_pool3d_backward", "_adaptive_avg_pool2d_backward",
    "_adaptive_avg_pool3d_backward", "adaptive_max_pool2d_backward",
    "value_selecting_reduction_backward",
    "masked_select_backward", "trace_backward",
)
# fmt: on


def _per_element(count: int) -> RuleFunction:
    def backward(grad: TensorSpec, *args: Any, out: Any, **kwargs: Any) -> Cost:
        return Cost(ops=count * grad.numel)

    return backward


for _name, _count in PER_ELEMENT.items():
    rule(f"aten.{_name}", family=FAMILY)(_per_element(_count))


@rule("aten.gelu_backward", family=FAMILY)
def gelu_backward(
    grad: TensorSpec, x: TensorSpec, *, approximate: str = "none", out: TensorSpec
) -> Cost:
    """Exact: erf, exp of a square, and five to combine. Tanh form: 16."""
    return Cost(ops=out.numel * (10 if approximate == "none" else 16))


@rule("aten._cdist_backward", family=FAMILY)
def cdist_backward(grad: TensorSpec, a: TensorSpec, *args: Any, out: TensorSpec) -> Cost:
    """A subtract, a scale and an add for each coordinate of each pair, one divide a pair."""
    return Cost(ops=grad.numel * (3 * a.shape[-1] + 1))


@rule(*(f"aten.{name}" for name in SPREAD), family=FAMILY)
def spread(grad: TensorSpec, *args: Any, out: TensorSpec, **kwargs: Any) -> Cost:
    """The gradient is placed into a tensor of the input's shape."""
    return Cost(ops=grad.numel)
