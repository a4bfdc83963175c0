"""Activation memory by liveness along the schedule.

A storage lives from the op that allocates it until the program lets go of it, as PyTorch frees it
when the last reference is gone: a variable of the model's code, or autograd. (A planner that knows
the future could free it after the last op that touches it: ``planned``.) Inputs live from the
start, outputs to the end. Views and in-place ops share storage. Weights are not activations and are
left out; gradients of weights are activations of the backward pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from costmodel.ir import Dim, Op, TensorSpec, TraceInfo

_ACTIVATIONS = ("activation", "input")


@dataclass(frozen=True, slots=True)
class Lifetime:
    """One storage: its size in bytes, and the first and last op (inclusive) at which it lives."""

    storage: int
    nbytes: Dim
    first: int
    last: int


def lifetimes(ops: Sequence[Op], info: TraceInfo, planned: bool = False) -> list[Lifetime]:
    """When each activation storage lives, in order of allocation.

    Until the program freed it; with ``planned``, until the last op that touches it.
    """
    size: dict[int, Dim] = {}
    first: dict[int, int] = {}
    last: dict[int, int] = {}

    def touch(spec: TensorSpec, position: int) -> None:
        if spec.kind not in _ACTIVATIONS:
            return
        key = spec.storage
        known = size.get(key)
        if known is None:
            size[key], first[key] = spec.nbytes, position
        elif isinstance(known, int) and isinstance(spec.nbytes, int) and spec.nbytes > known:
            size[key] = spec.nbytes
        last[key] = position

    for spec in info.inputs:
        touch(spec, 0)
    for position, op in enumerate(ops):
        for spec in op.inputs:
            touch(spec, position)
        for spec in op.outputs:
            touch(spec, position)
    for spec in info.outputs:
        if spec.storage in size:
            last[spec.storage] = len(ops) - 1
    if not planned and info.freed:
        for key in size:
            last[key] = max(first[key], info.freed.get(key, len(ops)) - 1)
    return [Lifetime(key, size[key], first[key], last[key]) for key in size]


def timeline(ops: Sequence[Op], info: TraceInfo, planned: bool = False) -> list[int]:
    """Bytes of activations that live while each op runs. Concrete shapes only."""
    change = [0] * (len(ops) + 1)
    for life in lifetimes(ops, info, planned):
        change[life.first] += life.nbytes
        change[life.last + 1] -= life.nbytes
    level, levels = 0, []
    for step in change[:-1]:
        level += step
        levels.append(level)
    return levels


def peak_bytes(ops: Sequence[Op], info: TraceInfo, planned: bool = False) -> int | None:
    """The high-water mark of `timeline`; ``None`` while a dimension is symbolic."""
    levels = timeline(ops, info, planned)
    if not levels:
        return sum(spec.nbytes for spec in info.inputs)
    if not all(isinstance(level, int) for level in levels):
        return None
    return max(levels)
