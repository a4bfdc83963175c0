"""Run a model without leaving a trace on it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import nn

from costmodel.identity import Identities

_TABLES = ("_parameters", "_buffers", "_modules", "_non_persistent_buffers_set")


@contextmanager
def preserved(model: nn.Module) -> Iterator[None]:
    """Whatever the model does to itself inside is undone after.

    Training flags, attributes, and what is registered under which name are put back; buffers that
    hold data are replaced by copies for the duration. Contents of containers that a module keeps
    as plain attributes are its own affair.
    """
    before = [(module, dict(vars(module))) for module in model.modules()]
    tables = [
        (table, table.copy())
        for module, _ in before
        for table in map(vars(module).get, _TABLES)
        if table is not None
    ]
    copies: dict[int, torch.Tensor] = {}
    for module, _ in before:
        for name, buffer in module._buffers.items():
            if buffer is not None and not buffer.is_meta and type(buffer) is torch.Tensor:
                if id(buffer) not in copies:
                    copies[id(buffer)] = buffer.detach().clone()
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


@contextmanager
def twin_parameters(
    model: nn.Module, device: Literal["meta", "cpu"], known: Identities
) -> Iterator[None]:
    """Parameters replaced by twins that collect the gradients, counted as the originals.

    On the CPU the twins are copies: an optimiser may step them.
    """
    twins: dict[int, nn.Parameter] = {}
    originals: list[tuple[nn.Module, str, nn.Parameter]] = []
    for module in model.modules():
        for name, parameter in module._parameters.items():
            if parameter is None:
                continue
            originals.append((module, name, parameter))
            if id(parameter) not in twins:
                twin = _twin(parameter, device)
                twins[id(parameter)] = twin
                known.alias(twin, parameter)
    _put([(module, name, twins[id(parameter)]) for module, name, parameter in originals])
    try:
        yield
    finally:
        _put(originals)


def _twin(parameter: nn.Parameter, device: str) -> nn.Parameter:
    data = parameter.detach()
    data = data.to("meta") if device == "meta" else data.clone()
    return nn.Parameter(data, parameter.requires_grad)


def _put(parameters: list[tuple[Any, str, nn.Parameter]]) -> None:
    """Assign by attribute: recurrent layers keep a list of their weights and update it so."""
    for module, name, parameter in parameters:
        setattr(module, name, parameter)
