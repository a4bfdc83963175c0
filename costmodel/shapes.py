"""Outputs of ops that torch cannot run on the meta device, or refuses there for no shape's sake."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch._prims_common import suggest_memory_format


def grouped_mm(
    a: torch.Tensor,
    b: torch.Tensor,
    offs: torch.Tensor | None = None,
    bias: torch.Tensor | None = None,  # noqa: ARG001
    out_dtype: torch.dtype | None = None,
) -> torch.Tensor:
    """Rows, columns or the inner extent of a matrix split among groups; torch wants bfloat16.

    (M, K) with (G, K, N) gives (M, N); (G, M, K) with (K, N) gives (M, N); (M, K) with (K, N), its
    inner extent split, gives (G, M, N); (G, M, K) with (G, K, N) gives (G, M, N).
    """
    rows, columns = a.shape[-2], b.shape[-1]
    if a.ndim == 2 and b.ndim == 2:
        assert offs is not None
        shape: tuple[int, ...] = (offs.shape[0], rows, columns)
    elif a.ndim == 3 and b.ndim == 3:
        shape = (a.shape[0], rows, columns)
    else:
        shape = (rows, columns)
    return a.new_empty(shape, dtype=out_dtype or a.dtype)


def quantized_linear(
    x: torch.Tensor,
    packed: torch.ScriptObject,
    reduce_range: bool = False,  # noqa: ARG001
) -> torch.Tensor:
    """(…, in) to (…, out) in the dtype of ``x``."""
    weight, _ = torch.ops.quantized.linear_unpack(packed)
    return x.new_empty((*x.shape[:-1], weight.shape[0]))


def _laid_out(name: str) -> Callable[..., torch.Tensor]:
    """A convolution whose output has its channels innermost when its input or weight has.

    So do cuDNN's and oneDNN's; on the meta device torch always answers channels first.
    """
    convolution = getattr(torch.ops.aten, name)

    def run(x: torch.Tensor, weight: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        out: torch.Tensor = convolution(x, weight, *args, **kwargs)
        for tensor in (x, weight):
            wanted = suggest_memory_format(tensor)
            if out.ndim == tensor.ndim and wanted is not torch.contiguous_format:
                return torch.empty_like(out, memory_format=wanted)
        return out

    return run


SHAPES: dict[str, Callable[..., Any]] = {
    **{
        f"aten.{name}": _laid_out(name)
        for name in ("conv2d", "conv3d", "convolution", "conv_transpose2d", "conv_transpose3d")
    },
    "aten._grouped_mm": grouped_mm,
    "quantized.linear_dynamic": quantized_linear,
    "quantized.linear_relu_dynamic": quantized_linear,
}
