"""What mobile runtimes launch: what they fuse, which algorithm they choose, what it costs."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from costmodel.errors import CostModelError
from costmodel.execution import format_of, kernels_of
from costmodel.execution.kernel import Kernel
from costmodel.execution.microkernel import microkernel_of
from costmodel.execution.winograd import applies, best, products, tiles
from costmodel.hardware import load_profile
from costmodel.rules.geometry import Geometry
from costmodel.setting import setting
from costmodel.table import CostTable, cost
from costmodel.tracer import trace

MOBILE = ("ncnn", "tflite", "paddle-lite", "onnxruntime", "npu")


class Block(nn.Module):
    """A residual block: convolution, batch norm, activation, dropout, addition, activation."""

    def __init__(self, activation: nn.Module, channels: int = 32, kernel: int = 3) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, kernel, padding=kernel // 2, bias=False)
        self.norm = nn.BatchNorm2d(channels)
        self.activation = activation
        self.drop = nn.Dropout(0.1)
        self.last = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(x + self.drop(self.activation(self.norm(self.conv(x)))))


def _table(module: nn.Module, *shape: int) -> CostTable:
    return cost(trace(module.eval(), (torch.empty(*shape, device="meta"),)))


def _block(activation: nn.Module, kernel: int = 3, size: int = 14) -> CostTable:
    with torch.device("meta"):
        return _table(Block(activation, kernel=kernel), 1, 32, size, size)


def _launched(table: CostTable, execution: str, dtype: str) -> list[tuple[str, ...]]:
    found = kernels_of(table.rows, execution, dtype)
    return [tuple(name.rpartition(".")[2] for name in kernel.names) for kernel in found]


@pytest.mark.parametrize(
    ("execution", "expected"),
    [
        ("ncnn", [("conv2d", "batch_norm", "relu"), ("add",), ("relu",)]),
        ("tflite", [("conv2d", "batch_norm", "relu"), ("add", "relu")]),
        ("paddle-lite", [("conv2d", "batch_norm", "relu"), ("add", "relu")]),
        ("npu", [("conv2d", "batch_norm", "relu", "add", "relu")]),
    ],
)
def test_epilogues(execution: str, expected: list[tuple[str, ...]]) -> None:
    # Batch norm folds everywhere and dropout does nothing; who adds the residual differs.
    dtype = "fp16" if execution == "npu" else "fp32"
    assert _launched(_block(nn.ReLU()), execution, dtype) == expected


def test_smooth_activations_fuse_only_where_the_runtime_has_them() -> None:
    table = _block(nn.SiLU())
    assert ("silu",) in _launched(table, "ncnn", "fp32")
    assert ("silu",) in _launched(table, "tflite", "fp32")
    assert ("silu",) not in _launched(table, "npu", "fp16")


def test_a_norm_that_folds_nowhere_is_clamped_in_one_pass_on_an_npu() -> None:
    class Before(nn.Module):
        """As in DenseNet: normalise, clamp, multiply."""

        def __init__(self, activation: nn.Module) -> None:
            super().__init__()
            self.norm, self.activation = nn.BatchNorm2d(8), activation
            self.conv = nn.Conv2d(8, 8, 1, bias=False)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.conv(self.activation(self.norm(x)))

    with torch.device("meta"):
        table, smooth = (_table(Before(a), 1, 8, 4, 4) for a in (nn.ReLU(), nn.GELU()))
    assert _launched(table, "npu", "fp16") == [("batch_norm", "relu"), ("conv2d",)]
    assert _launched(table, "ncnn", "fp32") == [("batch_norm",), ("relu",), ("conv2d",)]
    # A smooth function is a pass of its own.
    assert _launched(smooth, "npu", "fp16") == [("batch_norm",), ("gelu",), ("conv2d",)]
    fused, product = kernels_of(table.rows, "npu", "fp16")
    assert sum(a.nbytes for a in fused.writes) == 8 * 16 * 2
    assert product.macs == table.total.macs


def test_an_output_that_two_ops_read_is_not_fused_away() -> None:
    class Branch(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(8, 8, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.conv(x)
            return torch.relu(y) * y

    with torch.device("meta"):
        table = _table(Branch(), 1, 8, 4, 4)
    assert _launched(table, "tflite", "fp32") == [("conv2d",), ("relu",), ("mul",)]


@pytest.mark.parametrize("execution", ["tflite", "onnxruntime", "npu"])
def test_direct_algorithms_keep_the_products(execution: str) -> None:
    table = _block(nn.ReLU())
    dtype = "fp16" if execution == "npu" else "fp32"
    kernels = kernels_of(table.rows, execution, dtype)
    assert sum(k.macs for k in kernels) == table.total.macs


def test_fusion_moves_fewer_bytes_than_op_by_op() -> None:
    table = _block(nn.ReLU())
    separate = sum(k.nbytes for k in kernels_of(table.rows, "eager", "fp32"))
    for execution in ("tflite", "paddle-lite", "onnxruntime"):
        assert sum(k.nbytes for k in kernels_of(table.rows, execution, "fp32")) < separate


def test_the_tail_of_a_fused_kernel_is_what_it_writes() -> None:
    table = _block(nn.ReLU())
    (kernel,) = kernels_of(table.rows, "npu", "fp16")
    assert [a.nbytes for a in kernel.writes] == [32 * 14 * 14 * 2]
    assert sorted(a.nbytes for a in kernel.reads if a.weight) == [32 * 32 * 9 * 2]


def test_ncnn_copies_an_input_that_gets_a_border() -> None:
    with torch.device("meta"):
        padded, bare = (
            _table(nn.Conv2d(8, 8, 3, padding=p, groups=8, bias=False), 1, 8, 10, 10)
            for p in (1, 0)
        )

    def kernel(table: CostTable, dtype: str) -> Kernel:
        (found,) = kernels_of(table.rows, "ncnn", dtype)
        return found

    # The copy reads and writes 8 x 10 x 10 elements; what is read stays the convolution's input.
    assert [a.nbytes for a in kernel(padded, "fp32").writes] == [8 * 100 * 4, 8 * 100 * 4]
    # In int8 the border copies bytes; the input, narrowed first, is written and read again.
    assert [a.nbytes for a in kernel(padded, "int8").writes] == [8 * 100 * 4, *[8 * 100] * 3]
    assert kernel(padded, "fp32").ops == padded.total.ops + 8 * 100
    assert [a.nbytes for a in kernel(bare, "fp32").writes] == [8 * 64 * 4]
    assert kernel(bare, "fp32").ops == bare.total.ops


# -- Winograd -------------------------------------------------------------------------------------


def _conv(size: int = 14, n: int = 64, c: int = 64, **changes: object) -> Geometry:
    fields = {
        "kind": "conv", "groups": 1, "m": size * size, "n": n, "k": 9 * c, "taps": (3, 3),
        "stride": (1, 1), "dilation": (1, 1), "spatial": (size, size),
    }  # fmt: skip
    return Geometry(**{**fields, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("m", "count", "ratio"),
    [
        (2, 36, 2.25),  # 12 = 6 x 2: 16 products instead of 36 for four outputs
        (4, 9, 4.0),  # 12 = 3 x 4: 36 instead of 144 for sixteen
        (6, 4, 5.0625),  # 12 = 2 x 6: 64 instead of 324 for thirty-six
    ],
)
def test_winograd_saves_what_lavin_and_gray_say(m: int, count: int, ratio: float) -> None:
    geometry = _conv(size=12)
    assert tiles(geometry, m) == count
    direct = geometry.m * geometry.n * geometry.k
    assert direct / products(geometry, m) == ratio


def test_ragged_tiles_eat_the_saving() -> None:
    # 7 x 7 outputs: two 6 x 6 tiles a side hold 144 places for 49 outputs; F(4, 3) has 64.
    geometry = _conv(size=7)
    assert products(geometry, 6) == 64 * 4 * 64 * 64
    assert best(geometry, (2, 4, 6)) == 4


@pytest.mark.parametrize(
    "changes",
    [
        {"taps": (1, 1)}, {"taps": (5, 5)}, {"stride": (2, 2)}, {"dilation": (2, 2)},
        {"groups": 2}, {"kind": "depthwise"}, {"transposed": True}, {"taps": (3, 3, 3)},
    ],
)  # fmt: skip
def test_winograd_is_for_dense_3x3_of_stride_1(changes: dict[str, object]) -> None:
    assert applies(_conv())
    assert not applies(_conv(**changes))
    assert not applies(None)


def test_winograd_weights_grow_and_the_kernel_says_what_it_computes() -> None:
    table = _block(nn.ReLU(), size=12)
    kernel = kernels_of(table.rows, "ncnn", "fp32")[0]
    m = best(_conv(size=12, n=32, c=32), (2, 4, 6))
    assert kernel.macs == products(_conv(size=12, n=32, c=32), m) < table.total.macs
    (weight,) = (a for a in kernel.reads if a.weight)
    assert weight.nbytes == 32 * 32 * 4 * (m + 2) ** 2


def test_int8_uses_winograd_only_without_the_dot_product() -> None:
    table = _block(nn.ReLU())
    plain, dot = (kernels_of(table.rows, "ncnn", d)[0] for d in ("int8", "int8-dotprod"))
    assert (plain.dtype, dot.dtype) == ("int16", "int8")
    assert plain.macs < dot.macs == table.total.macs


def test_int8_convolutions_hand_each_other_bytes_and_narrow_all_other_inputs() -> None:
    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = (nn.Conv2d(16, 16, 1, bias=False) for _ in range(3))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.c(self.b(self.a(x)) + x)

    with torch.device("meta"):
        table = _table(Residual(), 1, 16, 10, 10)
    first, second, joined, last = kernels_of(table.rows, "ncnn", "int8")
    wide, narrow = 16 * 100 * 4, 16 * 100

    def moved(kernel: Kernel) -> list[list[int]]:
        inputs = [a.nbytes for a in kernel.reads if not a.weight]
        return [inputs, [a.nbytes for a in kernel.writes]]

    assert moved(first) == [[wide], [narrow, narrow, narrow]]  # to the second alone: bytes
    assert moved(second) == [[narrow], [wide]]  # to the addition
    assert moved(joined) == [[wide, wide], [wide]]
    assert moved(last) == [[wide], [wide, narrow, narrow]]  # the network's output
    assert first.ops - second.ops == 3 * narrow


# -- formats --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("device", "fp32", "int8"),
    [
        ("rpi4", "fp32", "int8"),  # Cortex-A72: Armv8.0
        ("snapdragon-835", "fp32", "int8"),  # Cortex-A73 and A53
        ("snapdragon-845", "fp16", "int8"),  # Cortex-A75 without dot product
        ("snapdragon-855", "fp16", "int8-dotprod"),  # Cortex-A76 and A55
        ("rpi5", "fp16", "int8-dotprod"),
    ],
)
def test_ncnn_takes_half_precision_where_every_core_has_it(
    device: str, fp32: str, int8: str
) -> None:
    engine = load_profile(device).engines["cpu"]
    assert format_of("ncnn", "fp32", engine) == fp32
    assert format_of("ncnn", "int8", engine) == int8
    assert format_of("tflite", "fp32", engine) == "fp32"


def test_int8_on_a_gpu_falls_back_to_the_cpu() -> None:
    assert setting("jetson-nano:gpu", execution="ncnn", dtype="int8").engine == "cpu"
    assert setting("jetson-nano:gpu", execution="ncnn", dtype="fp32").engine == "gpu"
    with pytest.raises(CostModelError, match="lacks"):
        setting("rtx3090", execution="ncnn", dtype="int8")


@pytest.mark.parametrize("execution", MOBILE)
def test_int8_moves_fewer_weight_bytes(execution: str) -> None:
    table = _block(nn.ReLU(), kernel=5)  # 5x5: no Winograd, whose weights would grow
    wide = "fp16" if execution == "npu" else "fp32"

    def weights(kernels: list[Kernel]) -> int:
        return sum(a.nbytes for k in kernels for a in k.reads if a.weight)

    narrow = weights(kernels_of(table.rows, execution, "int8"))
    assert narrow * (2 if wide == "fp16" else 4) == weights(kernels_of(table.rows, execution, wide))


@pytest.mark.parametrize("execution", MOBILE)
@pytest.mark.parametrize("dtype", ["fp32", "fp16", "int8"])
def test_tiles_pad_up_by_less_than_a_pack(execution: str, dtype: str) -> None:
    tile = microkernel_of(execution, dtype)
    for extent in range(1, 70):
        assert extent <= tile.padded(extent) < extent + tile.pack
        assert extent <= tile.rounded(extent) < extent + tile.step
    assert tile.rounded(1) == 1
