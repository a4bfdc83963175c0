"""Ops that are registered as free: views of the same memory, and questions about a tensor."""

from __future__ import annotations

from costmodel.rules.registry import free

free(
    "aten.view", "aten._unsafe_view", "aten._reshape_alias", "aten.alias", "aten.detach",
    "aten.detach_", "aten.expand", "aten.permute", "aten.transpose", "aten.transpose_",
    "aten.t", "aten.t_", "aten.slice", "aten.select", "aten.split", "aten.split_with_sizes",
    "aten.unbind", "aten.unsqueeze", "aten.unsqueeze_", "aten.squeeze", "aten.squeeze_",
    "aten.as_strided", "aten.as_strided_", "aten.diagonal", "aten.unfold", "aten.view_as_real",
    "aten.view_as_complex", "aten._conj", "aten._neg_view", "aten.real", "aten.imag",
    "aten.lift_fresh", "aten.swapaxes", "aten.movedim", "aten.chunk", "aten.narrow",
    "aten.set_", "aten._nested_view_from_buffer", "aten._values", "aten._indices",
    "aten._fw_primal", "aten._make_dual", "aten.values", "aten.indices", "aten.mT", "aten.mH",
    "aten.unsafe_split",
    "aten.unsafe_chunk", "aten.unsafe_split_with_sizes", "aten._unpack_dual",
    family="views",
)  # fmt: skip

free(
    "aten.size", "aten.stride", "aten.storage_offset", "aten.is_contiguous", "aten.sym_size",
    "aten.sym_stride", "aten.sym_numel", "aten.sym_storage_offset", "aten.numel", "aten.dim",
    "aten.is_same_size", "aten._assert_async", "aten._assert_tensor_metadata",
    "aten._assert_scalar", "aten.sym_constrain_range", "aten.sym_constrain_range_for_size",
    "aten._local_scalar_dense", "aten.item", "aten.is_nonzero",
    "aten._has_compatible_shallow_copy_type", "aten.record_stream", "aten.requires_grad_",
    family="metadata",
)  # fmt: skip
