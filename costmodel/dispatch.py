"""What torch's dispatcher says of an op: its name, what it writes, what it is made of."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import torch

_COMPOSITE = torch._C.DispatchKey.CompositeImplicitAutograd


@dataclass(frozen=True, slots=True)
class Plan:
    """Name and overload of an op, and the arguments that it writes by position and name."""

    target: str
    overload: str
    writes: tuple[tuple[int, str], ...] = ()


@cache
def plan_of(func: Any) -> Plan:
    """``aten.conv2d`` for ``torch.ops.aten.conv2d.default``; higher-order ops by their names."""
    if not isinstance(func, torch._ops.OpOverload):
        return Plan(f"higher_order.{func.name()}", "")
    schema = func._schema
    writes = tuple(
        (position, argument.name)
        for position, argument in enumerate(schema.arguments)
        if argument.alias_info is not None and argument.alias_info.is_write
    )
    return Plan(schema.name.replace("::", "."), func._overloadname, writes)


def decomposed(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The op in terms of simpler ones, as eager PyTorch runs it; ``NotImplemented`` if it is one.

    The compiled decomposition goes first: the Python one of ``dropout``, say, clones in eval mode.
    """
    if func.namespace == "prim":  # questions about a tensor, which the dispatcher does not know
        return NotImplemented
    if torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), _COMPOSITE):
        return func._op_dk(_COMPOSITE, *args, **kwargs)
    return func.decompose(*args, **kwargs)
