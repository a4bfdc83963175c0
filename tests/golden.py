"""Golden rows: what an op costs, as a value, and how to find out what it costs here."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from counting import Function, meta

from costmodel import rules
from costmodel.identity import dtype_name
from costmodel.ir import Cost, Op, TensorSpec
from costmodel.table import cost
from costmodel.tracer import trace


@dataclass(frozen=True)
class Row:
    """``torch.ops.NAMESPACE.NAME(*args, **kwargs)`` costs so much; bytes are checked if given.

    ``op`` is of ``aten`` unless it names another namespace. An op that runs on no tensor without
    data says what it returns: ``out``.
    """

    op: str
    args: tuple[Any, ...]
    macs: int = 0
    ops: int = 0
    read: int | None = None
    written: int | None = None
    kwargs: dict[str, Any] = field(default_factory=dict)
    out: tuple[torch.Tensor, ...] | None = None

    @property
    def target(self) -> str:
        """``aten.linear``."""
        return self.op if "." in self.op else f"aten.{self.op}"

    @property
    def function(self) -> Any:
        """The rule's function."""
        return rules.registry._RULES[self.target].function


def c(op: str, *args: Any, macs: int = 0, ops: int = 0, read: int | None = None,
      written: int | None = None, returns: Any = None, **kwargs: Any) -> Row:  # fmt: skip
    """A row; ``returns`` is what an op that cannot run here would return."""
    out = (returns,) if isinstance(returns, torch.Tensor) else returns
    return Row(op, args, macs, ops, read, written, kwargs, out)


def check(row: Row) -> None:
    """Hold the rule to the row."""
    found = _traced(row) if row.out is None else _asked(row)
    assert (found.macs, found.ops) == (row.macs, row.ops)
    assert isinstance(found.macs, int)
    assert isinstance(found.ops, int)
    if row.read is not None:
        assert found.bytes_read == row.read
    if row.written is not None:
        assert found.bytes_written == row.written


def _traced(row: Row) -> Cost:
    namespace, name = row.target.split(".")
    op = getattr(getattr(torch.ops, namespace), name)
    table = cost(trace(Function(lambda: op(*row.args, **row.kwargs)), ()))
    assert [r.op.target for r in table] == [row.target], "recorded whole, and alone"
    (line,) = table
    assert line.cost is not None
    return line.cost


def _asked(row: Row) -> Cost:
    """The cost of a call that is written out instead of traced."""
    seen: dict[int, TensorSpec] = {}

    def spec(value: Any) -> Any:
        if isinstance(value, (list, tuple)):
            return tuple(map(spec, value))
        if not isinstance(value, torch.Tensor):
            return value
        number = len(seen)
        dtype = dtype_name(value.dtype)
        return seen.setdefault(id(value), TensorSpec(tuple(value.shape), dtype, number, number))

    assert row.out is not None
    kwargs = {name: spec(value) for name, value in row.kwargs.items()}
    op = Op(0, "op", row.target, "default", spec(row.args), kwargs, spec(row.out))
    found = rules.cost_of(op)
    assert found is not None
    return found


def i(*shape: int) -> torch.Tensor:
    return meta(*shape, dtype=torch.int64)


def b(*shape: int) -> torch.Tensor:
    return meta(*shape, dtype=torch.bool)


def z(*shape: int) -> torch.Tensor:
    return meta(*shape, dtype=torch.complex64)


def i8(*shape: int) -> torch.Tensor:
    return meta(*shape, dtype=torch.int8)


X = meta(2, 3)  # 6 elements, 24 bytes
IMAGE = meta(1, 8, 6, 6)  # 288 elements
SEQUENCE = meta(5, 2, 8)  # 5 steps of 2 samples
Q = meta(1, 4, 16, 8)  # 4 heads, 16 positions, 8 wide
ON = 0.1
