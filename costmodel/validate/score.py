"""How far predictions are from measurements: the figures of a group of rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Score:
    """Errors are fractions: ``predicted / measured - 1``. ``bias`` is their mean.

    ``interval_coverage`` is the share of measurements inside their interval; ``spearman`` is NaN
    for fewer than two rows or when all are equal.
    """

    rows: int
    mape: float
    median_ape: float
    within_10: float
    within_20: float
    bias: float
    spearman: float
    interval_coverage: float
    by_family: Mapping[str, FamilyScore] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class FamilyScore:
    """The same of one family."""

    rows: int
    mape: float
    bias: float


def score(
    measured: Sequence[float],
    predicted: Sequence[float],
    intervals: Sequence[tuple[float, float]],
    families: Sequence[str],
) -> Score:
    """The score of rows; times in one unit, all positive. At least one row."""
    times = np.asarray(measured, float)
    errors = np.asarray(predicted, float) / times - 1
    apart = np.abs(errors)
    bounds = np.asarray(intervals, float).reshape(-1, 2)
    inside = (bounds[:, 0] <= times) & (times <= bounds[:, 1])
    return Score(
        rows=len(times),
        mape=float(apart.mean()),
        median_ape=float(np.median(apart)),
        within_10=float((apart <= 0.1).mean()),
        within_20=float((apart <= 0.2).mean()),
        bias=float(errors.mean()),
        spearman=spearman(times, np.asarray(predicted, float)),
        interval_coverage=float(inside.mean()),
        by_family=_by_family(errors, families),
    )


def _by_family(errors: Array, families: Sequence[str]) -> dict[str, FamilyScore]:
    """Families in descending order of what they add to the total error."""
    groups: dict[str, list[float]] = {}
    for family, error in zip(families, errors.tolist(), strict=True):
        groups.setdefault(family, []).append(error)
    scores = {
        family: FamilyScore(len(e), float(np.abs(e).mean()), float(np.mean(e)))
        for family, e in groups.items()
    }
    return dict(sorted(scores.items(), key=lambda item: (-item[1].rows * item[1].mape, item[0])))


def spearman(a: Array, b: Array) -> float:
    """Rank correlation, ties sharing their mean rank."""
    if len(a) < 2:
        return float("nan")
    x, y = _ranks(a), _ranks(b)
    x, y = x - x.mean(), y - y.mean()
    norm = float(np.sqrt((x @ x) * (y @ y)))
    return float(x @ y) / norm if norm > 0 else float("nan")


def _ranks(values: Array) -> Array:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks: Array = (last - (counts - 1) / 2)[inverse]
    return ranks
