"""Relations between symbols in words that a person would use."""

from __future__ import annotations

from typing import Any

import sympy

from costmodel.formula.text import plain

_SIGNS: dict[type, str] = {
    sympy.Eq: "=", sympy.Ne: "≠", sympy.Ge: "≥", sympy.Le: "≤", sympy.Gt: ">", sympy.Lt: "<",
}  # fmt: skip


def relation_text(relation: Any) -> str:
    """``g divides C_in``, ``H a multiple of 32``, ``K odd``, ``H ≥ 4``, ``t ≠ 1``."""
    fact = division(relation)
    if fact is not None:
        top, bottom = plain(fact[0]), plain(fact[1])
        return f"{top} a multiple of {bottom}" if fact[1].is_Integer else f"{bottom} divides {top}"
    if isinstance(relation, sympy.Eq) and isinstance(relation.lhs, sympy.Mod):
        top, bottom = relation.lhs.args
        if bottom == 2 and relation.rhs == 1:
            return f"{plain(top)} odd"
    sign = _SIGNS.get(type(relation))
    return f"{plain(relation.lhs)} {sign} {plain(relation.rhs)}" if sign else str(relation)


def division(relation: Any) -> tuple[Any, Any] | None:
    """``(d, h)`` for a relation that says that h divides d, a symbol or a floor."""
    if not isinstance(relation, sympy.Eq):
        return None
    for side, other in ((relation.lhs, relation.rhs), (relation.rhs, relation.lhs)):
        if isinstance(side, sympy.Mod) and other == 0:
            return side.args[0], side.args[1]
        if other.is_Symbol and side.is_Mul and len(side.args) == 2:
            for a, b in (side.args, side.args[::-1]):
                if b == sympy.floor(other / a):
                    return other, a
    return None
