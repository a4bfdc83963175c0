"""The kernels of a piece, launched as they are in the whole network."""

from __future__ import annotations

from typing import Any, TypeAlias

from costmodel.costfunction.pieces import Piece
from costmodel.execution import kernels_of
from costmodel.execution.formats import AMP
from costmodel.execution.kernel import Kernel
from costmodel.setting import Setting

#: Columns of numbers of one piece for many architectures; numpy arrays or torch tensors.
Columns: TypeAlias = Any


def kernels_in(piece: Piece, chosen: Setting) -> tuple[list[Kernel], list[Kernel]]:
    """Kernels of the piece before, for context, and those of the piece.

    Autocast follows formats from the network's first op on, so that there everything in front is
    the context. Who reads what the piece passes on is context too.
    """
    context = piece.earlier if chosen.dtype in AMP else piece.before
    own = {row.op.name for row in piece.rows}
    ahead = {row.op.name for row in context}
    rows = (*context, *piece.rows, *piece.after)
    front: list[Kernel] = []
    inside: list[Kernel] = []
    for kernel in kernels_of(rows, chosen.execution, chosen.format, piece.batch, chosen.lanes):
        if own.intersection(_ops(kernel)):
            inside.append(kernel)
        elif ahead.intersection(_ops(kernel)):
            front.append(kernel)
    return front, inside


def _ops(kernel: Kernel) -> list[str]:
    """Op names of a kernel; parts of an op are written ``op.part``."""
    return [name for full in kernel.names for name in (full, full.rpartition(".")[0])]
