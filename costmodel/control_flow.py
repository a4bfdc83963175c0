"""Branches that depend on values, which a trace does not have: ``torch.cond``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from costmodel import rules
from costmodel.dataflow import Dataflow
from costmodel.ir import Dim, Op


def larger_branch(
    flow: Dataflow, branches: Sequence[Callable[..., Any]], operands: Sequence[Any]
) -> tuple[int, Any]:
    """Run every branch, and keep in ``flow`` what the one with the most work recorded there.

    Work is compared in MACs, then in scalar operations; the first of equals is kept. Returns the
    number of the branch and its result.
    """
    before, tried = flow.copy(), []
    for branch in branches:
        flow.restore(before)
        result = branch(*operands)
        tried.append((_work(flow.ops[len(before.ops) :]), flow.copy(), result))
    chosen = max(range(len(tried)), key=lambda number: tried[number][0])
    _, after, result = tried[chosen]
    flow.restore(after)
    return chosen, result


def _work(ops: Sequence[Op]) -> tuple[Dim, Dim]:
    """MACs and scalar operations of those ops that a rule knows."""
    costs = [cost for cost in map(rules.cost_of, ops) if cost is not None]
    return sum(cost.macs for cost in costs), sum(cost.ops for cost in costs)
