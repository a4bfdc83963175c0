"""The values that flow through costmodel: tensor specs, ops, costs. All symbols are made here.

A dimension is an ``int`` or a sympy expression in positive integer symbols; every function here
works on both. Nothing in this module imports torch.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, Union

if TYPE_CHECKING:
    import networkx as nx
    import sympy

    Dim = Union[int, sympy.Expr]
else:
    Dim = Any

Kind = Literal["activation", "input", "parameter", "buffer"]
Phase = Literal["forward", "backward", "optimizer"]

#: Bytes of one element. Sub-byte types are exact rationals of a byte and do not occur in ATen.
ITEMSIZE: dict[str, int] = {
    "float64": 8, "float32": 4, "float16": 2, "bfloat16": 2,
    "float8_e4m3fn": 1, "float8_e5m2": 1, "float8_e4m3fnuz": 1, "float8_e5m2fnuz": 1,
    "float8_e8m0fnu": 1,
    "complex32": 4, "complex64": 8, "complex128": 16,
    "int64": 8, "int32": 4, "int16": 2, "int8": 1,
    "uint64": 8, "uint32": 4, "uint16": 2, "uint8": 1, "bool": 1,
    "qint8": 1, "quint8": 1, "qint32": 4,
}  # fmt: skip


@cache
def symbol(name: str) -> sympy.Symbol:
    """The positive integer symbol called ``name``. All symbols of costmodel are made here."""
    import sympy

    return sympy.Symbol(name, integer=True, positive=True)


@dataclass(frozen=True, slots=True)
class Recast:
    """A conversion that the model asks for, which is nothing to do where formats are the same.

    ``number`` says which one, in the order in which they ran. ``to``: ``float32``, by that name;
    ``like``, the format of the storage ``like``; ``met``, that of whatever the tensor meets.
    """

    number: int
    to: Literal["float32", "like", "met"]
    like: int = -1

    def same_format(self, other: Recast | None) -> bool:
        """Whether ``other`` asks for the same format."""
        return other is not None and (self.to, self.like) == (other.to, other.like)


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One tensor as an op sees it.

    ``value`` identifies the contents: two reads with equal ``value`` read the same elements, so
    compulsory traffic counts them once. ``storage`` identifies the memory: views share it.
    ``expanded`` lists the dimensions of stride 0, whose elements are stored only once.
    ``channels_last`` says that a 4-D or 5-D tensor is dense with its channels innermost (NHWC).
    ``recast``: it is the answer of a conversion that does nothing in the model's own format.
    ``strides`` are elements from one index to the next of each dimension, of tensors that are not
    ``contiguous``; of those that are, and where sizes are symbols, there are none.
    """

    shape: tuple[Dim, ...]
    dtype: str = "float32"
    value: int = -1
    storage: int = -1
    kind: Kind = "activation"
    expanded: tuple[int, ...] = ()
    contiguous: bool = True
    channels_last: bool = False
    strides: tuple[int, ...] = ()
    recast: Recast | None = None

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def numel(self) -> Dim:
        """Elements that an index can reach, repeated ones included."""
        return math.prod(self.shape)

    @property
    def distinct(self) -> Dim:
        """Elements that are stored: expanded dimensions count once."""
        if not self.expanded:
            return math.prod(self.shape)
        return math.prod(d for i, d in enumerate(self.shape) if i not in self.expanded)

    @property
    def itemsize(self) -> int:
        return ITEMSIZE[self.dtype]

    @property
    def nbytes(self) -> Dim:
        """Bytes that must move to read every stored element once."""
        return self.distinct * ITEMSIZE[self.dtype]

    @property
    def is_float(self) -> bool:
        return self.dtype.startswith(("float", "bfloat", "complex"))


@dataclass(frozen=True, slots=True)
class Op:
    """One call of an ATen op.

    ``args`` and ``kwargs`` mirror the ATen schema, with a `TensorSpec` where a tensor was passed
    and nested tuples where a list was. ``writes`` are the argument tensors that the op mutates.
    """

    index: int
    name: str
    target: str
    overload: str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    outputs: tuple[TensorSpec, ...]
    writes: tuple[TensorSpec, ...] = ()
    module: str = ""
    source: str | None = None
    phase: Phase = "forward"

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """Every tensor argument, in order, with multiplicity."""
        return tuple(tensors((self.args, tuple(self.kwargs.values()))))

    @property
    def out(self) -> TensorSpec:
        """The first output."""
        return self.outputs[0]


def tensors(value: Any) -> Iterator[TensorSpec]:
    """The tensor specs inside nested tuples, in order."""
    if isinstance(value, TensorSpec):
        yield value
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from tensors(item)


@dataclass(frozen=True, slots=True)
class Cost:
    """What one op costs.

    ``macs`` are multiply-accumulates for a matrix unit, ``ops`` scalar operations for a vector
    unit. ``masked_macs`` is the part of ``macs`` that a causal mask makes superfluous. Bytes left
    at ``None`` are filled in as compulsory traffic by `costmodel.rules.cost_of`.
    """

    macs: Dim = 0
    ops: Dim = 0
    bytes_read: Dim | None = None
    bytes_written: Dim | None = None
    masked_macs: Dim = 0
    note: str | None = None

    @property
    def flops(self) -> Dim:
        return 2 * self.macs + self.ops

    @property
    def bytes(self) -> Dim:
        return (self.bytes_read or 0) + (self.bytes_written or 0)

    def with_bytes(self, read: Dim, written: Dim) -> Cost:
        """This cost with its unset byte counts filled in."""
        return replace(
            self,
            bytes_read=read if self.bytes_read is None else self.bytes_read,
            bytes_written=written if self.bytes_written is None else self.bytes_written,
        )


@dataclass(frozen=True, slots=True)
class Weight:
    """A parameter or buffer of the model: all names that share one storage are one weight."""

    names: tuple[str, ...]
    shape: tuple[Dim, ...]
    dtype: str
    storage: int
    kind: Literal["parameter", "buffer"]

    @property
    def numel(self) -> Dim:
        return math.prod(self.shape)

    @property
    def nbytes(self) -> Dim:
        return self.numel * ITEMSIZE[self.dtype]


@dataclass(frozen=True, slots=True)
class TraceInfo:
    """What a trace says of itself, kept as ``graph.graph["info"]``.

    ``tracer`` names the way of tracing that succeeded; ``notes`` are sentences for the report (a
    branch that was taken, a dimension that was specialised). ``freed`` says of each storage that
    was given back during the run how many ops had run by then.
    """

    inputs: tuple[TensorSpec, ...]
    weights: tuple[Weight, ...]
    outputs: tuple[TensorSpec, ...] = ()
    mode: Literal["eval", "train"] = "eval"
    tracer: str = "meta"
    module_types: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    freed: Mapping[int, int] = field(default_factory=dict)


def graph_of(
    ops: Iterable[Op], edges: Mapping[tuple[int, int], Dim], info: TraceInfo
) -> nx.DiGraph[int]:
    """A trace as a graph: ``graph.nodes[i]["op"]``, bytes that flow on the edges, and the info."""
    import networkx as nx

    graph: nx.DiGraph[int] = nx.DiGraph()
    graph.add_nodes_from((op.index, {"op": op}) for op in ops)
    graph.add_edges_from((a, b, {"nbytes": nbytes}) for (a, b), nbytes in edges.items())
    graph.graph["info"] = info
    return graph


def ops_of(graph: nx.DiGraph[int]) -> list[Op]:
    """The ops of a traced graph in the order in which they ran."""
    return [data["op"] for _, data in graph.nodes(data=True)]


def info_of(graph: nx.DiGraph[int]) -> TraceInfo:
    """What the trace says of itself."""
    info: TraceInfo = graph.graph["info"]
    return info
