"""How far predictions were from measurements, by class of setting: the source of every interval.

``residuals.yaml`` is written by `costmodel validate` from measured runs: for each machine model the
quantiles of measured/predicted, and on what they rest. A class without runs takes the widest one
and says that it was never validated.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from costmodel.roofline import Setting

_FILE = Path(__file__).with_name("residuals.yaml")


@dataclass(frozen=True, slots=True)
class Residual:
    """The interval is prediction x [low, high]; it holds ``coverage`` of the measured runs."""

    low: float
    high: float
    coverage: float
    validated: str


@cache
def _document() -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load(_FILE.read_text())
    return document


def residual_of(chosen: Setting, calibrated: bool) -> Residual:
    """The residual of the setting's class."""
    document = _document()
    tier = "calibrated" if calibrated else "datasheet"
    entry = document["blocks"].get(chosen.block, {}).get(tier)
    if entry is None:
        low, high = document["unvalidated"]
        return Residual(
            low, high, document["coverage"], "data-sheet estimate; this class was never validated"
        )
    devices = ", ".join(entry["devices"])
    runs = f"{entry['rows']} measured runs of {chosen.execution} on {devices}"
    if chosen.profile.name in entry["devices"]:
        return Residual(entry["low"], entry["high"], document["coverage"], f"on {runs}")
    widen = document["unseen_device_factor"]
    return Residual(
        entry["low"] ** widen,
        entry["high"] ** widen,
        document["coverage"],
        f"not on this device; on {runs}",
    )
