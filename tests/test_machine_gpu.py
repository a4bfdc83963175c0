"""GPU mechanisms: kernels whose threads wait in turn, caches that forget by and by, fused norms."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import costmodel as cm
from costmodel import tracer
from costmodel.execution import compiled, eager
from costmodel.execution.kernel import Kernel
from costmodel.machine import gpu
from costmodel.machine.constants import values_of
from costmodel.machine.times import Times
from costmodel.roofline import times_of
from costmodel.setting import setting
from costmodel.table import CostTable

MAPS = 4 * 16


def table_of(model: nn.Module, x: torch.Tensor) -> CostTable:
    return cm.cost(cm.trace(model.eval(), (x,)))


def resampled(mode: str, order: torch.memory_format) -> CostTable:
    x = torch.randn(4, 16, 7, 7).to(memory_format=order)
    return table_of(nn.Upsample(scale_factor=2, mode=mode), x)


@pytest.mark.parametrize(
    ("mode", "order", "serial"),
    [
        ("bilinear", torch.contiguous_format, MAPS),
        ("bilinear", torch.channels_last, 0),
        ("bicubic", torch.channels_last, MAPS),
        ("nearest", torch.contiguous_format, 0),
    ],
)
def test_maps_are_resampled_in_turn(mode: str, order: torch.memory_format, serial: int) -> None:
    rows = resampled(mode, order).rows
    assert [k.serial for k in eager.kernels(rows, "fp16")] == [serial]
    assert [k.serial for k in compiled.kernels(rows, "fp16")] == [0]


class Tokens(nn.Module):
    """A class token is cut off, and the others are resampled as a map: channels innermost."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, _, channels = x.shape
        maps = x[:, 1:].transpose(1, 2).reshape(batch, channels, 7, 7)
        return nn.functional.interpolate(maps, scale_factor=2, mode="bilinear")


@pytest.mark.parametrize(("channels", "serial"), [(16, 0), (8, 4 * 8)])
def test_a_view_of_tokens_is_channels_last_from_sixteen_channels(
    channels: int, serial: int
) -> None:
    launched = eager.kernels(table_of(Tokens(), torch.randn(4, 50, channels)).rows, "fp16")
    assert [k.serial for k in launched if k.family == "interpolation"] == [serial]


def test_rows_of_a_layer_norm_wait_for_their_blocks_and_for_each_element() -> None:
    rows = table_of(nn.LayerNorm(32), torch.randn(64, 3136, 32)).rows
    chosen = setting("rtx3090", dtype="fp16", execution="eager")
    launched = eager.kernels(rows, "fp16")
    assert launched[0].blocks == 64 * 3136
    found = times_of(launched, chosen, {"row_us": 0.25, "element_ns": 0.5, "dispatch_us": 0.0})
    assert found.memory[0] == pytest.approx(64 * 3136 * (0.25e-6 + 32 * 0.5e-9) / 82)
    assert [k.blocks for k in compiled.kernels(rows, "fp16")] == [0]


def test_what_a_group_norm_answers_is_copied_for_the_next_convolution() -> None:
    layer = nn.Conv2d(64, 64, 3, padding=1, bias=False).to(memory_format=torch.channels_last)
    chosen = setting("rtx4090", dtype="fp16", execution="eager", layout="nhwc")

    def memory(order: torch.memory_format) -> float:
        x = torch.randn(8, 64, 256, 256).to(memory_format=order)
        return float(times_of(eager.kernels(table_of(layer, x).rows, "fp16"), chosen).memory[0])

    activation = 8 * 64 * 256 * 256 * 2
    copy = 2 * activation / 1008e9 / chosen.constants()["turn_efficiency"]
    longer = memory(torch.contiguous_format) - memory(torch.channels_last)
    assert longer * chosen.constants()["stream_efficiency"] == pytest.approx(copy, rel=1e-2)


def launched_by(model: nn.Module, x: torch.Tensor, dtype: str = "fp16") -> list[Kernel]:
    return eager.kernels(table_of(model, x).rows, dtype)


def test_a_group_norm_brings_maps_into_its_order_and_reads_them_twice() -> None:
    norm = nn.GroupNorm(8, 64)
    x = torch.randn(8, 64, 32, 32)
    moments, main = launched_by(norm, x)
    assert moments.names == ("group_norm.moments",)
    assert (moments.reads, moments.writes, moments.ops) == (main.reads, (), 0)
    (fused,) = compiled.kernels(table_of(norm, x).rows, "fp16")
    assert fused.nbytes == main.nbytes
    copy, *both = launched_by(norm, x.to(memory_format=torch.channels_last))
    assert (copy.turned, copy.walk is not None) == (True, True)
    assert [(k.strided, k.turned, k.nbytes) for k in both] == [
        (False, False, moments.nbytes), (False, False, main.nbytes)
    ]  # fmt: skip

    def memory(order: torch.memory_format, **constants: float) -> float:
        chosen = setting("rtx4090", dtype="fp16", execution="eager")
        run = launched_by(norm, x.to(memory_format=order))
        return float(times_of(run, chosen, constants).memory[0])

    slow = memory(torch.channels_last, turn_efficiency=0.2)
    assert slow == pytest.approx(2 * memory(torch.channels_last, turn_efficiency=0.4))
    first = torch.contiguous_format
    assert memory(first, turn_efficiency=0.2) == memory(first, turn_efficiency=0.4)


def test_a_processor_finds_moments_and_norm_of_a_group_in_its_cache() -> None:
    x = torch.randn(8, 64, 32, 32)
    chosen = setting("i9-10940x", execution="eager")
    latency = times_of(launched_by(nn.GroupNorm(8, 64), x), chosen).latency
    assert latency[0] == 0 < latency[1]


class Mixed(nn.Module):
    """Tokens mixed by a linear layer, as they come or rows and columns exchanged."""

    def __init__(self, exchanged: bool) -> None:
        super().__init__()
        self.exchanged, self.mix = exchanged, nn.Linear(32, 48)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.mix(x.transpose(1, 2) if self.exchanged else x)


def test_a_linear_layer_of_what_is_not_contiguous_adds_its_bias_in_a_second_pass() -> None:
    whole = launched_by(Mixed(False), torch.randn(2, 64, 32))
    assert [(k.unit, k.ops) for k in whole] == [("matrix", 2 * 64 * 48)]
    product, bias = launched_by(Mixed(True), torch.randn(2, 32, 64))
    assert (product.unit, product.ops, bias.ops) == ("matrix", 0, 2 * 64 * 48)
    assert bias.reads == bias.writes == product.writes
    assert product.macs == whole[0].macs
    chosen = setting("i9-10940x", execution="eager")
    assert times_of([product, bias], chosen).latency[1] > 0
    (matrix,) = launched_by(nn.Linear(32, 48), torch.randn(32, 64).t())
    assert matrix.ops == 64 * 48


def test_a_depthwise_convolution_of_more_than_32_bits_number_fetches_for_each_product() -> None:
    layer = nn.Conv2d(128, 128, 3, stride=2, padding=1, groups=128, bias=False)

    def memory(batch: int, order: torch.memory_format, layout: str = "nhwc") -> float:
        chosen = setting("rtx3090", dtype="fp16", execution="eager", layout=layout)
        x = torch.empty(batch, 128, 128, 128, device="meta").to(memory_format=order)
        run = launched_by(layer.to("meta").to(memory_format=order), x)
        return float(times_of(run, chosen, {"vast_bytes": 12.0}).memory[0]) / batch

    last = torch.channels_last
    macs = 9 * 128 * 64 * 64
    assert memory(1024, last) == pytest.approx(macs * 12.0 / 936.2e9, rel=1e-3)
    assert memory(1024, last, "nchw") == memory(1024, last)
    assert memory(1023, last) < memory(1024, last) / 5
    assert memory(1024, torch.contiguous_format, "nchw") < memory(1024, last) / 5


def test_inductor_orders_maps_itself_and_meets_vast_ones_as_well() -> None:
    first, last = torch.contiguous_format, torch.channels_last
    layer = nn.Conv2d(128, 128, 3, stride=2, padding=1, groups=128, bias=False).to("meta")
    x = torch.empty(1024, 128, 128, 128, device="meta")
    run = compiled.kernels(table_of(layer.to(memory_format=last), x).rows, "fp16")
    assert [k.turned for k in run] == [False]
    run = compiled.kernels(table_of(layer.to(memory_format=first), x).rows, "fp16")
    assert [k.channels_last for k in run] == [False]
    chosen = setting("rtx4090", execution="compiled", dtype="fp16")
    found = {
        layout: gpu.timer(run, replace(chosen, layout=layout))(chosen.constants()).memory[0]
        for layout in ("nchw", "nhwc")
    }
    assert found["nhwc"] > 5 * found["nchw"]


def grouped_times(width: int, groups: int, order: torch.memory_format, **constants: float) -> Times:
    layer = nn.Conv2d(groups * width, groups * width, 3, padding=1, groups=groups, bias=False)
    x = torch.randn(8, groups * width, 32, 32).to(memory_format=order)
    chosen = setting("rtx4090", dtype="fp16", execution="eager")
    return times_of(launched_by(layer.to(memory_format=order), x), chosen, constants)


def test_groups_of_ragged_widths_are_copied_into_whole_tiles_and_back_with_channels_last() -> None:
    def memory(width: int, order: torch.memory_format, share: float) -> float:
        constants = {"strided_efficiency": share, "stream_efficiency": 1.0}
        return float(grouped_times(width, 8, order, **constants).memory[0])

    last = torch.channels_last
    copied = 2 * (2 * 8 * 72 * 8 * 32 * 32 + 8 * 72 * 72 * 9) * 2 / 1008e9
    assert memory(72, last, 0.5) - memory(72, last, 1.0) == pytest.approx(copied, rel=1e-6)
    assert memory(64, last, 0.5) == memory(64, last, 1.0)
    first = torch.contiguous_format
    assert memory(72, first, 0.5) == memory(72, first, 1.0)


def test_groups_of_four_channels_share_a_tile_with_channels_last() -> None:
    last, first = torch.channels_last, torch.contiguous_format
    four, eight = grouped_times(4, 1024, last), grouped_times(8, 512, last)
    assert four.compute[0] == pytest.approx(eight.compute[0])
    alone = grouped_times(4, 1024, first), grouped_times(8, 512, first)
    assert alone[0].compute[0] == pytest.approx(2 * alone[1].compute[0], rel=0.01)


def test_depthwise_filters_beyond_seven_by_seven_are_left_to_grouped_products() -> None:
    def compute(size: int, order: torch.memory_format, dtype: str = "fp16") -> float:
        layer = nn.Conv2d(64, 64, size, padding=size // 2, groups=64, bias=False)
        x = torch.randn(8, 64, 64, 64).to(memory_format=order)
        run = launched_by(layer.to(memory_format=order), x, dtype)
        chosen = setting("rtx3090", dtype=dtype, execution="eager")
        constants = {"tile_reload": 0.0, "matrix_efficiency": 1.0, "unaligned_efficiency": 0.3}
        return float(times_of(run, chosen, constants).compute[0]) / run[0].macs

    last, first = torch.channels_last, torch.contiguous_format
    assert compute(9, last) > 5 * compute(7, last)
    # A column of 128 is one channel; 81 taps fill steps of 32, and the last wave is part empty.
    padded = 128 * 96 / 81 / (71e12 / 2)
    assert padded < compute(9, last) < 1.1 * padded
    assert compute(9, first) == pytest.approx(compute(7, first))
    assert compute(9, last, "fp32") == pytest.approx(compute(7, last, "fp32"))


class Unfolded(nn.Module):
    """Windows of a map next to each other, and back."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        windows = nn.functional.unfold(x, 3, padding=1)
        return nn.functional.fold(windows, x.shape[-2:], 3, padding=1)


def test_a_depthwise_convolution_has_the_rate_of_the_order_of_its_map() -> None:
    def compute(order: torch.memory_format) -> float:
        layer = nn.Conv2d(64, 64, 3, padding=1, groups=64, bias=False)
        x = torch.randn(8, 64, 64, 64).to(memory_format=order)
        chosen = setting("rtx3090", dtype="fp16", execution="eager")
        shares = {"depthwise_nchw_efficiency": 0.1, "depthwise_nhwc_efficiency": 0.4}
        run = launched_by(layer.to(memory_format=order), x)
        return float(times_of(run, chosen, shares).compute[0])

    first, last = compute(torch.contiguous_format), compute(torch.channels_last)
    assert first == pytest.approx(4 * last)


class Part(nn.Module):
    """A convolution of some of the channels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(16, 32, 3, padding=1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x[:, :16])


def test_channels_first_a_part_of_a_map_is_copied_as_it_is_turned_and_no_second_time() -> None:
    run = launched_by(Part(), torch.randn(4, 64, 32, 32))
    assert [k.strided for k in run] == [True]
    chosen = setting("rtx4090", dtype="fp16", execution="eager")
    fast, slow = (
        times_of(run, chosen, {"strided_efficiency": share}).memory[0] for share in (1.0, 0.5)
    )
    assert fast == slow


class Star(nn.Module):
    """A StarReLU: a scale of one element, then the map."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.scale * x


def test_an_operand_that_is_repeated_says_nothing_of_the_order_of_memory() -> None:
    x = torch.randn(4, 16, 32, 32).to(memory_format=torch.channels_last)
    assert [k.strided for k in launched_by(Star(), x)] == [False]
    weights = nn.Sequential(nn.Embedding(8, 4), nn.ReLU())
    tokens = launched_by(weights, torch.zeros(2, 3, dtype=torch.int64))
    assert [k.strided for k in tokens] == [False, False]


def test_unfolding_and_folding_look_up_every_element() -> None:
    run = launched_by(Unfolded(), torch.randn(4, 16, 32, 32))
    assert [k.indexed for k in run] == [True, True]
    chosen = setting("rtx4090", dtype="fp16", execution="eager")
    slow, fast = (
        times_of(run, chosen, {"gather_efficiency": share}).memory for share in (0.05, 0.1)
    )
    assert slow == pytest.approx(2 * fast)
    inductor = compiled.kernels(table_of(Unfolded(), torch.randn(4, 16, 32, 32)).rows, "fp16")
    assert not any(k.indexed for k in inductor)  # which computes places as it goes
    table = table_of(nn.Embedding(100, 64), torch.zeros(4, 32, dtype=torch.int64))
    assert [k.indexed for k in eager.kernels(table.rows, "fp16")] == [True]
    assert [k.indexed for k in compiled.kernels(table.rows, "fp16")] == [True]
    assert not any(k.indexed for k in launched_by(nn.ReLU(), torch.randn(4, 16)))


def test_a_norm_of_maps_knows_their_order() -> None:
    def memory(order: torch.memory_format, layout: str = "nchw") -> float:
        x = torch.randn(4, 16, 32, 32).to(memory_format=order)
        run = launched_by(nn.BatchNorm2d(16), x)
        chosen = setting("rtx4090", dtype="fp16", execution="eager", layout=layout)
        return float(times_of(run, chosen, {"batch_norm_nchw_efficiency": 0.5}).memory[0])

    last, first = torch.channels_last, torch.contiguous_format
    assert memory(first) == pytest.approx(2 * memory(last))
    # A network traced channels first, told as if it had been given channels last.
    assert memory(first, "nhwc") == memory(last)


def test_channels_first_maps_are_turned_for_matrix_units_as_filters_need_it() -> None:
    """3x3 filters have their whole input turned and a share of their output, 1x1 ones a share of
    their input; each pass reads and writes what it turns."""
    net = nn.Sequential(
        nn.Conv2d(64, 128, 3, padding=1, bias=False), nn.Conv2d(128, 64, 1, bias=False)
    )
    rows = cm.cost(cm.trace(net.eval(), "8x64x32x32")).rows

    def turned(dtype: str, spatial: float, pointwise: float) -> list[float]:
        chosen = setting("rtx4090", dtype=dtype, execution="eager", layout="nchw")
        shares = {"transposed_share": spatial, "pointwise_transposed_share": pointwise}
        run = eager.kernels(rows, dtype)
        first, last = (
            times_of(run, replace(chosen, layout=layout), shares).memory
            for layout in ("nchw", "nhwc")
        )
        rate = 1008e9 * values_of("gpu/eager")["stream_efficiency"]
        return list((first - last) * rate)

    pixels, small, large = 8 * 32 * 32 * 2, 64, 128
    weights = 64 * 128 * 2
    read = pixels * small + 9 * weights
    assert turned("fp16", 0.0, 0.0) == pytest.approx([2 * read, 0.0])
    assert turned("fp16", 1.0, 0.0) == pytest.approx([2 * read + 2 * pixels * large, 0.0])
    assert turned("fp16", 0.0, 0.5) == pytest.approx([2 * read, pixels * large + weights])
    assert turned("fp32", 1.0, 1.0) == [0.0, 0.0]


def test_what_a_network_turns_to_channels_first_stays_so_in_a_run_with_channels_last() -> None:
    """Weights that the network computes are channels first, and so is what they make of a map that
    a group norm gave out; in another network all convolutions follow the input."""

    class Standardised(nn.Conv2d):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            weight = self.weight.reshape(len(self.weight), -1)
            weight = (weight - weight.mean(1, keepdim=True)).reshape_as(self.weight)
            return nn.functional.conv2d(x, weight, None, 1, 1)

    def orders(layer: type[nn.Conv2d]) -> list[bool]:
        stem, conv = nn.Conv2d(3, 16, 3, padding=1), layer(16, 16, 3, padding=1, bias=False)
        net = nn.Sequential(stem, nn.GroupNorm(4, 16), conv)
        graph = tracer.trace(net.eval(), (torch.randn(2, 3, 32, 32),), channels_last=True)
        run = eager.kernels(cm.cost(graph).rows, "fp16")
        chosen = setting("rtx4090", dtype="fp16", execution="eager", layout="nhwc")
        plain, turned = (
            times_of(run, chosen, {"transposed_share": share}).memory for share in (0.0, 0.5)
        )
        products = [bool(k.macs) for k in run]
        assert [k.channels_last for k in run if k.macs] == list((plain == turned)[products])
        return [k.channels_last for k in run if k.macs]

    assert orders(nn.Conv2d) == [True, True]
    assert orders(Standardised) == [True, False]


@pytest.mark.parametrize(
    ("options", "last"),
    [
        ({"layout": "nhwc"}, True),
        ({"layout": "nchw"}, False),
        ({"layout": "nhwc", "execution": "compiled"}, False),  # inductor orders maps itself
    ],
)
def test_analyze_traces_a_network_in_the_layout_that_it_runs_in(options, last) -> None:
    report = cm.analyze(nn.Conv2d(3, 8, 3), "2x3x16x16", "rtx4090", dtype="fp16", **options)
    (x,) = report.table.info.inputs
    assert (x.channels_last, x.contiguous) == (last, not last)


def test_grouped_widths_that_are_no_power_of_two_fill_a_wide_tile() -> None:
    def compute(width: int) -> float:
        layer = nn.Conv2d(16 * width, 16 * width, 3, padding=1, groups=16, bias=False)
        rows = table_of(layer, torch.randn(1, 16 * width, 64, 64)).rows
        chosen = setting("rtx4090", dtype="fp16", execution="eager")
        return float(times_of(eager.kernels(rows, "fp16"), chosen).compute[0])

    assert compute(24) > 2 * compute(32)
    assert compute(128) > compute(64) > compute(32)


def test_a_pointwise_kernel_hides_all_of_its_arithmetic() -> None:
    rows = table_of(nn.Sequential(nn.ReLU()), torch.randn(4096, 4096)).rows
    chosen = setting("rtx4090", dtype="fp16", execution="eager")
    found = times_of(
        eager.kernels(rows, "fp16"), chosen, {"exposed": 1.0, "dispatch_us": 0.0, "start_us": 0.0}
    )
    assert found.memory[0] > found.compute[0] > 0
    assert found.overhead[0] < 1.1 * chosen.constants()["launch_us"] * 1e-6


def test_threads_that_wait_in_turn_wait_once_for_each_map() -> None:
    chosen = setting("rtx4090", dtype="fp16", execution="eager")
    launched = eager.kernels(resampled("bilinear", torch.contiguous_format).rows, "fp16")
    found = times_of(launched, chosen, {"serial_us": 0.5, "dispatch_us": 0.0})
    assert found.memory[0] == pytest.approx(MAPS * 0.5e-6)


def test_a_cache_forgets_by_and_by() -> None:
    distance = np.array([0.0, 10.0, 15.0, 20.0, np.inf])
    assert gpu._held(distance, 10.0).tolist() == [1.0, 1.0, 0.5, 0.0, 0.0]
    assert gpu._held(distance, 0.0).tolist() == [1.0, 0.0, 0.0, 0.0, 0.0]


class Residual(nn.Module):
    """The residual stream of a transformer in float32, a norm of it for a half-precision layer."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(16, 16), nn.Linear(16, 16)
        self.norm = nn.LayerNorm(16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.first(x)
        return x + self.last(self.norm(x))


def fused_norm(launched: list[Kernel]) -> Kernel:
    return next(k for k in launched if "norm.layer_norm" in k.names)


def test_inductor_fuses_a_norm_with_the_sum_before_it_and_the_cast_after_it() -> None:
    launched = compiled.kernels(table_of(Residual(), torch.randn(2, 8, 16)).rows, "amp-fp16")
    kernel = fused_norm(launched)
    assert kernel.names == ("add", "norm.layer_norm", "last.linear.cast")
    tokens = 2 * 8 * 16
    # In: the stream (4 bytes), the layer's output (2), scale and shift. Out: the sum, which the
    # second addition reads in float32, and the half-precision copy for the layer.
    assert sum(a.nbytes for a in kernel.reads) == tokens * (4 + 2) + 2 * 16 * 4
    assert sum(a.nbytes for a in kernel.writes) == tokens * (4 + 2)


def test_casts_of_weights_keep_nothing_waiting() -> None:
    launched = compiled.kernels(table_of(Residual(), torch.randn(2, 8, 16)).rows, "amp-fp16")
    casts = [all(a.weight for a in k.reads) for k in launched]
    assert casts == sorted(casts, reverse=True)
    assert sum(casts) == 4


class Attention(nn.Module):
    """Softmax attention of 4 heads within 3 windows, in 5 dimensions or, flattened, in 4."""

    def __init__(self, windows: bool) -> None:
        super().__init__()
        self.windows = windows

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        query, key, value = x.reshape(3, 2, 3, 4, 16, 8).unbind(0)
        if not self.windows:
            query, key, value = (t.flatten(0, 1) for t in (query, key, value))
        return nn.functional.scaled_dot_product_attention(query, key, value)


def test_attention_in_five_dimensions_is_taken_step_by_step() -> None:
    x = torch.randn(3 * 2 * 3 * 4 * 16 * 8)
    (fused,) = eager.kernels(table_of(Attention(False), x).rows, "fp16")
    assert fused.geometry is not None
    assert fused.geometry.kind == "attention"
    steps = eager.kernels(table_of(Attention(True), x).rows, "fp16")
    heads, operand = 2 * 3 * 4, 2 * 3 * 4 * 16 * 8 * 2
    scores = heads * 16 * 16 * 2
    # Three copies in and out, scores written, read and written by the softmax, read once more.
    assert [k.nbytes for k in steps] == [
        *[2 * operand] * 3, 2 * operand + scores, 2 * scores, scores + 2 * operand,
    ]  # fmt: skip
    assert sum(k.macs for k in steps) == fused.macs
    for product in (steps[3], steps[5]):
        g = product.geometry
        assert g is not None
        assert (g.kind, g.groups * g.m * g.n * g.k) == ("gemm", product.macs)


class Branches(nn.Module):
    """Two branches of convolution and norm, added: the first waits for the second."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = (nn.Conv2d(4, 4, 1, bias=False) for _ in range(2))
        self.first, self.second = nn.BatchNorm2d(4), nn.BatchNorm2d(4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.first(self.one(x)) + self.second(self.two(x)))


def test_inductor_computes_a_branch_where_it_is_used() -> None:
    launched = compiled.kernels(table_of(Branches(), torch.randn(2, 4, 8, 8)).rows, "fp32")
    assert [k.names for k in launched] == [
        ("one.conv2d",),
        ("two.conv2d",),
        ("first.batch_norm", "second.batch_norm", "add", "relu"),
    ]
    plane, norm = 2 * 4 * 8 * 8 * 4, 4 * 4 * 4
    assert launched[2].nbytes == 3 * plane + 2 * norm


def test_a_power_limit_slows_what_would_draw_more_and_nothing_else() -> None:
    """An RTX PRO 6000 Max-Q (300 W): its matrix units at peak take 127 W of silicon alone, of 264
    above rest; a depthwise convolution leaves most of its vector units idle."""
    chosen = setting("rtx-pro-6000-maxq", dtype="fp16", execution="eager", layout="nhwc")
    board = gpu.board_of(chosen)
    assert board.matrix_powered["fp16"] == pytest.approx(264 / 127, rel=0.01)
    assert 0.5 < board.vector_powered < 0.6

    def compute(model: nn.Module, x: torch.Tensor, energy: float, limit: float) -> float:
        fed = {name: share * limit for name, share in board.matrix_powered.items()}
        limited = replace(board, vector_powered=board.vector_powered * limit, matrix_powered=fed)
        run = gpu.features_of(launched_by(model, x))
        constants = {**chosen.constants(), "matrix_energy": energy}
        return float(gpu.compute_seconds(run, limited, constants)[0])

    product = nn.Linear(4096, 4096, bias=False), torch.randn(4096, 4096)
    assert compute(*product, 1.0, 1.0) == compute(*product, 2.0, 1.0)
    assert compute(*product, 4.0, 1.0) == pytest.approx(compute(*product, 2.0, 0.5))
    assert compute(*product, 4.0, 1.0) > 1.9 * compute(*product, 2.0, 1.0)
    filters = nn.Conv2d(64, 64, 3, padding=1, groups=64, bias=False)
    maps = filters, torch.randn(8, 64, 56, 56).to(memory_format=torch.channels_last)
    assert compute(*maps, 2.0, 1.0) == compute(*maps, 4.0, 9.0)
    assert compute(*maps, 2.0, 0.25) > compute(*maps, 2.0, 1.0)
    loop = nn.SiLU(), torch.randn(8, 64, 56, 56)
    assert compute(*loop, 2.0, 1.0) == compute(*loop, 2.0, 9.0)
    assert compute(*loop, 2.0, 0.25) > compute(*loop, 2.0, 1.0)
