"""Exact fitting, for symbols that a module's code will not take: depth, heads, hidden sizes.

The module is traced at several values of those symbols, the other symbols staying symbols, and each
coefficient of each count is solved for as a polynomial, or with 1/symbol too, in exact rationals.
Points that took no part check the result; where they disagree, or no form fits, there is none.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import sympy

from costmodel.errors import CostModelError
from costmodel.formula import build, domain
from costmodel.formula.costs import STORED, Costs, FormulaRow
from costmodel.formula.limits import limits_of
from costmodel.formula.polynomials import CHECKS, exponents_of, expression, points_of, solved
from costmodel.formula.problem import Problem, Values, point
from costmodel.formula.result import Formula, make
from costmodel.formula.samples import Key, Traces, disagreement


def fit(problem: Problem, hints: Values, refused: build.Refused) -> Formula:
    """A formula found by fitting the symbols that could not be traced.

    Raises `CostModelError` with the reason where no exact form is found.
    """
    asked, problem = problem, build.restrict(problem, refused.fixed)
    fitted = _stuck(problem, hints, refused)
    traces = Traces(problem, hints, fitted)
    if not fitted or traces.at(hints) is None:
        raise CostModelError(f"no formula for {problem.text}: {traces.why or refused.why}")
    exponents = {name: exponents_of(traces, name) for name in fitted}
    basis = list(itertools.product(*(exponents[name] for name in fitted)))
    points, checks = points_of(traces, basis)
    keys = list(dict.fromkeys(key for p in points for key in traces.at(p) or {}))
    solution = solved(traces, basis, points, keys)
    expressions = {key: expression(basis, fitted, solution[key]) for key in keys}
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
    limits = limits_of(traces, expressions)
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


def _check(traces: Traces, expressions: Mapping[Key, Any], values: Values) -> None:
    wrong = disagreement(expressions, traces.at(values) or {}, values)
    if wrong is not None:
        raise CostModelError(
            f"no formula for {traces.problem.text}: no polynomial of "
            f"{', '.join(traces.fitted)} fits; at {point(values, traces.fitted)} {wrong}"
        )


def _verify(problem: Problem, formula: Formula) -> None:
    """Raise `CostModelError` unless the formula equals traces at numbers that are all new."""
    done = 0
    for values in problem.draws(100):
        if done == CHECKS:
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
