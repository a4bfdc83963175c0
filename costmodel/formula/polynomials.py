"""Polynomials through exact points: which powers a count has, and their rational coefficients."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import sympy
from sympy.polys.domains import QQ
from sympy.polys.matrices import DomainMatrix
from sympy.polys.matrices.exceptions import DMNonInvertibleMatrixError

from costmodel.errors import CostModelError
from costmodel.formula.problem import Values
from costmodel.formula.samples import Key, Sample, Traces
from costmodel.ir import symbol

#: Exponents to try for one symbol, simplest first.
_EXPONENTS = ((0,), (0, 1), (0, 1, 2), (-1, 0, 1), (0, 1, 2, 3), (-1, 0, 1, 2), (0, 1, 2, 3, 4))
#: Points beyond those that the form needs, at which it must already be right.
CHECKS = 3


def exponents_of(traces: Traces, name: str) -> tuple[int, ...]:
    """The exponents of one symbol, from traces along it with the others at their hints.

    Raises `CostModelError` where none of the forms tried passes through all of eight points.
    """
    line: list[tuple[int, Sample]] = []
    pool = traces.problem.pools[name]
    grown = tuple(dict.fromkeys((*pool, *(k * pool[-1] for k in (2, 3, 4, 5)))))
    for value in grown:
        sample = traces.at({**traces.hints, name: value})
        if sample is None:
            continue
        line.append((value, sample))
        for exponents in _EXPONENTS:
            if len(line) > len(exponents) + 1 and _fits(line, exponents):
                return exponents
        if len(line) == 8:
            break
    last = f"; {traces.why}" if len(line) < 3 and traces.why else ""
    raise CostModelError(
        f"no formula for {traces.problem.text}: its counts are no polynomial of {name}, by traces "
        f"at {name} = {', '.join(str(v) for v, _ in line)}{last}"
    )


def _fits(line: Sequence[tuple[int, Sample]], exponents: Sequence[int]) -> bool:
    keys = {key for _, sample in line for key in sample}
    rows = [[sympy.Rational(v) ** e for e in exponents] for v, _ in line]
    square = rows[: len(exponents)]
    inverse = _inverse(square)
    if inverse is None:
        return False
    for key in keys:
        values = [sample.get(key, sympy.S.Zero) for _, sample in line]
        found = [
            sum(a * b for a, b in zip(row, values[: len(exponents)], strict=True))
            for row in inverse
        ]
        for row, value in zip(rows[len(exponents) :], values[len(exponents) :], strict=True):
            if sum(a * b for a, b in zip(row, found, strict=True)) != value:
                return False
    return True


def _inverse(rows: Sequence[Sequence[sympy.Rational]]) -> list[list[Any]] | None:
    matrix = DomainMatrix([[QQ(r.p, r.q) for r in row] for row in rows], (len(rows),) * 2, QQ)
    try:
        return matrix.inv().to_Matrix().tolist()  # type: ignore[no-any-return]
    except DMNonInvertibleMatrixError:
        return None


def points_of(
    traces: Traces, basis: Sequence[tuple[int, ...]]
) -> tuple[list[dict[str, int]], list[dict[str, int]]]:
    """Points that determine every coefficient of ``basis``, and others to check them at.

    Raises `CostModelError` where too few of the sizes tried can be traced.
    """
    chance = random.Random(3)
    points: list[dict[str, int]] = []
    checks: list[dict[str, int]] = []
    rank = 0
    pools = {n: [*traces.problem.pools[n], *(2 * v for v in traces.problem.pools[n])]
             for n in traces.fitted}  # fmt: skip
    for attempt in range(60 * len(basis) + 200):
        values = dict(traces.hints)
        if attempt:
            values.update({name: chance.choice(pools[name]) for name in traces.fitted})
        if values in points or values in checks or traces.at(values) is None:
            continue
        if rank < len(basis):
            grown = [*points, values]
            rows = [[QQ(x.p, x.q) for x in _monomials(basis, traces.fitted, p)] for p in grown]
            if DomainMatrix(rows, (len(grown), len(basis)), QQ).rank() > rank:
                points, rank = grown, rank + 1
                continue
        checks.append(values)
        if rank == len(basis) and len(checks) >= CHECKS:
            return points, checks
    raise CostModelError(
        f"no formula for {traces.problem.text}: too few of the tried sizes run to determine "
        f"{len(basis)} coefficients in {', '.join(traces.fitted)}; {traces.why}"
    )


def _monomials(
    basis: Sequence[tuple[int, ...]], names: Sequence[str], values: Values
) -> list[sympy.Rational]:
    return [
        sympy.prod(sympy.Rational(values[n]) ** e for n, e in zip(names, powers, strict=True))
        for powers in basis
    ]


def solved(
    traces: Traces, basis: Any, points: Sequence[Values], keys: Sequence[Key]
) -> dict[Key, list[Any]]:
    """Per key its coefficients on the monomials of ``basis``, as many as there are ``points``."""
    inverse = _inverse([_monomials(basis, traces.fitted, p) for p in points])
    assert inverse is not None
    samples = [traces.at(p) or {} for p in points]
    solution = {}
    for key in keys:
        values = [sample.get(key, sympy.S.Zero) for sample in samples]
        solution[key] = [sum(a * b for a, b in zip(r, values, strict=True)) for r in inverse]
    return solution


def expression(basis: Any, names: Sequence[str], coefficients: Sequence[Any]) -> Any:
    """The polynomial with these coefficients on ``basis``, in the symbols of ``names``."""
    symbols = [symbol(name) for name in names]
    return sympy.Add(
        *(
            c * sympy.prod(s**e for s, e in zip(symbols, powers, strict=True))
            for c, powers in zip(coefficients, basis, strict=True)
            if c
        )
    )
