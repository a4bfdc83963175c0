"""The stages as one call each: `trace`, and `analyze`, which goes on to the report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from typing import TYPE_CHECKING, Any, Literal

from torch import nn

from costmodel.errors import CostModelError
from costmodel.inputs import Inputs, make, with_batch
from costmodel.ir import ops_of
from costmodel.report import Report
from costmodel.rules.geometry import factors_of
from costmodel.table import cost
from costmodel.targets import load
from costmodel.targets.huggingface import assume_plain_sequences, hf_inputs
from costmodel.targets.libraries import timm_inputs

if TYPE_CHECKING:
    import networkx as nx

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
    hw: str | PathLike[str] | None = None,
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
    replaces their leading dimension. ``hw`` is a device profile's name or file; the arguments after
    ``mode`` are passed to `costmodel.roofline.predict`.

    Raises `CostModelError` when the model, its inputs or the device cannot be used.
    """
    options: dict[str, Any] = {
        "dtype": dtype, "execution": execution, "layout": layout, "threads": threads,
    }  # fmt: skip
    last = False
    if hw is not None:
        from costmodel.execution import keeps_memory_format
        from costmodel.setting import setting

        chosen = setting(hw, **options)  # an unknown device is said at once
        last = chosen.layout == "nhwc" and keeps_memory_format(chosen.execution)
    subject = prepare(model, inputs, kwargs, batch)
    graph = _trace(subject, mode, last)
    table = cost(graph)
    prediction = None
    if hw is not None:
        from costmodel.roofline import predict

        prediction = predict(table, hw, **options)
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


def prepare(
    model: str | nn.Module,
    inputs: Any = None,
    kwargs: Mapping[str, Any] | None = None,
    batch: int | None = None,
) -> Subject:
    """The model with the inputs that were given, or with those that it declares itself."""
    notes: tuple[str, ...] = ()
    given = _given(inputs, kwargs)
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
    chosen = declared if given is None else given
    if chosen is None:
        raise CostModelError(
            f"{name} declares no input size; give one, as in --input 1x3x224x224 or "
            "--input int64:1x128"
        )
    if batch is not None:
        chosen = with_batch(chosen, batch)
    return Subject(name, module, chosen, notes)


def _given(inputs: Any, kwargs: Mapping[str, Any] | None) -> Inputs | None:
    if inputs is None and not kwargs:
        return None
    positional = make(() if inputs is None else inputs)
    named = {
        name: make(value).args[0] if isinstance(value, str) else value
        for name, value in (kwargs or {}).items()
    }
    return Inputs(positional.args, {**(positional.kwargs or {}), **named})


def _trace(subject: Subject, mode: Mode, channels_last: bool = False) -> nx.DiGraph[int]:
    from costmodel import tracer

    assume_plain_sequences()
    if mode not in ("eval", "train"):
        raise CostModelError(f"no mode {mode!r}; choose eval or train")
    args, kwargs = subject.inputs.args, subject.inputs.kwargs
    graph = tracer.trace(subject.module, args, kwargs, mode=mode, channels_last=channels_last)
    _check_dtypes(graph)
    return graph


def _check_dtypes(graph: nx.DiGraph[int]) -> None:
    """Refuse products of integers with floats, which run on tensors without data but nowhere else.

    Raises `CostModelError` naming the first such op and its module.
    """
    for op in ops_of(graph):
        factors = factors_of(op)
        if factors is not None and factors[0].is_float != factors[1].is_float:
            where = f" in {op.module}" if op.module else ""
            raise CostModelError(
                f"cannot run the model: {op.target}{where} multiplies {factors[0].dtype} by "
                f"{factors[1].dtype}; check the input dtypes, as in --input int64:1x128"
            )
