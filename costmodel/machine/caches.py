"""Where a kernel finds its operands: reuse distance along the schedule.

The reuse distance of an access is the number of bytes that the run touches between two uses of the
same tensor, its own included (Mattson et al., "Evaluation techniques for storage hierarchies", IBM
Systems Journal 1970): a cache with least-recently-used replacement still holds what is no further
away than its capacity. A network runs again and again, so that the first use of a weight follows
the last use in the run before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from costmodel.execution.kernel import Kernel
from costmodel.machine.times import Array


@dataclass(frozen=True)
class Touches:
    """Every access of a run: the kernel that makes it, its bytes, and how far away they are.

    ``since``: bytes that moved since the run last used the tensor, infinite where it did not;
    ``stretch``: by how much other traffic, of which no tensor is known, adds to them. What the run
    did not use before is a footprint away: ``weights``, all that the run brings in, and
    ``working``, the largest kernel's share of the rest. ``bounded``: nothing is further away.
    ``left``: bytes that moved after each storage was last used, until the run's end. ``returned``:
    share of the bytes that main memory, when they come from there, gets back.
    """

    kernel: np.ndarray
    nbytes: Array
    since: Array
    weight: np.ndarray
    weights: Array | float
    working: Array | float
    stretch: Array | float = 1.0
    bounded: bool = True
    returned: Array | float = 0.0
    left: Mapping[int, float] = field(default_factory=dict)

    @property
    def footprint(self) -> Array | float:
        """Bytes between a use in one run and the first in the next."""
        return self.weights + self.working

    @property
    def distance(self) -> Array:
        """The reuse distance of every access in bytes."""
        far = np.where(np.isinf(self.since), self.footprint, self.since * self.stretch)
        return np.minimum(far, self.footprint) if self.bounded else far


def touches(kernels: Sequence[Kernel], before: Mapping[int, float] | None = None) -> Touches:
    """The accesses of one run among many equal ones, in schedule order.

    ``before``: bytes that moved since each storage was last used, where that was ahead of
    ``kernels``.
    """
    starts = np.concatenate([[0.0], np.cumsum([float(k.nbytes) for k in kernels])])
    last = {storage: -moved for storage, moved in (before or {}).items()}
    where, nbytes, since, weight = [], [], [], []
    for index, kernel in enumerate(kernels):
        for access in kernel.reads:
            where.append(index)
            nbytes.append(float(access.nbytes))
            far = starts[index] - last.get(access.storage, -np.inf)
            since.append(max(far, float(access.nbytes)))
            weight.append(access.weight)
            last[access.storage] = starts[index]
        for access in kernel.writes:
            where.append(index)
            nbytes.append(float(access.nbytes))
            # Allocators hand out what was freed last: it is as far away as this kernel's traffic.
            since.append(float(kernel.nbytes))
            weight.append(False)
            last[access.storage] = starts[index]
    weights, working = footprint(kernels)
    return Touches(
        np.array(where, int), np.array(nbytes), np.array(since), np.array(weight, bool),
        weights, working, left={storage: starts[-1] - at for storage, at in last.items()},
    )  # fmt: skip


def hits(distance: Array, capacity: float) -> Array:
    """The share of each access that a cache of ``capacity`` bytes still holds.

    All of it up to the capacity, none from twice the capacity on, linear between: replacement is
    not exactly least recently used.
    """
    if capacity <= 0:
        return np.zeros_like(distance)
    share: Array = np.clip(2.0 - distance / capacity, 0.0, 1.0)
    return share


@dataclass(frozen=True)
class Levels:
    """Where a CPU finds its operands: the second-level caches, the third, main memory.

    ``l2`` and ``l3`` are bytes that all cores together hold, ``rates`` bytes/s from each of the
    three.
    """

    l2: float
    l3: float
    rates: tuple[float, float, float]

    def shares(self, distance: Array) -> Array:
        """The part of each access that comes from each level, a row a level."""
        in_l2 = hits(distance, self.l2)
        in_caches = np.maximum(hits(distance, self.l2 + self.l3), in_l2)
        return np.array((in_l2, in_caches - in_l2, 1.0 - in_caches))

    def seconds(self, distance: Array, returned: Array | float = 0.0) -> Array:
        """Seconds a byte at each distance; of those from main memory a share is ``returned``."""
        by_level = self.by_level(distance, returned)
        found: Array = by_level.sum(axis=0)
        return found

    def by_level(self, distance: Array, returned: Array | float = 0.0) -> Array:
        """The same level by level, a row a level."""
        found: Array = self.shares(distance) / np.array(self.rates)[:, None]
        found[-1] *= 1.0 + returned
        return found

    @property
    def corners(self) -> list[float]:
        """Distances between which `seconds` is linear; from the last on it is constant."""
        caches = (self.l2, self.l2 + self.l3)
        return sorted({0.0, *caches, *(2 * capacity for capacity in caches)})


def footprint(kernels: Sequence[Kernel]) -> tuple[float, float]:
    """Bytes of all weights that one run touches, and of the largest kernel's activations."""
    weights: dict[int, int] = {}
    live = 0
    for kernel in kernels:
        moving = 0
        for access in (*kernel.reads, *kernel.writes):
            if access.weight:
                weights[access.storage] = max(weights.get(access.storage, 0), access.nbytes)
            else:
                moving += access.nbytes
        live = max(live, moving)
    return float(sum(weights.values())), float(live)
