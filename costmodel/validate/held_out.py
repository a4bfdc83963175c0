"""Calibrating on families of networks, and predicting each family by constants it had no part in.

What the families at hand do not determine goes wherever it explains their last percents, and can be
far off on another family. So a calibration is the mean (of logarithms) of several fits, each of
which leaves other families out: what only some of them ask for averages out (Breiman, "Bagging
predictors", Machine Learning 24, 1996; here whole families are left out, not single runs).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from costmodel.machine.times import Latencies
from costmodel.validate.fit import measured_of, one_by_one, seconds_of, space_of, steps_of
from costmodel.validate.predict_rows import Row
from costmodel.validate.score import Array, Mask


@dataclass(frozen=True)
class Calibrated:
    """Seconds of each row, predicted without its family, and the constants from all rows."""

    latencies: Array
    constants: Mapping[str, float]


def calibrate(rows: Sequence[Row], folds: Sequence[Mask], start: Mapping[str, float]) -> Calibrated:
    """Calibrate on rows of at least two folds of families, and predict each fold by the others.

    A fold is predicted by the mean of the fits without it and one more; with two folds, by the fit
    to the other one.
    """
    members = [[row for row, taken in zip(rows, fold, strict=True) if taken] for fold in folds]
    timed = [seconds_of(own) or one_by_one(own) for own in members]
    measured = [measured_of(own) for own in members]
    space = space_of(rows[0].setting.block, start)
    left = 2 if len(folds) > 2 else 1
    steps: dict[tuple[int, ...], Array] = {}
    for out in combinations(range(len(folds)), left):
        seen = [i for i in range(len(folds)) if i not in out]
        target = np.concatenate([measured[i] for i in seen])
        steps[out] = steps_of(space, _together([timed[i] for i in seen]), target)
    latencies = np.empty(len(rows))
    for i, fold in enumerate(folds):
        without = [found for out, found in steps.items() if i in out]
        latencies[fold] = timed[i](space.values(np.mean(without, axis=0)))
    return Calibrated(latencies, space.values(np.mean(list(steps.values()), axis=0)))


def _together(timed: Sequence[Latencies]) -> Latencies:
    return lambda constants: np.concatenate([seconds(constants) for seconds in timed])
