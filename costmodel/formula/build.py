"""Symbolic cost tables: by running a module on symbols, or by fitting where it refuses them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from costmodel.errors import CostModelError
from costmodel.formula import domain
from costmodel.formula.problem import Problem, Values, point
from costmodel.table import CostTable

#: Seconds that one symbolic trace may take before the numbers are asked instead.
LIMIT_S = 20.0
#: Assignments to try before a module is said not to run at all.
DRAWS = 400


@dataclass(frozen=True, slots=True)
class Derived:
    """A symbolic table, where it holds, and what had to be given up for it."""

    table: CostTable
    domain: tuple[Any, ...]
    hints: Values
    fixed: Mapping[str, int]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Refused(Exception):
    """Symbols that the code did not let through, and why; ``fixed`` sizes can be nothing else."""

    symbols: tuple[str, ...]
    why: str
    fixed: Mapping[str, int] = field(default_factory=dict)


def derive(problem: Problem, hints: Values) -> Derived:
    """Trace the module on symbols.

    An input's dimension that the code forces to one size becomes that number, which is noted.
    Raises `Refused` when a constructor's argument cannot stay a symbol.
    """
    fixed: dict[str, int] = {}
    why = ""
    while True:
        rest = {name: hint for name, hint in hints.items() if name not in fixed}
        try:
            table, guards = attempt(problem, rest, fixed)
            break
        except Refused as refused:
            why = refused.why
            stuck = _immovable(problem, hints, fixed, refused.symbols)
            if not stuck:
                raise Refused(refused.symbols, why, fixed) from refused
            fixed.update({name: hints[name] for name in stuck})
    try:
        relations = domain.find(restrict(problem, fixed), table, guards, rest)
    except domain.Mismatch as wrong:
        why = f"at {point(wrong.at)} a trace disagrees: {wrong.why}"
        raise Refused((), why, fixed) from wrong
    return Derived(table, relations, rest, fixed, fixed_note(fixed, why))


def fixed_note(fixed: Values, why: str) -> tuple[str, ...]:
    """The sentence about sizes that are no symbols."""
    if not fixed:
        return ()
    verb = "is" if len(fixed) == 1 else "are"
    return (
        f"{', '.join(f'{n} = {v}' for n, v in fixed.items())} {verb} fixed by the model: {why}",
    )


def attempt(problem: Problem, hints: Values, fixed: Values) -> tuple[CostTable, Sequence[Any]]:
    """One symbolic trace: the table and the guards. Raises `Refused` with the symbols at fault."""
    from costmodel.symbolic import Session, constructing, trace
    from costmodel.table import cost

    session = Session(hints, LIMIT_S)
    values = {**session.integers, **fixed}
    try:
        if problem.arguments:
            with session.active(), constructing():
                module = problem.build(values)
        else:
            module = problem.build(fixed)
        graph = trace(session, module, problem.dimensions(values))
        table = cost(graph)
    except Exception as error:  # whatever the model's code raises on a symbol
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        raise Refused(tuple(session.specialised()), reason) from error
    forced = session.specialised()
    if forced:
        raise Refused(tuple(forced), "its code wants a number there")
    return table, session.guards()


def _immovable(
    problem: Problem, hints: Values, fixed: Values, suspects: Sequence[str]
) -> list[str]:
    """The input's sizes at which the module stops to run when they alone change.

    ``suspects`` are those that a trace forced to a value; without any, all sizes are.
    """
    stuck = []
    for name in problem.sizes:
        if name in fixed or (suspects and name not in suspects):
            continue
        for value in problem.pools[name]:
            if value == hints[name]:
                continue
            try:
                problem.table({**hints, **fixed, name: value})
            except CostModelError:
                continue
            break
        else:
            stuck.append(name)
    return stuck


def restrict(problem: Problem, fixed: Values) -> Problem:
    """The problem with some symbols replaced by numbers."""
    if not fixed:
        return problem
    return replace(
        problem,
        build=lambda values: problem.build({**values, **fixed}),
        shapes=tuple(
            replace(s, dims=tuple(str(_put(d, fixed)) for d in s.dims)) for s in problem.shapes
        ),
        arguments=tuple(n for n in problem.arguments if n not in fixed),
        sizes=tuple(n for n in problem.sizes if n not in fixed),
    )


def _put(text: str, fixed: Values) -> str:
    import re

    return re.sub(r"[^\W\d]\w*", lambda m: str(fixed.get(m[0], m[0])), text)


def runnable(problem: Problem) -> dict[str, int]:
    """Sizes at which the module runs, distinct from each other where they can be.

    Raises `CostModelError` with the first refusal when none of many assignments runs.
    """
    first: CostModelError | None = None
    for values in problem.draws(DRAWS):
        try:
            problem.table(values)
        except CostModelError as error:
            first = first or error
            continue
        return values
    assert first is not None
    raise CostModelError(f"{first} (tried {DRAWS} choices of {', '.join(problem.symbols)})")
