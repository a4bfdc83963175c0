"""The machine models of CPUs, accelerators and phone GPUs: right in kind, device by device."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from costmodel.execution import kernels_of
from costmodel.execution.kernel import Access, Kernel
from costmodel.hardware import cpu_peak, load_profile, peak, profile_names
from costmodel.hardware.catalog import core
from costmodel.hardware.schema import CpuEngine, NpuEngine, Profile
from costmodel.machine.caches import Levels, hits, touches
from costmodel.machine.constants import blocks, values_of
from costmodel.machine.times import Times
from costmodel.roofline import times_of
from costmodel.rules.geometry import Geometry
from costmodel.setting import Setting, setting
from costmodel.table import CostTable, cost
from costmodel.tracer import trace

MOBILE_BLOCKS = (
    "cpu/ncnn", "cpu/tflite", "cpu/paddle-lite", "cpu/onnxruntime", "npu/npu", "gpu/ncnn",
    "gpu/tflite",
)  # fmt: skip
ARM = [
    name
    for name in profile_names()
    if isinstance(cpu := load_profile(name).engines.get("cpu"), CpuEngine)
    and core(cpu.clusters[0].core).isa.startswith("armv8")
]
ENGINES = [
    (name, engine)
    for name in profile_names()
    for engine, unit in load_profile(name).engines.items()
    if (engine == "cpu" and name in ARM) or isinstance(unit, NpuEngine)
]


@cache
def _network() -> CostTable:
    """Dense, depthwise, pointwise, residual, pooled and fully connected: a little of each."""
    from torch import nn

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Sequential(nn.Conv2d(3, 32, 3, 2, 1), nn.BatchNorm2d(32), nn.ReLU())
            self.wide = nn.Sequential(nn.Conv2d(32, 32, 3, 1, 1), nn.BatchNorm2d(32), nn.ReLU())
            self.deep = nn.Sequential(
                nn.Conv2d(32, 32, 3, 1, 1, groups=32), nn.Hardswish(), nn.Conv2d(32, 64, 1)
            )
            self.head = nn.Linear(64, 1000)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.stem(x)
            x = self.deep(x + self.wide(x))
            return self.head(x.mean((2, 3)))

    with torch.device("meta"):
        return cost(trace(Net().eval(), (torch.empty(1, 3, 96, 96),)))


def _run(chosen: Setting) -> tuple[list[Kernel], Times]:
    kernels = kernels_of(_network().rows, chosen.execution, chosen.format)
    return kernels, times_of(kernels, chosen)


def _latency(chosen: Setting) -> float:
    return float(_run(chosen)[1].latency.sum())


def _setting(name: str, engine: str, **options: Any) -> Setting:
    execution = "npu" if engine == "npu" else options.pop("execution", "ncnn")
    dtype = None
    if engine == "npu":
        unit = load_profile(name).engines[engine]
        assert isinstance(unit, NpuEngine)
        dtype = "fp16" if "fp16" in unit.matrix_tflops else "int8"
    return setting(f"{name}:{engine}", execution=execution, dtype=dtype, **options)


def _changed(chosen: Setting, change: Callable[[Profile], Profile]) -> Setting:
    return replace(chosen, profile=change(chosen.profile))


def _slower_memory(profile: Profile) -> Profile:
    memory = profile.memory.model_copy(update={"gb_per_s": profile.memory.gb_per_s / 2})
    engines = {
        name: unit.model_copy(
            update={"memory": unit.memory.model_copy(
                update={"gb_per_s": unit.memory.gb_per_s / 2})}
        )
        if getattr(unit, "memory", None) is not None
        else unit
        for name, unit in profile.engines.items()
    }  # fmt: skip
    return profile.model_copy(update={"memory": memory, "engines": engines})


def _slower_arithmetic(profile: Profile) -> Profile:
    engines = dict(profile.engines)
    for name, unit in profile.engines.items():
        if isinstance(unit, CpuEngine):
            clusters = [
                c.model_copy(update={
                    "clock_ghz": c.clock_ghz / 2,
                    "all_core_ghz": c.all_core_ghz / 2 if c.all_core_ghz else None,
                })
                for c in unit.clusters
            ]  # fmt: skip
            engines[name] = unit.model_copy(update={"clusters": clusters})
        elif isinstance(unit, NpuEngine):
            slow = {dtype: rate / 2 for dtype, rate in unit.matrix_tflops.items()}
            engines[name] = unit.model_copy(update={"matrix_tflops": slow})
    return profile.model_copy(update={"engines": engines})


@pytest.mark.parametrize(("name", "engine"), ENGINES)
def test_slower_hardware_is_never_faster(name: str, engine: str) -> None:
    chosen = _setting(name, engine)
    latency = _latency(chosen)
    assert _latency(_changed(chosen, _slower_memory)) >= latency
    assert _latency(_changed(chosen, _slower_arithmetic)) > latency


@pytest.mark.parametrize(("name", "engine"), ENGINES)
def test_no_kernel_beats_a_roof(name: str, engine: str) -> None:
    chosen = _setting(name, engine)
    kernels, times = _run(chosen)
    most = (
        cpu_peak(chosen.profile, engine, chosen.format, chosen.threads)  # type: ignore[arg-type]
        if engine == "cpu"
        else peak(chosen.profile, engine, chosen.dtype)  # type: ignore[arg-type]
    )
    flops = np.array([2 * kernel.macs for kernel in kernels])
    assert (times.latency >= flops / most * (1 - 1e-9)).all()
    assert (times.latency >= np.maximum(times.compute, times.memory) * (1 - 1e-9)).all()
    assert (times.overhead >= 0).all()
    assert np.isfinite(times.latency).all()


@pytest.mark.parametrize("name", ARM)
@pytest.mark.parametrize("execution", ["ncnn", "tflite", "paddle-lite"])
def test_equal_cores_share_the_work(name: str, execution: str) -> None:
    # More threads on the cluster of the fastest cores cost no more than forking them.
    cpu = load_profile(name).engines["cpu"]
    assert isinstance(cpu, CpuEngine)
    first = cpu.clusters[0]
    fork = values_of(f"cpu/{execution}")["fork_cycles"] / (first.clock_ghz * 1e9)
    runs = [
        _run(_setting(name, "cpu", execution=execution, threads=n))
        for n in range(1, first.count + 1)
    ]
    for (kernels, fewer), (_, more) in itertools.pairwise(runs):
        assert more.latency.sum() <= fewer.latency.sum() + len(kernels) * fork * (1 + 1e-9)


def test_a_slow_core_holds_an_even_split_back() -> None:
    # Two Cortex-A72 alone against two with two A53: each of four gets a quarter.
    alone, mixed = (_run(_setting("rk3399", "cpu", threads=n))[1] for n in (2, 4))
    assert mixed.compute.sum() > alone.compute.sum() * 0.8


def test_int8_gains_from_the_dot_product_only() -> None:
    def ratio(name: str) -> float:
        kernels = {
            dtype: setting(name, execution="tflite", dtype=dtype, threads=1)
            for dtype in ("fp32", "int8")
        }
        compute = {d: _run(chosen)[1].compute.sum() for d, chosen in kernels.items()}
        return float(compute["fp32"] / compute["int8"])

    assert ratio("rpi5") > 2.0 > ratio("rpi4") > 0.5


def test_each_step_of_a_recurrence_reads_its_weights_again() -> None:
    from costmodel.machine.cpu import work_of

    # 10 steps of a batch of 1 by a 512 x 512 matrix: one float a product, from beyond the L1 cache.
    geometry = Geometry("recurrent", 1, 1, 512, 512, steps=10)
    kernel = replace(_copy(0, 1, 2048), unit="matrix", macs=10 * 512 * 512, geometry=geometry)
    work = work_of([kernel], "ncnn")
    assert work.restreamed.tolist() == [10 * 512 * 512 * 4.0]
    assert work.panel.tolist() == [512 * 512 * 4.0]


def test_chains_hide_the_latency_of_narrow_pipes_only() -> None:
    # ncnn's fp16 tile holds 12 x 8 sums in 12 vectors: enough for two pipes of 4 cycles, not four.
    geometry = Geometry("gemm", 1, 96, 96, 96)
    kernel = replace(_copy(0, 1, 64), unit="matrix", dtype="fp16", macs=96**3, geometry=geometry)

    def share(device: str) -> float:
        chosen = setting(device, execution="ncnn", threads=1)
        peak_time = 2 * kernel.macs / cpu_peak(chosen.profile, "cpu", "fp16", 1)
        return float(peak_time / times_of([kernel], chosen).compute.sum())

    assert share("apple-m1") / share("rpi5") == pytest.approx(12 / 16)


def test_ncnn_runs_groups_in_turn() -> None:
    # 8 channels a group are one block: four threads have nothing to share, as XNNPACK's have.
    geometry = Geometry("conv", 32, 28 * 28, 8, 72, (3, 3), (1, 1), (1, 1), (28, 28))
    kernel = replace(_copy(0, 1, 64), unit="matrix", macs=32 * 784 * 8 * 72, geometry=geometry)

    def gain(execution: str) -> float:
        one, four = (
            times_of([kernel], setting("rpi4", execution=execution, threads=n)).compute.sum()
            for n in (1, 4)
        )
        return float(one / four)

    assert gain("ncnn") == pytest.approx(1.0)
    assert gain("tflite") == pytest.approx(4.0)


def test_an_exponential_takes_twenty_vector_instructions() -> None:
    # A Cortex-A72 starts one 128-bit instruction a cycle: 4 lanes at 1.8 GHz.
    chosen = setting("rpi4", execution="ncnn", threads=1)
    plain = replace(_copy(0, 1, 4096), unit="vector", ops=1024)
    slow = replace(plain, transcendentals=1024)
    more = np.subtract(*(times_of([k], chosen).compute.sum() for k in (slow, plain)))
    efficiency = values_of("cpu/ncnn")["matrix_efficiency"]
    assert more == pytest.approx(20 * 1024 / 4 / 1.8e9 / efficiency)


# -- GPUs of phones and boards --------------------------------------------------------------------


def test_a_dispatch_takes_cycles_of_the_gpu() -> None:
    kernel = _copy(0, 1, 64)
    cycles = values_of("gpu/ncnn")["dispatch_cycles"]
    for device, clock in (("snapdragon-855", 0.585e9), ("rk3588", 1.0e9)):
        times = times_of([kernel] * 3, setting(f"{device}:gpu", execution="ncnn"))
        assert times.overhead[1:].tolist() == pytest.approx([cycles / clock] * 2)


def test_the_system_cache_serves_the_gpu() -> None:
    chosen = setting("pixel4:gpu", execution="ncnn")
    near = [_copy(0, 1, 2**20), _copy(1, 0, 2**20)]  # 3 MB hold two tensors of 1 MiB
    assert times_of(near, chosen).memory.sum() == 0.0
    far = [_copy(0, 1, 2**24), _copy(1, 0, 2**24)]
    assert times_of(far, chosen).memory.min() > 0.0


# -- caches ---------------------------------------------------------------------------------------


def _copy(source: int, target: int, nbytes: int) -> Kernel:
    return Kernel(("k",), "", "movement", "move", "fp32", 0, 0, (Access(source, nbytes),),
                  (Access(target, nbytes),))  # fmt: skip


def test_what_was_just_written_is_as_far_as_its_writer() -> None:
    found = touches([_copy(0, 1, 100), _copy(1, 2, 100)])
    # The first input comes from the previous run; the second was written 200 bytes ago.
    assert found.distance.tolist() == [200.0, 200.0, 200.0, 200.0]
    far = touches([_copy(0, 1, 100), _copy(5, 6, 1000), _copy(1, 2, 100)])
    assert far.distance[4] == 2000.0  # the footprint bounds it: nothing is further away


def test_weights_return_after_the_whole_network() -> None:
    kernels = [
        replace(_copy(i, i + 1, 10), reads=(Access(i, 10), Access(100 + i, 1000, True)))
        for i in range(4)
    ]
    found = touches(kernels)
    assert (found.distance[found.weight] >= 4000).all()
    assert (found.distance[~found.weight] <= 4030).all()


@given(st.lists(st.floats(0, 1e9), min_size=1), st.floats(1, 1e9), st.floats(1, 4))
def test_a_larger_cache_holds_more(far: Sequence[float], capacity: float, factor: float) -> None:
    distance = np.array(far)
    small, large = hits(distance, capacity), hits(distance, capacity * factor)
    assert (large >= small).all()
    assert ((small >= 0) & (small <= 1)).all()
    assert (hits(distance, 0.0) == 0).all()
    assert (small[distance <= capacity] == 1).all()


@given(st.integers(0, 10**8), st.integers(0, 10**8), st.integers(0, 10**9), st.floats(0, 1))
def test_the_cost_of_a_byte_is_linear_between_corners(
    l2: int, l3: int, distance: int, part: float
) -> None:
    levels = Levels(l2, l3, (9e10, 4e10, 1e10))
    corners = [*levels.corners, max(levels.corners) + 1e9]
    for low, high in itertools.pairwise(corners):
        at = np.array([low, low + part * (high - low), high])
        cheap, between, dear = levels.seconds(at)
        assert between == pytest.approx(cheap + part * (dear - cheap), rel=1e-6)
    assert levels.seconds(np.array([distance, 2.0 * distance])).tolist() == sorted(
        levels.seconds(np.array([distance, 2.0 * distance]))
    )
    assert levels.shares(np.array([distance])).sum() == pytest.approx(1.0)


@pytest.mark.parametrize("hw", ["rpi5", "i9-10940x:cpu"])
def test_passes_of_gpu_libraries_take_no_time_on_any_cpu(hw: str) -> None:
    """They are done inside the kernel before, but what they touch has been touched."""
    chosen = setting(hw, execution="eager", threads=1)
    first, last = _copy(0, 1, 10**6), _copy(0, 2, 10**6)
    bias = replace(_copy(1, 1, 10**6), inside=True, ops=250_000)
    times = times_of([first, bias, last], chosen)
    passed = times_of([first, replace(bias, inside=False), last], chosen)
    for seconds in (times.latency, times.compute, times.memory, times.overhead):
        assert seconds[1] == 0.0
    assert passed.latency[1] > 0
    assert times.latency[[0, 2]].tolist() == passed.latency[[0, 2]].tolist()


# -- accelerators ---------------------------------------------------------------------------------


def _product(groups: int, m: int, n: int, k: int, kind: str = "conv") -> Kernel:
    geometry = Geometry(kind, groups, m, n, k, (1, 1), (1, 1), (1, 1), ())  # type: ignore[arg-type]
    macs = groups * m * n * k
    return Kernel(("p",), "", "convolution", "matrix", "fp16", macs, 0, (Access(0, 8),),
                  (Access(1, 8),), geometry)  # fmt: skip


@pytest.mark.parametrize(
    ("shape", "filled"),
    [
        ((1, 64, 32, 32), 64 * 32 * 32),  # whole blocks
        ((1, 64, 33, 32), 64 * 64 * 32),  # one channel more opens a block
        ((1, 64, 32, 3), 64 * 32 * 32),  # three input channels fill as many as thirty-two
        ((8, 64, 4, 4), 64 * 32 * 32),  # eight groups of four share one block, off-diagonal empty
        ((2, 64, 32, 32), 2 * 64 * 32 * 32),  # wide groups do not
    ],
)
def test_blocks_of_the_matrix_engine(shape: tuple[int, int, int, int], filled: int) -> None:
    from costmodel.machine.npu import work_of

    assert work_of([_product(*shape)]).matrix.tolist() == [filled]


@pytest.mark.parametrize(
    ("dtype", "caller", "name"),
    [("int8", "tflite", None), ("int8", None, None), ("fp16", "onnx", None),
     ("int8", "qnn_dlc", "accelerator_narrows_ns"), ("int8", "onnx", "cpu_narrows_ns")],
)  # fmt: skip
def test_who_narrows_the_input_of_an_int8_network(
    dtype: str, caller: str | None, name: str | None
) -> None:
    kernels = kernels_of(_network().rows, "npu", dtype)
    bare = setting("galaxy-s24:npu", dtype=dtype, execution="npu")
    named = replace(bare, caller=caller)
    elements = _network().info.inputs[0].numel
    before, after = (times_of(kernels, chosen) for chosen in (bare, named))
    extra = elements * named.constants()[name] * 1e-9 if name else 0.0
    assert after.latency.sum() - before.latency.sum() == pytest.approx(extra, abs=1e-12)
    assert after.begin - before.begin == pytest.approx(extra, abs=1e-12)


def test_side_by_side_costs_an_accelerator_nothing_in_floating_point() -> None:
    from costmodel.machine.npu import work_of

    joined = _copy(0, 1, 4096)
    assert work_of([replace(joined, dtype="fp16")]).copied.tolist() == [0.0]
    assert work_of([replace(joined, dtype="int8")]).copied.tolist() == [8192.0]
    assert work_of([replace(joined, dtype="fp16", strided=True)]).copied.tolist() == [4096.0]


# -- constants ------------------------------------------------------------------------------------


@pytest.mark.parametrize("block", MOBILE_BLOCKS)
def test_constants_are_physical(block: str) -> None:
    constants = blocks()[block]
    assert 5 <= len(constants) <= 10
    for constant in constants.values():
        assert constant.low <= constant.value <= constant.high
        assert constant.low >= 0
        assert constant.meaning
        assert constant.fixed_on
        for value in (*constant.without.values(), constant.prior or constant.low):
            assert constant.low <= value <= constant.high
        if constant.name.endswith("_efficiency"):
            assert constant.value > 0
            assert constant.high <= 1


@pytest.mark.parametrize("block", MOBILE_BLOCKS[:4])
def test_every_device_can_be_left_out(block: str) -> None:
    constants = blocks()[block].values()
    for device in {d for constant in constants for d in constant.fixed_on}:
        assert all(constant.ignoring(device) is not None for constant in constants)
