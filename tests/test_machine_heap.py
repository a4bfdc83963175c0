"""Pages that a run touches anew because the C library gave them back."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import costmodel as cm
from costmodel.costfunction import CostFunction, cost_function
from costmodel.execution import kernels_of
from costmodel.execution.kernel import Access, Kernel
from costmodel.hardware.schema import Measured
from costmodel.machine.constants import constants_of, values_of
from costmodel.machine.heap import MAPPED, PAGE, blocks_of
from costmodel.roofline import latencies_of, timer_of
from costmodel.setting import setting
from costmodel.validate.fit import space_of

MB = 2**20


def kernel(reads: dict[int, int], writes: dict[int, int], over: int = 0) -> Kernel:
    """A copy; storages by their bytes."""
    accesses = (tuple(Access(s, n) for s, n in side.items()) for side in (reads, writes))
    reading, writing = accesses
    return Kernel(("copy",), "", "movement", "move", "fp32", 0, 0, reading, writing, over=over)


def pages(*kernels: Kernel, packed: float = 0.0, copies: float = 1.0) -> list[float]:
    sizes = np.zeros(len(kernels))
    sizes[0] = packed
    return list(blocks_of(kernels, sizes, np.full(len(kernels), copies)).pages * PAGE / MB)


def test_what_fits_twice_the_largest_block_is_never_given_back():
    # The input is the caller's; two blocks live at a time.
    chain = [kernel({0: MB}, {1: MB}), kernel({1: MB}, {2: MB}), kernel({2: MB}, {3: MB})]
    assert pages(*chain) == [0, 0, 0]


def test_a_larger_heap_grows_anew_up_to_its_peak():
    # 1, then 1 and 2, then 1, 2 and 3 live together; the fourth takes the place of the first.
    kernels = [
        kernel({0: MB}, {1: MB}),
        kernel({1: MB}, {2: MB}),
        kernel({1: MB, 2: MB}, {3: MB}),
        kernel({2: MB, 3: MB}, {4: MB}),
    ]
    assert pages(*kernels) == [1, 1, 1, 0]


def test_a_block_in_the_place_of_an_operand_is_none():
    kernels = [kernel({0: MB}, {1: MB}), kernel({1: MB, 0: MB}, {2: MB})]
    two = blocks_of(kernels, np.zeros(2), np.ones(2))
    one = blocks_of([kernels[0], replace(kernels[1], over=MB)], np.zeros(2), np.ones(2))
    assert (two.peak, one.peak) == (2 * MB, MB)


def test_blocks_above_the_limit_are_mapped_each_time():
    assert pages(kernel({0: MB}, {1: MAPPED})) == [0]
    assert pages(kernel({0: MB}, {1: MAPPED + PAGE})) == [32 + PAGE / MB]
    # Weights packed twice over: 40 MB each time, beside a map that stays in the heap.
    assert pages(kernel({0: MB}, {1: MB}), packed=40.0 * MB, copies=2.0) == [80]


def test_packed_weights_live_while_their_kernel_runs():
    # Two copies of 2 MB beside 1 MB written: more than twice the largest block.
    assert pages(kernel({0: MB}, {1: MB}), packed=2.0 * MB, copies=2.0) == [5]
    assert pages(kernel({0: MB}, {1: MB}), packed=2.0 * MB) == [0]


def test_a_part_of_a_run_holds_what_entered_it():
    part = [kernel({7: MB}, {8: MB}), kernel({8: MB}, {9: MB})]
    alone = blocks_of(part, np.zeros(2), np.ones(2))
    entered = blocks_of(part, np.zeros(2), np.ones(2), {7: MB, 6: MB}, out=6)
    assert list(alone.live / MB) == [1, 2]
    # 7 until it is read, 6 to the end, because it is passed on.
    assert list(entered.live / MB) == [3, 3]
    assert blocks_of(part, np.zeros(2), np.ones(2), {7: 40 * MB}).mapped.sum() == 0


class Wide(nn.Module):
    """A linear layer on so many positions that its output is 40 MB."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(64, 1024)

    def forward(self, x):
        return self.layer(x).relu()


WIDE = (cm.cost(cm.trace(Wide(), torch.empty(10240, 64)))).rows


def seconds(execution: str, page_ns: float) -> float:
    chosen = setting("i9-10940x:cpu", execution=execution, threads=4)
    kernels = kernels_of(WIDE, execution, "fp32")
    constants = {**chosen.constants(), "page_ns": page_ns}
    alone = float(timer_of(kernels, chosen)(constants).latency.sum())
    assert latencies_of([(kernels, chosen)])(constants) == pytest.approx([alone])
    return alone


def test_compiled_networks_wait_for_every_page():
    grown = seconds("compiled", 1000.0) - seconds("compiled", 0.0)
    assert grown == pytest.approx(40 * MB / PAGE * 1e-6)


@pytest.mark.parametrize("execution", ["eager", "ncnn", "onnxruntime"])
def test_others_have_no_such_constant(execution):
    assert "page_ns" not in constants_of(f"x86/{execution}")


@pytest.mark.parametrize("measured", ["compiled", "eager"])
def test_measuring_keeps_memory_so_that_a_host_has_no_such_pages(measured):
    chosen = setting("i9-10940x:cpu", execution="compiled", threads=1)
    found = Measured(date="2026-11-27", software={}, constants={measured: {"issue_us": 1.0}})
    chosen = replace(chosen, profile=chosen.profile.model_copy(update={"measured": found}))
    assert chosen.constants()["page_ns"] == 0.0
    held = space_of("x86/compiled", chosen.constants())
    free = space_of("x86/compiled", values_of("x86/compiled"))
    assert {c.name for c in free.free} - {c.name for c in held.free} == {"page_ns"}
    assert chosen.constants({"page_ns": 7.0})["page_ns"] == 7.0


def test_what_was_given_back_within_a_run_is_not_grown_again():
    kernels = [
        kernel({0: MB}, {1: MB}),
        kernel({1: MB}, {2: MB}),
        kernel({1: MB, 2: MB}, {3: MB}),
        kernel({3: MB}, {4: MB}),
        kernel({3: MB, 4: MB}, {5: MB}),
    ]
    assert pages(*kernels) == [1, 1, 1, 0, 0]


def test_a_mapped_block_in_the_place_of_another_leaves_the_heap_alone():
    big = 40 * MB
    kernels = [kernel({0: MB}, {1: big, 2: MB}), kernel({1: big, 2: MB}, {3: big}, over=big)]
    asked = blocks_of(kernels, np.zeros(2), np.ones(2))
    assert (list(asked.mapped / MB), list(asked.live / MB)) == ([40, 0], [1, 1])


def test_cost_functions_wait_for_mapped_blocks_too():
    def build(width: int) -> nn.Module:
        return nn.Sequential(nn.Linear(64, width), nn.ReLU(), nn.Linear(width, 8))

    function = cost_function(build, {"width": (512, 1024, 2048)}, "10240x64")
    on = CostFunction(function.survey, setting("i9-10940x:cpu", execution="compiled", threads=4))
    rows = function.draw(3, seed=1)
    wanted = [
        cm.predict(
            function.space.table(tuple(code)), "i9-10940x:cpu", execution="compiled", threads=4
        ).latency_s
        for code in function.space.codes(rows)
    ]
    np.testing.assert_allclose(on.latency(rows), wanted, rtol=1e-9)
