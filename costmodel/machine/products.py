"""Matrix products on a GPU: tiles of the output, in whole waves over the multiprocessors."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from costmodel.machine.features import Features, Mask
from costmodel.machine.times import Array

#: Output tiles (rows, columns) of the vendors' matrix kernels (cuBLAS, cuDNN and CUTLASS names).
TILES = ((256, 128), (128, 256), (128, 128), (128, 64), (64, 128), (64, 64), (64, 32), (32, 64),
         (32, 32), (256, 64), (64, 256))  # fmt: skip
#: Extent of k that one step of a matrix kernel consumes, and channels that a matrix unit needs.
K_STEP, MATRIX_LANES = 32, 8
#: fp32 values of one 16-byte load.
LOAD = 4
#: Columns of the tiles that cuDNN's grouped kernels leave to widths that are no power of two.
GROUPED_COLUMNS = 128
#: Channels of a group that share a tile with another group's, channels last.
PAIRED = 4
#: Rows and columns of scores that a fused attention kernel handles at once.
ATTENTION_TILE = 64


def attention_flops(run: Features) -> Array:
    """Two products over scores padded to whole tiles."""
    rows = np.ceil(run.m / ATTENTION_TILE) * ATTENTION_TILE
    columns = np.ceil(run.n / ATTENTION_TILE) * ATTENTION_TILE
    flops: Array = 4 * run.groups * rows * columns * np.ceil(run.k / K_STEP) * K_STEP
    return flops


def tiled_seconds(
    run: Features,
    rows: np.ndarray,
    multiprocessors: int,
    rate: Array,
    constants: Mapping[str, float],
) -> Array:
    """Seconds of the products in ``rows``, k padded to lanes channel by channel.

    Depthwise convolutions among them are products of one column a channel.
    """
    taps = np.where(run.kind[rows] == "conv", run.taps[rows], 1.0)
    narrow = matrix_units(run)[rows]
    grouped = (run.kind[rows] == "conv") & (run.groups[rows] > 1) & narrow
    single = run.kind[rows] == "depthwise"
    wide = single | ragged_groups(run)[rows]
    n, channels, groups = run.n[rows], run.k[rows] / taps, run.groups[rows]
    paired = grouped & run.channels_last[rows] & (n == PAIRED) & (channels == PAIRED)
    n, channels = np.where(paired, 2 * n, n), np.where(paired, 2 * channels, channels)
    groups = np.where(paired, np.ceil(groups / 2), groups)
    lanes = np.where(narrow, MATRIX_LANES, 1)
    depth = np.ceil(channels / lanes) * lanes * taps
    rate = np.where(single, rate, rate * _alignment(n, channels, constants))
    seconds = product_seconds(run.m[rows], n, depth, groups, multiprocessors, rate, constants, wide)
    total: Array = seconds * run.steps[rows]
    return total


def matrix_units(run: Features) -> Mask:
    """The kernels in formats that matrix units compute."""
    found: Mask = np.isin(run.dtype, ("fp16", "bf16", "int8", "tf32"))
    return found


def ragged_groups(run: Features) -> Mask:
    """Grouped convolutions whose widths matrix kernels have no tiles for."""
    grouped = (run.kind == "conv") & (run.groups > 1) & matrix_units(run)
    found: Mask = grouped & ~_power_of_two(run.n)
    return found


def _alignment(n: Array, channels: Array, constants: Mapping[str, float]) -> Array:
    """Channels that do not fill whole 16-byte loads are fetched one by one."""
    ragged = (n % LOAD != 0) | (channels % LOAD != 0)
    return np.where(ragged, constants["unaligned_efficiency"], 1.0)


def _power_of_two(n: Array) -> Mask:
    found: Mask = np.log2(np.maximum(n, 1)) % 1 == 0
    return found


def product_seconds(
    m: Array,
    n: Array,
    k: Array,
    groups: Array,
    multiprocessors: int,
    rate: Array,
    constants: Mapping[str, float],
    wide: Mask | bool = False,
) -> Array:
    """The fastest tiling of ``groups`` products m x n x k: whole waves of tiles.

    A multiprocessor works on one tile at a time at its share of the peak ``rate``; a small tile
    re-reads its operands more often, which costs ``tile_reload`` of its perimeter over its area.
    ``wide``: those that only tiles of `GROUPED_COLUMNS` serve.
    """
    depth = np.ceil(k / K_STEP) * K_STEP
    per_unit = rate / multiprocessors * constants["matrix_efficiency"]
    best: Array = np.full(len(m), np.inf)
    for height, width in TILES:
        tiles = np.ceil(m / height) * np.ceil(n / width) * groups
        waves = np.ceil(tiles / multiprocessors)
        slowed = 1 + constants["tile_reload"] * (1 / height + 1 / width) / 2
        seconds: Array = waves * 2 * depth * height * width * slowed / per_unit
        unfit = np.asarray(wide) & (width < GROUPED_COLUMNS)
        best = np.minimum(best, np.where(unfit, np.inf, seconds))
    return best
