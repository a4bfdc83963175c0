"""Costs of a whole search space as one function of its choices.

``cost_function(Net, {"width1": (16, 24), …}, "1x3x224x224", hw="pixel8")`` traces as many networks
as it takes to know every piece of every network, and then costs a million architectures by looking
the pieces up and composing them. What it says is what a full analysis of the built network says;
that is checked on networks drawn at random, and a space that does not decompose is refused.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from costmodel.costfunction.clocks import Clock, clock_of
from costmodel.costfunction.explore import Progress, Survey, explore
from costmodel.costfunction.pieces import COUNTS
from costmodel.costfunction.space import Space, space_of
from costmodel.costfunction.tabulate import Floats, Ints, tabulated
from costmodel.errors import CostModelError
from costmodel.roofline import predict
from costmodel.setting import Setting, setting

if TYPE_CHECKING:
    from costmodel.costfunction.relaxed import Relaxed

#: Architectures handled at once, so that the columns in work stay in the cache.
_CHUNK = 8192
#: Networks that are built and analysed whole to check the latency, and how well it must agree.
_CHECKS, _TOLERANCE = 6, 1e-6


@dataclass(frozen=True)
class Costs:
    """Arrays with one entry an architecture. ``latency_s`` is ``None`` where no device was named.

    Counts are exact integers; ``peak_activation_bytes`` is the high-water mark of activations.
    """

    macs: Ints
    ops: Ints
    params: Ints
    buffers: Ints
    bytes_read: Ints
    bytes_written: Ints
    peak_activation_bytes: Ints
    latency_s: Floats | None = None

    @property
    def flops(self) -> Ints:
        """2·MACs + ops."""
        return 2 * self.macs + self.ops


class CostFunction:
    """Costs of architectures, many at once: ``f(width1=…, depth1=…)`` or ``f(array)``."""

    def __init__(self, survey: Survey, chosen: Setting | None = None) -> None:
        self.space: Space = survey.space
        self.survey = survey
        self.setting = chosen
        self.clock: Clock | None = clock_of(chosen) if chosen is not None else None
        self.tables = tabulated(survey, self.clock)

    @property
    def traced(self) -> int:
        """How many networks were traced to know them all."""
        return len(self.survey.seen)

    def __call__(self, choices: Any = None, /, **named: Any) -> Costs:
        """Costs of architectures, given as arrays by name or as rows of an integer array.

        Raises `CostModelError` for a value outside the space and for a choice without a value.
        """
        codes = self.space.codes(named if choices is None else choices)
        parts = [self._chunk(codes[i : i + _CHUNK]) for i in range(0, len(codes), _CHUNK)]
        columns = [np.concatenate(found) for found in zip(*parts, strict=True)]
        return Costs(*columns)

    def latency(self, choices: Any = None, /, **named: Any) -> Floats:
        """Seconds of one run of each architecture. Raises `CostModelError` without a device."""
        found = self(choices, **named).latency_s
        if found is None:
            raise CostModelError("no device was named; give cost_function hw=…")
        return found

    def on(self, hw: str | PathLike[str], **options: Any) -> CostFunction:
        """The same space on another device; nothing is traced again."""
        chosen = setting(hw, **options)
        return _checked(CostFunction(self.survey, chosen), options)

    @cached_property
    def relaxed(self) -> Relaxed:
        """The same costs as differentiable torch functions of probabilities over the choices."""
        from costmodel.costfunction.relaxed import Relaxed

        return Relaxed(self.space, self.tables, self.clock)

    def draw(self, count: int, seed: int = 0) -> Ints:
        """``count`` architectures at random, a row of values each."""
        chance = np.random.default_rng(seed)
        return np.column_stack([chance.choice(v, count) for v in self.space.values])

    def _chunk(self, codes: NDArray[np.intp]) -> tuple[Any, ...]:
        counts = np.zeros((len(COUNTS), len(codes)), np.int64)
        peak = np.zeros(len(codes), np.int64)
        columns = []
        for table in self.tables:
            rows = table.rows(codes)
            counts += table.counts[:, rows]
            np.maximum(peak, table.peak[rows], out=peak)
            if self.clock is not None:
                columns.append(table.columns(rows))
        if self.clock is None:
            return (*counts, peak)
        return (*counts, peak, self.clock.latency(columns, np) + np.zeros(len(codes)))


def cost_function(
    builder: Any,
    choices: Mapping[str, Sequence[int]],
    inputs: str | Sequence[str] | None = None,
    *,
    hw: str | PathLike[str] | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> CostFunction:
    """The cost of every network ``builder(**choices)`` as one vectorised function.

    ``choices`` maps arguments to the integers that they may be; ``inputs`` are shapes, whose
    dimensions may name choices (``"1x3x{size}x{size}"``). ``hw`` and ``options`` (dtype, execution,
    layout, threads) are those of `costmodel.predict`. ``progress(traced, left)`` is called after
    every traced network. Raises `CostModelError` when the builder lacks an argument, a network of
    the space cannot be built, or the space does not decompose into pieces of few choices.
    """
    chosen = None if hw is None else setting(hw, **options)
    survey = explore(space_of(builder, choices, inputs), progress)
    return _checked(CostFunction(survey, chosen), options)


def _checked(found: CostFunction, options: Mapping[str, Any]) -> CostFunction:
    """``found``, after comparing it with the full analysis of networks that were not traced.

    Raises `CostModelError` where they differ.
    """
    chance = random.Random(11)
    for _ in range(_CHECKS):
        code = found.space.draw(chance)
        table = found.space.table(code)
        values = np.array([[v[i] for v, i in zip(found.space.values, code, strict=True)]])
        costs = found(values)
        total = table.total
        exact = {name: int(getattr(total, name)) for name in COUNTS}
        exact["peak_activation_bytes"] = int(table.peak_activation_bytes or 0)
        for name, value in exact.items():
            if int(getattr(costs, name)[0]) != value:
                raise CostModelError(
                    f"{found.space.text}: {name} do not add up; cannot be tabulated"
                )
        if found.setting is not None and costs.latency_s is not None:
            whole = predict(table, found.setting.hw, **options).latency_s
            if abs(costs.latency_s[0] - whole) > _TOLERANCE * whole:
                raise CostModelError(
                    f"{found.space.text}: the latency on {found.setting.hw} does not add up over "
                    f"the pieces of the network ({costs.latency_s[0]:.6g} s, in full {whole:.6g} s)"
                )
    return found


__all__ = ["CostFunction", "Costs", "cost_function"]
