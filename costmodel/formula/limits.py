"""Where a fitted formula holds: relations between symbols that the traces themselves show."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import sympy

from costmodel.errors import CostModelError
from costmodel.formula import build, domain
from costmodel.formula.problem import point
from costmodel.formula.samples import Key, Traces, disagreement
from costmodel.formula.wording import division
from costmodel.ir import symbol


def limits_of(traces: Traces, expressions: Mapping[Key, Any]) -> tuple[Any, ...]:
    """The relations that symbols must satisfy for ``expressions`` to hold.

    Raises `CostModelError` where the trace on the symbols that stayed contradicts itself.
    """
    traced = _traced_domain(traces)
    return (*traced, *_unlike(traces, traced, expressions), *_divisors(traces),
            *_from_two(traces, expressions))  # fmt: skip


def _traced_domain(traces: Traces) -> tuple[Any, ...]:
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


def _in_fitted(traces: Traces, relation: Any) -> Any:
    """``h divides d`` for ``h divides 256``, if every trace found it of its own value of d."""
    fact = division(relation)
    if fact is not None and fact[0].is_Integer:
        for at, name in enumerate(traces.fitted):
            if all((sympy.Integer(p[at]), fact[1]) in known for p, known in traces.facts.items()):
                return sympy.Eq(sympy.Mod(symbol(name), fact[1]), 0)
    return relation


def _divisors(traces: Traces) -> list[Any]:
    """Divisibility between symbols that every point that ran has, and some that failed had not."""
    ran = [p for p, sample in traces.samples.items() if sample is not None]
    failed = [p for p, sample in traces.samples.items() if sample is None]
    found = []
    for i, j in itertools.permutations(range(len(traces.fitted)), 2):
        if any(p[i] % p[j] for p in failed) and not any(p[i] % p[j] for p in ran):
            a, b = symbol(traces.fitted[i]), symbol(traces.fitted[j])
            found.append(sympy.Eq(sympy.Mod(a, b), 0))
    return found


def _unlike(traces: Traces, relations: Sequence[Any], expressions: Mapping[Key, Any]) -> list[Any]:
    """``d ≠ h`` where h divides d and a trace at d = h disagrees or is refused.

    Parts of size 1 lie in memory as the whole does, so that a copy may be none.
    """
    found = []
    for fact in map(division, relations):
        if fact is None or str(fact[0]) not in traces.fitted or not fact[1].is_Symbol:
            continue
        values = {**traces.hints, str(fact[0]): traces.hints[str(fact[1])]}
        sample = traces.at(values)
        if sample is None or disagreement(expressions, sample, values) is not None:
            found.append(sympy.Ne(*fact))
    return found


def _from_two(traces: Traces, expressions: Mapping[Key, Any]) -> list[Any]:
    """``s ≥ 2`` for each symbol at whose value 1 a trace disagrees or is refused."""
    found = []
    for name in traces.fitted:
        values = {**traces.hints, name: 1}
        sample = traces.at(values)
        if sample is None or disagreement(expressions, sample, values) is not None:
            found.append(symbol(name) >= 2)
    return found
