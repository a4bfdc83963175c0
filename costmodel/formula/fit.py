"""Exact fitting, for symbols that a module's code will not take: depth, heads, hidden sizes.

The module is traced at several values of those symbols, the other symbols staying symbols. Ops are
aligned by name, with the numbers of repeated layers left out, and each coefficient of each count
is solved for as a polynomial, or with 1/symbol too, in exact rationals. Points that took no part
check the result; where they disagree, or no form fits, there is no formula.
"""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sympy
from sympy.polys.domains import QQ
from sympy.polys.matrices import DomainMatrix
from sympy.polys.matrices.exceptions import DMNonInvertibleMatrixError

from costmodel.errors import CostModelError
from costmodel.formula import build, domain
from costmodel.formula.costs import STORED, Costs, FormulaRow, from_table, total
from costmodel.formula.layout import starred
from costmodel.formula.problem import Problem, Values, point
from costmodel.formula.result import Formula, make
from costmodel.formula.wording import division
from costmodel.ir import symbol

#: Exponents to try for one symbol, simplest first.
_EXPONENTS = ((0,), (0, 1), (0, 1, 2), (-1, 0, 1), (0, 1, 2, 3), (-1, 0, 1, 2), (0, 1, 2, 3, 4))
#: Points beyond those that the form needs, at which it must already be right.
_CHECKS = 3

Key = tuple[str, str, Any]  # row, count, monomial in the symbols that stayed
Sample = dict[Key, sympy.Rational]


@dataclass
class _Traces:
    """The module traced at points of the fitted symbols, each point once."""

    problem: Problem
    hints: Values
    fitted: tuple[str, ...]

    def __post_init__(self) -> None:
        self.samples: dict[tuple[int, ...], Sample | None] = {}
        self.facts: dict[tuple[int, ...], set[tuple[Any, Any]]] = {}
        self.rows: dict[str, FormulaRow] = {}
        self.why = ""
        self.unsupported: tuple[str, ...] = ()

    def at(self, values: Values) -> Sample | None:
        """The coefficients at a point; ``None`` where the module cannot be built or run."""
        place = tuple(values[name] for name in self.fitted)
        if place not in self.samples:
            self.samples[place] = self._trace(values)
        return self.samples[place]

    def _trace(self, values: Values) -> Sample | None:
        chosen = {name: values[name] for name in self.fitted}
        kept = build.restrict(self.problem, chosen)
        rest = {name: self.hints[name] for name in kept.symbols}
        try:
            table, guards = build.attempt(kept, rest, {}) if rest else (kept.table(chosen), ())
        except (build.Refused, CostModelError) as error:
            self.why = getattr(error, "why", str(error))
            return None
        rows, self.unsupported = from_table(table)
        # ⌊256/h⌋ is 256/h where the trace found that h divides 256: only then it varies with 256.
        facts = {fact for fact in map(division, guards) if fact is not None}
        self.facts[tuple(chosen.values())] = facts
        exact = {sympy.floor(top / bottom): top / bottom for top, bottom in facts}
        sample: Sample = {}
        for name, group in _aligned(rows).items():
            self.rows.setdefault(name, group)
            for field in STORED:
                count = getattr(group.costs, field).xreplace(exact)
                parts = sympy.expand(count).as_coefficients_dict()
                for monomial, coefficient in parts.items():
                    if coefficient:
                        sample[name, field, monomial] = coefficient
        return sample


def fit(problem: Problem, hints: Values, refused: build.Refused) -> Formula:
    """A formula found by fitting the symbols that could not be traced.

    Raises `CostModelError` with the reason where no exact form is found.
    """
    asked, problem = problem, build.restrict(problem, refused.fixed)
    fitted = _stuck(problem, hints, refused)
    traces = _Traces(problem, hints, fitted)
    if not fitted or traces.at(hints) is None:
        raise CostModelError(f"no formula for {problem.text}: {traces.why or refused.why}")
    exponents = {name: _exponents(traces, name) for name in fitted}
    basis = list(itertools.product(*(exponents[name] for name in fitted)))
    points, checks = _points(traces, basis)
    keys = list(dict.fromkeys(key for p in points for key in traces.at(p) or {}))
    solution = _solve(traces, basis, points, keys)
    expressions = {key: _expression(basis, fitted, solution[key]) for key in keys}
    for values in checks:
        _check(traces, expressions, values)
    rows = []
    for name, row in traces.rows.items():
        costs = Costs(
            *(
                sympy.Add(*(e * k[2] for k, e in expressions.items() if k[:2] == (name, field)))
                for field in STORED
            )
        )
        rows.append(FormulaRow(row.name, row.op, row.module, row.family, costs))
    where = f"{len(points)} traces, checked at {len(checks)} others"
    note = f"{', '.join(fitted)} fitted exactly from {where}: {refused.why}"
    traced = _traced_domain(traces)
    limits = (*traced, *_unlike(traces, traced, expressions), *_divisors(traces),
              *_from_two(traces, expressions))  # fmt: skip
    notes = (note, *build.fixed_note(refused.fixed, "at no other size does it run"))
    formula = make(
        asked, tuple(rows), traces.unsupported, limits, refused.fixed, notes, "fitted exactly"
    )
    _verify(problem, formula)
    return formula


def _stuck(problem: Problem, hints: Values, refused: build.Refused) -> tuple[str, ...]:
    """Few symbols that must be numbers for a trace on the rest to work."""
    named = tuple(name for name in problem.symbols if name in refused.symbols)
    alone = tuple(name for name in problem.symbols if not _passes(problem, hints, {name}))
    for stuck in (named, alone, problem.arguments):
        if stuck and _passes(problem, hints, set(problem.symbols) - set(stuck)):
            return stuck
    return problem.symbols


def _passes(problem: Problem, hints: Values, kept: set[str]) -> bool:
    """Whether a trace works with ``kept`` as symbols and the others as numbers."""
    rest = build.restrict(problem, {n: hints[n] for n in problem.symbols if n not in kept})
    if not rest.symbols:
        return False
    try:
        build.attempt(rest, {name: hints[name] for name in rest.symbols}, {})
    except build.Refused:
        return False
    return True


def _aligned(rows: Sequence[FormulaRow]) -> dict[str, FormulaRow]:
    """Rows by name without the numbers of layers and calls, those of equal name added up."""
    groups: dict[str, list[FormulaRow]] = {}
    for row in rows:
        groups.setdefault(re.sub(r"_\d+$", "", starred(row.name)), []).append(row)
    return {
        name: FormulaRow(
            name, same[0].op, starred(same[0].module), same[0].family,
            total(row.costs for row in same),
        )
        for name, same in groups.items()
    }  # fmt: skip


# -- which form ------------------------------------------------------------------------------


def _exponents(traces: _Traces, name: str) -> tuple[int, ...]:
    """The exponents of one symbol, from traces along it with the others at their hints."""
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


# -- solving ---------------------------------------------------------------------------------


def _points(
    traces: _Traces, basis: Sequence[tuple[int, ...]]
) -> tuple[list[dict[str, int]], list[dict[str, int]]]:
    """Points that determine every coefficient of ``basis``, and others to check them at."""
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
        if rank == len(basis) and len(checks) >= _CHECKS:
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


def _solve(
    traces: _Traces, basis: Any, points: Sequence[Values], keys: Sequence[Key]
) -> dict[Key, list[Any]]:
    inverse = _inverse([_monomials(basis, traces.fitted, p) for p in points])
    assert inverse is not None
    samples = [traces.at(p) or {} for p in points]
    solution = {}
    for key in keys:
        values = [sample.get(key, sympy.S.Zero) for sample in samples]
        solution[key] = [sum(a * b for a, b in zip(r, values, strict=True)) for r in inverse]
    return solution


def _expression(basis: Any, names: Sequence[str], coefficients: Sequence[Any]) -> Any:
    symbols = [symbol(name) for name in names]
    return sympy.Add(
        *(
            c * sympy.prod(s**e for s, e in zip(symbols, powers, strict=True))
            for c, powers in zip(coefficients, basis, strict=True)
            if c
        )
    )


def _disagrees(expressions: Mapping[Key, Any], sample: Sample, values: Values) -> str | None:
    put = {symbol(name): value for name, value in values.items()}
    for key in {**expressions, **sample}:
        said = sympy.sympify(expressions.get(key, 0)).xreplace(put)
        if said != sample.get(key, 0):
            return f"{key[1]} of {key[0]} is {sample.get(key, 0)}·({key[2]}), not {said}"
    return None


def _check(traces: _Traces, expressions: Mapping[Key, Any], values: Values) -> None:
    wrong = _disagrees(expressions, traces.at(values) or {}, values)
    if wrong is not None:
        raise CostModelError(
            f"no formula for {traces.problem.text}: no polynomial of "
            f"{', '.join(traces.fitted)} fits; at {point(values, traces.fitted)} {wrong}"
        )


# -- where it holds --------------------------------------------------------------------------


def _traced_domain(traces: _Traces) -> tuple[Any, ...]:
    """What the symbols that stayed must satisfy, from the trace at the hints."""
    kept = build.restrict(traces.problem, {n: traces.hints[n] for n in traces.fitted})
    if not kept.symbols:
        return ()
    hints = {name: traces.hints[name] for name in kept.symbols}
    table, guards = build.attempt(kept, hints, {})
    try:
        found = domain.find(kept, table, guards, hints)
        return tuple(_in_fitted(traces, relation) for relation in found)
    except domain.Mismatch as wrong:
        raise CostModelError(
            f"no formula for {traces.problem.text}: at {point(wrong.at)} {wrong.why}"
        ) from wrong


def _in_fitted(traces: _Traces, relation: Any) -> Any:
    """``h divides d`` for ``h divides 256``, if every trace found it of its own value of d."""
    fact = division(relation)
    if fact is not None and fact[0].is_Integer:
        for at, name in enumerate(traces.fitted):
            if all((sympy.Integer(p[at]), fact[1]) in known for p, known in traces.facts.items()):
                return sympy.Eq(sympy.Mod(symbol(name), fact[1]), 0)
    return relation


def _verify(problem: Problem, formula: Formula) -> None:
    """Raise `CostModelError` unless the formula equals traces at numbers that are all new."""
    done = 0
    for values in problem.draws(100):
        if done == _CHECKS:
            return
        if not all(domain.holds(relation, values) for relation in formula.domain):
            continue
        try:
            found = problem.table(values).total
        except CostModelError:
            continue
        said = formula.evaluate(**values)
        for name in domain.COUNTS:
            if said[name] != getattr(found, name):
                raise CostModelError(
                    f"no formula for {problem.text}: at {point(values)} {name} is "
                    f"{getattr(found, name)}, not {said[name]}"
                )
        done += 1


def _divisors(traces: _Traces) -> list[Any]:
    """Divisibility between symbols that every point that ran has, and some that failed had not."""
    ran = [p for p, sample in traces.samples.items() if sample is not None]
    failed = [p for p, sample in traces.samples.items() if sample is None]
    found = []
    for i, j in itertools.permutations(range(len(traces.fitted)), 2):
        if any(p[i] % p[j] for p in failed) and not any(p[i] % p[j] for p in ran):
            a, b = symbol(traces.fitted[i]), symbol(traces.fitted[j])
            found.append(sympy.Eq(sympy.Mod(a, b), 0))
    return found


def _unlike(traces: _Traces, relations: Sequence[Any], expressions: Mapping[Key, Any]) -> list[Any]:
    """``d ≠ h`` where h divides d and a trace at d = h disagrees or is refused.

    Parts of size 1 lie in memory as the whole does, so that a copy may be none.
    """
    found = []
    for fact in map(division, relations):
        if fact is None or str(fact[0]) not in traces.fitted or not fact[1].is_Symbol:
            continue
        values = {**traces.hints, str(fact[0]): traces.hints[str(fact[1])]}
        sample = traces.at(values)
        if sample is None or _disagrees(expressions, sample, values) is not None:
            found.append(sympy.Ne(*fact))
    return found


def _from_two(traces: _Traces, expressions: Mapping[Key, Any]) -> list[Any]:
    """``s ≥ 2`` for each symbol at whose value 1 a trace disagrees or is refused."""
    found = []
    for name in traces.fitted:
        values = {**traces.hints, name: 1}
        sample = traces.at(values)
        if sample is None or _disagrees(expressions, sample, values) is not None:
            found.append(symbol(name) >= 2)
    return found
