"""Microbenchmarks, and the constants that are fitted on them."""

from __future__ import annotations

import statistics
from collections import Counter
from contextlib import ExitStack
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import networkx as nx
import numpy as np
import pytest
import torch

from costmodel.api import trace
from costmodel.errors import CostModelError
from costmodel.execution import kernels_of
from costmodel.hardware import load_profile
from costmodel.machine.constants import constants_of, values_of
from costmodel.measure import calibrate, pace, runtimes
from costmodel.measure.calibrate import (
    ROUNDS,
    Session,
    Timed,
    at_one_pace,
    fit_constants,
    fitted,
    rows_of,
    timed,
)  # fmt: skip
from costmodel.measure.microbench import Microbenchmark, microbenchmarks, traced
from costmodel.roofline import times_of

PROFILE = load_profile("epyc-genoa")
SOME = microbenchmarks()[:40]


def test_names_are_distinct() -> None:
    counts = Counter(benchmark.name for benchmark in microbenchmarks())
    assert max(counts.values()) == 1


def test_converters_get_none_whose_layers_they_merge() -> None:
    """Four relus in a row are one to them; PyTorch runs all four."""
    eager, compiled, converted = (
        {benchmark.name for benchmark in microbenchmarks(runtime)}
        for runtime in ("eager", "compiled", "onnxruntime")
    )
    assert eager - converted == {
        "relu 1x96x14x14", "relu 1x64x56x56", "relu 1x96x112x112", "small relu",
    }  # fmt: skip
    assert eager == compiled >= set(pace.PROBES)


def test_a_runtime_is_calibrated_by_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(calibrate, "microbenchmarks", lambda runtime: asked.append(runtime) or ())
    assert calibrate.prepared("ncnn", 1, float("inf"), ExitStack(), asked.append) == []
    assert asked == ["ncnn"]


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


def test_a_fit_knows_that_measuring_keeps_memory() -> None:
    assert values_of("x86/compiled")["page_ns"] > 0
    found = fitted(PROFILE, "compiled", [Timed(b, 1, 1e-3) for b in SOME[:4]])
    assert found["page_ns"] == 0


def test_weights_and_the_first_outputs_are_cold() -> None:
    """Others filled the caches: the same chain in a loop of its own takes less, not far less."""
    benchmark = next(b for b in SOME if b.kind == "linear")
    (row,) = rows_of(PROFILE, "eager", [Timed(benchmark, 1, 1.0)])
    *kernels, rest = row.work.kernels
    own = tuple(access for access in kernels[0].reads if access.storage >= 0)
    fetched = [access.nbytes for access in kernels[0].reads if access.storage < 0]
    assert fetched == [access.nbytes for kernel in kernels for access in kernel.writes][:2]
    bare = [replace(kernels[0], reads=own), *kernels[1:]]
    alone = times_of(bare, row.setting).latency.sum()
    assert alone < row.predicted() < 10 * alone
    assert times_of(row.work.kernels, row.setting).latency[-1] == 0.0
    assert rest.inside


def test_chains_get_their_blocks_back() -> None:
    benchmark = next(b for b in microbenchmarks() if b.kind == "normalisation")
    assert any(k.scattered for k in kernels_of(traced(benchmark).rows, "eager", "fp32"))
    (row,) = rows_of(PROFILE, "eager", [Timed(benchmark, 1, 1.0)])
    assert not any(k.scattered for k in row.work.kernels)


def test_timing_gives_positive_seconds_and_the_threads_used() -> None:
    said: list[str] = []
    found = timed("eager", 1, 2.0, said.append, (1,))
    assert found.points
    assert said[-1].startswith("eager, threads: 1, round ")
    assert all(point.seconds > 0 and point.threads == 1 for point in found.points)
    assert 0 < found.probe_ms[1] < 1e3


def test_the_pace_is_taken_every_so_often_in_a_round(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []

    def paced(threads: int) -> float:
        order.append(f"pace {threads}")
        return float(len(order))

    run = SimpleNamespace(run=lambda: order.append("run"))
    monkeypatch.setattr(pace, "probe", lambda: paced)
    monkeypatch.setattr(calibrate, "prepared", lambda *_: [(SOME[0], run)] * (pace.BETWEEN + 5))
    found = timed("eager", 1, 0.0, lambda _: None, (1, 2))
    a_round = ["pace 1", "pace 2"] + ["run"] * pace.BETWEEN + ["pace 1", "pace 2"] + ["run"] * 5
    assert order == a_round * ROUNDS
    starts = [1 + len(a_round) * i + j for i in range(ROUNDS) for j in (0, pace.BETWEEN + 2)]
    assert found.probe_ms == {1: statistics.median(starts), 2: statistics.median(starts) + 1}


def test_too_little_time_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibrate, "timed", lambda *_: Session((), {}))
    with pytest.raises(CostModelError, match="12 are needed; give more --seconds"):
        fit_constants(PROFILE, ["eager"], threads=1, seconds=1.0)


def test_a_fit_says_how_many_points_it_rests_on(monkeypatch: pytest.MonkeyPatch) -> None:
    points = tuple(Timed(benchmark, 1, 1e-3) for benchmark in SOME[:12])
    monkeypatch.setattr(calibrate, "timed", lambda *_: Session(points, {1: 1.0}))
    found = fit_constants(PROFILE, ["eager"], threads=2, seconds=1.0)["eager"]
    assert (found.points, found.probe_ms) == (24, {"1": 1.0})


def test_an_unknown_runtime_is_refused_before_anything_runs() -> None:
    with pytest.raises(CostModelError, match="nothing measures execution 'tvm'"):
        fit_constants(PROFILE, ["eager", "tvm"], threads=1, seconds=1.0)


def test_a_layer_that_a_runtime_refuses_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    known = runtimes.prepare

    def refusing(runtime: str, *inputs: Any, **how: Any) -> Any:
        if runtime == "ncnn":
            raise CostModelError("cannot convert it")
        return known(runtime, *inputs, **how)

    monkeypatch.setattr(runtimes, "prepare", refusing)
    assert timed("ncnn", 1, 0.2, lambda _: None, (1,)) == Session((), {})


def test_sessions_are_brought_to_one_pace() -> None:
    """The second session found everything, itself included, to take four times as long."""
    one, two = SOME[:2]
    sessions = [
        Session((Timed(one, 1, 3.0),), {1: 1.0, 2: 0.5}),
        Session((Timed(two, 2, 8.0),), {1: 4.0, 2: 2.0}),
    ]
    points, paces = at_one_pace(sessions)
    assert points == [Timed(one, 1, pytest.approx(6.0)), Timed(two, 2, pytest.approx(4.0))]
    assert paces == pytest.approx({1: 2.0, 2: 1.0})
    assert at_one_pace(sessions[:1]) == (list(sessions[0].points), {1: 1.0, 2: 0.5})
    assert at_one_pace([]) == ([], {})
    # Nobody took the pace of older rounds.
    bare = [replace(session, probe_ms={}) for session in sessions]
    assert at_one_pace(bare) == ([Timed(one, 1, 3.0), Timed(two, 2, 8.0)], {})


@pytest.mark.parametrize(
    "benchmark", [b for b in microbenchmarks() if b.mode == "eval"], ids=lambda b: b.name
)
def test_compilers_that_inline_do_not_double_a_microbenchmark_at_every_step(
    benchmark: Microbenchmark,
) -> None:
    with torch.device("meta"):
        graph = trace(benchmark.build().eval(), torch.empty(benchmark.shape))
    ways: dict[int, int] = {}
    for node in nx.topological_sort(graph):
        before = [ways[other] for other in graph.predecessors(node)]
        ways[node] = sum(before) or 1
    assert max(ways.values()) < 100, "paths from the input to one op"
