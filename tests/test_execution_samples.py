"""Runtimes that take one sample at a time, and loops that find every element's place."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

import costmodel as cm
from costmodel.execution import kernels_of
from costmodel.execution.kernel import nbytes
from costmodel.execution.samples import of_one
from costmodel.machine.times import Times
from costmodel.roofline import latencies_of, timer_of, times_of
from costmodel.rules.pooling import averages_border
from costmodel.setting import setting


class Net(nn.Module):
    """Convolutions (Winograd among them), a linear layer, and a product of activations."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 32, 3, stride=2, padding=1)
        self.second = nn.Conv2d(32, 32, 3, padding=1)
        self.last = nn.Linear(32, 32)

    def forward(self, x):
        x = self.second(self.first(x).relu()).flatten(2).transpose(1, 2)
        x = self.last(x)
        return (x @ x.transpose(1, 2)).softmax(-1)


def table(batch, model=None, shape=(3, 16, 16)):
    return cm.cost(cm.trace(model or Net(), torch.empty(batch, *shape)))


@pytest.mark.parametrize("hw", ["i9-10940x:cpu", "rpi5:cpu", "pixel8:cpu", "pixel8:gpu"])
def test_ncnn_takes_a_batch_as_a_loop(hw):
    one = cm.predict(table(1), hw, execution="ncnn")
    eight = cm.predict(table(8), hw, execution="ncnn")
    assert eight.latency_s == pytest.approx(8 * one.latency_s, rel=1e-9)
    for alone, looped in zip(one.kernels, eight.kernels, strict=True):
        assert looped.ops == alone.ops
        assert looped.latency_s == pytest.approx(8 * alone.latency_s, rel=1e-9)
        assert looped.flops == pytest.approx(8 * alone.flops, rel=1e-4)


def test_repeated_times_are_those_of_as_many_runs():
    one = Times(*(np.array([x, 2 * x]) for x in (7.0, 4.0, 2.0, 1.0)), ("l2", "dram"), 0.5)
    three = one.repeated(3)
    for name in ("latency", "compute", "memory", "overhead"):
        assert getattr(three, name).tolist() == (3 * getattr(one, name)).tolist()
    assert (three.level, three.begin) == (one.level, 1.5)


def test_runs_timed_together_take_as_long_as_alone():
    chosen = setting("i9-10940x:cpu", execution="ncnn", dtype="fp32", threads=2)
    runs = [kernels_of(table(batch).rows, "ncnn", "fp32", batch) for batch in (1, 8)]
    together = latencies_of([(kernels, chosen) for kernels in runs])
    alone = [timer_of(kernels, chosen)(chosen.constants()).latency.sum() for kernels in runs]
    assert together(chosen.constants()) == pytest.approx(alone, rel=1e-9)
    assert alone[1] == pytest.approx(8 * alone[0], rel=1e-9)


@pytest.mark.parametrize("hw", ["pixel8:gpu", "i9-10940x:cpu"])
def test_a_cost_function_of_a_batch_agrees(hw):
    def build(width):
        return nn.Sequential(nn.Conv2d(3, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, 8, 1))

    function = cm.cost_function(build, {"width": (16, 24)}, "4x3x16x16", hw=hw, execution="ncnn")
    for width in (16, 24):
        built = table(4, build(width))
        wanted = cm.predict(built, hw, execution="ncnn").latency_s
        assert float(function.latency(width=width)[0]) == pytest.approx(wanted, rel=1e-9)


def test_other_runtimes_take_it_at_once():
    one = cm.predict(table(1), "i9-10940x:cpu", execution="onnxruntime")
    eight = cm.predict(table(8), "i9-10940x:cpu", execution="onnxruntime")
    assert eight.latency_s < 7.9 * one.latency_s


def test_a_kernel_of_one_of_eight_samples_is_that_of_one():
    alone = kernels_of(table(1).rows, "ncnn", "fp32")
    looped = of_one(kernels_of(table(8).rows, "ncnn", "fp32", 8))
    for one, found in zip(alone, looped, strict=True):
        assert (found.macs, found.ops, found.geometry) == (one.macs, one.ops, one.geometry)
        assert (found.nbytes, found.rows) == (one.nbytes, one.rows)
        assert found.samples == 1


def test_what_belongs_to_no_sample_is_done_again_for_each():
    class Made(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.empty(5, 3))

        def forward(self, x):
            return x @ self.weight.abs().exp().T

    rows = table(4, Made(), (3,)).rows
    made, again, *_, product = of_one(kernels_of(rows, "ncnn", "fp32", 4))
    assert (made.ops, again.ops, product.macs) == (15, 15, 15)
    assert (again.nbytes, max(a.nbytes for a in product.reads)) == (2 * 60, 60)


@pytest.mark.parametrize(
    ("shape", "elements"),
    [((56, 56, 96), 56 * 56 * 8), ((7, 7, 96), 0), ((3136, 96), 0), ((96,), 0)],
)
def test_ncnn_reshapes_packed_rows_of_a_map_element_by_element(shape, elements):
    # 56 x 56 rows fill packs of four, 7 x 7 do not; tokens need no map.
    (kernel,) = kernels_of(table(4, nn.Linear(96, 8), shape).rows, "ncnn", "fp32", 4)
    assert kernel.remapped == 4 * elements
    convolution = kernels_of(table(1).rows, "ncnn", "fp32")[0]
    assert convolution.remapped == 0


@pytest.mark.parametrize(
    ("pool", "portable"),
    [
        (nn.AvgPool2d(3, 1, 1), True),
        (nn.AvgPool2d(3, 1, 1, count_include_pad=False), False),
        (nn.AvgPool2d(3, 2), False),
        (nn.MaxPool2d(3, 1, 1), False),
    ],
)
def test_xnnpack_leaves_averages_over_a_border_to_portable_kernels(pool, portable):
    rows = table(1, pool, (4, 8, 8)).rows
    assert averages_border(rows[0].op) is portable
    (kernel,) = kernels_of(rows, "xnnpack", "fp32")
    assert bool(kernel.remapped) is portable
    if portable:  # nine taps and a division for each output
        assert (kernel.remapped, kernel.scalars) == (10 * 4 * 8 * 8, 0)
    (same,) = kernels_of(rows, "tflite", "fp32")
    assert same.remapped == 0


def test_finding_places_takes_one_thread_the_cycles_that_the_constant_says():
    def seconds(cycles, threads):
        return cm.predict(
            table(1, nn.Linear(96, 8), (56, 56, 96)),
            "i9-10940x:cpu",
            execution="ncnn",
            threads=threads,
            calibration={"remap_cycles": cycles},
        ).latency_s

    elements = 56 * 56 * 8
    one, four = (seconds(1000, n) - seconds(0, n) for n in (1, 4))
    assert elements * 1000 / one == pytest.approx(4.6e9, rel=0.3)  # the core's clock in Hz
    assert one <= four  # all cores busy clock lower, and one of them does it all


@pytest.mark.parametrize(("window", "looked_up"), [(3, False), (5, False), (7, True)])
def test_depthwise_windows_of_more_than_25_taps_are_grouped_convolutions(window, looked_up):
    layer = nn.Conv2d(16, 16, window, padding=window // 2, groups=16)
    rows = table(2, layer, (16, 8, 8)).rows
    (kernel,) = kernels_of(rows, "xnnpack", "fp32")
    assert kernel.geometry.kind == ("conv" if looked_up else "depthwise")
    # One pointer a tap of every output position and group.
    assert kernel.pointers == (2 * 8 * 8 * 16 * window**2 if looked_up else 0)


def test_pointers_are_followed_once_for_every_tile_of_channels():
    def overheads(channels):
        rows = table(1, nn.Conv2d(3, channels, 3), (3, 10, 10)).rows
        (kernel,) = kernels_of(rows, "xnnpack", "fp32")
        assert kernel.pointers == 8 * 8 * 9
        chosen = setting("i9-10940x:cpu", execution="xnnpack", threads=1)
        with_pointers = times_of([kernel], chosen).compute[0]
        return with_pointers - times_of([replace(kernel, pointers=0)], chosen).compute[0]

    cycles = overheads(16) * setting("i9-10940x").profile.engines["cpu"].clusters[0].clock_ghz * 1e9
    assert cycles == pytest.approx(0.75 * 8 * 8 * 9)
    assert overheads(48) == pytest.approx(3 * overheads(16))


class Split(nn.Module):
    def forward(self, x):
        first, second = x.relu().split(8, 1)
        return first + second


def test_maps_that_a_portable_kernel_splits_change_their_order_twice():
    kernels = kernels_of(table(1, Split(), (16, 4, 4)).rows, "xnnpack", "fp32")
    split = [kernel for kernel in kernels if kernel.family == "movement"]
    assert [kernel.strided for kernel in split] == [True, False, True]
    assert [nbytes(kernel.reads) for kernel in split] == [4 * 256] * 3
    for before, after in pairwise(split):
        assert before.writes[0].storage == after.reads[0].storage
    assert split[0].reads[0].storage == kernels[0].writes[0].storage
    assert {a.storage for a in kernels[-1].reads} == {a.storage for a in split[-1].writes}
    rows = table(4, Split(), (16, 8)).rows
    alone = [k for k in kernels_of(rows, "xnnpack", "fp32") if k.family == "movement"]
    assert [kernel.strided for kernel in alone] == [False]


def test_a_renamed_tensor_is_copied_by_executorch_alone():
    class Whole(nn.Module):
        def forward(self, x):
            return x.relu()[:, :16].relu()

    rows = table(1, Whole(), (16, 4, 4)).rows
    copies = {
        execution: sum(k.family == "movement" for k in kernels_of(rows, execution, "fp32"))
        for execution in ("xnnpack", "tflite", "ncnn")
    }
    assert copies == {"xnnpack": 3, "tflite": 0, "ncnn": 0}


class Called(nn.Module):
    """A function between two additions, which XNNPACK takes."""

    def __init__(self, call):
        super().__init__()
        self.call = call

    def forward(self, x):
        return self.call(x + 1) + 1


@pytest.mark.parametrize(
    ("call", "shape", "placed"),
    [
        # 3/4 of an element whose place is computed, for each of a norm's 2 x 5 x 8
        (lambda x: torch.linalg.vector_norm(x, dim=-1), (5, 8), 60),
        (lambda x: x[:, :, :1].expand(-1, -1, 8), (5, 8), 32),  # 2/5 for each of 80 repeated ones
        (lambda x: x.expand(2, 5, 8), (5, 8), 0),  # none is repeated: copied as it lies
        (lambda x: nn.functional.interpolate(x, scale_factor=2), (1, 5, 10), 80),  # 1/5 of 400
        (lambda x: nn.functional.scaled_dot_product_attention(x, x, x), (3, 7, 4), 2 * 3 * 7 * 7),
        (lambda x: nn.functional.layer_norm(x, (8,)), (5, 8), 0),
    ],
)
def test_behind_a_portable_kernel_xnnpack_is_called_anew(call, shape, placed):
    rows = table(2, Called(call), shape).rows
    portable = [k for k in kernels_of(rows, "xnnpack", "fp32") if k.dispatches > 1]
    assert [(k.remapped, k.dispatches) for k in portable] == [(placed, 9)]
    assert not any(k.remapped for k in kernels_of(rows, "tflite", "fp32"))


def test_dispatches_of_a_cpu_kernel_are_issued_one_by_one():
    def overhead(dispatches):
        (kernel,) = kernels_of(table(1, nn.ReLU(), (8,)).rows, "xnnpack", "fp32")
        chosen = setting("i9-10940x:cpu", execution="xnnpack", threads=1)
        constants = chosen.constants({"issue_us": 2.0})
        timed = timer_of([replace(kernel, dispatches=dispatches)], chosen)
        return timed(constants).overhead[0]

    assert overhead(9) - overhead(1) == pytest.approx(8 * 2e-6)
