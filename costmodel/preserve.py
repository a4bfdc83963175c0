"""Run a model without leaving a trace on it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from torch import nn
from torch.utils._python_dispatch import is_traceable_wrapper_subclass_type

from costmodel.identity import Identities

_TABLES = ("_parameters", "_buffers", "_modules", "_non_persistent_buffers_set")


@contextmanager
def preserved(model: nn.Module, known: Identities) -> Iterator[None]:
    """Whatever the model does to itself inside is undone after.

    Training flags, attributes, and what is registered under which name are put back; buffers that
    hold data are replaced by copies for the duration, counted as the originals. Contents of
    containers that a module keeps as plain attributes are its own affair.
    """
    before = [(module, dict(vars(module))) for module in model.modules()]
    tables = [
        (table, table.copy())
        for module, _ in before
        for table in map(vars(module).get, _TABLES)
        if isinstance(table, (dict, set))  # a scripted module's tables are its own
    ]
    memories = Memories(torch.UntypedStorage.clone)
    copies: dict[int, torch.Tensor] = {}
    for module, _ in before:
        if isinstance(module, torch.jit.ScriptModule):
            continue
        for name, buffer in module._buffers.items():
            if buffer is not None and not buffer.is_meta and type(buffer) is torch.Tensor:
                if id(buffer) not in copies:
                    copies[id(buffer)] = memories.twin(buffer)
                    known.alias(copies[id(buffer)], buffer)
                module._buffers[name] = copies[id(buffer)]
    try:
        yield
    finally:
        for module, attributes in before:
            vars(module).clear()
            vars(module).update(attributes)
        for table, contents in tables:
            table.clear()
            table.update(contents)


class Memories:
    """Twins of tensors on other memory: those that share memory share that of their twins."""

    def __init__(self, replace: Callable[[torch.UntypedStorage], torch.UntypedStorage]) -> None:
        self._replace = replace
        self._replaced: dict[int, torch.UntypedStorage] = {}

    def twin(self, tensor: torch.Tensor) -> torch.Tensor:
        """A tensor of the same shape, strides and offset."""
        storage = tensor.untyped_storage()
        memory = self._replaced.get(storage._cdata)
        if memory is None:
            memory = self._replaced[storage._cdata] = self._replace(storage)
        empty = torch.empty(0, dtype=tensor.dtype, device=memory.device)
        place = (tensor.storage_offset(), tensor.shape, tensor.stride())
        return empty.set_(memory, *place)


def _without_data(storage: torch.UntypedStorage) -> torch.UntypedStorage:
    return torch.UntypedStorage(storage.nbytes(), device="meta")  # type: ignore[no-untyped-call]


def _zeros(storage: torch.UntypedStorage) -> torch.UntypedStorage:
    return torch.zeros(storage.nbytes(), dtype=torch.uint8, device="cpu").untyped_storage()


Slot = tuple[nn.Module, str, torch.Tensor]


@contextmanager
def twin_parameters(
    model: nn.Module, device: Literal["meta", "cpu"], known: Identities
) -> Iterator[None]:
    """Parameters replaced by twins that collect the gradients, counted as the originals.

    On the CPU the twins are copies: an optimiser may step them.
    """

    memories = Memories(_without_data if device == "meta" else torch.UntypedStorage.clone)

    def twin(parameter: torch.Tensor) -> torch.Tensor:
        if is_traceable_wrapper_subclass_type(type(parameter)):  # made of several tensors
            data = parameter.detach()
            data = data.to("meta") if device == "meta" else data.clone()
        else:
            data = memories.twin(parameter)
        made = nn.Parameter(data, parameter.requires_grad)
        known.alias(made, parameter)
        return made

    with _replaced(_slots(model, ("_parameters",)), twin):
        yield


@contextmanager
def with_data(model: nn.Module) -> Iterator[None]:
    """Weights on the meta device replaced by zeros on the CPU; those that are tied stay so."""

    memories = Memories(_zeros)

    def zeros(tensor: torch.Tensor) -> torch.Tensor:
        data = memories.twin(tensor)
        is_parameter = isinstance(tensor, nn.Parameter)
        return nn.Parameter(data, tensor.requires_grad) if is_parameter else data

    slots = _slots(model, ("_parameters", "_buffers"))
    with _replaced([slot for slot in slots if slot[2].is_meta], zeros):
        yield


@contextmanager
def with_channels_last(model: nn.Module) -> Iterator[None]:
    """Weights of four dimensions in that order, as ``Module.to(memory_format=…)`` leaves them."""

    def ordered(tensor: torch.Tensor) -> torch.Tensor:
        data = tensor.detach().to(memory_format=torch.channels_last)
        is_parameter = isinstance(tensor, nn.Parameter)
        return nn.Parameter(data, tensor.requires_grad) if is_parameter else data

    slots = _slots(model, ("_parameters", "_buffers"))
    plain = [slot for slot in slots if type(slot[2]) in (torch.Tensor, nn.Parameter)]
    with _replaced([slot for slot in plain if slot[2].ndim == 4], ordered):
        yield


def missing_bytes(model: nn.Module) -> int:
    """Bytes of the weights that have no data."""
    weights = (*model.parameters(), *model.buffers())
    return sum(t.numel() * t.element_size() for t in weights if t.is_meta)


def physical_memory() -> int:
    """Bytes of this machine's memory."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _slots(model: nn.Module, tables: tuple[str, ...]) -> list[Slot]:
    return [
        (module, name, tensor)
        for module in model.modules()
        for table in tables
        for name, tensor in vars(module).get(table, {}).items()  # a traced module has none
        if tensor is not None
    ]


@contextmanager
def _replaced(slots: list[Slot], twin: Callable[[torch.Tensor], torch.Tensor]) -> Iterator[None]:
    """Every distinct tensor in ``slots`` replaced by its twin, and put back after."""
    twins: dict[int, torch.Tensor] = {}
    for module, name, tensor in slots:
        if id(tensor) not in twins:
            twins[id(tensor)] = twin(tensor)
        # By attribute: recurrent layers keep a list of their weights and update it so.
        setattr(module, name, twins[id(tensor)])
    try:
        yield
    finally:
        for module, name, tensor in slots:
            setattr(module, name, tensor)
