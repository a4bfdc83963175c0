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

from costmodel.measure.layers import (
    added,
    attended,
    by_hand,
    calling,
    gated,
    layer_norms,
    map_norms,
    mixed_heads,
    mlp,
    norms,
    pairs,
    same,
    shifted_relu,
    square,
    stem,
    sums,
    swapped,
)
from costmodel.measure.runtimes import ON_TORCH_THREADS

if TYPE_CHECKING:
    from torch import nn

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
            (batch, narrow, size, size), pairs(narrow, wide),
        )  # fmt: skip


def _dense() -> Iterator[Microbenchmark]:
    shapes = ((1, 32, 56, 3), (1, 64, 56, 3), (1, 128, 28, 3), (1, 256, 14, 3), (1, 512, 7, 3),
              (1, 48, 28, 5), (1, 40, 28, 3), (8, 64, 56, 3), (8, 256, 14, 3))  # fmt: skip
    for batch, channels, size, window in shapes:
        yield Microbenchmark(
            f"conv {window}x{window} {channels}, {batch} x {size}x{size}", "dense",
            (batch, channels, size, size), same(channels, window, 1, 4),
        )  # fmt: skip
    yield Microbenchmark("conv 7x7 stem, 224x224", "stem", (1, 3, 224, 224), stem(64, 7, 2))
    yield Microbenchmark("conv 3x3 stem, 224x224", "stem", (1, 3, 224, 224), stem(32, 3, 2))
    yield Microbenchmark("conv 16x16 patches, 224x224", "stem", (1, 3, 224, 224),
                         stem(384, 16, 16))  # fmt: skip
    yield Microbenchmark("conv 4x4 patches, 8 x 224x224", "stem", (8, 3, 224, 224),
                         stem(96, 4, 4))  # fmt: skip


def _depthwise() -> Iterator[Microbenchmark]:
    shapes = ((1, 32, 112, 3), (1, 144, 56, 3), (1, 192, 28, 5), (1, 576, 14, 3), (1, 960, 7, 5),
              (1, 96, 56, 7), (1, 384, 14, 7), (8, 96, 56, 3), (8, 480, 14, 5),
              (1, 24, 112, 3), (1, 120, 28, 3), (8, 72, 28, 5), (8, 12, 56, 3),
              (1, 90, 28, 5), (8, 96, 112, 3))  # fmt: skip
    for batch, channels, size, window in shapes:
        layers = 2 if size > 56 and batch > 1 else 6
        yield Microbenchmark(
            f"depthwise {window}x{window} {channels}, {batch} x {size}x{size}", "depthwise",
            (batch, channels, size, size), same(channels, window, channels, layers),
        )  # fmt: skip


def _grouped() -> Iterator[Microbenchmark]:
    shapes = ((1, 128, 56, 32), (1, 256, 28, 8), (1, 512, 14, 32), (1, 168, 28, 7), (8, 64, 112, 4))
    for batch, channels, size, groups in shapes:
        yield Microbenchmark(
            f"conv 3x3 {channels} in {groups} groups, {batch} x {size}x{size}", "grouped",
            (batch, channels, size, size), same(channels, 3, groups, 4),
        )  # fmt: skip


def _linear() -> Iterator[Microbenchmark]:
    shapes = (((1, 197, 192), 768), ((1, 197, 384), 1536), ((1, 197, 768), 3072),
              ((1, 56, 56, 96), 384), ((1, 49, 768), 3072), ((8, 197, 384), 1536),
              ((1, 2048), 1000), ((8, 1280), 1000), ((8, 56, 56, 64), 512))  # fmt: skip
    for shape, wide in shapes:
        batch, *extents, narrow = shape
        rows = f"{batch}x{math.prod(extents)}" if extents else batch
        yield Microbenchmark(
            f"linear {narrow}-{wide}, {rows} rows", "linear", shape, mlp(narrow, wide)
        )

    # Weights beyond what a last-level cache keeps, 4 MB a layer.
    for layers in (3, 6):
        yield Microbenchmark(
            f"linear 1024-1024, 1 row, {layers} layers", "weights", (1, 1024), square(1024, layers)
        )


def _attention() -> Iterator[Microbenchmark]:
    shapes: tuple[tuple[int, ...], ...] = (
        (1, 3, 197, 64), (1, 12, 197, 64), (8, 6, 197, 64), (64, 3, 49, 32),
    )  # fmt: skip
    for shape in shapes:
        yield Microbenchmark(f"attention {'x'.join(map(str, shape))}", "attention", shape, attended)
        if shape[0] != 8:
            yield Microbenchmark(
                f"products and softmax {'x'.join(map(str, shape))}", "attention", shape, by_hand
            )

    for batch in (1, 8):
        yield Microbenchmark(
            f"scores of 4 heads mixed, {batch} x 196x196", "attention", (batch, 4, 196, 196),
            mixed_heads,
        )  # fmt: skip


#: Shapes from what stays in a core's own cache to what only main memory holds.
_STREAMS = ((1, 96, 14, 14), (1, 64, 56, 56), (1, 96, 112, 112), (8, 96, 112, 112))
#: What a last-level cache holds if the run has all of it for itself: 13 MB a tensor.
_SHARED = (8, 32, 112, 112)


def _elementwise() -> Iterator[Microbenchmark]:
    from torch.nn import functional

    names = ("relu", "hardswish", "silu", "gelu", "sigmoid")
    calls = {name: getattr(functional, name) for name in names} | {"shifted relu": shifted_relu}
    for name, call in calls.items():
        for shape in _STREAMS if name == "silu" else _STREAMS[:3]:
            yield Microbenchmark(
                f"{name} {'x'.join(map(str, shape))}", "elementwise", shape, calling(call, 4),
                merges=name == "relu",
            )  # fmt: skip
    for shape in (*_STREAMS, _SHARED):
        yield Microbenchmark(
            f"addition {'x'.join(map(str, shape))}", "elementwise", shape, calling(added, 4)
        )
    for shape in _STREAMS[1:3]:
        yield Microbenchmark(
            f"gate {'x'.join(map(str, shape))}", "elementwise", shape, calling(gated, 4)
        )


def _normalisation() -> Iterator[Microbenchmark]:
    for shape in (*_STREAMS, _SHARED):
        yield Microbenchmark(
            f"batch norm {'x'.join(map(str, shape))}", "normalisation", shape, norms(shape[1])
        )
    for rows, width in ((49, 768), (197, 384), (3136, 96)):
        yield Microbenchmark(
            f"layer norm {rows}x{width}", "normalisation", (1, rows, width), layer_norms(width)
        )
    for shape in ((1, 3, 197, 197), (64, 3, 49, 49)):
        yield Microbenchmark(
            f"softmax {'x'.join(map(str, shape))}", "normalisation", shape,
            calling(lambda x: x.softmax(-1), 4),
        )  # fmt: skip


def _movement() -> Iterator[Microbenchmark]:
    for shape in ((1, 56, 56, 96), (1, 14, 14, 384), (8, 56, 56, 96)):
        text = "x".join(map(str, shape))
        yield Microbenchmark(
            f"transposition {text}", "movement", shape,
            calling(lambda x: x.permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1) * 1.5, 3),
        )  # fmt: skip
        yield Microbenchmark(f"concatenation {text}", "movement", shape, calling(swapped, 4))
    for batch, size in ((1, 196), (2, 784)):
        yield Microbenchmark(
            f"addition of a transposed {batch}x{size}x{size}", "movement", (batch, size, size),
            calling(lambda x: x + x.transpose(1, 2), 4),
        )  # fmt: skip
    # No axis keeps its place among the others: nothing moves in rows or blocks.
    yield Microbenchmark(
        "addition of a reversed 1x64x24x64", "movement", (1, 64, 24, 64),
        calling(lambda x: x + x.permute(0, 3, 2, 1), 4),
    )  # fmt: skip
    yield Microbenchmark("layer norm of a map 96x56x56", "movement", (1, 96, 56, 56), map_norms)


def _pooling() -> Iterator[Microbenchmark]:
    from torch.nn import functional

    for shape in ((1, 64, 112, 112), (1, 256, 28, 28)):
        text = "x".join(map(str, shape))
        yield Microbenchmark(
            f"max pooling {text}", "pooling", shape,
            calling(lambda x: functional.max_pool2d(x, 3, 1, 1), 2),
        )  # fmt: skip
        yield Microbenchmark(
            f"average pooling {text}", "pooling", shape,
            calling(lambda x: functional.avg_pool2d(x, 3, 1, 1).relu(), 2),
        )  # fmt: skip


def _small() -> Iterator[Microbenchmark]:
    """Where the fixed time of every kind of op shows."""
    from torch.nn import functional

    tiny = (1, 16, 4, 4)
    yield Microbenchmark("small relu", "small", tiny, calling(functional.relu, 40), merges=True)
    yield Microbenchmark("small shifted relu", "small", tiny, calling(shifted_relu, 20))
    yield Microbenchmark("small addition", "small", tiny, partial(sums, 20))
    yield Microbenchmark("small conv 1x1", "small", tiny, same(16, 1, 1, 20))
    yield Microbenchmark("small conv 3x3", "small", tiny, same(16, 3, 1, 20))
    yield Microbenchmark("small depthwise", "small", tiny, same(16, 3, 16, 20))
    yield Microbenchmark("small linear", "small", (1, 16), mlp(16, 16))
    yield Microbenchmark("small batch norm", "small", tiny, norms(16))
    yield Microbenchmark("small layer norm", "small", (1, 4, 64), layer_norms(64))
    yield Microbenchmark("squeeze-and-excite 96 on 1x1", "small", (1, 96, 1, 1), pairs(96, 24))


def _training() -> Iterator[Microbenchmark]:
    """Steps whose gradients are convolutions of other shapes than any forward pass has."""
    for batch, channels, size, window in ((8, 64, 56, 3), (8, 256, 14, 3), (1, 128, 28, 3)):
        yield Microbenchmark(
            f"training step, conv {window}x{window} {channels}, {batch} x {size}x{size}",
            "training", (batch, channels, size, size), same(channels, window, 1, 3), "train",
        )  # fmt: skip
    for batch, narrow, wide, size in ((8, 24, 144, 28), (8, 96, 576, 14)):
        yield Microbenchmark(
            f"training step, conv 1x1 {narrow}-{wide}, {batch} x {size}x{size}",
            "training", (batch, narrow, size, size), pairs(narrow, wide), "train",
        )  # fmt: skip
    for batch, channels, size, window in ((8, 96, 28, 3), (8, 144, 14, 5)):
        yield Microbenchmark(
            f"training step, depthwise {window}x{window} {channels}, {batch} x {size}x{size}",
            "training", (batch, channels, size, size), same(channels, window, channels, 3),
            "train",
        )  # fmt: skip
