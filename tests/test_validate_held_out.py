"""What a calibration may not see, what it learns, and what its intervals hold."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pytest

from costmodel.hardware.schema import Measured
from costmodel.machine import constants, residuals
from costmodel.machine.residuals import Spread
from costmodel.setting import setting
from costmodel.validate import scored
from costmodel.validate.fit import (
    fit_all,
    fit_networks,
    measured_of,
    one_by_one,
    space_of,
    steps_of,
)
from costmodel.validate.held_out import calibrate
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
        (work,) = work_of([(run, 0)]).values()
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


def test_on_a_measured_machine_what_is_far_off_is_the_network() -> None:
    slow, slower = convolutions([1.15]), convolutions([2.5])
    spread = Spread(devices=0.1, networks=0.1, measured=True)
    near = moved(slow, fit_networks(slow, START, spread)) / math.log(1.15)
    far = moved(slower, fit_networks(slower, START, spread)) / math.log(2.5)
    assert 0 < far < near / 2


def test_runs_of_one_network_count_as_one() -> None:
    (row,) = convolutions([1.3])
    once, often = (moved([row], fit_networks([row] * n, START, SPREAD)) for n in (1, 9))
    assert often == pytest.approx(once, rel=0.15)


def test_a_held_out_fold_has_no_part_in_its_own_prediction() -> None:
    rows = convolutions([1.3, 1.2, 1.4, 1.25, 1.35])
    folds = folds_of(rows)
    before = calibrate(rows, folds, START)
    held = int(np.flatnonzero(folds[2])[0])
    other = [replace(r, run=replace(r.run, latency_ms=1.5 * r.run.latency_ms)) if i == held else r
             for i, r in enumerate(rows)]  # fmt: skip
    after = calibrate(other, folds, START)
    assert after.latencies[held] == before.latencies[held]
    seen = [i for i in range(len(rows)) if i != held]
    assert (after.latencies[seen] != before.latencies[seen]).any()


def test_a_calibration_learns_what_all_families_share() -> None:
    rows = convolutions([1.4, 1.42, 1.38, 1.4, 1.41])
    found = calibrate(rows, folds_of(rows), START)
    errors = np.abs(found.latencies / [r.measured for r in rows] - 1)
    assert errors.mean() < 0.1
    assert moved(rows, found.constants) > 0.25


def test_a_calibration_is_the_mean_of_fits_that_leave_two_folds_out() -> None:
    rows = convolutions([1.1, 1.3, 1.6])
    space = space_of(CHOSEN.block, START)
    alone = [steps_of(space, one_by_one([row]), measured_of([row])) for row in rows]
    found = calibrate(rows, folds_of(rows), START)
    assert found.constants == pytest.approx(space.values(np.mean(alone, axis=0)))
    # the fits without a fold and one more are those to each of the two others
    folds = [int(np.flatnonzero(fold)[0]) for fold in folds_of(rows)]
    others = [alone[folds[1]], alone[folds[2]]]
    expected = rows[folds[0]].predicted(space.values(np.mean(others, axis=0)))
    assert found.latencies[folds[0]] == pytest.approx(expected)


def test_two_families_are_each_predicted_by_the_other() -> None:
    rows = convolutions([1.2, 1.25])
    folds = folds_of(rows)
    found = calibrate(rows, folds, START)
    (first,) = (row for row, taken in zip(rows, folds[0], strict=True) if taken)
    (second,) = (row for row, taken in zip(rows, folds[1], strict=True) if taken)
    at = int(np.flatnonzero(folds[0])[0])
    assert found.latencies[at] == pytest.approx(first.predicted(fit_all([second], START)))
    outcome = run_tier(rows, "families")
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
    others = residuals.residual_of(CHOSEN, "calibrated", without="t4", single=True)
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
    # runs of one kernel are no guide to networks, nor the other way round
    known["blocks"][f"{CHOSEN.block}/kernel"] = {"datasheet": {"l4": entry(0.5, 0.4)}}
    assert residuals.spread_of(CHOSEN, without="t4") == found
    single = residuals.spread_of(CHOSEN, without="t4", single=True)
    assert (single.devices, single.networks) == pytest.approx((0.5, 0.4))
    # a class that was never validated is spread like all of them together
    unknown = residuals.spread_of(setting("galaxy-s24:npu"))
    assert unknown.devices == pytest.approx(math.sqrt((4.0 + 0.09 + 0.01) / 3))
    known["blocks"] = {}
    nothing = residuals.spread_of(setting("galaxy-s24:npu"))
    assert nothing.devices == pytest.approx(math.log(3 / 0.4) / residuals.MIDDLE)


def test_measured_machines_are_compared_with_measured_machines(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def entry(middle: float) -> dict[str, object]:
        return {"rows": 9, "quantiles": [middle for _ in residuals.LEVELS], "networks": 0.1}

    block = "x86/eager"
    tiers = {
        "datasheet": {"i9-10940x": entry(1.0)},
        "microbenchmarks": {"xeon": entry(0.2)},
        "one-network": {"i9-10940x": entry(0.5)},
        "microbenchmarks, one network": {"xeon": entry(0.05)},
    }
    known = {
        "coverage": 0.8, "unvalidated": [0.4, 3.0], "unseen_device_factor": 1.0,
        "blocks": {block: tiers},
    }  # fmt: skip
    monkeypatch.setattr(residuals, "document", lambda: known)
    sheet = setting("i7-12700h")
    measured = Measured(date="2026-11-27", software={}, constants={"eager": {"dispatch_us": 5.0}})
    host = replace(sheet, profile=sheet.profile.model_copy(update={"measured": measured}))
    assert sheet.block == block
    for chosen, name, first, then in ((sheet, "i9-10940x", 1.0, 0.5), (host, "xeon", 0.2, 0.05)):
        for tier, middle in (("datasheet", first), ("one-network", then)):
            found = residuals.residual_of(chosen, tier)
            assert found.validated.endswith(f"on {name}")
            assert found.high == pytest.approx(math.exp(middle))
        assert residuals.spread_of(chosen).devices == pytest.approx(first)


def test_the_document_tells_how_far_the_reference_network_lies() -> None:
    kernels = convolutions([1.0, 1.1, 1.2, 1.3, 1.4])
    networks = [replace(row, run=replace(row.run, convolution=None)) for row in kernels]
    for rows, name in ((kernels, f"{CHOSEN.block}/kernel"), (networks, CHOSEN.block)):
        document = spread_document([scored(run_tier(rows, "none"), "datasheet")])
        assert list(document["blocks"]) == [name]
        entry = document["blocks"][name]["datasheet"]["t4"]
        assert entry["rows"] == 5
    # the third is the one to calibrate on; the median of the others is between 1.1 and 1.3
    apart = math.log(1.2) - (math.log(1.1) + math.log(1.3)) / 2
    assert entry["networks"] == pytest.approx(abs(apart), abs=1e-4)


def test_a_single_kernel_has_the_interval_of_single_kernels() -> None:
    network = residuals.residual_of(CHOSEN)
    single = residuals.residual_of(CHOSEN, single=True)
    # the errors of many kernels even out in a network
    assert single.high / single.low > network.high / network.low
    unvalidated = setting("rtx4090", execution="eager", dtype="fp32", layout="nchw")
    assert residuals.residual_of(unvalidated, single=True) == residuals.residual_of(unvalidated)
