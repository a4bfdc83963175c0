"""What the counting tests share: a module from a function, and a table from a module."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from costmodel.table import CostTable, cost
from costmodel.tracer import trace


class Function(nn.Module):
    """A function as a module."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(*args, **kwargs)


def meta(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """A tensor without data."""
    return torch.empty(shape, dtype=dtype, device="meta")


def table(model: Any, *inputs: Any, **options: Any) -> CostTable:
    """The cost table of a module or a function; shapes stand for float tensors."""
    if not isinstance(model, nn.Module):
        model = Function(model)
    tensors = [meta(*x) if isinstance(x, tuple) else x for x in inputs]
    return cost(trace(model, tensors, **options))


def flop_counter(
    model: nn.Module,
    inputs: Sequence[Any] = (),
    kwargs: dict[str, Any] | None = None,
    train: bool = False,
) -> int:
    """MACs by torch's counter, attention decomposed into its two products.

    In training the gradients start from ones at every floating output.
    """
    model.train(train)
    with (
        FlopCounterMode(display=False) as counter,
        sdpa_kernel(SDPBackend.MATH),
        torch.set_grad_enabled(train),
    ):
        outputs = model(*inputs, **(kwargs or {}))
        if train:
            outputs = [outputs] if isinstance(outputs, torch.Tensor) else list(outputs)
            torch.autograd.backward(outputs, [torch.empty_like(y) for y in outputs])
    return counter.get_total_flops() // 2
