"""What the latency of a CPU's kernels is made of: arithmetic, traffic by reuse distance, overhead.

Both models of CPUs say what a kernel asks for; how that adds up is the same: a byte costs what the
level costs in which its distance finds it, and a part of the shorter of arithmetic and traffic
hides behind the longer one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from costmodel.machine.caches import Levels, Touches
from costmodel.machine.times import Array, Times


@dataclass(frozen=True)
class Parts:
    """Arrays over kernels: ``compute`` and ``overhead`` in seconds, and ``near``, the seconds of
    traffic between caches that no tensor's distance tells; ``touched`` is all other traffic.
    ``hidden`` is the share of the shorter of arithmetic and traffic that the longer one hides.
    """

    compute: Array
    overhead: Array
    near: Array
    touched: Touches
    levels: Levels
    hidden: float

    def without(self, inside: np.ndarray) -> Parts:
        """CPU libraries do inside the kernel before what GPU libraries make a pass of (``inside``,
        a mask over kernels): it takes no time, and what it touches has been touched."""
        if not inside.any():
            return self
        touched = self.touched
        paid = np.where(inside[touched.kernel], 0.0, touched.nbytes)
        compute, overhead, near = (
            np.where(inside, 0.0, seconds) for seconds in (self.compute, self.overhead, self.near)
        )
        return replace(
            self, compute=compute, overhead=overhead, near=near,
            touched=replace(touched, nbytes=paid),
        )  # fmt: skip

    @property
    def by_level(self) -> Array:
        """Seconds of traffic from each level, a row a level."""
        touched, count = self.touched, len(self.compute)
        found = np.array([
            np.bincount(touched.kernel, touched.nbytes * seconds, count)
            for seconds in self.levels.by_level(touched.distance, touched.returned)
        ])  # fmt: skip
        found[0] += self.near
        return found

    def latency(self, memory: Array) -> Array:
        """Seconds of every kernel whose traffic takes ``memory``."""
        hidden = self.hidden * np.minimum(self.compute, memory)
        found: Array = self.compute + memory - hidden + self.overhead
        return found

    def times(self) -> Times:
        """The time of every kernel."""
        per_level = self.by_level
        memory = per_level.sum(axis=0)
        names = np.array(("l2", "l3", "dram"))
        level = tuple(str(name) for name in names[np.argmax(per_level, axis=0)])
        return Times(self.latency(memory), self.compute, memory, self.overhead, level)


#: Constants by name -> the parts of one run's times.
Parting = Callable[[Mapping[str, float]], Parts]
