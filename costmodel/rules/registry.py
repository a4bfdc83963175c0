"""The table from ATen target to cost rule, and the engine that applies it.

A rule is a function whose signature mirrors the op's ATen schema, with `TensorSpec` values where
the op takes tensors, and the outputs as keyword ``out`` (one spec, or a tuple when the op returns
several). It returns a `Cost`; bytes that it leaves open are filled in as compulsory traffic.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from costmodel.errors import CostModelError
from costmodel.ir import Cost, Dim, Op, TensorSpec

RuleFunction = Callable[..., Cost]
FamilyFunction = Callable[[Op], str]


@dataclass(frozen=True, slots=True)
class Rule:
    """A cost rule and the op family that it belongs to."""

    function: RuleFunction
    family: str | FamilyFunction


_RULES: dict[str, Rule] = {}


def rule(*targets: str, family: str | FamilyFunction) -> Callable[[RuleFunction], RuleFunction]:
    """Register a function as the rule of ``targets`` (``"aten.linear"``).

    Raises `CostModelError` when a target already has a rule.
    """

    def register(function: RuleFunction) -> RuleFunction:
        for target in targets:
            if target in _RULES:
                raise CostModelError(
                    f"{target} already has a cost rule; register it under one name only"
                )
            _RULES[target] = Rule(function, family)
        return function

    return register


def free(*targets: str, family: str) -> None:
    """Register ops that neither compute nor move anything: views and metadata."""
    rule(*targets, family=family)(_nothing)


def _nothing(*args: Any, **kwargs: Any) -> Cost:
    return Cost(bytes_read=0, bytes_written=0)


def is_free(target: str) -> bool:
    """Whether the op is registered as a view or as metadata."""
    found = _RULES.get(target)
    return found is not None and found.function is _nothing


def is_known(target: str) -> bool:
    """Whether ``target`` has a rule."""
    return target in _RULES


def targets() -> list[str]:
    """Every target that has a rule, sorted."""
    return sorted(_RULES)


def family_of(op: Op) -> str:
    """The op family, for grouping and for the kernels of an execution."""
    found = _RULES.get(op.target)
    if found is None:
        return "unsupported"
    return found.family if isinstance(found.family, str) else found.family(op)


def cost_of(op: Op) -> Cost | None:
    """The cost of ``op``; ``None`` when no rule knows it.

    Bytes left open by the rule are compulsory traffic: each distinct input read once, each
    distinct output written once. Raises `CostModelError` naming the op when its arguments do not
    fit its rule.
    """
    found = _RULES.get(op.target)
    if found is None:
        return None
    if found.function is _nothing:
        return _FREE
    out: Any = op.outputs[0] if len(op.outputs) == 1 else op.outputs
    try:
        cost = found.function(*op.args, **op.kwargs, out=out)
    except (TypeError, AttributeError, IndexError, KeyError, ValueError) as error:
        where = f" in {op.module}" if op.module else ""
        raise CostModelError(
            f"the cost rule of {op.target} cannot read this call{where}: {error}; "
            "please report it with the model"
        ) from error
    if cost.bytes_read is not None and cost.bytes_written is not None:
        return cost
    return cost.with_bytes(distinct_bytes(op.inputs), distinct_bytes(op.outputs + op.writes))


_FREE = Cost(bytes_read=0, bytes_written=0)


def distinct_bytes(specs: Iterable[TensorSpec]) -> Dim:
    """Bytes of the distinct tensors among ``specs``."""
    seen: set[int] = set()
    total: Dim = 0
    for spec in specs:
        if spec.value not in seen or spec.value < 0:
            seen.add(spec.value)
            total = total + spec.nbytes
    return total
