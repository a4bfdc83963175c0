"""What is asked: a recipe for modules, its arguments and input sizes, some of them symbols."""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from costmodel.errors import CostModelError
from costmodel.formula import arithmetic

if TYPE_CHECKING:
    from torch import nn

    from costmodel.table import CostTable

Values = Mapping[str, int]

#: Sizes to try for an argument, by what its name contains; the first that matches counts.
_USUAL: tuple[tuple[tuple[str, ...], tuple[int, ...]], ...] = (
    (("kernel", "patch"), (3, 5, 7, 4, 2)),
    (("stride",), (2, 3, 4)),
    (("pad",), (2, 3, 4, 5)),
    (("dilat",), (2, 3, 4)),
    (("group", "reduction", "squeeze"), (4, 2, 8, 3, 6, 16)),
    (("head",), (4, 2, 8, 6, 3)),
    (("depth", "layer", "block", "repeat"), (3, 2, 4, 5, 6, 7)),
    (("expan", "ratio", "mult", "copies"), (6, 4, 3, 2, 5)),
)
_WIDTHS = (48, 96, 24, 72, 120, 144, 192, 16, 32, 64, 128, 80)
_SIZES = (56, 64, 48, 40, 80, 96, 32, 128, 224, 256)
_BATCHES = (3, 5, 7, 9)


@dataclass(frozen=True, slots=True)
class Shape:
    """An input: expressions for its dimensions, and torch's name of its dtype."""

    dims: tuple[str, ...]
    dtype: str = "float32"


@dataclass(frozen=True)
class Problem:
    """Modules and inputs as functions of symbols.

    ``build`` takes values for the symbols (ints, or torch's symbolic ones). ``arguments`` are the
    symbols that the constructor takes, ``sizes`` those that only inputs have. ``pools`` are values
    worth trying for each.
    """

    text: str
    build: Callable[[Mapping[str, Any]], nn.Module]
    shapes: tuple[Shape, ...]
    arguments: tuple[str, ...]
    sizes: tuple[str, ...]
    pools: Mapping[str, tuple[int, ...]]
    meanings: Mapping[str, str] = field(default_factory=dict)

    @property
    def symbols(self) -> tuple[str, ...]:
        return self.sizes + self.arguments

    def table(self, values: Values) -> CostTable:
        """The cost table at numbers. Raises `CostModelError` where the module cannot be run."""
        from costmodel.inputs import Shape as Tensor
        from costmodel.table import cost
        from costmodel.tracer import trace

        shapes = self.dimensions(values)
        if any(min(dims, default=1) < 1 for dims, _ in shapes):
            raise CostModelError(f"{self.text}: an input of no elements")
        inputs = [Tensor(tuple(dims), dtype).tensor() for dims, dtype in shapes]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # sizes are tried here that no person would
            return cost(trace(self.build(values), inputs))

    def dimensions(self, values: Mapping[str, Any]) -> list[tuple[list[Any], str]]:
        """The inputs' shapes at ``values``, and their dtypes."""
        return [
            ([arithmetic.evaluate(d, values) for d in shape.dims], shape.dtype)
            for shape in self.shapes
        ]

    def draws(self, count: int) -> Iterator[dict[str, int]]:
        """Assignments to try, the same every time: first the likeliest value of each symbol.

        Values differ from each other where they can, as equal ones may take a branch of their own;
        the second assignment, all of the likeliest values, and every third from there may repeat.
        """
        chance = random.Random(20)
        for attempt in range(count):
            values: dict[str, int] = {}
            for name in self.symbols:
                pool = list(self.pools[name])
                if attempt % 3 != 1:
                    pool = [v for v in pool if v not in values.values()] or pool
                values[name] = pool[0] if attempt < 2 else chance.choice(pool)
            yield values


def pool_of(argument: str, default: Any) -> tuple[int, ...]:
    """Sizes to try for a constructor's argument, its default first when that is no edge case."""
    words, usual = next((u for u in _USUAL if any(w in argument for w in u[0])), ((), None))
    if "depth" in words and usual is not None:
        return usual  # shallow networks are the quick ones
    if isinstance(default, bool) or not isinstance(default, int) or default < 1:
        return usual or _WIDTHS
    if default == 1:
        return usual or (2, 3, 4, 5)
    near = (2 * default, 3 * default, 4 * default, 6 * default) if usual is None else usual
    half = (default // 2,) if default % 2 == 0 and default > 2 else ()
    return tuple(dict.fromkeys((default, *near, *half)))


def pool_of_size(name: str, extent: int | None) -> tuple[int, ...]:
    """Sizes to try for an input's dimension, from the extent that the target itself suggests."""
    if name in ("N", "B") or extent == 1:
        return _BATCHES
    if extent is None or extent < 2:
        return _SIZES
    steps = (8, 32, 64) if extent % 8 == 0 else (1, 2, 3)
    return tuple(dict.fromkeys((extent, *(extent + step for step in steps), 2 * extent)))


def point(values: Values, names: Sequence[str] | None = None) -> str:
    """``N=4, H=224`` for an error message."""
    return ", ".join(f"{name}={values[name]}" for name in (names or values))
