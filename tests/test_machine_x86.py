"""The x86 machine model: what each of its mechanisms adds, against sums worked out by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from costmodel.api import trace
from costmodel.execution import kernels_of
from costmodel.execution.kernel import Access, Kernel
from costmodel.hardware.peaks import core_rate, fastest_cores
from costmodel.hardware.schema import CpuEngine
from costmodel.machine import x86
from costmodel.machine.constants import constants_of
from costmodel.machine.features import features_of
from costmodel.machine.x86_arithmetic import copy_seconds
from costmodel.machine.x86_choices import choices_of, shares_of
from costmodel.machine.x86_traffic import levels_of, shared_seconds
from costmodel.rules.geometry import Geometry
from costmodel.setting import setting
from costmodel.table import cost

#: Nothing costs anything but what a test turns on.
FREE = {
    name: {"us": 0.0, "ns": 0.0}.get(constant.unit, constant.value)
    for name, constant in constants_of("x86/eager").items()
} | {
    "exposed": 0.0, "reorder_passes": 0.0, "ragged_cycles": 0.0, "repack_cycles": 0.0,
    "fill_depth": 0.0,
}  # fmt: skip


def moved(nbytes: int = 4096, **changes: object) -> Kernel:
    kernel = Kernel(
        ("op",),
        "",
        "elementwise",
        "vector",
        "fp32",
        0,
        0,
        (Access(1, nbytes),),
        (Access(2, nbytes),),
    )  # fmt: skip
    return replace(kernel, **changes)


def convolution(taps: tuple[int, int], size: int, channels: int = 64) -> Kernel:
    m = size * size
    k = channels * taps[0] * taps[1]
    geometry = Geometry(
        "conv", groups=1, m=m, n=channels, k=k, taps=taps, stride=(1, 1), spatial=(size, size)
    )
    return moved(geometry=geometry, macs=m * channels * k, unit="matrix", family="convolution")


def overhead(kernel: Kernel, threads: int, **constants: float) -> float:
    chosen = setting("epyc-genoa", execution="eager", threads=threads)
    return float(x86.timer([kernel], chosen)({**FREE, **constants}).overhead[0])


def latency(kernel: Kernel, threads: int = 1, **constants: float) -> float:
    chosen = setting("epyc-genoa", execution="eager", threads=threads)
    return float(x86.timer([kernel], chosen)({**FREE, **constants}).latency[0])


@pytest.mark.parametrize(
    ("taps", "size", "images", "threads", "library"),
    [
        ((3, 3), 56, 1, 1, True),  # 64 x 56 x 56 inputs: more than 20,480
        ((3, 3), 14, 1, 1, False),  # 64 x 14 x 14 = 12,544
        ((3, 3), 7, 2, 1, True),  # more than one image
        ((1, 1), 56, 1, 1, False),  # 1x1 on one thread
        ((1, 1), 56, 15, 1, False),
        ((1, 1), 1, 16, 1, True),  # of many images
        ((1, 1), 56, 1, 2, True),
        ((1, 1), 1, 1, 2, False),
        ((1, 1), 1, 2, 2, True),
        ((5, 5), 14, 1, 1, True),  # windows beyond 3x3
    ],
)
def test_pytorch_multiplies_small_convolutions_itself(
    taps: tuple[int, int], size: int, images: int, threads: int, library: bool
) -> None:
    """As ``torch.profiler`` names them: mkldnn_convolution or _slow_conv2d_forward."""
    one = convolution(taps, size)
    assert one.geometry is not None
    kernel = replace(one, geometry=replace(one.geometry, m=images * size**2))
    found = overhead(kernel, threads, convolution_us=40.0, product_us=5.0)
    assert found == pytest.approx(40e-6 if library else 5e-6)


@pytest.mark.parametrize(
    ("scattered", "over", "beyond"), [(True, 0, 0.8), (False, 0, 0.0), (True, 2**16, None)]
)
def test_scattered_writes_are_where_nothing_was_for_a_footprint(scattered, over, beyond) -> None:
    """Beside 256 MB a loop over 64 kB: what it writes is fetched from main memory first and moved
    back there, but for a fifth, which the second level holds. In an operand's place it is there."""
    size, bandwidth = 2**16, 10e9
    large = moved(2**28)
    small = moved(reads=(Access(2, size),), writes=(Access(3, size),), scattered=scattered)
    chosen = setting("epyc-genoa", execution="eager", threads=1)
    rates = {**FREE, "core_gb_per_s": bandwidth / 1e9, "stream_efficiency": 1.0}
    alone, beside = (
        x86.timer([large, kernel], chosen)(rates).memory[-1]
        for kernel in (replace(small, writes=()), replace(small, over=over))
    )
    clock = fastest_cores(chosen.profile.engines["cpu"], 1)[0].clock_ghz * 1e9
    near = size / (rates["l2_bytes_per_cycle"] * clock)
    written = 0.0 if beyond is None else beyond * 2 * size / bandwidth + (1 - beyond) * near
    assert beside - alone == pytest.approx(written)


@pytest.mark.parametrize(
    ("execution", "scattered"),
    [("eager", [False, True, True]), ("compiled", [False, False]), ("onnxruntime", [False])],
)
def test_loops_of_eager_pytorch_write_where_the_allocator_finds_room(execution, scattered) -> None:
    """A convolution, a batch norm and a relu; others hand buffers on or plan their memory."""
    model = nn.Sequential(nn.Conv2d(4, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU()).eval()
    table = cost(trace(model, torch.empty(1, 4, 8, 8)))
    assert [k.scattered for k in kernels_of(table.rows, execution, "fp32")] == scattered


def test_rows_of_a_norm_begin_one_by_one() -> None:
    more = latency(moved(rows=1000), row_ns=50.0) - latency(moved(rows=0), row_ns=50.0)
    assert 0 < more <= 50e-6 * (1 + 1e-9)


def test_exponentials_take_cycles_by_vector() -> None:
    """1,600 elements are 100 vectors of 16; at 20 cycles each and 3.7 GHz, 540 ns."""
    slow = moved(ops=1600, transcendentals=1600)
    found = latency(slow, transcendental_cycles=20.0)
    assert found == pytest.approx(100 * 20 / 3.7e9, rel=1e-6)


def test_gradients_of_a_convolution_take_arithmetic() -> None:
    macs = 10**9
    gradients = moved(unit="matrix", macs=macs, family="backward")
    at = {"convolution_efficiency": 0.5, "backward_efficiency": 0.8}
    found = latency(gradients, **at)
    assert found == pytest.approx(2 * macs / (0.5 * 0.8 * 32 * 3.7e9), rel=1e-3)


def test_bytes_come_from_the_nearest_level_that_holds_them() -> None:
    rates = {"l2_bytes_per_cycle": 20.0, "l3_bytes_per_cycle": 10.0, "core_gb_per_s": 10.0,
             "stream_efficiency": 1.0, "l3_share": 1.0}  # fmt: skip
    per_byte = [latency(moved(size), **rates) / size for size in (2**14, 2**22, 2**28)]
    assert per_byte[0] < per_byte[1] < per_byte[2]
    # Read; fetched to be overwritten, and written back.
    assert per_byte[2] == pytest.approx(3 / 10e9, rel=1e-2)


@pytest.mark.parametrize(
    ("l2", "l3", "rates"),
    [
        (16.0, 16.0, (16.0, 8.0, 2.0)),
        (5.0, 32.0, (5.0, 160 / 37, 2.0)),  # the second level's port is the narrowest
        (2.0, 2.0, (2.0, 1.0, 1.0)),  # and main memory waits for it too
    ],
)
def test_what_comes_from_farther_away_passes_through_the_nearer_levels(l2, l3, rates) -> None:
    """Bytes a cycle from three levels, at 3.7 GHz; main memory's own are 2."""
    clock = 3.7e9
    free = {"l2_bytes_per_cycle": l2, "l3_bytes_per_cycle": l3, "l3_share": 1.0,
            "core_gb_per_s": 2 * clock / 1e9, "stream_efficiency": 1.0}  # fmt: skip
    for size, rate, moves in zip((2**14, 2**22, 2**28), rates, (2, 2, 3), strict=True):
        assert latency(moved(size), **free) == pytest.approx(
            moves * size / (rate * clock), rel=2e-2
        )


def test_writing_in_place_moves_each_line_once() -> None:
    """10^5 bytes stay in the second level: in place half of what it takes elsewhere."""
    apart = moved(10**5)
    for within in (replace(apart, writes=apart.reads), replace(apart, over=10**5)):
        times = [latency(kernel, l2_bytes_per_cycle=16.0) for kernel in (apart, within)]
        assert times[0] == pytest.approx(2 * times[1])


def depthwise(channels: int) -> Kernel:
    geometry = Geometry("depthwise", channels, 28 * 28, 1, 9, (3, 3), (1, 1), spatial=(28, 28))
    return moved(
        4 * channels * 28 * 28, geometry=geometry, macs=channels * 28 * 28 * 9, unit="matrix",
        family="depthwise",
    )  # fmt: skip


def test_depthwise_channels_fill_whole_vectors() -> None:
    chosen = setting("epyc-genoa", execution="eager", threads=1)
    ragged, whole = (
        x86.timer([depthwise(channels)], chosen)(FREE).compute[0] for channels in (24, 32)
    )
    assert ragged == pytest.approx(whole)


def test_channels_that_fill_no_block_are_copied_one_by_one() -> None:
    """A map of 24 channels at 3 cycles an element, on two cores; 32 channels fill two blocks."""
    chosen = setting("epyc-genoa", execution="eager", threads=2)
    clock = fastest_cores(chosen.profile.engines["cpu"], 2)[0].clock_ghz * 1e9
    for channels, elements in ((24, 24 * 28 * 28), (32, 0)):
        few, many = (
            x86.timer([depthwise(channels)], chosen)({**FREE, "ragged_cycles": cycles}).compute[0]
            for cycles in (0.0, 3.0)
        )
        assert many - few == pytest.approx(3 * elements / clock / 2)


def test_products_of_pytorch_itself_fill_vectors_with_positions() -> None:
    """7x7 maps take what 8x8 ones do, as measured; a library's kernels run over channels."""

    def compute(size: int, threads: int) -> float:
        chosen = setting("epyc-genoa", execution="eager", threads=threads)
        geometry = Geometry("conv", 1, size * size, 512, 2048, (1, 1), (1, 1), spatial=(size, size))
        kernel = moved(
            4 * 2048 * size * size, macs=size * size * 512 * 2048, unit="matrix",
            family="pointwise", geometry=geometry,
        )  # fmt: skip
        return float(x86.timer([kernel], chosen)(FREE).compute[0])

    assert compute(7, threads=1) == pytest.approx(compute(8, threads=1))
    assert compute(7, threads=2) == pytest.approx(compute(8, threads=2) * 49 / 64)
    assert compute(1, threads=1) == pytest.approx(compute(8, threads=1) / 64)  # a sum of columns


def grouped(groups: int, n: int, taps: tuple[int, int] = (3, 3), size: int = 28) -> Kernel:
    """As many output channels a group as input channels, or one where it is depthwise."""
    kind, channels = ("depthwise", 1) if n == 2 else ("conv", n)
    k = channels * taps[0] * taps[1]
    geometry = Geometry(kind, groups, size * size, n, k, taps, (1, 1), spatial=(size, size))
    return moved(
        4 * groups * n * size * size, geometry=geometry, macs=groups * size * size * n * k,
        unit="matrix", family="grouped",
    )  # fmt: skip


def test_groups_of_no_whole_vectors_are_unfolded_into_products() -> None:
    """Sums of 6 channels fill a tile of 8 columns, after each of 54 values was copied; 8 channels
    a group go through the kernel for groups."""
    chosen = setting("epyc-genoa", execution="eager", threads=1)
    clock = fastest_cores(chosen.profile.engines["cpu"], 1)[0].clock_ghz * 1e9
    at = {**FREE, "matrix_efficiency": 0.8, "grouped_efficiency": 0.5, "ragged_cycles": 2.0}
    positions, vectors = 28 * 28, 28 * 28  # 49 whole vectors of 16
    for kernel, flops, share, copied in (
        (grouped(16, 6), 2 * 16 * vectors * 54 * 8, 0.8, 16 * positions * 54),
        (grouped(16, 8), 2 * 16 * positions * 72 * 8, 0.5, 0),
        (grouped(64, 2), 2 * 64 * vectors * 9 * 8, 0.8, 64 * positions * 9),  # two of each channel
    ):
        found = x86.timer([kernel], chosen)(at).compute[0]
        assert found == pytest.approx(flops / (share * 32 * clock) + 2.0 * copied / clock)


@pytest.mark.parametrize(
    ("device", "wide", "channels_last", "lanes"),
    [
        ("epyc-genoa", 16, False, 16),
        ("epyc-genoa", 24, False, 24),  # three vectors of 8, as wide as a multiplier
        ("epyc-genoa", 8, False, 8),
        ("epyc-genoa", 4, False, 8),
        ("i9-10940x", 16, False, 16),
        ("i9-10940x", 24, False, 48),  # a vector of 8 takes a multiplier of 16 as long as a whole
        ("i9-10940x", 8, False, 16),
        ("i9-10940x", 4, False, 16),
        ("i9-10940x", 24, True, 32),  # masked
        ("i9-10940x", 8, True, 16),
        ("epyc-genoa", 24, True, 32),
        ("epyc-genoa", 8, True, 8),
    ],
)
def test_groups_are_computed_in_vectors_that_they_fill(device, wide, channels_last, lanes) -> None:
    """Sums of 9 products for each channel of a group, at two multipliers a cycle."""
    chosen = setting(device, execution="eager", threads=1)
    engine = chosen.profile.engines["cpu"]
    peak = core_rate(fastest_cores(engine, 1)[0], "fp32")
    kernel = replace(grouped(16, wide), channels_last=channels_last)
    found = x86.timer([kernel], chosen)({**FREE, "grouped_efficiency": 0.5}).compute[0]
    assert found == pytest.approx(2 * 16 * 28 * 28 * 9 * wide * lanes / (0.5 * peak))


def test_weights_are_packed_one_by_one_in_every_run() -> None:
    """64 x 64 x 9 weights at 2 cycles each; for a convolution that PyTorch multiplies itself, BLAS
    packs the windows of 14 x 14 positions, too."""
    chosen = setting("epyc-genoa", execution="eager", threads=1)
    clock = fastest_cores(chosen.profile.engines["cpu"], 1)[0].clock_ghz * 1e9
    for size, elements in ((56, 64 * 64 * 9), (14, 64 * 64 * 9 + 14 * 14 * 64 * 9)):
        bare, packed = (
            x86.timer([convolution((3, 3), size)], chosen)({**FREE, "repack_cycles": cycles})
            for cycles in (0.0, 2.0)
        )
        assert packed.compute[0] - bare.compute[0] == pytest.approx(2.0 * elements / clock)


@pytest.mark.parametrize(
    ("images", "size", "channels", "elements"),
    [
        (8, 7, 64, 8 * 64 * 64 + 8 * 49 * 64),  # the weights anew for every image
        (1, 7, 20, 20 * 20 + 49 * 32),  # whole vectors of each position's channels
        (8, 1, 64, 0),  # sums of columns
    ],
)
def test_both_factors_of_pytorchs_own_products_are_packed(images, size, channels, elements) -> None:
    one = convolution((1, 1), size, channels)
    assert one.geometry is not None
    kernel = replace(one, geometry=replace(one.geometry, m=images * size * size))
    chosen = setting("epyc-genoa", execution="eager", threads=1)
    clock = fastest_cores(chosen.profile.engines["cpu"], 1)[0].clock_ghz * 1e9
    bare, packed = (
        x86.timer([kernel], chosen)({**FREE, "repack_cycles": cycles}).compute[0]
        for cycles in (0.0, 2.0)
    )
    assert packed - bare == pytest.approx(2.0 * elements / clock, abs=1e-12)


@pytest.mark.parametrize(
    ("size", "threads", "times"),
    [
        (1, 1, 8),  # sums over the weights, image by image
        (2, 1, 1),  # products, for which they are packed
        (1, 2, 1),  # oneDNN's, of all images at once
    ],
)
def test_images_of_one_position_read_all_weights_each(size, threads, times) -> None:
    """4 GiB of weights, which no cache keeps; the maps are next to nothing."""
    channels = 2**15
    one = convolution((1, 1), size, channels)
    assert one.geometry is not None
    reads = (*one.reads, Access(3, 4 * channels**2, weight=True))
    chosen = setting("epyc-genoa", execution="eager", threads=threads)
    alone, eight = (
        x86.timer([replace(one, reads=reads, geometry=replace(one.geometry, m=m))], chosen)(FREE)
        for m in (size**2, 8 * size**2)
    )
    assert eight.memory[0] == pytest.approx(times * alone.memory[0], rel=1e-3)


@pytest.mark.parametrize(
    ("execution", "copies"), [("eager", 1), ("compiled", 1), ("onnxruntime", 0)]
)
def test_a_map_that_is_not_dense_is_copied_before_its_convolution(execution, copies) -> None:
    """4,096 bytes, written and read again in the second level, at half of its rate."""
    chosen = setting("epyc-genoa", execution=execution, threads=1)
    constants = {**FREE, "strided_efficiency": 0.5, "l2_bytes_per_cycle": 16.0}
    dense = convolution((3, 3), 56)
    parts = replace(dense, strided=True)
    clock = fastest_cores(chosen.profile.engines["cpu"], 1)[0].clock_ghz * 1e9
    made = moved(reads=(Access(0, 4096),), writes=(Access(1, 4096),))
    plain, copied = (x86.timer([made, one], chosen)(constants).memory[1] for one in (dense, parts))
    assert copied - plain == pytest.approx(copies * 2 * 4096 / 0.5 / (16.0 * clock))


@pytest.mark.parametrize(
    ("execution", "groups", "rows", "packed"),
    [
        ("eager", 1, 8, 1000 * 1280 + 8 * 1280),
        ("compiled", 1, 8, 1000 * 1280 + 8 * 1280),
        ("eager", 1, 1, 0),  # a sum of columns
        ("eager", 4, 8, 0),  # matrices of a batch, which are no weights
        ("onnxruntime", 1, 8, 0),  # packed before the first run
    ],
)
def test_both_factors_of_a_product_of_several_rows_are_packed(
    execution, groups, rows, packed
) -> None:
    kernel = moved(
        4, macs=groups * rows * 1000 * 1280, unit="matrix", family="matmul",
        geometry=Geometry("gemm", groups, rows, 1000, 1280),
    )  # fmt: skip
    chosen = setting("epyc-genoa", execution=execution, threads=1)
    clock = fastest_cores(chosen.profile.engines["cpu"], 1)[0].clock_ghz * 1e9
    known = chosen.constants()
    bare, copied = (
        x86.timer([kernel], chosen)({**known, "repack_cycles": cycles}) for cycles in (0.0, 2.0)
    )
    assert copied.compute[0] - bare.compute[0] == pytest.approx(2.0 * packed / clock, abs=1e-12)


def test_threads_that_share_columns_all_read_the_rows() -> None:
    """196 x 2048 values from the third level, by one thread more; not where there is one row."""
    rates = {"l2_bytes_per_cycle": 16.0, "l3_bytes_per_cycle": 16.0}  # one after the other: 8
    for rows, again in ((196, 1), (1, 0)):
        geometry = Geometry("gemm", 1, rows, 512, 2048)
        kernel = moved(
            4, macs=rows * 512 * 2048, unit="matrix", family="matmul", geometry=geometry,
        )  # fmt: skip
        chosen = setting("epyc-genoa", execution="eager", threads=2)
        clock = fastest_cores(chosen.profile.engines["cpu"], 2)[0].clock_ghz * 1e9
        found = x86.timer([kernel], chosen)({**FREE, **rates}).memory[0]
        expected = again * 4 * rows * 2048 / (8.0 * clock * 2)
        assert found == pytest.approx(expected, abs=1e-8)


def test_small_convolutions_of_a_batch_are_products_one_by_one() -> None:
    """Eight images of 64 channels at 7x7: one call, and seven more products to begin."""
    one = convolution((1, 1), 7)
    assert one.geometry is not None
    eight = replace(one, geometry=replace(one.geometry, m=8 * 49))
    assert overhead(eight, 1, issue_us=2.0) == pytest.approx(overhead(one, 1, issue_us=2.0))
    assert overhead(one, 1, block_us=0.5) == 0.0
    assert overhead(eight, 1, block_us=0.5) == pytest.approx(7 * 0.5e-6)
    library = convolution((5, 5), 56)
    assert library.geometry is not None
    batch = replace(library, geometry=replace(library.geometry, m=8 * 56 * 56))
    assert overhead(batch, 1, issue_us=2.0) == overhead(library, 1, issue_us=2.0)


def test_groups_of_one_tap_are_products_that_are_issued_and_joined_one_by_one() -> None:
    """On one thread PyTorch multiplies 1x1 convolutions itself, group by group."""
    alone, joined = grouped(1, 240, (1, 1), 14), grouped(3, 80, (1, 1), 14)
    assert overhead(joined, 1, issue_us=2.0) == pytest.approx(3 * overhead(alone, 1, issue_us=2.0))
    assert overhead(joined, 2, issue_us=2.0) == overhead(alone, 2, issue_us=2.0)
    chosen = setting("epyc-genoa", execution="eager", threads=1)
    clock = fastest_cores(chosen.profile.engines["cpu"], 1)[0].clock_ghz * 1e9
    one, three = (
        x86.timer([kernel], chosen)({**FREE, "l2_bytes_per_cycle": 2.0}).memory[0]
        for kernel in (alone, joined)
    )
    outputs = 4 * 240 * 14 * 14
    assert three - one == pytest.approx(2 * outputs / (2.0 * clock))  # read and stored once more


@pytest.mark.parametrize(
    ("queries", "keys", "tiles"),
    [(49, 49, 2), (197, 197, 4), (768, 600, 3 * 2)],  # of 32, 64 and 256 queries by 512 keys
)
def test_fused_attention_begins_two_products_a_tile_and_every_row(queries, keys, tiles) -> None:
    chosen = setting("epyc-genoa", execution="eager", threads=1)
    geometry = Geometry("attention", 6, queries, keys, 64)
    kernel = moved(unit="matrix", family="attention", geometry=geometry, rows=6 * queries)
    bare, begun, by_row = (
        x86.timer([kernel], chosen)({**FREE, **constants}).compute[0]
        for constants in ({}, {"block_us": 2.0}, {"row_ns": 40.0})
    )
    assert begun - bare == pytest.approx(6 * 2 * tiles * 2e-6)
    assert by_row - bare == pytest.approx(6 * queries * 40e-9)


def test_rows_of_attention_are_eager_pytorchs() -> None:
    class Attention(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return nn.functional.scaled_dot_product_attention(x, x, x)

    rows = cost(trace(Attention(), torch.empty(3, 2, 5, 8))).rows
    for execution, each in (("eager", 3 * 2 * 5), ("compiled", 0)):
        found = [k.rows for k in kernels_of(rows, execution, "fp32") if k.family == "attention"]
        assert found == [each]


def test_wrong_guesses_cost_a_pipeline() -> None:
    kernel = moved(family="pooling", surprises=10**6)
    for execution, cycles in (("eager", 18.0), ("onnxruntime", 0.0)):
        chosen = setting("epyc-genoa", execution=execution, threads=1)
        clock = fastest_cores(chosen.profile.engines["cpu"], 1)[0].clock_ghz * 1e9
        found = x86.timer([kernel], chosen)(FREE).compute[0]
        assert found == pytest.approx(cycles * 1e6 / clock)


def test_compiled_convolutions_copy_windows_of_weights_and_no_maps() -> None:
    """Weights are read, written into blocks (fetched, and moved back) and read again; before that
    3x3 ones are put in channels-last order, which 1x1 ones have already."""
    for taps, times in (((3, 3), 7.0), ((1, 1), 4.0)):
        count = taps[0] * taps[1]
        geometry = Geometry("conv", 1, 49, 2048, 2048 * count, taps, (1, 1), spatial=(7, 7))
        weights = 4 * 2048 * 2048 * count
        kernel = replace(
            moved(1), macs=49 * 2048 * 2048 * count, unit="matrix", geometry=geometry,
            reads=(Access(3, weights, weight=True),), writes=(), channels_last=True,
        )  # fmt: skip
        chosen = setting("epyc-genoa", execution="compiled", threads=2)
        rates = {**FREE, "core_gb_per_s": 10.0, "stream_efficiency": 1.0, "l3_share": 0.05,
                 "reorder_passes": 3.0, "ragged_cycles": 3.0}  # fmt: skip
        found = x86.timer([kernel], chosen)(rates).memory[0]
        assert found == pytest.approx(times * weights / 20e9, rel=0.05)


def test_eager_convolutions_of_channels_last_maps_need_no_other_order() -> None:
    """ConvNeXt permutes its maps for a norm; PyTorch convolves them as they then are."""
    chosen = setting("epyc-genoa", execution="eager", threads=1)
    for last, again in ((False, True), (True, False)):
        kernel = replace(depthwise(32), channels_last=last)
        bare, passed = (
            x86.timer([kernel], chosen)({**FREE, "reorder_passes": passes}).memory[0]
            for passes in (0.0, 2.0)
        )
        assert (passed > bare) == again
    for order in (torch.contiguous_format, torch.channels_last):
        image = torch.empty(2, 4, 8, 8).to(memory_format=order)
        graph = trace(torch.nn.Conv2d(4, 4, 3, bias=False), image)
        (launched,) = kernels_of(cost(graph).rows, "eager", "fp32")
        assert launched.channels_last == (order == torch.channels_last)


def test_short_products_are_bound_by_their_sums() -> None:
    """Four multiply-accumulates and twelve for loading and storing: a quarter of the peak."""

    def product(k: int) -> Kernel:
        geometry = Geometry("gemm", 1, 4096, 16, k)
        return moved(macs=4096 * 16 * k, unit="matrix", family="matmul", geometry=geometry)

    chosen = setting("epyc-genoa", execution="eager", threads=1)
    for k, slower in ((4, 4.0), (768, 1 + 12 / 768)):
        bare, paid = (
            x86.timer([product(k)], chosen)({**FREE, "fill_depth": depth}).compute[0]
            for depth in (0.0, 12.0)
        )
        assert paid / bare == pytest.approx(slower)


@pytest.mark.parametrize(
    ("execution", "us"), [("eager", 7.0), ("onnxruntime", 7.0), ("compiled", 0.0)]
)
def test_a_generated_norm_is_a_loop_and_no_call(execution: str, us: float) -> None:
    chosen = setting("epyc-genoa", execution=execution, threads=1)
    norm = moved(family="normalization", rows=4)
    found = x86.timer([norm], chosen)({**FREE, "product_us": 7.0})
    assert found.overhead[0] == pytest.approx(us * 1e-6)


def test_what_runs_one_by_one_has_a_rate_of_its_own() -> None:
    """10^6 scalar operations at 0.5 a cycle and core, on two cores."""
    kernel = moved(family="pooling", ops=10**6, scalars=10**6)
    chosen = setting("epyc-genoa", execution="eager", threads=2)
    clock = fastest_cores(chosen.profile.engines["cpu"], 2)[0].clock_ghz * 1e9
    found = x86.timer([kernel], chosen)({**FREE, "window_ops_per_cycle": 0.5}).compute[0]
    assert found == pytest.approx(10**6 / (0.5 * clock * 2))


def test_gradients_of_depthwise_convolutions_have_a_share_of_their_own() -> None:
    chosen = setting("epyc-genoa", execution="eager", threads=1)
    for family, name in (("depthwise", "depthwise_backward_efficiency"),
                         ("convolution", "backward_efficiency")):  # fmt: skip
        kernel = moved(family=family, unit="matrix", macs=10**8)
        whole, half = (
            x86.timer([kernel], chosen)({**FREE, name: share}).compute[0] for share in (1.0, 0.5)
        )
        assert half == pytest.approx(2 * whole)


def test_the_slowest_core_of_a_team_decides() -> None:
    """8 equal parts on 6 fast and 2 slow cores take what 8 slow cores would, at their clock."""
    kernel = moved(macs=10**9, unit="matrix", family="matmul", ops=0,
                   geometry=Geometry("gemm", 1, 1000, 1024, 1000))  # fmt: skip
    of = {
        threads: x86.timer([kernel], setting("i7-12700h", execution="eager", threads=threads))(
            FREE
        ).compute[0]
        for threads in (6, 7, 8)
    }
    engine = setting("i7-12700h").profile.engines["cpu"]
    assert isinstance(engine, CpuEngine)
    slow = engine.clusters[1]
    assert of[7] > of[6]
    assert of[7] / of[8] == pytest.approx(8 * slow.clock_for(2) / (7 * slow.clock_for(1)))


def test_windows_unfolded_by_a_runtime_are_copied_one_by_one_and_multiplied_plainly() -> None:
    """Of 6 channels a group: 54 values a position at 2 cycles, products at 0.8 of the peak over 49
    whole vectors of positions; not unfolded, channels fill a vector of 16 at 0.5."""
    chosen = setting("epyc-genoa", execution="onnxruntime", threads=1)
    clock = fastest_cores(chosen.profile.engines["cpu"], 1)[0].clock_ghz * 1e9
    free = FREE | {"run_us": 0.0, "matrix_efficiency": 0.8, "grouped_efficiency": 0.5}
    kernel, windows = grouped(16, 6), 16 * 28 * 28 * 54
    for copied, flops, share in ((windows, 6, 0.8), (0, 16, 0.5)):
        timed = x86.timer([replace(kernel, unfolded=copied)], chosen)
        found = timed(free | {"unfold_cycles": 2.0}).compute[0]
        arithmetic = 2 * windows * flops / (share * 32 * clock)
        assert found == pytest.approx(arithmetic + 2.0 * copied / clock)


def test_a_run_of_a_runtime_takes_time_besides_its_kernels() -> None:
    chosen = setting("epyc-genoa", execution="onnxruntime", threads=1)
    kernels = [moved(10**6), moved(10**6)]
    bare, run = (x86.timer(kernels, chosen)({**FREE, "run_us": us}) for us in (0.0, 30.0))
    assert (run.latency - bare.latency).tolist() == pytest.approx([30e-6, 0.0])
    assert (run.overhead - bare.overhead).tolist() == pytest.approx([30e-6, 0.0])
    assert (bare.begin, run.begin) == (0.0, pytest.approx(30e-6))
    together = x86.latencies([(kernels, chosen)] * 2)({**FREE, "run_us": 30.0})
    assert together.tolist() == pytest.approx([run.latency.sum()] * 2)


def test_runs_timed_together_take_what_they_take_alone() -> None:
    runs = [
        ([depthwise(24), moved(10**6), convolution((3, 3), 56)], threads) for threads in (1, 2)
    ] + [([moved(10**7), depthwise(24), depthwise(24)], 2)]
    settings = [setting("epyc-genoa", execution="eager", threads=threads) for _, threads in runs]
    pairs = [(kernels, chosen) for (kernels, _), chosen in zip(runs, settings, strict=True)]
    constants = {**FREE, "reorder_passes": 1.0, "ragged_cycles": 1.0, "issue_us": 2.0}
    alone = [x86.timer(*pair)(constants).latency.sum() for pair in pairs]
    assert x86.latencies(pairs)(constants) == pytest.approx(alone, rel=1e-12)


def test_a_small_loop_of_pytorch_runs_on_one_thread() -> None:
    """ATen gives a thread 32,768 elements: half of that wakes nobody, twice as many wake one."""
    few, many = 4 * 16384, 4 * 65536
    assert overhead(moved(few), 2, fork_us=5.0) == 0.0
    assert overhead(moved(many), 2, fork_us=5.0) == pytest.approx(5e-6)
    plenty = moved(4 * 16 * 32768)
    assert overhead(plenty, 16, fork_us=5.0) == pytest.approx(4 * 5e-6), "four doublings"

    def arithmetic(nbytes: int, threads: int) -> float:
        chosen = setting("epyc-genoa", execution="eager", threads=threads)
        kernel = moved(nbytes, ops=nbytes // 4)
        return float(x86.timer([kernel], chosen)(FREE).compute[0])

    assert arithmetic(many, 2) == pytest.approx(arithmetic(many, 1) / 2, rel=0.1)
    assert arithmetic(few, 2) == pytest.approx(arithmetic(few, 1), rel=0.1)


@pytest.mark.parametrize(
    ("function", "eager", "compiled"),
    [
        (nn.Sigmoid(), 1, 1),
        (nn.GELU(), 2, 2),  # oneDNN's, and inductor's
        (nn.Tanh(), 1, 6),
        (nn.GELU(approximate="tanh"), 4, 4),
        (nn.Softplus(), 4, 4),
        (nn.Mish(), 10, 10),
        (nn.ReLU(), 0, 0),
    ],
)
def test_functions_that_pytorch_computes_to_the_last_bit_take_several_sigmoids(
    function, eager, compiled
) -> None:
    rows = cost(trace(function, torch.empty(4, 16))).rows
    for execution, sigmoids in (("eager", eager), ("compiled", compiled)):
        (kernel,) = kernels_of(rows, execution, "fp32", lanes=16)
        assert kernel.transcendentals == 64 * sigmoids


def linear(m: int, n: int, k: int, *, bias: bool) -> Kernel:
    kernel = moved(4 * m * n, ops=m * n if bias else 0, macs=m * n * k, unit="matrix")
    return replace(kernel, family="matmul", geometry=Geometry("gemm", 1, m, n, k))


def test_a_bias_is_copied_over_the_result_before_the_product() -> None:
    """PyTorch has BLAS add to it: what is written comes once more, and threads start once more."""
    chosen = setting("epyc-genoa", execution="eager", threads=2)
    rates = {**FREE, "fork_us": 5.0, "l2_bytes_per_cycle": 16.0}
    bare, biased = (
        x86.timer([linear(256, 64, 96, bias=bias)], chosen)(rates) for bias in (False, True)
    )
    clock = x86.machine_of(chosen, {"fp32"}).clock
    assert biased.memory[0] - bare.memory[0] == pytest.approx(4 * 256 * 64 / (16.0 * 2 * clock))
    assert (bare.overhead[0], biased.overhead[0]) == pytest.approx((5e-6, 10e-6))


def test_runtimes_add_a_bias_where_they_compute() -> None:
    chosen = setting("epyc-genoa", execution="onnxruntime", threads=2)
    constants = chosen.constants()
    bare, biased = (
        x86.timer([linear(256, 64, 96, bias=bias)], chosen)(constants) for bias in (False, True)
    )
    assert biased.memory[0] == pytest.approx(bare.memory[0])
    assert biased.overhead[0] == pytest.approx(bare.overhead[0])


@pytest.mark.parametrize("rows", [64, 1000])
def test_pytorch_itself_copies_a_bias_first(rows: int) -> None:
    """The profiler shows the copy inside of the product."""
    layer, x = nn.Linear(32, 48), torch.randn(rows, 32)
    with torch.inference_mode(), torch.profiler.profile() as seen:
        layer(x)
    copies = [e for e in seen.events() if e.name == "aten::copy_"]
    assert [e.cpu_parent.name for e in copies] == ["aten::addmm"]


def test_a_loop_that_turns_a_map_takes_cycles_by_element() -> None:
    chosen = setting("epyc-genoa", execution="compiled", threads=1)
    clock = x86.machine_of(chosen, {"fp32"}).clock
    constants = {**chosen.constants(), "turn_cycles": 2.0}
    plain, turned = (
        x86.timer([moved(4 * 10_000, turned=turned)], chosen)(constants).compute[0]
        for turned in (False, True)
    )
    assert turned - plain == pytest.approx(10_000 * 2.0 / clock)


@pytest.mark.parametrize(
    ("threads", "m", "k", "n", "rows"),
    [
        (14, 197, 1024, 4096, 7),  # a grid of 7 x 2
        (14, 197, 1040, 4096, 7),
        (14, 197, 4096, 1000, 7),
        (14, 197, 1040, 4160, 1),  # no factor lies whole kilobytes apart
        (14, 197, 768, 3072, 1),  # one block of terms
        (14, 50, 1024, 4096, 2),  # 24 rows a thread at least
        (14, 8, 1024, 4096, 1),
        (16, 1024, 1024, 1024, 4),
        (13, 1024, 1024, 1024, 1),
        (14, 3136, 384, 1536, 1),
        (2, 1024, 1024, 1024, 1),
    ],
)
def test_mkl_shares_products_out_by_columns_unless_lines_lie_kilobytes_apart(
    threads: int, m: int, k: int, n: int, rows: int
) -> None:
    chosen = setting("xeon-emerald-rapids", execution="compiled", threads=threads)
    kernel = moved(macs=m * k * n, unit="matrix", family="matmul", ops=0,
                   geometry=Geometry("gemm", 1, m, n, k))  # fmt: skip
    run, machine = features_of([kernel]), x86.machine_of(chosen, {"fp32"})
    found = shares_of(run, machine)
    assert (found[0][0], found[1][0]) == (rows, threads / rows)
    # Multipliers of 256 bits run other kernels, and runtimes share the longer side out.
    assert shares_of(run, replace(machine, pipe=8))[0][0] == 1
    runtime = shares_of(run, replace(machine, framework=False))
    assert (runtime[0][0], runtime[1][0]) == ((1, threads) if n > m else (threads, 1))


def test_threads_that_share_rows_out_pack_the_weights_once_each() -> None:
    """14 threads on 224 rows: in seven parts the weights are packed seven times, and read through
    the third level by six more, as half of the rows are by one; in one part all rows by 13."""
    chosen = setting("i9-10940x", execution="compiled", threads=14)
    kernel = moved(macs=224 * 1024 * 1024, unit="matrix", family="matmul", ops=0,
                   geometry=Geometry("gemm", 1, 224, 1024, 1024))  # fmt: skip
    run, machine = features_of([kernel]), x86.machine_of(chosen, {"fp32"})
    constants = {**chosen.constants(), "repack_cycles": 1.0}
    packed = copy_seconds(run, machine, constants, choices_of(run, machine))
    cycles = machine.clock * machine.threads
    assert packed[0] * cycles == pytest.approx(7 * 1024**2 + 224 * 1024)
    levels = levels_of(machine, constants)
    shared = shared_seconds(run, machine, levels)
    assert shared[0] * levels.rates[1] == pytest.approx(4 * 1024 * (6 * 1024 + 224))
