"""The bytes that kernels move on an x86 CPU, and how fast its caches and memory bring them.

Weights come from main memory on every run unless all of them fit in the caches; activations stay in
the caches while their reuse distance allows it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

import numpy as np

from costmodel.machine.caches import Levels, Touches, hits
from costmodel.machine.features import Features
from costmodel.machine.times import Array
from costmodel.machine.x86_choices import (
    CONVOLUTIONS,
    PRODUCTS,
    Choices,
    Machine,
    biased,
    shares_of,
)

#: Share of what scattered kernels write that lands where nothing was for about a footprint. Of free
#: blocks glibc takes the smallest that is large enough, joined with its free neighbours, not the
#: one freed last. By the addresses of all tensors of 40 networks in eager PyTorch
#: (``benchmarks/addresses.py``), more than three times its size had been touched since the memory
#: was for 83 % of what is written at batch 1 and 82 % at batch 8; 1.0 of a footprint in the mean.
_ELSEWHERE = 0.8
#: Share of the second level that such a sweep finds for itself beside what is written.
_HELD = 0.75
#: Bytes of weights and of work: of one run, or for every kernel of several.
Sizes: TypeAlias = tuple[Array, Array] | tuple[float, float]


def footprint_of(run: Features) -> tuple[float, float]:
    """Bytes that a run brings in, and those that its largest kernel adds: a weight comes back after
    everything else of a run."""
    return float(run.fresh.sum()), 2 * float(run.written.max(initial=0.0))


def packed_weights(run: Features, machine: Machine, choices: Choices) -> tuple[Array, Array]:
    """Bytes of weights that PyTorch copies before they are used, and how often: into oneDNN's
    blocks, and into channels-last order before that. Those of one tap, or of one channel a group,
    are the same in that order as in the other. Runtimes have packed theirs before the first run."""
    library = choices.library & ~choices.unfolded
    turned = (run.window > 1) & (run.k > run.taps) & choices.channels_last
    weights = np.minimum(run.fresh, 4 * run.groups * run.n * run.k)
    packed: Array = weights * (library & machine.framework)
    return packed, np.where(turned, 2.0, 1.0)


def traffic(
    run: Features,
    machine: Machine,
    constants: Mapping[str, float],
    choices: Choices,
    footprint: Sizes,
    idle: Array,
) -> Touches:
    """Every access; what the library copies into its own order counts as further ones.

    ``idle``: how much threads without work slow each kernel down.
    """
    blocked = choices.library & ~choices.unfolded & ~choices.channels_last
    copied = np.where(blocked, constants["reorder_passes"], 0.0)
    # Copies in another order push operands out of the caches; what is written took the place of
    # what was freed about two tensors ago, if that was free to take.
    packed, copies = packed_weights(run, machine, choices)
    written, relaid = run.written - run.in_place, packed * copies
    further, as_far = 1.0 + copied, np.ones(len(run))
    elsewhere = written * run.scattered * _ELSEWHERE
    # What the groups of a product of PyTorch's own write is put together afterwards.
    joined = written * (choices.own & (run.groups > 1))
    # Images of one position are summed up one after another, each over all weights.
    images = np.where(choices.own & (run.positions == 1), np.maximum(run.m, 1.0), 1.0)
    again = run.fresh * (images - 1.0)
    # PyTorch hands over dense maps, in the order of what comes out: others are copied first.
    # Compilers write them so.
    copying = run.strided & np.isin(run.kind, CONVOLUTIONS) & machine.framework
    moved = (run.read - run.fresh) * copying
    turned = moved / np.where(run.stretches > 0, 1.0, constants["strided_efficiency"])
    accesses = [
        (run.fresh, np.full(len(run), np.inf), as_far, False),
        (again, run.fresh, as_far, False),
        (relaid, 2 * relaid, as_far, True),
        (relaid, 2 * relaid, as_far, False),
        (turned, 2 * moved, as_far, True),
        (turned, 2 * moved, as_far, False),
        *((size, distance, further, False) for size, distance in run.near),
        (written - elsewhere, 2 * run.written, as_far, True),
        (elsewhere, np.full(len(run), np.inf), as_far, True),
        (written * biased(run, machine), run.written, as_far, True),
        (joined, run.written, as_far, False),
        (joined, 2 * run.written, as_far, True),
        ((run.read - run.fresh + run.written) * copied, run.read + run.written, further, False),
    ]
    sizes, since, stretch = (np.concatenate([access[i] for access in accesses]) for i in range(3))
    # A line that is overwritten is fetched first, and goes back to memory later.
    returned = np.repeat([stored for *_, stored in accesses], len(run))
    product = np.isin(run.kind, PRODUCTS)
    # PyTorch's norms and softmaxes have copied theirs, and its loops that are known take elements
    # apart.
    copied_before = (run.rows > 0) & (not machine.generated)
    strided = run.strided & ~product & (run.stretches == 0) & ~copied_before
    slower = np.where(strided, constants["strided_efficiency"], 1.0)
    return Touches(
        kernel=np.tile(np.arange(len(run)), len(accesses)),
        nbytes=sizes * np.tile(idle / slower, len(accesses)),
        since=since,
        weight=np.repeat(np.arange(len(accesses)) == 0, len(run)),
        weights=_by_access(footprint[0], len(accesses)),
        working=_by_access(footprint[1], len(accesses)),
        stretch=stretch,
        bounded=False,
        returned=returned.astype(float),
        left=run.left,
    )


def shared_seconds(run: Features, machine: Machine, levels: Levels) -> Array:
    """What threads that share a matrix product out read beside one another: one of them brings a
    factor, and the rest find it in the third level. A single row is shared out by columns."""
    shared = np.isin(run.kind, ("gemm", "recurrent")) & (run.m > 1)
    rows, columns = shares_of(run, machine)
    again = run.n * (rows - 1) + run.m * (columns - 1)
    found: Array = 4 * run.groups * run.k * run.steps * again * shared / levels.rates[1]
    return found


def line_seconds(run: Features, machine: Machine, constants: Mapping[str, float]) -> Array:
    """Elements met one by one take a line each, unless the sweep before has left it at hand; a core
    waits for as many as it can, since nothing fetches them ahead.

    A copy of maps from one order into the other took 0.9 ns an element on a core of a Xeon 6 while
    its lines fitted in the places that they share in 2 MB, 6 to 7 ns far beyond: a third of that
    step where they just filled them, 0.7 at 1.3 times as many, 0.9 at 1.5.
    """
    sweep = run.sweep * machine.threads
    missed = run.apart * run.line * (1.0 - hits(sweep, _HELD * machine.l2))
    found: Array = missed / (constants["core_gb_per_s"] * 1e9 * machine.threads)
    return found


def levels_of(machine: Machine, constants: Mapping[str, float]) -> Levels:
    """Bytes from farther away pass through the nearer levels, one transfer after another (Stengel
    et al., "Quantifying performance bottlenecks of stencil computations using the Execution-
    Cache-Memory model", ICS 2015), so that no level is faster than one nearer to the core."""
    cycles = machine.clock * machine.threads
    memory = min(
        constants["stream_efficiency"] * machine.memory,
        constants["core_gb_per_s"] * 1e9 * machine.threads,
    )
    second = 1.0 / (constants["l2_bytes_per_cycle"] * cycles)
    third = second + 1.0 / (constants["l3_bytes_per_cycle"] * cycles)
    rates = (1.0 / second, 1.0 / third, min(1.0 / third, memory))
    return Levels(machine.l2, machine.l3 * constants["l3_share"], rates)


def _by_access(sizes: Array | float, times: int) -> Array | float:
    return sizes if isinstance(sizes, float) else np.tile(sizes, times)
