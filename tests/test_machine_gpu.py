"""GPU mechanisms: kernels whose threads wait in turn, caches that forget by and by, fused norms."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import costmodel as cm
from costmodel.execution import compiled, eager
from costmodel.execution.kernel import Kernel
from costmodel.machine import gpu
from costmodel.roofline import times_of
from costmodel.setting import setting
from costmodel.table import CostTable

MAPS = 4 * 8


def table_of(model: nn.Module, x: torch.Tensor) -> CostTable:
    return cm.cost(cm.trace(model.eval(), (x,)))


def resampled(mode: str, order: torch.memory_format) -> CostTable:
    x = torch.randn(4, 8, 7, 7).to(memory_format=order)
    return table_of(nn.Upsample(scale_factor=2, mode=mode), x)


@pytest.mark.parametrize(
    ("mode", "order", "serial"),
    [
        ("bilinear", torch.contiguous_format, MAPS),
        ("bilinear", torch.channels_last, 0),
        ("bicubic", torch.channels_last, MAPS),
        ("nearest", torch.contiguous_format, 0),
    ],
)
def test_maps_are_resampled_in_turn(mode: str, order: torch.memory_format, serial: int) -> None:
    rows = resampled(mode, order).rows
    assert [k.serial for k in eager.kernels(rows, "fp16")] == [serial]
    assert [k.serial for k in compiled.kernels(rows, "fp16")] == [0]


def test_threads_that_wait_in_turn_wait_once_for_each_map() -> None:
    chosen = setting("rtx4090", dtype="fp16", execution="eager")
    launched = eager.kernels(resampled("bilinear", torch.contiguous_format).rows, "fp16")
    found = times_of(launched, chosen, {"serial_us": 0.5, "dispatch_us": 0.0})
    assert found.memory[0] == pytest.approx(MAPS * 0.5e-6)


def test_a_cache_forgets_by_and_by() -> None:
    distance = np.array([0.0, 10.0, 15.0, 20.0, np.inf])
    assert gpu._held(distance, 10.0).tolist() == [1.0, 1.0, 0.5, 0.0, 0.0]
    assert gpu._held(distance, 0.0).tolist() == [1.0, 0.0, 0.0, 0.0, 0.0]


class Residual(nn.Module):
    """The residual stream of a transformer in float32, a norm of it for a half-precision layer."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(16, 16), nn.Linear(16, 16)
        self.norm = nn.LayerNorm(16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.first(x)
        return x + self.last(self.norm(x))


def fused_norm(launched: list[Kernel]) -> Kernel:
    return next(k for k in launched if "norm.layer_norm" in k.names)


def test_inductor_fuses_a_norm_with_the_sum_before_it_and_the_cast_after_it() -> None:
    launched = compiled.kernels(table_of(Residual(), torch.randn(2, 8, 16)).rows, "amp-fp16")
    kernel = fused_norm(launched)
    assert kernel.names == ("add", "norm.layer_norm", "last.linear.cast")
    tokens = 2 * 8 * 16
    # In: the stream (4 bytes), the layer's output (2), scale and shift. Out: the sum, which the
    # second addition reads in float32, and the half-precision copy for the layer.
    assert sum(a.nbytes for a in kernel.reads) == tokens * (4 + 2) + 2 * 16 * 4
    assert sum(a.nbytes for a in kernel.writes) == tokens * (4 + 2)


def test_casts_of_weights_keep_nothing_waiting() -> None:
    launched = compiled.kernels(table_of(Residual(), torch.randn(2, 8, 16)).rows, "amp-fp16")
    casts = [all(a.weight for a in k.reads) for k in launched]
    assert casts == sorted(casts, reverse=True)
    assert sum(casts) == 4
