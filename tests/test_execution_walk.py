"""How PyTorch's loops meet operands in other orders: stretches, single elements, lines, sweeps."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from costmodel.api import trace
from costmodel.execution import kernels_of
from costmodel.execution.kernel import Kernel
from costmodel.execution.walk import Walk, walk_of
from costmodel.ir import TensorSpec, ops_of
from costmodel.machine import x86
from costmodel.machine.constants import constants_of
from costmodel.serial import dumps, loads
from costmodel.setting import setting
from costmodel.table import cost


class Calls(nn.Module):
    def __init__(self, call) -> None:
        super().__init__()
        self.call = call

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.call(x)


def kernels(call, *shape: int, execution: str = "eager") -> list[Kernel]:
    model = call if isinstance(call, nn.Module) else Calls(call)
    table = cost(trace(model, torch.empty(shape, device="meta")))
    return list(kernels_of(table.rows, execution, "fp32", shape[0]))


def walks(call, *shape: int) -> list[Walk | None]:
    return [kernel.walk for kernel in kernels(call, *shape)]


@pytest.mark.parametrize(
    ("call", "shape", "walk"),
    [
        (lambda x: x + x, (8, 16), None),
        (lambda x: x.relu(), (2, 3, 4, 5), None),
        (lambda x: x.T[:0] + x[0], (4, 4), None),  # nothing to walk
        (lambda x: x[:1, :1].T + 1, (4, 4), None),
        # A line for each element: 16 steps of 64 bytes, then the line is used again.
        (lambda x: x + x.T, (16, 16), Walk(16, 256, 64, 16 * 64)),
        # Neighbours 12 bytes apart share lines.
        (lambda x: x.T.contiguous(), (8, 3), Walk(3, 24, 12, 8 * 12)),
        # 1 KB apart: of 16 places in a cache that lines may take, these take one.
        (lambda x: x.transpose(1, 2).contiguous(), (1, 49, 256), Walk(256, 12544, 64, 49 * 1024)),
        # A page or more apart: addresses differ in no bit that counts.
        (lambda x: x.transpose(1, 2).contiguous(), (1, 9, 2048), Walk(2048, 18432, 64, 9 * 4096)),
        # Heads put side by side: 7 values each lie as they are wanted.
        (lambda x: x.permute(0, 2, 1, 3).contiguous(), (2, 3, 5, 7), Walk(30)),
        # A factor for each channel of 20 positions.
        (lambda x: x * x.mean((2, 3), keepdim=True), (2, 3, 4, 5), Walk(6)),
        # All operands in one order, whichever.
        (lambda x: x.permute(0, 2, 3, 1).relu(), (2, 3, 4, 5), None),
        (lambda x: x.permute(0, 2, 3, 1).norm(dim=-1), (2, 3, 4, 5), Walk(40, 120, 64, 3 * 64)),
        (lambda x: x.permute(0, 2, 3, 1).sum(-1), (2, 3, 4, 5), None),
    ],
)  # fmt: skip
def test_loops_meet_operands_in_stretches_or_one_by_one(call, shape, walk) -> None:
    assert walks(call, *shape)[-1] == walk


def test_strides_are_kept_of_tensors_that_are_not_contiguous_alone() -> None:
    graph = trace(Calls(lambda x: x.T + 1), torch.empty(4, 6, device="meta"))
    (add,) = (op for op in ops_of(graph) if "add" in op.target)
    assert add.inputs[0].strides == (1, 6)
    assert add.out.strides == (1, 6)
    assert next(iter(ops_of(graph))).inputs[0].strides == ()


def test_a_stored_trace_keeps_strides() -> None:
    graph = trace(Calls(lambda x: x.T + 1), torch.empty(4, 6, device="meta"))
    assert list(ops_of(loads(dumps(graph)))) == list(ops_of(graph))


def test_without_strides_nothing_is_known_of_a_walk() -> None:
    x = TensorSpec((4, 6), contiguous=False)
    assert walk_of((x,), replace(x, contiguous=True)) is None


def test_a_norm_copies_a_map_in_another_order_element_by_element() -> None:
    """Of 8 x 10 positions 12 channels are brought together, 320 bytes apart."""
    norm = Calls(lambda x: nn.functional.layer_norm(x.permute(0, 2, 3, 1), (12,)))
    copy, main = kernels(norm, 1, 12, 8, 10)
    assert copy.walk == Walk(80, 960, 64, 12 * 64)
    assert main.walk is None


def test_a_convolution_copies_tokens_that_pytorch_does_not_take_for_a_map() -> None:
    """A single image of tokens shown as a map: 64 values an element, 49 in a row."""

    class Windows(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(64, 64, 3, padding=1, groups=64)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.conv(x.transpose(1, 2).view(len(x), 64, 7, 7))

    assert Walk(64, 3136, 64, 49 * 256) in walks(Windows(), 1, 49, 64)
    # ... into channels first, and convolves it so; of two images it knows the order
    assert [k.channels_last for k in kernels(Windows(), 1, 49, 64) if k.macs] == [False]
    assert [k.channels_last for k in kernels(Windows(), 2, 49, 64) if k.macs] == [True]


def test_inductor_writes_loops_of_its_own() -> None:
    def mixed(x: torch.Tensor) -> torch.Tensor:
        return nn.functional.gelu(x + x.T)

    (made,) = kernels(mixed, 64, 64, execution="compiled")
    assert made.walk is None
    assert made.transcendentals == 64 * 64
    assert kernels(mixed, 64, 64)[-1].transcendentals == 2 * 64 * 64


def moved(walk: Walk | None) -> tuple[float, float]:
    """Cycles of arithmetic, and seconds of traffic, of a copy on one thread of a server."""
    chosen = setting("epyc-genoa", execution="eager", threads=1)
    free = {
        name: {"us": 0.0, "ns": 0.0}.get(c.unit, c.value)
        for name, c in constants_of("x86/eager").items()
    }
    kernel = replace(kernels(lambda x: x.clone(), 4, 1024)[-1], walk=walk)
    parts = x86.parts([kernel], chosen)(free | {"apart_cycles": 3.0, "stretch_cycles": 40.0})
    clock = x86.machine_of(chosen, {"fp32"}).clock
    return float(parts.times().compute[0] * clock), float(parts.times().memory[0])


def test_elements_apart_and_stretches_take_cycles_each() -> None:
    plain, _ = moved(None)
    cycles, _ = moved(Walk(stretches=10, apart=4096, line=64, sweep=4096))
    assert cycles - plain == pytest.approx(10 * 40 + 4096 * 3)


def test_lines_come_again_where_a_sweep_leaves_the_second_level() -> None:
    """Zen 4 has a megabyte a core, a quarter of which is for what is written; of twice the rest
    nothing is left when the sweep is over. As many lines are on their way as a core waits for."""
    _, plain = moved(None)
    _, held = moved(Walk(10, 4096, 64, sweep=3 * 2**18))
    _, half = moved(Walk(10, 4096, 64, sweep=9 * 2**17))
    _, lost = moved(Walk(10, 4096, 64, sweep=3 * 2**19))
    assert held == pytest.approx(plain)
    a_core = setting("epyc-genoa", execution="eager", threads=1).constants()["core_gb_per_s"]
    assert lost - plain == pytest.approx(4096 * 64 / (a_core * 1e9))
    assert half - plain == pytest.approx((lost - plain) / 2)
