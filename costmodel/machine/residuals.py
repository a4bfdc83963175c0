"""How far predictions are from measurements, by class of setting: the source of every interval.

``residuals.yaml`` is written by ``benchmarks/accuracy.py`` from measured runs: per machine model
and tier, for each device the quantiles of log(measured/predicted), every row of it predicted as the
tier says (never seen; one network seen; other families seen). Machines that were calibrated by
microbenchmarks have tiers of their own (`tier_on`), by ``benchmarks/host_accuracy.py``. A device
that is not in the file gets the mixture over the devices that are, widened by a factor under which
intervals held the share of runs that they claim on devices left out. A machine model without runs
takes the mixture of its engine kind, and where there is none the widest interval; both say so.

Runs of a single kernel are a class of their own where some were measured (``BLOCK/kernel``): in a
network the errors of many kernels even out, in a single one they stand.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml

if TYPE_CHECKING:
    from costmodel.setting import Setting

FILE = Path(__file__).with_name("residuals.yaml")
#: Levels at which ``residuals.yaml`` holds quantiles of log(measured/predicted).
LEVELS = (0.0, 0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 0.95, 0.98, 1.0)
#: Width of the middle 80 % of a Gaussian, in standard deviations.
MIDDLE = 2.563


@dataclass(frozen=True, slots=True)
class Residual:
    """The interval is prediction x [low, high]; it holds ``coverage`` of the measured runs."""

    low: float
    high: float
    coverage: float
    validated: str


@dataclass(frozen=True, slots=True)
class Spread:
    """Spreads of log(measured/predicted): from device to device, and of the network that a device
    is calibrated on about the others there. ``measured``: by microbenchmarks of every device."""

    devices: float
    networks: float
    measured: bool = False


@cache
def document() -> Mapping[str, Any]:
    """The content of ``residuals.yaml``."""
    found: dict[str, Any] = yaml.safe_load(FILE.read_text())
    return found


def class_of(block: str, single: bool) -> str:
    """The name in ``residuals.yaml`` of runs of a block; ``single``: of one kernel each."""
    return f"{block}/kernel" if single else block


#: Tiers of devices whose constants microbenchmarks measured, before any network ran.
_MEASURED = {"datasheet": "microbenchmarks", "one-network": "microbenchmarks, one network"}


def tier_on(chosen: Setting, tier: str) -> str:
    """The name in ``residuals.yaml`` of a tier: what was measured on a device counts."""
    return _MEASURED.get(tier, tier) if chosen.measured_constants else tier


def residual_of(
    chosen: Setting,
    tier: str = "datasheet",
    *,
    without: str | None = None,
    single: bool = False,
) -> Residual:
    """The residual of the setting's class under a tier (``datasheet``, ``one-network``, …).

    ``without`` names a device whose own residuals must not be used; ``single``: the run is one
    kernel.
    """
    known = document()
    tier = tier_on(chosen, tier)
    coverage = float(known["coverage"])
    device = chosen.profile.name
    single = single and class_of(chosen.block, True) in known["blocks"]
    entry = known["blocks"].get(class_of(chosen.block, single), {}).get(tier, {})
    said = f"single kernels in {chosen.execution}" if single else chosen.execution
    own = entry.get(device)
    if own is not None and device != without:
        low, high = bounds([own["quantiles"]], coverage)
        text = f"on {own['rows']} measured runs of {said} on {device}"
        return _around(low, high, coverage, text)
    others = {name: found for name, found in entry.items() if name not in (device, without)}
    if not others:
        others = _of_kind(chosen, tier, without)
        said = f"other executions than {chosen.execution}"
    if not others:
        low, high = known["unvalidated"]
        text = "data-sheet estimate; this class was never validated"
        return Residual(low, high, coverage, text)
    factor = float(known["unseen_device_factor"])
    low, high = bounds([found["quantiles"] for found in others.values()], coverage, factor)
    rows = sum(found["rows"] for found in others.values())
    names = ", ".join(sorted(others)[:4]) + (", …" if len(others) > 4 else "")
    text = f"not on this device; on {rows} measured runs of {said} on {names}"
    return _around(low, high, coverage, text)


def _around(low: float, high: float, coverage: float, text: str) -> Residual:
    """A prediction lies in its own interval, also where every run was on one side of it."""
    return Residual(min(low, 1.0), max(high, 1.0), coverage, text)


def _of_kind(chosen: Setting, tier: str, without: str | None) -> dict[str, Any]:
    """Entries of the same engine kind under other executions."""
    kind = chosen.block.partition("/")[0]
    return {
        f"{name} ({block.partition('/')[2]})": found
        for block, tiers in document()["blocks"].items()
        if block.startswith(f"{kind}/") and block != chosen.block and not _single(block)
        for name, found in tiers.get(tier, {}).items()
        if name not in (chosen.profile.name, without)
    }


def _single(name: str) -> bool:
    return name.endswith("/kernel")


def spread_of(chosen: Setting, *, without: str | None = None, single: bool = False) -> Spread:
    """How predictions of the setting's class are spread before any network ran on its device, by
    devices other than its own and ``without``.

    From the devices of the class; few as they are, what all classes have together counts as one
    more device. Where nothing was ever validated, devices differ by as much as the widest interval.
    ``single``: of runs of one kernel each.
    """
    known = document()
    left = (chosen.profile.name, without)
    tiers = {
        name: found.get(tier_on(chosen, "datasheet"), {})
        for name, found in known["blocks"].items()
        if _single(name) == single
    }
    every = [_moments(found) for devices in tiers.values() for name, found in devices.items()
             if name not in left]  # fmt: skip
    low, high = known["unvalidated"]
    widest = math.log(high / low) / MIDDLE
    if not every:
        return Spread(widest, widest / 2)
    same = tiers.get(class_of(chosen.block, single), {})
    own = [_moments(found) for name, found in same.items() if name not in left]
    usual = float(np.mean([middle**2 for middle, _ in every]))
    devices = math.sqrt((sum(middle**2 for middle, _ in own) + usual) / (len(own) + 1))
    networks = float(np.mean([apart for _, apart in own or every]))
    return Spread(devices, networks, bool(chosen.measured_constants))


def _moments(entry: Mapping[str, Any]) -> tuple[float, float]:
    """The middle of a device's errors, and how far from it was the network to calibrate on.

    Without the latter, the spread of all runs.
    """
    low, middle, high = np.interp([0.1, 0.5, 0.9], LEVELS, entry["quantiles"]).tolist()
    return middle, max(float(entry.get("networks", (high - low) / MIDDLE)), 0.01)


def bounds(
    devices: Sequence[Sequence[float]], coverage: float, factor: float = 1.0
) -> tuple[float, float]:
    """The factors between which ``coverage`` of the mixture of all devices lies.

    Each device counts alike; ``factor`` stretches the interval on the logarithmic scale, about its
    middle.
    """
    tail = (1 - coverage) / 2
    grid = np.linspace(0, 1, 201)
    mixture = np.concatenate([np.interp(grid, LEVELS, quantiles) for quantiles in devices])
    low, high = (float(value) for value in np.quantile(mixture, (tail, 1 - tail)))
    middle, half = (low + high) / 2, (high - low) / 2 * factor
    return math.exp(middle - half), math.exp(middle + half)
