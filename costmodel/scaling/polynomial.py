"""The MACs of a family as an exact polynomial in depth, width and resolution.

At whole multipliers nothing is rounded, and every op's MACs are a product of extents: linear in
the number of layers, at most quadratic in channels, a power of the image's side. So the totals are
polynomials, which are solved for in exact rationals and checked at points that took no part.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from costmodel.errors import CostModelError
from costmodel.ir import symbol

#: (depth, width, resolution) multipliers.
Point = tuple[int, int, int]
#: MACs by kind of op.
Counts = Mapping[str, int]

AXES = ("depth", "width", "resolution")
_POWERS = ((0, 1), (0, 1, 2), (0, 2, 4))
_AT = ((1, 2), (1, 2, 3), (1, 2, 4))
_CHECKS: tuple[Point, ...] = ((3, 1, 1), (1, 4, 2), (3, 2, 2))


@dataclass(frozen=True)
class Polynomial:
    """``terms`` maps powers of (depth, width, resolution) to coefficients; 1, 1, 1 is the base."""

    terms: Mapping[Point, Fraction]

    @property
    def total(self) -> int:
        """The count at the base."""
        return int(sum(self.terms.values()))

    def exponent(self, axis: int) -> float:
        """The local exponent at the base: the logarithmic derivative along an axis."""
        return float(sum(p[axis] * c for p, c in self.terms.items()) / sum(self.terms.values()))

    def degree(self, axis: int) -> int:
        """The exponent in the limit."""
        return max(p[axis] for p in self.terms)

    @property
    def expression(self) -> Any:
        """The polynomial in the symbols d, w and r."""
        import sympy

        d, w, r = (symbol(name) for name in "dwr")
        return sympy.Add(
            *(
                sympy.Rational(c.numerator, c.denominator) * d ** p[0] * w ** p[1] * r ** p[2]
                for p, c in self.terms.items()
            )
        )

    def at(self, point: Point) -> Fraction:
        """The count at multipliers."""
        return sum(
            (c * point[0] ** p[0] * point[1] ** p[1] * point[2] ** p[2]
             for p, c in self.terms.items()),
            start=Fraction(0),
        )  # fmt: skip


def fit(counts: Callable[[Point], Counts]) -> dict[str, Polynomial]:
    """A polynomial for each kind of op, from the networks at 18 whole multipliers.

    Raises `CostModelError` when the counts at other points are not those of the polynomials.
    """
    basis = list(itertools.product(*_POWERS))
    seen = {point: counts(point) for point in itertools.product(*_AT)}
    kinds = dict.fromkeys(kind for found in seen.values() for kind in found)
    found = {}
    for kind in kinds:
        values = {point: Fraction(seen[point].get(kind, 0)) for point in seen}
        terms = _solve(values)
        found[kind] = Polynomial({p: terms[p] for p in basis if terms[p]})
    for point in _CHECKS:
        for kind, count in counts(point).items():
            if kind not in found or found[kind].at(point) != count:
                raise CostModelError(
                    "the MACs are no polynomial in depth, width and resolution "
                    f"({kind} at depth {point[0]}, width {point[1]}, resolution {point[2]}): the "
                    "multipliers do something else than repeat layers, widen them and enlarge the "
                    "image"
                )
    return found


def _solve(values: Mapping[Point, Fraction]) -> dict[Point, Fraction]:
    """Coefficients of the tensor-product basis: one axis after the other."""
    current: dict[tuple[int, ...], Fraction] = {tuple(k): v for k, v in values.items()}
    for axis, (powers, places) in enumerate(zip(_POWERS, _AT, strict=True)):
        inverse = _inverse([[Fraction(x) ** p for p in powers] for x in places])
        rest = {key[:axis] + key[axis + 1 :] for key in current}
        updated: dict[tuple[int, ...], Fraction] = {}
        for key in rest:
            column = [current[(*key[:axis], x, *key[axis:])] for x in places]
            for row, power in zip(inverse, powers, strict=True):
                solved = sum((a * b for a, b in zip(row, column, strict=True)), Fraction(0))
                updated[(*key[:axis], power, *key[axis:])] = solved
        current = updated
    return current  # type: ignore[return-value]


def _inverse(matrix: Sequence[Sequence[Fraction]]) -> list[list[Fraction]]:
    """By Gauss and Jordan, in exact rationals."""
    size = len(matrix)
    rows = [[*row, *(Fraction(i == j) for j in range(size))] for i, row in enumerate(matrix)]
    for i in range(size):
        pivot = next(j for j in range(i, size) if rows[j][i])
        rows[i], rows[pivot] = rows[pivot], rows[i]
        rows[i] = [value / rows[i][i] for value in rows[i]]
        for j in range(size):
            if j != i and rows[j][i]:
                rows[j] = [a - rows[j][i] * b for a, b in zip(rows[j], rows[i], strict=True)]
    return [row[size:] for row in rows]
