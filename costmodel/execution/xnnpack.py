"""ExecuTorch with its XNNPACK delegate: the CPU kernels that TensorFlow Lite runs on, too.

What XNNPACK does not take stays with ExecuTorch's portable kernels, which find the place of every
element that they read by dividing: averages that count the zeros of a border (``AvgPoolingConfig``
in backends/xnnpack/partition/config/generic_node_configs.py refuses them). Maps have their channels
last inside XNNPACK and first outside, so that one which a portable kernel splits, or only renames,
is put into the other order before and after.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from costmodel.execution.fusion import Group, fused
from costmodel.execution.kernel import Access, Kernel, nbytes
from costmodel.execution.tflite import DTYPES, FUSING, format_on, kernel_of
from costmodel.hardware.peaks import cpu_of
from costmodel.hardware.schema import Profile
from costmodel.rules.copies import RENAMES, SPLITS
from costmodel.rules.pooling import averages_border
from costmodel.table import Row

#: Dimensions of a batch of maps.
_MAP = 4
#: Views that ExecuTorch copies with kernels of its own.
_PORTABLE = SPLITS | RENAMES
_FUSING = replace(FUSING, copied=_PORTABLE)
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
    if averages_border(op):
        yield replace(kernel, remapped=kernel.ops, scalars=0)
    elif op.target in _PORTABLE and op.inputs[0].ndim == _MAP:
        yield from _outside(kernel)
    else:
        yield kernel


def _outside(copy: Kernel) -> Iterator[Kernel]:
    """A copy of maps, between copies into the order that it takes and back."""
    (name,), (read,), size = copy.names, copy.reads, nbytes(copy.writes)
    before, after = (Access(_OWN - 2 * read.storage - i, size) for i in range(2))
    turn = replace(copy, strided=True)
    yield replace(turn, names=(f"{name}.leave",), writes=(before,))
    yield replace(copy, reads=(before,), writes=(after,))
    yield replace(turn, names=(f"{name}.enter",), reads=(after,))


__all__ = ["DTYPES", "FUSING", "engine_on", "format_on", "kernels"]
