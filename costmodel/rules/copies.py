"""Views on runtimes whose tensors have no strides: what they copy, and what they need not."""

from __future__ import annotations

from costmodel.ir import Op

#: Views that a runtime without strides has to copy: in another order, or a part.
_REORDERS = {"permute", "transpose", "swapaxes", "swapdims", "movedim", "moveaxis", "t"}
_SPLITS = {"split", "split_with_sizes", "chunk"}
_PARTS = {"select", "slice", "narrow", "unbind", "unfold"} | _SPLITS

#: Views whose results are several tensors, or the same one by another name.
SPLITS = frozenset(f"aten.{name}" for name in _SPLITS)
RENAMES = frozenset({"aten.alias"})
#: What puts tensors one after another into a new one.
JOINS = frozenset({"aten.cat"})


def reorders(op: Op) -> bool:
    """Whether ``op`` is a view in another order, other than that of matrices transposed."""
    name = op.target.partition(".")[2]
    if name not in _REORDERS or not op.inputs:
        return False
    source, out = op.inputs[0].shape, op.out.shape
    return not transposes(op) and sorted(map(str, source)) == sorted(map(str, out))


def transposes(op: Op) -> bool:
    """Whether ``op`` is a view of matrices transposed, which a product may take as they are."""
    if op.target.partition(".")[2] not in ("transpose", "t") or not op.inputs:
        return False
    return op.inputs[0].shape[:-2] == op.out.shape[:-2]


def takes_part(op: Op) -> bool:
    """Whether ``op`` is a view of a part of its input."""
    return op.target.partition(".")[2] in _PARTS


def makes_contiguous(op: Op) -> bool:
    """Whether ``op`` copies a tensor only to have its elements in order."""
    name = op.target.partition(".")[2]
    return name in ("clone", "contiguous") and not op.inputs[0].contiguous
