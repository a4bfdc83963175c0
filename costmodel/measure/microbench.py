"""Microbenchmarks: short chains of one kind of layer each, no network among them.

Every layer of a chain has weights of its own, and what one layer writes the next one reads, as in
a network. Shapes span what networks use, from few channels on large maps to many on small ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal

from costmodel.measure.runtimes import ON_TORCH_THREADS

if TYPE_CHECKING:
    from torch import Tensor, nn

    from costmodel.table import CostTable


@dataclass(frozen=True, slots=True)
class Microbenchmark:
    """A chain of layers by name, and the shape that goes in (batch included).

    ``mode`` is that of the run: ``train`` is a training step, forward, backward and update.
    ``merges``: of its layers converters make a single one.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    build: Callable[[], nn.Module]
    mode: Literal["eval", "train"] = "eval"
    merges: bool = False


def microbenchmarks(runtime: str = "eager") -> tuple[Microbenchmark, ...]:
    """Those for a runtime, in an order that spreads every kind over the time that there is."""
    kinds: dict[str, list[Microbenchmark]] = {}
    for found in _all():
        if runtime in ON_TORCH_THREADS or not found.merges:
            kinds.setdefault(found.kind, []).append(found)
    queues = [list(reversed(queue)) for queue in kinds.values()]
    ordered = []
    while any(queues):
        ordered += [queue.pop() for queue in queues if queue]
    return tuple(ordered)


def traced(benchmark: Microbenchmark) -> CostTable:
    """What its layers cost, traced as a network is; nothing is computed."""
    import torch

    from costmodel.api import trace
    from costmodel.table import cost

    with torch.device("meta"):
        model, x = benchmark.build().eval(), torch.empty(benchmark.shape)
        return cost(trace(model, x, mode=benchmark.mode))


def _all() -> Iterator[Microbenchmark]:
    yield from _pointwise()
    yield from _dense()
    yield from _depthwise()
    yield from _grouped()
    yield from _linear()
    yield from _attention()
    yield from _elementwise()
    yield from _normalisation()
    yield from _movement()
    yield from _pooling()
    yield from _small()
    yield from _training()


def _pointwise() -> Iterator[Microbenchmark]:
    shapes = ((1, 24, 144, 56), (1, 64, 256, 56), (1, 32, 192, 28), (1, 512, 128, 28),
              (1, 96, 576, 14), (1, 1024, 256, 14), (1, 160, 960, 7), (1, 512, 2048, 7),
              (8, 16, 96, 56), (8, 128, 512, 28), (8, 256, 1024, 14),
              (8, 24, 144, 112))  # fmt: skip
    for batch, narrow, wide, size in shapes:
        yield Microbenchmark(
            f"conv 1x1 {narrow}-{wide}, {batch} x {size}x{size}", "pointwise",
            (batch, narrow, size, size), _pairs(narrow, wide),
        )  # fmt: skip


def _pairs(narrow: int, wide: int) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        from torch import nn

        layers = []
        for _ in range(3):
            layers += [nn.Conv2d(narrow, wide, 1), nn.Conv2d(wide, narrow, 1)]
        return nn.Sequential(*layers)

    return build


def _dense() -> Iterator[Microbenchmark]:
    shapes = ((1, 32, 56, 3), (1, 64, 56, 3), (1, 128, 28, 3), (1, 256, 14, 3), (1, 512, 7, 3),
              (1, 48, 28, 5), (1, 40, 28, 3), (8, 64, 56, 3), (8, 256, 14, 3))  # fmt: skip
    for batch, channels, size, window in shapes:
        yield Microbenchmark(
            f"conv {window}x{window} {channels}, {batch} x {size}x{size}", "dense",
            (batch, channels, size, size), _same(channels, window, 1, 4),
        )  # fmt: skip
    yield Microbenchmark("conv 7x7 stem, 224x224", "stem", (1, 3, 224, 224), _stem(64, 7, 2))
    yield Microbenchmark("conv 3x3 stem, 224x224", "stem", (1, 3, 224, 224), _stem(32, 3, 2))
    yield Microbenchmark("conv 16x16 patches, 224x224", "stem", (1, 3, 224, 224),
                         _stem(384, 16, 16))  # fmt: skip
    yield Microbenchmark("conv 4x4 patches, 8 x 224x224", "stem", (8, 3, 224, 224),
                         _stem(96, 4, 4))  # fmt: skip


def _stem(channels: int, window: int, stride: int) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        from torch import nn

        return nn.Conv2d(3, channels, window, stride, (window - stride + 1) // 2)

    return build


def _same(channels: int, window: int, groups: int, layers: int) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        from torch import nn

        return nn.Sequential(*(
            nn.Conv2d(channels, channels, window, padding=window // 2, groups=groups)
            for _ in range(layers)
        ))  # fmt: skip

    return build


def _depthwise() -> Iterator[Microbenchmark]:
    shapes = ((1, 32, 112, 3), (1, 144, 56, 3), (1, 192, 28, 5), (1, 576, 14, 3), (1, 960, 7, 5),
              (1, 96, 56, 7), (1, 384, 14, 7), (8, 96, 56, 3), (8, 480, 14, 5),
              (1, 24, 112, 3), (1, 120, 28, 3), (8, 72, 28, 5), (8, 12, 56, 3),
              (1, 90, 28, 5), (8, 96, 112, 3))  # fmt: skip
    for batch, channels, size, window in shapes:
        layers = 2 if size > 56 and batch > 1 else 6
        yield Microbenchmark(
            f"depthwise {window}x{window} {channels}, {batch} x {size}x{size}", "depthwise",
            (batch, channels, size, size), _same(channels, window, channels, layers),
        )  # fmt: skip


def _grouped() -> Iterator[Microbenchmark]:
    shapes = ((1, 128, 56, 32), (1, 256, 28, 8), (1, 512, 14, 32), (1, 168, 28, 7), (8, 64, 112, 4))
    for batch, channels, size, groups in shapes:
        yield Microbenchmark(
            f"conv 3x3 {channels} in {groups} groups, {batch} x {size}x{size}", "grouped",
            (batch, channels, size, size), _same(channels, 3, groups, 4),
        )  # fmt: skip


def _linear() -> Iterator[Microbenchmark]:
    shapes = (((1, 197, 192), 768), ((1, 197, 384), 1536), ((1, 197, 768), 3072),
              ((1, 56, 56, 96), 384), ((1, 49, 768), 3072), ((8, 197, 384), 1536),
              ((1, 2048), 1000), ((8, 1280), 1000), ((8, 56, 56, 64), 512))  # fmt: skip
    for shape, wide in shapes:
        batch, *extents, narrow = shape
        rows = f"{batch}x{math.prod(extents)}" if extents else batch
        yield Microbenchmark(
            f"linear {narrow}-{wide}, {rows} rows", "linear", shape, _mlp(narrow, wide)
        )

    # Weights beyond what a last-level cache keeps, 4 MB a layer.
    for layers in (3, 6):
        yield Microbenchmark(
            f"linear 1024-1024, 1 row, {layers} layers", "weights", (1, 1024), _rows(1024, layers)
        )


def _rows(width: int, layers: int) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        from torch import nn

        return nn.Sequential(*(nn.Linear(width, width) for _ in range(layers)))

    return build


def _mlp(narrow: int, wide: int) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        from torch import nn

        layers = []
        for _ in range(3):
            layers += [nn.Linear(narrow, wide), nn.Linear(wide, narrow)]
        return nn.Sequential(*layers)

    return build


def _attention() -> Iterator[Microbenchmark]:
    shapes: tuple[tuple[int, ...], ...] = (
        (1, 3, 197, 64), (1, 12, 197, 64), (8, 6, 197, 64), (64, 3, 49, 32),
    )  # fmt: skip
    for shape in shapes:
        yield Microbenchmark(f"attention {'x'.join(map(str, shape))}", "attention", shape, _sdpa)
        if shape[0] != 8:
            yield Microbenchmark(
                f"products and softmax {'x'.join(map(str, shape))}", "attention", shape, _by_hand
            )

    for batch in (1, 8):
        yield Microbenchmark(
            f"scores of 4 heads mixed, {batch} x 196x196", "attention", (batch, 4, 196, 196),
            _mixed_heads,
        )  # fmt: skip


def _sdpa() -> nn.Module:
    from torch.nn.functional import scaled_dot_product_attention

    return _repeated(lambda x: scaled_dot_product_attention(x, x, x), 4)


def _mixed_heads() -> nn.Module:
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


def _by_hand() -> nn.Module:
    """Scaled as networks do: exponentials of plain products are denormal numbers, which some cores
    multiply at a fifth of their rate."""
    return _repeated(lambda x: ((0.125 * x) @ x.transpose(-2, -1)).softmax(-1) @ x, 4)


#: Shapes from what stays in a core's own cache to what only main memory holds.
_STREAMS = ((1, 96, 14, 14), (1, 64, 56, 56), (1, 96, 112, 112), (8, 96, 112, 112))
#: What a last-level cache holds if the run has all of it for itself: 13 MB a tensor.
_SHARED = (8, 32, 112, 112)


def _elementwise() -> Iterator[Microbenchmark]:
    from torch.nn import functional

    names = ("relu", "hardswish", "silu", "gelu", "sigmoid")
    calls = {name: getattr(functional, name) for name in names} | {"shifted relu": _shifted_relu}
    for name, call in calls.items():
        for shape in _STREAMS if name == "silu" else _STREAMS[:3]:
            yield Microbenchmark(
                f"{name} {'x'.join(map(str, shape))}", "elementwise", shape, _calls(call, 4),
                merges=name == "relu",
            )  # fmt: skip
    for shape in (*_STREAMS, _SHARED):
        yield Microbenchmark(
            f"addition {'x'.join(map(str, shape))}", "elementwise", shape, _calls(_add, 4)
        )
    for shape in _STREAMS[1:3]:
        yield Microbenchmark(
            f"gate {'x'.join(map(str, shape))}", "elementwise", shape, _calls(_gate, 4)
        )


def _shifted_relu(x: Tensor) -> Tensor:
    return x.relu() - 0.5


def _add(x: Tensor) -> Tensor:
    return x + x.neg()


def _sums(times: int) -> nn.Module:
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


def _gate(x: Tensor) -> Tensor:
    return x * x.mean((2, 3), keepdim=True)


def _calls(call: Callable[[Tensor], Tensor], times: int) -> Callable[[], nn.Module]:
    return lambda: _repeated(call, times)


def _repeated(call: Callable[[Tensor], Tensor], times: int) -> nn.Module:
    from torch import nn

    class Repeated(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            for _ in range(times):
                x = call(x)
            return x

    return Repeated()


def _normalisation() -> Iterator[Microbenchmark]:
    for shape in (*_STREAMS, _SHARED):
        yield Microbenchmark(
            f"batch norm {'x'.join(map(str, shape))}", "normalisation", shape, _norms(shape[1])
        )
    for rows, width in ((49, 768), (197, 384), (3136, 96)):
        yield Microbenchmark(
            f"layer norm {rows}x{width}", "normalisation", (1, rows, width), _layer_norms(width)
        )
    for shape in ((1, 3, 197, 197), (64, 3, 49, 49)):
        yield Microbenchmark(
            f"softmax {'x'.join(map(str, shape))}", "normalisation", shape,
            _calls(lambda x: x.softmax(-1), 4),
        )  # fmt: skip


def _norms(channels: int) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        from torch import nn

        return nn.Sequential(*(nn.BatchNorm2d(channels) for _ in range(4)))

    return build


def _layer_norms(width: int) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        from torch import nn

        # A runtime that hands norms to nobody must still have something to run.
        return nn.Sequential(*(nn.LayerNorm(width) for _ in range(4)), nn.ReLU())

    return build


def _movement() -> Iterator[Microbenchmark]:
    for shape in ((1, 56, 56, 96), (1, 14, 14, 384), (8, 56, 56, 96)):
        text = "x".join(map(str, shape))
        yield Microbenchmark(
            f"transposition {text}", "movement", shape,
            _calls(lambda x: x.permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1) * 1.5, 3),
        )  # fmt: skip
        yield Microbenchmark(f"concatenation {text}", "movement", shape, _calls(_halves, 4))
    for batch, size in ((1, 196), (2, 784)):
        yield Microbenchmark(
            f"addition of a transposed {batch}x{size}x{size}", "movement", (batch, size, size),
            _calls(lambda x: x + x.transpose(1, 2), 4),
        )  # fmt: skip
    # No axis keeps its place among the others: nothing moves in rows or blocks.
    yield Microbenchmark(
        "addition of a reversed 1x64x24x64", "movement", (1, 64, 24, 64),
        _calls(lambda x: x + x.permute(0, 3, 2, 1), 4),
    )  # fmt: skip
    yield Microbenchmark("layer norm of a map 96x56x56", "movement", (1, 96, 56, 56), _map_norms)


def _halves(x: Tensor) -> Tensor:
    import torch

    left, right = x.chunk(2, 1)
    return torch.cat((right, left), 1)


def _map_norms() -> nn.Module:
    """Norms over the channels of maps in channels-first order."""
    from torch.nn.functional import layer_norm

    return _repeated(
        lambda x: layer_norm(x.permute(0, 2, 3, 1), (x.shape[1],)).permute(0, 3, 1, 2).relu(), 3
    )


def _pooling() -> Iterator[Microbenchmark]:
    from torch.nn import functional

    for shape in ((1, 64, 112, 112), (1, 256, 28, 28)):
        text = "x".join(map(str, shape))
        yield Microbenchmark(
            f"max pooling {text}", "pooling", shape,
            _calls(lambda x: functional.max_pool2d(x, 3, 1, 1), 2),
        )  # fmt: skip
        yield Microbenchmark(
            f"average pooling {text}", "pooling", shape,
            _calls(lambda x: functional.avg_pool2d(x, 3, 1, 1).relu(), 2),
        )  # fmt: skip


def _small() -> Iterator[Microbenchmark]:
    """Where the fixed time of every kind of op shows."""
    from torch.nn import functional

    tiny = (1, 16, 4, 4)
    yield Microbenchmark("small relu", "small", tiny, _calls(functional.relu, 40), merges=True)
    yield Microbenchmark("small shifted relu", "small", tiny, _calls(_shifted_relu, 20))
    yield Microbenchmark("small addition", "small", tiny, partial(_sums, 20))
    yield Microbenchmark("small conv 1x1", "small", tiny, _same(16, 1, 1, 20))
    yield Microbenchmark("small conv 3x3", "small", tiny, _same(16, 3, 1, 20))
    yield Microbenchmark("small depthwise", "small", tiny, _same(16, 3, 16, 20))
    yield Microbenchmark("small linear", "small", (1, 16), _mlp(16, 16))
    yield Microbenchmark("small batch norm", "small", tiny, _norms(16))
    yield Microbenchmark("small layer norm", "small", (1, 4, 64), _layer_norms(64))
    yield Microbenchmark("squeeze-and-excite 96 on 1x1", "small", (1, 96, 1, 1), _pairs(96, 24))


def _training() -> Iterator[Microbenchmark]:
    """Steps whose gradients are convolutions of other shapes than any forward pass has."""
    for batch, channels, size, window in ((8, 64, 56, 3), (8, 256, 14, 3), (1, 128, 28, 3)):
        yield Microbenchmark(
            f"training step, conv {window}x{window} {channels}, {batch} x {size}x{size}",
            "training", (batch, channels, size, size), _same(channels, window, 1, 3), "train",
        )  # fmt: skip
    for batch, narrow, wide, size in ((8, 24, 144, 28), (8, 96, 576, 14)):
        yield Microbenchmark(
            f"training step, conv 1x1 {narrow}-{wide}, {batch} x {size}x{size}",
            "training", (batch, narrow, size, size), _pairs(narrow, wide), "train",
        )  # fmt: skip
    for batch, channels, size, window in ((8, 96, 28, 3), (8, 144, 14, 5)):
        yield Microbenchmark(
            f"training step, depthwise {window}x{window} {channels}, {batch} x {size}x{size}",
            "training", (batch, channels, size, size), _same(channels, window, channels, 3),
            "train",
        )  # fmt: skip
