"""Costs as algebra: ``formula(Module, in_ch="C_in", inputs="N x C_in x H x W").macs``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from costmodel.errors import CostModelError
from costmodel.formula.costs import Costs, FormulaRow, from_table
from costmodel.formula.problem import Problem
from costmodel.formula.result import Formula, make


def formula(
    builder: Any,
    *args: Any,
    inputs: str | Sequence[str],
    name: str | None = None,
    **arguments: Any,
) -> Formula:
    """The cost of the modules that ``builder`` makes, as formulas.

    ``builder`` is a class, a function that returns a module, or a module. ``arguments`` go to the
    builder: text stands for a symbol or an expression in symbols (``hidden="4*d"``) unless the
    argument's default is text; everything else is passed on. ``inputs`` are shapes such as
    ``"N x C_in x H x W"`` or ``"int64: N x L"``.

    Raises `CostModelError` where no exact formula is found, and says why.
    """
    from costmodel.formula.ask import ask, parse_shape, text_arguments

    shapes = [parse_shape(text) for text in ([inputs] if isinstance(inputs, str) else inputs)]
    function, text = _recipe(builder, name)
    symbols, constants = text_arguments(function, arguments)
    return solve(ask(text, function, args, constants, symbols, shapes, {}))


def _recipe(builder: Any, name: str | None) -> tuple[Callable[..., Any], str]:
    from torch import nn

    if isinstance(builder, nn.Module):
        return (lambda: builder), name or type(builder).__name__
    if not callable(builder):
        raise CostModelError(
            f"a {type(builder).__name__} makes no module; give a class, a function or a module"
        )
    return builder, name or str(getattr(builder, "__name__", "model"))


def solve(problem: Problem) -> Formula:
    """The formula that answers a problem: traced on symbols, or fitted where that is refused."""
    from costmodel.formula import build, fit

    hints = build.runnable(problem)
    try:
        derived = build.derive(problem, hints)
    except build.Refused as refused:
        return fit.fit(problem, hints, refused).settled()
    rows, unsupported = from_table(derived.table)
    found = make(problem, rows, unsupported, derived.domain, derived.fixed, derived.notes)
    return found.settled()


__all__ = ["Costs", "Formula", "FormulaRow", "formula", "solve"]
