"""Pointwise ops that runtimes compute on an output tile while it is still in registers.

Which of these sets a runtime fuses is its own matter (`costmodel.execution`); what the ops are
called is said here.
"""

from __future__ import annotations

RELU = frozenset({"aten.relu", "aten.relu6", "aten.hardtanh", "aten.clamp", "aten.clamp_min"})
HARD = frozenset({"aten.hardswish", "aten.hardsigmoid"})
SIGMOID = frozenset({"aten.sigmoid"})
TANH = frozenset({"aten.tanh"})
LEAKY = frozenset({"aten.leaky_relu"})
SMOOTH = SIGMOID | TANH | LEAKY | {"aten.silu", "aten.gelu"}
ADDITIONS = frozenset({"aten.add"})
MULTIPLICATIONS = frozenset({"aten.mul"})
