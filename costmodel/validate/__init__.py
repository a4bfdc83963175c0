"""Predictions beside measured runs: error per device, execution and dtype, under three tiers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np

from costmodel.calibration import Calibration, Entry
from costmodel.errors import CostModelError
from costmodel.setting import Setting
from costmodel.validate import baselines
from costmodel.validate.predict_rows import Row, processes, rows_of, settings_of
from costmodel.validate.report import Group, Validation
from costmodel.validate.runs import Run, Skipped, read
from costmodel.validate.score import score
from costmodel.validate.tiers import (
    TIERS,
    Choice,
    Outcome,
    Predicted,
    folds_of,
    middle_of,
    run_tier,
)

Pairs = list[tuple[Run, Setting]]


def validate(
    files: Sequence[str | Path],
    *,
    tiers: Sequence[Choice] = ("none",),
    hw: str | None = None,
    jobs: int = 1,
    calibration: Calibration | None = None,
) -> tuple[Validation, Calibration]:
    """Predict every run of the files, and score each group of them under every tier.

    Returns the scores, and the calibrations that the tiers made (none for ``"none"``). With
    ``calibration`` its constants are used as they are, instead of a tier. Raises `CostModelError`
    for files that cannot be read; rows that cannot be predicted are in ``skipped``.
    """
    runs: list[Run] = []
    skipped: list[Skipped] = []
    for file in files:
        found, left = read(file)
        runs += found
        skipped += left
    pairs, left = settings_of(runs, hw)
    skipped += left
    groups: list[Group] = []
    entries: list[Entry] = []
    with processes(jobs) as pool:
        for rows, left in _traced(_grouped(pairs), pool):
            skipped += left
            for tier in tiers if rows else ():
                try:
                    outcome = _with(calibration, rows) if calibration else run_tier(rows, tier)
                except CostModelError as error:
                    skipped += [Skipped(r.run.model, str(error), r.run.source) for r in rows]
                    continue
                group = scored(outcome, "calibrated" if calibration else TIERS[tier])
                groups.append(group)
                if outcome.constants and not calibration:
                    entries.append(_entry(outcome, group))
    return Validation(tuple(groups), tuple(skipped)), Calibration(entries=tuple(entries))


def _grouped(pairs: Pairs) -> list[Pairs]:
    """Runs of one device and engine, execution, layout and dtype, in order of appearance."""
    groups: dict[tuple[str, ...], Pairs] = {}
    for run, chosen in pairs:
        key = (chosen.hw, chosen.execution, chosen.layout, chosen.dtype, run.mode)
        groups.setdefault(key, []).append((run, chosen))
    return list(groups.values())


def _traced(
    groups: Sequence[Pairs], pool: ProcessPoolExecutor | None
) -> Iterator[tuple[list[Row], list[Skipped]]]:
    """The rows of one group at a time: kernels of thousands of networks would fill the memory."""
    for number, pairs in enumerate(groups, 1):
        run, chosen = pairs[0]
        title = f"{number}/{len(groups)} {run.device} {chosen.execution} {chosen.dtype}"
        yield rows_of(pairs, pool, title)


def _with(calibration: Calibration, rows: Sequence[Row]) -> Outcome:
    chosen = rows[0].setting
    entry = calibration.entry(chosen)
    predicted = []
    for row in rows:
        latency = row.predicted(entry.constants)
        predicted.append(Predicted(row, latency, (latency * entry.low, latency * entry.high)))
    return Outcome(tuple(predicted), {}, entry.basis)


def scored(outcome: Outcome, tier: str) -> Group:
    """The rows of one device, execution, layout and dtype, with their scores."""
    items = outcome.predicted
    rows = [item.row for item in items]
    run, chosen = rows[0].run, rows[0].setting
    measured = np.array([row.measured for row in rows])
    macs = np.array([float(row.work.macs) for row in rows])
    activations = np.array([float(row.work.activations) for row in rows])
    folds = folds_of(rows)
    return Group(
        hw=run.device,
        execution=chosen.execution,
        layout=chosen.layout,
        dtype=chosen.dtype,
        tier=tier,
        basis=outcome.basis,
        honest=outcome.honest,
        score=score(
            [row.measured for row in rows],
            [item.latency for item in items],
            [item.interval for item in items],
            [row.run.family for row in rows],
        ),
        baselines={
            "k_macs": baselines.k_macs(macs, measured, folds),
            "k_macs_activations": baselines.k_macs_activations(macs, activations, measured, folds),
        },
        predicted=tuple(replace(item, row=item.row.light()) for item in items),
    )


def _entry(outcome: Outcome, group: Group) -> Entry:
    chosen = outcome.predicted[0].row.setting
    low, high = np.exp(
        middle_of(np.log([item.row.measured / item.latency for item in outcome.predicted]))
    )
    return Entry(
        hw=chosen.hw,
        execution=chosen.execution,
        layout=chosen.layout,
        dtype=chosen.dtype,
        tier=group.tier,
        basis=outcome.basis,
        low=float(low),
        high=float(high),
        constants=dict(outcome.constants),
    )


__all__ = ["TIERS", "Choice", "Group", "Validation", "scored", "validate"]
