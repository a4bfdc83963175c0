"""Where a measured latency goes, from the ideal roof up: five parts that add up to it.

The floor is that of the whole network under the roofline (Williams, Waterman and Patterson, 2009):
all MACs at the peak, or each byte of input, output and weight once through main memory, whichever
takes longer. The other parts say what a run takes beyond that, and why.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from costmodel.errors import CostModelError
from costmodel.execution import kernels_of
from costmodel.execution.formats import AMP
from costmodel.execution.kernel import Kernel
from costmodel.hardware import peak
from costmodel.prediction import Prediction
from costmodel.setting import setting
from costmodel.table import CostTable


@dataclass(frozen=True, slots=True)
class Gap:
    """Seconds of a measured run by cause; the parts add up to ``measured_s``.

    - ``floor_s``: the network under the roofline. ``floor`` says whether ``compute`` or ``memory``
      sets it.
    - ``traffic_s``: each kernel on its own under the roofline, beyond the floor: what is written
      only to be read again, and what cannot overlap between kernels.
    - ``overhead_s``: the predicted cost of issuing kernels.
    - ``efficiency_s``: what the prediction has beyond those, as no kernel reaches the roof.
      Negative where caches serve what the roofline takes from main memory.
    - ``rest_s``: measured less predicted, negative where the prediction is too slow.
    """

    measured_s: float
    predicted_s: float
    floor: str
    floor_s: float
    traffic_s: float
    overhead_s: float
    efficiency_s: float
    rest_s: float

    @property
    def parts(self) -> Mapping[str, float]:
        """Seconds by the name of the part, in order."""
        return {
            f"compulsory floor ({self.floor})": self.floor_s,
            "unfused traffic": self.traffic_s,
            "overhead": self.overhead_s,
            "lower efficiency": self.efficiency_s,
            "the rest": self.rest_s,
        }

    def to_dict(self) -> dict[str, Any]:
        """The ``gap`` object of ``analyze --format json``."""
        return {name: getattr(self, name) for name in self.__slots__}


def gap(table: CostTable, prediction: Prediction, measured_s: float) -> Gap:
    """The parts of ``measured_s``, one run of the table's network in the prediction's setting.

    Raises `CostModelError` for a time that is not positive.
    """
    if not (math.isfinite(measured_s) and measured_s > 0):
        raise CostModelError(f"a measured latency of {measured_s:g} s is none; give milliseconds")
    chosen = setting(
        prediction.hw, dtype=prediction.dtype, execution=prediction.execution,
        layout=prediction.layout, threads=prediction.threads,
    )  # fmt: skip
    engine = chosen.profile.engines[chosen.engine]
    memory = getattr(engine, "memory", None) or chosen.profile.memory
    # Runtimes may compute in a shorter format, and add a word on how.
    dtype: Any = AMP.get(chosen.format, chosen.format.partition("-")[0])
    rate = peak(chosen.profile, chosen.engine, dtype, chosen.threads)
    bandwidth = memory.gb_per_s * 1e9
    kernels = kernels_of(
        table.rows, chosen.execution, chosen.format, prediction.batch, chosen.lanes
    )
    compute = [2 * kernel.macs / rate for kernel in kernels]
    traffic = [kernel.nbytes / bandwidth for kernel in kernels]
    floors = {"compute": sum(compute), "memory": compulsory_bytes(kernels) / bandwidth}
    limit = max(floors, key=floors.__getitem__)
    alone = sum(map(max, compute, traffic))
    overhead = sum(min(kernel.overhead_s, kernel.latency_s) for kernel in prediction.kernels)
    return Gap(
        measured_s=measured_s,
        predicted_s=prediction.latency_s,
        floor=limit,
        floor_s=floors[limit],
        traffic_s=alone - floors[limit],
        overhead_s=overhead,
        efficiency_s=prediction.latency_s - alone - overhead,
        rest_s=measured_s - prediction.latency_s,
    )


def compulsory_bytes(kernels: Sequence[Kernel]) -> int:
    """Bytes that a run moves however it is fused: what no kernel made, what none reads again.

    A storage counts once: as read if its first use is a read, as written if its last one is a
    write.
    """
    read: dict[int, int] = {}
    written: dict[int, int] = {}
    made: set[int] = set()
    for kernel in kernels:
        for access in kernel.reads:
            if access.storage not in made:
                read[access.storage] = max(read.get(access.storage, 0), access.nbytes)
            written.pop(access.storage, None)
        for access in kernel.writes:
            made.add(access.storage)
            written[access.storage] = access.nbytes
    return sum(read.values()) + sum(written.values())
