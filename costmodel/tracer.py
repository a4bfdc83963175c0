"""From an ``nn.Module`` and example inputs to a ``networkx.DiGraph`` of ATen ops.

The model runs once, on the meta device, below autograd, with a dispatch mode that writes down
every op. Below autograd the dispatcher hands over composite ops (``linear``, ``conv2d``,
``scaled_dot_product_attention``) whole: those that a rule knows are kept so, the others are
decomposed. Tensors that are not on the meta device are replaced by meta twins at the first op that
mixes them in, so weights are neither copied nor computed with.

When a model insists on values (``.item()``, data-dependent shapes) it runs again on the CPU, for
real, on zeros; `TraceInfo.tracer` says which way was taken.
"""

from __future__ import annotations

import copy
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import networkx as nx
import torch
import torch.utils._pytree as pytree
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from costmodel import rules
from costmodel.errors import CostModelError
from costmodel.ir import Dim, Op, Phase, TensorSpec, TraceInfo, Weight, tensors

Mode = Literal["eval", "train"]

_TORCH = os.path.dirname(torch.__file__)
_HERE = os.path.abspath(__file__)
_CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}
_DTYPES = {
    value: name
    for name, value in vars(torch).items()
    if isinstance(value, torch.dtype) and str(value) == f"torch.{name}"
}


def trace(
    model: nn.Module,
    inputs: Sequence[Any],
    kwargs: Mapping[str, Any] | None = None,
    *,
    mode: Mode = "eval",
    optimizer: Callable[[Any], torch.optim.Optimizer] | None = None,
) -> nx.DiGraph:
    """Trace ``model(*inputs, **kwargs)`` into a graph of ops.

    ``inputs`` and ``kwargs`` may nest tensors in tuples, lists and dicts; tensors give shape and
    dtype only and may live on any device. In ``train`` mode the backward pass is traced too, from
    a gradient for every floating output, and then one step of ``optimizer(parameters)`` if given.

    Returns a ``networkx.DiGraph``: node = op index, ``graph.nodes[i]["op"]`` an `Op`, edges carry
    the ``nbytes`` of the tensors that flow; ``graph.graph["info"]`` is a `TraceInfo`. Raises
    `CostModelError` naming the module at which every way of tracing failed, and why.
    """
    kwargs = dict(kwargs or {})
    first: Recorder | None = None
    for way in ("meta", "cpu"):
        subject = model if way == "meta" else _materialised(model)
        recorder = Recorder(subject, way)
        try:
            _run(recorder, subject, inputs, kwargs, mode, optimizer)
        except CostModelError:
            raise
        except Exception as error:
            recorder.error = error
            if first is None:
                first = recorder
            if not _wants_values(error):
                break
            continue
        return recorder.graph(mode)
    assert first is not None and first.error is not None
    where = first.failed_at or type(model).__name__
    reason = " ".join(str(first.error).split()) or "no message"
    raise CostModelError(
        f"cannot run the model: {type(first.error).__name__} in {where}: {reason[:300]}; "
        "check the input shapes and dtypes (--input)"
    ) from first.error


def _wants_values(error: Exception) -> bool:
    """Whether an error on meta tensors may come from the missing values, not from the model."""
    text = str(error)
    hints = ("meta", "item()", "fake", "Meta", "data-dependent", "storage", "no data", "numpy")
    return isinstance(error, NotImplementedError) or any(hint in text for hint in hints)


def _run(
    recorder: Recorder,
    model: nn.Module,
    inputs: Sequence[Any],
    kwargs: Mapping[str, Any],
    mode: Mode,
    optimizer: Callable[[Any], torch.optim.Optimizer] | None,
) -> None:
    args, kwargs = recorder.adopt((tuple(inputs), dict(kwargs)))
    was_training = {module: module.training for module in model.modules()}
    model.train(mode == "train")
    try:
        if mode == "eval":
            with torch.no_grad(), torch._C._AutoDispatchBelowAutograd(), recorder.recording():
                recorder.finish(model(*args, **kwargs))
            return
        with torch.enable_grad(), recorder.recording():
            outputs = model(*args, **kwargs)
        recorder.finish(outputs)
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
        if optimizer is not None:
            stepper = optimizer([p for p in model.parameters() if p.grad is not None])
            with torch.no_grad(), recorder.recording("optimizer"):
                stepper.step()
    finally:
        for module, training in was_training.items():
            module.training = training
        if mode == "train":
            for parameter in model.parameters():
                parameter.grad = None


def _materialised(model: nn.Module) -> nn.Module:
    """A copy of the model on the CPU; meta weights become zeros."""
    if not any(t.is_meta for t in (*model.parameters(), *model.buffers())):
        return model
    twin = copy.deepcopy(model).to_empty(device="cpu")
    with torch.no_grad():
        for tensor in (*twin.parameters(), *twin.buffers()):
            tensor.zero_()
    return twin


class Recorder(TorchDispatchMode):
    """Writes down every op that runs under it, with its tensors, module and source line."""

    supports_higher_order_operators = True

    def __init__(self, model: nn.Module, device: str) -> None:
        super().__init__()
        self.device = device
        self.ops: list[Op] = []
        self.notes: list[str] = []
        self.error: Exception | None = None
        self.failed_at: str | None = None
        self._phase: Phase = "forward"
        self._stack: list[str] = [""]
        self._edges: dict[tuple[int, int], Dim] = {}
        # Every tensor is kept alive, so identities below stay unique for the whole trace.
        self._alive: list[Any] = []
        self._twins: dict[int, torch.Tensor] = {}
        self._producer: dict[int, int] = {}
        self._writer: dict[int, int] = {}
        self._storages: dict[int, int] = {}
        self._values: dict[tuple[Any, ...], int] = {}
        self._kinds: dict[int, Any] = {}
        self._sequence: dict[int, str] = {}
        self._names: dict[str, int] = {}
        self._inputs: tuple[TensorSpec, ...] = ()
        self._outputs: tuple[TensorSpec, ...] = ()
        self._model = model
        self._paths: dict[int, list[str]] = {}
        for path, module in model.named_modules(remove_duplicate=False):
            self._paths.setdefault(id(module), []).append(path)
        self._weights = self._register_weights(model)

    # -- setting up ------------------------------------------------------------------------

    def _register_weights(self, model: nn.Module) -> tuple[Weight, ...]:
        found: dict[int, Weight] = {}
        named = [("parameter", n, t) for n, t in model.named_parameters(remove_duplicate=False)]
        named += [("buffer", n, t) for n, t in model.named_buffers(remove_duplicate=False)]
        for kind, name, tensor in named:
            if isinstance(tensor, nn.parameter.UninitializedTensorMixin):
                raise CostModelError(
                    f"{name} has no shape before the first call (a lazy module); run the model "
                    "once before analysing it"
                )
            storage = self._storage_of(tensor)
            self._kinds.setdefault(storage, kind)
            known = found.get(storage)
            if known is None:
                shape = tuple(dim_of(d) for d in tensor.shape)
                found[storage] = Weight((name,), shape, dtype_name(tensor.dtype), storage, kind)  # type: ignore[arg-type]
            else:
                names = (*known.names, name)
                found[storage] = Weight(names, known.shape, known.dtype, storage, known.kind)
        return tuple(found.values())

    def adopt(self, tree: Any) -> Any:
        """The inputs as this way of tracing wants them, registered as inputs."""

        def convert(leaf: Any) -> Any:
            if not isinstance(leaf, torch.Tensor):
                return leaf
            if self.device == "meta":
                tensor = leaf.detach().to("meta")
            elif leaf.is_meta:
                tensor = torch.zeros(leaf.shape, dtype=leaf.dtype)
            else:
                tensor = leaf.detach()
            self._kinds[self._storage_of(tensor)] = "input"
            return tensor

        converted = pytree.tree_map(convert, tree)
        leaves = [leaf for leaf in pytree.tree_leaves(converted) if isinstance(leaf, torch.Tensor)]
        self._inputs = tuple(self.spec(leaf) for leaf in leaves)
        return converted

    def finish(self, outputs: Any) -> None:
        """Note what the model returned."""
        leaves = pytree.tree_leaves(outputs)
        self._outputs = tuple(self.spec(leaf) for leaf in leaves if isinstance(leaf, torch.Tensor))

    @contextmanager
    def recording(self, phase: Phase = "forward") -> Iterator[None]:
        """Record what runs inside; module calls are followed to name where an op ran."""
        self._phase = phase
        call = nn.Module.__call__
        cond = torch.cond

        def followed(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
            self._stack.append(self._path(module))
            try:
                return call(module, *args, **kwargs)
            except Exception:
                if self.failed_at is None:
                    self.failed_at = self._describe(module)
                raise
            finally:
                self._stack.pop()

        nn.Module.__call__ = followed  # type: ignore[method-assign]
        torch.cond = self._cond  # type: ignore[assignment]
        try:
            with self:
                yield
        finally:
            nn.Module.__call__ = call  # type: ignore[method-assign]
            torch.cond = cond

    def _path(self, module: nn.Module) -> str:
        here = self._stack[-1]
        known = self._paths.get(id(module))
        if known is None:
            path = f"{here}.{type(module).__name__}".lstrip(".")
            self._paths[id(module)] = [path]
            self._alive.append(module)
            return path
        if len(known) == 1:
            return known[0]
        return next((p for p in known if p.rpartition(".")[0] == here), known[0])

    def _describe(self, module: nn.Module) -> str:
        path = self._stack[-1]
        return f"{path} ({type(module).__name__})" if path else type(module).__name__

    # -- identities ------------------------------------------------------------------------

    def _storage_of(self, tensor: torch.Tensor) -> int:
        try:
            key = tensor.untyped_storage()._cdata
        except (NotImplementedError, RuntimeError):  # opaque tensors: mkldnn, packed weights
            key = -id(tensor)
        number = self._storages.get(key)
        if number is None:
            number = self._storages[key] = len(self._storages)
            self._alive.append(tensor)
        return number

    def spec(self, tensor: torch.Tensor) -> TensorSpec:
        """What an op sees of a tensor."""
        storage = self._storage_of(tensor)
        shape = tuple(dim_of(d) for d in tensor.shape)
        try:
            strides = tensor.stride()
            offset = dim_of(tensor.storage_offset())
            contiguous = tensor.is_contiguous()
            dense = _CHANNELS_LAST.get(len(shape))
            last = dense is not None and tensor.is_contiguous(memory_format=dense)
        except (NotImplementedError, RuntimeError):
            strides, offset, contiguous, last = (), 0, True, False
        expanded = tuple(
            i for i, s in enumerate(strides) if isinstance(s, int) and s == 0 and shape[i] != 1
        )
        region = (storage, offset, _size(shape, expanded))
        value = self._values.setdefault(region, len(self._values))
        return TensorSpec(
            shape,
            dtype_name(tensor.dtype),
            value,
            storage,
            self._kinds.get(storage, "activation"),
            expanded,
            contiguous,
            last,
        )

    # -- recording -------------------------------------------------------------------------

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if not isinstance(func, torch._ops.OpOverload):
            return self._higher_order(func, args, kwargs)
        target = target_name(func)
        if not rules.is_known(target):
            with self:
                result = func.decompose(*args, **kwargs)
            if result is not NotImplemented:
                return result
        real_args, real_kwargs = args, kwargs
        if self.device == "meta":
            real_args, real_kwargs = self._on_meta(func, args, kwargs)
        result = func(*real_args, **real_kwargs)
        self._record(func, target, args, kwargs, result)
        return result

    def _on_meta(
        self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Replace other tensors by meta twins when an op mixes them with meta tensors."""
        leaves = [a for a in pytree.tree_leaves((args, kwargs)) if isinstance(a, torch.Tensor)]
        if not any(t.is_meta for t in leaves) or all(t.is_meta for t in leaves):
            if kwargs.get("device") is not None and leaves and leaves[0].is_meta:
                kwargs = {**kwargs, "device": torch.device("meta")}
            return args, kwargs
        converted: tuple[tuple[Any, ...], dict[str, Any]] = pytree.tree_map_only(
            torch.Tensor, self._twin, (args, kwargs)
        )
        return converted

    def _twin(self, tensor: torch.Tensor) -> torch.Tensor:
        if tensor.is_meta:
            return tensor
        twin = self._twins.get(id(tensor))
        if twin is None:
            twin = self._twins[id(tensor)] = tensor.detach().to("meta")
            self._alive.append(tensor)
        return twin

    def _record(
        self, func: Any, target: str, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any
    ) -> None:
        leaves = [leaf for leaf in pytree.tree_leaves(result) if isinstance(leaf, torch.Tensor)]
        mutated = _mutated(func, args, kwargs)
        if not leaves and not mutated:
            return
        index = len(self.ops)
        frozen_args = tuple(self._freeze(a) for a in args)
        frozen_kwargs = {name: self._freeze(value) for name, value in kwargs.items()}
        used: list[torch.Tensor] = [
            leaf for leaf in pytree.tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)
        ]
        for tensor in used:
            self._depend(tensor, index)
        writes = tuple(self.spec(tensor) for tensor in mutated)
        for tensor in mutated:
            self._producer[id(tensor)] = index
            self._writer[self._storage_of(tensor)] = index
        for leaf in leaves:
            self._alive.append(leaf)
            self._producer[id(leaf)] = index
        module = self._module()
        self.ops.append(
            Op(
                index,
                self._unique(module, target),
                target,
                func._overloadname,
                frozen_args,
                frozen_kwargs,
                tuple(self.spec(leaf) for leaf in leaves),
                writes,
                module,
                _source_line() if self._phase == "forward" else None,
                self._phase,
            )
        )

    def _depend(self, tensor: torch.Tensor, index: int) -> None:
        made = self._producer.get(id(tensor))
        written = self._writer.get(self._storage_of(tensor))
        for source in {made, written} - {None, index}:
            assert source is not None
            if made is not None and written is not None and source == made < written:
                continue  # overwritten since: only the last writer's contents are read
            edge = (source, index)
            self._edges[edge] = self._edges.get(edge, 0) + self.spec(tensor).nbytes

    def _module(self) -> str:
        """The path of the module that called; backward ops are matched by autograd sequence."""
        if self._phase == "backward":
            node = torch._C._current_autograd_node()
            return self._sequence.get(node._sequence_nr(), "") if node is not None else ""
        if torch.is_grad_enabled():
            self._sequence[torch.autograd._get_sequence_nr() - 1] = self._stack[-1]
        return self._stack[-1]

    def _unique(self, module: str, target: str) -> str:
        stem = f"{module}.{target.rpartition('.')[2]}".lstrip(".")
        count = self._names.get(stem, 0)
        self._names[stem] = count + 1
        return stem if count == 0 else f"{stem}_{count}"

    def _freeze(self, value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            return self.spec(value)
        if isinstance(value, (list, tuple)):
            return tuple(self._freeze(v) for v in value)
        if value is None or isinstance(value, (bool, int, float, str)):
            return value
        if isinstance(value, (torch.SymInt, torch.SymFloat, torch.SymBool)):
            return dim_of(value)
        if isinstance(value, torch.dtype):
            return dtype_name(value)
        return str(value)

    # -- control flow ----------------------------------------------------------------------

    def _cond(self, pred: Any, true_fn: Any, false_fn: Any, operands: Sequence[Any] = ()) -> Any:
        """``torch.cond``: both branches are traced, the one with more work is kept."""
        start, edges = len(self.ops), dict(self._edges)
        branches = []
        for branch in (true_fn, false_fn):
            self._edges = dict(edges)
            result = branch(*operands)
            ops = self.ops[start:]
            del self.ops[start:]
            costs = [cost for cost in map(rules.cost_of, ops) if cost is not None]
            work = (sum(c.macs for c in costs), sum(c.ops for c in costs))
            branches.append((work, ops, self._edges, result))
        chosen = 0 if branches[0][0] >= branches[1][0] else 1
        _, ops, self._edges, result = branches[chosen]
        self.ops.extend(ops)
        branch_name = ("true", "false")[chosen]
        where = self._stack[-1] or "the model"
        self.notes.append(
            f"torch.cond in {where}: counted the larger branch ({branch_name}); "
            "the other one is not part of the totals"
        )
        return result

    def _higher_order(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if func is torch.ops.higher_order.cond:
            with self:
                return self._cond(*args, **kwargs)
        with self:
            return func(*args, **kwargs)

    # -- result ----------------------------------------------------------------------------

    def graph(self, mode: Mode) -> nx.DiGraph:
        """Everything recorded, as a graph."""
        graph = nx.DiGraph()
        graph.add_nodes_from((op.index, {"op": op}) for op in self.ops)
        graph.add_edges_from((a, b, {"nbytes": n}) for (a, b), n in self._edges.items())
        graph.graph["info"] = TraceInfo(
            inputs=self._inputs,
            weights=self._weights,
            outputs=self._outputs,
            mode=mode,
            tracer=self.device,
            module_types={p: type(m).__name__ for p, m in self._model.named_modules()},
            notes=tuple(dict.fromkeys(self.notes)),
        )
        return graph


def target_name(func: torch._ops.OpOverload) -> str:
    """``aten.conv2d`` for ``torch.ops.aten.conv2d.default``."""
    return func._schema.name.replace("::", ".")


def dtype_name(dtype: torch.dtype) -> str:
    """``float32`` for ``torch.float32``."""
    return _DTYPES.get(dtype) or str(dtype).removeprefix("torch.")


def dim_of(size: Any) -> Dim:
    """An ``int``, or the sympy expression behind a ``SymInt``."""
    if type(size) is int:
        return size
    node = getattr(size, "node", None)
    if node is None:
        return size
    from costmodel.symbolic import expression

    return expression(node.expr)


def _size(shape: tuple[Dim, ...], expanded: tuple[int, ...]) -> Dim:
    size: Dim = 1
    for i, extent in enumerate(shape):
        if i not in expanded:
            size = size * extent
    return size


def _mutated(
    func: torch._ops.OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> list[torch.Tensor]:
    """The tensors among the arguments that the op's schema says it writes."""
    if not func._schema.is_mutable:
        return []
    found: list[torch.Tensor] = []
    for position, argument in enumerate(func._schema.arguments):
        if argument.alias_info is None or not argument.alias_info.is_write:
            continue
        value = args[position] if position < len(args) else kwargs.get(argument.name)
        found += [t for t in pytree.tree_leaves(value) if isinstance(t, torch.Tensor)]
    return found


def _source_line() -> str | None:
    """``file:line`` of the innermost frame outside torch and this module."""
    frame = sys._getframe(3)
    while frame is not None:
        name = frame.f_code.co_filename
        if not name.startswith(_TORCH) and name != _HERE and not name.startswith("<"):
            return f"{name}:{frame.f_lineno}"
        frame = frame.f_back  # type: ignore[assignment]
    return None


__all__ = ["Recorder", "trace", "tensors"]
