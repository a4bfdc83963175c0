"""From scored rows to ``residuals.yaml``: how far measurements lie from predictions."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import yaml

from costmodel.calibration import COVERAGE
from costmodel.machine.residuals import LEVELS, bounds, class_of
from costmodel.validate.report import Group
from costmodel.validate.tiers import TIERS, reference_network

#: Factors that the interval of an unseen device may be widened or narrowed by.
NARROWEST, WIDEST = 0.5, 4.0
#: Interval of a class that was never validated: factors on the prediction.
UNVALIDATED = (0.4, 3.0)

#: block -> tier -> device -> log(measured/predicted) of its rows.
Logs = dict[str, dict[str, dict[str, list[float]]]]


def residuals(groups: Iterable[Group]) -> dict[str, Any]:
    """The document of ``residuals.yaml``: quantiles per block, tier and device."""
    logs: Logs = {}
    networks: dict[tuple[str, str, str], list[float]] = {}
    for group in groups:
        row = group.predicted[0].row
        device = row.setting.profile.name
        name = class_of(row.setting.block, row.run.convolution is not None)
        if row.run.convolution is None:  # of kernels, the one to calibrate on is any of them
            networks.setdefault((name, group.tier, device), []).extend(_of_reference(group))
        logs.setdefault(name, {}).setdefault(group.tier, {}).setdefault(device, []).extend(
            math.log(item.row.measured / item.latency) for item in group.predicted
        )
    return {
        "coverage": COVERAGE,
        "unvalidated": list(UNVALIDATED),
        "unseen_device_factor": round(unseen_device_factor(logs), 2),
        "blocks": {
            block: {
                tier: {
                    device: _entry(found, networks.get((block, tier, device), ()))
                    for device, found in devices.items()
                }
                for tier, devices in tiers.items()
            }
            for block, tiers in logs.items()
        },
    }


def merged(new: Mapping[str, Any], old: Mapping[str, Any]) -> dict[str, Any]:
    """``new`` with the devices of ``old`` that were not scored this time.

    Some of the devices do not tell how far an unseen one is off: with the others kept, so is that.
    """
    blocks = {
        block: {
            tier: {
                **old["blocks"].get(block, {}).get(tier, {}),
                **new["blocks"].get(block, {}).get(tier, {}),
            }
            for tier in {**old["blocks"].get(block, {}), **new["blocks"].get(block, {})}
        }
        for block in {**old["blocks"], **new["blocks"]}
    }
    kept = any(
        tiers.get(tier, {}).keys() - new["blocks"].get(block, {}).get(tier, {}).keys()
        for block, tiers in old["blocks"].items()
        for tier in TIERS.values()
    )
    factor = (old if kept else new)["unseen_device_factor"]
    return {**new, "unseen_device_factor": factor, "blocks": blocks}


def _of_reference(group: Group) -> list[float]:
    """How far the network to calibrate on lies from the median of the others, in logarithms."""
    errors: dict[str, list[float]] = {}
    for item in group.predicted:
        errors.setdefault(item.row.run.model, []).append(math.log(item.row.measured / item.latency))
    name = reference_network([item.row for item in group.predicted])
    reference = np.mean(errors.pop(name))
    return [float(reference - np.median([np.mean(e) for e in errors.values()]))] if errors else []


def _entry(logs: Sequence[float], apart: Sequence[float] = ()) -> dict[str, Any]:
    quantiles = np.quantile(logs, LEVELS)
    entry = {"rows": len(logs), "quantiles": [round(float(value), 4) for value in quantiles]}
    if apart:
        entry["networks"] = round(float(np.sqrt(np.mean(np.square(apart)))), 4)
    return entry


def unseen_device_factor(logs: Logs) -> float:
    """The widening under which intervals from other devices hold what they claim, on average.

    Every device is left out once in every tier, and counts alike. 1 when no class has two devices.
    """
    trials = [
        (np.array(found), [_entry(o)["quantiles"] for name, o in devices.items() if name != device])
        for tiers in logs.values()
        for devices in tiers.values()
        for device, found in devices.items()
        if len(devices) > 1
    ]
    if not trials:
        return 1.0

    def coverage(factor: float) -> float:
        shares = []
        for found, others in trials:
            low, high = np.log(bounds(others, COVERAGE, factor))
            shares.append(((low <= found) & (found <= high)).mean())
        return float(np.mean(shares))

    return _bisect(lambda factor: coverage(factor) - COVERAGE)


def _bisect(function: Callable[[float], float]) -> float:
    low, high = NARROWEST, WIDEST
    for _ in range(40):
        middle = (low + high) / 2
        if function(middle) < 0:
            low = middle
        else:
            high = middle
    return high


def dump(document: Mapping[str, Any]) -> str:
    """The document as YAML, one line a device."""
    lines = [
        "# Written by benchmarks/accuracy.py --residuals from measured runs: quantiles of",
        f"# log(measured/predicted) at levels {', '.join(f'{level:g}' for level in LEVELS)}.",
        *(f"{key}: {document[key]}" for key in ("coverage", "unvalidated", "unseen_device_factor")),
        "blocks:" if document["blocks"] else "blocks: {}",
    ]
    for block, tiers in document["blocks"].items():
        lines.append(f"  {block}:")
        for tier, devices in tiers.items():
            lines.append(f"    {tier}:")
            for device, entry in devices.items():
                text = yaml.safe_dump(entry, default_flow_style=True, width=10**6, sort_keys=False)
                lines.append(f"      {device}: {text.strip()}")
    return "\n".join(lines) + "\n"
