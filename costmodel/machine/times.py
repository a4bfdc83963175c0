"""The time of every kernel of a run, as arrays."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Times:
    """Seconds per kernel, in schedule order.

    ``latency`` is what each kernel adds to the run; ``compute`` and ``memory`` overlap within it;
    ``overhead`` is the part that is neither. ``level`` names the memory level that served most of
    the bytes. ``begin`` is what the run costs before any kernel, whichever comes first: seconds of
    the first one's overhead that are not its own.
    """

    latency: Array
    compute: Array
    memory: Array
    overhead: Array
    level: tuple[str, ...]
    begin: float = 0.0

    def later(self, seconds: Array) -> Times:
        """Those with ``seconds`` of overhead more for each kernel."""
        return replace(self, latency=self.latency + seconds, overhead=self.overhead + seconds)

    def begun(self, seconds: float) -> Times:
        """Those of a run that takes ``seconds`` besides its kernels."""
        first = np.zeros(len(self.latency))
        first[:1] = seconds
        return replace(self.later(first), begin=self.begin + seconds)

    def repeated(self, times: int) -> Times:
        """Those of as many runs, one after another."""
        return replace(
            self,
            latency=self.latency * times,
            compute=self.compute * times,
            memory=self.memory * times,
            overhead=self.overhead * times,
            begin=self.begin * times,
        )


def run_seconds(constants: Mapping[str, float]) -> float:
    """What a runtime takes once a run, to check inputs and hand over outputs; 0 if unknown."""
    return constants.get("run_us", 0.0) * 1e-6


#: Constants by name -> the times of one run: what does not depend on constants is worked out once.
Timer = Callable[[Mapping[str, float]], Times]
#: Constants by name -> the seconds of each of several runs.
Latencies = Callable[[Mapping[str, float]], Array]
