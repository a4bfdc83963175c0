"""The constants of the machine models: each with a meaning, a physical range, and its origin.

They live in ``constants.yaml``, one block per engine class and execution; a calibration replaces
the values of some of them for one device. ``value`` was fixed on the measured runs of the devices
in ``fixed_on``. To predict one of those devices as if it had never been measured there is
``without``: device -> the value fixed on the others; ``prior`` is what was assumed before any run.
``here`` is what holds wherever this program measures, which no microbenchmark of it can tell.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from costmodel.errors import CostModelError

_FILE = Path(__file__).with_name("constants.yaml")


@dataclass(frozen=True, slots=True)
class Constant:
    """One number of a machine model. ``low`` and ``high`` are its physical limits."""

    name: str
    value: float
    low: float
    high: float
    unit: str
    meaning: str
    fixed_on: tuple[str, ...] = ()
    prior: float | None = None
    without: Mapping[str, float] = field(default_factory=dict)
    here: float | None = None

    def ignoring(self, device: str | None) -> float | None:
        """The value that owes nothing to ``device``; ``None`` when there is no such value."""
        if device is None or device not in self.fixed_on:
            return self.value
        return self.without.get(device, self.prior)


@cache
def blocks() -> Mapping[str, Mapping[str, Constant]]:
    """Every block of ``constants.yaml``: block -> name -> constant."""
    document = yaml.safe_load(_FILE.read_text())
    return {
        block: {name: _constant(name, fields) for name, fields in entries.items()}
        for block, entries in document.items()
    }


def _constant(name: str, fields: Mapping[str, Any]) -> Constant:
    fixed_on = fields.get("fixed_on", ())
    devices = (fixed_on,) if isinstance(fixed_on, str) else tuple(fixed_on)
    return Constant(name=name, **{**fields, "fixed_on": devices})


def constants_of(block: str) -> Mapping[str, Constant]:
    """The constants of a block. Raises `CostModelError` for a block that does not exist."""
    constants = blocks().get(block)
    if constants is None:
        raise CostModelError(f"no machine model {block!r}; there are {', '.join(blocks())}")
    return constants


def measured_here(block: str) -> dict[str, float]:
    """The constants whose value wherever this program measures is known."""
    return {c.name: c.here for c in constants_of(block).values() if c.here is not None}


def independent(block: str, device: str) -> bool:
    """Whether every constant of the block has a value that owes nothing to the device's runs."""
    return all(c.ignoring(device) is not None for c in constants_of(block).values())


def values_of(
    block: str, calibration: Mapping[str, float] | None = None, *, without: str | None = None
) -> dict[str, float]:
    """The constants of a block by name, those in ``calibration`` replaced.

    ``without`` names a device whose own runs must not have shaped them, as far as `independent`
    holds. Raises `CostModelError` for a name that the block lacks and a value outside physical
    limits.
    """
    constants = constants_of(block)
    values = {}
    for known in constants.values():
        unseen = known.ignoring(without)
        values[known.name] = float(known.value if unseen is None else unseen)
    for name, value in (calibration or {}).items():
        constant = constants.get(name)
        if constant is None:
            raise CostModelError(
                f"the calibration names {name!r}, which {block} does not have; if another version "
                "made it, calibrate again"
            )
        if not constant.low <= value <= constant.high:
            raise CostModelError(
                f"the calibration sets {name} = {value:g}, outside "
                f"[{constant.low:g}, {constant.high:g}]: no machine does that"
            )
        values[name] = float(value)
    return values
