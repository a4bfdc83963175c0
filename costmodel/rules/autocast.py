"""Which number format an op runs in under ``torch.autocast``: the framework's own op lists.

Source: PyTorch documentation, "Automatic Mixed Precision package", section "Autocast Op
Reference" (CUDA ops that autocast to float16, to float32, and to the widest input type).

timm's own layer and group norms have a mode that bypasses the list and stays in the low format
(``timm.layers.set_fast_norm``, timm/layers/fast_norm.py), off by default. It is assumed on where a
graph calls those layers: an inference from timm's published timings, in which networks of its group
norms are 44 % faster than casts to float32 allow and networks of ``torch.nn`` norms are not.
"""

from __future__ import annotations

from typing import Literal

from costmodel.ir import Op
from costmodel.rules.registry import family_of

Policy = Literal["lower", "float32", "widest", "input"]

_LOWER = {"matmul", "attention", "recurrent", "convolution", "pointwise", "depthwise", "grouped"}
_FLOAT32_FAMILIES = {"softmax", "loss"}
_FLOAT32 = {
    "aten.layer_norm", "aten.group_norm", "aten.rms_norm", "aten.native_layer_norm",
    "aten.native_group_norm", "aten.pow", "aten.exp", "aten.expm1", "aten.log", "aten.log10",
    "aten.log2", "aten.log1p", "aten.rsqrt", "aten.reciprocal", "aten.sum", "aten.prod",
    "aten.cumsum", "aten.cumprod", "aten.norm", "aten.linalg_vector_norm", "aten.dist",
    "aten.cosh", "aten.sinh", "aten.tan", "aten.acos", "aten.asin", "aten.erfinv",
    "aten.softplus", "aten.renorm", "aten.logsumexp", "aten.cosine_similarity", "aten.cdist",
}  # fmt: skip


#: Ops that take the format of their result as an argument, which autocast makes float32
#: (``AT_FORALL_FP32_SET_OPT_DTYPE`` in ATen/autocast_mode.h; a mean takes one, too).
_SOFTMAX = {"aten.softmax", "aten._softmax", "aten.log_softmax", "aten._log_softmax"}
_SUMS = {"aten.sum", "aten.prod", "aten.mean", "aten.linalg_vector_norm", "aten.norm"}
_OWN_DTYPE = _SOFTMAX | _SUMS | {"aten.cumsum", "aten.cumprod"}

#: Norms that timm's fast mode covers, and where the files of its layers are found.
_FAST_NORMS = {"aten.layer_norm", "aten.group_norm", "aten.rms_norm"}
_FAST_SOURCE = "timm/layers/norm"


def policy_of(op: Op) -> Policy:
    """How autocast treats ``op``."""
    family = family_of(op)
    if family in _LOWER or in_fast_norm(op):
        return "lower"
    if op.target in _FLOAT32 or family in _FLOAT32_FAMILIES:
        return "float32"
    return "input" if family == "batch_norm" else "widest"


def returns_float32(op: Op) -> bool:
    """Whether the call itself asks for float32: ``softmax(x, -1, dtype=torch.float32)``."""
    return op.target in _OWN_DTYPE and "float32" in (*op.args, *op.kwargs.values())


def widens_itself(op: Op, low: str) -> bool:
    """Whether a GPU's kernel reads ``low`` where it answers in float32, so that nothing is copied.

    Those of softmaxes do so for float16 only (``softmax`` in aten/src/ATen/native/SoftMax.cpp),
    reductions for both (``gpu_lowp_to_f32`` in ATen/native/ReduceOpsUtils.h).
    """
    return op.target in _SUMS or (op.target in _SOFTMAX and low == "fp16")


def in_fast_norm(op: Op) -> bool:
    """Whether ``op`` is a norm that one of timm's own layers calls."""
    return op.target in _FAST_NORMS and _FAST_SOURCE in (op.source or "")
