"""A search space: a builder, the integers that it may be given, and the input that goes in."""

from __future__ import annotations

import inspect
import math
import random
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from costmodel.errors import CostModelError
from costmodel.table import CostTable, cost

#: One architecture: for each choice the position of its value among the choice's values.
Code = tuple[int, ...]


@dataclass(frozen=True)
class Space:
    """All networks ``builder(**values)`` with one of ``values[name]`` for each choice.

    ``inputs`` are shapes whose dimensions may name choices: ``"1x3x{size}x{size}"``. A choice that
    only the input names is not passed to the builder.
    """

    builder: Callable[..., Any]
    text: str
    names: tuple[str, ...]
    values: tuple[tuple[int, ...], ...]
    inputs: tuple[str, ...]
    passed: frozenset[str]
    declared: Any = None

    @property
    def size(self) -> int:
        """How many architectures there are."""
        return math.prod(map(len, self.values))

    def at(self, code: Code) -> dict[str, int]:
        """The choices of an architecture by name."""
        return {n: v[i] for n, v, i in zip(self.names, self.values, code, strict=True)}

    def draw(self, chance: random.Random) -> Code:
        """An architecture at random."""
        return tuple(chance.randrange(len(v)) for v in self.values)

    def table(self, code: Code) -> CostTable:
        """The full analysis of one architecture: built, traced, costed.

        Raises `CostModelError` naming the choices with which it cannot be built or run.
        """
        from costmodel import targets
        from costmodel.api import trace

        chosen = self.at(code)
        arguments = {n: v for n, v in chosen.items() if n in self.passed}
        try:
            module = targets.build(targets.Builder(self.text, self.builder, (), arguments)).module
            inputs = [_filled(text, chosen) for text in self.inputs] or self.declared(module)
            return cost(trace(module, inputs))
        except CostModelError as error:
            at = ", ".join(f"{n}={v}" for n, v in chosen.items())
            raise CostModelError(f"{error} (at {at})") from error

    def codes(self, choices: Any) -> NDArray[np.intp]:
        """Positions (architectures x choices) of given values.

        ``choices`` maps every name to an array of values, or is an integer array with one row an
        architecture and one column a choice. Raises `CostModelError` for a value that the space
        does not have.
        """
        if isinstance(choices, Mapping):
            _check_names(self.names, choices)
            given = [np.atleast_1d(choices[n]) for n in self.names]
            columns = list(np.broadcast_arrays(*given))
        else:
            rows = np.atleast_2d(np.asarray(choices))
            if rows.shape[1] != len(self.names):
                raise CostModelError(
                    f"architectures of shape {rows.shape}; give one row each, with "
                    f"{len(self.names)} columns: {', '.join(self.names)}"
                )
            columns = list(rows.T)
        found = np.empty((len(columns[0]), len(self.names)), np.intp)
        for i, (name, column, values) in enumerate(
            zip(self.names, columns, self.values, strict=True)
        ):
            allowed = np.array(values)
            order = np.argsort(allowed)
            place = np.searchsorted(allowed, column, sorter=order).clip(max=len(values) - 1)
            found[:, i] = order[place]
            wrong = allowed[found[:, i]] != column
            if wrong.any():
                raise CostModelError(
                    f"{name}={column[wrong][0]} is not in the space; it has "
                    f"{', '.join(map(str, values))}"
                )
        return found


def space_of(
    builder: Any, choices: Mapping[str, Sequence[int]], inputs: str | Sequence[str] | None
) -> Space:
    """The space of a class, a function or a target (``"net.py:Net"``).

    Raises `CostModelError` when a choice has no place, or the builder needs an argument that is
    not among the choices.
    """
    declared = None
    if isinstance(builder, str):
        from costmodel import targets

        recipe = targets.builder(builder)
        text, declared = builder, _declares(recipe)
        function: Callable[..., Any] = _bound(recipe)
    elif callable(builder):
        function, text = builder, str(getattr(builder, "__name__", "the builder"))
    else:
        raise CostModelError(
            f"a {type(builder).__name__} builds no network; give a class, a function or a target"
        )
    shapes = () if inputs is None else (inputs,) if isinstance(inputs, str) else tuple(inputs)
    if not shapes and declared is None:
        raise CostModelError(f'{text}: say what goes in, as in inputs="1x3x224x224"')
    named = {name for shape in shapes for name in re.findall(r"\{(\w+)\}", shape)}
    values = {name: _values(name, found) for name, found in choices.items()}
    if not values:
        raise CostModelError(f"{text}: no choices to make; give some, as in {{'width': (16, 24)}}")
    for name in sorted(named - values.keys()):
        raise CostModelError(
            f"inputs name {{{name}}}, which is not a choice; add it to the choices"
        )
    passed = _passed(function, text, tuple(values), named)
    return Space(
        function, text, tuple(values), tuple(values.values()), shapes, frozenset(passed), declared
    )


def _declares(recipe: Any) -> Callable[[Any], Any]:
    def inputs(module: Any) -> Any:
        found = recipe.inputs(module)
        if found is None or found.kwargs:
            raise CostModelError(f'{recipe.text} declares no input size; add inputs="1x3x224x224"')
        return found.args

    return inputs


def _bound(recipe: Any) -> Callable[..., Any]:
    def build(**values: Any) -> Any:
        return recipe.function(*recipe.args, **{**recipe.kwargs, **values})

    build.__wrapped__ = recipe.function  # type: ignore[attr-defined]
    return build


def _values(name: str, found: Sequence[int]) -> tuple[int, ...]:
    values = tuple(found)
    if not values or len(set(values)) != len(values):
        raise CostModelError(f"choice {name} needs different values, at least one; it has {values}")
    for value in values:
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
            raise CostModelError(f"choice {name}: {value!r} is no integer; choices are integers")
    return tuple(int(value) for value in values)


def _passed(
    function: Callable[..., Any], text: str, names: Sequence[str], named: set[str]
) -> Iterator[str]:
    """The choices that the builder takes."""
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):
        yield from names
        return
    open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    for name in names:
        if name in parameters or (open_ended and name not in named):
            yield name
        elif name not in named:
            have = ", ".join(parameters) or "none"
            raise CostModelError(f"{text} has no argument {name!r}; its arguments are {have}")
    for name, parameter in parameters.items():
        fixed = parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
        if not fixed and parameter.default is parameter.empty and name not in names:
            raise CostModelError(
                f"{text} needs the argument {name!r}, which is not among the choices; add it, "
                "with one value if it is fixed"
            )


def _filled(shape: str, chosen: Mapping[str, int]) -> str:
    return re.sub(r"\{(\w+)\}", lambda found: str(chosen[found[1]]), shape)


def _check_names(names: Sequence[str], given: Mapping[str, Any]) -> None:
    for name in given:
        if name not in names:
            raise CostModelError(f"no choice {name!r} in the space; it has {', '.join(names)}")
    for name in names:
        if name not in given:
            raise CostModelError(f"no value for the choice {name!r}; give every choice one")
