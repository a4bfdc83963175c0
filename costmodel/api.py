"""The stages as one call each: `trace`, `predict`, and `analyze`, which runs them all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import networkx as nx
from torch import nn

from costmodel.errors import CostModelError
from costmodel.inputs import Inputs, make, with_batch
from costmodel.prediction import Prediction
from costmodel.report import Report
from costmodel.table import CostTable, cost
from costmodel.targets import load
from costmodel.targets.huggingface import assume_plain_sequences, hf_inputs
from costmodel.targets.libraries import timm_inputs

Mode = Literal["eval", "train"]


@dataclass(frozen=True, slots=True)
class Subject:
    """A model and what it will be called with."""

    name: str
    module: nn.Module
    inputs: Inputs
    notes: tuple[str, ...] = ()


def analyze(
    model: str | nn.Module,
    inputs: Any = None,
    hw: str | None = None,
    *,
    kwargs: Mapping[str, Any] | None = None,
    batch: int | None = None,
    mode: Mode = "eval",
    dtype: str | None = None,
    execution: str | None = None,
    layout: str | None = None,
    threads: int | None = None,
) -> Report:
    """Trace a model, cost every op, and predict its latency if a device is named.

    ``model`` is a module or a target (``"timm:resnet50"``, ``"net.py:Net(width=2)"``). ``inputs``
    are tensors or shapes (``"1x3x224x224"``, ``"int64:1x128"``), one or a sequence of them, and
    ``kwargs`` the same by keyword; without either, the model's own declared inputs. ``batch``
    replaces their leading dimension. ``hw`` is a device profile's name; the arguments after
    ``mode`` are passed to `predict`.

    Raises `CostModelError` when the model, its inputs or the device cannot be used.
    """
    subject = prepare(model, inputs, kwargs, batch)
    graph = _trace(subject, mode)
    table = cost(graph)
    prediction = None
    if hw is not None:
        prediction = predict(
            table, hw, dtype=dtype, execution=execution, layout=layout, threads=threads
        )
    return Report(subject.name, graph, table, prediction, subject.notes)


def trace(
    model: str | nn.Module,
    inputs: Any = None,
    kwargs: Mapping[str, Any] | None = None,
    *,
    batch: int | None = None,
    mode: Mode = "eval",
) -> nx.DiGraph[int]:
    """The graph of ATen ops that a model runs; the arguments are those of `analyze`."""
    return _trace(prepare(model, inputs, kwargs, batch), mode)


def predict(table: CostTable, hw: str, **options: Any) -> Prediction:
    """The latency of a cost table on a device; see `costmodel.roofline.predict`."""
    from costmodel import roofline

    prediction: Prediction = roofline.predict(table, hw, **options)
    return prediction


def prepare(
    model: str | nn.Module,
    inputs: Any = None,
    kwargs: Mapping[str, Any] | None = None,
    batch: int | None = None,
) -> Subject:
    """The model with the inputs that were given, or with those that it declares itself."""
    notes: tuple[str, ...] = ()
    if isinstance(model, str):
        target = load(model)
        name, module, notes = model, target.module, target.notes
        declared = target.inputs
    elif isinstance(model, nn.Module):
        name, module = type(model).__name__, model
        declared = timm_inputs(model) or hf_inputs(model)
    else:
        raise CostModelError(
            f"a {type(model).__name__} is no model; pass an nn.Module, or a target like "
            "'timm:resnet50'"
        )
    chosen = declared if inputs is None and not kwargs else _given(inputs, kwargs)
    if chosen is None:
        raise CostModelError(
            f"{name} declares no input size; give one, as in --input 1x3x224x224 or "
            "--input int64:1x128"
        )
    if batch is not None:
        chosen = with_batch(chosen, batch)
    return Subject(name, module, chosen, notes)


def _given(inputs: Any, kwargs: Mapping[str, Any] | None) -> Inputs:
    positional = make(() if inputs is None else inputs)
    named = {
        name: make(value).args[0] if isinstance(value, str) else value
        for name, value in (kwargs or {}).items()
    }
    return Inputs(positional.args, {**(positional.kwargs or {}), **named})


def _trace(subject: Subject, mode: Mode) -> nx.DiGraph[int]:
    from costmodel import tracer

    assume_plain_sequences()
    if mode not in ("eval", "train"):
        raise CostModelError(f"no mode {mode!r}; choose eval or train")
    return tracer.trace(subject.module, subject.inputs.args, subject.inputs.kwargs, mode=mode)
