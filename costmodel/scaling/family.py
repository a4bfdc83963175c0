"""A family of networks: a builder with multipliers of depth and width, at an input size."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from costmodel.errors import CostModelError
from costmodel.rules.geometry import geometry_of
from costmodel.table import CostTable, cost

FAMILIES = Path(__file__).with_name("families.yaml")
#: Sizes of images are rounded to this, as strides and vector units like it.
STEP = 8


@dataclass
class Family:
    """``table(depth, width, size)`` is the cost table of a member; each is traced once."""

    target: str
    size: int = 224
    channels: int = 3
    depth: str = "depth"
    width: str = "width"
    _tables: dict[tuple[float, float, int], CostTable] = field(default_factory=dict)

    def __post_init__(self) -> None:
        from costmodel import targets

        self._recipe = targets.builder(self.target)
        _check_arguments(self.target, self._recipe.function, (self.depth, self.width))

    def member(self, depth: float, width: float) -> str:
        """The target text of a member."""
        text, given = self.target, ""
        if text.endswith(")"):
            text, _, given = text[:-1].partition("(")
        given = f"{given}, " if given else ""
        return f"{text}({given}{self.depth}={depth:.6g}, {self.width}={width:.6g})"

    def table(self, depth: float, width: float, size: int) -> CostTable:
        """The cost table at multipliers of depth and width and an image size.

        Raises `CostModelError` when the builder fails there.
        """
        key = (depth, width, size)
        if key not in self._tables:
            from dataclasses import replace

            from costmodel import targets
            from costmodel.api import trace

            arguments = {**self._recipe.kwargs, self.depth: depth, self.width: width}
            recipe = replace(self._recipe, text=self.member(depth, width), kwargs=arguments)
            module = targets.build(recipe).module
            self._tables[key] = cost(trace(module, f"1x{self.channels}x{size}x{size}"))
        return self._tables[key]


def _check_arguments(target: str, function: Callable[..., Any], wanted: tuple[str, ...]) -> None:
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):
        return
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return
    for name in wanted:
        if name not in parameters:
            have = ", ".join(parameters) or "none"
            raise CostModelError(
                f"{target} has no argument {name!r} to scale; its arguments are {have}: name the "
                "multipliers with --depth-argument and --width-argument"
            )


@cache
def released() -> dict[str, Any]:
    """The families of ``families.yaml``."""
    import yaml

    found: dict[str, Any] = yaml.safe_load(FAMILIES.read_text())
    return found


def builder_of(name: str) -> Family:
    """The builder of a released family, with which members are made that were not released.

    Raises `CostModelError` for a family that is not known or was not made from multipliers.
    """
    known = released()
    if name not in known:
        raise CostModelError(f"no family {name!r}; there are {', '.join(known)}, or give a TARGET")
    found = known[name].get("builder")
    if found is None:
        raise CostModelError(
            f"--search builds networks of its own, and the family {name} has no builder with "
            "multipliers of depth and width; give a TARGET that has"
        )
    size = known[name]["members"][0]["resolution"]
    return Family(found["target"], size, depth=found["depth"], width=found["width"])


def shape(size: int, factor: float) -> int:
    """An image size times ``factor``, to the nearest multiple of `STEP`."""
    return max(STEP, round(size * factor / STEP) * STEP)


def kinds(table: CostTable) -> dict[str, int]:
    """MACs by what scales alike: dense and depthwise layers, gates, the stem, the classifier."""
    rows = [row for row in table.rows if row.cost is not None and row.cost.macs]
    found: dict[str, int] = {}
    for index, row in enumerate(rows):
        geometry = geometry_of(row.op)
        if geometry is not None and geometry.kind == "depthwise":
            kind = "depthwise"
        elif index == 0:
            kind = "stem"
        elif index == len(rows) - 1:
            kind = "classifier"
        elif geometry is not None and geometry.kind == "conv" and _is_gate(row.op.out.shape):
            kind = "squeeze-and-excitation"
        elif geometry is not None and geometry.kind in ("attention", "recurrent"):
            kind = geometry.kind
        else:
            kind = "dense"
        assert row.cost is not None
        found[kind] = found.get(kind, 0) + int(row.cost.macs)
    return found


def _is_gate(dims: tuple[Any, ...]) -> bool:
    """A convolution of a single position works on a pooled image."""
    return all(extent == 1 for extent in dims[2:])
