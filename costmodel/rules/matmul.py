"""Matrix products: linear, mm, bmm, matmul, einsum and their vector forms."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from costmodel.ir import Cost, Dim, TensorSpec
from costmodel.rules.registry import rule

FAMILY = "matmul"


@rule("aten.linear", family=FAMILY)
def linear(
    x: TensorSpec, weight: TensorSpec, bias: TensorSpec | None = None, *, out: TensorSpec
) -> Cost:
    """y = x·Wᵀ + b: in_features MACs for each output element, one add each for the bias."""
    return Cost(out.numel * weight.shape[-1], out.numel if bias is not None else 0)


@rule("aten.mm", "aten.bmm", "aten.matmul", "aten.mv", family=FAMILY)
def product(a: TensorSpec, b: TensorSpec, *, out: TensorSpec, **kwargs: Any) -> Cost:
    """The inner extent, in MACs, for each output element."""
    return Cost(out.numel * a.shape[-1])


@rule("aten.dot", "aten.vdot", "aten.inner", family=FAMILY)
def inner(a: TensorSpec, b: TensorSpec, *, out: TensorSpec) -> Cost:
    """Products over the last extent of both."""
    return Cost(out.numel * (a.shape[-1] if a.ndim else 1))


@rule("aten.outer", "aten.ger", "aten.kron", family=FAMILY)
def outer(a: TensorSpec, b: TensorSpec, *, out: TensorSpec) -> Cost:
    """Every pair multiplied once; nothing is accumulated, so these are scalar operations."""
    return Cost(ops=out.numel)


@rule("aten.addmm", "aten.baddbmm", "aten.addmv", family=FAMILY)
def add_product(
    bias: TensorSpec,
    a: TensorSpec,
    b: TensorSpec,
    *,
    beta: float = 1,
    alpha: float = 1,
    out: TensorSpec,
) -> Cost:
    """β·bias + α·a·b: the product's MACs, one add an element, a multiply for each scale not 1."""
    scales = int(beta not in (0, 1)) + int(alpha != 1)
    adds = int(beta != 0)
    return Cost(out.numel * a.shape[-1], out.numel * (adds + scales))


@rule("aten.addbmm", family=FAMILY)
def addbmm(
    bias: TensorSpec,
    a: TensorSpec,
    b: TensorSpec,
    *,
    beta: float = 1,
    alpha: float = 1,
    out: TensorSpec,
) -> Cost:
    """The batch is summed into one matrix: batch·inner MACs for each output element."""
    scales = int(beta not in (0, 1)) + int(alpha != 1)
    return Cost(out.numel * a.shape[0] * a.shape[-1], out.numel * (int(beta != 0) + scales))


@rule("aten.addr", family=FAMILY)
def addr(
    bias: TensorSpec, a: TensorSpec, b: TensorSpec, *, beta: float = 1, alpha: float = 1,
    out: TensorSpec,
) -> Cost:  # fmt: skip
    """bias + a⊗b: a multiply and an add an element."""
    return Cost(ops=2 * out.numel)


@rule("aten.bilinear", "aten._trilinear", family=FAMILY)
def bilinear(
    a: TensorSpec, b: TensorSpec, weight: TensorSpec, bias: TensorSpec | None = None, *args: Any,
    out: TensorSpec,
) -> Cost:  # fmt: skip
    """y_o = aᵀ·W_o·b + bias: D_a·D_b MACs for a·W_o, then D_b, for each output element."""
    d_a, d_b = weight.shape[1], weight.shape[2]
    return Cost(out.numel * (d_a * d_b + d_b), out.numel if bias is not None else 0)


@rule("aten.einsum", family=FAMILY)
def einsum(
    equation: str, operands: Sequence[TensorSpec], *, path: Any = None, out: TensorSpec
) -> Cost:
    """Pairwise contraction from left to right, as PyTorch does it without ``path``.

    Each contraction multiplies once for every combination of the indices of its two operands that
    are still needed; it is a matrix product when an index is summed away, scalar multiplies when
    none is (or only indices of one value). Summing an index that only one operand has is one add
    an element.
    """
    terms, result = parse_einsum(equation, [spec.ndim for spec in operands])
    extents: dict[str, Dim] = {}
    for term, spec in zip(terms, operands, strict=True):
        for label, extent in zip(term, spec.shape, strict=True):
            if extents.get(label, 1) == 1:
                extents[label] = extent
    macs: Dim = 0
    ops: Dim = 0
    current = terms[0]
    for i, term in enumerate(terms[1:], start=1):
        needed = set(result).union(*map(set, terms[i + 1 :]))
        both = dict.fromkeys(current + term)
        alone = [x for x in both if x not in needed and (x in current) != (x in term)]
        ops = ops + sum(_extent(t, extents) for t in (current, term) if set(alone) & set(t))
        joint = [x for x in both if x not in alone]
        kept = [x for x in joint if x in needed]
        work = _extent(joint, extents)
        if work != _extent(kept, extents):
            macs = macs + work
        else:
            ops = ops + work
        current = "".join(kept)
    if len(terms) == 1 and len(set(current)) > len(set(result)):
        ops = _extent(dict.fromkeys(current), extents)
    return Cost(macs, ops)


def parse_einsum(equation: str, ranks: Sequence[int]) -> tuple[list[str], str]:
    """The index letters of each operand and of the result, ellipses spelled out."""
    left, arrow, right = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    spare = [chr(code) for code in range(0x3B1, 0x3B1 + 32)]
    width = max(
        (r - (len(t) - 3) for t, r in zip(terms, ranks, strict=True) if "..." in t), default=0
    )
    expanded = []
    for term, rank in zip(terms, ranks, strict=True):
        if "..." in term:
            own = rank - (len(term) - 3)
            term = term.replace("...", "".join(spare[width - own : width]))
        expanded.append(term)
    if arrow:
        return expanded, right.replace("...", "".join(spare[:width]))
    letters = "".join(expanded)
    once = sorted(x for x in set(letters) if letters.count(x) == 1 and x not in spare)
    return expanded, "".join(spare[:width]) + "".join(once)


def _extent(labels: Any, extents: dict[str, Dim]) -> Dim:
    return math.prod(extents[label] for label in labels)


@rule("aten.chain_matmul", "aten.linalg_multi_dot", family=FAMILY)
def chain(matrices: Sequence[TensorSpec], *, out: TensorSpec) -> Cost:
    """The cheapest order of multiplication, by the textbook dynamic programme."""
    sizes = [m.shape[0] for m in matrices] + [matrices[-1].shape[-1]]
    count = len(matrices)
    best = [[0] * count for _ in range(count)]
    for span in range(1, count):
        for i in range(count - span):
            j = i + span
            best[i][j] = min(
                best[i][k] + best[k + 1][j] + sizes[i] * sizes[k + 1] * sizes[j + 1]
                for k in range(i, j)
            )
    return Cost(best[0][count - 1])


@rule("aten._cdist_forward", "aten.cdist", "aten._euclidean_dist", family=FAMILY)
def cdist(a: TensorSpec, b: TensorSpec, *args: Any, out: TensorSpec, **kwargs: Any) -> Cost:
    """Pairwise distances: a subtract, a multiply and an add for each coordinate, then a root."""
    return Cost(ops=out.numel * (3 * a.shape[-1] + 1))


@rule("aten.cosine_similarity", family=FAMILY)
def cosine_similarity(
    a: TensorSpec, b: TensorSpec, dim: int = 1, eps: float = 1e-8, *, out: TensorSpec
) -> Cost:
    """Three dot products along ``dim``, then two roots, a product and a division."""
    longest = a if a.numel == out.numel * a.shape[dim] else b
    return Cost(ops=6 * longest.numel + 4 * out.numel)


@rule("aten._grouped_mm", "transformers.grouped_mm_fallback", family=FAMILY)
def grouped_mm(
    a: TensorSpec, b: TensorSpec, offs: TensorSpec | None = None, *args: Any, out: TensorSpec,
    **kwargs: Any,
) -> Cost:  # fmt: skip
    """Rows of ``a`` are split among the matrices of ``b``: every row meets one, whatever the split.

    No more matrices are read than there are rows. In the backward pass the inner extent or the
    columns are split instead, and each of them too is met once.
    """
    if a.ndim == 3 and b.ndim == 3:
        return Cost(out.numel * a.shape[-1])
    macs = a.shape[-2] * a.shape[-1] * b.shape[-1]
    if b.ndim != 3:
        return Cost(macs)
    met = _least(a.shape[0], b.shape[0]) * b.shape[1] * b.shape[2]
    offsets = offs.nbytes if offs is not None else 0
    return Cost(macs, bytes_read=a.nbytes + met * b.itemsize + offsets)


def _least(a: Dim, b: Dim) -> Dim:
    if isinstance(a, int) and isinstance(b, int):
        return min(a, b)
    import sympy

    return sympy.Min(a, b)
