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
#: Views that show elements several times.
REPEATS = frozenset({"aten.expand"})
#: What puts tensors one after another into a new one.
JOINS = frozenset({"aten.cat"})
_SIDE_BY_SIDE = JOINS | {
    f"aten.{name}" for name in ("concat", "stack", "hstack", "vstack", "dstack")
}
#: What puts a border around a tensor, and what gives it another format.
PADS = frozenset({"aten.pad", "aten.constant_pad_nd"})
CASTS = frozenset({"aten.to", "aten._to_copy"})
#: What copies a tensor as a whole, in another order or format.
_COPIES = frozenset(f"aten.{name}" for name in ("clone", "copy", "_reshape_copy")) | CASTS
#: Views of the same elements in the same sequence, and views that drop an axis.
RESHAPES = frozenset(
    f"aten.{name}"
    for name in ("view", "_unsafe_view", "reshape", "_reshape_alias", "unsqueeze", "squeeze")
)
DROPS = frozenset({"aten.select", "aten.unbind"})


def parts_of(op: Op) -> int:
    """The tensors that ``op`` puts one after another into a new one; 0 of other ops."""
    return len(op.inputs) if op.target in _SIDE_BY_SIDE else 0


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


def copies(op: Op) -> bool:
    """Whether ``op`` copies a tensor as a whole, into a new one or in place."""
    return op.target.removesuffix("_") in _COPIES


def permutation(op: Op) -> tuple[int, ...] | None:
    """The axis of its input that each axis of a view is; ``None`` of other ops."""
    name, rank = op.target.partition(".")[2], op.out.ndim if op.outputs else 0
    if not op.inputs or op.inputs[0].ndim != rank:
        return None
    axes = list(range(rank))
    match name, op.args[1:]:
        case "permute", (dims,):
            return tuple(dim % rank for dim in dims)
        case (("transpose" | "swapaxes" | "swapdims"), (int(one), int(other))):
            axes[one], axes[other] = axes[other], axes[one]
        case (("t" | "mT" | "mH"), ()):
            axes[-2:] = reversed(axes[-2:])
        case (("movedim" | "moveaxis"), (source, target)):
            pairs = zip(_places(target, rank), _places(source, rank), strict=True)
            axes = [axis for axis in axes if axis not in _places(source, rank)]
            for place, axis in sorted(pairs):
                axes.insert(place, axis)
        case _:
            return None
    return tuple(axes)


def _places(dims: int | tuple[int, ...], rank: int) -> tuple[int, ...]:
    return tuple(dim % rank for dim in ((dims,) if isinstance(dims, int) else dims))


def takes_part(op: Op) -> bool:
    """Whether ``op`` is a view of a part of its input."""
    return op.target.partition(".")[2] in _PARTS


def makes_contiguous(op: Op) -> bool:
    """Whether ``op`` copies a tensor only to have its elements in order."""
    name = op.target.partition(".")[2]
    return name in ("clone", "contiguous") and not op.inputs[0].contiguous
