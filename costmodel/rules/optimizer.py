"""Fused optimiser steps: operations for each parameter element."""

from __future__ import annotations

from typing import Any

from costmodel.ir import Cost, Dim
from costmodel.rules.registry import RuleFunction, rule

FAMILY = "optimizer"

#: SGD with momentum: decay, scale, add, scale, add. Adam (Kingma & Ba 2015, algorithm 1): two
#: moving averages (3 + 4), two corrections, root, add, divide, scale, subtract.
PER_PARAMETER = {"_fused_sgd_": 5, "_fused_adam_": 14, "_fused_adamw_": 16, "_fused_adagrad_": 6}


def _per_parameter(count: int) -> RuleFunction:
    def step(parameters: Any, *args: Any, out: Any = (), **kwargs: Any) -> Cost:
        total: Dim = 0
        for spec in parameters:
            total = total + spec.numel
        return Cost(ops=count * total)

    return step


for _name, _count in PER_PARAMETER.items():
    rule(f"aten.{_name}", family=FAMILY)(_per_parameter(_count))
