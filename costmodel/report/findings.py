"""What was found out about one model: its graph, its table and its prediction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from costmodel.ir import Dim
from costmodel.prediction import Prediction
from costmodel.table import CostTable, Unsupported

if TYPE_CHECKING:
    import networkx as nx


@dataclass(frozen=True)
class Findings:
    """The graph of a model, its cost table, and with a device the prediction.

    Counts are exact integers. Where ``complete`` is false an op has no cost rule, and every total
    is a lower bound.
    """

    target: str
    graph: nx.DiGraph[int]
    table: CostTable
    prediction: Prediction | None = None
    notes: tuple[str, ...] = ()

    @property
    def macs(self) -> Dim:
        """Multiply-accumulates of matrix work."""
        return self.table.total.macs

    @property
    def flops(self) -> Dim:
        """``2 · MACs`` plus the scalar operations outside them."""
        return self.table.total.flops

    @property
    def params(self) -> Dim:
        """Parameters of the model, shared ones once."""
        return self.table.total.params

    @property
    def bytes_read(self) -> Dim:
        """Compulsory reads: each distinct input of each op once, before any fusion."""
        return self.table.total.bytes_read

    @property
    def bytes_written(self) -> Dim:
        """Compulsory writes: each output of each op once, before any fusion."""
        return self.table.total.bytes_written

    @property
    def peak_activation_bytes(self) -> int | None:
        """High-water mark of live activations."""
        return self.table.peak_activation_bytes

    @property
    def latency_s(self) -> float | None:
        """Predicted seconds of one run; ``None`` when no device was named."""
        return self.prediction.latency_s if self.prediction else None

    @property
    def complete(self) -> bool:
        """Whether every op has a cost rule."""
        return self.table.complete

    @property
    def unsupported(self) -> tuple[Unsupported, ...]:
        """The ops without a rule."""
        return self.table.unsupported
