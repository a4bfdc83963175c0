"""From the words of the command line to a formula."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from costmodel.errors import CostModelError
from costmodel.formula import Formula, solve
from costmodel.formula.arithmetic import check_name
from costmodel.formula.ask import ask, named, parse_shape, tie
from costmodel.formula.problem import Problem, Shape


def formula_of(
    target: str, symbols: str | None, dims: str | None, inputs: Sequence[str] = ()
) -> Formula:
    """The formula of a TARGET with ``--symbols``, ``--dims`` and ``--input`` as typed.

    Raises `CostModelError` for a symbol that is no argument of the target, a dimension that its
    input has not, and where no exact formula is found.
    """
    from costmodel import targets

    builder = targets.builder(target)
    constants = _by_name(target, builder.function, builder.args, builder.kwargs)
    chosen = parse_symbols(symbols or "")
    names = [check_name(d.strip()) for d in dims.split(",")] if dims and dims.strip() else []
    if inputs:
        extents: dict[str, int] = {}
        shapes = tuple(parse_shape(text) for text in inputs)
        if names:
            have = {name for shape in shapes for d in shape.dims for name in _names(d)}
            missing = [name for name in names if name not in have]
            if missing:
                raise CostModelError(
                    f"--dims {missing[0]}: no such dimension in --input {inputs[0]}"
                )
    else:
        shapes, extents = named(_declared(target, builder), names)

    def problem(shapes: Sequence[Shape]) -> Problem:
        return ask(target, builder.function, (), constants, chosen, shapes, extents)

    asked = problem(shapes)
    if not inputs and asked.arguments:
        asked = tie(problem, shapes, _defaults(builder.function, constants, chosen))
    if not asked.symbols:
        raise CostModelError(
            "no symbols asked for; name some with --dims N,H,W or --symbols in_ch=C_in"
        )
    return solve(asked)


def parse_symbols(text: str) -> dict[str, str]:
    """Read ``in_ch=C_in,hidden=4*d``."""
    found: dict[str, str] = {}
    for part in filter(None, (p.strip() for p in text.split(","))):
        argument, equals, expression = part.partition("=")
        if not equals or not argument.strip().isidentifier() or not expression.strip():
            raise CostModelError(f"--symbols {part!r}: write ARGUMENT=SYMBOL, as in in_ch=C_in")
        if argument.strip() in found:
            raise CostModelError(f"--symbols names {argument.strip()} twice; once is enough")
        found[argument.strip()] = expression.strip()
    return found


def parse_point(text: str) -> dict[str, int]:
    """Read ``K=3,C_in=256``. Raises `CostModelError` for anything but positive whole numbers."""
    values: dict[str, int] = {}
    for part in filter(None, (p.strip() for p in text.split(","))):
        name, _, number = (p.strip() for p in part.partition("="))
        if not number.isdecimal() or int(number) < 1:
            raise CostModelError(f"--at {part!r}: write SYMBOL=NUMBER, a whole number from 1 on")
        values[check_name(name)] = int(number)
    return values


def _names(dim: str) -> list[str]:
    from costmodel.formula.arithmetic import names

    return names(dim)


def _by_name(
    target: str, function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> dict[str, Any]:
    """Positional arguments of a target under their names."""
    if not args:
        return dict(kwargs)
    try:
        return dict(inspect.signature(function).bind_partial(*args, **kwargs).arguments)
    except TypeError as error:
        raise CostModelError(f"{target}: {error}") from None


def _declared(target: str, builder: Any) -> tuple[Shape, ...]:
    """The input shapes that a target suggests."""
    import torch

    from costmodel import targets

    suggested = None
    try:
        suggested = targets.build(builder).inputs
    except CostModelError as error:
        raise CostModelError(
            f'{error}; or say what goes in with --input "N x C_in x H x W"'
        ) from error
    if suggested is None or suggested.kwargs or not suggested.args:
        raise CostModelError(
            f'{target} does not say what goes in; add --input "N x 3 x H x W", or "int64: N x L" '
            "for token ids"
        )
    shapes = []
    for value in suggested.args:
        if not isinstance(value, torch.Tensor):
            raise CostModelError(f'{target} takes more than tensors; write them with --input "…"')
        dtype = str(value.dtype).removeprefix("torch.")
        shapes.append(Shape(tuple(map(str, value.shape)), dtype))
    return tuple(shapes)


def _defaults(
    function: Callable[..., Any], constants: Mapping[str, Any], chosen: Mapping[str, str]
) -> dict[str, Any]:
    """What each symbol's argument is when nobody names it."""
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):
        parameters = {}  # type: ignore[assignment]
    found: dict[str, Any] = {}
    for argument, expression in chosen.items():
        parameter = parameters.get(argument)
        default = parameter.default if parameter is not None else None
        for name in _names(expression):
            found.setdefault(name, constants.get(argument, default))
    return found
