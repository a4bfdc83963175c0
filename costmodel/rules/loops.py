"""What the loops of an op ask beyond operations and bytes: slow functions, rows, scalar steps.

Counting says one operation for an exponential, a logarithm or an error function; a vector unit
that has no instruction for it takes ten to thirty. A norm or a softmax begins anew on every row.
"""

from __future__ import annotations

from collections.abc import Mapping

from costmodel.ir import Op
from costmodel.rules.registry import family_of

#: Evaluations for each output element, by op.
_EVALUATIONS = {
    "sigmoid": 1, "silu": 1, "gelu": 1, "gelu_tanh": 1, "tanh": 1, "glu": 1, "mish": 2,
    "softplus": 2, "elu": 1, "celu": 1, "selu": 1, "log_sigmoid": 2, "log_sigmoid_forward": 2,
    "special_expit": 1, "softmax": 1, "_softmax": 1, "_safe_softmax": 1, "log_softmax": 1,
    "_log_softmax": 1, "exp": 1, "exp2": 1, "expm1": 1, "log": 1, "log2": 1, "log10": 1,
    "log1p": 1, "logit": 1, "logaddexp": 2, "logaddexp2": 2, "pow": 1, "float_power": 1, "erf": 1,
    "erfc": 1, "erfinv": 1, "sin": 1, "cos": 1, "tan": 1, "asin": 1, "acos": 1, "atan": 1,
    "atan2": 1, "sinh": 1, "cosh": 1, "asinh": 1, "acosh": 1, "atanh": 1,
}  # fmt: skip
#: Exponents that are computed by multiplying, or by a root that the vector unit has.
_PRODUCTS = (0.5, 1, 2, 3)


def function_of(op: Op) -> str:
    """What ``op`` computes, whether in place or not; a GELU by its tanh approximation is another
    function than the exact one."""
    name = op.target.removesuffix("_").partition(".")[2]
    approximated = name == "gelu" and "tanh" in (*op.args[1:], op.kwargs.get("approximate"))
    return "gelu_tanh" if approximated else name


def transcendentals(op: Op) -> int:
    """Evaluations of transcendental functions in ``op``."""
    name = function_of(op)
    each = _EVALUATIONS.get(name, 0)
    if not each or (name == "pow" and len(op.args) > 1 and op.args[1] in _PRODUCTS):
        return 0
    return each * int(op.out.numel)


#: Functions of which libraries' code takes more or less time, as `function_of` calls them.
ERF, GELU, MISH, SOFTPLUS, TANH, TANH_GELU = (
    "erf", "gelu", "mish", "softplus", "tanh", "gelu_tanh",
)  # fmt: skip


def sigmoids(op: Op, taken: Mapping[str, int]) -> int:
    """Evaluations of a sigmoid that one of the function of ``op`` takes in a library's code, of
    which ``taken`` says what is not one."""
    return taken.get(function_of(op), 1)


#: Reductions that PyTorch sums up one output after another, however their input lies
#: (``binary_kernel_reduce`` in aten/src/ATen/native/cpu/Reduce.h): norms over a strided axis took
#: ten times as long as over the last one on a Zen 4, sums no longer.
_BY_OUTPUT = {"linalg_vector_norm", "norm"}


def sums_by_output(op: Op) -> bool:
    """Whether ``op`` walks all that goes into one output before the next."""
    return function_of(op) in _BY_OUTPUT


#: Families that reduce along the last dimensions and then walk the row once more.
_BY_ROW = {"normalization", "softmax"}


def rows(op: Op) -> int:
    """Rows that ``op`` normalises one by one: all but the last dimension of its output."""
    if family_of(op) not in _BY_ROW or not op.out.shape:
        return 0
    return int(op.out.numel) // max(int(op.out.shape[-1]), 1)


#: Families whose loops walk windows or indices, which compilers do not vectorise.
_SCALAR = {"pooling", "interpolation", "embedding", "sorting"}
#: Steps that the bounds of a pooling window take.
_WINDOW = 8


def scalars(op: Op, ops: int) -> int:
    """Those of the ``ops`` of an op that run one by one, not in vectors, and what begins a window.

    An average over whole maps is a plain sum.
    """
    family = family_of(op)
    if family not in _SCALAR or _of_whole_maps(op):
        return 0
    return ops + (_WINDOW * int(op.out.numel) if family == "pooling" else 0)


#: Ops that pick single numbers by index.
_LOOK_UPS = {"index", "_unsafe_index"}


def looks_up(op: Op) -> bool:
    """Whether ``op`` picks numbers by index from a table that the model holds."""
    return function_of(op) in _LOOK_UPS and op.inputs[0].kind in ("parameter", "buffer")


def surprises(op: Op, ops: int) -> int:
    """Branches of ``op`` that a processor guesses wrong, of ``ops`` operations.

    A maximum over n values in random order finds a new one after the first 1/2 + 1/3 + ... + 1/n
    times; each is a wrong guess on the way to storing it, and one on the way back to skipping.
    """
    if "max_pool" not in op.target or "unpool" in op.target:
        return 0
    windows = int(op.out.numel)
    new = sum(1 / i for i in range(2, ops // max(windows, 1) + 1))
    return round(2 * windows * new)


def _of_whole_maps(op: Op) -> bool:
    return "adaptive_avg_pool" in op.target and all(size == 1 for size in op.out.shape[2:])


#: Resampling whose CUDA kernels have a thread for each pixel of a map, which walks over the maps.
_MAPS_IN_TURN = {"upsample_linear1d", "upsample_bilinear2d", "upsample_trilinear3d",
                 "upsample_bicubic2d"}  # fmt: skip


def maps_in_turn(op: Op) -> int:
    """Maps (samples x channels) that one thread of PyTorch's CUDA kernel resamples in turn.

    0 where every element has its own thread. Source: ``upsample_bilinear2d_out_frame`` and its
    siblings in aten/src/ATen/native/cuda/UpSample*.cu; only the bilinear one has another kernel
    for channels-last, from 16 channels. The output has the order that the strides of the input
    suggest, dense or not: a view that cuts a class token off counts.
    """
    name = op.target.partition(".")[2]
    if name not in _MAPS_IN_TURN:
        return 0
    x = op.inputs[0]
    if name == "upsample_bilinear2d" and op.out.channels_last and int(x.shape[1]) >= 16:
        return 0
    return int(x.shape[0]) * int(x.shape[1])


#: ``im2col_kernel`` and ``col2im_batched_kernel`` in aten/src/ATen/native/cuda/im2col.cuh.
_INDEXED = {"im2col", "col2im"}


def indexed(op: Op) -> bool:
    """Whether threads of PyTorch's CUDA kernels divide their way to each element, to read it alone.

    Look-ups, and the unfolding of maps into windows and back.
    """
    return family_of(op) == "embedding" or op.target.partition(".")[2] in _INDEXED


_MEASURED_FIRST = {"group_norm", "native_group_norm"}


def measures_first(op: Op) -> bool:
    """Whether PyTorch's CUDA kernels read all of ``op``'s input for its moments, then once more.

    Source: ``GroupNormKernelImplInternal`` in aten/src/ATen/native/cuda/group_norm_kernel.cu.
    Layer norms find both in one block's reach, batch norms have theirs from training.
    """
    return op.target.partition(".")[2] in _MEASURED_FIRST


_BLOCK_PER_ROW = {"layer_norm", "native_layer_norm", "rms_norm", "_fused_rms_norm"}


def rows_in_blocks(op: Op) -> int:
    """Rows that PyTorch's CUDA kernel gives a block of threads each, however short they are.

    Source: ``launch_vectorized_layer_norm_kernel`` in
    aten/src/ATen/native/cuda/layer_norm_kernel.cu. Softmax packs short rows into warps.
    """
    return rows(op) if op.target.partition(".")[2] in _BLOCK_PER_ROW else 0
