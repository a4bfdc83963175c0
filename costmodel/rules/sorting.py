"""Sorting and searching: comparisons."""

from __future__ import annotations

from typing import Any

from costmodel.ir import Cost, Dim, TensorSpec
from costmodel.rules.registry import rule

FAMILY = "sorting"


def _levels(n: Dim) -> Dim:
    """⌈log₂ n⌉."""
    if isinstance(n, int):
        return max(n - 1, 0).bit_length()
    import sympy

    return sympy.ceiling(sympy.log(n, 2))


@rule("aten.sort", "aten.argsort", "aten.msort", family=FAMILY)
def sort(x: TensorSpec, *args: Any, out: Any, **kwargs: Any) -> Cost:
    """⌈log₂ n⌉ compares an element (merge sort); ``dim`` is the last one unless given."""
    given = [a for a in args if isinstance(a, int) and not isinstance(a, bool)]
    axis = kwargs.get("dim", given[0] if given else -1)
    extent = x.shape[axis] if x.ndim else 1
    return Cost(ops=x.numel * _levels(extent))


@rule("aten.topk", "aten.kthvalue", family=FAMILY)
def topk(x: TensorSpec, k: Dim, *args: Any, out: Any, **kwargs: Any) -> Cost:
    """One compare an element against a heap of k, and ⌈log₂ k⌉ for each element kept."""
    kept = out[0].numel
    return Cost(ops=x.numel + kept * _levels(k))


@rule("aten.searchsorted", "aten.bucketize", family=FAMILY)
def searchsorted(a: TensorSpec, b: TensorSpec, *args: Any, out: TensorSpec, **kwargs: Any) -> Cost:
    """Binary search: ⌈log₂ n⌉ compares for each value."""
    edges = a if a.numel != out.numel else b
    return Cost(ops=out.numel * _levels(edges.shape[-1]))


@rule(
    "aten._unique2", "aten.unique_dim", "aten.unique_consecutive", "aten.unique_dim_consecutive",
    family=FAMILY,
)  # fmt: skip
def unique(x: TensorSpec, *args: Any, out: Any, **kwargs: Any) -> Cost:
    """A sort and one more compare an element."""
    return Cost(ops=x.numel * (_levels(x.numel) + 1))


@rule("aten.nonzero", "aten.nonzero_static", "aten.argwhere", family=FAMILY)
def nonzero(x: TensorSpec, *args: Any, out: TensorSpec, **kwargs: Any) -> Cost:
    """One compare an element."""
    return Cost(ops=x.numel)


@rule("torchvision.nms", family=FAMILY)
def nms(boxes: TensorSpec, scores: TensorSpec, *args: Any, out: TensorSpec) -> Cost:
    """Every pair of boxes in the worst case: intersection and union are 12 operations."""
    pairs = boxes.shape[0] * (boxes.shape[0] - 1) // 2
    return Cost(ops=12 * pairs, note="worst case: no box is suppressed early")
