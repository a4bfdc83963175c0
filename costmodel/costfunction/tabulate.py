"""The pieces of a space as arrays: a row for each combination of choices that one depends on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import networkx as nx
import numpy as np
from numpy.typing import NDArray

from costmodel.costfunction.clocks import Clock
from costmodel.costfunction.explore import Survey
from costmodel.costfunction.pieces import COUNTS
from costmodel.errors import CostModelError

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class PieceTable:
    """A piece by the choices it depends on: ``counts`` and ``numbers`` have a row a combination."""

    choices: tuple[int, ...]
    shape: tuple[int, ...]
    counts: Ints
    peak: Ints
    numbers: Floats

    def rows(self, codes: NDArray[np.intp]) -> NDArray[np.intp]:
        """The row of each architecture."""
        found = np.zeros(len(codes), np.intp)
        for choice, extent in zip(self.choices, self.shape, strict=True):
            found = found * extent + codes[:, choice]
        return found

    def columns(self, rows: NDArray[np.intp]) -> list[Any]:
        """The numbers of each architecture by column; a plain one where no choice changes it."""
        found: list[Any] = list(self.numbers[:, 0])
        for column, values in zip(self._varying, self._varied[:, rows], strict=True):
            found[column] = values
        return found

    @cached_property
    def _varying(self) -> list[int]:
        return [int(i) for i in np.flatnonzero(np.ptp(self.numbers, axis=1))]

    @cached_property
    def _varied(self) -> Floats:
        return self.numbers[self._varying]


def tabulated(survey: Survey, clock: Clock | None) -> list[PieceTable]:
    """The pieces of a space in the order of its layers, with the numbers that ``clock`` asks for.

    Raises `CostModelError` where that order depends on the choices.
    """
    try:
        names = list(nx.lexicographical_topological_sort(survey.order))
    except nx.NetworkXUnfeasible:
        raise CostModelError(
            f"{survey.space.text}: the order of its layers depends on the choices"
        ) from None
    floor = _floor(survey, names, clock) if clock is not None else 0.0
    return [_table(survey, name, clock, floor) for name in names]


def _floor(survey: Survey, names: Sequence[str], clock: Clock) -> float:
    """A lower bound for the bytes that any network of the space touches."""
    weights, largest = 0.0, 0.0
    for name in names:
        found = [
            clock.footprint(piece) if piece is not None else (0.0, 0.0)
            for piece in survey.pieces[name]
        ]
        present = {number for number, _ in survey.entries[name].values()}
        used = [pair for number, pair in enumerate(found) if number in present]
        weights += min(pair[0] for pair in used)
        largest = max(largest, min(pair[1] for pair in used))
    return weights + largest


def _table(survey: Survey, name: str, clock: Clock | None, floor: float) -> PieceTable:
    choices = tuple(sorted(survey.depends[name]))
    shape = tuple(len(survey.space.values[i]) for i in choices)
    pieces = survey.pieces[name]
    counts = np.array([p.counts if p else (0,) * len(COUNTS) for p in pieces], np.int64)
    peak = np.array([p.peak if p else 0 for p in pieces], np.int64)
    found: list[Floats] = [np.zeros(0)] * len(pieces)
    if clock is not None:
        found = [clock.absent if p is None else clock.features(p, floor) for p in pieces]
    width = max(map(len, found))
    numbers = np.array([np.pad(row, (0, width - len(row))) for row in found])
    which = np.zeros(shape, np.intp)
    for combo, (number, _) in survey.entries[name].items():
        which[combo] = number
    flat = which.ravel()
    # Columns first, so that a gather yields each column in one piece of memory.
    return PieceTable(
        choices, shape, np.ascontiguousarray(counts[flat].T), peak[flat],
        np.ascontiguousarray(numbers[flat].T),
    )  # fmt: skip
