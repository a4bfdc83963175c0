"""A target with real weights and inputs to run it on: random, finite, the same every time."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from costmodel.errors import CostModelError
from costmodel.inputs import Inputs, make, with_batch

if TYPE_CHECKING:
    from torch import Tensor, nn

_SEED = 0


def materialise(
    target: str, shapes: Sequence[str] = (), batch: int | None = None
) -> tuple[nn.Module, tuple[Tensor, ...]]:
    """The model of a target on the CPU, and tensors to call it with.

    ``shapes`` as ``"1x3x224x224"``, else the inputs that the target declares; ``batch`` replaces
    their leading dimension. A model that takes keywords or nested inputs, or returns something
    else than one tensor, comes wrapped: tensors in, a tuple of tensors out.
    """
    import torch

    from costmodel.targets import builder
    from costmodel.targets.build import failure

    recipe = builder(target)
    torch.manual_seed(_SEED)
    try:
        module: nn.Module = recipe.function(*recipe.args, **recipe.kwargs)
        declared = make(list(shapes)) if shapes else recipe.inputs(module)
    except CostModelError:
        raise
    except (Exception, SystemExit) as error:
        raise failure(recipe.text, "build the model", error, recipe.folder) from error
    inputs = sized(target, declared, batch)
    randomise(module)
    return _positional(module, inputs)


def sized(target: str, inputs: Inputs | None, batch: int | None) -> Inputs:
    """The inputs with their batch. Raises `CostModelError` where there are none."""
    if inputs is None:
        raise CostModelError(
            f"{target} declares no input size; give one, as in --input 1x3x224x224 or "
            "--input int64:1x128"
        )
    return inputs if batch is None else with_batch(inputs, batch)


def randomise(module: nn.Module) -> None:
    """Give every weight values like those of a trained network.

    Fresh weights are no stand-in: the default initialisation shrinks the signal by half a layer,
    down to denormal numbers, which are slow; zeros of a residual branch are fast on some devices.
    Kernels get a variance of 2 / fan-in, which keeps the signal's (He et al. 2015, equation 10).
    """
    import torch
    from torch.nn.parameter import UninitializedBuffer, UninitializedParameter

    if any(tensor.is_meta for tensor in (*module.parameters(), *module.buffers())):
        module.to_empty(device="cpu")
        for buffer in module.buffers():
            buffer.zero_()
    generator = torch.Generator().manual_seed(_SEED)
    with torch.no_grad():
        for name, weight in module.named_parameters():
            if isinstance(weight, UninitializedParameter) or not weight.is_floating_point():
                continue  # made by the first call, by the model itself
            if weight.ndim > 1:
                fan_in = max(weight[0].numel(), 1)
                weight.normal_(0.0, math.sqrt(2 / fan_in), generator=generator)
            else:
                weight.fill_(1.0 if name.endswith("weight") else 0.01)
        for name, buffer in module.named_buffers():
            if name.endswith("running_var") and not isinstance(buffer, UninitializedBuffer):
                buffer.fill_(1.0)


def _positional(module: nn.Module, inputs: Inputs) -> tuple[nn.Module, tuple[Tensor, ...]]:
    """The model as tensors in, tensors out, which is all that converters know."""
    import torch
    from torch import nn
    from torch.utils import _pytree as pytree

    from costmodel.measure.runtimes.prepared import leaves

    paths, form = pytree.tree_flatten_with_path((inputs.args, dict(inputs.kwargs or {})))
    fixed = [leaf for _, leaf in paths]
    slots = [index for index, leaf in enumerate(fixed) if isinstance(leaf, torch.Tensor)]
    fill = _filler(module)
    tensors = tuple(fill(fixed[index], str(paths[index][0][-1])) for index in slots)
    if not inputs.kwargs and len(slots) == len(inputs.args) and not hasattr(module, "config"):
        return module, tensors

    class Positional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = module

        def forward(self, *given: Tensor) -> tuple[Tensor, ...]:
            values = list(fixed)
            for index, value in zip(slots, given, strict=True):
                values[index] = value
            args, kwargs = pytree.tree_unflatten(values, form)
            return tuple(leaves(self.model(*args, **kwargs)))

    return Positional(), tensors


def _filler(module: nn.Module) -> Callable[[Tensor, str], Tensor]:
    """Fills a tensor without data: normal numbers, tokens of the vocabulary, a mask of ones."""
    import torch
    from torch import nn

    generator = torch.Generator().manual_seed(_SEED)
    tables = [part.num_embeddings for part in module.modules() if isinstance(part, nn.Embedding)]
    tokens = max(tables, default=2)

    def fill(tensor: Tensor, name: str) -> Tensor:
        if not tensor.is_meta:
            return tensor.detach().contiguous()
        empty = torch.empty(tensor.shape, dtype=tensor.dtype)
        if tensor.is_floating_point():
            return empty.normal_(generator=generator)
        if tensor.is_complex():
            return torch.randn(tensor.shape, dtype=tensor.dtype, generator=generator)
        if "mask" in name or tensor.dtype == torch.bool:
            return empty.fill_(1)
        if "type" in name:  # token types, of which there may be one
            return empty.zero_()
        return empty.random_(0, min(tokens, torch.iinfo(tensor.dtype).max), generator=generator)

    return fill
