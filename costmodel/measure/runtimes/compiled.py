"""``torch.compile`` with its default mode, for fixed shapes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from costmodel.measure.runtimes import eager
from costmodel.measure.runtimes.prepared import How, Prepared

if TYPE_CHECKING:
    from torch import Tensor, nn

PACKAGES, DTYPES, LAYOUTS = eager.PACKAGES, eager.DTYPES, eager.LAYOUTS
MODES, DEVICES, software = eager.MODES, eager.DEVICES, eager.software


@contextmanager
def prepare(
    model: nn.Module,
    inputs: tuple[Tensor, ...],
    how: How,
) -> Iterator[Prepared]:
    """As eager, with the model compiled. What was compiled before is forgotten."""
    import torch
    from torch._inductor import config

    if not inputs[0].is_cuda:
        config.compile_threads = 1  # else a pool of processes stays, on the cores that are timed
    torch._dynamo.reset()
    with eager.prepare(
        model, inputs, how, "compiled", lambda module: torch.compile(module, dynamic=False)
    ) as prepared:
        yield prepared
