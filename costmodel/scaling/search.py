"""Which alpha, beta and gamma double the cost: of FLOPs, and of latency on a device.

The paper's grid search (arXiv:1905.11946, section 3.3) fixes phi = 1 and tries constants under
alpha·beta²·gamma² close to 2. Here every point of the grid is built, so that the exact MACs and the
predicted latency take the place of the nominal product.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from costmodel.roofline import predict
from costmodel.scaling import Constants, Progress, _devices
from costmodel.scaling.family import Family, shape

DEPTHS = (1.0, 1.1, 1.2, 1.3, 1.4, 1.6, 1.8, 2.0)
WIDTHS = (1.0, 1.1, 1.2, 1.3)
RESOLUTIONS = (1.0, 1.1, 1.15, 1.2, 1.3)


@dataclass(frozen=True, slots=True)
class Trial:
    """Growth over the base at phi = 1, rounding included."""

    constants: Constants
    macs: float
    latency: dict[str, float] = field(default_factory=dict)

    def growth(self, device: str | None) -> float:
        """Of latency on a device; of MACs without one."""
        return self.macs if device is None else self.latency[device]


@dataclass(frozen=True)
class Search:
    """All trials, and the devices that they were predicted on."""

    trials: tuple[Trial, ...]
    devices: tuple[str, ...]

    def doubling(self, device: str | None, count: int = 3) -> list[Trial]:
        """The trials whose growth is nearest to 2; of latency on ``device``, else of MACs.

        Constants that rounding makes the same network are told apart by their nominal factor.
        """

        def distance(trial: Trial) -> tuple[float, float]:
            return abs(trial.growth(device) - 2), abs(trial.constants.factor - 2)

        return sorted(self.trials, key=distance)[:count]

    def to_dict(self) -> dict[str, Any]:
        """For JSON: per device the best constants and what they do to MACs."""

        def plain(trial: Trial) -> dict[str, Any]:
            c = trial.constants
            return {
                "constants": [c.depth, c.width, c.resolution], "nominal_factor": c.factor,
                "macs": trial.macs, "latency": trial.latency,
            }  # fmt: skip

        return {
            "trials": len(self.trials),
            "macs": [plain(t) for t in self.doubling(None)],
            "latency": {d: [plain(t) for t in self.doubling(d)] for d in self.devices},
        }


def search(family: Family, hw: Sequence[str] = (), progress: Progress = lambda _: None) -> Search:
    """Build every point of the grid whose nominal factor is between 1.5 and 3, and cost it."""
    devices = _devices(hw)
    base = family.table(1.0, 1.0, family.size)
    first = {name: predict(base, name).latency_s for name in devices}
    trials = []
    for depth, width, resolution in itertools.product(DEPTHS, WIDTHS, RESOLUTIONS):
        constants = Constants(depth, width, resolution)
        if not 1.5 <= constants.factor <= 3:
            continue
        progress(f"alpha, beta, gamma = {constants}")
        table = family.table(depth, width, shape(family.size, resolution))
        latency = {name: predict(table, name).latency_s / first[name] for name in devices}
        trials.append(Trial(constants, int(table.total.macs) / int(base.total.macs), latency))
    return Search(tuple(trials), tuple(devices))
