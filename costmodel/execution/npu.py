"""A neural accelerator's compiler: everything fused that a tile can take while it is on the chip.

Vendors' compilers (QNN, TFLite delegates, ONNX Runtime providers) fold batch norm, put activations
and residual additions into the epilogue, clamp in the pass of a batch norm that stays by itself,
and keep activations in the on-chip memory.
"""

from __future__ import annotations

from collections.abc import Sequence

from costmodel.execution.fusion import Fusing, fused, plain_kernel
from costmodel.execution.kernel import Kernel
from costmodel.rules.epilogues import HARD, RELU, SMOOTH
from costmodel.table import Row

DTYPES = ("fp16", "int8")
#: Where the floats that a caller hands to an int8 network are narrowed to bytes, by the runtime
#: that a run names: on the accelerator or, by ONNX Runtime, on the CPU before it. TFLite's
#: converted networks take bytes.
NARROWED = {"qnn_dlc": "accelerator", "onnx": "cpu"}
FUSING = Fusing(
    activations=RELU | HARD | SMOOTH, after_addition=RELU, after_norm=RELU, additions=True
)


def narrowed(dtype: str, caller: str | None) -> str | None:
    """Where the input of a network becomes int8, if it has to: a key of the machine model."""
    return NARROWED.get(caller or "") if dtype == "int8" else None


def kernels(rows: Sequence[Row], dtype: str) -> list[Kernel]:
    """The kernels of one run."""
    return [plain_kernel(group, dtype) for group in fused(rows, FUSING)]
