"""A CPU: vector pipes, load ports, caches, memory, and threads on cores of several speeds.

Per kernel: time for arithmetic (products at the rate that the microkernel's tile, the pipes'
latency and the load ports allow; scalar operations at one an instruction lane), time for traffic
(each access from the level where its reuse distance finds it), a part of which overlaps, and the
cost of issuing a layer to a team of threads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from costmodel.execution.formats import BYTES
from costmodel.execution.kernel import Kernel
from costmodel.execution.microkernel import Microkernel, microkernel_of
from costmodel.hardware.catalog import core
from costmodel.hardware.peaks import fastest_cores
from costmodel.hardware.schema import Cluster, Core, CpuEngine, Memory
from costmodel.machine.caches import Levels, Touches, hits, touches
from costmodel.machine.parts import Parting, Parts
from costmodel.machine.times import Array, Timer

if TYPE_CHECKING:
    from costmodel.setting import Setting

_LINE = 64.0
_SIZE = {"int16": 2.0}
#: Cycles from a multiply-accumulate's operands to its result: Arm's optimisation guides give 4 for
#: FMLA on Cortex-A53 to X4, Intel's and AMD's manuals 4 on Skylake to Zen 4.
_FMA_LATENCY = 4
#: Independent sums that loops without a tile are unrolled to.
_UNROLLED = 8.0
#: Elements of an elementwise kernel that are worth a thread.
_CHUNK = 4096
#: Vector instructions of one exponential: reduction of the range, a polynomial, a reciprocal
#: (Cephes's expf, which NEON libraries follow).
_FUNCTION = 20.0


class Demand(NamedTuple):
    """What one kernel asks of a core.

    ``macs`` are products with ragged tiles filled, ``ops`` scalar operations on elements of
    ``width`` bytes. Each product loads ``loads`` bytes; ``chains`` vectors of sums are independent.
    ``restreamed`` bytes of the ``panel`` are read again for every tile of channels. The work comes
    in ``blocks`` that threads share. ``functions`` are elements that go through an exponential.
    """

    macs: float = 0.0
    ops: float = 0.0
    width: float = 4.0
    loads: float = 0.0
    chains: float = 1.0
    restreamed: float = 0.0
    panel: float = 0.0
    blocks: float = 1.0
    functions: float = 0.0


@dataclass(frozen=True)
class Work:
    """The demands of all kernels of a run as arrays (see `Demand`), their formats and accesses."""

    macs: Array
    ops: Array
    width: Array
    loads: Array
    chains: Array
    restreamed: Array
    panel: Array
    blocks: Array
    functions: Array
    dtype: np.ndarray
    inside: np.ndarray
    touched: Touches


def timer(kernels: Sequence[Kernel], chosen: Setting) -> Timer:
    """Seconds per kernel on the fastest cores of the device, once constants are known."""
    parting = parts(kernels, chosen)
    return lambda constants: parting(constants).times()


def parts(
    kernels: Sequence[Kernel], chosen: Setting, before: Mapping[int, float] | None = None
) -> Parting:
    """What those seconds are made of; ``before`` as in `costmodel.machine.caches.touches`."""
    engine = chosen.profile.engines[chosen.engine]
    assert isinstance(engine, CpuEngine)
    team = fastest_cores(engine, chosen.threads)
    work, memory = work_of(kernels, chosen.execution, before), chosen.profile.memory
    return lambda constants: evaluate(work, engine, team, memory, constants)


def work_of(
    kernels: Sequence[Kernel], execution: str, before: Mapping[int, float] | None = None
) -> Work:
    """The demands of ``kernels`` with the inner loops of ``execution``."""
    demands = [
        _demand(kernel, microkernel_of(execution, kernel.dtype))._replace(
            functions=float(kernel.transcendentals)
        )
        for kernel in kernels
    ]
    columns = np.array(demands, float).reshape(-1, len(Demand._fields)).T
    fields: dict[str, Array] = dict(zip(Demand._fields, columns, strict=True))
    formats = np.array([_format(kernel) for kernel in kernels])
    inside = np.array([kernel.inside for kernel in kernels], bool)
    return Work(**fields, dtype=formats, inside=inside, touched=touches(kernels, before))


def _format(kernel: Kernel) -> str:
    """The format of the multiplier: a depthwise int8 product has no sum for a dot product."""
    depthwise = kernel.geometry is not None and kernel.geometry.kind == "depthwise"
    return "int16" if depthwise and kernel.dtype == "int8" else kernel.dtype


def _demand(kernel: Kernel, tile: Microkernel) -> Demand:
    size = _SIZE.get(kernel.dtype) or BYTES[kernel.dtype]
    geometry, ops = kernel.geometry, float(kernel.ops)
    # int8 and int16 are summed, scaled and clamped in 32 bits.
    wide = 4.0 if kernel.dtype in ("int8", "int16") else size
    if geometry is None:
        elements = sum(a.nbytes for a in kernel.writes) / max(size, 1.0)
        return Demand(ops=ops, width=wide, blocks=max(elements / _CHUNK, 1.0))
    groups, m, n, k = (float(x) for x in (geometry.groups, geometry.m, geometry.n, geometry.k))
    if geometry.kind == "depthwise":  # one load a tap; every output is a chain of its own
        channels = groups * n
        filled = tile.padded(channels) / channels
        blocks = np.ceil(channels / tile.columns)
        return Demand(kernel.macs * filled, ops, wide, size, _UNROLLED, blocks=blocks)
    macs = kernel.macs * (tile.rounded(m) / m) * (tile.padded(n) / n)
    apart = groups > 1 and not (tile.in_turn and geometry.kind == "conv")
    blocks = groups if apart else np.ceil(n / tile.columns)
    if tile.both_ways:
        blocks *= np.ceil(m / tile.rows)
    if geometry.kind == "recurrent":  # every step reads the weights again
        return Demand(macs, ops, wide, size / m, _UNROLLED, macs * size / m, n * k * size, blocks)
    if m == 1:  # a vector: every weight is loaded for one product, sums are unrolled over k
        return Demand(macs, ops, wide, size, _UNROLLED, blocks=blocks)
    rows, columns = min(m, tile.rows), min(tile.padded(n), tile.columns)
    chains = max(1.0, rows * columns / (8.0 if kernel.dtype == "fp16" else 4.0))
    loads = size * (1 / rows + 1 / columns)
    return Demand(macs, ops, wide, loads, chains, macs * size / columns, m * k * size, blocks)


def evaluate(
    work: Work,
    engine: CpuEngine,
    team: Sequence[Cluster],
    memory: Memory,
    constants: Mapping[str, float],
) -> Parts:
    """Each kernel's time when ``team`` (busy cores by cluster) shares every kernel evenly."""
    threads = sum(cluster.count for cluster in team)
    share = np.ceil(work.blocks / threads) / work.blocks
    slowest = np.zeros_like(work.macs)
    for cluster in team:
        slowest = np.maximum(slowest, _core_seconds(work, cluster, constants))
    compute = slowest * np.maximum(share, 1.0 / threads)
    levels = _levels(engine, team, memory, constants)
    l1 = min((c.l1d_kb or 0.0) * 1024 for c in team)
    again = work.restreamed * (1.0 - hits(work.panel, l1)) / levels.rates[0]
    first = team[0]
    issue = constants["layer_instructions"] / core(first.core).decode_width
    join = constants["fork_cycles"] * (threads - 1)
    overhead = np.full(len(compute), (issue + join) / (first.clock_ghz * 1e9))
    ahead = min(_outstanding(core(cluster.core)) for cluster in team)
    overlap = ahead / (ahead + constants["half_hidden_misses"])
    return Parts(compute, overhead, again, work.touched, levels, overlap).without(work.inside)


def _core_seconds(work: Work, cluster: Cluster, constants: Mapping[str, float]) -> Array:
    """Time of the whole kernel on one core: arithmetic and loads from the first-level cache."""
    kind = core(cluster.core)
    clock = cluster.clock_ghz * 1e9
    rate = np.array([_macs_per_cycle(kind, str(dtype)) for dtype in work.dtype])
    pipes = kind.flops_per_cycle["fp32"] / 2 / (kind.vector_bits / 32)
    hidden = np.minimum(1.0, work.chains / (_FMA_LATENCY * pipes))
    steady = 1.0 if kind.out_of_order else constants["in_order_efficiency"]
    full = rate * constants["matrix_efficiency"] * steady
    products = (work.macs / hidden + _FUNCTION * work.functions) / full
    loads = work.macs * work.loads / kind.load_bytes_per_cycle
    lanes = kind.flops_per_cycle["fp32"] / 2 * 4 / work.width
    scalar = work.ops / (lanes * constants["vector_efficiency"] * steady)
    seconds: Array = (np.maximum(products, loads) + scalar) / clock
    return seconds


def _macs_per_cycle(kind: Core, dtype: str) -> float:
    """Multiply-accumulates a cycle that a runtime's instructions reach on a core.

    int8 runs on the dot product or the 8x8 matrix instructions where the core has them, else on
    widening multiplies, where every second product is accumulated by an instruction of its own
    (smull, smlal2, sadalp: three for two). int16 is half as dense.
    """
    rates = kind.flops_per_cycle
    fp32 = rates["fp32"]
    if dtype == "int16":
        return fp32 / 2
    if dtype == "int8":
        dense = rates.get("int8", fp32)
        return dense / 2 if _has(kind, "dotprod") else min(dense, 2 * fp32) / 2 * 2 / 3
    return float(rates.get(dtype, fp32)) / 2  # type: ignore[call-overload]


def _has(kind: Core, extension: str) -> bool:
    return not kind.isa.startswith("armv") or extension in kind.isa.split("+")


def _levels(
    engine: CpuEngine, team: Sequence[Cluster], memory: Memory, constants: Mapping[str, float]
) -> Levels:
    """Bytes that the second and the third level hold, and bytes/s from each and from memory."""
    near = sum(_l2_bytes(cluster) for cluster in team)
    far = ((engine.l3_mb or 0.0) + (engine.system_cache_mb or 0.0)) * 2**20
    misses = sum(cluster.count * _outstanding(core(cluster.core)) for cluster in team)
    l2 = sum(_l2_rate(cluster) for cluster in team)
    l3 = l2 / 2
    dram = min(
        l3,
        misses * _LINE / (constants["dram_ns"] * 1e-9),
        _stream_share(memory, constants["channel_conflict"]) * memory.gb_per_s * 1e9,
    )
    return Levels(near, far, (l2, l3, dram))


def _stream_share(memory: Memory, conflict: float) -> float:
    """Share of the memory peak that streams reach: the fewer channels, the more often they meet in
    one bank. LPDDR channels are 16 bits wide; an unknown bus counts as four of them."""
    channels = (memory.bus_bits or 64) / 16
    return channels / (channels + conflict)


def _l2_rate(cluster: Cluster) -> float:
    """Bytes a second from the second level: a private one fills a core's loads, a shared one has a
    single port of that width, 128 bits at least (Arm's manuals of Cortex-A53 to A73)."""
    width = core(cluster.core).load_bytes_per_cycle
    ways = max(width, 16.0) if cluster.l2_shared else width * cluster.count
    return ways * cluster.clock_ghz * 1e9


def _l2_bytes(cluster: Cluster) -> float:
    per = cluster.l2_kb or cluster.l1d_kb or 0.0
    return per * 1024 * (1 if cluster.l2_shared else cluster.count)


def _outstanding(kind: Core) -> float:
    """Misses in flight; unpublished ones as cores of that width have: 4 a decoder, 2 in order."""
    if kind.outstanding_misses is not None:
        return float(kind.outstanding_misses)
    return float(kind.decode_width * (4 if kind.out_of_order else 2))
