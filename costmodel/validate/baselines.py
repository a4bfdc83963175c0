"""Trivial predictors to print beside ours: time proportional to MACs, or to MACs and activations.

They are fitted on the device's own measured runs, whatever the tier: each family is scored with
coefficients that were fixed on the other folds. Both minimise the mean absolute percentage error
itself, so no fit of the same form does better on the rows that it has seen.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from costmodel.validate.score import Array, Mask

#: Values of lambda that are tried, in MACs per activation.
_LAMBDAS = np.concatenate([[0.0], np.logspace(-1, 5, 61)])


def k_macs(macs: Array, measured: Array, folds: Sequence[Mask]) -> float:
    """MAPE of k·MACs over the rows of all folds; NaN when there is no other fold to fit on."""
    return _cross_validated(macs[:, None], measured, folds)


def k_macs_activations(
    macs: Array, activations: Array, measured: Array, folds: Sequence[Mask]
) -> float:
    """MAPE of k·(MACs + lambda·activations), likewise."""
    work = macs[:, None] + _LAMBDAS[None, :] * activations[:, None]
    return _cross_validated(work, measured, folds)


def _cross_validated(work: Array, measured: Array, folds: Sequence[Mask]) -> float:
    """``work`` has one column per choice of lambda; ``folds`` are boolean masks of rows."""
    if len(folds) < 2:
        return float("nan")
    errors = []
    for held in folds:
        fits = [_fit(column[~held], measured[~held]) for column in work.T]
        best = int(np.argmin([error for _, error in fits]))
        predicted = fits[best][0] * work[held, best]
        errors.append(np.abs(predicted / measured[held] - 1))
    return float(np.concatenate(errors).mean())


def _fit(work: Array, measured: Array) -> tuple[float, float]:
    """The k that minimises mean |k·work/measured - 1|, and that minimum: a weighted median."""
    ratio = work / measured
    useful = ratio > 0
    if not useful.any():
        return 0.0, 1.0
    candidates, weights = 1 / ratio[useful], ratio[useful]
    order = np.argsort(candidates)
    total = np.cumsum(weights[order])
    k = float(candidates[order][np.searchsorted(total, total[-1] / 2)])
    return k, float(np.abs(k * ratio - 1).mean())
