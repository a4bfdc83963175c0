"""fp32 convolutions on a GPU: three algorithms, their roofs, and what must never slow or speed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from costmodel.execution.kernel import Access, Kernel
from costmodel.machine import convolution, gpu
from costmodel.machine.constants import values_of
from costmodel.machine.convolution import Rates
from costmodel.machine.features import features_of
from costmodel.rules.geometry import Geometry
from costmodel.setting import setting

BLOCK = "server-gpu/eager"
RATES = Rates(flops=14e12, multiprocessors=80, bandwidth=900e9)
#: Nothing lost anywhere: what remains is the algorithm's own work.
IDEAL = {
    "simt_efficiency": 1.0, "winograd_efficiency": 1.0, "patch_efficiency": 1.0,
    "filter_efficiency": 1.0, "stream_efficiency": 1.0,
    "tile_fill": 0.0, "tail_waves": 0.0, "exposed": 0.0,
}  # fmt: skip
SHAPES = st.tuples(
    st.integers(1, 64),
    st.integers(1, 1024),
    st.integers(1, 1024),
    st.integers(1, 64),
    st.sampled_from([1, 3, 5]),
    st.sampled_from([1, 2]),
)
Shape = tuple[int, int, int, int, int, int]


def kernel(shape: Shape) -> Kernel:
    """A convolution of batch, channels in and out, output extent, taps a side, stride."""
    batch, c_in, c_out, extent, side, stride = shape
    m, k = batch * extent**2, c_in * side**2
    return Kernel(
        ("conv",), "", "convolution", "matrix", "fp32", m * c_out * k, 0,
        (Access(0, 4 * batch * c_in * (extent * stride) ** 2), Access(1, 4 * c_out * k, True)),
        (Access(2, 4 * m * c_out),),
        Geometry("conv", 1, m, c_out, k, (side, side), (stride, stride), (1, 1), (extent, extent)),
    )  # fmt: skip


def best(shape: Shape, rates: Rates, constants: Mapping[str, float]) -> convolution.Candidate:
    run = features_of([kernel(shape)])
    traffic = run.moved / (rates.bandwidth * constants["stream_efficiency"])
    return convolution.fastest(run, convolution.dense(run), traffic, rates, constants)


def seconds(shape: Shape, rates: Rates, constants: Mapping[str, float] | None = None) -> float:
    return float(best(shape, rates, constants or values_of(BLOCK)).busy[0])


def test_full_tiles_of_a_deep_product_run_at_the_peak() -> None:
    """1x1, 80 tiles of 128x128 on 80 multiprocessors: 2 m n k FLOPs at the peak."""
    shape = (80, 4096, 128, 1, 1, 1)
    rates = replace(RATES, bandwidth=1e18)
    run = features_of([kernel((10240, *shape[1:]))])
    found = convolution.fastest(run, convolution.dense(run), np.zeros(1), rates, IDEAL)
    assert found.busy[0] == pytest.approx(2 * 10240 * 128 * 4096 / rates.flops)


def test_winograd_does_a_quarter_of_the_products() -> None:
    """36 instead of 144 products a patch of 4x4 outputs, where nothing else costs anything."""
    free = replace(RATES, bandwidth=1e18)
    one = seconds((64, 1024, 1024, 64, 3, 1), free, IDEAL)
    assert one == pytest.approx(2 * 64 * 64**2 * 1024 * 1024 * 9 / 4 / free.flops)


def test_small_patches_win_where_transforms_would_cost_more_than_they_save() -> None:
    """With few channels F(4x4) moves 36 values for little work; F(2x2) moves none between kernels.

    16 products of 32 patches x 32 channels a tile, at the peak, then the outputs are stored.
    """
    shape = (64, 64, 32, 64, 3, 1)
    rates = replace(RATES, multiprocessors=64)
    products = 2 * 16 * (64 * 32 * 32) * 32 * 64 / rates.flops
    stored = 4 * 64 * 64**2 * 32 / rates.bandwidth
    filters = 4 * 64 * 32 * (9 + 16) / rates.bandwidth
    assert seconds(shape, rates, IDEAL) == pytest.approx(products + stored + filters)


@pytest.mark.parametrize("shape", [(32, 256, 256, 28, 3, 2), (32, 256, 256, 28, 5, 1)])
def test_other_windows_and_strides_have_no_winograd(shape: Shape) -> None:
    batch, c_in, c_out, extent, side, _ = shape
    macs = batch * extent**2 * c_in * c_out * side**2
    assert best(shape, RATES, IDEAL).compute[0] >= 2 * macs / RATES.flops * (1 - 1e-12)


@settings(max_examples=60, deadline=None)
@given(SHAPES)
def test_no_algorithm_beats_its_own_roof(shape: Shape) -> None:
    """At least a quarter of the MACs at the peak, at least the operands once at full bandwidth."""
    batch, c_in, c_out, extent, side, stride = shape
    fewest = 4 if (side, stride) == (3, 1) else 1
    macs = batch * extent**2 * c_in * c_out * side**2
    found = best(shape, RATES, IDEAL)
    assert found.compute[0] >= 2 * macs / fewest / RATES.flops * (1 - 1e-9)
    least = 4 * (batch * extent**2 * (c_in + c_out) + c_in * c_out * side**2) / RATES.bandwidth
    assert found.busy[0] >= least * (1 - 1e-9)
    shipped = best(shape, RATES, values_of(BLOCK))
    assert shipped.busy[0] >= max(found.busy[0], shipped.compute[0], shipped.memory[0]) * 0.999


@settings(max_examples=60, deadline=None)
@given(SHAPES)
def test_a_better_gpu_is_never_slower(shape: Shape) -> None:
    base = seconds(shape, RATES)
    wider = Rates(2 * RATES.flops, 2 * RATES.multiprocessors, RATES.bandwidth)
    faster = replace(RATES, flops=2 * RATES.flops)
    fed = replace(RATES, bandwidth=2 * RATES.bandwidth)
    for better in (wider, faster, fed):
        assert seconds(shape, better) <= base * (1 + 1e-12)


def test_a_power_limit_slows_convolutions() -> None:
    """At 70 W a T4 cannot hold its boost clock; the same board without a limit is faster."""
    chosen = setting("t4", dtype="fp32", execution="eager")
    run, board = features_of([kernel((32, 512, 512, 28, 3, 1))]), gpu.board_of(chosen)
    constants = values_of(BLOCK)
    assert board.vector_powered < 1
    limited = gpu.evaluate(run, board, constants).latency[0]
    free = gpu.evaluate(run, replace(board, vector_powered=9.0), constants).latency[0]
    assert limited > free


def test_overhead_is_never_negative_and_a_run_starts_once() -> None:
    chosen = setting("v100-pcie-32gb", dtype="fp32", execution="eager")
    kernels = [kernel((8, 64, 64, extent, 3, 1)) for extent in (7, 14, 28, 56)]
    constants = values_of(BLOCK)
    times = gpu.timer(kernels, chosen)(constants)
    assert (times.overhead >= 0).all()
    early = gpu.timer(kernels, chosen)({**constants, "start_us": 0.0})
    assert times.latency.sum() - early.latency.sum() == pytest.approx(constants["start_us"] * 1e-6)
