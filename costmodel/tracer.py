"""From an ``nn.Module`` and example inputs to a ``networkx.DiGraph`` of ATen ops.

The model runs once, on the meta device, under a `Recorder`. When it insists on values (``.item()``,
data-dependent shapes) it runs again on the CPU, for real, on zeros; `TraceInfo.tracer` says which
way was taken.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Any, Literal

import torch
import torch.utils._pytree as pytree
from torch import nn
from torch.overrides import TorchFunctionMode

from costmodel.errors import CostModelError
from costmodel.identity import dim_of
from costmodel.preserve import (
    missing_bytes,
    physical_memory,
    preserved,
    twin_parameters,
    with_channels_last,
    with_data,
)
from costmodel.recorder import Recorder

if TYPE_CHECKING:
    import networkx as nx

Mode = Literal["eval", "train"]
Optimizer = Callable[[Any], torch.optim.Optimizer]


def trace(
    model: nn.Module,
    inputs: Sequence[Any],
    kwargs: Mapping[str, Any] | None = None,
    *,
    mode: Mode = "eval",
    optimizer: Optimizer | None = None,
    channels_last: bool = False,
) -> nx.DiGraph[int]:
    """Trace ``model(*inputs, **kwargs)`` into a graph of ops.

    ``inputs`` and ``kwargs`` may nest tensors in tuples, lists and dicts; tensors give shape and
    dtype only and may live on any device. In ``train`` mode the backward pass is traced too, from
    a gradient for every floating output, and then one step of ``optimizer(parameters)`` if given.
    ``channels_last``: maps and filters come in that order. The model is left as it was.

    Returns a ``networkx.DiGraph``: node = op index, ``graph.nodes[i]["op"]`` an `Op`, edges carry
    the ``nbytes`` of the tensors that flow; ``graph.graph["info"]`` is a `TraceInfo`. Raises
    `CostModelError` naming the module at which every way of tracing failed, and why.
    """
    model = _unwrapped(model)
    kwargs = dict(kwargs or {})
    failure: CostModelError | None = None
    for way in ("meta", "cpu"):
        with ExitStack() as stack:
            if way == "cpu":
                stack.enter_context(with_data(model))
            if channels_last:
                stack.enter_context(with_channels_last(model))
            recorder = Recorder(model, way, channels_last)
            try:
                run(recorder, model, inputs, kwargs, mode, optimizer)
            except CostModelError:
                raise
            except Exception as error:
                failure = failure or _failure(model, recorder, error)
                if not _wants_values(error):
                    break
                if way == "meta" and (missing := missing_bytes(model)) > physical_memory() // 2:
                    gigabytes = f"{missing / 1e9:.0f} GB"
                    raise CostModelError(
                        f"the model needs values, and its {gigabytes} of weights do not fit into "
                        f"this machine's memory: {_first(failure)}; use fewer layers"
                    ) from error
                continue
            if failure is not None:
                recorder.notes.append(
                    f"the model ran on the CPU, on zeros, because it needs values: "
                    f"{_first(failure)}"
                )
            return recorder.graph(mode)
    assert failure is not None
    raise failure


def _failure(model: nn.Module, recorder: Recorder, error: Exception) -> CostModelError:
    where = recorder.modules.failed_at or type(model).__name__
    reason = " ".join(str(error).split()) or "no message"
    failure = CostModelError(
        f"cannot run the model: {type(error).__name__} in {where}: {reason[:300]}; "
        "check the input shapes and dtypes (--input)"
    )
    failure.__cause__ = error
    return failure


def _first(failure: CostModelError) -> str:
    return str(failure).removeprefix("cannot run the model: ").partition("; check")[0][:160]


def _wants_values(error: Exception) -> bool:
    """Whether an error on meta tensors may come from the missing values, not from the model."""
    text = str(error)
    hints = ("meta", "item()", "fake", "Meta", "data-dependent", "storage", "no data", "numpy")
    return isinstance(error, NotImplementedError) or any(hint in text for hint in hints)


def run(
    recorder: Recorder,
    model: nn.Module,
    inputs: Sequence[Any],
    kwargs: Mapping[str, Any],
    mode: Mode,
    optimizer: Optimizer | None = None,
) -> None:
    """Run the model once under ``recorder``: forward, and in train mode backward and a step."""
    args, kwargs = recorder.adopt((tuple(inputs), dict(kwargs)))
    with preserved(model, recorder.known):
        with suppress(NotImplementedError):  # an exported program keeps the mode that it has
            model.train(mode == "train")
        if mode == "eval":
            with torch.no_grad(), torch._C._AutoDispatchBelowAutograd(), recorder.recording():
                recorder.finish(model(*args, **kwargs))
            return
        device: Literal["meta", "cpu"] = "cpu" if recorder.device == "cpu" else "meta"
        with twin_parameters(model, device, recorder.known), torch.enable_grad():
            with recorder.recording(), FusedAttention():
                outputs = model(*args, **kwargs)
            recorder.finish(outputs)
            _backward(recorder, outputs)
            if optimizer is not None:
                _step(recorder, optimizer([p for p in model.parameters() if p.grad is not None]))


def _backward(recorder: Recorder, outputs: Any) -> None:
    differentiable = [
        leaf
        for leaf in pytree.tree_leaves(outputs)
        if isinstance(leaf, torch.Tensor) and leaf.requires_grad
    ]
    if not differentiable:
        raise CostModelError(
            "nothing to train: no output of the model depends on a parameter that requires a "
            "gradient; use --mode eval"
        )
    gradients = [torch.empty_like(leaf) for leaf in differentiable]
    with recorder.recording("backward"):
        torch.autograd.backward(differentiable, gradients)


def _step(recorder: Recorder, optimizer: torch.optim.Optimizer) -> None:
    """Record the second step: the first one makes the state, and some skip work in it."""
    with torch.no_grad():
        optimizer.step()
        state = [
            value
            for values in optimizer.state.values()
            for value in values.values()
            if isinstance(value, torch.Tensor)
        ]
        recorder.own(state)
        with recorder.recording("optimizer"):
            optimizer.step()
    kept = sum(value.numel() * value.element_size() for value in state)
    recorder.notes.append(f"the optimizer keeps {kept} bytes of state")


class FusedAttention(TorchFunctionMode):
    """Keep attention whole under autograd, as the fused kernels of the devices do.

    Without it a tensor on the meta device takes the mathematical form, whose L×S matrices no
    current device writes to memory.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is torch.nn.functional.scaled_dot_product_attention:
            fused = _fused_attention(*args, **kwargs)
            if fused is not None:
                return fused
        return func(*args, **kwargs)


def _fused_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: torch.Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,  # noqa: ARG001  (the kernel's shapes say it)
) -> torch.Tensor | None:
    """The flash kernel's op, or ``None`` where no fused kernel serves the call."""
    plain = query.is_meta and query.ndim == key.ndim == value.ndim == 4
    if not plain or query.shape[-1] != value.shape[-1]:
        return None
    if attn_mask is not None and attn_mask.requires_grad:
        return None
    flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    output, _ = flash(query, key, value, dropout_p, is_causal, attn_mask=attn_mask, scale=scale)
    return output  # type: ignore[no-any-return]


def _unwrapped(model: nn.Module) -> nn.Module:
    """The module inside ``torch.compile``'s and data parallelism's wrappers."""
    if isinstance(model, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
        return _unwrapped(model.module)
    inner = getattr(model, "_orig_mod", None)
    return _unwrapped(inner) if isinstance(inner, nn.Module) else model


__all__ = ["Recorder", "dim_of", "run", "trace"]
