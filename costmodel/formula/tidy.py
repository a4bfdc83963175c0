"""Formulas without floors: exactly where the domain allows it, else under stated assumptions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import sympy

from costmodel.formula.wording import division

_ROUNDED = (sympy.floor, sympy.ceiling, sympy.Mod)
_MOST_PARITIES = 3

Change = Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class Tidying:
    """How to tidy expressions: the ``change``, the domain after it, and what it assumes."""

    change: Change
    domain: tuple[Any, ...]
    assumptions: tuple[Any, ...]


def settling(domain: Sequence[Any]) -> Change:
    """A change that takes away the floors that the domain makes needless.

    ``⌊d/h⌋`` is ``d/h`` where h divides d, and ``⌊L·(L-1)/2⌋`` is always whole.
    """
    known = [fact for fact in map(division, domain) if fact is not None]
    divisors: dict[Any, Any] = {}
    for top, bottom in known:
        if top.is_Symbol:
            divisors[top] = sympy.lcm(divisors.get(top, 1), bottom)
    divisors = {s: d for s, d in divisors.items() if not d.free_symbols & divisors.keys()}
    change = _substitution({top: (bottom, 0) for top, bottom in divisors.items()})
    return lambda expr: change(_whole(expr))


def tidying(expressions: Sequence[Any], domain: Sequence[Any]) -> Tidying | None:
    """What makes expressions ones for sizes that divide: H/2, H/4 … instead of nested floors.

    ``None`` where no floor asks for it. A floor that no assumption removes stays.
    """
    floors = sorted({f for e in expressions for f in e.atoms(*_ROUNDED)}, key=str)
    divisors = _divisors(floors)
    if not divisors:
        return None
    parities = [s for s, d in divisors.items() if d == 2][:_MOST_PARITIES]
    sample = sympy.Tuple(*floors, *(e for e in dict.fromkeys(expressions) if e.has(*_ROUNDED)))
    best = None
    for bits in product((0, 1), repeat=len(parities)):
        rest = dict(zip(parities, bits, strict=True))
        steps = {s: (d, rest.get(s, 0)) for s, d in divisors.items()}
        after = _substitution(steps)(sample)
        score = (len(after.atoms(*_ROUNDED)), sympy.count_ops(after), sum(bits))
        if best is None or score < best[0]:
            best = (score, steps)
    assert best is not None
    steps = best[1]
    change = _substitution(steps)
    facts = {fact for fact in map(division, domain) if fact is not None}
    assumed = tuple(
        sympy.Eq(sympy.Mod(s, d), r) for s, (d, r) in steps.items() if (s, d) not in facts
    )
    relations = [change(relation) for relation in domain]
    return Tidying(change, tuple(r for r in relations if r not in (True, sympy.true)), assumed)


def _divisors(floors: Iterable[Any]) -> dict[Any, Any]:
    """What each symbol must be a multiple of for the floors to go."""
    found: dict[Any, Any] = {}
    for floor in floors:
        if isinstance(floor, sympy.Mod):
            top, bottom = floor.args
        else:
            top, bottom = sympy.fraction(sympy.together(floor.args[0]))
        for inner in top.atoms(*_ROUNDED):
            top = top.xreplace({inner: sympy.Integer(0)})
        if bottom.is_Integer:
            symbols: Sequence[Any] = sorted(top.free_symbols, key=str)
        elif top.is_Symbol or (top.is_Mul and len(top.free_symbols) == 1):
            symbols = list(top.free_symbols)
        else:
            continue  # (H - K)/S + 1: a person leaves that floor where it is
        for symbol in symbols:
            found[symbol] = sympy.lcm(found.get(symbol, 1), bottom)
    # A divisor may not itself be expressed by another divided symbol.
    return {
        s: d for s, d in found.items()
        if d != 1 and s not in d.free_symbols and not (d.free_symbols & set(found))
    }  # fmt: skip


def _substitution(steps: dict[Any, tuple[Any, int]]) -> Change:
    """Write each symbol as divisor·k + rest, let sympy take whole numbers out of floors, undo."""
    forth, back = {}, {}
    for symbol, (divisor, rest) in steps.items():
        k = sympy.Dummy(symbol.name, integer=True, positive=True)
        forth[symbol] = divisor * k + rest
        back[k] = (symbol - rest) / divisor

    def change(expr: Any) -> Any:
        if not forth or not (expr.free_symbols & forth.keys() and expr.has(*_ROUNDED)):
            return expr
        return _whole(expr.xreplace(forth)).xreplace(back)

    return change


def _whole(expr: Any) -> Any:
    """Floors of polynomials that are whole at every whole number, removed."""
    floors = [f for f in expr.atoms(sympy.floor, sympy.ceiling) if _is_whole(f.args[0])]
    return expr.xreplace({f: f.args[0] for f in floors}) if floors else expr


def _is_whole(expr: Any) -> bool:
    """A polynomial is whole-valued if it is whole at degree + 1 successive numbers in each symbol.

    Polya, "Über ganzwertige ganze Funktionen", 1915.
    """
    if expr.atoms(*_ROUNDED) or not expr.is_polynomial():
        return False
    symbols = sorted(expr.free_symbols, key=str)
    degrees = [sympy.degree(expr, s) for s in symbols]
    if sympy.prod(d + 1 for d in degrees) > 64:
        return False
    for values in product(*(range(d + 1) for d in degrees)):
        at = dict(zip(symbols, map(sympy.Integer, values), strict=True))
        if not expr.subs(at).is_Integer:
            return False
    return True
