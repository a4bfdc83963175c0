"""The constants of the machine models: each with a meaning, a physical range, and where it was fixed.

They live in ``constants.yaml``, one block per engine class and execution; a calibration replaces
the values of some of them for one device.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

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
    fixed_on: str


@cache
def blocks() -> Mapping[str, Mapping[str, Constant]]:
    """Every block of ``constants.yaml``: block -> name -> constant."""
    document = yaml.safe_load(_FILE.read_text())
    return {
        block: {name: Constant(name=name, **fields) for name, fields in entries.items()}
        for block, entries in document.items()
    }


def values_of(block: str, calibration: Mapping[str, float] | None = None) -> dict[str, float]:
    """The constants of a block by name, those in ``calibration`` replaced.

    Raises `CostModelError` for a name that the block lacks and a value outside physical limits.
    """
    constants = blocks().get(block)
    if constants is None:
        raise CostModelError(f"no machine model {block!r}; there are {', '.join(blocks())}")
    values = {name: constant.value for name, constant in constants.items()}
    for name, value in (calibration or {}).items():
        constant = constants.get(name)
        if constant is None:
            raise CostModelError(f"the calibration names {name!r}, which {block} does not have")
        if not constant.low <= value <= constant.high:
            raise CostModelError(
                f"the calibration sets {name} = {value:g}, outside "
                f"[{constant.low:g}, {constant.high:g}]: no machine does that"
            )
        values[name] = float(value)
    return values
