"""The formula of one op's counts: a product in the field's symbols, with this op's numbers.

A product is shown only if it gives the row's count exactly; otherwise there is just the number.
"""

from __future__ import annotations

import math
from typing import Any

from costmodel.ir import Op, TensorSpec
from costmodel.rules.geometry import geometry_of
from costmodel.table import Row

#: A factor: its symbol (``C_out``; ``C_in/g``) and its value here.
Factor = tuple[str, int]
_SPACE = {1: ("L",), 2: ("H", "W"), 3: ("D", "H", "W")}
_TAPS = {1: ("k",), 2: ("k_h", "k_w"), 3: ("k_d", "k_h", "k_w")}


def macs(row: Row) -> list[Factor]:
    """The factors of the row's MACs; empty where there are none, or no product gives them."""
    if row.cost is None or not isinstance(row.cost.macs, int) or not row.cost.macs:
        return []
    for make in (_convolution, _linear, _attention, _product):
        found = make(row.op)
        if found and math.prod(value for _, value in found) == row.cost.macs:
            return found
    return []


def ops(row: Row) -> list[Factor]:
    """The factors of the row's scalar operations: a whole number for each element of a tensor."""
    if row.cost is None or not isinstance(row.cost.ops, int) or not row.cost.ops:
        return []
    op = row.op
    for spec in [*op.outputs[:1], *op.inputs[:1]]:
        elements = spec.numel
        if isinstance(elements, int) and elements and row.cost.ops % elements == 0:
            each = row.cost.ops // elements
            return [("", each)] * (each != 1) + _sizes(spec)
    return []


def _sizes(spec: TensorSpec) -> list[Factor]:
    """The extents of a tensor by their usual names."""
    shape: Any = spec.shape
    names: tuple[str, ...] = {
        1: ("N",), 2: ("N", "C"), 3: ("N", "L", "C"), 4: ("N", "C", "H", "W"),
        5: ("N", "C", "D", "H", "W"),
    }.get(len(shape), tuple(f"d_{i}" for i in range(len(shape))))  # fmt: skip
    return list(zip(names, shape, strict=True))


def _convolution(op: Op) -> list[Factor]:
    """N · C_out · H · W · C_in/g · k_h · k_w, or over the input's positions when transposed."""
    shape = geometry_of(op)
    if shape is None or shape.kind not in ("conv", "depthwise") or len(op.inputs) < 2:
        return []
    weight: Any = op.inputs[1].shape
    anchor: Any = (op.inputs[0] if shape.transposed else op.out).shape
    rank = len(weight) - 2
    if rank not in _SPACE or len(anchor) != rank + 2:
        return []
    names = ("C_in", "C_out/g") if shape.transposed else ("C_out", "C_in/g")
    inner = names[1] if weight[1] == 1 or shape.groups != 1 else names[1].removesuffix("/g")
    here = list(zip(("N", names[0], *_SPACE[rank]), anchor, strict=True))
    return [*here, (inner, weight[1]), *zip(_TAPS[rank], weight[2:], strict=True)]


def _linear(op: Op) -> list[Factor]:
    """Rows · C_in · C_out, for a product with a weight."""
    shape = geometry_of(op)
    if shape is None or shape.kind != "gemm" or op.inputs[1].kind != "parameter":
        return []
    out: Any = op.out.shape
    lead = list(zip(("N", "L") if len(out) == 3 else ("N",), out[:-1], strict=False))
    if len(lead) != len(out) - 1:
        lead = [("N", math.prod(out[:-1]))]
    return [*lead, ("C_in", _int(shape.k)), ("C_out", out[-1])]


def _attention(op: Op) -> list[Factor]:
    """2 · N·h · L · S · d: scores, and their product with the values."""
    shape = geometry_of(op)
    if shape is None or shape.kind != "attention":
        return []
    lead: Any = op.inputs[0].shape[:-2]
    heads = list(zip(("N", "h"), lead, strict=True)) if len(lead) == 2 else []
    return [
        ("", 2),
        *(heads or [("b", _int(shape.groups))]),
        ("L", _int(shape.m)),
        ("S", _int(shape.n)),
        ("d", _int(shape.k)),
    ]


def _product(op: Op) -> list[Factor]:
    """groups · m · n · k, for whatever is a matrix product."""
    shape = geometry_of(op)
    if shape is None:
        return []
    factors: list[Factor] = [("m", _int(shape.m)), ("n", _int(shape.n)), ("k", _int(shape.k))]
    if shape.groups != 1:
        factors.insert(0, ("b", _int(shape.groups)))
    if shape.steps != 1:
        factors.append(("T", _int(shape.steps)))
    return factors


def _int(value: Any) -> int:
    return int(value)
