"""torch.compile with inductor: vendor kernels for products, everything else fused around them.

Pointwise ops, casts, copies and reductions that feed one another become one kernel; what only
they use never reaches memory. Convolutions, matrix products and attention stay calls into the
vendor's library, so that a batch norm or activation after a convolution reads its output once
more (inductor without freezing folds nothing into weights).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from costmodel.execution import eager
from costmodel.execution.formats import BYTES
from costmodel.execution.kernel import Access, Kernel, nbytes
from costmodel.table import Row

DTYPES = eager.DTYPES
FRAMEWORK = True
#: Whose measured constants serve where none were measured: it calls the same libraries.
CALLS_LIBRARIES_OF = "eager"
#: Inductor runs every convolution on a CPU so (torch/_inductor/graph.py, ``decide_layout_opt``),
#: and without freezing it copies weights into that order in every run.
CHANNELS_LAST_ON_CPU = True
#: Norms whose root and division inductor takes for every element, eager for every channel or row.
_ROOTED = {"batch_norm", "normalization"}
#: Families that inductor leaves to a library, or starts a kernel of their own for.
_OPAQUE = {"sorting", "fft", "embedding", "random", "linalg", "recurrent"}
#: What one FLOP of a convolution takes in channels-last order, relative to channels-first, as
#: inductor assumes for inference (torch/_inductor/graph.py, ``decide_layout_opt``).
_CHANNELS_LAST = {"grouped": 1.358, "widening": 0.725, "small": 0.783, "other": 0.823}
_SMALL = 64


@dataclass(frozen=True, slots=True)
class _Group:
    """Kernels fused so far; a product's group takes no others."""

    members: list[Kernel]
    open: bool


def kernels(rows: Sequence[Row], dtype: str) -> list[Kernel]:
    """The kernels of one compiled run, in order."""
    launched = [_generated(kernel) for kernel in eager.kernels(rows, dtype)]
    groups = _grouped(launched)
    last_reader = _last_readers(groups)
    return [_merged(group, index, last_reader) for index, group in enumerate(groups)]


def _generated(kernel: Kernel) -> Kernel:
    """A kernel as inductor writes it: without branches on data; roots inside its loops."""
    if kernel.unit == "matrix":
        return kernel
    rooted = kernel.family in _ROOTED and kernel.ops > 0
    roots = int(nbytes(kernel.writes) / BYTES[kernel.dtype]) if rooted else 0
    return replace(kernel, surprises=0, transcendentals=kernel.transcendentals + roots)


def layout(launched: Sequence[Kernel], asked: str) -> str:
    """The order in which inductor runs the convolutions: its own choice, by weighted FLOPs."""
    weighted = total = 0.0
    for kernel in launched:
        g = kernel.geometry
        if g is None or g.kind not in ("conv", "depthwise"):
            continue
        channels = g.groups * g.k / max(_product(g.taps), 1)
        outputs = g.groups * g.n
        if g.kind == "conv" and g.groups > 1:
            sort = "grouped"
        elif channels * 2 <= outputs and channels > 2:
            sort = "widening"
        elif channels <= _SMALL and outputs <= _SMALL:
            sort = "small"
        else:
            sort = "other"
        weighted += kernel.macs * _CHANNELS_LAST[sort]
        total += kernel.macs
    return "nhwc" if total and weighted <= total else asked


def _product(extents: Sequence[int]) -> int:
    product = 1
    for extent in extents:
        product *= extent
    return product


def _grouped(launched: Sequence[Kernel]) -> list[_Group]:
    """Kernels put into the youngest group that feeds them.

    Whatever else a kernel reads was made by an older group, so that groups never wait for one
    another in a circle and may run in the order of their first kernels.
    """
    groups: list[_Group] = []
    maker: dict[int, int] = {}
    for kernel in launched:
        home = max((maker.get(access.storage, -1) for access in kernel.reads), default=-1)
        fusible = kernel.unit != "matrix" and kernel.family not in _OPAQUE
        if not fusible or home < 0 or not groups[home].open:
            groups.append(_Group([], fusible))
            home = len(groups) - 1
        groups[home].members.append(kernel)
        for access in kernel.writes:
            maker[access.storage] = home
    return groups


def _last_readers(groups: Sequence[_Group]) -> dict[int, int]:
    last: dict[int, int] = {}
    for index, group in enumerate(groups):
        for kernel in group.members:
            for access in kernel.reads:
                last[access.storage] = index
    return last


def _merged(group: _Group, index: int, last_reader: dict[int, int]) -> Kernel:
    """One kernel: what comes from outside is read once, what goes outside written once."""
    if len(group.members) == 1:
        return _in_place(group.members[0], index, last_reader)
    made: set[int] = set()
    reads: dict[int, Access] = {}
    writes: dict[int, Access] = {}
    for kernel in group.members:
        for access in kernel.reads:
            if access.storage not in made:
                known = reads.get(access.storage)
                if known is None or known.nbytes < access.nbytes:
                    reads[access.storage] = access
        for access in kernel.writes:
            made.add(access.storage)
            writes[access.storage] = access
    final = group.members[-1].writes
    kept = [
        access
        for storage, access in writes.items()
        if last_reader.get(storage, index) > index or access in final
    ]
    main = max(group.members, key=lambda k: k.nbytes)
    merged = replace(
        main,
        names=tuple(name for kernel in group.members for name in kernel.names),
        unit="vector" if any(k.unit == "vector" for k in group.members) else "move",
        ops=sum(kernel.ops for kernel in group.members),
        reads=tuple(reads.values()),
        writes=tuple(kept),
        strided=any(kernel.strided for kernel in group.members),
        inside=all(kernel.inside for kernel in group.members),
        rows=sum(kernel.rows for kernel in group.members),
        transcendentals=sum(kernel.transcendentals for kernel in group.members),
        scalars=sum(kernel.scalars for kernel in group.members),
    )
    return _in_place(merged, index, last_reader)


def _in_place(kernel: Kernel, index: int, last_reader: dict[int, int]) -> Kernel:
    """The kernel writing where an operand of the same size ends, which inductor's loops do."""
    if kernel.unit == "matrix" or kernel.family in _OPAQUE:
        return kernel
    own = {access.storage for access in kernel.writes}
    ending = [
        access.nbytes
        for access in kernel.reads
        if not access.weight
        and access.storage not in own
        and last_reader.get(access.storage, index) <= index
    ]
    over = 0
    for access in kernel.writes:
        if access.nbytes in ending:
            ending.remove(access.nbytes)
            over += access.nbytes
    return replace(kernel, over=over)
