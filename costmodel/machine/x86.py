"""An x86 CPU: a library's kernels for products, vector loops for the rest, all cores on each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from costmodel.execution import generates_loops, grain_of, runs_framework
from costmodel.execution.kernel import Kernel
from costmodel.hardware.catalog import core
from costmodel.hardware.peaks import core_rate, fastest_cores
from costmodel.hardware.schema import CpuEngine, DType
from costmodel.machine.features import Features, distinct, features_of, joined, taken
from costmodel.machine.heap import Blocks, blocks_of, page_seconds
from costmodel.machine.parts import Parting
from costmodel.machine.times import Array, Latencies, Timer, Times, run_seconds
from costmodel.machine.x86_choices import Machine, choices_of
from costmodel.machine.x86_kernels import evaluate
from costmodel.machine.x86_traffic import footprint_of, packed_weights

if TYPE_CHECKING:
    from costmodel.setting import Setting

#: Vectors that a core multiplies at once, if its multipliers are as wide as they: 512-bit ones take
#: both of those of Zen 4, or the two smaller ones of a Xeon that has no third.
_PIPES = 2


def timer(kernels: Sequence[Kernel], chosen: Setting) -> Timer:
    """The time of every kernel of a run, once constants are known."""
    run, machine = features_of(kernels), machine_of(chosen, {k.dtype for k in kernels})
    pages = blocks_of(kernels, *_packed(run, machine)).pages

    def times(constants: Mapping[str, float]) -> Times:
        found = evaluate(run, machine, constants).times()
        return found.later(pages * page_seconds(constants)).begun(run_seconds(constants))

    return times


def parts(
    kernels: Sequence[Kernel], chosen: Setting, before: Mapping[int, float] | None = None
) -> Parting:
    """What those times are made of; ``before`` as in `costmodel.machine.caches.touches`."""
    run, machine = features_of(kernels, before), machine_of(chosen, {k.dtype for k in kernels})
    return lambda constants: evaluate(run, machine, constants)


def blocks(
    kernels: Sequence[Kernel],
    chosen: Setting,
    entered: Mapping[int, int] | None = None,
    out: int = -1,
) -> Blocks:
    """What a run asks of the allocator, or a part of it: ``entered``, ``out`` as in `blocks_of`."""
    run, machine = features_of(kernels), machine_of(chosen, {k.dtype for k in kernels})
    return blocks_of(kernels, *_packed(run, machine), entered, out)


def latencies(runs: Sequence[tuple[Sequence[Kernel], Setting]]) -> Latencies:
    """The seconds of many runs, once constants are known; equal kernels are timed once."""
    each = [features_of(kernels) for kernels, _ in runs]
    threads = np.repeat([float(chosen.threads or 0) for _, chosen in runs], [len(r) for r in each])
    pages = np.array([
        blocks_of(kernels, *_packed(one, machine_of(chosen, {k.dtype for k in kernels})))
        .pages.sum()
        for (kernels, chosen), one in zip(runs, each, strict=True)
    ])  # fmt: skip
    run = joined(each)
    number = np.repeat(np.arange(len(each)), [len(one) for one in each])
    weights, working = (
        np.array(sizes)[number] for sizes in zip(*(footprint_of(one) for one in each), strict=True)
    )
    parts = []
    for team in np.unique(threads):
        places = np.flatnonzero(threads == team)
        some = taken(run, places)
        first, place = distinct(some, weights[places], working[places])
        chosen = runs[number[places[0]]][1]
        machine = machine_of(chosen, set(map(str, run.dtype)))
        sizes = weights[places][first], working[places][first]
        parts.append((taken(some, first), machine, sizes, place, number[places]))

    def seconds(constants: Mapping[str, float]) -> Array:
        total = pages * page_seconds(constants) + run_seconds(constants)
        for kernels, machine, sizes, place, numbers in parts:
            found = evaluate(kernels, machine, constants, sizes)
            latency = found.latency(found.by_level.sum(axis=0))
            total += np.bincount(numbers, latency[place], len(each))
        return total

    return seconds


def _packed(run: Features, machine: Machine) -> tuple[Array, Array]:
    return packed_weights(run, machine, choices_of(run, machine))


def machine_of(chosen: Setting, dtypes: set[str]) -> Machine:
    """The rates of the setting's cores."""
    engine = chosen.profile.engines[chosen.engine]
    assert isinstance(engine, CpuEngine)
    team = fastest_cores(engine, chosen.threads)

    threads = sum(cluster.count for cluster in team)
    kind = core(team[0].core)

    def rate(dtype: str) -> float:
        """Libraries give every thread an equal part, so that the slowest core decides."""
        named: DType = dtype if dtype in ("fp64", "bf16", "fp16", "int8") else "fp32"  # type: ignore[assignment]
        return threads * min(core_rate(cluster, named) for cluster in team)

    l2 = sum(c.count * (c.l2_kb or 0.0) / (c.count if c.l2_shared else 1) for c in team) * 1024
    return Machine(
        {dtype: rate(dtype) for dtype in dtypes | {"fp32"}},
        kind.vector_bits // 32,
        int(kind.flops_per_cycle["fp32"]) // (2 * _PIPES),
        threads,
        min(cluster.clock_ghz for cluster in team) * 1e9,
        l2,
        (engine.l3_mb or 0.0) * 2**20,
        chosen.profile.memory.gb_per_s * 1e9,
        runs_framework(chosen.execution),
        grain_of(chosen.execution),
        generates_loops(chosen.execution),
    )
