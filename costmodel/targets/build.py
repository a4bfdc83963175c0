"""From a recipe to a module: built on the meta device, or on the CPU where that is refused."""

from __future__ import annotations

import logging
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from costmodel.errors import CostModelError
from costmodel.inputs import Inputs, make


def _none(_: nn.Module) -> Inputs | None:
    return None


@dataclass(frozen=True, slots=True)
class Builder:
    """``function(*args, **kwargs)`` makes the model; ``inputs(module)`` finds what to call it with.

    ``folder`` is where the model's own code lies, if it is a file of the user's.
    """

    text: str
    function: Callable[..., Any]
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    inputs: Callable[[nn.Module], Inputs | None] = _none
    folder: Path | None = None


@dataclass(frozen=True, slots=True)
class Target:
    """A model that is ready to trace. ``inputs`` is ``None`` where it declares none."""

    text: str
    module: nn.Module
    inputs: Inputs | None
    builder: Builder
    notes: tuple[str, ...] = ()


def build(builder: Builder) -> Target:
    """Make the module without allocating its weights, if its constructor allows that.

    Raises `CostModelError` with the constructor's own message, and its line where it is known.
    """
    notes: tuple[str, ...] = ()
    try:
        with torch.device("meta"):
            module = builder.function(*builder.args, **builder.kwargs)
    except CostModelError:
        raise
    except (Exception, SystemExit) as refused:
        try:
            module = builder.function(*builder.args, **builder.kwargs)
        except (Exception, SystemExit) as error:
            raise failure(builder.text, "build the model", error, builder.folder) from error
        reason = type(refused).__name__
        notes = (f"built on the CPU: its constructor refuses the meta device ({reason})",)
    if not isinstance(module, nn.Module):
        raise CostModelError(
            f"{builder.text} makes no nn.Module but {type(module).__name__}; name a class or a "
            "function that makes one"
        )
    try:
        inputs = builder.inputs(module)
    except CostModelError:
        raise
    except (Exception, SystemExit) as error:
        raise failure(builder.text, "get its example inputs", error, builder.folder) from error
    return Target(builder.text, module, inputs, builder, notes)


@contextmanager
def quiet(level: int = logging.WARNING) -> Iterator[None]:
    """Without a library's own remarks about weights, extensions and versions."""
    before = logging.root.manager.disable
    logging.disable(level)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def failure(
    text: str, attempt: str, error: BaseException, folder: Path | None = None
) -> CostModelError:
    """The one line about an exception of somebody else's code, with its place in their file."""
    place = _line_in(folder, error)
    message = " ".join(str(error).split())[:300] or "no message"
    where = f"{place}: " if place else f"{text}: "
    return CostModelError(
        f"{where}{type(error).__name__}: {message}; cannot {attempt}, so correct that or the "
        "arguments"
    )


def _line_in(folder: Path | None, error: BaseException) -> str | None:
    """``file:line`` of the innermost frame inside ``folder``; of the text, for a syntax error."""
    if isinstance(error, SyntaxError) and error.filename is not None:
        return f"{_short(error.filename)}:{error.lineno}"
    if folder is None:
        return None
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if Path(frame.filename).parent == folder
    ]
    return f"{_short(frames[-1].filename)}:{frames[-1].lineno}" if frames else None


def _short(file: str) -> str:
    path, here = Path(file), Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def declared(value: Any) -> Inputs:
    """What ``example_inputs()`` returned: a tensor, a shape, a sequence, or a dict of keywords."""
    return Inputs((), dict(value)) if isinstance(value, Mapping) else make(value)
