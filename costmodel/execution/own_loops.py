"""What the loops that PyTorch has on a CPU take, oneDNN's among them; compilers write others."""

from __future__ import annotations

from dataclasses import replace

from costmodel.execution.kernel import Kernel
from costmodel.execution.walk import Walk, dense, rearranges, walk_of
from costmodel.ir import TensorSpec
from costmodel.rules.loops import is_exact_gelu
from costmodel.table import Row

_CONVOLUTIONS = ("convolution", "pointwise", "depthwise", "grouped")
#: Families of ops that are loops over elements, and copies that are.
_LOOPS = ("elementwise", "activation")
_COPIES = ("aten.clone", "aten.copy", "aten._reshape_copy", "aten._to_copy")
#: Reductions that sum up one output after another, however their input lies
#: (``binary_kernel_reduce`` in aten/src/ATen/native/cpu/Reduce.h).
_BY_OUTPUT = ("aten.linalg_vector_norm", "aten.norm", "aten.var", "aten.std")
#: Sigmoids whose time oneDNN takes for the error function of a GELU, beyond what a relu takes: 1.5
#: to 2 on eight machines, 200,000 elements and more, on one thread.
_ERROR_FUNCTION = 2


def by_own_loops(row: Row, kernel: Kernel) -> Kernel:
    """A kernel with what its op takes in those loops; what goes before an op has that already."""
    op = row.op
    if kernel.names != (op.name,):
        return kernel
    if is_exact_gelu(op):
        kernel = replace(kernel, transcendentals=_ERROR_FUNCTION * kernel.transcendentals)
    if row.family == "attention" and kernel.geometry is not None:
        kernel = replace(kernel, rows=kernel.geometry.groups * kernel.geometry.m)
    return replace(kernel, walk=_walk_of(row))


def _walk_of(row: Row) -> Walk | None:
    """How the op meets its operands; a convolution copies a map that is not dense first."""
    op = row.op
    if not op.inputs or not op.outputs:
        return None
    source = op.inputs[0]
    if row.family in _CONVOLUTIONS:
        return walk_of((source,), dense(source)) if rearranges(op) else None
    if op.target in _BY_OUTPUT:
        return walk_of((source,), dense(source))
    if row.family not in _LOOPS and op.target.removesuffix("_") not in _COPIES:
        return None
    sources = [spec for spec in op.inputs if _broadcasts(spec, op.out)]
    return walk_of(sources, op.out) if sources else None


def _broadcasts(spec: TensorSpec, out: TensorSpec) -> bool:
    pairs = zip(reversed(spec.shape), reversed(out.shape), strict=False)
    return spec.ndim <= out.ndim and all(a in (1, b) for a, b in pairs)
