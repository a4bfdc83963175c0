"""An x86 CPU under eager or compiled PyTorch: oneDNN for products, vector loops for the rest.

All cores share every kernel. A product runs at a share of the vector peak, its output channels
padded to whole vectors; convolutions first put inputs and weights into oneDNN's blocked order.
Weights come from main memory on every run unless all of them fit in the caches; activations stay
in the caches while their reuse distance allows it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from costmodel.execution.kernel import Kernel
from costmodel.hardware.catalog import core
from costmodel.hardware.peaks import cpu_peak, fastest_cores
from costmodel.hardware.schema import CpuEngine, DType
from costmodel.machine.features import Features, features_of
from costmodel.machine.times import Array, Timer, Times

if TYPE_CHECKING:
    from costmodel.setting import Setting

#: Share of its peak that each kind of product reaches, by constant.
_EFFICIENCY = {
    "gemm": "matrix_efficiency",
    "recurrent": "matrix_efficiency",
    "conv": "convolution_efficiency",
    "depthwise": "depthwise_efficiency",
    "attention": "attention_efficiency",
}
_SCATTERED = ("pooling", "interpolation", "embedding")
#: Elements of a loop below which inductor and ATen give a thread nothing to do (their grain size
#: is 4096 to 32768).
GRAIN = 4096


@dataclass(frozen=True)
class Machine:
    """FLOP/s by dtype over all threads, vector lanes, bytes, bytes/s and Hz."""

    peak: Mapping[str, float]
    lanes: int
    threads: int
    clock: float
    caches: float
    memory: float


def timer(kernels: Sequence[Kernel], chosen: Setting) -> Timer:
    """The time of every kernel of a run, once constants are known."""
    run, machine = features_of(kernels), machine_of(chosen, {k.dtype for k in kernels})
    return lambda constants: evaluate(run, machine, constants)


def machine_of(chosen: Setting, dtypes: set[str]) -> Machine:
    """The rates of the setting's cores."""
    engine = chosen.profile.engines[chosen.engine]
    assert isinstance(engine, CpuEngine)
    team = fastest_cores(engine, chosen.threads)

    def rate(dtype: str) -> float:
        named: DType = dtype if dtype in ("fp64", "bf16", "fp16", "int8") else "fp32"  # type: ignore[assignment]
        return cpu_peak(chosen.profile, chosen.engine, named, chosen.threads)

    l2 = sum(c.count * (c.l2_kb or 0.0) / (c.count if c.l2_shared else 1) for c in team) * 1024
    return Machine(
        {dtype: rate(dtype) for dtype in dtypes | {"fp32"}},
        core(team[0].core).vector_bits // 32,
        sum(cluster.count for cluster in team),
        team[0].clock_ghz * 1e9,
        l2 + (engine.l3_mb or 0.0) * 2**20,
        chosen.profile.memory.gb_per_s * 1e9,
    )


def evaluate(run: Features, machine: Machine, constants: Mapping[str, float]) -> Times:
    """Per kernel max(compute, memory), the exposed part of the smaller one, and its start."""
    compute = _compute_seconds(run, machine, constants)
    memory, level = _memory_seconds(run, machine, constants)
    convolution = np.isin(run.kind, ("conv", "depthwise"))
    busy_threads = np.minimum(1.0, run.written / 4 / (GRAIN * machine.threads))
    overhead = 1e-6 * (
        constants["issue_us"]
        + constants["convolution_us"] * convolution
        + constants["fork_us"] * (machine.threads - 1) * busy_threads
    )
    latency = np.maximum(compute, memory) + overhead
    latency = latency + constants["exposed"] * np.minimum(compute, memory)
    return Times(latency, compute, memory, overhead, level)


def _compute_seconds(run: Features, machine: Machine, constants: Mapping[str, float]) -> Array:
    rate = np.array([machine.peak[d] for d in run.dtype])
    # Scalar operations use half of a fused multiply-add.
    seconds = run.ops / (rate / 2 * constants["vector_efficiency"])
    padded = run.groups * run.m * np.ceil(run.n / machine.lanes) * machine.lanes * run.k * run.steps
    for kind, name in _EFFICIENCY.items():
        rows = run.kind == kind
        whole = padded if kind in ("gemm", "conv", "recurrent") else run.macs
        share = np.full(len(run), constants[name])
        if kind == "conv":
            share[run.groups > 1] = constants["grouped_efficiency"]
        # An epilogue's operations run in registers, at full width.
        seconds[rows] = ((2 * whole / share + 2 * run.ops) / rate)[rows]
    return seconds


def _memory_seconds(
    run: Features, machine: Machine, constants: Mapping[str, float]
) -> tuple[Array, tuple[str, ...]]:
    held = machine.caches * constants["cache_share"]
    near = sum(np.where(distance <= held, size, 0.0) for size, distance in run.near)
    far = run.read - run.fresh - near
    streamed = run.fresh if run.fresh.sum() > held else np.zeros(len(run))
    written_far = np.where(run.written > held, run.written, 0.0)
    packed = np.isin(run.kind, ("conv", "depthwise"))
    reordered = np.where(
        packed,
        constants["reorder_passes"] * (run.read - run.fresh + run.written)
        + constants["repack_passes"] * run.fresh,
        0.0,
    )
    cached = near + (run.fresh - streamed) + (run.written - written_far) + reordered
    main = far + streamed + written_far
    rate = constants["cache_bytes_per_cycle"] * machine.clock * machine.threads
    seconds = cached / rate + main / (machine.memory * constants["stream_efficiency"])
    seconds[np.isin(run.family, _SCATTERED)] /= constants["gather_efficiency"]
    product = np.isin(run.kind, tuple(_EFFICIENCY))
    seconds[run.strided & ~product] /= constants["strided_efficiency"]
    return seconds, tuple(np.where(cached > main, "l3", "dram").tolist())
