"""An x86 CPU: a library's kernels for products, vector loops for the rest.

All cores share every kernel. A product runs at a share of the vector peak, its output channels
padded to whole vectors. PyTorch hands convolutions to oneDNN, which first puts inputs and weights
into its blocked order, but multiplies small ones and, on one thread, 1x1 ones itself
(``ConvParams::use_mkldnn`` in aten/src/ATen/native/Convolution.cpp). Weights come from main memory
on every run unless all of them fit in the caches; activations stay in the caches while their reuse
distance allows it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from costmodel.execution import runs_framework
from costmodel.execution.kernel import Kernel
from costmodel.hardware.catalog import core
from costmodel.hardware.peaks import cpu_peak, fastest_cores
from costmodel.hardware.schema import CpuEngine, DType
from costmodel.machine.caches import hits
from costmodel.machine.features import Features, Mask, features_of
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
#: Loops over windows and indices, which compilers do not vectorise.
_SCALAR = ("pooling", "interpolation", "embedding", "sorting")
#: Ops that set up more than a loop: statistics, or a call into a library.
_PREPARED = ("batch_norm", "normalization", "softmax")
#: Elements of a loop below which inductor and ATen give a thread nothing to do (their grain size
#: is 4096 to 32768).
GRAIN = 4096
#: PyTorch leaves convolutions of a single image with fewer input elements to its own loops.
_SMALL = 20480
#: Kernels of oneDNN; the gradients of a convolution are products without extents of their own.
_GRADIENTS = "matrix"
_LIBRARY = ("conv", "depthwise", _GRADIENTS)


@dataclass(frozen=True)
class Machine:
    """FLOP/s by dtype over all threads, vector lanes, bytes, bytes/s and Hz.

    ``framework``: PyTorch chooses between oneDNN and its own loops.
    """

    peak: Mapping[str, float]
    lanes: int
    threads: int
    clock: float
    l2: float
    l3: float
    memory: float
    framework: bool


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
        l2,
        (engine.l3_mb or 0.0) * 2**20,
        chosen.profile.memory.gb_per_s * 1e9,
        runs_framework(chosen.execution),
    )


def evaluate(run: Features, machine: Machine, constants: Mapping[str, float]) -> Times:
    """Per kernel max(compute, memory), the exposed part of the smaller one, and its start."""
    own = _own_loops(run, machine)
    compute = _compute_seconds(run, machine, constants, own)
    memory, level = _memory_seconds(run, machine, constants, own)
    library = np.isin(run.kind, _LIBRARY) & ~own
    prepared = np.isin(run.family, _PREPARED) | (np.isin(run.kind, tuple(_EFFICIENCY)) & ~library)
    busy_threads = np.minimum(1.0, run.written / 4 / (GRAIN * machine.threads))
    overhead = 1e-6 * (
        constants["issue_us"]
        + constants["product_us"] * prepared
        + constants["convolution_us"] * library
        + constants["fork_us"] * (machine.threads - 1) * busy_threads
    )
    latency = np.maximum(compute, memory) + overhead
    latency = latency + constants["exposed"] * np.minimum(compute, memory)
    for seconds in (latency, compute, memory, overhead):
        seconds[run.inside] = 0.0
    return Times(latency, compute, memory, overhead, level)


def _own_loops(run: Features, machine: Machine) -> Mask:
    """Convolutions that PyTorch multiplies itself, without oneDNN's reordering."""
    if not machine.framework:
        return np.zeros(len(run), dtype=bool)
    elements = run.groups * run.k / run.taps * run.m * run.stride**2
    small = (elements <= _SMALL) & (run.groups == 1) & (run.window <= 3)
    small |= (run.taps == 1) & (machine.threads == 1)
    found: Mask = (run.kind == "conv") & small
    return found


def _compute_seconds(
    run: Features, machine: Machine, constants: Mapping[str, float], own: Mask
) -> Array:
    rate = np.array([machine.peak[d] for d in run.dtype])
    cycles = machine.clock * machine.threads
    # Scalar operations use half of a fused multiply-add.
    seconds = (run.ops - run.transcendentals) / (rate / 2 * constants["vector_efficiency"])
    seconds += run.transcendentals / machine.lanes * constants["transcendental_cycles"] / cycles
    windows = np.isin(run.family, _SCALAR)
    seconds[windows] = (run.ops / (constants["window_ops_per_cycle"] * cycles))[windows]
    seconds += run.rows * constants["row_ns"] * 1e-9 / machine.threads
    padded = run.groups * run.m * np.ceil(run.n / machine.lanes) * machine.lanes * run.k * run.steps
    for kind, name in _EFFICIENCY.items():
        rows = run.kind == kind
        whole = padded if kind in ("gemm", "conv", "recurrent") else run.macs
        share = np.full(len(run), constants[name])
        if kind == "conv":
            share[run.groups > 1] = constants["grouped_efficiency"]
            share[own] = constants["matrix_efficiency"]
        # An epilogue's operations run in registers, at full width.
        epilogue = run.transcendentals / machine.lanes * constants["transcendental_cycles"] / cycles
        if kind in ("attention", "gemm"):
            epilogue = run.groups * constants["block_us"] * 1e-6 / machine.threads
        seconds[rows] = ((2 * whole / share + 2 * run.ops) / rate + epilogue)[rows]
    slower = constants["convolution_efficiency"] * constants["backward_efficiency"]
    gradients = run.kind == _GRADIENTS
    seconds[gradients] = (2 * run.macs / slower / rate)[gradients]
    return seconds


def _memory_seconds(
    run: Features, machine: Machine, constants: Mapping[str, float], own: Mask
) -> tuple[Array, tuple[str, ...]]:
    packed = np.isin(run.kind, _LIBRARY) & ~own
    copied = np.where(packed, constants["reorder_passes"], 0.0)
    repacked = np.where(packed, constants["repack_passes"], 0.0)
    # A weight comes back after everything else of a run; what is written took the place of what
    # was freed about two tensors ago; copies in another order push operands out of the caches.
    weights = run.fresh.sum() + 2 * run.written.max(initial=0.0)
    touched = [
        (run.fresh, np.full(len(run), weights)),
        (run.fresh * repacked, run.fresh),
        *((size, distance * (1 + copied)) for size, distance in run.near),
        (run.written, 2 * run.written),
        ((run.read - run.fresh + run.written) * copied, (run.read + run.written) * (1 + copied)),
    ]
    l3 = machine.l3 * constants["l3_share"]
    bytes_at = np.zeros((3, len(run)))
    for size, distance in touched:
        in_l2 = hits(distance, machine.l2)
        in_caches = np.maximum(hits(distance, machine.l2 + l3), in_l2)
        bytes_at += size * np.array((in_l2, in_caches - in_l2, 1.0 - in_caches))
    cycles = machine.clock * machine.threads
    rates = (
        constants["l2_bytes_per_cycle"] * cycles,
        constants["l3_bytes_per_cycle"] * cycles,
        min(
            constants["stream_efficiency"] * machine.memory,
            constants["core_gb_per_s"] * 1e9 * machine.threads,
        ),
    )
    per_level = bytes_at / np.array(rates)[:, None]
    seconds = per_level.sum(axis=0)
    product = np.isin(run.kind, tuple(_EFFICIENCY))
    seconds[run.strided & ~product] /= constants["strided_efficiency"]
    names = np.array(("l2", "l3", "dram"))
    return seconds, tuple(str(name) for name in names[np.argmax(per_level, axis=0)])
