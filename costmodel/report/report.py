"""The report: what was found out about one model, with every way to tell it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from costmodel.report.findings import Findings

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Report(Findings):
    """What a model costs; with a ``prediction``, what that takes on a device.

    Counts are exact integers. Where ``complete`` is false an op has no cost rule, and every total
    is a lower bound.
    """

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
