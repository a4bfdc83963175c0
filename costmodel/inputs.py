"""Example inputs: from ``1x3x224x224`` or ``int64:1x128`` to tensors that have no data."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from costmodel.errors import CostModelError
from costmodel.ir import ITEMSIZE

if TYPE_CHECKING:
    import torch

#: Short names that people type for torch's dtypes.
ALIASES = {
    "fp64": "float64", "double": "float64", "fp32": "float32", "float": "float32",
    "fp16": "float16", "half": "float16", "bf16": "bfloat16", "long": "int64", "int": "int32",
}  # fmt: skip
_FORM = re.compile(
    r"(?:(?P<name>[A-Za-z_]\w*)=)?(?:(?P<dtype>\w+):)?(?P<shape>\d{1,18}(?:x\d{1,18})*)", re.ASCII
)
_LARGEST = 2**62


@dataclass(frozen=True, slots=True)
class Shape:
    """A tensor to make: its dimensions, torch's name of its dtype, its keyword if it has one."""

    dims: tuple[int, ...]
    dtype: str = "float32"
    name: str | None = None

    def __post_init__(self) -> None:
        if not 0 < math.prod(self.dims) < _LARGEST:
            text = "x".join(map(str, self.dims))
            raise CostModelError(
                f"input {text}: every dimension must be at least 1, and their product below 2^62"
            )

    def tensor(self) -> torch.Tensor:
        """A tensor of that shape and dtype on the meta device."""
        import torch

        return torch.empty(self.dims, dtype=getattr(torch, self.dtype), device="meta")


@dataclass(frozen=True, slots=True)
class Inputs:
    """What a model is called with: positional arguments and keyword arguments."""

    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] | None = None


def parse(text: str) -> Shape:
    """Read ``[NAME=][DTYPE:]AxBxC``; without a dtype it is float32.

    Raises `CostModelError` for anything else, for a dimension of zero and for an unknown dtype.
    """
    found = _FORM.fullmatch(text.strip())
    if found is None:
        raise CostModelError(
            f"input {text!r} is not a shape; write one like 1x3x224x224, or int64:1x128 for "
            "token ids"
        )
    dtype = ALIASES.get(found["dtype"] or "", found["dtype"] or "float32")
    if dtype not in ITEMSIZE or dtype.startswith("q"):
        raise CostModelError(
            f"input {text!r}: no dtype {found['dtype']!r}; use float32, float16, int64, bool, …"
        )
    dims = tuple(int(digits) for digits in found["shape"].split("x"))
    return Shape(dims, dtype, found["name"])


def make(values: Any) -> Inputs:
    """Inputs from a tensor, a shape like ``"1x3x224x224"``, or a sequence of such things.

    Anything that is neither text nor a sequence at the top is passed on as it is.
    """
    if not isinstance(values, Sequence) or isinstance(values, str):
        values = (values,)
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    for value in values:
        if not isinstance(value, str):
            args.append(value)
            continue
        shape = parse(value)
        if shape.name is None:
            args.append(shape.tensor())
        elif shape.name in kwargs:
            raise CostModelError(f"input {shape.name} is given twice; give it once")
        else:
            kwargs[shape.name] = shape.tensor()
    return Inputs(tuple(args), kwargs)


def with_batch(inputs: Inputs, batch: int) -> Inputs:
    """The inputs with another batch: the leading dimension of every tensor that shares the first's.

    Raises `CostModelError` when no argument is a tensor with a leading dimension.
    """
    import torch

    kwargs = dict(inputs.kwargs or {})
    leading = [
        value.shape[0]
        for value in (*inputs.args, *kwargs.values())
        if isinstance(value, torch.Tensor) and value.ndim > 0
    ]
    if not leading:
        raise CostModelError("--batch has no tensor to act on; give the whole shape with --input")

    def resized(value: Any) -> Any:
        if not isinstance(value, torch.Tensor) or value.ndim == 0 or value.shape[0] != leading[0]:
            return value
        dtype = str(value.dtype).removeprefix("torch.")
        return Shape((batch, *value.shape[1:]), dtype).tensor()

    return Inputs(
        tuple(resized(value) for value in inputs.args),
        {name: resized(value) for name, value in kwargs.items()},
    )
