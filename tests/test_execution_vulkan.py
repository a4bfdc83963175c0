"""What ncnn dispatches on a GPU: borders and Winograd's parts one by one, through memory."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from costmodel.execution import format_of, kernels_of
from costmodel.execution.kernel import Kernel
from costmodel.execution.winograd import products
from costmodel.hardware import load_profile
from costmodel.roofline import times_of
from costmodel.rules.geometry import Geometry
from costmodel.setting import setting
from costmodel.table import CostTable, cost
from costmodel.tracer import trace


def _convolution(size: int, channels: int, **options: int) -> CostTable:
    with torch.device("meta"):
        module = nn.Conv2d(channels, channels, bias=False, **options)  # type: ignore[arg-type]
    return cost(trace(module.eval(), (torch.empty(1, channels, size, size, device="meta"),)))


def _dispatched(table: CostTable, dtype: str = "fp16-vulkan") -> Kernel:
    (kernel,) = kernels_of(table.rows, "ncnn", dtype)
    return kernel


def _passed(kernel: Kernel) -> int:
    """Bytes that one dispatch of the kernel leaves for the next."""
    *between, _ = kernel.writes
    written, read = between or (None, None)
    assert written == read
    return written.nbytes if written else 0


@pytest.mark.parametrize(
    ("device", "expected"),
    [("rk3588", "fp16-vulkan"), ("apple-m1", "fp16-vulkan")],
)
def test_a_gpu_runs_vulkans_layers(device: str, expected: str) -> None:
    engines = load_profile(device).engines
    assert format_of("ncnn", "fp32", engines["gpu"]) == expected
    assert "vulkan" not in format_of("ncnn", "fp32", engines["cpu"])
    assert format_of("tflite", "fp32", engines["gpu"]) == "fp32"


@pytest.mark.parametrize(
    ("options", "dispatches", "passed"),
    [
        ({"kernel_size": 1}, 1, 0),
        ({"kernel_size": 3, "stride": 2}, 1, 0),
        ({"kernel_size": 3, "stride": 2, "padding": 1}, 2, 16 * 16 * 16),
        ({"kernel_size": 3, "padding": 1, "groups": 16}, 2, 16 * 16 * 16),
        # F(4, 3): 36 elements of 16 tiles on both sides, after the border.
        ({"kernel_size": 3, "padding": 1}, 4, 16 * 16 * 16 + 36 * 16 * 32),
        # 14 x 14 outputs are no whole tiles: extended, and cropped at the end.
        ({"kernel_size": 3}, 5, 36 * 16 * 32),
    ],
)
def test_each_part_is_a_dispatch_that_leaves_its_tensor_in_memory(
    options: dict[str, int], dispatches: int, passed: int
) -> None:
    kernel = _dispatched(_convolution(16, 16, **options))
    assert kernel.dispatches == dispatches
    assert _passed(kernel) == 2 * passed


def test_few_channels_or_outputs_change_the_tile() -> None:
    assert _dispatched(_convolution(16, 8, kernel_size=3, padding=1)).dispatches == 2
    for size, m in ((10, 2), (12, 4)):
        table = _convolution(size, 32, kernel_size=3, padding=1)
        geometry = Geometry(
            "conv", 1, size * size, 32, 9 * 32, (3, 3), (1, 1), (1, 1), (size, size)
        )
        assert _dispatched(table).macs == products(geometry, m) < table.total.macs


def test_single_precision_moves_twice_the_bytes() -> None:
    table = _convolution(16, 16, kernel_size=3, padding=1)
    half, single = (_dispatched(table, f"{d}-vulkan") for d in ("fp16", "fp32"))
    assert single.nbytes == 2 * half.nbytes
    assert single.dispatches == half.dispatches


def test_every_dispatch_is_paid() -> None:
    chosen = setting("rk3588:gpu", execution="ncnn")
    overheads = []
    for options in ({"kernel_size": 1}, {"kernel_size": 3, "padding": 1}):
        kernel = _dispatched(_convolution(16, 16, **options))
        overheads.append(times_of([kernel] * 2, chosen).overhead[1])
    assert overheads[1] == pytest.approx(4 * overheads[0])


@pytest.mark.parametrize(
    ("device", "products", "others"),
    [
        ("jetson-orin-nano", 10.24e12, 1.28e12),  # tensor cores in fp16, CUDA cores in fp32
        ("rk3588", 0.512e12, 0.512e12),  # no matrix units: single precision, though it has fp16
    ],
)
def test_products_use_matrix_units_and_all_else_single_precision(
    device: str, products: float, others: float
) -> None:
    chosen = setting(f"{device}:gpu", execution="ncnn")
    constants = chosen.constants()
    for groups, rate, share in ((1, products, "matrix"), (256, others, "depthwise")):
        kernel = _dispatched(_convolution(64, 256, kernel_size=1, groups=groups))
        seconds = times_of([kernel], chosen).compute.sum()
        assert seconds == pytest.approx(2 * kernel.macs / (rate * constants[f"{share}_efficiency"]))
