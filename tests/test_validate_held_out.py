"""What a calibration may not see, how far it goes, and what its intervals hold."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pytest

from costmodel.machine import constants, residuals
from costmodel.machine.residuals import Spread
from costmodel.setting import setting
from costmodel.validate import scored
from costmodel.validate.fit import fit_networks
from costmodel.validate.held_out import SHARES, calibrate, share_of
from costmodel.validate.predict_rows import Row, Work, work_of
from costmodel.validate.runs import Convolution, Run
from costmodel.validate.spread import residuals as spread_document
from costmodel.validate.tiers import COVERAGE, folds_of, middle_of, run_tier, with_intervals

CHOSEN = setting("t4", execution="eager", dtype="fp32", layout="nchw")
SPREAD = Spread(devices=0.2, networks=0.1)


def convolutions(factors: Sequence[float]) -> list[Row]:
    """Convolutions of as many octaves, each measured at its factor x the data-sheet prediction."""
    rows = []
    for i, factor in enumerate(factors):
        channels = 12 * 2**i
        shape = Convolution(channels, 128, 3, 28, 1, 1)
        run = Run("t4", "", "eager", "fp32", "nchw", None, f"conv{channels}", f"{channels}x28x28",
                  64, 1.0, convolution=shape)  # fmt: skip
        (work,) = work_of([run]).values()
        assert isinstance(work, Work)
        row = Row(run, CHOSEN, work)
        rows.append(replace(row, run=replace(run, latency_ms=1e3 * factor * row.predicted(START))))
    return rows


START = constants.values_of(CHOSEN.block, without="t4")


def moved(rows: Sequence[Row], values: Mapping[str, float]) -> float:
    """Mean log of predictions with the constants over those of the data sheet."""
    return float(np.mean([math.log(r.predicted(values) / r.predicted(START)) for r in rows]))


def test_one_network_moves_a_known_class_little_and_an_unknown_one_much() -> None:
    rows = convolutions([1.3])
    little = moved(rows, fit_networks(rows, START, Spread(devices=0.05, networks=0.3)))
    much = moved(rows, fit_networks(rows, START, Spread(devices=0.8, networks=0.1)))
    assert 0 <= little < 0.03
    assert 0.2 < much <= math.log(1.3) + 1e-3


def test_what_is_far_off_is_believed_more_than_what_is_near() -> None:
    slow, slower = convolutions([1.15]), convolutions([2.5])
    spread = Spread(devices=0.2, networks=0.15)
    near = moved(slow, fit_networks(slow, START, spread)) / math.log(1.15)
    far = moved(slower, fit_networks(slower, START, spread)) / math.log(2.5)
    assert 0 < near < far


def test_runs_of_one_network_count_as_one() -> None:
    (row,) = convolutions([1.3])
    once, often = (moved([row], fit_networks([row] * n, START, SPREAD)) for n in (1, 9))
    assert often == pytest.approx(once, rel=0.15)


def test_a_held_out_fold_shapes_neither_the_fit_nor_how_far_it_is_followed() -> None:
    rows = convolutions([1.3, 1.2, 1.4, 1.25, 1.35])
    folds = folds_of(rows)
    before = calibrate(rows, folds, START, SPREAD)
    held = int(np.flatnonzero(folds[2])[0])
    other = [replace(r, run=replace(r.run, latency_ms=1.5 * r.run.latency_ms)) if i == held else r
             for i, r in enumerate(rows)]  # fmt: skip
    after = calibrate(other, folds, START, SPREAD)
    assert after.latencies[held] == before.latencies[held]
    seen = [i for i in range(len(rows)) if i != held]
    assert (after.latencies[seen] != before.latencies[seen]).any()


def test_a_calibration_is_followed_where_it_helps() -> None:
    rows = convolutions([1.4, 1.42, 1.38, 1.4, 1.41])
    found = calibrate(rows, folds_of(rows), START, SPREAD)
    errors = np.abs(found.latencies / [r.measured for r in rows] - 1)
    assert errors.mean() < 0.1
    assert moved(rows, found.constants) > 0.25


def test_a_calibration_on_chance_stays_at_the_data_sheet() -> None:
    # The fit explains the others' chance errors: on unseen rows it is worse at every share.
    grows = np.array([[0.05, 0.06, 0.1, 0.2, 0.3]] * 8).T
    assert share_of(grows, 8) < 0.15
    assert share_of(grows, 80) == 0.0
    falls = grows[::-1]
    assert share_of(falls, 8) > 0.85


def test_a_share_is_never_worse_than_the_data_sheet_on_the_rows_that_chose_it() -> None:
    random = np.random.default_rng(0)
    for _ in range(50):
        off, wrong = random.normal(0, 0.2), random.normal(0, 0.2)
        noise = random.normal(0, 0.1, 30)
        errors = np.abs([noise + off + share * (wrong - off) for share in SHARES])
        share = share_of(errors, 6)
        at = np.abs(noise + off + share * (wrong - off)).mean()
        assert at <= errors[0].mean() + 1e-12


def test_two_families_are_calibrated_with_what_is_known_of_the_class() -> None:
    rows = convolutions([1.2, 1.2])
    outcome = run_tier(rows, "families")
    errors = [abs(i.latency / i.row.measured - 1) for i in outcome.predicted]
    assert max(errors) < 1 - 1 / 1.2
    assert outcome.constants.keys() == START.keys()


def test_the_middle_of_few_values_holds_the_share_of_further_ones() -> None:
    random = np.random.default_rng(1)
    held = []
    for _ in range(4000):
        low, high = middle_of(random.normal(0, 1, 20))
        held.append(low <= random.normal(0, 1) <= high)
    assert float(np.mean(held)) == pytest.approx(COVERAGE, abs=0.02)


def test_few_rows_of_the_device_are_mixed_with_other_devices() -> None:
    rows = convolutions([1.0, 2.0, 2.0])
    items = [(row, row.predicted(START)) for row in rows]
    first = with_intervals(items, "families")[0]
    others = residuals.residual_of(CHOSEN, "calibrated", without="t4")
    low, high = (bound / first.latency for bound in first.interval)
    weight = 2 / 20
    assert low == pytest.approx(2**weight * others.low ** (1 - weight))
    assert high == pytest.approx(2**weight * others.high ** (1 - weight))


def test_spreads_come_from_other_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    def entry(middle: float, networks: float) -> dict[str, object]:
        levels = [middle for _ in residuals.LEVELS]
        return {"rows": 9, "quantiles": levels, "networks": networks}

    known = {
        "coverage": 0.8, "unvalidated": [0.4, 3.0], "unseen_device_factor": 1.0,
        "blocks": {CHOSEN.block: {"datasheet": {"t4": entry(2.0, 9.0), "l4": entry(0.3, 0.1)}},
                   "cpu/ncnn": {"datasheet": {"rpi4": entry(-0.1, 0.2)}}},
    }  # fmt: skip
    monkeypatch.setattr(residuals, "document", lambda: known)
    found = residuals.spread_of(CHOSEN, without="t4")
    # one device of the class at 0.3, and as one more the mean square of 0.3 and 0.1
    assert found.devices == pytest.approx(math.sqrt((0.09 + 0.05) / 2))
    assert found.networks == pytest.approx(0.1)
    unknown = residuals.spread_of(setting("galaxy-s24:npu"))
    assert unknown.devices == pytest.approx(math.log(3 / 0.4) / residuals.MIDDLE)


def test_the_document_tells_how_far_the_reference_network_lies() -> None:
    rows = convolutions([1.0, 1.1, 1.2, 1.3, 1.4])
    document = spread_document([scored(run_tier(rows, "none"), "datasheet")])
    entry = document["blocks"][CHOSEN.block]["datasheet"]["t4"]
    assert entry["rows"] == 5
    # the third is the one to calibrate on; the median of the others is between 1.1 and 1.3
    apart = math.log(1.2) - (math.log(1.1) + math.log(1.3)) / 2
    assert entry["networks"] == pytest.approx(abs(apart), abs=1e-4)
