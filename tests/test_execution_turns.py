"""Where ONNX Runtime moves data for views in another order, held against ONNX Runtime itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import costmodel as cm
from costmodel.execution import kernels_of
from costmodel.execution.order import places
from costmodel.execution.turns import Turn, turns
from costmodel.measure.weights import materialise
from costmodel.rules.copies import permutation
from costmodel.setting import setting


class Apply(nn.Module):
    """A function of one tensor, with layers that it may use."""

    def __init__(self, function: Callable[..., Tensor], **layers: nn.Module) -> None:
        super().__init__()
        self.function, self.layers = function, nn.ModuleDict(layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x, **self.layers)


def there_and_back(x: Tensor) -> Tensor:
    return x.permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1) * 1.5


def map_norms(x: Tensor, norm: nn.Module) -> Tensor:
    for _ in range(3):
        x = norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2).relu()
    return x


def attended(x: Tensor, qkv: nn.Module, out: nn.Module) -> Tensor:
    """A head's products written out, as in many models."""
    batch, rows, width = x.shape
    q, k, v = qkv(x).reshape(batch, rows, 3, 2, width // 2).permute(2, 0, 3, 1, 4).unbind(0)
    scores = (q @ k.transpose(-2, -1)).softmax(-1)
    return out((scores @ v).transpose(1, 2).reshape(batch, rows, width))


def factorised(x: Tensor, qkv: nn.Module) -> Tensor:
    """Attention whose softmax runs over the tokens (CoaT)."""
    batch, rows, width = x.shape
    q, k, v = qkv(x).reshape(batch, rows, 3, 2, width // 2).permute(2, 0, 3, 1, 4).unbind(0)
    return q @ (k.softmax(2).transpose(-1, -2) @ v)


def token_maps(x: Tensor, before: nn.Module, inside: nn.Module, after: nn.Module) -> Tensor:
    """A depthwise convolution between linear layers (PVT)."""
    x = before(x).transpose(1, 2).view(x.shape[0], 32, 4, 4)
    return after(nn.functional.gelu(inside(x).flatten(2).transpose(1, 2)))


def squeezed(
    x: Tensor, first: nn.Module, down: nn.Module, up: nn.Module, last: nn.Module
) -> Tensor:
    x = nn.functional.silu(first(x))
    gate = up(nn.functional.silu(down(x.mean((2, 3), keepdim=True)))).sigmoid()
    return last(x * gate)


def shuffled(x: Tensor, first: nn.Module, second: nn.Module) -> Tensor:
    x = first(x)
    left, right = x.chunk(2, 1)
    x = torch.cat([left, second(right)], 1)
    batch, channels, height, width = x.shape
    return x.view(batch, 2, channels // 2, height, width).transpose(1, 2).flatten(1, 2)


CASES: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
    "there and back": (Apply(there_and_back), (1, 4, 5, 6)),
    "norms of maps": (Apply(map_norms, norm=nn.LayerNorm(8)), (1, 8, 4, 4)),
    "plus transposed": (Apply(lambda x: x + x.transpose(1, 2)), (2, 8, 8)),
    "plus reversed": (Apply(lambda x: x + x.permute(0, 3, 2, 1)), (2, 4, 3, 4)),
    "attention": (Apply(attended, qkv=nn.Linear(16, 48), out=nn.Linear(16, 16)), (2, 6, 16)),
    "factorised attention": (Apply(factorised, qkv=nn.Linear(16, 48)), (2, 6, 16)),
    "maps of tokens": (
        Apply(
            token_maps, before=nn.Linear(8, 32), inside=nn.Conv2d(32, 32, 3, 1, 1, groups=32),
            after=nn.Linear(32, 8),
        ),
        (2, 16, 8),
    ),
    "squeeze and excite": (
        Apply(
            squeezed, first=nn.Conv2d(3, 32, 3), down=nn.Conv2d(32, 16, 1),
            up=nn.Conv2d(16, 32, 1), last=nn.Conv2d(32, 16, 1),
        ),
        (1, 3, 8, 8),
    ),
    "shuffle": (
        Apply(shuffled, first=nn.Conv2d(3, 64, 3), second=nn.Conv2d(32, 32, 1)), (1, 3, 8, 8)
    ),
}  # fmt: skip
NAMES = {"in": "ReorderInput", "out": "ReorderOutput", "turn": "Transpose"}


def found(model: nn.Module, shape: tuple[int, ...], lanes: int) -> dict[str, int]:
    rows = cm.cost(cm.trace(model.eval(), torch.empty(shape))).rows
    kernels = kernels_of(rows, "onnxruntime", "fp32", shape[0], lanes)
    # What a softmax moves there and back is no node of its own.
    ways = Counter(k.names[0].rpartition(".")[2] for k in kernels if k.dispatches == 1)
    return {name: ways[way] for way, name in NAMES.items()}


def in_onnxruntime(model: nn.Module, shape: tuple[int, ...], folder: Path) -> dict[str, int]:
    """The nodes of the graph that ONNX Runtime runs on this machine."""
    onnx, ort = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(folder / "optimised.onnx")
    options.log_severity_level = 3
    path = folder / "model.onnx"
    torch.onnx.export(model.eval(), (torch.randn(shape),), path, dynamo=True, verbose=False)
    ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    nodes = onnx.load(options.optimized_model_filepath).graph.node
    kinds = Counter(node.op_type for node in nodes)
    return {name: kinds[name] for name in NAMES.values()}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.filterwarnings("ignore")
def test_as_much_moves_as_in_onnxruntime(name: str, tmp_path: Path) -> None:
    model, shape = CASES[name]
    lanes = setting("host").lanes
    assert found(model, shape, lanes) == in_onnxruntime(model, shape, tmp_path)


@pytest.mark.filterwarnings("ignore")
def test_a_real_network_moves_as_much_as_in_onnxruntime(tmp_path: Path) -> None:
    shape = (1, 3, 64, 64)
    model, _ = materialise("timm:mobilenetv3_small_050", ("1x3x64x64",), None)
    lanes = setting("host").lanes
    assert found(model, shape, lanes) == in_onnxruntime(model, shape, tmp_path)


def turns_of(function: Callable[..., Tensor], *shape: int, **layers: nn.Module) -> list[Turn]:
    rows = cm.cost(cm.trace(Apply(function, **layers).eval(), torch.empty(shape))).rows
    return [turn for some in turns(rows).values() for turn in some]


def test_elements_are_moved_one_by_one_where_more_than_one_axis_moves() -> None:
    (turn,) = turns_of(lambda x: x + x.permute(0, 3, 2, 1), 2, 4, 3, 4)
    assert (turn.axes, turn.places, turn.times) == ((0, 3, 2, 1), 2 * 4 * 3 * 4, 1)
    (turn,) = turns_of(lambda x: x + x.transpose(1, 2), 2, 8, 8)
    assert (turn.axes, turn.places) == ((0, 2, 1), 0)


def test_a_softmax_exchanges_its_axis_with_the_innermost_one_and_back() -> None:
    (turn,) = turns_of(lambda x: x.softmax(1), 2, 4, 3, 5)
    assert (turn.axes, turn.places, turn.times) == ((0, 3, 2, 1), 2 * 4 * 3 * 5, 2)
    (turn,) = turns_of(lambda x: x.softmax(2), 2, 4, 3, 5)
    assert (turn.axes, turn.places, turn.times) == ((0, 1, 3, 2), 0, 2)
    assert turns_of(lambda x: x.softmax(-1), 2, 4, 3, 5) == []
    # Pushed through, a softmax over columns of a transposed matrix is one over rows.
    assert [turn.times for turn in turns_of(lambda x: x.mT.softmax(1), 4, 5, 6)] == [1]


def test_factorised_attention_moves_blocks_and_elements() -> None:
    """q and v are in blocks of a head's 8 channels; k is turned behind its softmax, whose axis and
    the innermost one are two apart."""
    moved = turns_of(factorised, 2, 6, 16, qkv=nn.Linear(16, 48))
    assert sorted((turn.axes, turn.places, turn.times) for turn in moved) == [
        ((0, 2, 3, 1), 0, 1),
        ((0, 3, 2, 1), 2 * 6 * 16, 2),
        ((2, 0, 3, 1, 4), 2 * 6 * 2, 1),
        ((2, 0, 3, 1, 4), 2 * 6 * 2, 1),
    ]


def test_what_two_ops_read_is_moved_once_before_the_first() -> None:
    def read_twice(x: Tensor) -> Tensor:
        turned = x.permute(0, 3, 2, 1)
        return turned.exp() + turned.sin()

    for function, places_of_turns in (
        (read_twice, [1]),  # the permutation is row 0
        (lambda x: x.permute(0, 3, 2, 1).exp().sin(), [3]),  # pushed to the end
    ):
        rows = cm.cost(cm.trace(Apply(function), torch.empty(1, 2, 3, 4))).rows
        assert list(turns(rows)) == places_of_turns


@pytest.mark.parametrize("batch", [1, 2])
def test_an_axis_that_is_split_moves_as_its_parts(batch: int) -> None:
    """Tokens made maps are maps with channels last, in a batch of one as well."""
    (turn,) = turns_of(lambda x: x.transpose(1, 2).view(batch, 8, 4, 4).exp(), batch, 16, 8)
    assert (turn.axes, turn.places) == ((0, 3, 1, 2), 0)


@given(st.permutations(range(4)))
def test_places_are_elements_or_blocks(axes: list[int]) -> None:
    extents = (2, 3, 5, 7)
    computed = places(axes, extents)
    kept = 1
    for place in (3, 2, 1, 0):
        if axes[place] != place:
            break
        kept *= extents[place]
    assert computed in ((210 // kept,) if kept > 1 else (0, 210))


@given(st.permutations(range(4)), st.sampled_from(["permute", "movedim", "transpose", "mT"]))
def test_a_permutation_is_the_one_that_torch_does(axes: list[int], way: str) -> None:
    shape = (2, 3, 5, 7)

    def view(x: Tensor) -> Tensor:
        match way:
            case "permute":
                return x.permute(axes)
            case "movedim":
                return x.movedim(tuple(axes[:2]), (-1, 0))
            case "transpose":
                return x.transpose(axes[0], axes[1] - 4)
            case _:
                return x.mT

    rows = cm.cost(cm.trace(Apply(view), torch.empty(shape))).rows
    (op,) = [row.op for row in rows]
    exchanged = permutation(op)
    assert exchanged is not None
    assert tuple(shape[axis] for axis in exchanged) == tuple(view(torch.empty(shape)).shape)
