"""How far to follow a fit: as far as it helped on families that it had not seen.

Constants fitted on some families can be worse on others than those of the data sheet: what the
families at hand do not determine goes wherever it explains their last percents. So a calibration
goes a share of the way (of the logarithms) from the data sheet's constants to fitted ones, and
the errors on families that the fits did not see say how far.

To score a family with nothing that its own runs shaped, neither the fits nor the share may have
seen it. Constants are fitted without each pair of folds; those without i and j tell on j how far to
go when i is scored, and on i when j is. The fit followed is the mean of those without i: what only
some families ask for averages out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from costmodel.machine.residuals import Spread
from costmodel.machine.times import Latencies
from costmodel.validate.fit import (
    Space,
    fit_networks,
    measured_of,
    one_by_one,
    seconds_of,
    space_of,
    steps_of,
)
from costmodel.validate.predict_rows import Row
from costmodel.validate.score import Array, Mask

#: Shares of the way from the data sheet to the fit that are tried; the first is the data sheet.
SHARES = np.array([0.0, 0.25, 0.5, 0.75, 1.0])

Pair = tuple[int, int]


@dataclass(frozen=True)
class Calibrated:
    """Seconds of each row, predicted without its family, and the constants fitted on all rows."""

    latencies: Array
    constants: Mapping[str, float]


@dataclass(frozen=True)
class Trials:
    """Steps fitted without two folds, and errors on each of the two: pair, fold -> (share, row)."""

    steps: Mapping[Pair, Array]
    errors: Mapping[tuple[Pair, int], Array]
    families: Sequence[set[str]]

    def followed(self, without: int | None = None) -> Array:
        """The steps to take, as told by all folds but one."""
        pairs = [pair for pair in self.steps if without is None or without in pair]
        mean: Array = np.mean([self.steps[pair] for pair in pairs], axis=0)
        judged = [
            errors for (pair, fold), errors in self.errors.items()
            if pair in pairs and fold != without
        ]  # fmt: skip
        seen = set().union(*(f for i, f in enumerate(self.families) if i != without))
        return share_of(np.concatenate(judged, axis=1), len(seen)) * mean


def share_of(errors: Array, families: int) -> float:
    """How far to follow a fit whose absolute errors on unseen rows are (`SHARES`, rows).

    The mean of the shares, each as likely as so many independent errors of a Laplace distribution
    make it: families, not rows, of which many are alike. 0 where errors at that mean, between those
    at the shares beside it, are no smaller than the data sheet's.
    """
    loss = np.maximum(errors.mean(axis=1), 1e-9)
    likely = (loss / loss.min()) ** -float(families)
    likely /= likely.sum()
    share = float(likely @ SHARES)
    return share if np.interp(share, SHARES, loss) < loss[0] else 0.0


def calibrate(
    rows: Sequence[Row], folds: Sequence[Mask], start: Mapping[str, float], spread: Spread
) -> Calibrated:
    """Calibrate on rows of at least two folds of families, and predict each fold by the others.

    With two, nothing is left to judge a fit by: ``spread`` says how far to go (`fit_networks`).
    """
    members = [_of(rows, fold) for fold in folds]
    timed = [seconds_of(own) or one_by_one(own) for own in members]
    latencies = np.empty(len(rows))
    if len(folds) < 3:
        for fold, seconds in zip(folds, timed, strict=True):
            latencies[fold] = seconds(fit_networks(_of(rows, ~fold), start, spread))
        return Calibrated(latencies, fit_networks(rows, start, spread))
    space = space_of(rows[0].setting.block, start)
    trials = _trials(space, members, timed)
    for i, fold in enumerate(folds):
        latencies[fold] = timed[i](space.values(trials.followed(without=i)))
    return Calibrated(latencies, space.values(trials.followed()))


def _of(rows: Sequence[Row], mask: Mask) -> list[Row]:
    return [row for row, taken in zip(rows, mask, strict=True) if taken]


def _trials(space: Space, members: Sequence[Sequence[Row]], timed: Sequence[Latencies]) -> Trials:
    measured = [measured_of(own) for own in members]
    steps, errors = {}, {}
    for pair in combinations(range(len(members)), 2):
        seen = [i for i in range(len(members)) if i not in pair]
        target = np.concatenate([measured[i] for i in seen])
        steps[pair] = steps_of(space, _together([timed[i] for i in seen]), target)
        for i in pair:
            errors[pair, i] = np.array([
                np.abs(timed[i](space.values(share * steps[pair])) / measured[i] - 1)
                for share in SHARES
            ])  # fmt: skip
    return Trials(steps, errors, [{row.run.family for row in own} for own in members])


def _together(timed: Sequence[Latencies]) -> Latencies:
    return lambda constants: np.concatenate([seconds(constants) for seconds in timed])
