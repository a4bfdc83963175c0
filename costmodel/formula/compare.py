"""Two formulas side by side: their ratio, where it tends, and what it is at a point."""

from __future__ import annotations

import json as json_module
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import sympy

from costmodel.errors import CostModelError
from costmodel.formula.domain import holds
from costmodel.formula.render import remarks
from costmodel.formula.result import QUANTITIES, Formula
from costmodel.formula.text import UNICODE, plain, write
from costmodel.formula.tree import build, expression
from costmodel.ir import symbol
from costmodel.substitution import substitution


@dataclass(frozen=True, slots=True)
class Trend:
    """How the ratio moves when one symbol alone grows: ``direction`` is falls, grows or None."""

    symbol: Any
    direction: str | None
    limit: Any


@dataclass(frozen=True)
class Comparison:
    """A count of two modules. ``per`` is the product of input sizes that both costs share."""

    first: Formula
    second: Formula
    quantity: str
    per: Any
    costs: tuple[Any, Any]

    @cached_property
    def ratio(self) -> Any:
        """Second over first, reduced, and as a sum where the first is a single product."""
        first, second = self.costs
        reduced = sympy.cancel(second / first)
        bottom = sympy.fraction(reduced)[1]
        return sympy.expand(reduced) if not bottom.is_Add else sympy.factor(reduced)

    @cached_property
    def trends(self) -> tuple[Trend, ...]:
        """For each symbol in the ratio."""
        found = []
        for name in dict.fromkeys((*self.first.symbols, *self.second.symbols)):
            if name in self.ratio.free_symbols:
                slope = sympy.numer(sympy.together(sympy.diff(self.ratio, name)))
                found.append(
                    Trend(name, _direction(slope), sympy.limit(self.ratio, name, sympy.oo))
                )
        return tuple(found)

    def at(self, values: Mapping[str, int]) -> tuple[int, int]:
        """Both costs, per `per`, at numbers for the symbols that are left in them.

        Raises `CostModelError` for a symbol without a value or outside the domain.
        """
        numbers = []
        put = substitution(values)
        for formula, cost in zip((self.first, self.second), self.costs, strict=True):
            missing = sorted(s.name for s in cost.free_symbols if s.name not in values)
            if missing:
                raise CostModelError(f"--at gives no value for {', '.join(missing)}")
            for relation in (*formula.domain, *formula.assumptions):
                known = {s.name for s in relation.free_symbols} <= values.keys()
                if known and not holds(relation, values):
                    from costmodel.formula.wording import relation_text

                    raise CostModelError(
                        f"--at is outside the domain of {formula.target}: it needs "
                        f"{relation_text(relation)}"
                    )
            numbers.append(int(put(sympy.sympify(cost))))
        return numbers[0], numbers[1]


def compare_formulas(first: Formula, second: Formula, quantity: str = "macs") -> Comparison:
    """Set a count of two formulas side by side, without floors, per what both are multiples of."""
    pair = (first.tidy(), second.tidy())
    costs = [sympy.sympify(f.of(quantity)) for f in pair]
    if any(cost == 0 for cost in costs):
        none = pair[0 if costs[0] == 0 else 1].target
        raise CostModelError(f"{none} has no {QUANTITIES[quantity]}; compare another count (--of)")
    sizes = {symbol(name) for f in pair for name in f.sizes}
    powers = [
        dict(build([c], list(sizes), f.symbols).powers) for f, c in zip(pair, costs, strict=True)
    ]
    per = sympy.prod(
        base ** min(exponent, powers[1].get(base, 0))
        for base, exponent in powers[0].items()
        if base.free_symbols & sizes and exponent > 0
    )
    left, right = (sympy.expand(cost / per) for cost in costs)
    return Comparison(pair[0], pair[1], quantity, per, (left, right))


def _direction(slope: Any) -> str | None:
    terms = sympy.Add.make_args(sympy.expand(slope))
    if all(term.is_positive for term in terms):
        return "grows"
    return "falls" if all(term.is_negative for term in terms) else None


def text(comparison: Comparison, at: Mapping[str, int] | None = None) -> str:
    """Costs, ratio, trends, and values at a point, a line each."""
    what = QUANTITIES[comparison.quantity]
    lines = []
    for name, formula, cost in _sides(comparison):
        share = f" per {_product(formula, comparison.per)}" if comparison.per != 1 else ""
        lines.append(f"{name}: {formula.target}: {what}{share} = {_sum(formula, cost)}")
    lines.append(f"B/A = {_sum(comparison.first, comparison.ratio)}")
    for trend in comparison.trends:
        moves = {None: "moves both ways", "falls": "falls", "grows": "grows"}[trend.direction]
        limit = "without bound" if trend.limit.is_infinite else f"towards {plain(trend.limit)}"
        lines.append(f"B/A {moves} as {trend.symbol.name} grows, {limit}")
    if at:
        first, second = comparison.at(at)
        where = ", ".join(f"{name} = {value}" for name, value in at.items())
        lines.append(f"at {where}: A {first:,}, B {second:,}, B/A {second / first:.4f}")
    for name, formula, _ in _sides(comparison):
        lines += [f"{name} {line}" for line in remarks(formula)]
    return "\n".join(lines) + "\n"


def json(comparison: Comparison, at: Mapping[str, int] | None = None) -> str:
    """The comparison as JSON."""
    rows = [
        {"name": name, "target": formula.target, comparison.quantity: str(cost)}
        for name, formula, cost in _sides(comparison)
    ]
    data: dict[str, Any] = {
        "schema": 1,
        "per": str(comparison.per),
        "rows": rows,
        "ratios": {comparison.quantity: str(comparison.ratio)},
        "trends": [
            {"symbol": t.symbol.name, "direction": t.direction, "limit": str(t.limit)}
            for t in comparison.trends
        ],
    }
    if at:
        first, second = comparison.at(at)
        data["at"] = {"values": dict(at), "counts": [first, second], "ratio": second / first}
    return json_module.dumps(data, indent=2, ensure_ascii=False) + "\n"


def _sides(comparison: Comparison) -> list[tuple[str, Formula, Any]]:
    first, second = comparison.costs
    return [("A", comparison.first, first), ("B", comparison.second, second)]


def _sum(formula: Formula, expr: Any) -> str:
    if sympy.fraction(sympy.together(expr))[1].is_Add:
        return plain(sympy.sympify(expr))
    return write(build([expr], formula.symbols[: len(formula.sizes)], formula.symbols), UNICODE)


def _product(formula: Formula, expr: Any) -> str:
    tree = build([expr], formula.symbols, formula.symbols)
    assert expression(tree) == expr
    return write(tree, UNICODE)
