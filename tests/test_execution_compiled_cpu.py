"""What inductor's code does on a CPU: maps whose order ATen cannot tell, turned loops, look-ups."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from costmodel.api import trace
from costmodel.execution import kernels_of
from costmodel.execution.kernel import Kernel
from costmodel.table import cost

LANES = 16


def compiled(model: nn.Module, *shape: int, lanes: int = LANES) -> list[Kernel]:
    rows = cost(trace(model, torch.empty(shape))).rows
    return kernels_of(rows, "compiled", "fp32", shape[0], lanes)


def convolution(kernels: list[Kernel]) -> Kernel:
    (found,) = (k for k in kernels if k.geometry and k.geometry.kind in ("conv", "depthwise"))
    return found


class Tokens(nn.Module):
    """Tokens shown as a map and convolved, as in PVT, and a loop over the result."""

    def __init__(self, taps: int, groups: int) -> None:
        super().__init__()
        self.linear = nn.Linear(32, 32)
        self.conv = nn.Conv2d(32, 32, taps, padding=taps // 2, groups=groups)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = self.linear(x)
        shown = tokens.transpose(1, 2).view(len(tokens), 32, 7, 7)
        return self.conv(shown).flatten(2).transpose(1, 2).relu()


class NormLast(nn.Module):
    """A norm over channels, which inductor computes channels last, and what convolves it."""

    def __init__(self, *between: nn.Module) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(32)
        self.between = nn.Sequential(*between)
        self.conv = nn.Conv2d(32, 32, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        normed = self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return self.conv(self.between(normed))


@pytest.mark.parametrize(("taps", "groups"), [(1, 1), (3, 1), (3, 32), (3, 8)])
@pytest.mark.parametrize("batch", [1, 2])
def test_a_view_of_one_image_is_convolved_in_the_order_that_aten_takes_it_for(
    batch: int, taps: int, groups: int
) -> None:
    """Against what ATen answers for the strides that inductor gives a view, and for weights as it
    copies them."""
    kernel = convolution(compiled(Tokens(taps, groups), batch, 49, 32))
    next_image = 32 if batch == 1 else 49 * 32
    shown = torch.randn(49 * 32 * batch).as_strided((batch, 32, 7, 7), (next_image, 1, 7 * 32, 32))
    weights = torch.randn(32, 32 // groups, taps, taps)
    if not weights.is_contiguous(memory_format=torch.channels_last):
        weights = weights.to(memory_format=torch.channels_last)
    out = F.conv2d(shown, weights, padding=taps // 2, groups=groups)
    assert kernel.channels_last == (not out.is_contiguous())
    copied = kernel.walk is not None and kernel.walk.apart
    assert copied == (False if kernel.channels_last else batch * 49 * 32)
    assert kernel.strided == (not kernel.channels_last)


def test_the_loop_after_it_turns_the_result() -> None:
    for batch, turned in ((1, True), (2, False)):
        assert compiled(Tokens(3, 32), batch, 49, 32)[-1].turned == turned


def test_what_a_loop_wrote_in_between_has_the_order_that_was_asked_for() -> None:
    viewed, written = NormLast(), NormLast(nn.ReLU())
    assert not convolution(compiled(viewed, 1, 32, 7, 7)).channels_last
    assert convolution(compiled(viewed, 2, 32, 7, 7)).channels_last
    assert convolution(compiled(written, 1, 32, 7, 7)).channels_last


def test_on_a_gpu_inductor_asks_for_no_order_of_a_view() -> None:
    (kernel,) = (k for k in compiled(NormLast(), 1, 32, 7, 7, lanes=0) if k.geometry)
    assert kernel.walk is None


class Biased(nn.Module):
    """Attention scores with a bias for every pair of positions in a window, as in Swin."""

    def __init__(self, heads: int, window: int, *, softmax: bool = True) -> None:
        super().__init__()
        pairs = window**2
        self.table = nn.Parameter(torch.zeros(2 * pairs, heads))
        self.register_buffer("index", torch.zeros(pairs * pairs, dtype=torch.long))
        self.pairs, self.softmax = pairs, softmax

    def forward(self, scores: torch.Tensor) -> torch.Tensor:
        bias = self.table[self.index].view(self.pairs, self.pairs, -1)
        scores = scores + bias.permute(2, 0, 1).contiguous().unsqueeze(0)
        return scores.softmax(-1) if self.softmax else scores.relu()


@pytest.mark.parametrize(("softmax", "passes"), [(True, 2), (False, 1)])
def test_numbers_are_looked_up_for_every_score_in_every_pass(softmax: bool, passes: int) -> None:
    windows, heads, window = 5, 3, 4
    model = Biased(heads, window, softmax=softmax)
    (loop,) = compiled(model, windows, heads, window**2, window**2)
    assert loop.scalars == 6 * passes * windows * heads * window**4


def test_a_row_of_a_table_takes_one_look_up_which_is_a_kernel_of_its_own() -> None:
    class Rows(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Parameter(torch.zeros(10, 64))
            self.register_buffer("index", torch.arange(8))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * self.table[self.index]

    kernels = compiled(Rows(), 2, 8, 64)
    assert [k.scalars for k in kernels] == [0, 0]


def test_a_loop_that_reads_a_map_across_turns_it() -> None:
    class Turned(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.relu().permute(0, 2, 3, 1).contiguous()

    (loop,) = compiled(Turned(), 1, 8, 4, 4)
    assert loop.turned
    (plain,) = compiled(nn.ReLU(), 1, 8, 4, 4)
    assert not plain.turned
