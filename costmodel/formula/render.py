"""A formula as text, LaTeX, Markdown, Python or JSON."""

from __future__ import annotations

import json as json_module
import re
from collections.abc import Callable, Sequence
from typing import Any

import sympy
from sympy.printing.str import StrPrinter

from costmodel.formula.growth import growth, word
from costmodel.formula.layout import Layout, lay_out
from costmodel.formula.result import QUANTITIES, Formula, whole
from costmodel.formula.text import LATEX, UNICODE, plain, write, write_expression
from costmodel.formula.tree import build, expression
from costmodel.formula.wording import division, relation_text

#: A share with more operations than this says nothing to a reader.
_LONG = 6
#: What is printed when nobody asks for one count.
USUAL = ("macs", "params", "bytes", "ops")


def text(formula: Formula, of: Sequence[str] = USUAL, by: str = "total") -> str:
    """Lines such as ``MACs = N·H·W·(9·C_in + C_in·C_out)``, then where they hold."""
    layout = lay_out(formula, of, by)
    if by == "total":
        lines = [
            f"{QUANTITIES[q]} = {write(tree, UNICODE)}"
            for q, tree in zip(of, layout.lines[0].trees, strict=True)
        ]
    else:
        lines = []
        for line in layout.lines:
            times = f"  ×{line.times}" if line.times > 1 else ""
            lines.append(f"{line.name or 'the module itself'}{times}")
            lines += [
                f"  {QUANTITIES[q]} = {write(tree, UNICODE)}"
                for q, tree in zip(of, line.trees, strict=True)
                if tree.number != 0
            ]
    lines += [f"  where {name.name} = {plain(dim)}" for name, dim in layout.where]
    return "\n".join([*lines, *remarks(formula)]) + "\n"


def remarks(formula: Formula) -> list[str]:
    """Where a formula holds, what was fixed or fitted, what is missing: one sentence a line."""
    names = ", ".join(s.name for s in formula.symbols)
    relations = [relation_text(r) for r in formula.domain] + multiples(formula.assumptions)
    holds = f" with {'; '.join(relations)}" if relations else ""
    lines = [f"for whole {names} ≥ 1{holds}"] if names else []
    lines += list(formula.notes)
    if formula.unsupported:
        missing = ", ".join(formula.unsupported[:3])
        lines.append(f"lower bounds: no rule knows {missing}")
    return lines


def multiples(assumptions: Sequence[Any]) -> list[str]:
    """``H, W multiples of 32`` for one relation each."""
    groups: dict[Any, list[str]] = {}
    texts = []
    for relation in sorted(assumptions, key=str):
        fact = division(relation)
        if fact is not None and fact[1].is_Integer:
            groups.setdefault(fact[1], []).append(plain(fact[0]))
        else:
            texts.append(relation_text(relation))
    for number, names in groups.items():
        what = f"multiples of {number}" if len(names) > 1 else f"a multiple of {number}"
        texts.append(f"{', '.join(names)} {what}")
    return texts


def growth_text(formula: Formula, quantity: str) -> str:
    """For each symbol: the degree, the leading term, and the families that share it in the end."""
    found: dict[tuple[int, str, str], list[str]] = {}
    for item in growth(formula, quantity):
        shares = [
            f"{family} {word(item.families[family])}"
            + (f" ({_share(share)})" if _is_telling(share) else "")
            for family, share in item.shares.items()
        ]
        sizes = formula.symbols[: len(formula.sizes)]
        lead = write(build([item.leading], sizes, formula.symbols), UNICODE)
        found.setdefault((item.degree, lead, ", ".join(shares)), []).append(item.symbol.name)
    return "".join(
        f"{QUANTITIES[quantity]} are {word(degree)} in {', '.join(names)}, ~ {lead}: {shares}\n"
        for (degree, lead, shares), names in found.items()
    )


def _is_telling(share: Any) -> bool:
    return bool(share != 0 and sympy.count_ops(share) < _LONG)


def _share(share: Any) -> str:
    if share.is_Rational:
        return f"{float(share):.0%} in the end"
    return f"{plain(sympy.factor(share))} in the end"


# -- papers ----------------------------------------------------------------------------------


def latex(formula: Formula, of: Sequence[str] = USUAL, by: str = "total") -> str:
    """Aligned equations of the totals, or a booktabs table with a row for each op or module.

    Needs the packages amsmath and, for tables, booktabs.
    """
    layout = lay_out(formula, of, by)
    where = [
        f"{write_expression(name, LATEX)} &= {write_expression(dim, LATEX)}"
        for name, dim in layout.where
    ]
    if by == "total":
        equations = [
            f"\\text{{{QUANTITIES[q]}}} &= {write(tree, LATEX)}"
            for q, tree in zip(of, layout.lines[0].trees, strict=True)
        ]
        body = _align([*equations, *where])
    else:
        head = " & ".join(["", *(QUANTITIES[q] for q in of)])
        rows = [
            " & ".join(
                [_latex_name(line.name, line.times), *(f"${write(t, LATEX)}$" for t in line.trees)]
            )
            for line in layout.lines
        ]
        body = "\n".join(
            ["\\renewcommand{\\arraystretch}{1.3}", f"\\begin{{tabular}}{{l{'l' * len(of)}}}",
             "\\toprule", f"{head} \\\\", "\\midrule",
             *(f"{row} \\\\" for row in rows), "\\bottomrule", "\\end{tabular}"]
        )  # fmt: skip
        if where:
            body += "\n" + _align(where)
    comments = [f"% {line}" for line in remarks(formula)]
    return "\n".join([*comments, body]) + "\n"


def _align(equations: Sequence[str]) -> str:
    inside = " \\\\\n  ".join(equations)
    return f"\\begin{{align*}}\n  {inside}\n\\end{{align*}}"


def _latex_name(name: str, times: int) -> str:
    safe = re.sub(r"([_&%#$])", r"\\\1", name or "module itself")
    return f"\\texttt{{{safe}}}" + (f" $\\times {times}$" if times > 1 else "")


def markdown(formula: Formula, of: Sequence[str] = USUAL, by: str = "total") -> str:
    """A table with formulas between dollar signs."""
    layout = lay_out(formula, of, by)
    if by == "total":
        head = ["", formula.target]
        rows = [
            [QUANTITIES[q], f"${write(tree, LATEX)}$"]
            for q, tree in zip(of, layout.lines[0].trees, strict=True)
        ]
    else:
        head = ["", *(QUANTITIES[q] for q in of)]
        rows = [
            [f"`{line.name}`" + (f" ×{line.times}" if line.times > 1 else ""),
             *(f"${write(t, LATEX)}$" for t in line.trees)]
            for line in layout.lines
        ]  # fmt: skip
    table = [head, ["---"] * len(head), *rows]
    lines = ["| " + " | ".join(row) + " |" for row in table]
    where = _where(layout, lambda e: f"${write_expression(e, LATEX)}$")
    return "\n".join([*lines, "", *where, *remarks(formula)]) + "\n"


def _where(layout: Layout, show: Callable[[Any], str]) -> list[str]:
    return [f"where {show(name)} = {show(dim)}  " for name, dim in layout.where]


# -- programs --------------------------------------------------------------------------------


class _Integers(StrPrinter):  # type: ignore[misc]
    """Python source whose divisions are whole."""

    def _print_Function(self, expr: Any) -> str:
        top, bottom = (self._print(a) for a in expr.args)
        return f"(({top}) // ({bottom}))"

    def _print_Mod(self, expr: Any) -> str:
        top, bottom = (self._print(a) for a in expr.args)
        return f"(({top}) % ({bottom}))"

    def _print_Max(self, expr: Any) -> str:
        return f"max({', '.join(map(self._print, expr.args))})"

    def _print_Min(self, expr: Any) -> str:
        return f"min({', '.join(map(self._print, expr.args))})"


def source(expr: Any) -> str:
    """Python source of an expression, in whole-number arithmetic only."""
    return str(_Integers().doprint(whole(expr)))


def python(formula: Formula, of: Sequence[str] = USUAL) -> str:
    """A function of the symbols that returns the counts; it raises outside the domain."""
    name = re.sub(r"\W+", "_", re.sub(r"\(.*|.*[:/]", "", formula.target)).strip("_") or "model"
    arguments = ", ".join(s.name for s in formula.symbols)
    lines = [f"def cost_of_{name}({arguments}):", f'    """{formula.target}: exact counts."""']
    for relation in (*formula.domain, *formula.assumptions):
        outside = f"outside the domain: {relation_text(relation)}"
        lines += [f"    if not {condition(relation)}:", f'        raise ValueError("{outside}")']
    lines.append("    return {")
    lines += [f'        "{q}": {source(formula.of(q))},' for q in of]
    return "\n".join([*lines, "    }"]) + "\n"


_OPERATORS = {
    sympy.Eq: "==", sympy.Ne: "!=", sympy.Ge: ">=", sympy.Le: "<=", sympy.Gt: ">", sympy.Lt: "<",
}  # fmt: skip


def condition(relation: Any) -> str:
    """A relation as a Python condition."""
    operator = _OPERATORS.get(type(relation))
    if operator is None:
        joint = " and " if isinstance(relation, sympy.And) else " or "
        return "(" + joint.join(condition(r) for r in relation.args) + ")"
    return f"({source(relation.lhs)} {operator} {source(relation.rhs)})"


def json(formula: Formula, by: str = "op") -> str:
    """The formula as JSON, its expressions in sympy's string form."""
    from costmodel.formula.layout import collapsed

    tidy = formula.tidy()
    rows = []
    for name, times, costs in collapsed(formula.group("op" if by == "total" else by)):
        row = {q: str(getattr(costs, q)) for q in QUANTITIES}
        rows.append({"name": name, "times": times, **row})
    data = {
        "schema": 1,
        "target": formula.target,
        "symbols": dict(formula.meanings or {}),
        "domain": [relation_text(r) for r in formula.domain],
        "total": _total(formula),
        "tidy": {"assumptions": multiples(tidy.assumptions), **_total(tidy)},
        "fixed": dict(formula.fixed or {}),
        "method": formula.method,
        "notes": list(formula.notes),
        "unsupported": list(formula.unsupported),
        "rows": rows,
    }
    return json_module.dumps(data, indent=2, ensure_ascii=False) + "\n"


def _total(formula: Formula) -> dict[str, str]:
    quantities = tuple(QUANTITIES)
    trees = lay_out(formula, quantities).lines[0].trees
    named = dict(lay_out(formula, quantities).where)
    return {
        q: str(expression(tree).xreplace(named)) for q, tree in zip(quantities, trees, strict=True)
    }
