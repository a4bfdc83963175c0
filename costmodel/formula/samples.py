"""Traces of a module at values of the symbols that its code will not take, as coefficients.

Ops are aligned by name, with the numbers of repeated layers left out, so that networks of different
depth have the same rows.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sympy

from costmodel.errors import CostModelError
from costmodel.formula import build
from costmodel.formula.costs import STORED, FormulaRow, from_table, total
from costmodel.formula.layout import starred
from costmodel.formula.problem import Problem, Values
from costmodel.formula.wording import division
from costmodel.ir import symbol

Key = tuple[str, str, Any]  # row, count, monomial in the symbols that stayed
Sample = dict[Key, sympy.Rational]


@dataclass
class Traces:
    """The module traced at points of the fitted symbols, each point once."""

    problem: Problem
    hints: Values
    fitted: tuple[str, ...]

    def __post_init__(self) -> None:
        self.samples: dict[tuple[int, ...], Sample | None] = {}
        self.facts: dict[tuple[int, ...], set[tuple[Any, Any]]] = {}
        self.rows: dict[str, FormulaRow] = {}
        self.why = ""
        self.unsupported: tuple[str, ...] = ()

    def at(self, values: Values) -> Sample | None:
        """The coefficients at a point; ``None`` where the module cannot be built or run."""
        place = tuple(values[name] for name in self.fitted)
        if place not in self.samples:
            self.samples[place] = self._trace(values)
        return self.samples[place]

    def _trace(self, values: Values) -> Sample | None:
        chosen = {name: values[name] for name in self.fitted}
        kept = build.restrict(self.problem, chosen)
        rest = {name: self.hints[name] for name in kept.symbols}
        try:
            table, guards = build.attempt(kept, rest, {}) if rest else (kept.table(chosen), ())
        except (build.Refused, CostModelError) as error:
            self.why = getattr(error, "why", str(error))
            return None
        rows, self.unsupported = from_table(table)
        # ⌊256/h⌋ is 256/h where the trace found that h divides 256: only then it varies with 256.
        facts = {fact for fact in map(division, guards) if fact is not None}
        self.facts[tuple(chosen.values())] = facts
        exact = {sympy.floor(top / bottom): top / bottom for top, bottom in facts}
        sample: Sample = {}
        for name, group in _aligned(rows).items():
            self.rows.setdefault(name, group)
            for field in STORED:
                count = getattr(group.costs, field).xreplace(exact)
                parts = sympy.expand(count).as_coefficients_dict()
                for monomial, coefficient in parts.items():
                    if coefficient:
                        sample[name, field, monomial] = coefficient
        return sample


def _aligned(rows: Sequence[FormulaRow]) -> dict[str, FormulaRow]:
    """Rows by name without the numbers of layers and calls, those of equal name added up."""
    groups: dict[str, list[FormulaRow]] = {}
    for row in rows:
        groups.setdefault(re.sub(r"_\d+$", "", starred(row.name)), []).append(row)
    return {
        name: FormulaRow(
            name, same[0].op, starred(same[0].module), same[0].family,
            total(row.costs for row in same),
        )
        for name, same in groups.items()
    }  # fmt: skip


def disagreement(expressions: Mapping[Key, Any], sample: Sample, values: Values) -> str | None:
    """Where the fitted ``expressions`` do not give a trace's coefficients, in words.

    ``values`` are those of the fitted symbols; ``None`` where every coefficient agrees.
    """
    put = {symbol(name): value for name, value in values.items()}
    for key in {**expressions, **sample}:
        said = sympy.sympify(expressions.get(key, 0)).xreplace(put)
        if said != sample.get(key, 0):
            return f"{key[1]} of {key[0]} is {sample.get(key, 0)}·({key[2]}), not {said}"
    return None
