"""Golden rows of the rarer ops, and that every rule has one; derived in the comments beside them.

Most of these have no in-place, fused or backend form of their own: those share the function of the
op that has a row, which a test below asserts.
"""

from __future__ import annotations

import pytest
import torch
from counting import meta
from golden import IMAGE, ON, SEQUENCE, Q, Row, X, b, c, check, i, i8, z
from test_rules_golden import ROWS as COMMON

from costmodel import rules
from costmodel.rules.registry import _nothing

GRAD = meta(2, 3)  # the gradient of X
H = meta(2, 16)  # 32 hidden units
SCALE = meta(8)
STATE = (meta(1, 2, 16), meta(1, 2, 16))

# 6 elements each; a complex element counts twice.
POINTWISE = [
    *(c(name, X, ops=6) for name in (
        "sgn", "exp2", "log2", "log10", "tan", "asin", "acos", "atan", "sinh", "cosh", "asinh",
        "acosh", "atanh", "erfc", "erfinv", "lgamma", "digamma", "special_i0", "deg2rad",
        "rad2deg", "angle", "signbit")),
    *(c(name, X, X, ops=6) for name in (
        "multiply", "divide", "true_divide", "fmod", "float_power", "copysign", "heaviside", "ne",
        "lt", "ge", "fmax", "fmin", "logical_or", "logical_xor")),
    *(c(name, i(2, 3), i(2, 3), ops=6) for name in (
        "bitwise_or", "bitwise_xor", "bitwise_left_shift", "bitwise_right_shift", "__and__",
        "__or__", "__xor__", "__iand__", "__ior__", "__ixor__", "__lshift__", "__rshift__")),
    c("sinc", X, ops=18),  # times π, sine, divide
    c("special_expit", X, ops=24),  # the sigmoid
    # the difference, exp, add one, log, add the larger
    c("logaddexp", X, X, ops=30), c("logaddexp2", X, X, ops=30),
    c("xlogy", X, X, ops=12),  # log, multiply
    c("frac", X, ops=12),  # truncate, subtract
    c("logit", X, ops=18),  # 1 - x, divide, log
    c("isfinite", X, ops=12),  # not infinite, not NaN
    c("isclose", X, X, ops=30),  # subtract, absolute value, scale, add, compare
    c("clamp_max", X, 0, ops=6),
    c("conj_physical", z(2, 3), ops=12),
    c("polar", X, X, ops=24),  # cosine, sine, a product with each
    c("complex", X, X, read=24, written=48), c("view_as_complex_copy", meta(3, 2), ops=0),
]  # fmt: skip

ACTIVATIONS = [
    c("_prelu_kernel", X, meta(3), ops=12),  # compare, multiply
    c("rrelu", X, ops=12), c("rrelu_with_noise", X, meta(2, 3), ops=12),
    c("celu", X, ops=30),  # compare, divide by α, exp, subtract one, scale
    c("selu", X, ops=30),  # compare, exp, subtract one, two scales
    # negate, exp, add, log, negate
    c("log_sigmoid", X, ops=30), c("log_sigmoid_forward", X, ops=30),
]  # fmt: skip

HEADS = meta(1, 4, 16)
ATTENTION = [
    # every form: 4 · 16 · 16 scores of 8 + 8 MACs, six operations each
    c("_scaled_dot_product_fused_attention_overrideable", Q, Q, Q, macs=1024 * 16, ops=1024 * 6,
      returns=(Q, HEADS)),
    c("_scaled_dot_product_attention_math", Q, Q, Q, macs=1024 * 16, ops=1024 * 6,
      returns=(Q, meta(1, 4, 16, 16))),
    c("_scaled_dot_product_cudnn_attention", Q, Q, Q, None, False, macs=1024 * 16, ops=1024 * 6,
      returns=(Q, HEADS)),
    c("higher_order.flex_attention", Q, Q, Q, macs=1024 * 16, ops=1024 * 6, returns=(Q, HEADS)),
    # 2 samples of 5 positions, 8 wide: four projections of 10 · 8 · 8 with a bias each, and
    # 2 · 25 scores a head of 4 + 4 MACs, 2 heads
    c("_native_multi_head_attention", *[meta(2, 5, 8)] * 3, 8, 2, meta(24, 8), meta(24),
      meta(8, 8), meta(8), macs=4 * 10 * 64 + 100 * 8, ops=4 * 80 + 100 * 6,
      returns=(meta(2, 5, 8), meta(2, 5, 5))),
    # the same, two linears to 32 and back, biases 32 + 8, the activation (relu 1, gelu 5) on 32,
    # two residual sums, two layer norms of 7
    *(c("_transformer_encoder_layer_fwd", meta(2, 5, 8), 8, 2, meta(24, 8), meta(24), meta(8, 8),
        meta(8), gelu, False, ON, *[SCALE] * 4, meta(32, 8), meta(32), meta(8, 32), SCALE,
        macs=4 * 10 * 64 + 100 * 8 + 2 * 10 * 8 * 32,
        ops=4 * 80 + 100 * 6 + 10 * (32 + 8) + 10 * 32 * (5 if gelu else 1) + 2 * 80 + 2 * 7 * 80,
        returns=meta(2, 5, 8)) for gelu in (False, True)),
]  # fmt: skip

# The chain rule's own operations for each of 6 elements; what the forward pass kept is not
# computed again.
GRADIENTS = [
    c("hardtanh_backward", X, X, -1, 1, ops=12),  # two compares
    c("leaky_relu_backward", X, X, ON, False, ops=12),  # compare, multiply
    c("elu_backward", X, 1, 1, 1, False, X, ops=24),  # compare, exp, scale, multiply
    c("hardswish_backward", X, X, ops=30),  # two compares, scale, add, multiply
    c("hardsigmoid_backward", X, X, ops=18),  # two compares, scale
    # e = exp x, 1 + e, log, t = tanh; s = e/(1 + e); t², 1 - t², ·s, ·x, + t, ·g
    c("mish_backward", X, X, ops=66),
    c("softplus_backward", X, X, 1, 20, ops=24),  # exp, add, divide, multiply
    c("logit_backward", X, X, ops=18),  # 1 - x, ·x, divide
    c("log_sigmoid_backward", X, X, X, ops=24),  # exp, add, divide, multiply
    c("hardshrink_backward", X, X, ON, ops=12), c("softshrink_backward", X, X, ON, ops=12),
    c("rrelu_with_noise_backward", X, X, X, ON, ON, True, False, ops=12),  # compare, multiply
    # s (4), g·s for one half; 1 - s, ·s, ·a, ·g for the other; 6 incoming elements
    c("glu_backward", X, meta(2, 6), 1, ops=54),
    c("_prelu_kernel_backward", X, X, meta(1), ops=18),  # compare, ·w, ·x for the weight
    c("native_dropout_backward", X, b(2, 3), 2.0, ops=12),  # mask, scale
    c("smooth_l1_loss_backward", X, X, X, 0, 1.0, ops=24),  # subtract, compare, divide, ·g
    c("huber_loss_backward", X, X, X, 0, 1.0, ops=24),
    c("binary_cross_entropy_backward", X, X, X, None, 0, ops=30),  # x - y, 1 - x, ·x, divide, ·g
    c("soft_margin_loss_backward", X, X, X, 0, ops=36),  # y·x, exp, add, divide, ·y, ·g
    c("nll_loss_backward", meta(2), X, i(2), None, 0, -100, meta(), ops=2),  # one a target
    c("nll_loss2d_backward", meta(1, 4, 4), meta(1, 3, 4, 4), i(1, 4, 4), None, 0, -100, meta(),
      ops=16),
    c("_log_softmax_backward_data", X, X, 1, torch.float32, ops=24),  # sum, exp, ·, subtract
    c("max_pool2d_with_indices_backward", meta(1, 8, 3, 3), IMAGE, [2, 2], [2, 2], [0, 0], [1, 1],
      False, i(1, 8, 3, 3), ops=72),  # each gradient added where its maximum was
    c("max_pool3d_with_indices_backward", meta(1, 2, 2, 2, 2), meta(1, 2, 4, 4, 4), [2] * 3,
      [2] * 3, [0] * 3, [1] * 3, False, i(1, 2, 2, 2, 2), ops=16, returns=meta(1, 2, 4, 4, 4)),
    # one add an incoming element, or a multiply and an add for each of its taps
    c("upsample_nearest1d_backward", meta(1, 2, 8), [8], [1, 2, 4], ops=16),
    c("upsample_nearest2d_backward", meta(1, 2, 8, 8), [8, 8], [1, 2, 4, 4], ops=128),
    c("upsample_nearest3d_backward", meta(1, 1, 4, 4, 4), [4] * 3, [1, 1, 2, 2, 2], ops=64),
    c("_upsample_nearest_exact2d_backward", meta(1, 2, 8, 8), [8, 8], [1, 2, 4, 4], ops=128),
    c("upsample_linear1d_backward", meta(1, 2, 8), [8], [1, 2, 4], False, ops=16 * 4,
      returns=meta(1, 2, 4)),
    c("upsample_bilinear2d_backward", meta(1, 2, 8, 8), [8, 8], [1, 2, 4, 4], False, ops=128 * 8),
    c("upsample_trilinear3d_backward", meta(1, 1, 4, 4, 4), [4] * 3, [1, 1, 2, 2, 2], False,
      ops=64 * 16, returns=meta(1, 1, 2, 2, 2)),
    c("upsample_bicubic2d_backward", meta(1, 2, 8, 8), [8, 8], [1, 2, 4, 4], False,
      ops=128 * 32, returns=meta(1, 2, 4, 4)),
    c("_upsample_bilinear2d_aa_backward", meta(1, 2, 8, 8), [8, 8], [1, 2, 4, 4], False,
      ops=128 * 8, returns=meta(1, 2, 4, 4)),
    c("_upsample_bicubic2d_aa_backward", meta(1, 2, 8, 8), [8, 8], [1, 2, 4, 4], False,
      ops=128 * 32, returns=meta(1, 2, 4, 4)),
    # one add each, the mirrored and repeated borders included
    c("reflection_pad1d_backward", meta(1, 2, 6), meta(1, 2, 4), [1, 1], ops=12),
    c("reflection_pad2d_backward", meta(1, 2, 6, 6), meta(1, 2, 4, 4), [1] * 4, ops=72),
    c("replication_pad1d_backward", meta(1, 2, 6), meta(1, 2, 4), [1, 1], ops=12),
    c("replication_pad2d_backward", meta(1, 2, 6, 6), meta(1, 2, 4, 4), [1] * 4, ops=72),
    # dβ = Σg (1), dγ = Σg·x̂ (2); gγ, Σgγ, Σgγ·x̂ (1 + 1 + 2); x̂·mean, two subtracts, ·σ⁻¹ (4)
    c("native_group_norm_backward", IMAGE, IMAGE, meta(1, 2), meta(1, 2), SCALE, 1, 8, 36, 2,
      [True] * 3, ops=11 * 288),
    c("native_batch_norm_backward", IMAGE, IMAGE, *[SCALE] * 5, True, ON, [True] * 3,
      ops=11 * 288),
    c("cudnn_batch_norm_backward", IMAGE, IMAGE, *[SCALE] * 5, ON, meta(0), ops=11 * 288,
      returns=(IMAGE, SCALE, SCALE)),
    c("batch_norm_backward", IMAGE, IMAGE, *[SCALE] * 5, True, ON, [True] * 3, meta(0),
      ops=11 * 288, returns=(IMAGE, SCALE, SCALE)),
    # x̂; dγ (2); gγ, Σgγ·x̂ (1 + 2); x̂·mean, subtract, ·σ⁻¹ (3)
    c("_fused_rms_norm_backward", X, X, [3], meta(2, 1), meta(3), [True, True], ops=9 * 6,
      returns=(X, meta(3))),
    # four taps: a multiply and an add for the image, three operations for the coordinates
    c("grid_sampler_2d_backward", meta(1, 8, 5, 5), IMAGE, meta(1, 5, 5, 2), 0, 0, False,
      [True, True], ops=200 * 20, returns=(IMAGE, meta(1, 5, 5, 2))),
    c("cumprod_backward", X, X, 1, X, ops=18, returns=X),  # multiply, sum from the end, divide
    # 4 · 5 pairs of 3 coordinates: subtract, scale, add; a division a pair
    c("_cdist_backward", meta(4, 5), meta(4, 3), meta(5, 3), 2.0, meta(4, 5), ops=20 * 10),
    # t = tanh c; g·o·(1 - t²) + c'; four operations a gate: two factors, 1 - y and y; ·f for c
    c("_thnn_fused_lstm_cell_backward_impl", H, H, H, H, meta(2, 64), False, ops=32 * 23,
      returns=(meta(2, 64), H, meta(64))),
    c("index_select_backward", X, [5, 3], 0, i(2), ops=6, returns=meta(5, 3)),
]  # fmt: skip

LOSSES = [
    # the add that reduces is counted: subtract, absolute value, compare, square, scale, add
    c("smooth_l1_loss", X, X, ops=36),
    # max(x, 0), x·y, subtract, absolute value, negate, exp, add, log, add; add
    c("binary_cross_entropy_with_logits", X, X, ops=60),
    c("soft_margin_loss", X, X, ops=36),  # y·x, negate, exp, add, log; add
    c("kl_div", X, X, ops=24),  # log, subtract, multiply; add
    c("poisson_nll_loss", X, X, True, False, ON, 1, ops=24),  # exp, multiply, subtract; add
    c("hinge_embedding_loss", X, X, ops=18),  # subtract, compare; add
    c("margin_ranking_loss", X, X, X, ops=30),  # subtract, ·y, add the margin, compare; add
    # a class and the target: subtract, add the margin, compare; add
    c("multilabel_margin_loss_forward", X, i(2, 3), 1, ops=24, returns=(meta(), X)),
    c("multi_margin_loss", X, i(2), ops=24, returns=meta()),
    # 7 operations for each of 2 · 3 + 1 states of 5 frames of 2 samples
    c("_ctc_loss", meta(5, 2, 4), i(2, 3), [5, 5], [3, 3], ops=7 * 10 * 7,
      returns=(meta(2), meta(2, 5, 7))),
]  # fmt: skip

REDUCTIONS = [
    c("max", X, meta(3), ops=6),  # of two tensors: one compare a pair
    c("nansum", X, ops=12),  # a test, an add
    *(c(name, X, ops=6) for name in ("amin", "argmin")),
    c("trace", meta(3, 3), ops=9), c("aminmax", X, ops=12, returns=(meta(), meta())),
    *(c(name, X, 1, ops=6) for name in ("cummax", "cummin", "cumsum_", "cumprod_")),
    c("_cummax_helper", X, meta(2, 3), i(2, 3), 1, ops=6, returns=()),
    c("logcumsumexp", X, 1, ops=24),  # maximum, subtract, exp, add
    c("std_mean", X, ops=24, returns=(meta(), meta())),  # add; subtract, square, add
    c("frobenius_norm", X, [1], ops=12), c("linalg_norm", X, ops=12),  # square, add
    c("dist", X, meta(2, 3), ops=18, returns=meta()),  # subtract, square, add
    c("equal", X, meta(2, 3), ops=6, returns=b()),
    c("diff", X, ops=6), c("bincount", i(6), ops=6, returns=i(4)),
    c("histc", X, 4, ops=12, returns=meta(4)),  # the bin, the count
    c("median", X, ops=6, returns=meta()), c("mode", X, ops=6, returns=(meta(2), i(2))),
    c("nanmedian", X, ops=12, returns=meta()),  # a test, a compare
    c("segment_reduce", X, "sum", ops=6, returns=meta(1, 3)),
    c("_linalg_det", meta(6, 6), macs=72, returns=(meta(), meta(6, 6), i(6))),  # 6³/3
    # 6³/3, and 6² for each of 2 right-hand sides
    c("_linalg_solve_ex", meta(6, 6), meta(6, 2), macs=72 + 72,
      returns=(meta(6, 2), meta(6, 6), i(6), i())),
    c("linalg_solve_triangular", meta(6, 6), meta(6, 2), upper=True, macs=36),  # half of 6² each
]  # fmt: skip

PRODUCTS = [
    c("addr", meta(3, 5), meta(3), meta(5), ops=30),  # a multiply, an add
    # three dot products of 2 · 3; then two roots, a product, a division for each of 2
    c("cosine_similarity", X, meta(2, 3), ops=6 * 6 + 4 * 2),
    c("affine_grid_generator", meta(1, 2, 3), [1, 1, 4, 4], False, macs=32 * 3,
      returns=meta(1, 4, 4, 2)),  # a row of three for each of 16 · 2 coordinates
]  # fmt: skip

MOVES = [
    # rows of the bag are added as they are read: 6 of 4 floats, and 6 ids
    c("embedding_bag", meta(100, 4), i(6), i(2), ops=24, read=96 + 48,
      returns=(meta(2, 4), i(6), i(2), i(2))),
    c("one_hot", i(6), 4, read=48, written=6 * 4 * 8, returns=i(6, 4)),
    c("lift_fresh_copy", X, read=24, written=24),
    # 4 of the 6 elements are kept, 2 taken
    c("slice_scatter", X, meta(2, 1), 1, 0, 1, read=16 + 8, written=24),
    c("resize_", meta(2, 3), [3, 3], read=0, written=0, returns=meta(3, 3)),
    c("_pack_padded_sequence", SEQUENCE, i(2), False, read=8 * 8 * 4 + 16, written=8 * 8 * 4 + 40,
      returns=(meta(8, 8), i(5))),  # 8 of the 10 steps are valid
    c("_pad_packed_sequence", meta(8, 8), i(5), False, 0.0, 5, read=8 * 8 * 4,
      written=80 * 4 + 16, returns=(SEQUENCE, i(2))),
    c("max_unpool2d", meta(1, 8, 3, 3), i(1, 8, 3, 3), [6, 6], read=72 * 12, written=1152,
      returns=IMAGE),
    c("hann_window", 8, ops=40, read=0, written=32, returns=meta(8)),  # i, ·2π/n, cos, ·½, add
    c("multinomial", meta(5), 3, ops=5 + 6, returns=i(3)),  # a sum; a draw, a search each
]  # fmt: skip

NORMS = [
    c("_native_batch_norm_legit_no_training", IMAGE, *[SCALE] * 4, ON, ON, ops=2 * 288),
    c("native_group_norm", IMAGE, SCALE, SCALE, 1, 8, 36, 2, ON, ops=7 * 288),
    c("_weight_norm", meta(4, 6), meta(4, 1), 0, ops=72, returns=meta(4, 6)),  # ², add, scale
    c("renorm", X, 2, 0, 1.0, ops=18, returns=X),  # square, add, scale
]  # fmt: skip

POOLS = [
    c("mkldnn_max_pool2d", IMAGE, [2, 2], ops=72 * 4, returns=meta(1, 8, 3, 3)),
    c("fractional_max_pool2d", IMAGE, [2, 2], [3, 3], meta(1, 8, 2), ops=72 * 4,
      returns=(meta(1, 8, 3, 3), i(1, 8, 3, 3))),
    # across: 6 rows of 3 values of 4 · 6/3 taps; down: 3 × 3 values of 8; a multiply, an add
    c("_upsample_bicubic2d_aa", IMAGE, [3, 3], False, ops=2 * 8 * (18 * 8 + 9 * 8)),
]  # fmt: skip

STEPS = [
    # decay, scale, add; scale, add
    c("_fused_sgd_", [X], [GRAD], [meta(2, 3)], lr=ON, weight_decay=ON, momentum=ON, dampening=0.0,
      nesterov=False, maximize=False, is_first_step=False, ops=30, returns=()),
    # Adam's 14, and the weights decayed by themselves: scale, subtract
    c("_fused_adamw_", [X], [GRAD], [meta(2, 3)], [meta(2, 3)], [], [meta()], lr=ON, beta1=ON,
      beta2=ON, weight_decay=ON, eps=ON, amsgrad=False, maximize=False, ops=96, returns=()),
    # square, add, root, add ε, divide, subtract
    c("_fused_adagrad_", [X], [GRAD], [meta(2, 3)], [meta()], lr=ON, lr_decay=ON,
      weight_decay=0.0, eps=ON, maximize=False, ops=36, returns=()),
]  # fmt: skip

LSTM = [meta(64, 8), meta(64, 16), meta(64), meta(64)]
RECURRENT = [
    # one gate of 16 on 8 + 16 inputs, 10 steps; an add and a nonlinearity a unit
    c("rnn_relu", SEQUENCE, meta(1, 2, 16), [meta(16, 8), meta(16, 16)], False, 1, 0.0, False,
      False, False, macs=10 * 16 * 24, ops=10 * 2 * 16),
    *(c(name, meta(2, 8), H, meta(16, 8), meta(16, 16), macs=2 * 16 * 24, ops=2 * 2 * 16)
      for name in ("rnn_tanh_cell", "rnn_relu_cell")),
    # an LSTM layer with two biases, as in the common rows; kept in int8, the same
    c("mkldnn_rnn_layer", SEQUENCE, *LSTM, *STATE, False, [], 2, 16, 1, True, False, False, False,
      macs=10 * 64 * 24, ops=10 * (22 * 16 + 128), returns=(meta(5, 2, 16), *STATE, meta(0))),
    c("quantized_lstm", SEQUENCE, STATE, [LSTM], macs=10 * 64 * 24, ops=10 * (22 * 16 + 128),
      returns=(meta(5, 2, 16), *STATE)),
    c("quantized_gru", SEQUENCE, STATE[0], [[meta(48, 8), meta(48, 16)]], macs=10 * 48 * 24,
      ops=10 * 17 * 16, returns=(meta(5, 2, 16), STATE[0])),
    # gates that are products already: 22 and 17 operations a unit
    c("_thnn_fused_lstm_cell", meta(2, 64), meta(2, 64), H, ops=32 * 22,
      returns=(H, H, meta(2, 64))),
    c("_thnn_fused_gru_cell", meta(2, 48), meta(2, 48), H, ops=32 * 17, returns=(H, meta(2, 80))),
]  # fmt: skip

QINT = torch.quint8
QX = torch.empty(2, 3, dtype=torch.uint8, device="meta")  # as bytes: what counts is how many
QUANTIZED = [
    # ·1/scale, round, add the zero point, two bounds; subtract the zero point, ·scale
    c("quantize_per_tensor", X, 0.1, 0, QINT, ops=30, read=24, written=6, returns=QX),
    c("dequantize", QX, ops=12, read=6, written=24, returns=X),
    c("fake_quantize_per_tensor_affine_cachemask", X, 0.1, 0, 0, 255, ops=42,
      returns=(X, b(2, 3))),
    c("_weight_int8pack_mm", meta(4, 8), i8(16, 8), meta(16), macs=4 * 8 * 16, ops=64,
      returns=meta(4, 16)),  # a scale an output
    c("_weight_int4pack_mm", meta(4, 64), i(2, 1, 32, 4), 32, meta(2, 16, 2), macs=4 * 64 * 16,
      returns=meta(4, 16)),
    # a scale and a shift an output, and the bias' add
    c("quantized.linear", meta(4, 5), [i8(7, 5), meta(7)], 0.1, 0, macs=140, ops=28 * 3,
      returns=meta(4, 7)),
    c("quantized.linear", meta(4, 5), [i8(7, 5)], 0.1, 0, macs=140, ops=28 * 2,
      returns=meta(4, 7)),
    c("quantized.conv2d", IMAGE, [i8(16, 4, 3, 3), meta(16)], 0.1, 0, macs=256 * 36, ops=256 * 3,
      returns=meta(1, 16, 4, 4)),  # two groups: 3 · 3 · 4 taps
    # both sides (2 + 2), the sum, and quantised again (5); one side, the change, quantised again
    c("quantized.add", QX, QX, 0.1, 0, ops=60, returns=QX),
    c("quantized.hardswish", QX, 0.1, 0, ops=48, returns=QX),
]  # fmt: skip

SORTS = [
    c("_unique2", meta(2, 8), ops=16 * (4 + 1), returns=(meta(4), i(16), i(4))),  # sort, compare
    c("nonzero", X, ops=6, returns=i(4, 2)),
    # 10 pairs of 5 boxes, 12 operations an overlap
    c("torchvision.nms", meta(5, 4), meta(5), 0.5, ops=120, returns=i(3)),
]  # fmt: skip

ROWS: list[Row] = [
    *POINTWISE, *ACTIVATIONS, *ATTENTION, *GRADIENTS, *LOSSES, *REDUCTIONS, *PRODUCTS, *MOVES,
    *NORMS, *POOLS, *STEPS, *RECURRENT, *QUANTIZED, *SORTS,
]  # fmt: skip


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.op)
def test_an_op_costs_what_its_derivation_says(row: Row) -> None:
    check(row)


# -- every rule has a row -------------------------------------------------------------------------

GOLDEN = {row.target for row in [*COMMON, *ROWS]}


def test_every_rule_has_a_golden_row() -> None:
    held = {rules.registry._RULES[target].function for target in GOLDEN}
    bare = {
        f"{rule.function.__module__}.{rule.function.__name__}: {target}"
        for target, rule in rules.registry._RULES.items()
        if rule.function not in held and target.partition(".")[0] in OURS
    }
    assert bare == set()


#: Namespaces of the ops that costmodel's own rules are for; a plug-in's are its own affair.
OURS = {"aten", "quantized", "quantized_decomposed", "torchvision", "transformers", "higher_order"}


def test_an_in_place_or_out_of_place_form_has_the_rule_of_the_other() -> None:
    apart = []
    for target, rule in rules.registry._RULES.items():
        twin = rules.registry._RULES.get(target.removesuffix("_"))
        if target.endswith("_") and not target.endswith("__") and twin is not None:
            same = rule.function is twin.function
            if not same and {target, target.removesuffix("_")} - GOLDEN:
                apart.append(target)
    assert apart == []


def test_overloads_and_out_forms_have_the_rule_of_their_op() -> None:
    # a rule is of an op, whatever its overload: `aten.mul` serves mul.Tensor and mul.out
    assert not [target for target in rules.targets() if target.count(".") != 1]


def test_free_ops_are_free() -> None:
    free = [t for t, rule in rules.registry._RULES.items() if rule.function is _nothing]
    assert {"aten.view", "aten.transpose", "aten.empty", "aten.detach"} <= set(free)
    assert all(rules.is_free(target) for target in free)
