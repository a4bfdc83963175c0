"""Costs of a mixture of architectures, differentiable in torch.

Each choice is a probability vector over its values (a softmax of what is learned). A piece's
numbers become their expectation under independent choices, which is multilinear in the
probabilities, and the pieces compose as they do for one architecture. At a vertex, where every
choice is certain, the result is that architecture's cost; MACs, parameters and bytes are exact
expectations everywhere. The memory peak is the largest of the pieces' expected peaks, which is no
more than the expected peak and equal to it at a vertex.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from costmodel.costfunction.clocks import Clock
from costmodel.costfunction.pieces import COUNTS
from costmodel.costfunction.space import Space
from costmodel.costfunction.tabulate import PieceTable
from costmodel.errors import CostModelError


class TorchLike:
    """The few numpy functions that a clock uses, on tensors."""

    @staticmethod
    def maximum(a: Any, b: Any) -> torch.Tensor:
        return torch.maximum(*TorchLike._tensors(a, b))

    @staticmethod
    def minimum(a: Any, b: Any) -> torch.Tensor:
        return torch.minimum(*TorchLike._tensors(a, b))

    @staticmethod
    def clip(a: Any, low: float, high: float) -> torch.Tensor:
        return torch.clamp(torch.as_tensor(a, dtype=torch.float64), low, high)

    @staticmethod
    def _tensors(a: Any, b: Any) -> tuple[torch.Tensor, torch.Tensor]:
        a, b = (torch.as_tensor(v, dtype=torch.float64) for v in (a, b))
        return torch.broadcast_tensors(a, b)  # type: ignore[no-any-return,no-untyped-call]


class Relaxed:
    """``relaxed(probabilities)`` -> dict of tensors, one entry a row of the probabilities."""

    def __init__(self, space: Space, tables: Sequence[PieceTable], clock: Clock | None) -> None:
        self._space, self._clock = space, clock
        self._tables = [(t, _tensor(t.counts), _tensor(t.peak), _tensor(t.numbers)) for t in tables]

    def __call__(self, probabilities: Sequence[torch.Tensor]) -> dict[str, torch.Tensor]:
        """Costs under one tensor a choice, (batch, values) or (values,), each summing to 1.

        Returns ``macs``, ``ops``, ``params``, ``buffers``, ``bytes_read``, ``bytes_written``,
        ``peak_activation_bytes`` and, with a device, ``latency_s``, as float64. Raises
        `CostModelError` for wrong shapes.
        """
        rows = self._checked(probabilities)
        counts: Any = 0.0
        peak: Any = 0.0
        columns = []
        for table, exact, live, numbers in self._tables:
            weight = _joint(table, rows)
            counts = counts + weight @ exact.T
            peak = TorchLike.maximum(peak, weight @ live)
            columns.append((weight @ numbers.T).unbind(1))
        found = dict(zip(COUNTS, counts.unbind(1), strict=True))
        found["peak_activation_bytes"] = peak
        if self._clock is not None:
            found["latency_s"] = self._clock.latency(columns, TorchLike)
        return found

    def certain(self, choices: Any) -> list[torch.Tensor]:
        """The vertices that stand for given architectures."""
        codes = self._space.codes(choices)
        return [
            torch.nn.functional.one_hot(torch.as_tensor(codes[:, i]), len(values)).double()
            for i, values in enumerate(self._space.values)
        ]

    def _checked(self, probabilities: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        space = self._space
        if len(probabilities) != len(space.names):
            raise CostModelError(
                f"{len(probabilities)} probability vectors for {len(space.names)} choices: "
                f"{', '.join(space.names)}"
            )
        rows = []
        for name, values, given in zip(space.names, space.values, probabilities, strict=True):
            if given.shape[-1] != len(values):
                raise CostModelError(f"{name} has {len(values)} values, not {given.shape[-1]}")
            rows.append(given.double().reshape(-1, len(values)))
        return rows


def _joint(table: PieceTable, rows: Sequence[torch.Tensor]) -> torch.Tensor:
    """Probability of every combination that a piece depends on, (batch, combinations)."""
    weight = torch.ones(rows[0].shape[0], 1, dtype=torch.float64)
    for choice in table.choices:
        weight = (weight[:, :, None] * rows[choice][:, None, :]).flatten(1)
    return weight


def _tensor(values: Any) -> torch.Tensor:
    return torch.as_tensor(np.asarray(values, np.float64))
