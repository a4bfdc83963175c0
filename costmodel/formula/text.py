"""Formulas as Unicode text and as LaTeX: one walk over the tree, two ways to write its parts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import sympy

from costmodel.formula.tree import Product

_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_GREEK = {
    "alpha", "beta", "gamma", "delta", "epsilon", "theta", "lambda", "mu", "nu", "phi", "rho",
    "sigma", "tau", "psi", "omega", "Gamma", "Delta", "Theta", "Lambda", "Phi", "Psi", "Omega",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Style:
    """How to write the parts of a formula."""

    times: str
    name: Callable[[str], str]
    number: Callable[[int], str]
    power: Callable[[str, int], str]
    fraction: Callable[[str, str], str]
    around: Callable[[str], str]
    floor: tuple[str, str]
    ceiling: tuple[str, str]
    call: Callable[[str], str]


def _number(n: int) -> str:
    return f"{n:,}" if abs(n) >= 10_000 else str(n)


def _latex_name(name: str) -> str:
    head, _, tail = name.partition("_")
    head = f"\\{head}" if head in _GREEK else head if len(head) == 1 else f"\\mathit{{{head}}}"
    if not tail:
        return head
    tail = tail.replace("_", "\\_")
    return f"{head}_{{{tail}}}" if len(tail) == 1 else f"{head}_{{\\mathrm{{{tail}}}}}"


UNICODE = Style(
    times="·",
    name=str,
    number=_number,
    power=lambda base, n: base + str(n).translate(_SUPERSCRIPT),
    fraction=lambda top, bottom: f"{top}/{bottom}",
    around=lambda inner: f"({inner})",
    floor=("⌊", "⌋"),
    ceiling=("⌈", "⌉"),
    call=str,
)
LATEX = Style(
    times=" ",
    name=_latex_name,
    number=lambda n: _number(n).replace(",", "{,}"),
    power=lambda base, n: f"{base}^{{{n}}}" if n > 9 else f"{base}^{n}",
    fraction=lambda top, bottom: f"\\frac{{{top}}}{{{bottom}}}",
    around=lambda inner: f"\\left({inner}\\right)",
    floor=("\\left\\lfloor ", "\\right\\rfloor "),
    ceiling=("\\left\\lceil ", "\\right\\rceil "),
    call=lambda name: f"\\{name}",
)


def plain(expr: Any) -> str:
    """One expression, not factored, as Unicode text."""
    return write_expression(sympy.sympify(expr), UNICODE)


def write(tree: Product, style: Style) -> str:
    """A tree as text."""
    above = [(base, n) for base, n in tree.powers if n > 0]
    below = [(base, -n) for base, n in tree.powers if n < 0]
    number = tree.number
    top = [_power(base, n, style) for base, n in above]
    if tree.sum:
        inner = _sum([write(term, style) for term in tree.sum], style)
        alone = not top and abs(number.p) == 1 and (style is LATEX or (not below and number.q == 1))
        top.append(inner if alone else style.around(inner))
    bottom = [_power(base, n, style) for base, n in below]
    text = _joined(abs(number.p), top, style)
    if bottom or number.q != 1:
        under = _joined(number.q, bottom, style)
        if style is UNICODE and len(bottom) + (number.q != 1) > 1:
            under = style.around(under)
        text = style.fraction(text, under)
    return f"−{text}" if number < 0 and style is UNICODE else f"-{text}" if number < 0 else text


def _joined(number: int, factors: list[str], style: Style) -> str:
    if number == 1 and factors:
        return style.times.join(factors)
    if not factors:
        return style.number(number)
    gap = "\\," if style is LATEX else style.times
    return style.number(number) + gap + style.times.join(factors)


def _sum(terms: list[str], style: Style) -> str:
    minus = "−" if style is UNICODE else "-"
    text = terms[0]
    for term in terms[1:]:
        text += f" {minus} {term[1:]}" if term.startswith(minus) else f" + {term}"
    return text


def _power(base: Any, exponent: int, style: Style) -> str:
    base = (_as_ceiling(base) if base.is_Add else None) or base
    text = write_expression(base, style)
    if exponent == 1:
        return style.around(text) if base.is_Add else text
    if not base.is_Symbol and not isinstance(base, (sympy.floor, sympy.ceiling)):
        text = style.around(text)
    return style.power(text, exponent)


def write_expression(expr: Any, style: Style) -> str:
    """Any expression of dimensions: sums, products, floors, comparisons of sizes."""
    if expr.is_Symbol:
        return style.name(expr.name)
    if expr.is_Integer:
        return _integer(expr, style)
    if isinstance(expr, (sympy.floor, sympy.ceiling)):
        left, right = style.floor if isinstance(expr, sympy.floor) else style.ceiling
        return f"{left}{_quotient(expr.args[0], style)}{right}"
    if expr.is_Add:
        rounded = _as_ceiling(expr)
        if rounded is not None:
            return write_expression(rounded, style)
        terms = sorted(expr.args, key=_term_order)
        return _sum([write_expression(t, style) for t in terms], style)
    if isinstance(expr, sympy.Mod):
        a, b = (write_expression(x, style) for x in expr.args)
        return f"({a} mod {b})" if style is UNICODE else f"({a} \\bmod {b})"
    if isinstance(expr, (sympy.Max, sympy.Min)):
        name = "max" if isinstance(expr, sympy.Max) else "min"
        inner = ", ".join(write_expression(a, style) for a in expr.args)
        return f"{style.call(name)}({inner})"
    if expr.is_Mul or expr.is_Pow or expr.is_Rational:
        number, rest = expr.as_coeff_Mul()
        powers = rest.as_powers_dict()
        if all(n.is_Integer for n in powers.values()):
            items = [(b, int(n)) for b, n in powers.items() if b != 1]
            items.sort(key=lambda item: (not item[0].is_Symbol, str(item[0])))
            return write(Product(number, tuple(items)), style)
    return str(expr) if style is UNICODE else str(sympy.latex(expr))


def _integer(expr: Any, style: Style) -> str:
    minus = "−" if style is UNICODE else "-"
    return (minus if expr < 0 else "") + style.number(abs(int(expr)))


def _term_order(term: Any) -> tuple[Any, ...]:
    """Positive terms first, numbers last."""
    number, rest = term.as_coeff_Mul()
    return (rest == 1, bool(number < 0), not rest.is_Symbol, str(rest))


def _quotient(expr: Any, style: Style) -> str:
    top, bottom = sympy.fraction(sympy.together(expr))
    if bottom == 1:
        return write_expression(top, style)
    above, below = write_expression(top, style), write_expression(bottom, style)
    if style is UNICODE:
        above = style.around(above) if top.is_Add else above
        below = style.around(below) if bottom.is_Mul or bottom.is_Add else below
    return style.fraction(above, below)


def _as_ceiling(expr: Any) -> Any:
    """``⌈X/m⌉`` for ``⌊(X - 1)/m⌋ + 1``."""
    floors = [a for a in expr.args if isinstance(a, sympy.floor)]
    if len(floors) != 1 or expr - floors[0] != 1:
        return None
    top, bottom = sympy.fraction(sympy.together(floors[0].args[0]))
    whole = sympy.expand(top + 1)
    if bottom.is_Integer and whole.is_Symbol:
        return sympy.ceiling(whole / bottom)
    return None
