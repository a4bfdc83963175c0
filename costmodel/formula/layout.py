"""What is printed, before how: lines of a formula, repeated blocks collapsed, sizes named."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sympy

from costmodel.formula.costs import Costs
from costmodel.formula.result import Formula
from costmodel.formula.tree import Product, build, denominator
from costmodel.formula.wording import division

#: A dimension whose expression is longer than this gets a name of its own.
_LONG = 6
#: Denominators beyond this are hidden by writing sizes in units, R/16 for R.
_LARGE = 64


@dataclass(frozen=True, slots=True)
class Line:
    """A name, how often it repeats, and a tree for each quantity."""

    name: str
    times: int
    trees: tuple[Product, ...]
    costs: Costs


@dataclass(frozen=True, slots=True)
class Layout:
    """Lines in order, and the names that were given to long dimensions."""

    lines: tuple[Line, ...]
    where: tuple[tuple[Any, Any], ...]


def lay_out(formula: Formula, quantities: Sequence[str], by: str = "total") -> Layout:
    """The lines for ``quantities`` by ``op``, ``module``, ``family`` or ``total``."""
    names: dict[Any, Any] = {}
    if by == "total":
        rows = [(formula.target, 1, formula.total)]
        trees = tuple(_tree(formula, _terms(formula, q), names) for q in quantities)
        lines = [Line(formula.target, 1, trees, formula.total)]
    else:
        rows = collapsed(formula.group(by))
        lines = [
            Line(name, times, tuple(_tree(formula, [getattr(costs, q)], names) for q in quantities),
                 costs)
            for name, times, costs in rows
        ]  # fmt: skip
        lines = [line for line in lines if any(tree.number != 0 for tree in line.trees)]
    return Layout(tuple(lines), tuple((name, dim) for dim, name in names.items()))


def collapsed(groups: dict[str, Costs]) -> list[tuple[str, int, Costs]]:
    """Groups whose names differ only in numbers and that cost the same, as one with a count."""
    found: dict[tuple[str, Costs], list[str]] = {}
    for name, costs in groups.items():
        if any(getattr(costs, q) != 0 for q in ("macs", "ops", "params", "bytes")):
            found.setdefault((starred(name), costs), []).append(name)
    return [
        (names[0] if len(names) == 1 else name, len(names), costs)
        for (name, costs), names in found.items()
    ]


def starred(path: str) -> str:
    """``layers.*.qkv`` for ``layers.3.qkv``."""
    return re.sub(r"(?<![^.])\d+(?![^.])", "*", re.sub(r"_l\d+", "_l*", path))


def _terms(formula: Formula, quantity: str) -> list[Any]:
    """What is summed: MACs op by op, so that they read in the order of the network."""
    if quantity == "macs":
        return [row.costs.macs for row in formula.rows]
    return [getattr(formula.total, quantity)]


def _tree(formula: Formula, expressions: Sequence[Any], names: dict[Any, Any]) -> Product:
    symbols = formula.symbols
    sizes = symbols[: len(formula.sizes)]
    tree = build(expressions, sizes, symbols)
    facts = [fact for fact in map(division, formula.assumptions) if fact is not None]
    units = {top: number for top, number in facts if number.is_Integer}
    if units and denominator(tree) > _LARGE:
        tree = build(expressions, sizes, symbols, units)
    return _named(tree, names, {s.name for s in symbols})


def _named(tree: Product, names: dict[Any, Any], taken: set[str]) -> Product:
    """The tree with a symbol in place of each long dimension, the same for equal ones."""
    powers = []
    for base, exponent in tree.powers:
        if not base.is_Symbol and sympy.count_ops(base) > _LONG:
            if base not in names:
                main = next(iter(sorted(base.free_symbols, key=_largest)))
                stem = f"{main.name}_out"
                used = taken | {n.name for n in names.values()}
                name = next(n for n in _numbered(stem) if n not in used)
                names[base] = sympy.Symbol(name, integer=True, positive=True)
            base = names[base]
        powers.append((base, exponent))
    return Product(tree.number, tuple(powers), tuple(_named(t, names, taken) for t in tree.sum))


def _largest(symbol: Any) -> tuple[Any, ...]:
    order = "HWTLSR"
    return (order.find(symbol.name[0]) if symbol.name[0] in order else len(order), symbol.name)


def _numbered(stem: str) -> Any:
    yield stem
    number = 2
    while True:
        yield f"{stem}{number}"
        number += 1
