"""The inner loop of each runtime's matrix product: the tile of outputs that it keeps in registers.

A tile of ``rows`` output positions by ``columns`` output channels decides what is computed in vain
at ragged edges, how many independent chains of multiply-accumulates hide their latency, and how
often an operand is loaded.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Microkernel:
    """``rows`` x ``columns`` outputs in registers; channels come in packs of ``pack``, positions
    in steps of ``step``. ``both_ways``: threads share tiles in both directions, not only channels.
    ``in_turn``: the groups of a convolution run one after another, each on all threads.
    """

    rows: int
    columns: int
    pack: int
    step: int
    both_ways: bool = False
    in_turn: bool = False

    def padded(self, channels: float) -> float:
        """Channels with the last pack filled."""
        return math.ceil(channels / self.pack) * float(self.pack)

    def rounded(self, positions: float) -> float:
        """Positions with the last step filled; a single one is computed alone."""
        if positions <= 1:
            return positions
        return math.ceil(positions / self.step) * float(self.step)


# As in the runtimes' sources: ncnn's sgemm over 4 (fp32) and 8 (fp16) packed channels, XNNPACK's
# f32-gemm 6x8 and f16-gemm 6x16, which compute a whole tile at the edge, Paddle-Lite's 8x12.
_NCNN = {
    "fp32": Microkernel(12, 8, 4, 4, in_turn=True),
    "fp16": Microkernel(12, 8, 8, 4, in_turn=True),
    "int8": Microkernel(8, 8, 8, 4, in_turn=True),
    "int16": Microkernel(8, 8, 8, 4, in_turn=True),
}
_XNNPACK = {
    "fp32": Microkernel(6, 8, 8, 6, True),
    "fp16": Microkernel(6, 16, 8, 6, True),
    "int8": Microkernel(4, 16, 8, 4, True),
}
_PADDLE = {
    "fp32": Microkernel(8, 12, 4, 4),
    "fp16": Microkernel(8, 16, 8, 4),
    "int8": Microkernel(8, 12, 4, 4),
}
_PLAIN = {
    "fp32": Microkernel(6, 16, 8, 1, True),
    "fp16": Microkernel(6, 16, 8, 1, True),
    "int8": Microkernel(6, 16, 8, 1, True),
}
_BY_EXECUTION = {
    "ncnn": _NCNN,
    "tflite": _XNNPACK,
    "xnnpack": _XNNPACK,
    "onnxruntime": _XNNPACK,
    "paddle-lite": _PADDLE,
}


def microkernel_of(execution: str, dtype: str) -> Microkernel:
    """The tile that ``execution`` uses for ``dtype``; other formats compute as fp32 does."""
    table = _BY_EXECUTION.get(execution, _PLAIN)
    return table.get(dtype, table["fp32"])
