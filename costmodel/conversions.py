"""Conversions that a model asks for and that do nothing where everything is float32.

In a graph of float32, ``x.float()`` and ``weight.to(x.dtype)`` answer the tensor itself and launch
nothing. In a network of bfloat16, and under autocast, they are copies, and what follows them is of
another format. Which tensor a dtype was read from is seen by watching ``Tensor.dtype``: a function
that reads ``x.dtype`` and later asks for a tensor in a format that it does not spell asks for that
of ``x``.
"""

from __future__ import annotations

import linecache
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import wraps
from itertools import islice
from types import CodeType, FrameType
from typing import Any, TypeVar

import torch

from costmodel.ir import Recast, TensorSpec

_METHODS = ("to", "type_as", "float")
#: Where conversions are no model's: decompositions, and the trace itself.
_NOT_OF_MODELS = ("torch._", "costmodel.")
_SPELLED = ("float32", "torch.float)", "torch.float,")

Origin = TypeVar("Origin")


@contextmanager
def noticing(
    origin: Callable[[torch.Tensor], Origin],
    convert: Callable[[torch.Tensor, Origin | None, bool], torch.Tensor],
) -> Iterator[None]:
    """Ask ``convert`` for what a conversion returns that does nothing.

    It is given the tensor, the ``origin`` of the tensor whose format is asked for (``None`` where
    that is not known), and whether it is float32 by name instead. ``origin`` is called when a
    tensor's dtype is read.
    """
    methods = {name: getattr(torch.Tensor, name) for name in _METHODS}
    own = {name: vars(torch.Tensor).get(name) for name in (*_METHODS, "dtype")}
    read: dict[int, tuple[CodeType, Origin]] = {}
    described: Any = torch.Tensor.dtype  # a descriptor, whatever its stub says
    dtype_of = described.__get__

    def dtype(tensor: torch.Tensor) -> torch.dtype:
        frame = sys._getframe(1)
        read[id(frame)] = frame.f_code, origin(tensor)
        return dtype_of(tensor)  # type: ignore[no-any-return]

    def noticed(method: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(method)
        def ask(tensor: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
            frame = sys._getframe(1)
            if frame.f_globals.get("__name__", "").startswith(_NOT_OF_MODELS):
                return method(tensor, *args, **kwargs)
            values = (*args, *kwargs.values())
            like = args[0] if args and isinstance(args[0], torch.Tensor) else None
            result = tensor
            if tensor.is_meta or not _to_meta(dtype_of(tensor), values):
                result = method(tensor, *args, **kwargs)
            if result is not tensor:
                return result
            if like is not None:
                return convert(tensor, origin(like), False)
            if method is methods["float"]:
                return convert(tensor, None, True)
            if not any(isinstance(value, torch.dtype) for value in values):
                return result
            if _spelled(frame):
                return convert(tensor, None, True)
            code, last = read.get(id(frame), (None, None))
            return convert(tensor, last if code is frame.f_code else None, False)

        return ask

    for name, method in methods.items():
        setattr(torch.Tensor, name, noticed(method))
    torch.Tensor.dtype = property(dtype)  # type: ignore[assignment]
    try:
        yield
    finally:
        for name, value in own.items():
            if value is None:
                delattr(torch.Tensor, name)
            else:
                setattr(torch.Tensor, name, value)


def recast_of(number: int, origin: TensorSpec | int | None, by_name: bool) -> Recast:
    """The conversion with that number, as `costmodel.identity.Identities.origin` tells whose format
    it takes. What has the format of a copy is in that of what the copy was made like."""
    if by_name:
        return Recast(number, "float32")
    if isinstance(origin, TensorSpec):
        if origin.recast is not None:
            return replace(origin.recast, number=number)
        origin = origin.storage
    if origin is None or origin < 0:
        return Recast(number, "met")
    return Recast(number, "like", origin)


def _to_meta(given: torch.dtype, values: tuple[Any, ...]) -> bool:
    """Whether a conversion keeps the format and goes where only the trace has its tensors."""
    formats = {given}
    there = False
    for value in values:
        if isinstance(value, torch.Tensor):
            there |= value.is_meta
            formats.add(value.dtype)
        elif isinstance(value, torch.dtype):
            formats.add(value)
        else:
            there |= str(value) == "meta"
    return there and len(formats) == 1


def _spelled(frame: FrameType) -> bool:
    """Whether the call that ``frame`` is at spells float32 among its arguments."""
    return any(name in _arguments(frame) for name in _SPELLED)


def _arguments(frame: FrameType) -> str:
    """The source of the arguments of the call that ``frame`` is at, without white space."""
    positions = next(islice(frame.f_code.co_positions(), frame.f_lasti // 2, None), None)
    if positions is None or None in positions:
        return ""
    first, last, start, end = positions
    lines = [
        linecache.getline(frame.f_code.co_filename, number).encode()
        for number in range(first, last + 1)  # type: ignore[operator, arg-type]
    ]
    lines[-1] = lines[-1][:end]
    lines[0] = lines[0][start:]
    text = "".join(b"".join(lines).decode(errors="replace").split())
    depth = 0
    for place in range(len(text) - 1, -1, -1):
        depth += (text[place] == ")") - (text[place] == "(")
        if depth == 0:
            return text[place:]
    return text
