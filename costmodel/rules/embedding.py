"""Look-ups: embedding, gather, index, scatter. They read what they pick, not the whole table."""

from __future__ import annotations

from typing import Any

from costmodel.ir import Cost, Dim, TensorSpec, tensors
from costmodel.rules.registry import rule

FAMILY = "embedding"


def _picked(out: TensorSpec, *indices: TensorSpec) -> Dim:
    """Bytes read by a gather: one element for each output element, and the indices."""
    total: Dim = out.numel * out.itemsize
    for index in indices:
        total = total + index.nbytes
    return total


@rule("aten.embedding", family=FAMILY)
def embedding(
    weight: TensorSpec, indices: TensorSpec, *args: Any, out: TensorSpec, **kwargs: Any
) -> Cost:
    """No arithmetic: the gathered rows are read and written."""
    return Cost(bytes_read=_picked(out, indices))


@rule(
    "aten.embedding_bag", "aten._embedding_bag", "aten._embedding_bag_forward_only", family=FAMILY
)
def embedding_bag(
    weight: TensorSpec, indices: TensorSpec, *args: Any, out: Any, **kwargs: Any
) -> Cost:
    """Rows of a bag are added: one add for each gathered element."""
    gathered = indices.numel * weight.shape[1]
    read = gathered * weight.itemsize + indices.nbytes
    return Cost(ops=gathered, bytes_read=read)


@rule(
    "aten.gather", "aten.index_select", "aten.take", "aten.take_along_dim",
    "aten.masked_select", family=FAMILY,
)  # fmt: skip
def gather(x: TensorSpec, *args: Any, out: TensorSpec, **kwargs: Any) -> Cost:
    """Each output element is one read."""
    return Cost(bytes_read=_picked(out, *tensors(args)))


@rule("aten.index", "aten._unsafe_index", family=FAMILY)
def index(x: TensorSpec, indices: Any, *, out: TensorSpec) -> Cost:
    """Advanced indexing: each output element is one read."""
    return Cost(bytes_read=_picked(out, *tensors(indices)))


@rule(
    "aten.index_put", "aten.index_put_", "aten._index_put_impl_", "aten._unsafe_index_put",
    family=FAMILY,
)  # fmt: skip
def index_put(
    x: TensorSpec, indices: Any, values: TensorSpec, accumulate: bool = False, *args: Any,
    out: TensorSpec,
) -> Cost:  # fmt: skip
    """Values are written where the indices point; accumulating adds to what was there."""
    touched = _broadcast(values, indices)
    moved = touched * x.itemsize
    read = moved * int(accumulate) + values.nbytes + sum(t.nbytes for t in tensors(indices))
    return Cost(ops=touched if accumulate else 0, bytes_read=read, bytes_written=moved)


def _broadcast(values: TensorSpec, indices: Any) -> Dim:
    sizes = [t.numel for t in tensors(indices)]
    if values.numel == 1 and sizes:
        return max(sizes) if all(isinstance(s, int) for s in sizes) else sizes[0]
    return values.numel


@rule(
    "aten.scatter", "aten.scatter_", "aten.index_copy", "aten.index_copy_", "aten.index_fill",
    "aten.index_fill_", "aten.masked_scatter", "aten.masked_scatter_", "aten.put_",
    family=FAMILY,
)  # fmt: skip
def scatter(x: TensorSpec, *args: Any, out: TensorSpec, **kwargs: Any) -> Cost:
    """A copy of the destination (in place: none) with elements overwritten."""
    return Cost()


@rule(
    "aten.scatter_add", "aten.scatter_add_", "aten.index_add", "aten.index_add_",
    "aten.scatter_reduce", "aten.scatter_reduce_", "aten.index_reduce", "aten.index_reduce_",
    family=FAMILY,
)  # fmt: skip
def scatter_add(x: TensorSpec, dim: int, index: TensorSpec, src: Any, *args: Any,
                out: TensorSpec, **kwargs: Any) -> Cost:  # fmt: skip
    """One add, or one compare, for each scattered element."""
    return Cost(ops=src.numel if isinstance(src, TensorSpec) else index.numel)


@rule("aten.one_hot", family=FAMILY)
def one_hot(x: TensorSpec, *args: Any, out: TensorSpec, **kwargs: Any) -> Cost:
    """Zeros and one write a row."""
    return Cost()


@rule("aten.embedding_dense_backward", "aten._embedding_bag_dense_backward", family=FAMILY)
def embedding_backward(grad: TensorSpec, *args: Any, out: TensorSpec, **kwargs: Any) -> Cost:
    """One add for each gathered element, into a table of zeros."""
    return Cost(ops=grad.numel)
