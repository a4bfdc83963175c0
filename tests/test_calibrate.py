"""Microbenchmarks, and the constants that are fitted on them."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from costmodel.errors import CostModelError
from costmodel.hardware import load_profile
from costmodel.machine.constants import constants_of, values_of
from costmodel.measure import calibrate
from costmodel.measure.calibrate import (
    Timed,
    fit_constants,
    fitted,
    points_of,
    rows_of,
    timed,
)  # fmt: skip
from costmodel.measure.microbench import microbenchmarks

PROFILE = load_profile("epyc-genoa")
SOME = microbenchmarks()[:40]


def test_names_are_distinct() -> None:
    counts = Counter(benchmark.name for benchmark in microbenchmarks())
    assert max(counts.values()) == 1


def test_the_first_ones_span_every_kind() -> None:
    kinds = {benchmark.kind for benchmark in microbenchmarks()}
    assert {benchmark.kind for benchmark in microbenchmarks()[: len(kinds)]} == kinds


def test_a_fit_finds_the_machine_that_made_the_times() -> None:
    """Times made by the model itself, with other constants than it ships."""
    block = "x86/eager"
    limits = constants_of(block)
    planted = values_of(block)
    for name, factor in (("matrix_efficiency", 0.8), ("issue_us", 1.5), ("row_ns", 0.6)):
        planted[name] = min(planted[name] * factor, limits[name].high)
    bare = [Timed(b, threads, 1.0) for b in SOME for threads in (1, 8)]
    times = [row.predicted(planted) for row in rows_of(PROFILE, "eager", bare)]
    points = [
        Timed(p.benchmark, p.threads, seconds) for p, seconds in zip(bare, times, strict=True)
    ]
    found = fitted(PROFILE, "eager", points)
    again = [row.predicted(found) for row in rows_of(PROFILE, "eager", points)]
    assert np.median(np.abs(np.array(again) / np.array(times) - 1)) < 0.03
    before = abs(values_of(block)["matrix_efficiency"] / planted["matrix_efficiency"] - 1)
    assert abs(found["matrix_efficiency"] / planted["matrix_efficiency"] - 1) < before / 2


def test_cold_weights_come_from_memory() -> None:
    """What filled the caches takes no time itself, and makes the same chain no faster."""
    benchmark = next(b for b in SOME if b.kind == "linear")
    warm, cold = rows_of(
        PROFILE, "eager", [Timed(benchmark, 1, 1.0), Timed(benchmark, 1, 1.0, cold=True)]
    )
    assert cold.predicted() > warm.predicted()
    assert cold.predicted() < 10 * warm.predicted()


def test_fetching_code_is_taken_off_what_others_left_cold() -> None:
    """Three rounds: the smallest chain takes 80 us more at first, a larger one 500 us."""
    small = next(b for b in microbenchmarks() if b.kind == "small")
    large = next(b for b in microbenchmarks() if b.kind == "linear")
    step = next(b for b in microbenchmarks() if b.mode == "train")
    rounds = [(130e-6, 50e-6), (90e-6, 40e-6), (131e-6, 51e-6)]
    slow = [(2.5e-3, 2e-3), (9e-3, 2e-3), (2.5e-3, 2e-3)]
    found = points_of([small, large, step], [rounds, slow, slow], 4)
    assert found == [
        Timed(small, 4, 50e-6),
        Timed(large, 4, 2e-3),
        Timed(large, 4, pytest.approx(2.42e-3), cold=True),
        Timed(step, 4, 2e-3),
    ]


def test_nothing_cold_is_faster_than_the_same_warm() -> None:
    large = next(b for b in microbenchmarks() if b.kind == "linear")
    small = next(b for b in microbenchmarks() if b.kind == "small")
    warm, cold = points_of([small, large], [[(3e-3, 1e-3)], [(2.1e-3, 2e-3)]], 1)[1:]
    assert (cold.seconds, cold.cold) == (warm.seconds, True)


def test_timing_gives_positive_seconds_and_the_threads_used() -> None:
    said: list[str] = []
    found = timed("eager", 1, 2.0, said.append)
    assert found
    assert said[-1].startswith("eager, threads: 1, round ")
    assert all(point.seconds > 0 and point.threads == 1 for point in found)


def test_too_little_time_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibrate, "timed", lambda *_: iter(()))
    with pytest.raises(CostModelError, match="12 are needed; give more --seconds"):
        fit_constants(PROFILE, ["eager"], threads=1, seconds=1.0)


def test_an_unknown_runtime_is_refused_before_anything_runs() -> None:
    with pytest.raises(CostModelError, match="nothing measures execution 'tvm'"):
        fit_constants(PROFILE, ["eager", "tvm"], threads=1, seconds=1.0)


def test_a_layer_that_a_runtime_refuses_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def refusing(*_: object, **__: object) -> object:
        raise CostModelError("cannot convert it")

    monkeypatch.setattr("costmodel.measure.runtimes.prepare", refusing)
    assert timed("eager", 1, 0.2, lambda _: None) == []
