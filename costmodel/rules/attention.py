"""Scaled dot-product attention in all its variants, fused: no L×S matrix reaches memory."""

from __future__ import annotations

from typing import Any

from costmodel.ir import Cost, Dim, TensorSpec
from costmodel.rules.registry import rule

FAMILY = "attention"
#: The op that models call; the others are what PyTorch picks for it.
ATTENTION = frozenset({"aten.scaled_dot_product_attention"})

#: Scalar operations for each score: scale, subtract the row's maximum, compare for it, exp, sum,
#: divide.
SOFTMAX_OPS = 5


def attention_cost(
    query: TensorSpec, key: TensorSpec, value: TensorSpec, mask: TensorSpec | None, causal: bool
) -> Cost:
    """Q·Kᵀ and P·V: L·S·(E + E_v) MACs for each query head; key heads may be fewer.

    ``causal`` leaves the full product in ``macs`` and puts the part above the diagonal, that no
    result depends on, into ``masked_macs``.
    """
    *heads, length, width = query.shape
    source, value_width = key.shape[-2], value.shape[-1]
    count: Dim = 1
    for h in heads:
        count = count * h
    scores = count * length * source
    ops = scores * (SOFTMAX_OPS + 1 + int(mask is not None))
    masked: Dim = 0
    if causal:
        masked = count * _above_diagonal(length, source) * (width + value_width)
    return Cost(scores * (width + value_width), ops, masked_macs=masked)


def _above_diagonal(length: Dim, source: Dim) -> Dim:
    """Scores (i, j) with j > i in an ``length`` by ``source`` matrix."""
    if length is source or length == source:
        return length * (length - 1) // 2
    if isinstance(length, int) and isinstance(source, int):
        return sum(max(0, source - 1 - i) for i in range(length))
    raise ValueError("a causal mask over symbolic lengths that differ")


@rule("aten.scaled_dot_product_attention", family=FAMILY)
def scaled_dot_product_attention(
    query: TensorSpec,
    key: TensorSpec,
    value: TensorSpec,
    attn_mask: TensorSpec | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
    out: TensorSpec,
) -> Cost:
    """The op of ``torch.nn.functional``, whole."""
    return attention_cost(query, key, value, attn_mask, is_causal)


@rule(
    "aten._scaled_dot_product_flash_attention",
    "aten._scaled_dot_product_flash_attention_for_cpu",
    family=FAMILY,
)
def flash(
    query: TensorSpec,
    key: TensorSpec,
    value: TensorSpec,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *args: Any,
    attn_mask: TensorSpec | None = None,
    out: Any,
    **kwargs: Any,
) -> Cost:
    """The flash kernels."""
    return attention_cost(query, key, value, attn_mask, is_causal)


@rule("aten._scaled_dot_product_efficient_attention", family=FAMILY)
def efficient(
    query: TensorSpec,
    key: TensorSpec,
    value: TensorSpec,
    attn_bias: TensorSpec | None,
    compute_log_sumexp: bool,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    out: Any,
) -> Cost:
    """The memory-efficient kernel."""
    return attention_cost(query, key, value, attn_bias, is_causal)


@rule("aten._scaled_dot_product_fused_attention_overrideable", family=FAMILY)
def overrideable(
    query: TensorSpec,
    key: TensorSpec,
    value: TensorSpec,
    attn_bias: TensorSpec | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *args: Any,
    out: Any,
    **kwargs: Any,
) -> Cost:
    """The kernel of a backend outside torch."""
    return attention_cost(query, key, value, attn_bias, is_causal)


@rule("aten._scaled_dot_product_attention_math", family=FAMILY)
def mathematical(
    query: TensorSpec,
    key: TensorSpec,
    value: TensorSpec,
    attn_mask: TensorSpec | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *args: Any,
    out: Any,
    **kwargs: Any,
) -> Cost:
    """The unfused form, where it is an op of its own."""
    return attention_cost(query, key, value, attn_mask, is_causal)


@rule("aten._scaled_dot_product_cudnn_attention", family=FAMILY)
def cudnn(
    query: TensorSpec,
    key: TensorSpec,
    value: TensorSpec,
    attn_bias: TensorSpec | None,
    compute_log_sumexp: bool,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *args: Any,
    out: Any,
    **kwargs: Any,
) -> Cost:
    """The cuDNN kernel."""
    return attention_cost(query, key, value, attn_bias, is_causal)


def backward_cost(query: TensorSpec, key: TensorSpec, value: TensorSpec, causal: bool) -> Cost:
    """dV, dP, dQ, dK: four products where the forward pass had two.

    A fused kernel has not kept the scores and makes them again: Q·Kᵀ, a fifth product. That is
    its algorithm's choice, like a checkpoint's, and no part of the derivative; the note tells it.
    """
    forward = attention_cost(query, key, value, None, causal)
    again = forward.macs * query.shape[-1] // (query.shape[-1] + value.shape[-1])
    return Cost(
        2 * forward.macs,
        2 * forward.ops,
        masked_macs=2 * forward.masked_macs,
        note=f"the kernel recomputes its scores: {again} MACs more",
    )


@rule(
    "aten._scaled_dot_product_flash_attention_backward",
    "aten._scaled_dot_product_flash_attention_for_cpu_backward",
    "aten._scaled_dot_product_efficient_attention_backward",
    "aten._scaled_dot_product_cudnn_attention_backward",
    "aten._scaled_dot_product_fused_attention_overrideable_backward",
    family=FAMILY,
)
def attention_backward(
    grad: TensorSpec, query: TensorSpec, key: TensorSpec, value: TensorSpec, *args: Any,
    is_causal: bool = False, out: Any, **kwargs: Any,
) -> Cost:  # fmt: skip
    """The backward of every fused kernel; ``is_causal`` is the one flag among their arguments."""
    flags = [a for a in args if isinstance(a, bool)]
    return backward_cost(query, key, value, flags[-1] if flags else is_causal)


@rule("aten._native_multi_head_attention", family=FAMILY)
def native_multi_head_attention(
    query: TensorSpec,
    key: TensorSpec,
    value: TensorSpec,
    embed_dim: Dim,
    num_heads: Dim,
    qkv_weight: TensorSpec,
    qkv_bias: TensorSpec,
    proj_weight: TensorSpec,
    proj_bias: TensorSpec,
    mask: TensorSpec | None = None,
    need_weights: bool = True,
    average_attn_weights: bool = True,
    mask_type: int | None = None,
    *,
    out: Any,
) -> Cost:
    """The inference fast path of ``nn.MultiheadAttention``: (N, L, E) in and out."""
    batch, length, width = query.shape
    source = key.shape[1]
    projections = batch * (2 * length + 2 * source) * width * embed_dim
    scores = batch * num_heads * length * source
    macs = projections + 2 * batch * length * source * embed_dim
    biases = batch * (2 * length + 2 * source) * embed_dim
    return Cost(macs, biases + scores * (SOFTMAX_OPS + 1 + int(mask is not None)))


@rule("aten._transformer_encoder_layer_fwd", family=FAMILY)
def transformer_encoder_layer(
    src: TensorSpec, embed_dim: Dim, num_heads: Dim, qkv_weight: TensorSpec, qkv_bias: TensorSpec,
    proj_weight: TensorSpec, proj_bias: TensorSpec, use_gelu: bool, *args: Any, out: TensorSpec,
    **kwargs: Any,
) -> Cost:  # fmt: skip
    """The inference fast path of ``nn.TransformerEncoderLayer``: attention, two norms, two linears.

    The feed-forward width is read from its first weight.
    """
    feed_forward = next(a for a in args if isinstance(a, TensorSpec) and a.ndim == 2).shape[0]
    batch, length, _ = src.shape
    tokens = batch * length
    scores = batch * num_heads * length * length
    macs = tokens * (4 * embed_dim * embed_dim + 2 * embed_dim * feed_forward)
    macs = macs + 2 * tokens * length * embed_dim
    norms = 2 * 7 * tokens * embed_dim
    activation = 5 if use_gelu else 1
    # biases of five projections of width E and one of the wider, two residual sums
    ops = tokens * (7 * embed_dim + (1 + activation) * feed_forward)
    ops = ops + norms + scores * (SOFTMAX_OPS + 1)
    return Cost(macs, ops)


@rule("higher_order.flex_attention", family=FAMILY)
def flex_attention(
    query: TensorSpec, key: TensorSpec, value: TensorSpec, *args: Any, out: Any, **kwargs: Any
) -> Cost:
    """The full product; which blocks a mask leaves out is data. ``score_mod`` is not counted."""
    cost = attention_cost(query, key, value, None, False)
    return Cost(cost.macs, cost.ops, note="the full product; the score function is not counted")
