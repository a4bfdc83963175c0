"""ONNX Runtime's own kernels (MLAS): folded batch norm, fused activations, blocked channels.

3x3 convolutions run directly on blocks of channels; nothing is copied and nothing transformed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from costmodel.execution.fusion import Fusing, fused, plain_kernel
from costmodel.execution.kernel import Kernel
from costmodel.rules.epilogues import HARD, LEAKY, RELU, SIGMOID, TANH
from costmodel.table import Row

DTYPES = ("fp32", "fp16", "int8")
FUSING = Fusing(
    activations=RELU | HARD | (SIGMOID | TANH | LEAKY),
    additions=True,
    strided=False,
)


def kernels(rows: Sequence[Row], dtype: str) -> list[Kernel]:
    """The kernels of one run; int8 rescales every output in three more operations."""
    found = [plain_kernel(group, dtype) for group in fused(rows, FUSING)]
    if dtype != "int8":
        return found
    return [replace(k, ops=k.ops + 3 * sum(a.nbytes for a in k.writes)) for k in found]
