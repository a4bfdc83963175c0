"""The figures of a group by hand: errors, ranks, coverage, baselines, folds, fits, residuals."""

from __future__ import annotations

import importlib.util
import math
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from costmodel.calibration import Calibration, Entry, load, save, with_interval
from costmodel.errors import CostModelError
from costmodel.hardware import load_profile
from costmodel.machine import constants, residuals
from costmodel.roofline import predict
from costmodel.setting import setting
from costmodel.validate import TIERS, fit, scored
from costmodel.validate.baselines import k_macs, k_macs_activations
from costmodel.validate.predict_rows import Row, Work, work_of
from costmodel.validate.runs import Convolution, Run
from costmodel.validate.score import score, spearman
from costmodel.validate.spread import dump, unseen_device_factor
from costmodel.validate.tiers import folds_of, reference_network, run_tier, with_intervals
from costmodel.validate.tracing import convolution_table


def run_named(model: str, ms: float = 1.0, batch: int = 1) -> Run:
    return Run("t4", "", "eager", "fp32", "nchw", None, model, "3x8x8", batch, ms)


def row(model: str, macs: int = 1, ms: float = 1.0, batch: int = 1) -> Row:
    chosen = setting("t4", execution="eager", dtype="fp32")
    return Row(run_named(model, ms, batch), chosen, Work((), macs, 1))


def convolutions(scale: float = 1.0) -> list[Row]:
    """Convolutions of several octaves, measured at ``scale`` x the data-sheet prediction."""
    chosen = setting("t4", execution="eager", dtype="fp32", layout="nchw")
    rows = []
    for channels in (16, 48, 96, 192, 384):
        shape = Convolution(channels, 128, 3, 28, 1, 1)
        run = Run("t4", "", "eager", "fp32", "nchw", None, f"conv{channels}", f"{channels}x28x28",
                  64, 1.0, convolution=shape)  # fmt: skip
        (work,) = work_of([(run, 0)]).values()
        assert isinstance(work, Work)
        found = Row(run, chosen, work)
        seconds = found.predicted(constants.values_of(chosen.block, without="t4"))
        rows.append(replace(found, run=replace(run, latency_ms=1e3 * scale * seconds)))
    return rows


def test_score_by_hand() -> None:
    # errors: +5 %, -20 %, +50 %, 0
    found = score(
        [10.0, 10.0, 10.0, 20.0],
        [10.5, 8.0, 15.0, 20.0],
        [(9.0, 12.0), (7.0, 9.0), (10.0, 20.0), (19.0, 19.5)],
        ["a", "b", "a", "b"],
    )
    assert found.rows == 4
    assert found.mape == pytest.approx((0.05 + 0.2 + 0.5 + 0.0) / 4)
    assert found.median_ape == pytest.approx(0.125)
    assert found.within_10 == pytest.approx(0.5)
    assert found.within_20 == pytest.approx(0.75)
    assert found.bias == pytest.approx(0.0875)
    assert found.interval_coverage == pytest.approx(0.5)
    assert list(found.by_family) == ["a", "b"]
    assert found.by_family["a"].mape == pytest.approx(0.275)
    assert found.by_family["b"].bias == pytest.approx(-0.1)


def test_spearman_by_hand() -> None:
    assert spearman(np.array([1.0, 2.0, 3.0]), np.array([10.0, 200.0, 3000.0])) == pytest.approx(1)
    assert spearman(np.array([1.0, 2.0, 3.0]), np.array([3.0, 2.0, 1.0])) == pytest.approx(-1)
    # ranks 1, 2.5, 2.5, 4 against 1, 2, 3, 4: covariance 4.5 over sqrt(4.5 x 5)
    tied = spearman(np.array([1.0, 2.0, 2.0, 3.0]), np.array([1.0, 2.0, 3.0, 4.0]))
    assert tied == pytest.approx(4.5 / math.sqrt(22.5))
    assert math.isnan(spearman(np.array([1.0]), np.array([1.0])))
    assert math.isnan(spearman(np.array([1.0, 1.0]), np.array([1.0, 2.0])))


def test_baselines_are_fitted_on_the_other_folds() -> None:
    macs = np.array([1.0, 2.0, 3.0, 4.0])
    folds = [np.array([True, True, False, False]), np.array([False, False, True, True])]
    assert k_macs(macs, 7 * macs, folds) == pytest.approx(0)
    # The second fold is twice as slow: scored with k of the other fold, 1/2 - 1 and 2 - 1.
    assert k_macs(macs, macs * [1, 1, 2, 2], folds) == pytest.approx((0.5 + 1.0) / 2)
    activations = np.array([1.0, 5.0, 2.0, 9.0])
    exact = 3 * (macs + 100 * activations)
    assert k_macs_activations(macs, activations, exact, folds) == pytest.approx(0, abs=1e-9)
    assert k_macs(macs, exact, folds) > 0.1
    assert math.isnan(k_macs(macs, macs, folds[:1]))


def test_a_baseline_minimises_its_own_error() -> None:
    # On its own rows: 1 x 1/1 and 3 rows at ratio 2; the weighted median is k = 0.5 -> 1/8 error.
    work = np.array([1.0, 2.0, 2.0, 2.0])
    folds = [np.array([True] * 4 + [False] * 4), np.array([False] * 4 + [True] * 4)]
    found = k_macs(np.tile(work, 2), np.ones(8), folds)
    best = min(float(np.abs(k * work - 1).mean()) for k in np.linspace(0.01, 2, 2000))
    assert found == pytest.approx(best, abs=1e-3)


def test_folds_hold_out_whole_families() -> None:
    models = ["a1"] * 5 + ["b1"] * 4 + ["c1", "d1", "e1", "f1", "g1"]
    rows = [row(f"timm:{model}") for model in models]
    folds = folds_of(rows)
    assert len(folds) == 5
    assert sum(fold.astype(int) for fold in folds).tolist() == [1] * len(rows)
    for fold in folds:
        held = {r.run.family for r, out in zip(rows, fold, strict=True) if out}
        kept = {r.run.family for r, out in zip(rows, fold, strict=True) if not out}
        assert not held & kept
    assert len(folds_of(rows[:9])) == 2


def test_the_one_network_is_that_of_median_macs_per_sample() -> None:
    rows = [row("timm:a", 80, batch=8), row("timm:b", 20), row("timm:c", 30), row("timm:b", 99)]
    assert reference_network(rows) == "timm:b"
    assert reference_network(rows[:2]) == "timm:a"


def test_a_slower_device_is_calibrated_on_one_network() -> None:
    rows = [replace(r, run=replace(r.run, convolution=None)) for r in convolutions(1.25)]
    before = run_tier(rows, "none").predicted
    outcome = run_tier(rows, "one")
    after = outcome.predicted
    assert len(after) == len(rows) - 1

    def error(items: object) -> float:
        return float(np.mean([abs(i.latency / i.row.measured - 1) for i in items]))  # type: ignore[attr-defined]

    assert error(before) == pytest.approx(0.2)
    assert error(after) < 0.15  # half of the way: devices of this class were alike so far
    assert outcome.basis == "conv96, 1 run"


def test_families_are_scored_with_constants_of_the_others() -> None:
    rows = convolutions(1.25)
    outcome = run_tier(rows, "families")
    errors = [abs(i.latency / i.row.measured - 1) for i in outcome.predicted]
    assert float(np.mean(errors)) < 0.05
    limits = constants.constants_of(rows[0].setting.block)
    for name, value in outcome.constants.items():
        assert limits[name].low <= value <= limits[name].high


def test_calibration_needs_something_to_hold_out() -> None:
    rows = convolutions()[:1]
    with pytest.raises(CostModelError, match="second one"):
        run_tier(rows, "one")
    with pytest.raises(CostModelError, match="at least two"):
        run_tier(rows, "families")


def test_a_fit_never_leaves_the_physical_limits() -> None:
    rows = [replace(r, run=replace(r.run, latency_ms=1e-6)) for r in convolutions()]
    limits = constants.constants_of(rows[0].setting.block)
    start = constants.values_of(rows[0].setting.block)
    wide = residuals.Spread(devices=5.0, networks=0.01)
    for found in (fit.fit_all(rows, start), fit.fit_networks(rows, start, wide)):
        for name, value in found.items():
            assert limits[name].low <= value <= limits[name].high
        assert found["stream_efficiency"] > start["stream_efficiency"]


def test_thinning_keeps_every_family() -> None:
    rows = [row(f"timm:{family}{i}", i) for family in "abcdefgh" for i in range(50)]
    kept = fit.thin(rows, 40)
    assert len(kept) == 40
    assert {r.run.family for r in kept} == set("abcdefgh")
    assert kept == fit.thin(rows, 40)


def test_intervals_come_from_other_families() -> None:
    # Family a is measured at the prediction, b at twice: a's interval is that of b's errors.
    rows = [row(f"timm:{family}_{i}", ms=ms) for family, ms in (("a", 1.0), ("b", 2.0))
            for i in range(20)]  # fmt: skip
    found = with_intervals([(r, 1e-3) for r in rows], "families")
    assert found[0].interval == pytest.approx((2e-3, 2e-3))
    assert found[-1].interval == pytest.approx((1e-3, 1e-3))


def test_residuals_pool_devices_and_widen_for_unseen_ones() -> None:
    flat = [math.log(1.1)] * len(residuals.LEVELS)
    assert residuals.bounds([flat], 0.8) == pytest.approx((1.1, 1.1))
    line = [float(level) for level in residuals.LEVELS]
    low, high = residuals.bounds([line], 0.8)
    assert (math.log(low), math.log(high)) == pytest.approx((0.1, 0.9))
    low, high = residuals.bounds([line], 0.8, 2.0)
    assert (math.log(low), math.log(high)) == pytest.approx((-0.3, 1.3))


def test_the_widening_makes_left_out_devices_covered() -> None:
    random = np.random.default_rng(0)
    devices = {f"d{i}": list(random.normal(random.normal(0, 0.2), 0.1, 200)) for i in range(12)}
    factor = unseen_device_factor({"gpu/eager": {"datasheet": devices}})
    assert 0.8 < factor < 2.5
    assert unseen_device_factor({"gpu/eager": {"datasheet": {"one": [0.0]}}}) == 1.0


def test_residuals_are_written_as_they_are_read() -> None:
    document = {
        "coverage": 0.8, "unvalidated": [0.4, 3.0], "unseen_device_factor": 1.2,
        "blocks": {"gpu/eager": {"datasheet": {"t4": {"rows": 2, "quantiles": [0.0, 1.5]}}}},
    }  # fmt: skip
    assert yaml.safe_load(dump(document)) == document
    assert yaml.safe_load(dump({**document, "blocks": {}}))["blocks"] == {}


def test_constants_without_a_device_owe_it_nothing() -> None:
    seen = constants.Constant("x", 0.5, 0.0, 1.0, "1", "m", ("a", "b"), 0.3, {"a": 0.6})
    assert seen.ignoring(None) == 0.5
    assert seen.ignoring("c") == 0.5
    assert seen.ignoring("a") == 0.6
    assert seen.ignoring("b") == 0.3
    assert replace(seen, prior=None).ignoring("b") is None


def entry(**changes: object) -> Entry:
    fields = {
        "hw": "t4:gpu", "execution": "eager", "layout": "nchw", "dtype": "fp32",
        "tier": "one-network", "basis": "conv, 1 run", "low": 0.9, "high": 1.2,
        "constants": {"stream_efficiency": 0.5},
    }  # fmt: skip
    return Entry.model_validate({**fields, **changes})


def test_a_calibration_is_read_back_and_used(tmp_path) -> None:
    made = Calibration(entries=(entry(layout="nhwc", dtype="amp-fp16"), entry()))
    path = tmp_path / "t4.yaml"
    save(made, path)
    assert load(path) == made
    chosen = setting("t4", execution="eager", dtype="fp32", layout="nchw")
    found = load(path).entry(chosen)
    assert found == made.entries[1]
    run = convolutions()[0].run
    prediction = predict(convolution_table(run), "t4", execution="eager", dtype="fp32",
                         layout="nchw", calibration=found.constants)  # fmt: skip
    shown = with_interval(prediction, found)
    assert shown.interval_s == pytest.approx((0.9 * shown.latency_s, 1.2 * shown.latency_s))
    assert shown.validated == "calibrated on this device: conv, 1 run"
    assert not shown.notes
    assert with_interval(prediction, made.entries[0]).notes
    with pytest.raises(CostModelError, match="has t4:gpu eager, not rtx4090:gpu eager"):
        made.entry(setting("rtx4090", execution="eager"))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("a: [", "is not YAML"),
        ("entries: []", "is no calibration file"),
        ("costmodel_calibration: 1\nentries: [{hw: x}]", "entries.0.execution: Field required"),
        ("costmodel_calibration: 1\nentries: []\nmore: 1", "more: Extra inputs"),
    ],
)
def test_a_bad_calibration_file_is_explained(tmp_path, text: str, why: str) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(CostModelError, match=why):
        load(path)
    with pytest.raises(CostModelError, match="cannot read"):
        load(tmp_path / "none.yaml")


def script(name: str) -> Any:
    path = Path(__file__).parents[1] / "benchmarks" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # its dataclasses look themselves up
    spec.loader.exec_module(module)
    return module


def test_constants_are_written_as_they_are_read() -> None:
    text = Path(constants.__file__).with_name("constants.yaml").read_text()
    before = yaml.safe_load(text)
    after = yaml.safe_load(script("fit_constants").dump(before))
    assert after == before
    shared = [[a for a in d if d[a] is d[b]] for d in (before, after) for b in d]
    assert shared[: len(before)] == shared[len(before) :]


def test_a_refit_leaves_each_device_out_once() -> None:
    rows = convolutions(1.2)
    twins = [replace(r, setting=setting("l4", execution="eager", dtype="fp32")) for r in rows]
    slow = [replace(r, run=replace(r.run, latency_ms=1.3e3 * r.predicted())) for r in twins]
    fixed = {"stream_efficiency": ["t4"], "exposed": ["t4", "a100"], "simt_efficiency": ["v100"]}
    block = rows[0].setting.block
    found = script("fit_constants").fit_block([*rows, *slow], block, 100, fixed)
    assert found.keys() >= {"stream_efficiency", "exposed"}
    assert "simt_efficiency" not in found  # another device fixed it
    stream = found["stream_efficiency"]
    assert stream["fixed_on"] == ["l4", "t4"]
    assert set(stream["without"]) == {"l4", "t4"}
    assert stream["without"]["t4"] != stream["without"]["l4"]


def test_a_refit_can_begin_at_what_another_block_says_without_a_device() -> None:
    before = script("fit_constants").before
    name, devices = "convolution_efficiency", ["epyc-genoa", "i9-10940x"]
    other = constants.constants_of("x86/eager")[name]
    assert before("x86/compiled", devices, "x86/eager")[name] == other.value
    begin = before("x86/compiled", devices, "x86/eager", unseen="epyc-genoa")
    assert begin[name] == other.without["epyc-genoa"] != other.value
    own = constants.constants_of("x86/compiled")["page_ns"]  # eager has none
    assert begin["page_ns"] == own.without["epyc-genoa"]


def test_a_refit_sees_a_machine_without_what_was_measured_there(tmp_path: Path) -> None:
    unmeasured = script("fit_constants").unmeasured
    folder = Path(__file__).parents[1] / "benchmarks" / "host" / "xeon-6-vm"
    bare = unmeasured(folder / "compiled-threads-1.csv", tmp_path)
    known, stripped = load_profile(folder / "profile.yaml"), load_profile(bare)
    assert known.measured is not None
    assert stripped.measured is None
    assert stripped.engines == known.engines
    assert unmeasured(tmp_path / "rtx3090.csv", tmp_path) is None


def test_the_accuracy_report_names_rows_tiers_and_constants() -> None:
    accuracy = script("accuracy")
    rows = convolutions(1.25)
    groups = tuple(scored(run_tier(rows, tier), TIERS[tier]) for tier in TIERS)
    text = "\n".join(accuracy.report([accuracy.File("conv-t4", groups, ())]))
    line = next(line for line in text.splitlines() if line.startswith("| conv-t4 |"))
    assert line.split("|")[2].strip() == str(len(rows))
    assert "20.0" in line.split("|")[3]
    assert accuracy.near_by_chance(1, 0.8) == 0
    assert accuracy.near_by_chance(5, 0.8) == pytest.approx(5 * 0.8**4 * 0.2)
    assert 0.9 < accuracy.near_by_chance(1500, 0.8) <= 1
    for part in ("## Worst rows", "gpu/eager", "k·(MACs + λ·act.)", "Intervals claim 80 %"):
        assert part in text


def test_rows_timed_together_take_what_they_take_alone() -> None:
    rows = convolutions()
    together = fit.seconds_of(rows)
    assert together is not None
    constants_ = constants.values_of(rows[0].setting.block)
    assert together(constants_) == pytest.approx(fit.one_by_one(rows)(constants_), rel=1e-12)
    assert len({round(value, 12) for value in together(constants_)}) > 1
