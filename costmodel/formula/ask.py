"""From what a caller or the command line says to a `Problem`."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from itertools import product
from typing import TYPE_CHECKING, Any

from costmodel.errors import CostModelError
from costmodel.formula import arithmetic
from costmodel.formula.problem import Problem, Shape, pool_of, pool_of_size
from costmodel.inputs import ALIASES
from costmodel.ir import ITEMSIZE

if TYPE_CHECKING:
    from torch import nn

#: Names for the dimensions of an input, by its rank, and what they mean.
_AXES: dict[int, tuple[str, ...]] = {
    2: ("NB", "LTSC"),
    3: ("NB", "LTS", "DCE"),
    4: ("NB", "C", "H", "W"),
    5: ("NB", "C", "DT", "H", "W"),
}
_MEANINGS = {
    "N": "batch size", "B": "batch size", "H": "input height", "W": "input width",
    "L": "sequence length", "T": "sequence length", "S": "sequence length",
}  # fmt: skip


def ask(
    text: str,
    function: Callable[..., Any],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    symbols: Mapping[str, str],
    shapes: Sequence[Shape],
    extents: Mapping[str, int],
) -> Problem:
    """The problem of building ``function(*args, **kwargs)`` with ``symbols`` for arguments.

    ``symbols`` maps arguments to expressions (``"4*d"``); ``extents`` gives what is known of the
    usual size of a symbol in ``shapes``. Raises `CostModelError` for an argument that does not
    exist and for text that is no expression.
    """
    parameters = _parameters(text, function, symbols)
    defaults = {name: p.default for name, p in parameters.items()}
    arguments: dict[str, None] = {}
    pools: dict[str, tuple[int, ...]] = {}
    meanings: dict[str, str] = {}
    for argument, expression in symbols.items():
        default = kwargs.get(argument, defaults.get(argument))
        for name in arithmetic.names(expression):
            arithmetic.check_name(name)
            arguments[name] = None
            if name == expression.strip():
                pools[name] = pool_of(argument, default)
                meanings[name] = _meaning(argument)
    for name in arguments:
        pools.setdefault(name, pool_of(name, None))
        meanings.setdefault(name, "of " + ", ".join(k for k, v in symbols.items() if name in v))
    sizes: dict[str, None] = {}
    for shape in shapes:
        for dim in shape.dims:
            for name in arithmetic.names(dim):
                arithmetic.check_name(name)
                if name not in arguments:
                    sizes[name] = None
                    pools[name] = pool_of_size(name, extents.get(name))
                    meanings[name] = _MEANINGS.get(name, "input dimension")

    def build(values: Mapping[str, Any]) -> nn.Module:
        given = {a: arithmetic.evaluate(e, values) for a, e in symbols.items()}
        if all(type(v) is int for v in given.values()):
            from costmodel.targets import Builder
            from costmodel.targets import build as build_target

            return build_target(Builder(text, function, tuple(args), {**kwargs, **given})).module
        module: nn.Module = function(*args, **{**kwargs, **given})
        return module.eval()

    return Problem(text, build, tuple(shapes), tuple(arguments), tuple(sizes), pools, meanings)


def _meaning(argument: str) -> str:
    """``input channels`` for ``in_ch``."""
    words = {"in": "input", "out": "output", "ch": "channels", "num": "number of"}
    return " ".join(words.get(part, part) for part in argument.split("_"))


def _parameters(
    text: str, function: Callable[..., Any], symbols: Mapping[str, str]
) -> Mapping[str, inspect.Parameter]:
    """The builder's parameters, after checking that each symbol stands for one."""
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):
        return {}
    if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values()):
        return parameters
    for argument, name in symbols.items():
        if argument not in parameters:
            have = ", ".join(parameters) or "none"
            raise CostModelError(
                f"{text} has no argument {argument!r} to stand for {name}; its arguments are {have}"
            )
    return parameters


def parse_shape(text: str) -> Shape:
    """Read ``N x C_in x H x W`` or ``int64: N x L``; dimensions are expressions.

    Raises `CostModelError` when a dimension is not an expression or the dtype unknown.
    """
    prefix, colon, rest = text.rpartition(":")
    dtype = ALIASES.get(prefix.strip(), prefix.strip()) if colon else "float32"
    if dtype not in ITEMSIZE:
        raise CostModelError(f"input {text!r}: no dtype {prefix.strip()!r}; use float32, int64, …")
    dims = re.split(r"\s+[x×]\s+|(?<=\d)[x×](?=\d)|[x×](?=[A-Z\d])", rest.strip())
    for dim in dims:
        arithmetic.names(dim)
    return Shape(tuple(dim.strip() for dim in dims), dtype)


def named(shapes: Sequence[Shape], dims: Sequence[str]) -> tuple[tuple[Shape, ...], dict[str, int]]:
    """Shapes of numbers with the dimensions ``dims`` named, and the numbers that stood there.

    N (or B) is the first axis, H and W the last two of an image, L (or T, S) the second of a
    sequence. Raises `CostModelError` for a name with no place.
    """
    extents: dict[str, int] = {}
    changed: list[Shape] = []
    for shape in shapes:
        axes = _AXES.get(len(shape.dims), ())
        new = list(shape.dims)
        for position, letters in enumerate(axes):
            name = next(
                (d for d in dims if d[0] in letters and d not in extents.keys() - {d}), None
            )
            if name is not None and (len(name) == 1 or name[1] in "_0123456789"):
                new[position] = name
                extents[name] = int(shape.dims[position])
        changed.append(Shape(tuple(new), shape.dtype))
    for name in dims:
        arithmetic.check_name(name)
        if name not in extents:
            have = " and ".join("x".join(s.dims) for s in shapes)
            raise CostModelError(
                f"no dimension {name} in an input of {have}: N is the batch, H and W the last two "
                'of an image, L the length of a sequence; or write --input "N x 3 x H x W"'
            )
    return tuple(changed), extents


def tie(problem: Callable[[Sequence[Shape]], Problem], shapes: Sequence[Shape],
        arguments: Mapping[str, Any]) -> Problem:  # fmt: skip
    """The problem whose input follows the constructor's symbols.

    An example input of 64 channels belongs to a module built for 64. Of the ways to put symbols
    where the example has numbers, the first with which the module runs is taken; a symbol whose
    argument has that number for its default goes first. ``arguments`` maps symbols to defaults.
    """
    places = [
        (i, j)
        for i, shape in enumerate(shapes)
        for j, dim in enumerate(shape.dims)
        if dim.isdigit()
    ]
    choices = []
    for i, j in places:
        extent = shapes[i].dims[j]
        equal = [name for name, default in arguments.items() if str(default) == extent]
        others = [name for name in arguments if name not in equal]
        choices.append([extent, *equal, *others])
    first: Problem | None = None
    for choice in product(*choices):
        rows = [list(shape.dims) for shape in shapes]
        for (i, j), dim in zip(places, choice, strict=True):
            rows[i][j] = dim
        asked = problem([Shape(tuple(r), s.dtype) for r, s in zip(rows, shapes, strict=True)])
        first = first or asked
        if _runs(asked):
            return asked
    assert first is not None
    return first


def _runs(problem: Problem) -> bool:
    """Whether the module runs at two assignments that differ in every symbol."""
    seen: list[dict[str, int]] = []
    for values in problem.draws(60):
        if any(values[name] == old[name] for old in seen for name in problem.arguments):
            continue
        try:
            problem.table(values)
        except CostModelError:
            continue
        seen.append(values)
        if len(seen) == 2:
            return True
    return False


def text_arguments(
    function: Callable[..., Any], arguments: Mapping[str, Any]
) -> tuple[dict[str, str], dict[str, Any]]:
    """Arguments that stand for symbols, and those that are passed on as they are."""
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):
        parameters = {}  # type: ignore[assignment]
    symbols: dict[str, str] = {}
    constants: dict[str, Any] = {}
    for argument, value in arguments.items():
        parameter = parameters.get(argument)
        takes_text = parameter is not None and isinstance(parameter.default, str)
        if isinstance(value, str) and not takes_text:
            symbols[argument] = value
        else:
            constants[argument] = value
    return symbols, constants
