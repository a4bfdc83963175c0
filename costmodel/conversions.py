"""Weights that a model converts to the format of its activations, where both agree already.

In a graph of float32, ``weight.to(x.dtype)`` answers the weight itself and launches nothing. Under
autocast the same line copies it to float16, and what it multiplies stays float16 instead of
becoming float32. A conversion to float32 by name is another matter: it is none then, either.
"""

from __future__ import annotations

import linecache
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

import torch

_METHODS = ("to", "type_as")


@contextmanager
def noticing(note: Callable[[torch.Tensor], None]) -> Iterator[None]:
    """Call ``note`` with every tensor that is asked for in the format of another, and has it."""
    methods = {name: getattr(torch.Tensor, name) for name in _METHODS}
    own = [name for name in _METHODS if name in vars(torch.Tensor)]

    def noticed(method: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(method)
        def convert(tensor: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
            like = args[0] if args and isinstance(args[0], torch.Tensor) else None
            if like is not None and like.is_meta and like.dtype == tensor.dtype:
                result = tensor  # only the trace has them in different places
            else:
                result = method(tensor, *args, **kwargs)
            if result is tensor and _names_format((*args, *kwargs.values())) and _follows():
                note(tensor)
            return result

        return convert

    for name, method in methods.items():
        setattr(torch.Tensor, name, noticed(method))
    try:
        yield
    finally:
        for name, method in methods.items():
            if name in own:
                setattr(torch.Tensor, name, method)
            else:
                delattr(torch.Tensor, name)


def _names_format(values: tuple[Any, ...]) -> bool:
    return any(isinstance(value, (torch.dtype, torch.Tensor)) for value in values)


def _follows() -> bool:
    """Whether the calling line takes the format from a tensor, and does not spell it."""
    caller = sys._getframe(2)
    return "float32" not in linecache.getline(caller.f_code.co_filename, caller.f_lineno)
