"""A GPU: matrix and vector units, memory behind an L2 cache, and a host that issues ahead of it.

Every efficiency is a share of a published peak. What keeps a kernel below it is modelled first:
tiles that are only partly filled, the last wave of tiles, extents padded to the matrix unit's
width, access across memory lines, launch time, and a host that can't issue fast enough.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

from costmodel.execution.kernel import Kernel
from costmodel.hardware import energy
from costmodel.hardware.issuing import issuing_slowness
from costmodel.hardware.schema import GpuEngine
from costmodel.machine import convolution
from costmodel.machine.features import Features, distinct, features_of, joined, taken
from costmodel.machine.products import (
    attention_flops,
    matrix_units,
    ragged_groups,
    tiled_seconds,
)
from costmodel.machine.times import Array, Latencies, Timer, Times

if TYPE_CHECKING:
    from costmodel.hardware.schema import DType, Energy
    from costmodel.setting import Setting

_PRODUCTS = ("gemm", "conv", "depthwise", "attention", "recurrent")
#: Elements that signed numbers of 32 bits no longer tell apart.
_NUMBERED = 2**31
#: Taps of the largest filters (7x7) that cuDNN has depthwise kernels for, channels last.
_DEPTHWISE_TAPS = 49


@dataclass(frozen=True)
class Board:
    """The rates of one GPU: FLOP/s by dtype at the boost clock, bytes/s, bytes of L2.

    ``vector_powered`` and, by dtype, ``matrix_powered`` are what the power limit feeds over those
    rates if arithmetic takes no more than its silicon does: above 1 where power is no limit.
    ``slowness`` is the time that the host takes to issue a kernel over the usual server's.
    """

    vector: Mapping[str, float]
    matrix: Mapping[str, float]
    bandwidth: float
    multiprocessors: int
    l2: float
    vector_powered: float
    matrix_powered: Mapping[str, float]
    slowness: float

    def vector_rate(self, dtype: str) -> float:
        return self.vector.get(dtype, self.vector["fp32"])

    def product_rate(self, dtype: str, matrix_energy: float) -> float:
        """The best rate under the power limit for a product: matrix units, else vector units."""
        vector = self.vector_rate(dtype) * min(1.0, self.vector_powered)
        powered = self.matrix_powered.get(dtype, 0.0) / matrix_energy
        return max(self.matrix.get(dtype, 0.0) * min(1.0, powered), vector)


def timer(kernels: Sequence[Kernel], chosen: Setting) -> Timer:
    """The time of every kernel of a run, once constants are known."""
    run, board = _ordered(features_of(kernels), chosen.layout), board_of(chosen)
    return lambda constants: evaluate(run, board, constants)


def _ordered(run: Features, layout: str) -> Features:
    """The kernels of a run in a layout; a network that was traced channels first is taken to have
    channels last everywhere, as it would have if it had been given its input so."""
    maps = np.isin(run.kind, ("conv", "depthwise")) | (run.family == "batch_norm")
    if layout == "nchw" or (run.channels_last & maps).any():
        return run
    return replace(run, channels_last=maps)


def board_of(chosen: Setting) -> Board:
    """The rates of the setting's GPU."""
    engine = chosen.profile.engines[chosen.engine]
    assert isinstance(engine, GpuEngine)
    memory = engine.memory or chosen.profile.memory
    vector = {str(name): rate * 1e12 for name, rate in engine.vector_tflops.items()}
    matrix = {str(name): rate * 1e12 for name, rate in engine.matrix_tflops.items()}
    figures = energy(chosen.profile, chosen.engine)
    return Board(
        vector,
        matrix,
        memory.gb_per_s * 1e9,
        engine.multiprocessors,
        (engine.l2_mb or 0.0) * 1e6,
        _powered(figures, "fp32", vector["fp32"]),
        {name: _powered(figures, name, rate) for name, rate in matrix.items()},
        issuing_slowness(chosen.profile, chosen.engine),
    )


def _powered(figures: Energy, dtype: str, rate: float) -> float:
    """The FLOP/s that the power limit feeds, over ``rate``.

    Arithmetic draws at least the silicon's energy a MAC times half the FLOP/s; a board limited to
    less than that (a T4's 70 W) runs its clock down.
    """
    drawn = figures.pj_per_mac[cast("DType", dtype)].low * 1e-12 * rate / 2
    spare = figures.max_w - figures.idle_w.typical
    return spare / drawn if drawn > 0 else 1.0


def latencies(runs: Sequence[tuple[Sequence[Kernel], Setting]]) -> Latencies:
    """The seconds of many runs on one board, once constants are known: equal kernels timed once."""
    each = [_ordered(features_of(kernels), chosen.layout) for kernels, chosen in runs]
    whole, ends = joined(each), np.cumsum([len(run) for run in each])
    first, place = distinct(whole)
    kernels, board = taken(whole, first), board_of(runs[0][1])

    def seconds(constants: Mapping[str, float]) -> Array:
        busy = _times(kernels, board, constants)[0][place]
        total = np.empty(len(runs))
        for i, (begin, end) in enumerate(zip((0, *ends), ends, strict=False)):
            issued = _issued(whole.dispatches[begin:end], board, constants)
            total[i] = after_host(busy[begin:end], issued).sum()
        return total

    return seconds


def evaluate(run: Features, board: Board, constants: Mapping[str, float]) -> Times:
    """Per kernel its own time, and how long it waits for the host."""
    busy, compute, memory, level = _times(run, board, constants)
    latency = after_host(busy, _issued(run.dispatches, board, constants))
    begin = constants["start_us"] * board.slowness * 1e-6
    return Times(latency, compute, memory, latency - np.maximum(compute, memory), level, begin)


def _times(
    run: Features, board: Board, constants: Mapping[str, float]
) -> tuple[Array, Array, Array, tuple[str, ...]]:
    """Per kernel max(compute, memory), plus what of the smaller one is not hidden, plus launch.

    Products fetch a tile before they begin and store one at the end; a pointwise kernel has
    enough threads in flight to hide all of its arithmetic.
    """
    compute = compute_seconds(run, board, constants)
    memory, level = memory_seconds(run, board, constants)
    exposed = np.where(np.isin(run.kind, _PRODUCTS), constants["exposed"], 0.0)
    busy: Array = np.maximum(compute, memory) + exposed * np.minimum(compute, memory)
    _convolved(run, board, constants, compute, memory, busy)
    turned = turned_seconds(run, board, constants)
    return busy + turned + constants["launch_us"] * 1e-6, compute, memory + turned, level


def _issued(dispatches: Array, board: Board, constants: Mapping[str, float]) -> Array:
    """When the host has issued each kernel, in seconds from the run's begin."""
    us: Array = constants["start_us"] + np.cumsum(dispatches) * constants["dispatch_us"]
    return us * (board.slowness * 1e-6)


def compute_seconds(run: Features, board: Board, constants: Mapping[str, float]) -> Array:
    """Seconds of arithmetic per kernel."""
    vector = _rates(run.dtype, board.vector_rate)
    matrix = _rates(run.dtype, lambda name: board.product_rate(name, constants["matrix_energy"]))
    # Scalar operations are not fused multiply-adds: half the vector peak. Units that are busy for
    # a part of the time draw a part of the power.
    powered = board.vector_powered
    seconds = run.ops / (vector / 2 * min(constants["vector_efficiency"], powered))
    # Larger filters are left to kernels for grouped products.
    large = (run.kind == "depthwise") & (run.k > _DEPTHWISE_TAPS)
    large &= run.channels_last & matrix_units(run) & bool(board.matrix)
    depthwise = (run.kind == "depthwise") & ~large
    first, last = constants["depthwise_nchw_efficiency"], constants["depthwise_nhwc_efficiency"]
    share = np.minimum(np.where(run.channels_last, last, first), powered)
    seconds[depthwise] = (2 * run.macs / (vector * share))[depthwise]
    fused = run.kind == "attention"
    seconds[fused] = (attention_flops(run) / (matrix * constants["attention_efficiency"]))[fused]
    tiled = np.isin(run.kind, ("gemm", "conv", "recurrent")) | large
    if tiled.any():
        seconds[tiled] = tiled_seconds(run, tiled, board.multiprocessors, matrix[tiled], constants)
    return seconds


def _rates(dtypes: NDArray[np.str_], rate: Callable[[str], float]) -> Array:
    """The rate of every kernel; each dtype is looked up once."""
    names, which = np.unique(dtypes, return_inverse=True)
    found: Array = np.array([rate(str(name)) for name in names])[which]
    return found


def _convolved(
    run: Features,
    board: Board,
    constants: Mapping[str, float],
    compute: Array,
    memory: Array,
    busy: Array,
) -> None:
    """Replace the times of dense fp32 convolutions by those of their fastest algorithm."""
    rows = convolution.dense(run)
    if not rows.any():
        return
    powered = min(1.0, board.vector_powered * constants["core_power_share"])
    rates = convolution.Rates(
        board.vector["fp32"] * powered,
        board.multiprocessors,
        board.bandwidth,
    )
    best = convolution.fastest(run, rows, memory[rows], rates, constants)
    compute[rows], memory[rows], busy[rows] = best.compute, best.memory, best.busy


def memory_seconds(
    run: Features, board: Board, constants: Mapping[str, float]
) -> tuple[Array, tuple[str, ...]]:
    """Seconds of traffic per kernel, and the level that serves most of it."""
    share = np.full(len(run), constants["stream_efficiency"])
    product = np.isin(run.kind, _PRODUCTS)
    share[run.strided & ~product] *= constants["strided_efficiency"]
    share[run.turned & ~product] = constants["stream_efficiency"] * constants["turn_efficiency"]
    share[run.family == "pooling"] *= constants["window_efficiency"]
    share[run.indexed] *= constants["gather_efficiency"]
    first = (run.family == "batch_norm") & ~run.channels_last
    share[first] *= constants["batch_norm_nchw_efficiency"]
    held = board.l2 * constants["l2_share"]
    near = sum(size * _held(distance, held) for size, distance in run.near)
    far = run.moved - near
    seconds = (far + near / constants["l2_speedup"]) / (board.bandwidth * share)
    # A thread for each place of a map, and the maps one after another: too few to hide a wait.
    seconds = np.maximum(seconds, run.serial * constants["serial_us"] * 1e-6)
    # A multiprocessor holds few blocks, and a block waits for its row twice, however short it is.
    waits = run.blocks * constants["row_us"] * 1e-6
    waits += np.where(run.blocks > 0, run.elements, 0.0) * constants["element_ns"] * 1e-9
    seconds = np.maximum(seconds, waits / board.multiprocessors)
    # cuDNN has no good kernel for more elements than 32 bits number.
    vast = (run.kind == "depthwise") & run.channels_last & (run.elements >= _NUMBERED)
    fetched = np.where(vast, run.macs, 0.0) * constants["vast_bytes"]
    seconds = np.maximum(seconds, fetched / board.bandwidth)
    level = tuple(np.where(near > far, "l2", "dram").tolist())
    return seconds, level


def turned_seconds(run: Features, board: Board, constants: Mapping[str, float]) -> Array:
    """Seconds of passes of their own that bring a convolution's maps into its order and back.

    Matrix units want channels last, in groups of as many as their tiles have columns: maps are
    copied into that order and back. Some of their kernels write channels first themselves, and of
    1x1 filters, which are plain products, some read so. Where everything else has channels last,
    what a group norm answered channels first is copied before the next convolution.
    """
    united = matrix_units(run) & bool(board.matrix)
    slow, fast = constants["turn_efficiency"], constants["strided_efficiency"]
    last = run.channels_last
    maps = run.read + run.written
    first = united & (run.kind == "conv") & ~last
    spatial = run.read + run.written * constants["transposed_share"]
    pointwise = run.read * constants["pointwise_transposed_share"]
    moved = np.where(first, 2 * np.where(run.taps == 1, pointwise, spatial), 0.0)
    turned = run.strided & np.isin(run.kind, ("conv", "depthwise")) & last
    moved += np.where(turned, 2 * run.read / np.where(run.turned, slow, fast), 0.0)
    moved += np.where(united & ragged_groups(run) & last, 2 * maps / fast, 0.0)
    found: Array = moved / (board.bandwidth * constants["stream_efficiency"])
    return found


def _held(distance: Array, size: float) -> Array:
    """The share of an operand that a cache still has after ``distance`` bytes went through it.

    All of it up to ``size``, nothing beyond twice that: no GPU evicts strictly in order of use.
    """
    share: Array = np.clip(2 - distance / max(size, 1.0), 0.0, 1.0)
    return share


def after_host(busy: Array, issued: Array) -> Array:
    """What each kernel adds to the run when it starts once issued and once its predecessor ended.

    end_i = max(end_{i-1}, issued_i) + busy_i, so end_i = max_j<=i (issued_j + sum of busy_j..i).
    """
    done = np.cumsum(busy)
    end = np.maximum.accumulate(issued - (done - busy)) + done
    added: Array = np.diff(end, prepend=0.0)
    return added
