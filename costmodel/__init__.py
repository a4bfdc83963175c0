"""costmodel: what a neural network costs, and how long it takes.

The public names are imported when they are first used, so that ``import costmodel`` stays light
and does not load torch.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from costmodel.api import analyze, trace
    from costmodel.battery import battery_hours
    from costmodel.costfunction import cost_function
    from costmodel.errors import CostModelError
    from costmodel.formula import formula
    from costmodel.report import Report
    from costmodel.roofline import predict
    from costmodel.table import CostTable, cost

_HOME = {
    "analyze": "costmodel.api",
    "trace": "costmodel.api",
    "battery_hours": "costmodel.battery",
    "predict": "costmodel.roofline",
    "cost": "costmodel.table",
    "cost_function": "costmodel.costfunction",
    "CostTable": "costmodel.table",
    "CostModelError": "costmodel.errors",
    "Report": "costmodel.report",
    "formula": "costmodel.formula",
}

__all__ = [
    "CostModelError",
    "CostTable",
    "Report",
    "analyze",
    "battery_hours",
    "cost",
    "cost_function",
    "formula",
    "predict",
    "trace",
]


class _Package(ModuleType):
    """A package whose public names stay what they are when a submodule has the same name.

    Importing ``costmodel.formula`` would otherwise put the module in the function's place.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _HOME and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'costmodel' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_HOME[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
