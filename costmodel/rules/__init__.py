"""Cost rules: one file per op family, ATen op in, `Cost` out. Nothing else knows an op by name.

Third parties add rules by an entry point in the group ``costmodel.rules`` that names a module;
importing it registers its rules.
"""

from __future__ import annotations

import importlib
from importlib.metadata import entry_points

from costmodel.rules.registry import (
    Rule,
    cost_of,
    distinct_bytes,
    family_of,
    free,
    is_free,
    is_known,
    rule,
    targets,
)

FAMILIES = (
    "attention",
    "backward",
    "convolution",
    "creation",
    "elementwise",
    "embedding",
    "fft",
    "interpolation",
    "loss",
    "matmul",
    "movement",
    "normalization",
    "optimizer",
    "pooling",
    "quantized",
    "random",
    "recurrent",
    "reduction",
    "sorting",
    "views",
)

for _family in FAMILIES:
    importlib.import_module(f"costmodel.rules.{_family}")
for _plugin in entry_points(group="costmodel.rules"):
    _plugin.load()

__all__ = [
    "Rule",
    "cost_of",
    "distinct_bytes",
    "family_of",
    "free",
    "is_free",
    "is_known",
    "rule",
    "targets",
]
