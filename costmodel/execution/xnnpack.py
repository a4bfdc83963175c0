"""ExecuTorch with its XNNPACK delegate: the CPU kernels that TensorFlow Lite runs on, too.

What XNNPACK does not take (backends/xnnpack/partition/config) stays with ExecuTorch's portable
kernels, many of which find the place of every element that they read by dividing. Behind each of
them XNNPACK is called anew. Maps have their channels last inside XNNPACK and first outside, so that
one which a portable kernel splits, or only renames, is put into the other order before and after.

Attention is taken apart: its scores are compared with minus infinity, and rows of nothing else are
set to zero, in four portable kernels (``_safe_softmax`` of ATen).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from costmodel.execution.fusion import Group, fused
from costmodel.execution.kernel import Access, Kernel, nbytes
from costmodel.execution.tflite import DTYPES, FUSING, format_on, kernel_of
from costmodel.hardware.peaks import cpu_of
from costmodel.hardware.schema import Profile
from costmodel.ir import Op
from costmodel.rules.attention import ATTENTION
from costmodel.rules.copies import RENAMES, REPEATS, SPLITS
from costmodel.rules.interpolation import NEAREST_MAPS
from costmodel.rules.pooling import averages_border
from costmodel.rules.reduction import VECTOR_NORMS
from costmodel.table import Row

#: Dimensions of a batch of maps.
_MAP = 4
#: Views that ExecuTorch copies with kernels of its own.
_PORTABLE = SPLITS | RENAMES
_COPIED = _PORTABLE | REPEATS
_FUSING = replace(FUSING, copied=_COPIED)
#: Portable kernels, and what an element takes in them beside one whose place is computed. On a
#: Zen 4 at 3.4 GHz those of pooling took 12 ns; the power in a norm 9, an element that is repeated
#: 5, one of attention scores 12 (7 to choose, 3 to compare, 2 for the rest), of other ops 1 to 2.
_SHARES = {
    **dict.fromkeys(VECTOR_NORMS, 0.75),
    **dict.fromkeys(REPEATS, 0.4),
    **dict.fromkeys(NEAREST_MAPS, 0.2),
    **dict.fromkeys(ATTENTION, 1.0),
}
#: Families that are portable and read what they read in sequence.
_PLAIN = ("normalization", "reduction")
#: A call of XNNPACK takes as long as this many of its kernels: 12 us on the same machine.
_CALL = 8
#: Storages of the copies count down from here.
_OWN = -(10**9)


def engine_on(_dtype: str, profile: Profile, engine: str) -> str:
    """The CPU, whatever was asked for: XNNPACK has no kernels for another engine."""
    return cpu_of(profile, engine, "xnnpack runs on the CPU")


def kernels(rows: Sequence[Row], dtype: str) -> list[Kernel]:
    """The kernels of one run."""
    return [kernel for group in fused(rows, _FUSING) for kernel in _kernels(group, dtype)]


def _kernels(group: Group, dtype: str) -> Iterator[Kernel]:
    kernel, op = kernel_of(group, dtype), group.head.op
    placed = _placed(kernel, op)
    if placed:
        kernel = replace(kernel, remapped=placed, scalars=0)
    if placed or kernel.family in _PLAIN or op.target in _COPIED:
        kernel = replace(kernel, dispatches=1 + _CALL)
    if op.target in _PORTABLE and op.inputs[0].ndim == _MAP:
        yield from _outside(kernel)
    else:
        yield kernel


def _placed(kernel: Kernel, op: Op) -> int:
    """Elements whose places a portable kernel computes, or what it does to others in such units."""
    if averages_border(op):
        return kernel.ops
    share, g = _SHARES.get(op.target, 0.0), kernel.geometry
    if not share:
        return 0
    read, made = int(op.inputs[0].numel), int(op.out.numel)
    if op.target in REPEATS and made == read:
        return 0  # nothing is repeated, so that it is copied as it lies
    return round(share * (g.groups * g.m * g.n if g else max(read, made)))


def _outside(copy: Kernel) -> Iterator[Kernel]:
    """A copy of maps, between copies into the order that it takes and back."""
    (name,), (read,), size = copy.names, copy.reads, nbytes(copy.writes)
    before, after = (Access(_OWN - 2 * read.storage - i, size) for i in range(2))
    turn = replace(copy, strided=True, dispatches=1)
    yield replace(turn, names=(f"{name}.leave",), writes=(before,))
    yield replace(copy, reads=(before,), writes=(after,))
    yield replace(turn, names=(f"{name}.enter",), reads=(after,))


__all__ = ["DTYPES", "FUSING", "engine_on", "format_on", "kernels"]
