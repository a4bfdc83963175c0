"""What each op costs, one line an op, derived by hand in the comment beside it."""

from __future__ import annotations

import pytest
import torch
from counting import Function, meta
from golden import IMAGE, ON, SEQUENCE, Q, X, b, c, check, i, i8, z

from costmodel import rules
from costmodel.errors import CostModelError
from costmodel.rules.registry import rule
from costmodel.tracer import trace

# One operation is one add, compare, multiply … or one transcendental; composed functions count
# their parts. 6 elements each.
POINTWISE = [
    c("abs", X, ops=6, read=24, written=24), c("neg", X, ops=6), c("sqrt", X, ops=6),
    c("exp", X, ops=6), c("log", X, ops=6), c("sin", X, ops=6), c("cos", X, ops=6),
    c("tanh", X, ops=6), c("erf", X, ops=6), c("floor", X, ops=6), c("ceil", X, ops=6),
    c("round", X, ops=6), c("trunc", X, ops=6), c("sign", X, ops=6), c("reciprocal", X, ops=6),
    c("square", X, ops=6), c("logical_not", X, ops=6), c("bitwise_not", i(2, 3), ops=6),
    c("rsqrt", X, ops=12),  # root, reciprocal
    c("log1p", X, ops=12), c("expm1", X, ops=12),  # the shift, the function
    c("mul", X, X, ops=6, read=24, written=24),  # the same operand twice is read once
    c("mul", X, meta(2, 3), ops=6, read=48, written=24),
    c("mul", X, 2.0, ops=6, read=24), c("div", X, meta(3), ops=6, read=24 + 12),  # broadcast
    c("pow", X, 3, ops=6), c("remainder", X, 2, ops=6), c("floor_divide", X, 2, ops=6),
    c("add", X, meta(2, 3), ops=6, read=48), c("sub", X, 1, ops=6), c("rsub", X, 1, ops=6),
    c("add", X, meta(2, 3), alpha=2, ops=12),  # scale, add
    c("add_", X, meta(2, 3), ops=6, read=48, written=24), c("mul_", X, 2, ops=6, written=24),
    c("addcmul", X, meta(2, 3), meta(2, 3), ops=12), c("addcdiv", X, X, X, ops=12),
    c("lerp", X, meta(2, 3), 0.5, ops=18),  # subtract, multiply, add
    c("atan2", X, X, ops=6), c("hypot", X, X, ops=24),  # two squares, an add, a root
    c("maximum", X, X, ops=6), c("minimum", X, X, ops=6), c("eq", X, X, ops=6, written=6),
    c("gt", X, 0, ops=6), c("le", X, 0, ops=6), c("logical_and", X, X, ops=6),
    c("bitwise_and", i(2, 3), i(2, 3), ops=6), c("isnan", X, ops=6), c("isinf", X, ops=6),
    c("where", b(2, 3), X, meta(2, 3), ops=6, read=6 + 48),
    c("masked_fill", X, b(2, 3), 0.0, ops=6, read=30),
    c("clamp", X, 0.0, ops=6), c("clamp", X, 0.0, 1.0, ops=12), c("clamp_min", X, 0, ops=6),
    c("nan_to_num", X, ops=18),  # three compares
    c("mul", z(2, 3), z(2, 3), ops=12), c("abs", z(2, 3), ops=6),
    c("threshold", X, 0, 0, ops=6), c("_conj_physical", z(2, 3), ops=12),
]  # fmt: skip

ACTIVATIONS = [
    c("relu", X, ops=6), c("relu_", X, ops=6), c("relu6", X, ops=12), c("leaky_relu", X, ops=12),
    c("hardtanh", X, ops=12),  # two compares
    c("hardsigmoid", X, ops=24),  # add, two compares, scale
    c("hardswish", X, ops=30),  # the hard sigmoid, times x
    c("sigmoid", X, ops=24),  # negate, exp, add, divide
    c("silu", X, ops=30),  # the sigmoid, times x
    c("gelu", X, ops=30),  # scale, erf, add, times x, halve
    c("gelu", X, approximate="tanh", ops=54),  # square, cube, scale, add, scale, tanh, add, ·x, ·½
    c("mish", X, ops=30),  # exp, add, log, tanh, times x
    c("softplus", X, ops=18),  # exp, add, log
    c("elu", X, ops=24),  # compare, exp, subtract, scale
    c("glu", meta(2, 4), ops=20),  # sigmoid of one half times the other: 5 for each of 4
    c("prelu", X, meta(1), ops=12, read=28), c("hardshrink", X, ops=12), c("softshrink", X, ops=18),
]  # fmt: skip

PRODUCTS = [
    c("mm", meta(3, 5), meta(5, 7), macs=105, read=60 + 140, written=84),
    c("bmm", meta(2, 3, 5), meta(2, 5, 7), macs=210), c("mv", meta(3, 5), meta(5), macs=15),
    c("dot", meta(5), meta(5), macs=5), c("vdot", meta(5), meta(5), macs=5),
    c("matmul", meta(2, 3, 5), meta(5, 7), macs=210), c("matmul", meta(5), meta(5), macs=5),
    c("matmul", meta(5), meta(2, 5, 7), macs=70), c("inner", meta(2, 5), meta(3, 5), macs=30),
    c("linear", meta(4, 5), meta(7, 5), macs=140),
    c("linear", meta(4, 5), meta(7, 5), meta(7), macs=140, ops=28),  # one add an output
    c("addmm", meta(7), meta(4, 5), meta(5, 7), macs=140, ops=28),
    c("addmm", meta(4, 7), meta(4, 5), meta(5, 7), beta=0, macs=140),
    c("addmm", meta(4, 7), meta(4, 5), meta(5, 7), beta=2, alpha=3, macs=140, ops=84),
    c("baddbmm", meta(2, 3, 7), meta(2, 3, 5), meta(2, 5, 7), macs=210, ops=42),
    c("addbmm", meta(3, 7), meta(2, 3, 5), meta(2, 5, 7), macs=210, ops=21),
    c("addmv", meta(3), meta(3, 5), meta(5), macs=15, ops=3),
    c("outer", meta(3), meta(5), ops=15),  # nothing is accumulated
    c("einsum", "ij,jk->ik", [meta(3, 5), meta(5, 7)], macs=105),
    c("einsum", "bhid,bhjd->bhij", [meta(2, 4, 6, 8), meta(2, 4, 6, 8)], macs=2 * 4 * 36 * 8),
    c("einsum", "i,j->ij", [meta(3), meta(5)], ops=15),
    c("einsum", "ii->", [meta(3, 3)], ops=3),
    c("einsum", "ij->j", [meta(3, 5)], ops=15),
    c("einsum", "...ij,...jk->...ik", [meta(2, 3, 5), meta(2, 5, 7)], macs=210),
    # (3 × 5)(5 × 7) first, then (3 × 7)(7 × 2)
    c("einsum", "ij,jk,kl->il", [meta(3, 5), meta(5, 7), meta(7, 2)], macs=105 + 42),
    c("einsum", "ix,jx->ij", [meta(3, 1), meta(5, 1)], ops=15),  # summing one value sums nothing
    # cheapest order: (10 × 2)(2 × 30) is 600, then (10 × 30)(30 × 3) is 900; or 180, then 60
    c("linalg_multi_dot", [meta(10, 2), meta(2, 30), meta(30, 3)], macs=180 + 60),
    # 5 · 7 products for each of 4 · 3 outputs, then 7
    c("bilinear", meta(4, 5), meta(4, 7), meta(3, 5, 7), meta(3), macs=12 * (35 + 7), ops=12),
    c("_cdist_forward", meta(4, 3), meta(5, 3), 2.0, None, ops=20 * (3 * 3 + 1)),
    c("_grouped_mm", meta(6, 4), meta(3, 4, 5), meta(3, dtype=torch.int32), macs=6 * 4 * 5,
      read=96 + 240 + 12, written=120),
    # two rows meet two of the 3 matrices at most
    c("_grouped_mm", meta(2, 4), meta(3, 4, 5), meta(3, dtype=torch.int32), macs=2 * 4 * 5,
      read=32 + 160 + 12),
    c("linalg_cholesky_ex", meta(6, 6), macs=36), c("linalg_inv_ex", meta(4, 4), macs=64),
    c("_int_mm", i8(32, 16), i8(16, 8), macs=32 * 16 * 8, read=512 + 128, written=32 * 8 * 4),
]  # fmt: skip

CONVOLUTIONS = [
    # 3 · 3 · 8 taps for each of 16 · 4 · 4 outputs
    c("conv2d", IMAGE, meta(16, 8, 3, 3), macs=256 * 72, read=288 * 4 + 1152 * 4, written=1024),
    c("conv2d", IMAGE, meta(16, 8, 3, 3), meta(16), macs=256 * 72, ops=256),
    c("conv2d", IMAGE, meta(16, 4, 3, 3), None, [1, 1], [1, 1], [1, 1], 2, macs=576 * 36),
    c("conv2d", IMAGE, meta(8, 1, 3, 3), None, [2, 2], [1, 1], [1, 1], 8, macs=72 * 9),
    c("conv2d", IMAGE, meta(16, 8, 3, 3), None, [1, 1], [0, 0], [2, 2], macs=64 * 72),  # 2 × 2 out
    c("conv2d", IMAGE, meta(16, 8, 1, 1), macs=576 * 8),
    c("conv2d", meta(8, 6, 6), meta(16, 8, 3, 3), macs=256 * 72),  # without a batch
    c("conv1d", meta(2, 8, 10), meta(4, 8, 3), macs=2 * 4 * 8 * 24),
    c("conv3d", meta(1, 2, 5, 5, 5), meta(4, 2, 3, 3, 3), macs=4 * 27 * 54),
    # each of 8 · 6 · 6 inputs reaches 4 · 2 · 2 outputs
    c("conv_transpose2d", IMAGE, meta(8, 4, 2, 2), None, [2, 2], macs=288 * 16),
    c("conv_transpose2d", IMAGE, meta(8, 2, 2, 2), meta(4), [2, 2], [0, 0], [0, 0], 2,
      macs=288 * 8, ops=4 * 144),
    c("conv_transpose1d", meta(1, 8, 10), meta(8, 4, 3), macs=80 * 12),
    c("conv_transpose3d", meta(1, 2, 3, 3, 3), meta(2, 4, 2, 2, 2), macs=54 * 32),
    c("convolution", IMAGE, meta(16, 8, 3, 3), None, [1, 1], [0, 0], [1, 1], False, [0, 0], 1,
      macs=256 * 72),
    c("convolution", IMAGE, meta(8, 4, 2, 2), None, [2, 2], [0, 0], [1, 1], True, [0, 0], 1,
      macs=288 * 16),
    # one forward for the input, one for the weight, one add an output for the bias
    c("convolution_backward", meta(1, 16, 4, 4), IMAGE, meta(16, 8, 3, 3), [16], [1, 1], [0, 0],
      [1, 1], False, [0, 0], 1, [True, True, True], macs=2 * 256 * 72, ops=256),
    c("convolution_backward", meta(1, 16, 6, 6), IMAGE, meta(16, 4, 3, 3), [0], [1, 1], [1, 1],
      [1, 1], False, [0, 0], 2, [False, True, False], macs=576 * 36),
]  # fmt: skip

ATTENTION = [
    # 4 · 16 · 16 scores of 8 + 8 MACs; scale and softmax are 6 operations a score
    c("scaled_dot_product_attention", Q, meta(1, 4, 16, 8), meta(1, 4, 16, 8), macs=1024 * 16,
      ops=1024 * 6, read=3 * 2048, written=2048),
    c("scaled_dot_product_attention", Q, meta(1, 4, 20, 8), meta(1, 4, 20, 6), meta(16, 20),
      macs=1280 * 14, ops=1280 * 7),  # a mask is one add
    # grouped queries: 4 heads of queries on 2 of keys
    c("scaled_dot_product_attention", Q, meta(1, 2, 16, 8), meta(1, 2, 16, 8), enable_gqa=True,
      macs=1024 * 16, ops=1024 * 6, read=2048 + 2 * 1024),
    c("_scaled_dot_product_flash_attention_for_cpu", Q, Q, Q, macs=1024 * 16, ops=1024 * 6),
    c("_scaled_dot_product_efficient_attention", Q, Q, Q, None, False, macs=1024 * 16,
      ops=1024 * 6),
    # four products where forward has two
    c("_scaled_dot_product_flash_attention_for_cpu_backward", Q, Q, Q, Q, Q, meta(1, 4, 16), 0.0,
      False, macs=1024 * 32, ops=2 * 1024 * 6),
]  # fmt: skip

NORMS = [
    c("batch_norm", IMAGE, meta(8), meta(8), meta(8), meta(8), False, ON, ON, False, ops=2 * 288),
    # mean 1, variance 3, subtract, multiply; scale, shift
    c("batch_norm", IMAGE, meta(8), meta(8), meta(8), meta(8), True, ON, ON, False, ops=8 * 288),
    c("native_batch_norm", IMAGE, None, None, meta(8), meta(8), True, ON, ON, ops=6 * 288),
    # sum, sum of squares (2), subtract, multiply; scale, shift
    c("layer_norm", X, [3], meta(3), meta(3), ops=7 * 6), c("layer_norm", X, [3], ops=5 * 6),
    c("native_layer_norm", X, [3], meta(3), meta(3), ON, ops=7 * 6),
    c("group_norm", IMAGE, 2, meta(8), meta(8), ops=7 * 288),
    c("rms_norm", X, [3], meta(3), ops=4 * 6), c("rms_norm", X, [3], ops=3 * 6),
    # maximum, subtract, exp, sum, divide
    c("softmax", X, -1, ops=5 * 6), c("_softmax", X, -1, False, ops=5 * 6),
    c("log_softmax", X, -1, ops=5 * 6), c("instance_norm", IMAGE, None, None, None, None, True, ON,
      ON, False, ops=5 * 288),
]  # fmt: skip

POOLS = [
    # 9 elements of a window for each of 8 · 2 · 2; an average divides
    c("max_pool2d", IMAGE, [3, 3], ops=32 * 9), c("avg_pool2d", IMAGE, [3, 3], ops=32 * 10),
    c("max_pool2d", IMAGE, [2], ops=72 * 4), c("max_pool2d_with_indices", IMAGE, [2], ops=72 * 4),
    c("max_pool1d", meta(1, 8, 6), [2], ops=24 * 2), c("avg_pool1d", meta(1, 8, 6), [3], ops=64),
    c("max_pool3d", meta(1, 2, 4, 4, 4), [2], ops=16 * 8),
    c("avg_pool3d", meta(1, 2, 4, 4, 4), [2], ops=16 * 9),
    c("adaptive_avg_pool2d", IMAGE, [1, 1], ops=288 + 8),
    c("adaptive_avg_pool2d", IMAGE, [4, 4], ops=8 * 64 + 128),  # windows of 2, one step overlaps
    c("adaptive_max_pool2d", IMAGE, [2, 2], ops=288),
    c("adaptive_avg_pool1d", meta(1, 8, 6), [3], ops=48 + 24),
]  # fmt: skip

REDUCTIONS = [
    c("sum", X, ops=6), c("mean", X, ops=6 + 1), c("mean", X, [1], ops=6 + 2), c("amax", X, ops=6),
    c("argmax", X, ops=6), c("any", b(2, 3), ops=6), c("prod", X, ops=6), c("cumsum", X, 1, ops=6),
    c("max", X, ops=6), c("max", X, 1, ops=6), c("min", X, ops=6), c("norm", X, ops=12),
    c("linalg_vector_norm", X, ops=12),  # square, add
    c("var", X, ops=24), c("std", X, ops=24), c("var_mean", X, ops=24),  # mean, then squares
    c("logsumexp", X, [1], ops=24),  # maximum, subtract, exp, add
    c("cumprod", X, 1, ops=6), c("all", b(2, 3), ops=6), c("count_nonzero", X, ops=6),
]  # fmt: skip

LOOKUPS = [
    # 10 rows of 4 floats, and the 10 ids
    c("embedding", meta(100, 4), i(10), read=160 + 80, written=160),
    c("embedding_dense_backward", meta(10, 4), i(10), 100, -1, False, ops=40),
    c("gather", X, 1, i(2, 2), read=16 + 32, written=16),
    c("index_select", X, 1, i(2), read=16 + 16, written=16),
    c("index", meta(100, 4), [i(10)], read=160 + 80, written=160),
    c("index_put_", meta(100, 4), [i(10)], meta(10, 4), read=160 + 80, written=160),
    c("index_put_", meta(100, 4), [i(10)], meta(10, 4), True, ops=40, read=160 + 160 + 80),
    c("scatter", X, 1, i(2, 3), meta(2, 3)), c("scatter_add", X, 1, i(2, 3), meta(2, 3), ops=6),
    c("index_add", X, 1, i(3), meta(2, 3), ops=6),
    c("take_along_dim", X, i(2, 2), 1, read=16 + 32),
]  # fmt: skip

RECURRENT = [
    # 4 gates of 16 on 8 + 16 inputs, 10 steps in all; 22 operations a unit and two biases
    c("lstm", SEQUENCE, [meta(1, 2, 16), meta(1, 2, 16)], [meta(64, 8), meta(64, 16), meta(64),
      meta(64)], True, 1, 0.0, False, False, False, macs=10 * 64 * 24, ops=10 * (22 * 16 + 128)),
    c("gru", SEQUENCE, meta(1, 2, 16), [meta(48, 8), meta(48, 16)], False, 1, 0.0, False, False,
      False, macs=10 * 48 * 24, ops=10 * 17 * 16),
    c("rnn_tanh", SEQUENCE, meta(1, 2, 16), [meta(16, 8), meta(16, 16)], False, 1, 0.0, False,
      False, False, macs=10 * 16 * 24, ops=10 * 2 * 16),
    c("lstm_cell", meta(2, 8), [meta(2, 16), meta(2, 16)], meta(64, 8), meta(64, 16),
      macs=2 * 64 * 24, ops=2 * 22 * 16),
    c("gru_cell", meta(2, 8), meta(2, 16), meta(48, 8), meta(48, 16), macs=2 * 48 * 24,
      ops=2 * 17 * 16),
]  # fmt: skip

RESAMPLING = [
    # 2, 4, 8, 16 taps of a multiply and an add
    c("upsample_linear1d", meta(1, 2, 4), [8], False, ops=16 * 4),
    c("upsample_bilinear2d", IMAGE, [12, 12], False, ops=1152 * 8),
    c("upsample_bicubic2d", IMAGE, [12, 12], False, ops=1152 * 32),
    c("upsample_trilinear3d", meta(1, 1, 2, 2, 2), [4, 4, 4], False, ops=64 * 16),
    c("upsample_nearest2d", IMAGE, [12, 12], written=1152 * 4),
    # rows first: 6 × 3 values of ⌈2 · 6/3⌉ = 4 taps, then 3 × 3 of 4
    c("_upsample_bilinear2d_aa", IMAGE, [3, 3], False, ops=2 * 8 * (18 * 4 + 9 * 4)),
    # 4 taps for each of 8 · 25, and a multiply and an add for each of 50 coordinates
    c("grid_sampler_2d", IMAGE, meta(1, 5, 5, 2), 0, 0, False, ops=200 * 8 + 100),
]  # fmt: skip

MOVES = [
    c("clone", X, read=24, written=24), c("cat", [X, meta(2, 3)], read=48, written=48),
    c("stack", [X, meta(2, 3)], read=48, written=48), c("flip", X, [0], read=24, written=24),
    c("roll", X, [1], [0], read=24), c("repeat", X, [2, 2], read=24, written=96),
    c("constant_pad_nd", X, [1, 1], read=24, written=40), c("tril", X, read=24),
    c("copy_", X, meta(3), read=12, written=24), c("_to_copy", X, dtype=torch.float16, written=12),
    c("pixel_shuffle", IMAGE, 2, read=1152, written=1152),
    c("im2col", IMAGE, [3, 3], [1, 1], [0, 0], [1, 1], read=1152, written=72 * 16 * 4),
    c("zeros", [2, 3], read=0, written=24), c("full_like", X, 1, read=0, written=24),
    c("fill_", X, 1, read=0, written=24), c("arange", 6, ops=12, read=0, written=48),
    c("view", X, [3, 2], read=0, written=0), c("transpose", X, 0, 1, read=0, written=0),
    c("expand", meta(1, 3), [2, 3], read=0, written=0), c("slice", X, 0, 0, 1, read=0, written=0),
    c("unbind", X, read=0, written=0), c("split", X, 1, read=0, written=0),
    c("detach", X, read=0, written=0), c("squeeze", X, read=0, written=0),
    c("empty_like", X, read=0, written=0), c("dropout", X, ON, False, read=0, written=0),
    c("dropout", X, ON, True, ops=24), c("native_dropout", X, ON, True, ops=24),
    c("bernoulli", X, ops=12), c("rand_like", X, ops=6, read=0),
]  # fmt: skip

SORTS = [
    c("sort", meta(2, 8), ops=16 * 3),  # log₂ 8 compares an element
    c("argsort", meta(2, 8), ops=16 * 3), c("topk", meta(2, 8), 4, ops=16 + 8 * 2),
    c("searchsorted", meta(8), X, ops=6 * 3), c("bucketize", X, meta(8), ops=6 * 3),
]  # fmt: skip

TRANSFORMS = [
    # 5 · N · log₂ N for complex data, half for real
    c("_fft_c2c", z(4, 8), [1], 0, True, ops=5 * 32 * 3),
    c("_fft_r2c", meta(4, 8), [1], 0, True, ops=5 * 32 * 3 // 2),
    c("_fft_c2r", z(4, 5), [1], 0, 8, ops=5 * 32 * 3 // 2),
]  # fmt: skip

LOSSES = [
    c("mse_loss", X, X, ops=18), c("l1_loss", X, X, ops=18), c("huber_loss", X, X, ops=36),
    # one value picked a target, negated, added
    c("nll_loss_forward", X, i(2), None, 1, -100, ops=4, read=8 + 16),
    c("cross_entropy_loss", X, i(2), ops=30 + 4), c("binary_cross_entropy", X, X, ops=48),
]  # fmt: skip

GRADIENTS = [
    c("threshold_backward", X, X, 0, ops=6), c("sigmoid_backward", X, X, ops=18),
    c("tanh_backward", X, X, ops=18), c("gelu_backward", X, X, ops=60),
    c("_softmax_backward_data", X, X, 1, torch.float32, ops=24),
    c("native_layer_norm_backward", X, X, [3], meta(2, 1), meta(2, 1), meta(3), meta(3),
      [True, True, True], ops=66),
    c("avg_pool2d_backward", meta(1, 8, 2, 2), IMAGE, [3, 3], [3, 3], [0, 0], False, True, None,
      ops=32),
    c("mse_loss_backward", X, X, X, 0, ops=18), c("silu_backward", X, X, ops=54),
    c("slice_backward", X, [4, 3], 0, 0, 2, 1, ops=6),
]  # fmt: skip

STEPS = [
    c("_foreach_add_", [X, meta(4)], 1, ops=10, read=40, written=40),
    c("_foreach_mul_", [X, meta(4)], 2.0, ops=10),
    c("_foreach_addcdiv_", [X], [meta(2, 3)], [meta(2, 3)], ops=18),
    c("_fused_adam_", [X], [meta(2, 3)], [meta(2, 3)], [meta(2, 3)], [], [meta()], lr=ON, beta1=ON,
      beta2=ON, weight_decay=0.0, eps=ON, amsgrad=False, maximize=False, ops=6 * 14),
]  # fmt: skip

ROWS = (
    POINTWISE + ACTIVATIONS + PRODUCTS + CONVOLUTIONS + ATTENTION + NORMS + POOLS + REDUCTIONS
    + LOOKUPS + RECURRENT + RESAMPLING + MOVES + SORTS + TRANSFORMS + LOSSES + GRADIENTS + STEPS
)  # fmt: skip


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.op)
def test_an_op_costs_what_its_derivation_says(row):
    check(row)


# -- the table of rules ---------------------------------------------------------------------------


def test_every_rule_is_of_an_op_that_exists():
    import torch.ao.quantization.fx._decomposed

    registered = {name.replace("::", ".") for name in torch._C._dispatch_get_all_op_names()}
    registered = {name.split(".")[0] + "." + name.split(".")[1] for name in registered}
    outside = ("torchvision.", "transformers.", "higher_order.")
    unknown = [t for t in rules.targets() if t not in registered and not t.startswith(outside)]
    assert unknown == []


def test_a_second_rule_for_an_op_is_an_error():
    with pytest.raises(CostModelError, match=r"aten.linear already has a cost rule"):
        rule("aten.linear", family="matmul")(rules.cost_of)


def test_a_call_that_does_not_fit_its_rule_names_the_op():
    graph = trace(Function(lambda x: x @ x), (meta(2, 2),))
    op = next(iter(graph.nodes.values()))["op"]
    from dataclasses import replace

    with pytest.raises(CostModelError, match=r"the cost rule of aten.matmul cannot read this call"):
        rules.cost_of(replace(op, args=()))
