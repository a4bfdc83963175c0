"""Kernels on an x86 CPU: what their products, loops, copies and starts take.

A product runs at a share of the vector peak, its output channels padded to whole vectors. PyTorch
hands convolutions to oneDNN, which first puts inputs and weights into its blocked order, but
multiplies small ones and, on one thread, 1x1 ones itself, image by image and group by group
(``ConvParams::use_mkldnn`` in aten/src/ATen/native/Convolution.cpp). Weights come from main memory
on every run unless all of them fit in the caches; activations stay in the caches while their reuse
distance allows it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from costmodel.machine.caches import Levels, Touches
from costmodel.machine.features import Features, Mask
from costmodel.machine.parts import Parts
from costmodel.machine.times import Array

#: Share of its peak that each kind of product reaches, by constant.
_EFFICIENCY = {
    "gemm": "matrix_efficiency",
    "recurrent": "matrix_efficiency",
    "conv": "convolution_efficiency",
    "depthwise": "depthwise_efficiency",
    "attention": "attention_efficiency",
}
#: Ops that set up more than a loop: statistics, or a call into a library.
_PREPARED = ("batch_norm", "normalization", "softmax")
#: Elements of a loop below which inductor and ATen give a thread nothing to do (their grain size
#: is 4096 to 32768).
GRAIN = 4096
#: PyTorch leaves convolutions of a single image with fewer input elements to its own loops.
_SMALL = 20480
#: Cycles until a core runs again after a wrong guess: the length of its pipeline (Fog, "The
#: microarchitecture of Intel, AMD and VIA CPUs": 16 to 20 for Skylake, 13 to 18 for Zen).
_WRONG_GUESS = 18
#: oneDNN's generated kernels take groups of whole vectors of this many channels, or of one vector
#: where that is shorter; it unfolds the others (``init_conf`` in
#: src/cpu/x64/jit_avx512_common_conv_kernel.cpp and jit_avx2_conv_kernel.cpp).
_QUARTER = 4
#: Columns of a tile of its matrix product (``UNROLL_N`` in src/cpu/x64/gemm/f32).
_COLUMNS = 8
#: Cycles of a core to follow one pointer of an indirect convolution: load it, compare it with the
#: one to zeros, add the offset. Of 7x7 depthwise convolutions in XNNPACK a tap took 0.2 ns more
#: than its multiplication on an Emerald Rapids at 3 GHz, of grouped ones of 2 to 4 channels 0.3.
_FOLLOW = 0.75
#: Kernels of oneDNN; the gradients of a convolution are products without extents of their own.
_GRADIENTS = "matrix"
_LIBRARY = ("conv", "depthwise", _GRADIENTS)


#: Bytes of weights and of work: of one run, or for every kernel of several.
Sizes: TypeAlias = tuple[Array, Array] | tuple[float, float]


@dataclass(frozen=True)
class Machine:
    """FLOP/s by dtype over all threads, vector lanes, bytes, bytes/s and Hz.

    ``framework``: PyTorch chooses between oneDNN and its own loops. ``channels_last``: it hands
    over all maps in that order, which need no other, and weights that it has copied into it.
    ``grain``: elements of a loop that are worth a thread, where that is known. ``generated``: loops
    are written for the network, none is a call of its own.
    """

    peak: Mapping[str, float]
    lanes: int
    threads: int
    clock: float
    l2: float
    l3: float
    memory: float
    framework: bool
    channels_last: bool = False
    grain: float | None = None
    generated: bool = False


def evaluate(
    run: Features, machine: Machine, constants: Mapping[str, float], footprint: Sizes | None = None
) -> Parts:
    """The parts of every kernel's time.

    ``footprint``: bytes of weights and of work of the run that each kernel belongs to, where those
    are several.
    """
    own = _own_loops(run, machine)
    library = np.isin(run.kind, _LIBRARY) & ~own
    unfolded = _unfolded(run, machine, library)
    compute = _compute_seconds(run, machine, constants, own, unfolded)
    compute += _copied_seconds(run, machine, constants, own, library, unfolded)
    called = np.isin(run.family, _PREPARED) & (not machine.generated)
    prepared = called | (np.isin(run.kind, tuple(_EFFICIENCY)) & ~library)
    team, idle = _team(run, machine)
    compute *= idle
    compute += _looked_up_seconds(run, machine)
    compute += run.remapped * constants.get("remap_cycles", 0.0) / machine.clock
    # Threads that are awake wake others. Microbenchmarks know teams of two; as much again for each
    # further thread would keep 64 of them for half a millisecond.
    overhead = 1e-6 * (
        constants["issue_us"] * np.where(own, run.groups, run.dispatches)
        + constants["block_us"] * own * (_products_of(run) - run.groups) / machine.threads
        + constants["product_us"] * prepared
        + constants["convolution_us"] * library
        + constants["fork_us"] * np.log2(team)
    )
    sizes = footprint_of(run) if footprint is None else footprint
    touched = _traffic(run, library & ~unfolded, own, machine, constants, sizes, idle)
    levels = _levels(machine, constants)
    near, hidden = _shared_seconds(run, machine, levels), 1.0 - constants["exposed"]
    return Parts(compute, overhead, near, touched, levels, hidden).without(run.inside)


def _team(run: Features, machine: Machine) -> tuple[Array, Array]:
    """Threads that each kernel wakes, and by how much those that it leaves idle slow it down."""
    if machine.grain is None:
        busy = np.minimum(1.0, run.written / 4 / (GRAIN * machine.threads))
        return 1.0 + (machine.threads - 1) * busy, np.ones(len(run))
    # Rows, planes and the blocks of a product are shared out however few they are.
    split = np.isin(run.kind, (*_EFFICIENCY, _GRADIENTS)) | (run.rows > 0) | (run.scalars > 0)
    # In fractions of a thread, lest a larger batch that wakes one more look faster.
    shared = np.clip(run.elements / machine.grain, 1.0, machine.threads)
    team: Array = np.where(split, float(machine.threads), shared)
    return team, machine.threads / team


def _own_loops(run: Features, machine: Machine) -> Mask:
    """Convolutions that PyTorch multiplies itself, without oneDNN's reordering."""
    if not machine.framework:
        return np.zeros(len(run), dtype=bool)
    elements = run.groups * run.k / run.taps * run.m * run.stride**2
    small = (elements <= _SMALL) & (run.groups == 1) & (run.window <= 3)
    small |= (run.taps == 1) & (run.stride == 1) & (machine.threads == 1)
    found: Mask = np.isin(run.kind, ("conv", "depthwise")) & small
    return found


def _products_of(run: Features) -> Array:
    """The products that PyTorch makes of a convolution: one for each image and group."""
    found: Array = run.groups * np.maximum(run.m / np.maximum(run.positions, 1.0), 1.0)
    return found


def _unfolded(run: Features, machine: Machine, library: Mask) -> Mask:
    """Grouped convolutions that oneDNN turns into products: a group holds no whole vectors."""
    if not machine.framework:
        return np.zeros(len(run), dtype=bool)
    whole = min(_QUARTER, machine.lanes) if machine.lanes > 8 else machine.lanes
    ragged = (run.n % whole > 0) | (run.k / run.taps % whole > 0)
    found: Mask = library & (run.groups > 1) & (_forms(run) == "conv") & ragged
    return found & ~_channels_last(run, machine)


def _channels_last(run: Features, machine: Machine) -> Mask:
    found: Mask = run.channels_last | machine.channels_last
    return found


def _forms(run: Features) -> NDArray[np.str_]:
    """The kind of kernel: a depthwise one makes one channel of each."""
    found: NDArray[np.str_] = np.where((run.kind == "depthwise") & (run.n > 1), "conv", run.kind)
    return found


def _compute_seconds(
    run: Features, machine: Machine, constants: Mapping[str, float], own: Mask, unfolded: Mask
) -> Array:
    rate = np.array([machine.peak[d] for d in run.dtype])
    cycles = machine.clock * machine.threads
    # Operations that are no products use half of a fused multiply-add.
    vectors = np.maximum(run.ops - run.transcendentals - run.scalars, 0.0)
    seconds = vectors / (rate / 2 * constants["vector_efficiency"])
    seconds += run.transcendentals / machine.lanes * constants["transcendental_cycles"] / cycles
    seconds += run.scalars / (constants["window_ops_per_cycle"] * cycles)
    if machine.framework:  # the runtimes' own loops compare whole vectors
        seconds += run.surprises * _WRONG_GUESS / cycles
    seconds += run.rows * constants["row_ns"] * 1e-9 / machine.threads
    padded = run.groups * run.m * _padded(run.n, machine) * run.k * run.steps
    # A product of an unfolded map, channels first, has its positions along the vectors; one of a
    # single position is a sum of columns.
    plain = own | unfolded | (run.unfolded > 0)
    direct = plain & ~(own & (_channels_last(run, machine) | (run.positions == 1)))
    along = np.where(direct, np.maximum(run.positions, 1.0), 0.0)
    whole_maps = run.macs * _padded(along, machine) / np.maximum(along, 1.0)
    columns = np.maximum(run.n, 1.0)
    whole_maps[unfolded] *= (np.ceil(columns / _COLUMNS) * _COLUMNS / columns)[unfolded]
    padded = np.where(along > 0, whole_maps, padded)
    # The sums of a tile are loaded and stored once, however few products each has.
    tiled = 1.0 + constants["fill_depth"] / np.maximum(run.k, 1.0)
    forms = _forms(run)
    for kind, name in _EFFICIENCY.items():
        rows = forms == kind
        whole = padded if kind in ("gemm", "conv", "recurrent") else run.macs
        if kind == "depthwise":
            whole = run.macs * _padded(run.groups, machine) / run.groups
        share = np.full(len(run), constants[name])
        if kind == "conv":
            share[run.groups > 1] = constants["grouped_efficiency"]
            share[plain] = (constants["matrix_efficiency"] / tiled)[plain]
        if kind == "gemm":
            share = share / tiled
        # An epilogue's operations run in registers, at full width.
        epilogue = run.transcendentals / machine.lanes * constants["transcendental_cycles"] / cycles
        if kind in ("attention", "gemm"):
            epilogue = run.groups * constants["block_us"] * 1e-6 / machine.threads
        seconds[rows] = ((2 * whole / share + 2 * run.ops) / rate + epilogue)[rows]
    gradients = run.kind == _GRADIENTS
    share = np.full(
        len(run), constants["convolution_efficiency"] * constants["backward_efficiency"]
    )
    share[run.family == "depthwise"] = (
        constants["depthwise_efficiency"] * constants["depthwise_backward_efficiency"]
    )
    seconds[gradients] = (2 * run.macs / share / rate)[gradients]
    return seconds


def _copied_seconds(
    run: Features,
    machine: Machine,
    constants: Mapping[str, float],
    own: Mask,
    library: Mask,
    unfolded: Mask,
) -> Array:
    """What libraries copy element by element: factors into the order of theirs, maps where channels
    do not fill oneDNN's blocks, and maps that it unfolds."""
    # BLAS puts both factors into panels, unless a single row makes the product a sum of columns.
    panels = (run.kind == "gemm") & (run.groups == 1) & (run.m > 1) & machine.framework
    panels |= own & (run.positions > 1)
    products = np.where(own, _products_of(run), run.groups)
    packed = products * run.n * run.k * ((library & ~unfolded) | panels)
    packed += run.groups * run.m * _padded(run.k, machine) * panels
    cycles = packed * constants["repack_cycles"]
    ragged = library & (run.groups * run.n % machine.lanes > 0) & ~_channels_last(run, machine)
    copied = (run.read - run.fresh + run.written) / 4 * (ragged & ~unfolded)
    copied += run.groups * run.m * run.k * unfolded
    cycles += copied * constants["ragged_cycles"]
    cycles += run.unfolded * constants.get("unfold_cycles", 0.0)
    found: Array = cycles / (machine.clock * machine.threads)
    return found


def _looked_up_seconds(run: Features, machine: Machine) -> Array:
    """What indirect convolutions take to find their rows, once for every tile of channels."""
    tiles = np.ceil(run.n / machine.lanes)
    found: Array = run.pointers * tiles * _FOLLOW / (machine.clock * machine.threads)
    return found


def _padded(channels: Array, machine: Machine) -> Array:
    """Channels in whole vectors."""
    found: Array = np.ceil(channels / machine.lanes) * machine.lanes
    return found


def footprint_of(run: Features) -> tuple[float, float]:
    """Bytes that a run brings in, and those that its largest kernel adds: a weight comes back after
    everything else of a run."""
    return float(run.fresh.sum()), 2 * float(run.written.max(initial=0.0))


def packed_weights(run: Features, machine: Machine) -> tuple[Array, Array]:
    """Bytes of weights that PyTorch copies before they are used, and how often: into oneDNN's
    blocks, and into channels-last order before that. Those of one tap, or of one channel a group,
    are the same in that order as in the other. Runtimes have packed theirs before the first run."""
    library = np.isin(run.kind, _LIBRARY) & ~_own_loops(run, machine)
    library &= ~_unfolded(run, machine, library)
    turned = (run.window > 1) & (run.k > run.taps) & _channels_last(run, machine)
    weights = np.minimum(run.fresh, 4 * run.groups * run.n * run.k)
    packed: Array = weights * (library & machine.framework)
    return packed, np.where(turned, 2.0, 1.0)


def _traffic(
    run: Features,
    library: Mask,
    own: Mask,
    machine: Machine,
    constants: Mapping[str, float],
    footprint: Sizes,
    idle: Array,
) -> Touches:
    """Every access; what the library copies into its own order counts as further ones."""
    blocked = library & ~_channels_last(run, machine)
    copied = np.where(blocked, constants["reorder_passes"], 0.0)
    # Copies in another order push operands out of the caches; what is written took the place of
    # what was freed about two tensors ago.
    packed, copies = packed_weights(run, machine)
    written, relaid = run.written - run.in_place, packed * copies
    further, as_far = 1.0 + copied, np.ones(len(run))
    # What the groups of a product of PyTorch's own write is put together afterwards.
    joined = written * (own & (run.groups > 1))
    accesses = [
        (run.fresh, np.full(len(run), np.inf), as_far, False),
        (relaid, 2 * relaid, as_far, True),
        (relaid, 2 * relaid, as_far, False),
        *((size, distance, further, False) for size, distance in run.near),
        (written, 2 * run.written, as_far, True),
        (joined, run.written, as_far, False),
        (joined, 2 * run.written, as_far, True),
        ((run.read - run.fresh + run.written) * copied, run.read + run.written, further, False),
    ]
    sizes, since, stretch = (np.concatenate([access[i] for access in accesses]) for i in range(3))
    # A line that is overwritten is fetched first, and goes back to memory later.
    returned = np.repeat([stored for *_, stored in accesses], len(run))
    product = np.isin(run.kind, tuple(_EFFICIENCY))
    slower = np.where(run.strided & ~product, constants["strided_efficiency"], 1.0)
    return Touches(
        kernel=np.tile(np.arange(len(run)), len(accesses)),
        nbytes=sizes * np.tile(idle / slower, len(accesses)),
        since=since,
        weight=np.repeat(np.arange(len(accesses)) == 0, len(run)),
        weights=_by_access(footprint[0], len(accesses)),
        working=_by_access(footprint[1], len(accesses)),
        stretch=stretch,
        bounded=False,
        returned=returned.astype(float),
        left=run.left,
    )


def _shared_seconds(run: Features, machine: Machine, levels: Levels) -> Array:
    """Libraries share the rows of a matrix product out among threads: each reads all of the other
    factor, which one of them brings and the rest find in the third level. A single row is shared
    out by columns."""
    rows = np.isin(run.kind, ("gemm", "recurrent")) & (run.m > 1)
    factor = 4 * run.groups * run.n * run.k * run.steps * rows
    found: Array = factor * (machine.threads - 1) / levels.rates[1]
    return found


def _by_access(sizes: Array | float, times: int) -> Array | float:
    return sizes if isinstance(sizes, float) else np.tile(sizes, times)


def _levels(machine: Machine, constants: Mapping[str, float]) -> Levels:
    """Bytes from farther away pass through the nearer levels, one transfer after another (Stengel
    et al., "Quantifying performance bottlenecks of stencil computations using the Execution-
    Cache-Memory model", ICS 2015), so that no level is faster than one nearer to the core."""
    cycles = machine.clock * machine.threads
    memory = min(
        constants["stream_efficiency"] * machine.memory,
        constants["core_gb_per_s"] * 1e9 * machine.threads,
    )
    second = 1.0 / (constants["l2_bytes_per_cycle"] * cycles)
    third = second + 1.0 / (constants["l3_bytes_per_cycle"] * cycles)
    rates = (1.0 / second, 1.0 / third, min(1.0 / third, memory))
    return Levels(machine.l2, machine.l3 * constants["l3_share"], rates)
