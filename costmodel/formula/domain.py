"""Where a symbolic result holds.

Torch notes a guard wherever code branches on a size, and most guards are about memory layout and
change no count. So each guard is put to the test: the module is traced with numbers that violate
it. Guards that some agreeing trace violates are dropped; of the others, the fewest that exclude
every trace that disagreed, or could not be run, are the domain.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, islice
from typing import Any

import sympy

from costmodel.errors import CostModelError
from costmodel.formula.problem import Problem, Values
from costmodel.ir import symbol
from costmodel.substitution import substitution
from costmodel.table import CostTable

#: The counts in which a formula and a trace must agree.
COUNTS = ("macs", "ops", "params", "bytes_read", "bytes_written")
#: Ops beyond which a module is slow to trace, and so tested at few points.
LARGE = 120


@dataclass(frozen=True, slots=True)
class Mismatch(Exception):
    """A trace inside the domain that torch promised disagrees: the symbolic result is wrong."""

    at: Values
    why: str


def find(
    problem: Problem, table: CostTable, guards: Sequence[Any], hints: Values
) -> tuple[Any, ...]:
    """Relations between symbols inside which ``table`` equals a trace with numbers.

    Raises `Mismatch` when a trace that satisfies every guard disagrees.
    """
    large = len(table) > LARGE
    test = _Tests(problem.symbols, guards)
    bad: list[frozenset[int]] = []
    needless: set[int] = set()
    inside = (v for v in problem.draws(200) if not test.violated(v))
    for values in islice(inside, 2 if large else 4):
        why = disagreement(problem, table, values)
        if why is not None and not why.startswith("cannot run"):
            raise Mismatch(values, why)
    candidates = [(values, test.violated(values)) for values in _around(hints)]
    for _ in range(40 if not large else 20 if problem.arguments else 5):
        needed = {min(v) for v in bad if len(v) == 1}
        telling = [
            (len(v - needless), i) for i, (_, v) in enumerate(candidates) if v - needless - needed
        ]
        if not telling:
            break
        values, violated = candidates.pop(min(telling)[1])
        if disagreement(problem, table, values) is None:
            needless |= violated
            bad = [v - needless for v in bad]
        else:
            bad.append(violated - needless)
    relations = [guards[i] for i in _fewest(guards, bad)]
    if not large:
        relations += _degenerate(problem, table, relations, hints)
    return tuple(relations)


def _degenerate(
    problem: Problem, table: CostTable, relations: Sequence[Any], hints: Values
) -> list[Any]:
    """Exclusions of single sizes, and pairs of sizes, of 1: layouts coincide there unguarded."""
    found: list[Any] = []
    for count in (1, 2):
        for ones in combinations(hints, count):
            values = {**hints, **dict.fromkeys(ones, 1)}
            if all(holds(r, values) for r in (*relations, *found)) and disagreement(
                problem, table, values
            ):
                found.append(sympy.Ne(sympy.prod(symbol(name) for name in ones), 1))
    return found


class _Tests:
    """Which guards a point violates, fast: floats are exact at the small sizes tried here."""

    def __init__(self, names: Sequence[str], guards: Sequence[Any]) -> None:
        symbols = [symbol(name) for name in names]
        self.names = names
        self.functions = [sympy.lambdify(symbols, g, modules=["math"]) for g in guards]

    def violated(self, values: Values) -> frozenset[int]:
        place = [values[name] for name in self.names]
        return frozenset(i for i, f in enumerate(self.functions) if not _true(f, place))


def _true(function: Callable[..., Any], place: Sequence[int]) -> bool:
    try:
        return bool(function(*place))
    except ZeroDivisionError:
        return False


def disagreement(problem: Problem, table: CostTable, values: Values) -> str | None:
    """How ``table`` at ``values`` differs from a trace there; ``None`` when it does not."""
    try:
        found = problem.table(values).total
    except CostModelError as error:
        return f"cannot run: {error}"
    put = substitution(values)
    for name in COUNTS:
        try:
            said = put(getattr(table.total, name))
        except CostModelError as error:
            return str(error)
        if said != getattr(found, name):
            return f"{name} is {getattr(found, name)}, not {said}"
    return None


def holds(relation: Any, values: Values) -> bool:
    """Whether a relation is true at ``values``; one that divides by zero there is not."""
    try:
        return bool(relation.xreplace({symbol(n): sympy.Integer(v) for n, v in values.items()}))
    except ZeroDivisionError:
        return False


def _around(hints: Values) -> Iterator[dict[str, int]]:
    """Points that differ from the hints in one symbol, or make two equal."""
    for name, hint in hints.items():
        for value in (1, 2, 3, 5, 16, hint - 1, hint + 1, 2 * hint, 3 * hint):
            if value > 0 and value != hint:
                yield {**hints, name: value}
        others = [v for other, v in hints.items() if other != name]
        for value in others:
            yield {**hints, name: value}
    for a, b in combinations(hints, 2):
        yield {**hints, a: 1, b: 1}
        yield {**hints, a: 2 * hints[a], b: 2 * hints[b]}


def _fewest(guards: Sequence[Any], bad: Sequence[frozenset[int]]) -> list[int]:
    """A few simple guards such that every bad point violates one of them."""
    uncovered = [violated for violated in bad if violated]
    chosen: list[int] = []
    while uncovered:
        candidates = sorted(frozenset().union(*uncovered))
        best = min(candidates, key=lambda i: _weight(guards[i]) / sum(i in v for v in uncovered))
        chosen.append(best)
        uncovered = [violated for violated in uncovered if best not in violated]
    return chosen


def _weight(guard: Any) -> float:
    """How much there is to read in a guard."""
    return float(sympy.count_ops(guard) + len(guard.free_symbols))
