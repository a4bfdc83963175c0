"""The text of a TARGET, taken apart: where the model is, its name, its literal arguments."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from costmodel.errors import CostModelError

Scheme = Literal["file", "module", "timm", "torchvision", "hf", "pt2"]

FORMS = (
    "write FILE.py, FILE.py:NAME(width=0.5), package.module:NAME, timm:NAME, torchvision:NAME, "
    "hf:CONFIG_DIR, hf:BertConfig or FILE.pt2"
)
_LIBRARIES: tuple[Scheme, ...] = ("timm", "torchvision", "hf")
_CALL = re.compile(r"(?P<name>[^()]*)(?P<arguments>\(.*\))?", re.DOTALL)
_MODULE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


@dataclass(frozen=True, slots=True)
class Call:
    """``scheme`` says what ``place`` is; ``name`` is called with ``args`` and ``kwargs``.

    ``called`` tells ``NAME()`` from ``NAME``.
    """

    text: str
    scheme: Scheme
    place: str
    name: str | None = None
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    called: bool = False


def parse(text: str) -> Call:
    """Take a target apart. Arguments must be Python literals and are never evaluated.

    Raises `CostModelError` when it has none of the known forms.
    """
    text = text.strip()
    place, colon, rest = _divide(text)
    if place in _LIBRARIES and colon:
        scheme: Scheme = place
    elif place.endswith(".py"):
        scheme = "file"
    elif place.endswith(".pt2"):
        scheme = "pt2"
    elif colon and _MODULE.fullmatch(place):
        scheme = "module"
    else:
        raise CostModelError(f"cannot tell what model {text!r} is; {FORMS}")
    if not colon:
        return Call(text, scheme, place)
    found = _CALL.fullmatch(rest)
    if found is None or not found["name"].strip() or scheme == "pt2":
        raise CostModelError(f"cannot tell what model {text!r} is; {FORMS}")
    args, kwargs = _literals(found["arguments"] or "()", text)
    called = found["arguments"] is not None
    return Call(text, scheme, place, found["name"].strip(), args, kwargs, called)


def _divide(text: str) -> tuple[str, str, str]:
    """Split at the colon that ends the file or the library, not at one inside the arguments."""
    head, colon, rest = text.partition(".py:")
    if colon and "(" not in head:
        return f"{head}.py", ":", rest
    head, colon, rest = text.partition(":")
    return (head, colon, rest) if "(" not in head else (text, "", "")


def _literals(arguments: str, text: str) -> tuple[tuple[Any, ...], dict[str, Any]]:
    try:
        call = ast.parse(f"_{arguments}", mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise CostModelError(
            f"{text}: cannot read the arguments; write them as in NAME(width=0.5)"
        ) from error
    if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name):
        raise CostModelError(f"{text}: cannot read the arguments; write them as in NAME(width=0.5)")
    kwargs: dict[str, Any] = {}
    for word in call.keywords:
        if word.arg is None:
            raise CostModelError(f"{text}: ** is not a literal; write the arguments out")
        if word.arg in kwargs:
            raise CostModelError(f"{text}: argument {word.arg} is given twice; give it once")
        kwargs[word.arg] = _literal(word.value, text)
    return tuple(_literal(node, text) for node in call.args), kwargs


def _literal(node: ast.expr, text: str) -> Any:
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError) as error:
        raise CostModelError(
            f"{text}: argument {ast.unparse(node)} is not a Python literal; numbers, strings, "
            "True, None, lists, tuples and dicts are"
        ) from error
