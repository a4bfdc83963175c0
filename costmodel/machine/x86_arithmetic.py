"""What the arithmetic of kernels takes on an x86 CPU, and what libraries do to make it fast.

A product runs at a share of the vector peak, its output channels padded to whole vectors. oneDNN
first puts inputs and weights into its blocked order, BLAS both factors into panels.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from costmodel.machine.features import Features, Mask
from costmodel.machine.times import Array
from costmodel.machine.x86_choices import (
    GRADIENTS,
    Choices,
    Machine,
    products_of,
    shares_of,
    vectors_of,
)

#: Share of its peak that each kind of product reaches, by constant.
_EFFICIENCY = {
    "gemm": "matrix_efficiency",
    "recurrent": "matrix_efficiency",
    "conv": "convolution_efficiency",
    "depthwise": "depthwise_efficiency",
    "attention": "attention_efficiency",
}
#: Cycles until a core runs again after a wrong guess: the length of its pipeline (Fog, "The
#: microarchitecture of Intel, AMD and VIA CPUs": 16 to 20 for Skylake, 13 to 18 for Zen).
_WRONG_GUESS = 18
#: Columns of a tile of oneDNN's matrix product (``UNROLL_N`` in src/cpu/x64/gemm/f32).
_COLUMNS = 8
#: Cycles of a core to follow one pointer of an indirect convolution: load it, compare it with the
#: one to zeros, add the offset. Of 7x7 depthwise convolutions in XNNPACK a tap took 0.2 ns more
#: than its multiplication on an Emerald Rapids at 3 GHz, of grouped ones of 2 to 4 channels 0.3.
_FOLLOW = 0.75


def operation_seconds(
    run: Features, machine: Machine, constants: Mapping[str, float], choices: Choices
) -> Array:
    """Multiplications, operations outside them, and wrong guesses."""
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
    # A product of an unfolded map, channels first, has its positions along the vectors; one of a
    # single position is a sum of columns.
    plain = choices.own | choices.unfolded | (run.unfolded > 0)
    padded = _padded_macs(run, machine, choices, plain)
    # The sums of a tile are loaded and stored once, however few products each has.
    tiled = 1.0 + constants["fill_depth"] / np.maximum(run.k, 1.0)
    for kind, name in _EFFICIENCY.items():
        rows = choices.forms == kind
        whole = padded if kind in ("gemm", "conv", "recurrent") else run.macs
        if kind == "depthwise":
            whole = run.macs * machine.padded(run.groups) / run.groups
        share = np.full(len(run), constants[name])
        if kind == "conv":
            share[run.groups > 1] = constants["grouped_efficiency"]
            share[plain] = (constants["matrix_efficiency"] / tiled)[plain]
        if kind == "gemm":
            share = share / tiled
        # An epilogue's operations run in registers, at full width.
        epilogue = run.transcendentals / machine.lanes * constants["transcendental_cycles"] / cycles
        if kind in ("attention", "gemm"):
            matrices = run.groups * np.where(run.rows > 0, _tiles(run), 1.0)
            begun = matrices * constants["block_us"] * 1e-6 + run.rows * constants["row_ns"] * 1e-9
            epilogue = begun / machine.threads
        seconds[rows] = ((2 * whole / share + 2 * run.ops) / rate + epilogue)[rows]
    gradients = run.kind == GRADIENTS
    share = np.full(
        len(run), constants["convolution_efficiency"] * constants["backward_efficiency"]
    )
    share[run.family == "depthwise"] = (
        constants["depthwise_efficiency"] * constants["depthwise_backward_efficiency"]
    )
    seconds[gradients] = (2 * run.macs / share / rate)[gradients]
    return seconds


def _tiles(run: Features) -> Array:
    """Products that eager PyTorch's attention makes of one head, whose rows it knows: two for every
    tile of queries and keys (``cpu_flash_attention`` in
    aten/src/ATen/native/cpu/FlashAttentionKernel.cpp)."""
    queries = np.select([run.m >= 768, run.m >= 192], [256.0, 64.0], 32.0)
    found: Array = 2.0 * np.ceil(run.m / queries) * np.ceil(run.n / 512)
    return found


def _padded_macs(run: Features, machine: Machine, choices: Choices, plain: Mask) -> Array:
    """Multiplications with what lies along the vectors in whole ones: channels, or positions."""
    channels = machine.padded(run.n, vectors_of(run, machine, choices))
    by_channel = run.groups * run.m * channels * run.k * run.steps
    direct = plain & ~(choices.own & (choices.channels_last | (run.positions == 1)))
    along = np.where(direct, np.maximum(run.positions, 1.0), 0.0)
    by_position = run.macs * machine.padded(along) / np.maximum(along, 1.0)
    columns = np.maximum(run.n, 1.0)
    tiles = np.ceil(columns / _COLUMNS) * _COLUMNS / columns
    by_position[choices.unfolded] *= tiles[choices.unfolded]
    found: Array = np.where(along > 0, by_position, by_channel)
    return found


def copy_seconds(
    run: Features, machine: Machine, constants: Mapping[str, float], choices: Choices
) -> Array:
    """What libraries copy element by element: factors into the order of theirs, maps where channels
    do not fill oneDNN's blocks, and maps that it unfolds."""
    own, library, unfolded = choices.own, choices.library, choices.unfolded
    # BLAS puts both factors into panels, unless a single row makes the product a sum of columns.
    panels = (run.kind == "gemm") & (run.groups == 1) & (run.m > 1) & machine.framework
    panels |= own & (run.positions > 1)
    products = np.where(own, products_of(run), run.groups)
    packed = products * run.n * run.k * ((library & ~unfolded) | panels)
    rows, _ = shares_of(run, machine)  # each packs what it multiplies by
    packed *= np.where((run.kind == "gemm") & panels, rows, 1.0)
    packed += run.groups * run.m * machine.padded(run.k) * panels
    cycles = packed * constants["repack_cycles"]
    ragged = library & (run.groups * run.n % machine.lanes > 0) & ~choices.channels_last
    copied = (run.read - run.fresh + run.written) / 4 * (ragged & ~unfolded)
    copied += run.groups * run.m * run.k * unfolded
    cycles += copied * constants["ragged_cycles"]
    cycles += run.unfolded * constants.get("unfold_cycles", 0.0)
    cycles += run.apart * constants.get("apart_cycles", 0.0)
    turned = run.turned & (run.macs == 0)
    cycles += run.elements * turned * constants.get("turn_cycles", 0.0)
    cycles += run.stretches * constants.get("stretch_cycles", 0.0)
    found: Array = cycles / (machine.clock * machine.threads)
    return found


def lookup_seconds(run: Features, machine: Machine) -> Array:
    """What indirect convolutions take to find their rows, once for every tile of channels."""
    tiles = np.ceil(run.n / machine.lanes)
    found: Array = run.pointers * tiles * _FOLLOW / (machine.clock * machine.threads)
    return found
