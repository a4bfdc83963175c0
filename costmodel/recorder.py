"""Writes down every ATen op that runs, as `Op` values in a graph.

A dispatch mode below autograd sees composite ops (``linear``, ``conv2d``,
``scaled_dot_product_attention``) whole: those that a rule knows are kept so, the others are
decomposed. Tensors that are not on the meta device are replaced by meta twins at the first op that
mixes them in, so weights are neither copied nor computed with.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, Literal

import torch
import torch.utils._pytree as pytree
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode, is_traceable_wrapper_subclass_type

from costmodel import rules
from costmodel.control_flow import larger_branch
from costmodel.conversions import noticing, recast_of
from costmodel.dataflow import Dataflow
from costmodel.dispatch import Plan, decomposed, plan_of
from costmodel.identity import Identities, dim_of, dtype_name
from costmodel.ir import Op, Phase, Recast, TensorSpec, TraceInfo, graph_of
from costmodel.modules import ModulePath
from costmodel.origins import Names, source_line
from costmodel.shapes import SHAPES
from costmodel.weights import Packed, register_weights

if TYPE_CHECKING:
    import networkx as nx


class Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """One trace: what ran, on which tensors, for which module, from which line.

    ``device`` names the way of tracing: ``meta`` (no data), ``cpu`` (for real), or ``symbolic``
    (fake tensors whose sizes are symbols). ``channels_last``: inputs of four dimensions come so.
    """

    supports_higher_order_operators = True

    def __init__(self, model: nn.Module, device: str, channels_last: bool = False) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.device = device
        self._channels_last = channels_last
        self.notes: list[str] = []
        self.modules = ModulePath(model)
        self.flow = Dataflow()
        self.known = Identities(self.flow.forget)
        self._packed = Packed()
        self._weights = register_weights(model, self.known, self._packed)
        self._phase: Phase = "forward"
        self._twins: dict[int, torch.Tensor] = {}
        self._sequence: dict[int, str] = {}
        self._recasts = 0
        self._names = Names()
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
            if self._channels_last and tensor.ndim == 4:
                tensor = tensor.contiguous(memory_format=torch.channels_last)
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
                stack.enter_context(noticing(self.known.origin, self._converted))
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
        plan = plan_of(func)
        if not isinstance(func, torch._ops.OpOverload):
            if func is not torch.ops.higher_order.cond:
                return self._whole(plan, func, args, kwargs)
            with self:
                return self._cond(*args, **kwargs)
        if types and any(map(is_traceable_wrapper_subclass_type, types)):
            return NotImplemented  # the wrapper's own ops come back here one by one
        if not rules.is_known(plan.target):
            with self:
                result = decomposed(func, args, kwargs)
            if result is not NotImplemented:
                return result
        return self._whole(plan, func, args, kwargs)

    def _whole(self, plan: Plan, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run an op and write it down."""
        used: list[torch.Tensor] = []
        frozen_args = tuple([self._freeze(a, used) for a in args])
        frozen_kwargs = {name: self._freeze(value, used) for name, value in kwargs.items()}
        mutated = _mutated(plan, args, kwargs) if plan.writes else []
        run: Any = func
        if self.device == "meta":
            args, kwargs = self._on_meta(used, args, kwargs)
            if plan.target in SHAPES and any(tensor.is_meta for tensor in used):
                run = SHAPES[plan.target]
        result = run(*args, **kwargs)
        self._record(plan, frozen_args, frozen_kwargs, used, mutated, result)
        return result

    def _record(
        self,
        plan: Plan,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        used: list[torch.Tensor],
        mutated: list[torch.Tensor],
        result: Any,
    ) -> None:
        leaves = [result] if isinstance(result, torch.Tensor) else _tensors(result)
        if not leaves and not mutated:
            return
        flow, spec = self.flow, self.known.spec
        index = len(flow.ops)
        recasts: dict[int, Recast] = {}
        for tensor in used:
            flow.read(id(tensor), spec(tensor), index)
            if (recast := spec(tensor).recast) is not None:
                recasts[spec(tensor).storage] = recast
        for tensor in mutated:
            self.known.forget(tensor)
            flow.made(id(tensor), index)
            flow.written(spec(tensor), index)
        for leaf in leaves:
            flow.made(id(leaf), index)
        if recasts:
            for leaf in leaves:
                if (recast := recasts.get(spec(leaf).storage)) is not None:
                    self.known.recast(leaf, recast)
        module = self._module()
        source = source_line() if self._phase == "forward" else None
        outputs = tuple([spec(leaf) for leaf in leaves])
        writes = tuple([spec(tensor) for tensor in mutated])
        name = self._names.unique(module, plan.target)
        self.known.clock = index + 1
        flow.ops.append(
            Op(index, name, plan.target, plan.overload, args, kwargs, outputs, writes, module,
               source, self._phase)
        )  # fmt: skip

    def _cond(self, pred: Any, true_fn: Any, false_fn: Any, operands: Sequence[Any] = ()) -> Any:
        """``torch.cond``: both branches are traced, the one with more work is kept."""
        chosen, result = larger_branch(self.flow, (true_fn, false_fn), operands)
        self.notes.append(
            f"torch.cond in {self.modules.here or 'the model'}: counted the larger branch "
            f"({('true', 'false')[chosen]}); the other one is not part of the totals"
        )
        return result

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

    def _converted(
        self, tensor: torch.Tensor, origin: TensorSpec | int | None, by_name: bool
    ) -> torch.Tensor:
        """What a conversion returns that does nothing: a name of its own for the same elements.

        Where gradients flow, and with symbolic sizes, only weights are told, by their only name.
        """
        spec = self.known.spec(tensor)
        self._recasts += 1
        recast = recast_of(self._recasts, origin, by_name)
        if spec.dtype != "float32" or recast.same_format(spec.recast):
            return tensor
        weight = spec.kind in ("parameter", "buffer")
        if torch.is_grad_enabled() or self.device == "symbolic":
            if weight:
                self.known.recast(tensor, recast)
            return tensor
        if recast.to == "met" and not weight:
            return tensor
        with torch._C._DisableTorchDispatch():
            answer = torch.ops.aten.alias(tensor)
        self.flow.same(id(answer), id(tensor))
        self.known.recast(answer, recast)
        return answer  # type: ignore[no-any-return]

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

    # -- result ----------------------------------------------------------------------------

    def graph(self, mode: Literal["eval", "train"]) -> nx.DiGraph[int]:
        """Everything recorded, as a graph."""
        self.known.close()
        info = TraceInfo(
            inputs=self._inputs,
            weights=self._weights,
            outputs=self._outputs,
            mode=mode,
            tracer=self.device,
            module_types=self.modules.types,
            notes=tuple(dict.fromkeys(self.notes)),
            freed=dict(self.known.freed),
        )
        return graph_of(self.flow.ops, self.flow.edges, info)


def _mutated(plan: Plan, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[torch.Tensor]:
    """The tensors among the arguments that the op's schema says it writes."""
    found: list[torch.Tensor] = []
    for position, name in plan.writes:
        found += _tensors(args[position] if position < len(args) else kwargs.get(name))
    return found


def _tensors(value: Any) -> list[torch.Tensor]:
    """The tensors inside nested lists, in order."""
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, (list, tuple)):
        return [tensor for item in value for tensor in _tensors(item)]
    return []
