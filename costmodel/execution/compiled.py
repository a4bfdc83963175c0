"""torch.compile with inductor: vendor kernels for products, everything else fused around them.

Pointwise ops, casts, copies and reductions that feed one another become one kernel; what only
they use never reaches memory. Convolutions, matrix products and attention stay calls into the
vendor's library, so that a batch norm or activation after a convolution reads its output once
more (inductor without freezing folds nothing into weights).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from costmodel.execution import compiled_cpu, eager
from costmodel.execution.formats import BYTES
from costmodel.execution.kernel import Access, Kernel, nbytes
from costmodel.rules.copies import parts_of
from costmodel.table import Row

DTYPES = eager.DTYPES
engine_on = eager.engine_on
FRAMEWORK = True
#: It writes other loops for CPUs.
TAKES_LANES = True
#: Whose measured constants serve where none were measured: it calls the same libraries.
CALLS_LIBRARIES_OF = "eager"
#: Inductor writes its own loops for all but products.
GENERATED = True
#: Norms whose root and division inductor takes for every element, eager for every channel or row.
_ROOTED = {"batch_norm", "normalization"}
#: Families that inductor leaves to a library, or starts a kernel of their own for.
_OPAQUE = {"sorting", "fft", "embedding", "random", "linalg", "recurrent"}
#: What one FLOP of a convolution takes in channels-last order, relative to channels-first, as
#: inductor assumes for inference (torch/_inductor/graph.py, ``decide_layout_opt``).
_CHANNELS_LAST = {"grouped": 1.358, "widening": 0.725, "small": 0.783, "other": 0.823}
_SMALL = 64
#: Parts of an op that only prepare an operand, as eager mode names them.
_COPYING = ("cast", "contiguous")
#: The part of a norm that its loop over the same values does first, from a cache.
_MEASURING = ".moments"
#: Tensors that a GPU's loop puts one after another itself (``max_pointwise_cat_inputs`` in
#: torch/_inductor/config.py).
_PARTS = 8


@dataclass(frozen=True, slots=True)
class _Group:
    """Kernels fused so far; a product's group takes no others."""

    members: list[Kernel]
    open: bool


def kernels(rows: Sequence[Row], dtype: str, lanes: int = 0) -> list[Kernel]:
    """The kernels of one compiled run, in order.

    ``lanes``: fp32 values of a vector of the x86 cores; others, 0, get the loops of a GPU.
    """
    plain = [
        replace(kernel, walk=None, turned=False)
        for _, kernel in eager.launches(rows, dtype)
        if not kernel.names[0].endswith(_MEASURING)
    ]
    if not lanes:
        return fused(plain, _wholes(rows, cpu=False))
    inlined = compiled_cpu.look_ups(rows)
    loops = fused(compiled_cpu.ordered(plain, rows), _wholes(rows, cpu=True), inlined)
    return [compiled_cpu.looking_up(loop, inlined) for loop in loops]


def _wholes(rows: Sequence[Row], cpu: bool) -> frozenset[str]:
    """The ops whose result is read by another loop than the one that puts it together.

    On a CPU a concatenation is a loop for each of its parts, which writes it where the whole will
    lie; on a GPU parts are told apart inside the reader's loop if they are few (``cat`` in
    torch/_inductor/lowering.py).
    """
    most = 1 if cpu else _PARTS
    return frozenset(row.op.name for row in rows if parts_of(row.op) > most)


def fused(
    launched: Sequence[Kernel], wholes: Collection[str], inlined: Collection[str] = ()
) -> list[Kernel]:
    """The kernels that inductor makes of those that eager mode launches; ``inlined``: look-ups that
    are loops like others."""
    own = [_generated(kernel) for kernel in launched]
    groups = _grouped(_constant_first(_copies_apart(own)), wholes, inlined)
    last_reader = _last_readers(groups)
    return [_merged(group, index, last_reader) for index, group in enumerate(groups)]


def _copies_apart(launched: Sequence[Kernel]) -> list[Kernel]:
    """Casts and copies that an op makes of its operands, in memory of their own.

    The tensor itself stays as it is for its other readers; only the op reads the copy.
    """
    found: list[Kernel] = []
    copies: dict[int, int] = {}
    owner = ""
    for kernel in launched:
        op, _, part = kernel.names[0].rpartition(".")
        op = op if part in _COPYING else kernel.names[0]
        if not owner or not f"{kernel.names[0]}.".startswith(f"{owner}."):
            owner, copies = op, {}
        reads = tuple(replace(a, storage=copies.get(a.storage, a.storage)) for a in kernel.reads)
        writes = kernel.writes
        if part in _COPYING and not kernel.reads[0].weight and _over_itself(kernel):
            source = kernel.reads[0].storage
            copies[source] = -2 - source  # no tensor has it: theirs count from -1
            writes = tuple(replace(a, storage=copies[source]) for a in writes)
        found.append(replace(kernel, reads=reads, writes=writes))
    return found


def _over_itself(kernel: Kernel) -> bool:
    """Whether a copy goes by the storage of its source; those that a model asks for do not."""
    return kernel.writes[0].storage == kernel.reads[0].storage


def _constant_first(launched: Sequence[Kernel]) -> list[Kernel]:
    """Kernels that read nothing but weights go first, so that none waits for them later."""
    made: set[int] = set()
    first, rest = [], []
    for kernel in launched:
        if all(access.weight or access.storage in made for access in kernel.reads):
            made.update(access.storage for access in kernel.writes)
            first.append(kernel)
        else:
            rest.append(kernel)
    return [*first, *rest]


def _generated(kernel: Kernel) -> Kernel:
    """A kernel as inductor writes it: no branches on data, roots inside its loops, windows
    unfolded as they are read, and resampling with a thread for each element, where PyTorch's own
    walks over maps."""
    if kernel.unit == "matrix":
        return kernel
    rooted = kernel.family in _ROOTED and kernel.ops > 0
    roots = int(nbytes(kernel.writes) / BYTES[kernel.dtype]) if rooted else 0
    slow = kernel.transcendentals + roots
    indexed = kernel.indexed and kernel.family in _OPAQUE
    return replace(kernel, surprises=0, serial=0, blocks=0, indexed=indexed, transcendentals=slow)


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


def _grouped(
    launched: Sequence[Kernel], wholes: Collection[str], inlined: Collection[str]
) -> list[_Group]:
    """Kernels put into the youngest group that feeds them, if that one is open.

    A group that feeds a kernel and that nobody else has read yet waits for it: inductor computes
    pointwise ops where they are used. Whatever else a kernel reads was made by an older group, so
    that groups never wait for one another in a circle and may run in the order of their places.
    """
    groups: list[_Group] = []
    maker: dict[int, int] = {}
    readers: dict[int, set[int]] = {}
    for kernel in launched:
        sources = sorted({maker[a.storage] for a in kernel.reads if a.storage in maker})
        loop = kernel.family not in _OPAQUE or kernel.names[0] in inlined
        fusible = kernel.unit != "matrix" and loop
        home = sources[-1] if sources else -1
        if not fusible or home < 0 or not groups[home].open:
            home = len(groups)
            groups.append(_Group([], fusible))
        waiting = [i for i in sources if i != home and groups[i].open and not readers.get(i)]
        if fusible:
            _move(waiting, home, groups, maker, readers)
        for index in sources:
            if index != home and groups[index].members:
                readers.setdefault(index, set()).add(home)
        groups[home].members.append(kernel)
        if kernel.names[0] in wholes:
            groups[home] = replace(groups[home], open=False)
        for access in kernel.writes:
            maker[access.storage] = home
    return [group for group in groups if group.members]


def _move(
    waiting: Sequence[int],
    home: int,
    groups: Sequence[_Group],
    maker: dict[int, int],
    readers: dict[int, set[int]],
) -> None:
    """Put the members of groups in front of those of ``home``."""
    moved = [kernel for index in waiting for kernel in groups[index].members]
    groups[home].members[:0] = moved
    for index in waiting:
        groups[index].members.clear()
    for kernel in moved:
        for access in kernel.writes:
            if maker[access.storage] in waiting:
                maker[access.storage] = home
    for found in readers.values():
        if not found.isdisjoint(waiting):
            found.difference_update(waiting)
            found.add(home)


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
        turned=any(kernel.turned for kernel in group.members),
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
