"""Writes down every ATen op that runs, as `Op` values in a graph.

A dispatch mode below autograd sees composite ops (``linear``, ``conv2d``,
``scaled_dot_product_attention``) whole: those that a rule knows are kept so, the others are
decomposed. Tensors that are not on the meta device are replaced by meta twins at the first op that
mixes them in, so weights are neither copied nor computed with.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from types import FrameType
from typing import Any, Literal

import networkx as nx
import torch
import torch.utils._pytree as pytree
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode, is_traceable_wrapper_subclass_type

from costmodel import rules
from costmodel.identity import Identities, dim_of, dtype_name
from costmodel.ir import Dim, Op, Phase, TensorSpec, TraceInfo
from costmodel.modules import ModulePath
from costmodel.shapes import SHAPES
from costmodel.weights import Packed, register_weights

_OURS = (os.path.dirname(torch.__file__), os.path.dirname(os.path.abspath(__file__)))


@dataclass(frozen=True, slots=True)
class _Plan:
    """What the schema of an op says: its name, and the arguments that it writes."""

    target: str
    writes: tuple[tuple[int, str], ...]


@cache
def _plan(func: torch._ops.OpOverload) -> _Plan:
    schema = func._schema
    writes = tuple(
        (position, argument.name)
        for position, argument in enumerate(schema.arguments)
        if argument.alias_info is not None and argument.alias_info.is_write
    )
    return _Plan(target_name(func), writes)


class Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """One trace: what ran, on which tensors, for which module, from which line.

    ``device`` names the way of tracing: ``meta`` (no data), ``cpu`` (for real), or ``symbolic``
    (fake tensors whose sizes are symbols).
    """

    supports_higher_order_operators = True

    def __init__(self, model: nn.Module, device: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.device = device
        self.ops: list[Op] = []
        self.notes: list[str] = []
        self.modules = ModulePath(model)
        self.known = Identities(self._forget)
        self._packed = Packed()
        self._weights = register_weights(model, self.known, self._packed)
        self._phase: Phase = "forward"
        self._edges: dict[tuple[int, int], Dim] = {}
        self._twins: dict[int, torch.Tensor] = {}
        self._producer: dict[int, int] = {}
        self._writer: dict[int, int] = {}
        self._sequence: dict[int, str] = {}
        self._names: dict[str, int] = {}
        self._inputs: tuple[TensorSpec, ...] = ()
        self._outputs: tuple[TensorSpec, ...] = ()

    def adopt(self, tree: Any) -> Any:
        """The inputs as this way of tracing wants them, registered as inputs."""
        leaves: list[torch.Tensor] = []

        def convert(leaf: Any) -> Any:
            if not isinstance(leaf, torch.Tensor):
                return leaf
            if self.device == "meta":
                tensor = leaf.detach().to("meta")
            elif leaf.is_meta:
                tensor = torch.zeros(leaf.shape, dtype=leaf.dtype)
            else:
                tensor = leaf.detach()
            self.known.kinds[self.known.storage_of(tensor)] = "input"
            leaves.append(tensor)
            return tensor

        converted = pytree.tree_map(convert, tree)
        self._inputs = tuple(map(self.known.spec, leaves))
        return converted

    def finish(self, outputs: Any) -> None:
        """Note what the model returned."""
        leaves = pytree.tree_leaves(outputs)
        self._outputs = tuple(self.known.spec(x) for x in leaves if isinstance(x, torch.Tensor))

    def own(self, tensors: Sequence[torch.Tensor]) -> None:
        """Count ``tensors`` as the model's own memory, not as activations."""
        for tensor in tensors:
            self.known.kinds.setdefault(self.known.storage_of(tensor), "buffer")

    @contextmanager
    def recording(self, phase: Phase = "forward") -> Iterator[None]:
        """Record what runs inside; module calls are followed to name where an op ran."""
        self._phase = phase
        cond = torch.cond
        torch.cond = self._cond
        try:
            with ExitStack() as stack:
                stack.enter_context(self.modules.following())
                stack.enter_context(self)
                yield
        finally:
            torch.cond = cond

    # -- one op ----------------------------------------------------------------------------

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
        if types and any(map(is_traceable_wrapper_subclass_type, types)):
            return NotImplemented  # the wrapper's own ops come back here one by one
        plan = _plan(func)
        if not rules.is_known(plan.target):
            with self:
                result = _decomposed(func, args, kwargs)
            if result is not NotImplemented:
                return result
        used: list[torch.Tensor] = []
        frozen_args = tuple([self._freeze(a, used) for a in args])
        frozen_kwargs = {name: self._freeze(value, used) for name, value in kwargs.items()}
        mutated = self._mutated(plan, args, kwargs) if plan.writes else []
        run: Any = func
        if self.device == "meta":
            args, kwargs = self._on_meta(used, args, kwargs)
            if plan.target in SHAPES and any(tensor.is_meta for tensor in used):
                run = SHAPES[plan.target]
        result = run(*args, **kwargs)
        overload = func._overloadname
        self._record(plan.target, overload, frozen_args, frozen_kwargs, used, mutated, result)
        return result

    def _record(
        self,
        target: str,
        overload: str,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        used: list[torch.Tensor],
        mutated: list[torch.Tensor],
        result: Any,
    ) -> None:
        leaves = [result] if isinstance(result, torch.Tensor) else _tensors(result)
        if not leaves and not mutated:
            return
        index, spec = len(self.ops), self.known.spec
        for tensor in used:
            self._depend(tensor, index)
        for tensor in mutated:
            self.known.forget(tensor)
            self._producer[id(tensor)] = index
            self._writer[spec(tensor).storage] = index
        for leaf in leaves:
            self._producer[id(leaf)] = index
        module = self._module()
        source = _source_line() if self._phase == "forward" else None
        outputs = tuple([spec(leaf) for leaf in leaves])
        writes = tuple([spec(tensor) for tensor in mutated])
        name = self._unique(module, target)
        self.known.clock = index + 1
        self.ops.append(
            Op(index, name, target, overload, args, kwargs, outputs, writes, module, source,
               self._phase)
        )  # fmt: skip

    def _depend(self, tensor: torch.Tensor, index: int) -> None:
        """Edges from the ops that made ``tensor`` or last wrote its memory."""
        made = self._producer.get(id(tensor))
        spec = self.known.spec(tensor)
        written = self._writer.get(spec.storage) if self._writer else None
        if written is not None and (made is None or made < written):
            made = written  # overwritten since: only the last writer's contents are read
        if made is not None and made != index:
            edge = (made, index)
            self._edges[edge] = self._edges.get(edge, 0) + spec.nbytes

    def _module(self) -> str:
        """The path of the module that called; backward ops are matched by autograd sequence."""
        here = self.modules.here
        if self._phase == "backward":
            node: Any = torch._C._current_autograd_node()
            return self._sequence.get(node._sequence_nr(), here) if node is not None else here
        if torch.is_grad_enabled():
            # The first op after an autograd node is made is the node's own.
            self._sequence.setdefault(torch._C._autograd._get_sequence_nr() - 1, here)
        return here

    def _unique(self, module: str, target: str) -> str:
        short = target.rpartition(".")[2]
        stem = f"{module}.{short}" if module else short
        while True:
            count = self._names.get(stem, 0)
            self._names[stem] = count + 1
            if count == 0:
                return stem
            name = f"{stem}_{count}"
            if name not in self._names:
                self._names[name] = 1
                return name

    def _forget(self, key: int) -> None:
        """The tensor whose ``id`` was ``key`` is gone."""
        self._producer.pop(key, None)

    # -- arguments -------------------------------------------------------------------------

    def _freeze(self, value: Any, used: list[torch.Tensor]) -> Any:
        """``value`` as an `Op` keeps it; tensors inside are added to ``used``."""
        if isinstance(value, torch.Tensor):
            used.append(value)
            return self.known.spec(value)
        if value is None or isinstance(value, (bool, int, float, str)):
            return value
        if isinstance(value, (list, tuple)):
            return tuple([self._freeze(v, used) for v in value])
        if isinstance(value, (torch.SymInt, torch.SymFloat, torch.SymBool)):
            return dim_of(value)
        if isinstance(value, torch.dtype):
            return dtype_name(value)
        if isinstance(value, torch.ScriptObject):
            return tuple(map(self.known.spec, self._packed.tensors(value)))
        return str(value)

    def _mutated(
        self, plan: _Plan, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> list[torch.Tensor]:
        """The tensors among the arguments that the op's schema says it writes."""
        found: list[torch.Tensor] = []
        for position, name in plan.writes:
            found += _tensors(args[position] if position < len(args) else kwargs.get(name))
        return found

    def _on_meta(
        self, used: list[torch.Tensor], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Replace other tensors by meta twins when an op mixes them with meta tensors."""
        meta = [tensor.is_meta for tensor in used]
        if not any(meta):
            return args, kwargs
        if kwargs.get("device") is not None:
            kwargs = {**kwargs, "device": torch.device("meta")}
        if all(meta):
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
            self.known.hold(tensor)
        return twin

    # -- control flow ----------------------------------------------------------------------

    def _cond(self, pred: Any, true_fn: Any, false_fn: Any, operands: Sequence[Any] = ()) -> Any:
        """``torch.cond``: both branches are traced, the one with more work is kept."""
        start, flow = len(self.ops), (self._edges, self._producer, self._writer)
        branches: list[Any] = []
        for branch in (true_fn, false_fn):
            self._edges, self._producer, self._writer = (dict(table) for table in flow)  # type: ignore[assignment]
            result = branch(*operands)
            ops = self.ops[start:]
            del self.ops[start:]
            costs = [cost for cost in map(rules.cost_of, ops) if cost is not None]
            work = (sum(c.macs for c in costs), sum(c.ops for c in costs))
            branches.append((work, ops, (self._edges, self._producer, self._writer), result))
        chosen = 0 if branches[0][0] >= branches[1][0] else 1
        _, ops, (self._edges, self._producer, self._writer), result = branches[chosen]
        self.ops.extend(ops)
        branch_name = ("true", "false")[chosen]
        where = self.modules.here or "the model"
        self.notes.append(
            f"torch.cond in {where}: counted the larger branch ({branch_name}); "
            "the other one is not part of the totals"
        )
        return result

    def _higher_order(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """``torch.cond`` by its branches; others whole, by their names."""
        if func is torch.ops.higher_order.cond:
            with self:
                return self._cond(*args, **kwargs)
        used: list[torch.Tensor] = []
        frozen = tuple([self._freeze(a, used) for a in args])
        named = {name: self._freeze(value, used) for name, value in kwargs.items()}
        if self.device == "meta":
            args, kwargs = self._on_meta(used, args, kwargs)
        result = func(*args, **kwargs)
        self._record(f"higher_order.{func.name()}", "", frozen, named, used, [], result)
        return result

    # -- result ----------------------------------------------------------------------------

    def graph(self, mode: Literal["eval", "train"]) -> nx.DiGraph[int]:
        """Everything recorded, as a graph."""
        self.known.close()
        graph: nx.DiGraph[int] = nx.DiGraph()
        graph.add_nodes_from((op.index, {"op": op}) for op in self.ops)
        graph.add_edges_from((a, b, {"nbytes": n}) for (a, b), n in self._edges.items())
        graph.graph["info"] = TraceInfo(
            inputs=self._inputs,
            weights=self._weights,
            outputs=self._outputs,
            mode=mode,
            tracer=self.device,
            module_types=self.modules.types,
            notes=tuple(dict.fromkeys(self.notes)),
            freed=dict(self.known.freed),
        )
        return graph


_COMPOSITE = torch._C.DispatchKey.CompositeImplicitAutograd


def _decomposed(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The op in terms of simpler ones, as eager PyTorch runs it; ``NotImplemented`` if it is one.

    The compiled decomposition goes first: the Python one of ``dropout``, say, clones in eval mode.
    """
    if func.namespace == "prim":  # questions about a tensor, which the dispatcher does not know
        return NotImplemented
    if torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), _COMPOSITE):
        return func._op_dk(_COMPOSITE, *args, **kwargs)
    return func.decompose(*args, **kwargs)


def target_name(func: torch._ops.OpOverload) -> str:
    """``aten.conv2d`` for ``torch.ops.aten.conv2d.default``."""
    return func._schema.name.replace("::", ".")


def _tensors(value: Any) -> list[torch.Tensor]:
    """The tensors inside nested lists, in order."""
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, (list, tuple)):
        return [tensor for item in value for tensor in _tensors(item)]
    return []


@cache
def _is_ours(filename: str) -> bool:
    return filename.startswith(("<", *_OURS))


def _source_line() -> str | None:
    """``file:line`` of the innermost frame outside torch and this package."""
    frame: FrameType | None = sys._getframe(3)
    while frame is not None:
        if not _is_ours(frame.f_code.co_filename):
            return f"{frame.f_code.co_filename}:{frame.f_lineno}"
        frame = frame.f_back
    return None
