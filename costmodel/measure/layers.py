"""The layers that microbenchmarks are made of, each with weights of its own.

Functions that return ``Callable[[], nn.Module]`` name what is built later; torch is imported then.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor, nn


def same(channels: int, window: int, groups: int, layers: int) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        from torch import nn

        return nn.Sequential(*(
            nn.Conv2d(channels, channels, window, padding=window // 2, groups=groups)
            for _ in range(layers)
        ))  # fmt: skip

    return build


def stem(channels: int, window: int, stride: int) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        from torch import nn

        return nn.Conv2d(3, channels, window, stride, (window - stride + 1) // 2)

    return build


def pairs(narrow: int, wide: int) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        from torch import nn

        layers = []
        for _ in range(3):
            layers += [nn.Conv2d(narrow, wide, 1), nn.Conv2d(wide, narrow, 1)]
        return nn.Sequential(*layers)

    return build


def mlp(narrow: int, wide: int) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        from torch import nn

        layers = []
        for _ in range(3):
            layers += [nn.Linear(narrow, wide), nn.Linear(wide, narrow)]
        return nn.Sequential(*layers)

    return build


def square(width: int, layers: int) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        from torch import nn

        return nn.Sequential(*(nn.Linear(width, width) for _ in range(layers)))

    return build


def norms(channels: int) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        from torch import nn

        return nn.Sequential(*(nn.BatchNorm2d(channels) for _ in range(4)))

    return build


def layer_norms(width: int) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        from torch import nn

        # A runtime that hands norms to nobody must still have something to run.
        return nn.Sequential(*(nn.LayerNorm(width) for _ in range(4)), nn.ReLU())

    return build


def attended() -> nn.Module:
    from torch.nn.functional import scaled_dot_product_attention

    return repeated(lambda x: scaled_dot_product_attention(x, x, x), 4)


def by_hand() -> nn.Module:
    """Scaled as networks do: exponentials of plain products are denormal numbers, which some cores
    multiply at a fifth of their rate."""
    return repeated(lambda x: ((0.125 * x) @ x.transpose(-2, -1)).softmax(-1) @ x, 4)


def mixed_heads() -> nn.Module:
    """A product over the heads of attention scores, which have to be brought together for it."""
    from torch import nn

    class Mixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.mix = nn.ModuleList([nn.Linear(4, 4) for _ in range(3)])

        def forward(self, x: Tensor) -> Tensor:
            for layer in self.mix:
                x = layer(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2).softmax(-1)
            return x

    return Mixed()


def map_norms() -> nn.Module:
    """Norms over the channels of maps in channels-first order."""
    from torch.nn.functional import layer_norm

    return repeated(
        lambda x: layer_norm(x.permute(0, 2, 3, 1), (x.shape[1],)).permute(0, 3, 1, 2).relu(), 3
    )


def shifted_relu(x: Tensor) -> Tensor:
    return x.relu() - 0.5


def added(x: Tensor) -> Tensor:
    return x + x.neg()


def gated(x: Tensor) -> Tensor:
    return x * x.mean((2, 3), keepdim=True)


def swapped(x: Tensor) -> Tensor:
    import torch

    left, right = x.chunk(2, 1)
    return torch.cat((right, left), 1)


def sums(times: int) -> nn.Module:
    """Additions to the sum so far of what is negated anew each time.

    Were it the sum itself, a compiler that computes values where they are used would double its
    expression with every step.
    """
    from torch import nn

    class Sums(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            total = x
            for _ in range(times):
                total = total + x.neg()
            return total

    return Sums()


def calling(call: Callable[[Tensor], Tensor], times: int) -> Callable[[], nn.Module]:
    return lambda: repeated(call, times)


def repeated(call: Callable[[Tensor], Tensor], times: int) -> nn.Module:
    from torch import nn

    class Repeated(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            for _ in range(times):
                x = call(x)
            return x

    return Repeated()
