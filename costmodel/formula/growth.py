"""How costs grow: degrees, leading terms, and which op family wins in the end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sympy

from costmodel.formula.result import Formula

_WORDS = {-1: "inverse", 0: "constant", 1: "linear", 2: "quadratic", 3: "cubic"}


@dataclass(frozen=True, slots=True)
class Growth:
    """One count in one symbol s: ``degree`` of s, ``leading`` term, and by op family its degree.

    ``shares`` is each family's part of the count as s grows without bound; an expression in the
    other symbols, 0 for a family that is outgrown.
    """

    quantity: str
    symbol: Any
    degree: int
    leading: Any
    families: Mapping[str, int]
    shares: Mapping[str, Any]


def growth(formula: Formula, quantity: str = "macs") -> list[Growth]:
    """Growth of a count in each symbol that it depends on. Floors count as what they round."""
    families = {
        name: smooth(getattr(costs, quantity)) for name, costs in formula.group("family").items()
    }
    families = {name: cost for name, cost in families.items() if cost != 0}
    whole = sympy.expand(sympy.Add(*families.values()))
    found = []
    for symbol in formula.symbols:
        if symbol not in whole.free_symbols:
            continue
        degree, leading = leading_term(whole, symbol)
        degrees = {name: leading_term(cost, symbol)[0] for name, cost in families.items()}
        tops = {name: leading_term(cost, symbol)[1] for name, cost in families.items()}
        shares = {
            name: sympy.cancel(tops[name] / leading) if d == degree else sympy.S.Zero
            for name, d in degrees.items()
        }
        found.append(Growth(quantity, symbol, degree, leading, degrees, shares))
    return found


def smooth(expr: Any) -> Any:
    """``expr`` with every floor and ceiling replaced by what it rounds, expanded."""
    rounded = (sympy.floor, sympy.ceiling)
    while expr.atoms(*rounded):
        expr = expr.xreplace({f: f.args[0] for f in expr.atoms(*rounded)})
    return sympy.expand(expr)


def leading_term(expr: Any, symbol: Any) -> tuple[int, Any]:
    """The highest power of ``symbol`` in an expanded expression, and the terms that have it."""
    powers: dict[int, list[Any]] = {}
    for term in sympy.Add.make_args(sympy.expand(expr)):
        exponent = term.as_powers_dict().get(symbol, 0)
        powers.setdefault(int(exponent), []).append(term)
    degree = max(powers)
    return degree, sympy.Add(*powers[degree])


def word(degree: int) -> str:
    """``linear``, ``quadratic``, …"""
    return _WORDS.get(degree, f"of degree {degree}")
