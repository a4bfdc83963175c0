"""The report: a value with the graph, the table and the prediction of one model."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from costmodel.ir import Dim
from costmodel.prediction import Prediction
from costmodel.table import CostTable, Unsupported

if TYPE_CHECKING:
    import networkx as nx
    import pandas as pd


@dataclass(frozen=True)
class Report:
    """What a model costs; with a ``prediction``, what that takes on a device.

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

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain values: the object that ``analyze --format json`` prints."""
        from costmodel.report.formats import to_dict

        return to_dict(self)

    def to_json(self) -> str:
        """`to_dict` as indented JSON."""
        return json.dumps(self.to_dict(), indent=2, allow_nan=False, ensure_ascii=False)

    def to_dataframe(self) -> pd.DataFrame:
        """One row per op, with the columns of ``ops`` in the JSON. Needs pandas."""
        from costmodel.report.formats import to_dataframe

        return to_dataframe(self)

    def to_markdown(self) -> str:
        """Totals and the module tree as Markdown tables."""
        from costmodel.report.formats import to_markdown

        return to_markdown(self)

    def __str__(self) -> str:
        from costmodel.report.terminal import text

        return text(self)

    def __repr__(self) -> str:
        return f"Report({self.target!r}, macs={self.macs}, params={self.params})"

    def _repr_html_(self) -> str:
        from costmodel.report.notebook import to_html

        return to_html(self)
