"""Sums of products as a person writes them.

Size factors (N, H, W) come out of a sum wherever they can. Other factors, and numbers, come out
where three terms or more share them: ``N·H·W·(9·C_in + C_in·C_out)``, but
``t·C_in·(C_in + 9 + C_out)``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import sympy

_ROUNDED = (sympy.floor, sympy.ceiling)
#: From this many terms on a shared factor is taken out of a sum.
_MANY = 3

Powers = Mapping[Any, int]


@dataclass(frozen=True, slots=True)
class Product:
    """number · Π base^exponent · (sum): ``sum`` is empty for a plain product."""

    number: Any
    powers: tuple[tuple[Any, int], ...] = ()
    sum: tuple[Product, ...] = ()


@dataclass(frozen=True, slots=True)
class _Term:
    number: Any
    powers: dict[Any, int]


def build(
    expressions: Iterable[Any],
    sizes: Sequence[Any],
    order: Sequence[Any],
    units: Powers | None = None,
) -> Product:
    """The sum of ``expressions`` as a tree, terms in order of first appearance.

    ``sizes`` are the symbols whose powers always come out; ``order`` is the order of symbols.
    ``units`` maps symbols to the number of which they are multiples: R is then written in powers
    of R/16.
    """
    terms = _terms(expressions, units or {})
    if not terms:
        return Product(sympy.S.Zero)
    rank = {s: i for i, s in enumerate(order)}

    def is_size(base: Any) -> bool:
        return bool(base.free_symbols & set(sizes))

    def place(item: tuple[Any, int]) -> tuple[Any, ...]:
        base, exponent = item
        first = min((rank.get(s, len(rank)) for s in base.free_symbols), default=len(rank))
        return (not is_size(base), 0 if is_size(base) else -exponent, first, str(base))

    def product(number: Any, powers: Powers, inner: tuple[Product, ...] = ()) -> Product:
        return Product(number, tuple(sorted(powers.items(), key=place)), inner)

    common = _shared(terms, is_size)
    groups: dict[tuple[Any, ...], list[_Term]] = {}
    for term in terms:
        rest = _divided(term.powers, common)
        inner = {b: e for b, e in rest.items() if is_size(b)}
        key = tuple(sorted(inner.items(), key=place))
        groups.setdefault(key, []).append(
            _Term(term.number, {b: e for b, e in rest.items() if b not in inner})
        )
    ordered = list(groups.items())
    parts: list[Product] = []
    for key, group in ordered:
        number, powers, left = _taken_out(group)
        if len(left) == 1 or (not key and len(ordered) > 1 and not powers and number == 1):
            parts += [product(number * t.number, _times(powers, t.powers, dict(key))) for t in left]
        else:
            inside = tuple(product(t.number, t.powers) for t in left)
            parts.append(product(number, _times(powers, dict(key)), inside))
    if len(parts) == 1:
        only = parts[0]
        return product(only.number, _times(common, dict(only.powers)), only.sum)
    number = _content(part.number for part in parts) if len(parts) >= _MANY else sympy.S.One
    parts = [Product(p.number / number, p.powers, p.sum) for p in parts]
    return product(number, common, tuple(parts))


def _terms(expressions: Iterable[Any], units: Powers) -> list[_Term]:
    found: dict[tuple[Any, ...], Any] = {}
    names: dict[Any, Any] = {
        s / n: sympy.Dummy(integer=True, positive=True) for s, n in units.items()
    }
    scaled = {s: n * names[s / n] for s, n in units.items()}
    for expression in expressions:
        sealed = _sealed(sympy.sympify(expression), names, top=True)
        expanded = sympy.expand(sealed.xreplace(scaled))
        for term in sorted(sympy.Add.make_args(expanded), key=_by_degree):
            number, rest = term.as_coeff_Mul()
            powers = {b: int(e) for b, e in rest.as_powers_dict().items() if b != 1}
            key = tuple(sorted(powers.items(), key=str))
            found[key] = found.get(key, 0) + number
    opened = {dummy: atom for atom, dummy in names.items()}
    return [
        _Term(number, {opened.get(b, b): e for b, e in key})
        for key, number in found.items()
        if number != 0
    ]


def _by_degree(term: Any) -> tuple[Any, ...]:
    """Positive terms first, then those of high degree."""
    number, rest = term.as_coeff_Mul()
    return bool(number < 0), -sum(max(e, 0) for e in rest.as_powers_dict().values()), str(rest)


def _sealed(expr: Any, names: dict[Any, Any], top: bool = False) -> Any:
    """``expr`` with dimensions such as ``⌊(H - 1)/2⌋ + 1`` replaced by one symbol each."""
    if not expr.has(*_ROUNDED, sympy.Max, sympy.Min, sympy.Piecewise):
        return expr
    if top and expr.is_Add:
        return expr.func(*(_sealed(a, names, top=True) for a in expr.args))
    if expr.is_Mul:
        return expr.func(*(_sealed(a, names) for a in expr.args))
    if expr.is_Pow:
        return expr.func(_sealed(expr.args[0], names), expr.args[1])
    return names.setdefault(expr, sympy.Dummy(integer=True, positive=True))


def _shared(terms: Sequence[_Term], wanted: Any) -> dict[Any, int]:
    """The largest product of wanted bases that divides every term."""
    bases = [b for b in terms[0].powers if wanted(b)]
    least = {b: min(t.powers.get(b, 0) for t in terms) for b in bases}
    return {b: e for b, e in least.items() if e > 0}


def _taken_out(terms: list[_Term]) -> tuple[Any, dict[Any, int], list[_Term]]:
    if len(terms) == 1:
        return terms[0].number, terms[0].powers, [_Term(sympy.S.One, {})]
    if len(terms) < _MANY:
        return sympy.S.One, {}, terms
    common = _shared(terms, lambda _: True)
    number = _content(t.number for t in terms)
    left = [_Term(t.number / number, _divided(t.powers, common)) for t in terms]
    return number, common, left


def _content(numbers: Iterable[Any]) -> Any:
    numbers = list(numbers)
    top = reduce(sympy.igcd, (abs(n.p) for n in numbers))
    bottom = reduce(sympy.ilcm, (n.q for n in numbers), 1)
    return sympy.Rational(top, bottom)


def _divided(powers: Powers, by: Powers) -> dict[Any, int]:
    return {b: e - by.get(b, 0) for b, e in powers.items() if e != by.get(b, 0)}


def _times(*factors: Powers) -> dict[Any, int]:
    result: dict[Any, int] = {}
    for powers in factors:
        for base, exponent in powers.items():
            result[base] = result.get(base, 0) + exponent
    return {b: e for b, e in result.items() if e}


def expression(tree: Product) -> Any:
    """The tree as sympy, its sums left factored."""
    inner = sympy.Add(*map(expression, tree.sum)) if tree.sum else sympy.S.One
    factors = sympy.Mul(*(base**exponent for base, exponent in tree.powers))
    if tree.number == 1 or not inner.is_Add or factors != 1:
        return tree.number * factors * inner
    return sympy.Mul(tree.number, inner, evaluate=False)


def denominator(tree: Product) -> int:
    """The largest denominator of the numbers in a tree."""
    return max(int(tree.number.q), *map(denominator, tree.sum), 1)
