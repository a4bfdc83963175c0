"""A model's weights: one entry a storage, the packed weights of quantised modules included."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import torch
from torch import nn
from torch.nn.parameter import is_lazy
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from costmodel.errors import CostModelError
from costmodel.identity import Identities, dim_of, dtype_name
from costmodel.ir import Weight

Kind = Literal["parameter", "buffer"]


def register_weights(model: nn.Module, known: Identities, packed: Packed) -> tuple[Weight, ...]:
    """Every parameter and buffer of ``model``, marked as such in ``known``.

    Names that share a storage are one weight. Raises `CostModelError` for a lazy module that has
    not seen an input yet.
    """
    found: dict[int, Weight] = {}
    sharing: dict[int, list[torch.Tensor]] = {}
    for kind, name, tensor in _named(model, packed):
        if is_lazy(tensor):
            raise CostModelError(
                f"{name} has no shape before the first call (a lazy module); run the model once "
                "before analysing it"
            )
        storage = known.storage_of(tensor)
        known.kinds.setdefault(storage, kind)
        known.hold(tensor)
        tensors = sharing.setdefault(storage, [])
        tensors.append(tensor)
        same = found.get(storage)
        if same is None:
            shape = tuple(dim_of(d) for d in tensor.shape)
            found[storage] = Weight((name,), shape, dtype_name(tensor.dtype), storage, kind)
        else:
            names = (*same.names, name)
            found[storage] = Weight(names, _extent(tensors), same.dtype, storage, same.kind)
    return tuple(found.values())


def _extent(tensors: list[torch.Tensor]) -> tuple[int, ...]:
    """The shape of the largest of the tensors on one storage; flat, where parts lie side by side.

    A layer that keeps all its weights in one buffer, as recurrent layers do for cuDNN, has parts.
    """
    parts: list[tuple[int, torch.Tensor]] = []  # where each part ends, and its largest tensor
    for tensor in sorted(tensors, key=lambda t: int(t.storage_offset())):
        start = int(tensor.storage_offset())
        steps = zip(tensor.shape, tensor.stride(), strict=True)
        end = start + sum(int((extent - 1) * stride) for extent, stride in steps) + 1
        if parts and start < parts[-1][0]:
            last, largest = parts[-1]
            parts[-1] = (max(last, end), max(largest, tensor, key=torch.Tensor.numel))
        else:
            parts.append((end, tensor))
    if len(parts) == 1:
        return tuple(parts[0][1].shape)
    return (sum(tensor.numel() for _, tensor in parts),)


def _named(model: nn.Module, packed: Packed) -> Iterator[tuple[Kind, str, torch.Tensor]]:
    for name, parameter in model.named_parameters(remove_duplicate=False):
        yield from _inner("parameter", name, parameter)
    for name, buffer in model.named_buffers(remove_duplicate=False):
        yield from _inner("buffer", name, buffer)
    for path, module in model.named_modules(remove_duplicate=False):
        for attribute, value in _packed_attributes(module):
            for number, tensor in enumerate(packed.tensors(value)):
                yield "parameter", f"{path}.{attribute}.{number}".lstrip("."), tensor


def _inner(kind: Kind, name: str, tensor: Any) -> Iterator[tuple[Kind, str, torch.Tensor]]:
    """The tensor; a quantised wrapper's parts: the largest is the weight, the rest scales."""
    if not is_traceable_wrapper_subclass(tensor):
        yield kind, name, tensor
        return
    attributes, _ = tensor.__tensor_flatten__()
    parts = {attribute: getattr(tensor, attribute) for attribute in attributes}
    parts = {attribute: part for attribute, part in parts.items() if part is not None}
    largest = max(parts, key=lambda attribute: parts[attribute].numel())
    for attribute, part in parts.items():
        yield (kind if attribute == largest else "buffer"), f"{name}.{attribute}", part


def _packed_attributes(module: nn.Module) -> Iterator[tuple[str, torch.ScriptObject]]:
    for name, value in vars(module).items():
        if isinstance(value, torch.ScriptObject):
            yield name, value


class Packed:
    """The tensors inside the packed weights of ``torch.ao``'s quantised modules."""

    def __init__(self) -> None:
        self._tensors: dict[int, tuple[torch.Tensor, ...]] = {}

    def tensors(self, packed: torch.ScriptObject) -> tuple[torch.Tensor, ...]:
        """Weight and bias; none for an object of another kind."""
        key = hash(packed)
        known = self._tensors.get(key)
        if known is None:
            known = self._tensors[key] = tuple(t for t in _unpack(packed) if t is not None)
        return known


def _unpack(packed: Any) -> tuple[Any, ...]:
    name = packed._type().name()
    if "Conv2dPackedParams" in name:
        return tuple(torch.ops.quantized.conv2d_unpack(packed))
    if "Conv3dPackedParams" in name:
        return tuple(torch.ops.quantized.conv3d_unpack(packed))
    if "LinearPackedParams" in name:
        return tuple(torch.ops.quantized.linear_unpack(packed))
    if "CellParamsBase" in name:  # a recurrent layer: biases, and one packed product a gate matrix
        return tuple(_leaves(packed.__getstate__()))
    return ()


def _leaves(state: Any) -> Iterator[Any]:
    if isinstance(state, torch.Tensor):
        yield state
    elif isinstance(state, torch.ScriptObject):
        yield from (t for t in _unpack(state)[:1] if t is not None)
    elif isinstance(state, (list, tuple)):
        for item in state:
            yield from _leaves(item)
