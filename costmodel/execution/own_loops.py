"""What the loops that PyTorch has on a CPU take, oneDNN's among them; compilers write others."""

from __future__ import annotations

from dataclasses import replace

from costmodel.execution.kernel import Kernel
from costmodel.execution.walk import Walk, dense, rearranges, walk_of
from costmodel.ir import TensorSpec
from costmodel.rules.copies import copies
from costmodel.rules.geometry import Geometry
from costmodel.rules.loops import GELU, sigmoids, sums_by_output
from costmodel.table import Row

#: Families of ops that are loops over elements.
_LOOPS = ("elementwise", "activation")
#: Sigmoids whose time oneDNN takes for the error function of a GELU, beyond what a relu takes: 1.7
#: in the median of maps of 0.2 and 1.2 million elements on eight machines, half of them 1.4 to 2.0.
_SIGMOIDS = {GELU: 2}


def by_own_loops(row: Row, kernel: Kernel) -> Kernel:
    """A kernel with what its op takes in those loops; what goes before an op has that already.

    A product's results trickle out beside its arithmetic, wherever they go.
    """
    op, kernel = row.op, replace(kernel, scattered=kernel.unit != "matrix")
    if kernel.names != (op.name,):
        return kernel
    slow = kernel.transcendentals * sigmoids(op, _SIGMOIDS)
    kernel = replace(kernel, transcendentals=slow)
    if row.family == "attention" and kernel.geometry is not None:
        kernel = replace(kernel, rows=kernel.geometry.groups * kernel.geometry.m)
    return replace(kernel, walk=loop_of(row, kernel.geometry))


def loop_of(row: Row, g: Geometry | None) -> Walk | None:
    """How the op meets its operands; a convolution copies a map that is not dense first."""
    op = row.op
    if not op.inputs or not op.outputs:
        return None
    source = op.inputs[0]
    convolves = g is not None and g.kind in ("conv", "depthwise") and rearranges(op)
    if convolves or sums_by_output(op):
        return walk_of((source,), dense(source))
    if row.family not in _LOOPS and not copies(op):
        return None
    sources = [spec for spec in op.inputs if _broadcasts(spec, op.out)]
    return walk_of(sources, op.out) if sources else None


def _broadcasts(spec: TensorSpec, out: TensorSpec) -> bool:
    pairs = zip(reversed(spec.shape), reversed(out.shape), strict=False)
    return spec.ndim <= out.ndim and all(a in (1, b) for a, b in pairs)
