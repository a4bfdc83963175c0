"""Memory that a run takes from the system anew, because the allocator gave it back.

PyTorch asks the C library for every tensor on a CPU. glibc maps blocks above 32 MB for themselves
and unmaps them when they are freed. Others come from a heap, whose end goes back to the system as
soon as twice the largest block ever unmapped lies free there (``M_MMAP_THRESHOLD``,
``M_TRIM_THRESHOLD`` and how they grow: mallopt(3)). A run whose tensors together take more than
that grows the heap again each time; one that takes less never does. The first touch of every new
page costs a fault. What getrusage(2) counted for networks compiled by PyTorch 2.4: VGG-11 201,000
(217,000 by this rule), NF-ResNet-50 26,600 (25,100), Swin-B at 384 20,200 (19,700); but ResNetV2-50
of BiT 12,500 (29,900), PVT-v2-B1 9,300 (3,300), and ViTs, Swin-T and LeViT none (1,000 to 2,500):
below 10 MB, what compiling left free often serves instead.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from costmodel.execution.kernel import Kernel
from costmodel.machine.times import Array

#: Bytes of a page of x86.
PAGE = 4096
#: ``DEFAULT_MMAP_THRESHOLD_MAX``: blocks of more bytes never come from the heap.
MAPPED = 32 * 2**20
#: The heap is cut when this many times the largest block lies free at its end.
_CUT = 2


@dataclass(frozen=True)
class Blocks:
    """What the kernels of a run ask of the allocator, in bytes.

    ``mapped``: blocks that each kernel has mapped for itself; ``live``: all others while it runs;
    ``largest``: the largest of those.
    """

    mapped: Array
    live: Array
    largest: float

    @property
    def peak(self) -> float:
        """The most that is live."""
        return float(self.live.max(initial=0.0))

    @property
    def pages(self) -> Array:
        """Pages that each kernel is the first of a run to touch."""
        grown = np.diff(np.maximum.accumulate(self.live), prepend=0.0)
        found: Array = (self.mapped + grown * is_cut(self.peak, self.largest)) / PAGE
        return found


def is_cut(peak: Any, largest: Any) -> Any:
    """Whether a run gives the heap's end back, with ``peak`` bytes live at most and a ``largest``
    block: of numbers, or of arrays or symbols alike."""
    return peak > _CUT * largest


def page_seconds(constants: Mapping[str, float]) -> float:
    """What the first touch of a page costs; nothing where the runtime plans memory ahead."""
    return constants.get("page_ns", 0.0) * 1e-9


def blocks_of(
    kernels: Sequence[Kernel],
    packed: Array,
    copies: Array,
    entered: Mapping[int, int] | None = None,
    out: int = -1,
) -> Blocks:
    """The blocks of one run, from when a tensor is written until it is last used.

    ``packed``: bytes that each kernel packs its weights into while it runs, ``copies`` times over.
    Of a part of a run, ``entered`` are the bytes of storages made ahead of it, ``out`` is the one
    that it passes on.
    """
    size: dict[int, int] = dict(entered or {})
    first = dict.fromkeys(size, 0)
    last = dict(first)
    for index, kernel in enumerate(kernels):
        for access in kernel.writes:
            if not access.weight:
                first.setdefault(access.storage, index)
                size[access.storage] = max(size.get(access.storage, 0), access.nbytes)
        for access in (*kernel.reads, *kernel.writes):
            if access.storage in size:
                last[access.storage] = index
    if out in size:
        last[out] = len(kernels) - 1
    mapped = np.where(packed > MAPPED, packed * copies, 0.0)
    held = np.where(packed > MAPPED, 0.0, packed)
    change = np.zeros(len(kernels) + 1)
    largest = float(held.max(initial=0.0))
    # What takes the place of an operand is no block of its own.
    over = np.array([float(kernel.over) for kernel in kernels])
    for storage, nbytes in size.items():
        if nbytes <= MAPPED:
            largest = max(largest, float(nbytes))
            change[first[storage]] += nbytes
            change[last[storage] + 1] -= nbytes
        elif storage not in (entered or {}) and over[first[storage]] < nbytes:
            mapped[first[storage]] += nbytes
    over[over > MAPPED] = 0.0
    live = np.maximum(np.cumsum(change)[:-1] - over, 0.0) + held * copies
    return Blocks(mapped, live, largest)
