"""What runtimes without strides copy, and which cores repeated rows of a table are of."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

import costmodel as cm
from costmodel.execution import kernels_of
from costmodel.setting import setting
from costmodel.validate import validate
from costmodel.validate.predict_rows import settings_of
from costmodel.validate.runs import Run
from costmodel.validate.spread import merged


class Shuffle(nn.Module):
    """A permuted copy of one half: one view in another order, one part, one clone."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        half = x.chunk(2, 1)[0]
        return half.permute(0, 2, 3, 1).contiguous() + 1


def copies(execution: str) -> list[tuple[str, int, bool]]:
    """Families, bytes and order of the copies of the module; x is 1x8x4x4 in fp32, 512 bytes."""
    rows = cm.cost(cm.trace(Shuffle(), torch.empty(1, 8, 4, 4))).rows
    found = [k for k in kernels_of(rows, execution, "fp32") if k.family == "movement"]
    return [(k.names[0].partition("_")[0], k.nbytes, k.strided) for k in found]


@pytest.mark.parametrize("execution", ["onnxruntime", "tflite"])
def test_runtimes_without_strides_copy_parts_and_orders(execution: str) -> None:
    """chunk: two halves of 256 bytes read and written; permute: one half; the clone is nothing."""
    found = copies(execution)
    assert [(nbytes, strided) for _, nbytes, strided in found] == [(1024, False), (512, True)]


def test_executorch_turns_the_order_of_maps_that_it_takes_parts_of() -> None:
    found = [(nbytes, strided) for _, nbytes, strided in copies("xnnpack")]
    assert found == [(1024, True), (1024, False), (1024, True), (512, True)]


def test_runtimes_with_strides_copy_only_what_is_cloned() -> None:
    assert [nbytes for _, nbytes, _ in copies("ncnn")] == [512]


RUN = Run("rk3588", "ncnn", "ncnn", "fp32", "nchw", 4, "timm:resnet18", "3x224x224", 1, 10.0)


def kinds(*runs: Run) -> list[list[str]]:
    return [[c.core for c in s.profile.engines["cpu"].clusters] for _, s in settings_of(runs)[0]]


def test_the_second_row_of_ncnns_table_is_of_the_second_kind_of_core() -> None:
    both = ["cortex-a76", "cortex-a55"]
    assert kinds(RUN, RUN) == [both, ["cortex-a55"]]
    assert kinds(RUN, replace(RUN, batch=2)) == [both, both]
    other = replace(RUN, execution="tflite", software="tflite")
    assert kinds(other, other) == [both, both]


def test_ncnns_table_pins_to_cores_of_which_there_are_enough() -> None:
    # RK3399 has two Cortex-A72 and four A53: four threads are the little ones', five no kind's.
    rows = [replace(RUN, device="rk3399", threads=n) for n in (2, 4, 5)]
    both = ["cortex-a72", "cortex-a53"]
    assert kinds(*rows) == [both, ["cortex-a53"], both]


def test_merging_keeps_the_devices_that_were_not_scored() -> None:
    """And what all devices of the tiers say together, unless all were scored."""
    old = {
        "blocks": {"a": {"datasheet": {"x": 1, "y": 2}}, "b": {"measured here": {"z": 3}}},
        "coverage": 0.5, "unseen_device_factor": 1.2,
    }  # fmt: skip
    new = {
        "blocks": {"a": {"datasheet": {"x": 9}, "u": {"x": 4}}},
        "coverage": 0.8, "unseen_device_factor": 1.0,
    }  # fmt: skip
    assert merged(new, old) == {
        "blocks": {
            "a": {"datasheet": {"x": 9, "y": 2}, "u": {"x": 4}}, "b": {"measured here": {"z": 3}},
        },
        "coverage": 0.8, "unseen_device_factor": 1.2,
    }  # fmt: skip
    new["blocks"]["a"]["datasheet"]["y"] = 5
    assert merged(new, old)["unseen_device_factor"] == 1.0


def test_a_compiled_network_goes_by_constants_of_its_own_where_there_are_some() -> None:
    assert setting("i9-10940x", execution="compiled").block == "x86/compiled"
    assert setting("i9-10940x", execution="ncnn").block == "x86/ncnn"
    assert setting("t4", execution="compiled").block == "server-gpu/compiled"
    assert setting("t4", execution="onnxruntime").block == "gpu/onnxruntime"


def test_a_training_row_is_predicted_as_a_training_step(tmp_path: Path) -> None:
    """`costmodel measure --mode train` writes the column; without it a row is inference."""
    header = "device,software,execution,dtype,layout,threads,model,input_shape,batch,latency_ms,"
    header += "statistic,source,mode\n"
    line = "epyc-genoa,torch,eager,fp32,nchw,1,torch.nn:Conv2d(8;8;3),8x16x16,4,1.0,median,here,"
    line = line.replace(";", ",").replace("torch.nn:Conv2d(8,8,3)", '"torch.nn:Conv2d(8,8,3)"')
    file = tmp_path / "runs.csv"
    file.write_text(header + "".join(f"{line}{mode}\n" for mode in ("eval", "train", "", "test")))
    found, _ = validate([file])
    times = {}
    for group in found.groups:
        for item in group.predicted:
            times.setdefault(item.row.run.mode, []).append(item.latency)
    assert len(times["eval"]) == 2
    assert times["train"][0] > 1.5 * times["eval"][0]
    assert [s.why for s in found.skipped] == ["mode 'test' is neither eval nor train"]


class Blocks(nn.Module):
    """Convolutions of ``channels`` around an op that takes maps as they are, or does not."""

    def __init__(self, between, channels=16, groups=1):
        super().__init__()
        self.first = nn.Conv2d(3, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1, groups=groups)
        self.between = between

    def forward(self, x):
        return self.second(self.between(self.first(x))).sum((1, 2, 3))


def orders(model: nn.Module, dtype: str = "fp32", lanes: int = 16) -> list[str]:
    """Which op a map is put into blocks for, or out of them."""
    rows = cm.cost(cm.trace(model.eval(), torch.empty(1, 3, 8, 8))).rows
    names = [kernel.names[0] for kernel in kernels_of(rows, "onnxruntime", dtype, lanes=lanes)]
    return [name for name in names if name.rpartition(".")[2] in ("in", "out")]


def scaled(x: torch.Tensor) -> torch.Tensor:
    """A squeeze and excite: a factor for each channel."""
    return x * x.mean((2, 3), keepdim=True)


@pytest.mark.parametrize(
    ("between", "left"),
    [
        (nn.ReLU(), False),  # in the epilogue
        (nn.MaxPool2d(3, 1, 1), False),
        (lambda x: x + x.sigmoid(), False),
        (lambda x: torch.cat([x[:, :8], x[:, 8:]], 1), True),
        (nn.SiLU(), False),
        (nn.GELU(), False),
        (torch.exp, True),
        (scaled, True),
    ],
)
def test_maps_leave_their_blocks_for_ops_that_do_not_know_them(between, left) -> None:
    found = orders(Blocks(between))
    # The sum at the end takes no blocks; the means of `scaled` are not of maps that lie in any.
    assert found[-1].endswith(".out")
    assert len(found) == (3 if left else 1)


@pytest.mark.parametrize(
    ("channels", "groups", "inside"),
    [(16, 1, True), (20, 1, True), (18, 1, False), (20, 20, True), (18, 18, False),
     (64, 4, True), (40, 2, False)],
)  # fmt: skip
def test_which_convolutions_take_blocks(channels, groups, inside) -> None:
    # Where the second does not, the first gives its map back, and the sum finds it plain.
    names = orders(Blocks(nn.Identity(), channels, groups))
    assert len(names) == 1
    assert names[0].startswith("sum" if inside else "second")


def test_blocks_of_other_shapes_are_not_multiplied() -> None:
    names = orders(Blocks(lambda x: x * nn.functional.max_pool2d(x, (8, 1))))
    assert [name.rpartition(".")[2] for name in names] == ["out", "out", "in", "out"]


@pytest.mark.parametrize(
    ("lanes", "channels", "inside"),
    [(16, 16, True), (16, 24, False), (8, 24, True), (8, 20, False)],
)
def test_whole_blocks_are_concatenated_as_they_are(lanes, channels, inside) -> None:
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Conv2d(3, channels, 3, padding=1)
            self.second = nn.Conv2d(2 * channels, 16, 1)

        def forward(self, x):
            x = self.first(x)
            return self.second(torch.cat([x, x.relu()], 1)).sum((1, 2, 3))

    assert len(orders(Twice(), lanes=lanes)) == (1 if inside else 4)


def test_maps_of_one_position_are_put_into_blocks_like_others() -> None:
    class Gate(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Conv2d(32, 32, 1), nn.Conv2d(32, 32, 1)

        def forward(self, x):
            return self.second(self.first(x.mean((2, 3), keepdim=True)).relu())

    rows = cm.cost(cm.trace(Gate(), torch.empty(1, 32, 8, 8))).rows
    found = [kernel.names[0] for kernel in kernels_of(rows, "onnxruntime", "fp32", lanes=16)]
    assert found == [
        "mean", "first.conv2d.in", "first.conv2d", "second.conv2d", "second.conv2d.out",
    ]  # fmt: skip


def test_only_single_precision_on_x86_has_blocks() -> None:
    assert not orders(Blocks(torch.exp), "int8")
    assert not orders(Blocks(torch.exp), lanes=0)


@pytest.mark.parametrize(
    ("hw", "lanes"),
    [("i9-10940x", 16), ("i7-12700h", 8), ("rpi4", 0), ("pixel8:gpu", 0), ("t4", 0)],
)
def test_the_lanes_of_an_engine(hw, lanes) -> None:
    assert setting(hw).lanes == lanes


class Tokens(nn.Module):
    """Tokens transposed, and multiplied or turned into a map."""

    def __init__(self, product):
        super().__init__()
        self.product, self.last = product, nn.Conv1d(4, 4, 1)

    def forward(self, x):
        turned = x.transpose(1, 2)
        return x @ turned if self.product else self.last(turned)


@pytest.mark.parametrize(
    ("execution", "product", "copied"),
    [("onnxruntime", True, 0), ("onnxruntime", False, 1), ("xnnpack", True, 1),
     ("xnnpack", False, 1), ("ncnn", False, 0)],
)  # fmt: skip
def test_a_transposed_matrix_is_copied_unless_a_product_takes_it(execution, product, copied):
    rows = cm.cost(cm.trace(Tokens(product), torch.empty(1, 8, 4))).rows
    found = [k for k in kernels_of(rows, execution, "fp32") if k.family == "movement"]
    assert [(k.nbytes, k.strided) for k in found] == [(2 * 4 * 8 * 4, True)] * copied


@pytest.mark.parametrize(("of_maps", "launched"), [(True, 1), (False, 2)])
def test_onnxruntime_adds_to_maps_in_the_epilogue_and_to_rows_afterwards(of_maps, launched) -> None:
    class Residual(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Conv2d(8, 8, 1) if of_maps else nn.Linear(8, 8)

        def forward(self, x):
            return x + self.layer(x)

    rows = cm.cost(cm.trace(Residual(), torch.empty(1, 8, 8, 8))).rows
    kernels = kernels_of(rows, "onnxruntime", "int8")
    assert len(kernels) == launched


@pytest.mark.parametrize(
    ("layer", "size", "elements"),
    [
        (nn.Conv2d(96, 96, 3, padding=1, groups=96), 14, 0),  # blocks of 16 channels
        # 90 channels fill no group of 4: windows of 9 rows for each of 14 rows, an element a vector
        (nn.Conv2d(90, 90, 3, padding=1, groups=90), 14, 90 * 9 * 14 * 24),
        # 24 channels a group are no whole block: 14 elements a row, and 24 to begin it
        (nn.Conv2d(72, 72, 3, padding=1, groups=3), 14, 3 * 24 * 9 * 14 * (24 + 14)),
        # every second element is copied alone
        (nn.Conv2d(90, 90, 3, 2, padding=1, groups=90), 28, 90 * 9 * 14 * 14 * 3),
        (nn.Conv2d(90, 90, 1, groups=90), 14, 0),  # one tap is the map itself
    ],
)
def test_onnxruntime_unfolds_windows_outside_of_blocks(layer, size, elements) -> None:
    rows = cm.cost(cm.trace(layer, torch.empty(1, layer.in_channels, size, size))).rows
    (found,) = (k for k in kernels_of(rows, "onnxruntime", "fp32", lanes=16) if k.macs)
    assert found.unfolded == elements
    assert not any(k.unfolded for k in kernels_of(rows, "onnxruntime", "fp32", lanes=0))


def test_an_exact_gelu_takes_three_exponentials_in_onnxruntime() -> None:
    for call, times in ((torch.nn.functional.gelu, 3), (torch.nn.functional.silu, 1)):
        rows = cm.cost(cm.trace(Calls(call), torch.empty(2, 5))).rows
        (kernel,) = kernels_of(rows, "onnxruntime", "fp32", lanes=16)
        assert kernel.transcendentals == times * 10


class Calls(nn.Module):
    """A function as a module."""

    def __init__(self, call):
        super().__init__()
        self.call = call

    def forward(self, x):
        return self.call(x)


def test_what_a_reorder_writes_is_new_memory() -> None:
    rows = cm.cost(cm.trace(Blocks(torch.exp).eval(), torch.empty(1, 3, 8, 8))).rows
    moves = [k for k in kernels_of(rows, "onnxruntime", "fp32", lanes=16) if k.unit == "move"]
    assert moves
    assert all(k.reads == k.writes and k.in_place == 0 for k in moves)
