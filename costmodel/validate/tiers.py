"""The three tiers of a group of rows: never measured, one network measured, families measured.

- ``none`` ("datasheet"): constants that owe nothing to the device's own runs.
- ``one`` ("one-network"): one network is measured; constants are fitted on it, held as much as data
  sheets have proved right for the class on other devices; the other networks are scored.
- ``families`` ("calibrated"): all constants are fitted on the device's runs, and every family is
  scored with the mean of fits that never saw it.

A group shares device and engine, execution, layout and dtype.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from costmodel.calibration import COVERAGE
from costmodel.errors import CostModelError
from costmodel.machine.constants import independent
from costmodel.machine.residuals import residual_of, spread_of
from costmodel.validate.fit import fit_networks
from costmodel.validate.held_out import calibrate
from costmodel.validate.predict_rows import Row
from costmodel.validate.score import Array, Mask

Choice = Literal["none", "one", "families"]
TIERS: dict[Choice, str] = {"none": "datasheet", "one": "one-network", "families": "calibrated"}
#: Families are dealt to this many folds, or to as many as there are families.
FOLDS = 5
#: Rows that quantiles of a device's own errors rest on alone.
ENOUGH = 20


@dataclass(frozen=True, slots=True)
class Predicted:
    """A row and its prediction, in seconds."""

    row: Row
    latency: float
    interval: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Outcome:
    """The scored rows of a group, and the constants that a calibration file carries on.

    ``constants`` is empty for the data-sheet tier. ``basis`` says what they rest on. ``honest``
    is false when the data-sheet tier had to use constants that the device's own runs shaped.
    """

    predicted: tuple[Predicted, ...]
    constants: Mapping[str, float]
    basis: str
    honest: bool = True


def run_tier(rows: Sequence[Row], tier: Choice) -> Outcome:
    """Predict the rows of a group under a tier.

    Raises `CostModelError` when the group has too few networks or families to hold some out.
    """
    match tier:
        case "none":
            return _datasheet(rows)
        case "one":
            return _one(rows)
        case "families":
            return _families(rows)


def _datasheet(rows: Sequence[Row]) -> Outcome:
    chosen = rows[0].setting
    device = chosen.profile.name
    values = chosen.constants(without=device)
    honest = independent(chosen.block, device)
    predicted = with_intervals([(row, row.predicted(values)) for row in rows], "none")
    return Outcome(predicted, {}, f"{chosen.block} without runs of {device}", honest)


def _one(rows: Sequence[Row]) -> Outcome:
    network = reference_network(rows)
    seen = [row for row in rows if row.run.model == network]
    unseen = [row for row in rows if row.run.model != network]
    if not unseen:
        raise CostModelError("calibrating on one network needs a second one to score")
    chosen = rows[0].setting
    device = chosen.profile.name
    spread = spread_of(chosen, without=device, single=rows[0].run.convolution is not None)
    values = fit_networks(seen, chosen.constants(without=device), spread)
    predicted = with_intervals([(row, row.predicted(values)) for row in unseen], "one")
    plural = "s" if len(seen) > 1 else ""
    return Outcome(predicted, values, f"{network}, {len(seen)} run{plural}")


def _families(rows: Sequence[Row]) -> Outcome:
    folds = folds_of(rows)
    if len(folds) < 2:
        raise CostModelError("calibrating on families needs at least two of them")
    chosen = rows[0].setting
    device = chosen.profile.name
    found = calibrate(rows, folds, chosen.constants(without=device))
    items = list(zip(rows, found.latencies.tolist(), strict=True))
    names = {row.run.family for row in rows}
    basis = f"{len(rows)} runs of {len(names)} families"
    return Outcome(with_intervals(items, "families"), found.constants, basis)


def with_intervals(items: Sequence[tuple[Row, float]], tier: Choice) -> tuple[Predicted, ...]:
    """Predictions (rows and seconds) of one group with intervals that never saw the row.

    From the residuals of other devices; where the device itself is measured, from the errors on the
    group's other families, and in so far as those are fewer than `ENOUGH`, from both.
    """
    logs = np.log([row.measured / latency for row, latency in items])
    families = np.array([row.run.family for row, _ in items])
    own: dict[str, tuple[Array, float]] = {}
    if tier == "families":
        for family in dict.fromkeys(families.tolist()):
            others = logs[families != family]
            if len(others) > 1:
                own[family] = middle_of(others), min(1.0, len(others) / ENOUGH)
    found = []
    for row, latency in items:
        single = row.run.convolution is not None
        device = row.setting.profile.name
        residual = residual_of(row.setting, TIERS[tier], without=device, single=single)
        limits = np.log([residual.low, residual.high])
        if row.run.family in own:
            errors, weight = own[row.run.family]
            limits = weight * errors + (1 - weight) * limits
        low, high = np.exp(limits).tolist()
        found.append(Predicted(row, latency, (latency * low, latency * high)))
    return tuple(found)


def middle_of(values: Array) -> Array:
    """The bounds that hold `COVERAGE` of further values like these, which few of them show less far
    apart than they are: quantiles of rank p (n + 1).
    """
    tail = (1 - COVERAGE) / 2
    return np.quantile(values, (tail, 1 - tail), method="weibull")


#: The networks to calibrate on, the first that was measured: the ones most often published.
REFERENCES = (
    "torchvision:mobilenet_v2",
    "timm:mobilenetv2_100",
    "torchvision:resnet50",
    "timm:resnet50",
)


def reference_network(rows: Sequence[Row]) -> str:
    """The network to calibrate on: the first of `REFERENCES`, else the one of median MACs.

    MACs are per sample, at the smallest input size of a network; of two medians the lower.
    """
    measured = {row.run.model for row in rows}
    for name in REFERENCES:
        if name in measured:
            return name
    macs: dict[str, float] = {}
    for row in rows:
        each = row.work.macs / row.run.batch
        macs[row.run.model] = min(each, macs.get(row.run.model, each))
    ordered = sorted(macs, key=lambda model: (macs[model], model))
    return ordered[(len(ordered) - 1) // 2]


def folds_of(rows: Sequence[Row]) -> list[Mask]:
    """Masks of the rows to hold out, whole families at a time.

    Families go, largest first and by name among equals, each to the fold with the fewest rows.
    """
    sizes: dict[str, int] = {}
    for row in rows:
        sizes[row.run.family] = sizes.get(row.run.family, 0) + 1
    count = min(FOLDS, len(sizes))
    filled = [0] * count
    fold: dict[str, int] = {}
    for family in sorted(sizes, key=lambda name: (-sizes[name], name)):
        fold[family] = filled.index(min(filled))
        filled[fold[family]] += sizes[family]
    at = np.array([fold[row.run.family] for row in rows])
    return [at == i for i in range(count)]
