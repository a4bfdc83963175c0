"""Copies: bytes move, nothing is computed. Views move nothing and are in `views`."""

from __future__ import annotations

from typing import Any

from costmodel.ir import Cost, Dim, TensorSpec
from costmodel.rules.registry import distinct_bytes, rule

FAMILY = "movement"


@rule(
    "aten.clone", "aten.cat", "aten.concat", "aten.stack", "aten.hstack", "aten.vstack",
    "aten.repeat", "aten.tile", "aten.repeat_interleave", "aten.roll", "aten.flip",
    "aten.fliplr", "aten.flipud", "aten.rot90", "aten.constant_pad_nd", "aten.pad",
    "aten.reflection_pad1d", "aten.reflection_pad2d", "aten.reflection_pad3d",
    "aten.replication_pad1d", "aten.replication_pad2d", "aten.replication_pad3d",
    "aten._pad_circular", "aten.pixel_shuffle", "aten.pixel_unshuffle", "aten.channel_shuffle",
    "aten.native_channel_shuffle", "aten.im2col", "aten.col2im",
    "aten.tril", "aten.triu", "aten.tril_", "aten.triu_", "aten.diag_embed",
    "aten.block_diag", "aten.meshgrid", "aten.combinations", "aten.cartesian_prod",
    "aten._reshape_copy", "aten.view_copy", "aten.expand_copy", "aten.permute_copy",
    "aten.slice_copy", "aten.select_copy", "aten.split_with_sizes_copy", "aten.split_copy",
    "aten.unsqueeze_copy", "aten.squeeze_copy", "aten.transpose_copy", "aten.t_copy",
    "aten.as_strided_copy", "aten.unfold_copy", "aten.diagonal_copy", "aten.view_as_real_copy",
    "aten.resolve_conj", "aten.resolve_neg", "aten._to_dense", "aten.to_padded_tensor",
    "aten._efficientzerotensor", "aten._nested_tensor_from_mask", "aten.diag",
    family=FAMILY,
)  # fmt: skip
def move(*args: Any, out: Any, **kwargs: Any) -> Cost:
    """Inputs are read once, outputs written once."""
    return Cost()


@rule("aten.copy_", "aten.copy", "aten.set_data", family=FAMILY)
def copy(destination: TensorSpec, source: TensorSpec, *args: Any, out: TensorSpec) -> Cost:
    """The source is read; what the destination held is not."""
    return Cost(bytes_read=source.nbytes)


@rule("aten.lift_fresh_copy", "aten.lift", family=FAMILY)
def lift(x: TensorSpec, *, out: TensorSpec) -> Cost:
    """A constant of the program becomes a tensor."""
    return Cost()


@rule(
    "aten.slice_scatter", "aten.select_scatter", "aten.diagonal_scatter",
    "aten.as_strided_scatter", family=FAMILY,
)  # fmt: skip
def view_scatter(x: TensorSpec, source: TensorSpec, *args: Any, out: TensorSpec) -> Cost:
    """A copy of ``x`` with a region taken from ``source``."""
    kept: Dim = x.nbytes - source.nbytes
    return Cost(bytes_read=kept + source.nbytes)


@rule("aten.resize_", "aten.resize_as_", family=FAMILY)
def resize(x: TensorSpec, *args: Any, out: TensorSpec, **kwargs: Any) -> Cost:
    """Memory is reserved; nothing moves."""
    return Cost(bytes_read=0, bytes_written=0)


__all__ = ["distinct_bytes", "move"]
