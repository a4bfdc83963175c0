"""Dense fp32 convolutions on a GPU's vector units: the fastest of three algorithms.

A library that may try its algorithms (``cudnn.benchmark``) keeps the fastest: an implicit matrix
product, Winograd's F(2x2, 3x3) in one kernel, or F(4x4, 3x3) with transforms of their own around
36 products (Lavin & Gray, "Fast algorithms for convolutional neural networks", CVPR 2016). No
matrix unit computes in fp32, so that the vector peak and the power that it draws are the roof.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from costmodel.machine.features import PATCH, SMALL_PATCH, Features, Mask
from costmodel.machine.times import Array

#: Output tiles (pixels, channels) of cuDNN's implicit products ("scudnn_128x64" and the like).
IMPLICIT_TILES = ((128, 128), (128, 64), (128, 32))
#: Output tiles of cuBLAS's fp32 products, which F(4x4, 3x3) calls.
PRODUCT_TILES = ((128, 128), (128, 64), (64, 64), (128, 32), (32, 128))
#: The one tile of cuDNN's F(2x2, 3x3): patches, channels (Yan et al., PPoPP 2020, section 3).
FUSED_TILE = ((32, 32),)
#: Extent of k that one step of the main loop consumes.
STEP = 8
_TAPS, _BYTES = 9, 4
#: Values of a patch and channel, transformed, in the two Winograd algorithms.
_FUSED_POINTS, _POINTS = (SMALL_PATCH + 2) ** 2, (PATCH + 2) ** 2


@dataclass(frozen=True)
class Rates:
    """FLOP/s of the whole GPU, its multiprocessors, and bytes/s of its memory."""

    flops: float
    multiprocessors: int
    bandwidth: float


@dataclass(frozen=True)
class Candidate:
    """Seconds of one algorithm per convolution: arithmetic, traffic, and both as they overlap."""

    compute: Array
    memory: Array
    busy: Array


def dense(run: Features) -> Mask:
    """The convolutions that these algorithms compute."""
    found: Mask = (run.kind == "conv") & (run.dtype == "fp32")
    return found


def fastest(
    run: Features, rows: Mask, traffic: Array, rates: Rates, constants: Mapping[str, float]
) -> Candidate:
    """The algorithm that takes least time, for each convolution in ``rows``.

    ``traffic``: seconds that moving input, filters and output once takes, one value a row.
    """
    best = _implicit(run, rows, traffic, rates, constants)
    able = winograd(run)[rows]
    if able.any():
        best = _faster(best, _fused(run, rows, traffic, rates, constants), able)
        best = _faster(best, _transformed(run, rows, traffic, rates, constants), able)
    return best


def winograd(run: Features) -> Mask:
    """Where Winograd's algorithms apply: 3x3, stride 1, one group."""
    square = (run.taps == _TAPS) & (run.window == 3) & (run.stride == 1)
    found: Mask = square & (run.groups == 1) & (run.patches > 0)
    return found


def _faster(one: Candidate, other: Candidate, able: Mask) -> Candidate:
    """Row by row the faster of two; ``other`` only where it is ``able``."""
    wins = able & (other.busy < one.busy)
    return Candidate(
        np.where(wins, other.compute, one.compute),
        np.where(wins, other.memory, one.memory),
        np.where(wins, other.busy, one.busy),
    )


def _implicit(
    run: Features, rows: Mask, traffic: Array, rates: Rates, constants: Mapping[str, float]
) -> Candidate:
    """An im2col product whose left operand is gathered on the way into shared memory."""
    compute = tiled(
        (run.m[rows], run.n[rows], run.k[rows], run.groups[rows]), IMPLICIT_TILES, rates,
        constants["simt_efficiency"], constants,
    )  # fmt: skip
    return Candidate(compute, traffic, _overlapped(compute, traffic, constants))


def _fused(
    run: Features, rows: Mask, traffic: Array, rates: Rates, constants: Mapping[str, float]
) -> Candidate:
    """F(2x2, 3x3): a kernel transforms the filters, a second one does all the rest.

    16 products a patch of 2x2 outputs. The second kernel stores outputs patch by patch, too few
    at once to fill memory lines, after its main loop.
    """
    m, n, channels = run.m[rows], run.n[rows], run.k[rows] / _TAPS
    # A tile computes the products of all points of its patches.
    compute = _FUSED_POINTS * tiled(
        (run.small_patches[rows], n, channels, np.ones_like(m)), FUSED_TILE, rates,
        constants["winograd_efficiency"], constants,
    )  # fmt: skip
    filters = _BYTES * n * channels * (_TAPS + _FUSED_POINTS)
    stored = _BYTES * m * n / (rates.bandwidth * constants["patch_efficiency"])
    stored = stored + filters / (rates.bandwidth * constants["filter_efficiency"])
    read = np.maximum(
        traffic - _BYTES * m * n / (rates.bandwidth * constants["stream_efficiency"]), 0.0
    )
    return Candidate(compute, read + stored, _overlapped(compute, read, constants) + stored)


def _transformed(
    run: Features, rows: Mask, traffic: Array, rates: Rates, constants: Mapping[str, float]
) -> Candidate:
    """F(4x4, 3x3): kernels that transform input, filters and output around 36 products.

    36 values a patch of 4x4 outputs and channel are written and read again on either side.
    """
    m, n, channels = run.m[rows], run.n[rows], run.k[rows] / _TAPS
    patches = run.patches[rows]
    compute = tiled(
        (patches, n, channels, np.full(len(m), float(_POINTS))), PRODUCT_TILES, rates,
        constants["simt_efficiency"], constants,
    )  # fmt: skip
    values = _BYTES * _POINTS * patches * (channels + n)
    filters = _BYTES * n * channels
    streamed = (values + filters * _POINTS) / (rates.bandwidth * constants["stream_efficiency"])
    gathered = (values + _BYTES * m * (channels + n)) / (
        rates.bandwidth * constants["patch_efficiency"]
    )
    prepared = filters * (_TAPS + _POINTS) / (rates.bandwidth * constants["filter_efficiency"])
    passes = np.maximum(gathered + prepared, traffic)
    return Candidate(compute, streamed + passes, _overlapped(compute, streamed, constants) + passes)


def tiled(
    extents: tuple[Array, Array, Array, Array],
    tiles: tuple[tuple[int, int], ...],
    rates: Rates,
    efficiency: float,
    constants: Mapping[str, float],
) -> Array:
    """Seconds of ``groups`` products m x n x k (``extents``) in the best of ``tiles``.

    Tiles are handed out as multiprocessors become free, so that beyond the average share of each
    only a part of the last wave (``tail_waves``) is lost; a tile fills its pipeline first, for as
    long as ``tile_fill`` steps of k last.
    """
    m, n, k, groups = extents
    depth = np.ceil(k / STEP) * STEP + constants["tile_fill"]
    per_unit = rates.flops / rates.multiprocessors * efficiency
    best: Array = np.full(len(m), np.inf)
    for height, width in tiles:
        count = np.ceil(m / height) * np.ceil(n / width) * groups
        waves = count / rates.multiprocessors + constants["tail_waves"]
        seconds: Array = waves * 2 * depth * height * width / per_unit
        best = np.minimum(best, seconds)
    return best


def _overlapped(compute: Array, memory: Array, constants: Mapping[str, float]) -> Array:
    """The longer of the two, and what of the shorter is not hidden."""
    busy: Array = np.maximum(compute, memory) + constants["exposed"] * np.minimum(compute, memory)
    return busy
