"""Where a kernel finds its operands: reuse distance along the schedule.

The reuse distance of an access is the number of bytes that the run touches between two uses of the
same tensor, its own included (Mattson et al., "Evaluation techniques for storage hierarchies", IBM
Systems Journal 1970): a cache with least-recently-used replacement still holds what is no further
away than its capacity. A network runs again and again, so that the first use of a weight follows
the last use in the run before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from costmodel.execution.kernel import Kernel
from costmodel.machine.times import Array


@dataclass(frozen=True)
class Touches:
    """Every access of a run: the kernel that makes it, its bytes, its reuse distance in bytes."""

    kernel: np.ndarray
    nbytes: Array
    distance: Array
    weight: np.ndarray


def touches(kernels: Sequence[Kernel]) -> Touches:
    """The accesses of one run among many equal ones, in schedule order."""
    starts = np.concatenate([[0.0], np.cumsum([float(k.nbytes) for k in kernels])])
    footprint = _footprint(kernels)
    last: dict[int, float] = {}
    where, nbytes, distance, weight = [], [], [], []
    for index, kernel in enumerate(kernels):
        for access in kernel.reads:
            before = last.get(access.storage)
            far = footprint if before is None else min(starts[index] - before, footprint)
            where.append(index)
            nbytes.append(float(access.nbytes))
            distance.append(max(far, float(access.nbytes)))
            weight.append(access.weight)
            last[access.storage] = starts[index]
        for access in kernel.writes:
            where.append(index)
            nbytes.append(float(access.nbytes))
            # Allocators hand out what was freed last: it is as far away as this kernel's traffic.
            distance.append(float(kernel.nbytes))
            weight.append(False)
            last[access.storage] = starts[index]
    return Touches(
        np.array(where, int), np.array(nbytes), np.array(distance), np.array(weight, bool)
    )


def hits(distance: Array, capacity: float) -> Array:
    """The share of each access that a cache of ``capacity`` bytes still holds.

    All of it up to the capacity, none from twice the capacity on, linear between: replacement is
    not exactly least recently used.
    """
    if capacity <= 0:
        return np.zeros_like(distance)
    share: Array = np.clip(2.0 - distance / capacity, 0.0, 1.0)
    return share


def _footprint(kernels: Sequence[Kernel]) -> float:
    """Bytes that one run touches: all weights, and the largest kernel's activations."""
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
    return float(sum(weights.values()) + live)
