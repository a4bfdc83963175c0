"""Symbols in place of sizes: the only module that knows how torch reasons about shapes.

A `Session` gives torch symbolic integers, runs a module on fake tensors of such sizes under the
same recorder that traces numbers, and turns torch's expressions into sympy's. What torch had to
assume on the way, its guards, becomes the domain in which the result holds.
"""

from __future__ import annotations

import contextlib
import logging
import numbers
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from types import SimpleNamespace
from typing import Any

import networkx as nx
import sympy
import torch
from torch import nn
from torch._dynamo.source import ConstantSource
from torch._subclasses import FakeTensor, FakeTensorMode
from torch.fx.experimental.symbolic_shapes import DimDynamic, ShapeEnv
from torch.nn import init
from torch.nn.modules import normalization
from torch.utils._python_dispatch import TorchDispatchMode

from costmodel.expressions import TRANSLATION, convert
from costmodel.identity import dim_of
from costmodel.ir import info_of, symbol
from costmodel.recorder import Recorder
from costmodel.tracer import run
from costmodel.tracer import trace as trace_numbers

#: A tensor to make: its shape, in ints and symbolic ints, and torch's name of its dtype.
Input = tuple[Sequence[Any], str]


class Session:
    """Symbolic integers of one trace. ``hints`` are sizes at which the module is known to run.

    A trace that takes longer than ``limit_s`` seconds raises `TimeoutError`. Where the code under
    trace branches on a size, torch takes the branch of the hint and notes a guard. Hints should
    differ from each other and from 1, or a coincidence becomes a guard.
    """

    def __init__(self, hints: Mapping[str, int], limit_s: float = 60.0) -> None:
        self.hints = dict(hints)
        self.limit_s = limit_s
        self.environment = ShapeEnv(duck_shape=False, specialize_zero_one=False)
        self.mode = FakeTensorMode(shape_env=self.environment, allow_non_fake_inputs=True)
        self.mode.cache_enabled = False  # keys made of symbols cost more than they save
        self.integers: dict[str, Any] = {}
        self._ours: dict[sympy.Symbol, sympy.Symbol] = {}
        self._known: dict[sympy.Expr, Any] = {}
        for name, hint in hints.items():
            source = ConstantSource(name)
            theirs = self.environment.create_symbol(hint, source, DimDynamic.DYNAMIC)
            self._ours[theirs] = symbol(name)
            self.integers[name] = self.environment.create_symintnode(
                theirs, hint=hint, source=source
            )

    @contextlib.contextmanager
    def active(self) -> Iterator[None]:
        """Inside, tensors are fake and sizes come in the symbols of this session."""
        token = TRANSLATION.set(self.expression)
        try:
            with self.mode:
                yield
        finally:
            TRANSLATION.reset(token)

    def expression(self, expr: sympy.Expr) -> Any:
        """Our form of an expression of this session, an ``int`` where it is a number."""
        found = self._known.get(expr)
        if found is None:
            found = self._known[expr] = convert(expr, self._ours)
        return found

    def specialised(self) -> dict[str, int]:
        """Symbols that the code forced to one value, with that value."""
        fixed = {}
        for theirs, ours in self._ours.items():
            value = self.environment.replace(theirs)
            if value.is_Integer:
                fixed[ours.name] = int(value)
        return fixed

    def guards(self) -> list[sympy.Basic]:
        """What torch assumed, as relations between our symbols, those always true left out."""
        found: dict[sympy.Basic, None] = {}
        for guard in self.environment.guards:
            relation = _balanced(convert(guard.expr, self._ours))
            if relation not in (True, sympy.true):
                found[relation] = None
        return list(found)


def _balanced(relation: Any) -> Any:
    """A relation between sums with what both sides share gone, and no minus sign left."""
    if not isinstance(relation, sympy.core.relational.Relational):
        return relation
    sides = sympy.Add.make_args(relation.lhs - relation.rhs)
    if relation.lhs.is_Add + relation.rhs.is_Add == 0 or relation.has(sympy.Mod):
        return relation
    left = [term for term in sides if not term.could_extract_minus_sign()]
    right = [-term for term in sides if term.could_extract_minus_sign()]
    return relation.func(sympy.Add(*left), sympy.Add(*right))


# -- running ---------------------------------------------------------------------------------


def trace(session: Session, model: nn.Module, inputs: Sequence[Input]) -> nx.DiGraph[int]:
    """Trace ``model`` on fake tensors; the graph's specs carry sympy expressions.

    Raises whatever the model raises where it cannot be run so.
    """
    _heads_innermost()  # asked before any mode is on
    with _quiet(), session.active(), _faked(model):
        tensors = [torch.empty(shape, dtype=getattr(torch, dtype)) for shape, dtype in inputs]
        recorder = Recorder(model, "symbolic")
        fast = torch.backends.mha.get_fastpath_enabled()
        torch.backends.mha.set_fastpath_enabled(False)  # as for numbers, on the meta device
        try:
            with Shortcuts(time.monotonic() + session.limit_s):
                run(recorder, model, tensors, {}, "eval", None)
        finally:
            torch.backends.mha.set_fastpath_enabled(fast)
        return recorder.graph("eval")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without torch's own reports of an op that refuses symbols: the caller asks another way."""
    logger = logging.getLogger("torch._subclasses.fake_tensor")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(level)


class Shortcuts(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Below the recorder: ops whose result looks like an argument are not run.

    On symbolic sizes they decompose into dozens of ops, and a network takes twice as long. After
    the ``deadline``, in seconds of the monotonic clock, the next op raises `TimeoutError`.
    """

    def __init__(self, deadline: float) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.deadline = deadline

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        if time.monotonic() > self.deadline:
            raise TimeoutError("tracing it on symbols takes too long")
        name = func._schema.name.removeprefix("aten::")
        if name.removesuffix("_") in _ALIKE:
            return args[0] if name.endswith("_") else torch.empty_like(args[0])
        if name in _ROWWISE and args[0].is_contiguous():
            return torch.empty_like(args[0])
        if name == "linear":
            return args[0].new_empty((*args[0].shape[:-1], args[1].shape[0]))
        if name in ("pad", "constant_pad_nd") and args[0].is_contiguous():
            return args[0].new_empty(_padded(args[0].shape, args[1]))  # torch's wants numbers
        if name in ("gru", "rnn_tanh", "rnn_relu") and len(args) == 9:
            return _recurrent_output(args[0], args[1], *args[7:])
        if name == "scaled_dot_product_attention":
            return _attention_output(args[0], args[2])
        if name in _BINARY and _same_layout(*args[:2]):
            return args[0] if name.endswith("_") else torch.empty_like(args[0])
        return func(*args, **(kwargs or {}))


#: Ops whose only output has the shape, dtype and strides of their first argument.
_ALIKE = {
    "relu", "relu6", "leaky_relu", "hardtanh", "hardsigmoid", "hardswish", "sigmoid", "silu",
    "tanh", "softplus", "mish", "elu", "celu", "selu", "gelu", "dropout", "feature_dropout",
    "batch_norm",
}  # fmt: skip
#: The same for dense row-major arguments.
_ROWWISE = {"layer_norm", "softmax", "rms_norm"}
_BINARY = {"add", "add_", "mul", "mul_", "sub", "sub_"}


def _padded(shape: Sequence[Any], pad: Sequence[Any]) -> list[Any]:
    """A shape with ``pad`` added: pairs of before and after, from the last dimension on."""
    sizes = list(shape)
    for i in range(len(pad) // 2):
        sizes[-1 - i] = sizes[-1 - i] + pad[2 * i] + pad[2 * i + 1]
    return sizes


def _recurrent_output(
    x: torch.Tensor, state: torch.Tensor, bidirectional: bool, batch_first: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Empty results of a recurrent layer: torch would unroll it, step by step."""
    width = state.shape[-1] * (2 if bidirectional else 1)
    first, second = x.shape[:2]
    if batch_first:
        return x.new_empty((second, first, width)).transpose(0, 1), torch.empty_like(state)
    return x.new_empty((first, second, width)), torch.empty_like(state)


def _attention_output(query: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """An empty result of attention, laid out as a trace with numbers has it."""
    *heads, length, _ = query.shape
    if _heads_innermost() and len(heads) == 2:
        return query.new_empty((heads[0], length, heads[1], value.shape[-1])).transpose(1, 2)
    return query.new_empty((*heads, length, value.shape[-1]))


@cache
def _heads_innermost() -> bool:
    """Whether attention writes (batch, length, heads, width), as fused kernels do."""

    class Attention(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return nn.functional.scaled_dot_product_attention(x, x, x)

    graph = trace_numbers(Attention(), [torch.empty((2, 3, 5, 7), device="meta")])
    return not info_of(graph).outputs[0].contiguous


def _same_layout(a: Any, b: Any) -> bool:
    """Whether two tensors have the same dtype and, expression by expression, the same layout."""
    if not isinstance(a, torch.Tensor) or not isinstance(b, torch.Tensor) or a.dtype != b.dtype:
        return False
    return a.ndim == b.ndim and all(
        dim_of(x) == dim_of(y)
        for x, y in zip((*a.shape, *a.stride()), (*b.shape, *b.stride()), strict=True)
    )


@contextlib.contextmanager
def _faked(model: nn.Module) -> Iterator[None]:
    """The model with fake tensors in place of its weights, for as long as the block lasts."""
    twins: dict[int, Any] = {}
    restore: list[tuple[dict[str, Any], str, Any]] = []
    for module in model.modules():
        for table in (module._parameters, module._buffers):
            for name, tensor in table.items():
                if tensor is None or isinstance(tensor, FakeTensor):
                    continue
                if id(tensor) not in twins:
                    twin = torch.empty_strided(
                        tensor.shape, tensor.stride(), dtype=tensor.dtype, device="cpu"
                    )
                    is_parameter = isinstance(tensor, nn.Parameter)
                    twins[id(tensor)] = nn.Parameter(twin, False) if is_parameter else twin
                restore.append((table, name, tensor))
                table[name] = twins[id(tensor)]
    recurrent = [m for m in model.modules() if isinstance(m, nn.RNNBase)]
    flat = [m._flat_weights for m in recurrent]
    for module in recurrent:
        module._flat_weights = [getattr(module, name) for name in module._flat_weights_names]
    try:
        yield
    finally:
        for table, name, tensor in restore:
            table[name] = tensor
        for module, weights in zip(recurrent, flat, strict=True):
            module._flat_weights = weights


@contextlib.contextmanager
def constructing() -> Iterator[None]:
    """Let torch's own modules be built with symbolic integers.

    Initial values are skipped (they cost nothing and would look into the sizes), and type checks
    for integers accept symbolic ones.
    """
    changes: list[tuple[Any, str, Any]] = [
        (init, name, _unchanged)
        for name in vars(init)
        if name.endswith("_") and not name.startswith("_")
    ]
    changes += [
        (init, "_calculate_fan_in_and_fan_out", lambda _: (1, 1)),
        (normalization, "numbers", SimpleNamespace(Integral=(numbers.Integral, torch.SymInt))),
    ]
    saved = [(owner, name, getattr(owner, name)) for owner, name, _ in changes]
    for owner, name, value in changes:
        setattr(owner, name, value)
    try:
        yield
    finally:
        for owner, name, value in saved:
            setattr(owner, name, value)


def _unchanged(tensor: Any, *_: Any, **__: Any) -> Any:
    return tensor
