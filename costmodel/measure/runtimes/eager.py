"""PyTorch as it is: every op a kernel of its own, on the CPU or a GPU."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from costmodel.measure.runtimes.prepared import (
    How,
    Prepared,
    autocast,
    leaves,
    release,
    torch_threads,
)

if TYPE_CHECKING:
    from torch import Tensor, nn

PACKAGES = ("torch",)
DTYPES = ("fp32", "fp16", "bf16", "amp-fp16", "amp-bf16")
LAYOUTS = ("nchw", "nhwc")
MODES = ("eval", "train")
DEVICES = ("cpu", "cuda")
#: Steps must not move the weights far, for every step is to do the same work.
LEARNING_RATE = 1e-6


def software() -> str:
    """Name and version, as the column of a run file has them."""
    return release("torch")


@contextmanager
def prepare(
    model: nn.Module,
    inputs: tuple[Tensor, ...],
    how: How,
    execution: str = "eager",
    wrap: Callable[[nn.Module], Callable[..., Any]] = lambda model: model,
) -> Iterator[Prepared]:
    """One forward pass; for ``train`` also the loss, the backward pass and a step of SGD.

    ``wrap`` makes the callable that replaces the model.
    """
    model.train(how.mode == "train")
    inputs = _formed(model, inputs, how)
    with torch_threads(how.threads) as used:
        call = wrap(model)
        if how.mode == "train":
            run = _step(model, call, inputs, how.dtype)
        else:
            run = _forward(call, inputs, how.dtype)
        yield Prepared(run, software(), execution, 1 if inputs[0].is_cuda else used)


def _formed(model: nn.Module, inputs: tuple[Tensor, ...], how: How) -> tuple[Tensor, ...]:
    """Weights and inputs in the dtype and memory format; the model is changed in place."""
    import torch

    low = {"fp16": torch.float16, "bf16": torch.bfloat16}.get(how.dtype, torch.float32)
    form = torch.channels_last if how.layout == "nhwc" else torch.contiguous_format
    model.to(device=inputs[0].device, dtype=low)
    model.to(memory_format=form)  # type: ignore[call-overload]
    return tuple(
        tensor.to(
            dtype=low if tensor.is_floating_point() else tensor.dtype,
            memory_format=form if tensor.ndim == 4 else torch.contiguous_format,
        )
        for tensor in inputs
    )


def _forward(
    call: Callable[..., Any], inputs: tuple[Tensor, ...], dtype: str
) -> Callable[[], object]:
    import torch

    device = inputs[0].device.type

    def forward() -> object:
        with torch.inference_mode(), autocast(dtype, device):
            return call(*inputs)

    return forward


def _step(
    model: nn.Module, call: Callable[..., Any], inputs: tuple[Tensor, ...], dtype: str
) -> Callable[[], object]:
    import torch

    device = inputs[0].device.type
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.SGD(weights, lr=LEARNING_RATE)

    def step() -> object:
        optimizer.zero_grad(set_to_none=True)
        with autocast(dtype, device):
            found = [leaf.mean() for leaf in leaves(call(*inputs)) if leaf.requires_grad]
        loss = torch.stack([part.float() for part in found]).sum()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        return loss

    return step
