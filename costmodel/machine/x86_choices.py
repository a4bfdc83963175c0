"""An x86 CPU for its kernels, and who multiplies what on it.

PyTorch hands convolutions to oneDNN, but multiplies small ones of a single image and, on one
thread, 1x1 ones of a few images itself, image by image and group by group
(``ConvParams::use_mkldnn`` in aten/src/ATen/native/Convolution.cpp). oneDNN has a kernel for whole
vectors of channels and unfolds maps whose groups hold none.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from costmodel.machine.features import Features, Mask
from costmodel.machine.times import Array

CONVOLUTIONS = ("conv", "depthwise")
#: Kernels of oneDNN; the gradients of a convolution are products without extents of their own.
GRADIENTS = "matrix"
_LIBRARY = (*CONVOLUTIONS, GRADIENTS)
#: Kinds of kernels that are products, beside those gradients.
PRODUCTS = ("gemm", "recurrent", "conv", "depthwise", "attention")
#: Elements of a loop below which inductor and ATen give a thread nothing to do (their grain size
#: is 4096 to 32768).
_GRAIN = 4096
#: PyTorch leaves convolutions of a single image with fewer input elements to its own loops.
_SMALL = 20480
#: Images from which on it hands over 1x1 convolutions on a single thread, too.
_MANY = 16
#: oneDNN's generated kernels take groups of whole vectors of this many channels, or of one vector
#: where that is shorter; it unfolds the others (``init_conf`` in
#: src/cpu/x64/jit_avx512_common_conv_kernel.cpp and jit_avx2_conv_kernel.cpp).
_QUARTER = 4


#: fp32 lanes of a multiplier of 512 bits.
_AVX512 = 16
#: Products that MKL's kernels for AVX-512 share out by rows, too: with more terms a sum than this,
#: factors whose lines lie whole multiples of so many fp32 values apart (1 KB), at least so many
#: rows for a thread. By the CPU time of 14 threads (``benchmarks/shares.py``; PyTorch 2.4.1 and
#: 2.13), 197 rows by 832 x N or K x 832 ran at 110 to 125 GFLOP/s a core where N or K was a
#: multiple of 256, at 130 to 175 beside; up to 768 terms, on two threads, or by the kernels for
#: AVX2, at the same. What is lost is some seven times what a copy of the weights takes from 196
#: rows on, once that up to 64.
_TERMS, _ALIGNED, _ROWS = 768, 256, 24


@dataclass(frozen=True)
class Machine:
    """FLOP/s by dtype over all threads, vector lanes, bytes, bytes/s and Hz.

    ``pipe``: lanes of a multiplier, which works on a longer vector for several cycles.
    ``framework``: PyTorch chooses between oneDNN and its own loops. ``channels_last``: it hands
    over all maps in that order, which need no other, and weights that it has copied into it.
    ``grain``: elements of a loop that are worth a thread, where that is known. ``generated``: loops
    are written for the network, none is a call of its own.
    """

    peak: Mapping[str, float]
    lanes: int
    pipe: int
    threads: int
    clock: float
    l2: float
    l3: float
    memory: float
    framework: bool
    grain: float | None = None
    generated: bool = False

    def padded(self, channels: Array, width: Array | None = None) -> Array:
        """Channels in whole vectors, of ``width`` lanes if not of all; a multiplier takes as long
        for a vector that is shorter than itself."""
        lanes = self.lanes if width is None else width
        found: Array = np.ceil(channels / lanes) * np.maximum(lanes, self.pipe)
        return found


@dataclass(frozen=True)
class Choices:
    """Masks over kernels: convolutions that PyTorch multiplies itself (``own``), those of oneDNN
    (``library``), those that it unfolds, and maps that are channels last. ``forms`` is the kind of
    each: a depthwise convolution makes one channel of one."""

    own: Mask
    library: Mask
    unfolded: Mask
    channels_last: Mask
    forms: NDArray[np.str_]


def choices_of(run: Features, machine: Machine) -> Choices:
    """What computes each kernel of a run."""
    own = _own_loops(run, machine)
    library = np.isin(run.kind, _LIBRARY) & ~own
    channels_last = run.channels_last
    forms = np.where((run.kind == "depthwise") & (run.n > 1), "conv", run.kind)
    unfolded = _unfolded(run, machine) & library & (forms == "conv") & ~channels_last
    return Choices(own, library, unfolded, channels_last, forms)


def products_of(run: Features) -> Array:
    """The products that PyTorch makes of a convolution: one for each image and group."""
    found: Array = run.groups * np.maximum(run.m / np.maximum(run.positions, 1.0), 1.0)
    return found


def biased(run: Features, machine: Machine) -> Mask:
    """Plain products that PyTorch adds to a bias: it copies that over all of the result first, for
    BLAS to add to (``addmm_impl_cpu_`` in aten/src/ATen/native/LinearAlgebra.cpp)."""
    found: Mask = (run.kind == "gemm") & (run.ops > 0) & machine.framework
    return found


def shares_of(run: Features, machine: Machine) -> tuple[Array, Array]:
    """Into how many parts of rows and of columns threads share a product out: each reads its part
    of one factor for every part of the other.

    MKL, which PyTorch calls, takes columns, or, for multipliers of 512 bits, a grid of threads as
    square as their number allows. Runtimes take the longer side (MLAS, the library of ONNX Runtime,
    does so in ``MlasGemmBatch``, onnxruntime/core/mlas/lib/sgemm.cpp).
    """
    threads = np.full(len(run), float(machine.threads))
    if not machine.framework:
        rows = np.where(run.n > run.m, 1.0, threads)
        return rows, threads / rows
    aligned = (run.k % _ALIGNED == 0) | (run.n % _ALIGNED == 0)
    most = _side(machine.threads) if machine.pipe >= _AVX512 else 1
    rows = np.where(aligned & (run.k > _TERMS), np.clip(run.m // _ROWS, 1, most), 1.0)
    return rows, threads / rows


def _side(threads: int) -> int:
    """The longer side of the most square grid of so many threads; 1 if there is only a line."""
    shorter = max(side for side in range(1, math.isqrt(threads) + 1) if threads % side == 0)
    return threads // shorter if shorter > 1 else 1


def team_of(run: Features, machine: Machine) -> tuple[Array, Array]:
    """Threads that each kernel wakes, and by how much those that it leaves idle slow it down."""
    if machine.grain is None:
        busy = np.minimum(1.0, run.written / 4 / (_GRAIN * machine.threads))
        return 1.0 + (machine.threads - 1) * busy, np.ones(len(run))
    # Rows, planes and the blocks of a product are shared out however few they are.
    split = np.isin(run.kind, (*PRODUCTS, GRADIENTS)) | (run.rows > 0) | (run.scalars > 0)
    # In fractions of a thread, lest a larger batch that wakes one more look faster.
    shared = np.clip(run.elements / machine.grain, 1.0, machine.threads)
    team: Array = np.where(split, float(machine.threads), shared)
    return team, machine.threads / team


def _own_loops(run: Features, machine: Machine) -> Mask:
    if not machine.framework:
        return np.zeros(len(run), dtype=bool)
    images = run.m / np.maximum(run.positions, 1.0)
    elements = run.groups * run.k / run.taps * run.m * run.stride**2
    small = (images <= 1) & (elements <= _SMALL) & (run.groups == 1) & (run.window <= 3)
    small |= (run.taps == 1) & (run.stride == 1) & (machine.threads == 1) & (images < _MANY)
    found: Mask = np.isin(run.kind, CONVOLUTIONS) & small
    return found


def _unfolded(run: Features, machine: Machine) -> Mask:
    """Groups without whole vectors."""
    if not machine.framework:
        return np.zeros(len(run), dtype=bool)
    whole = _fewest(machine)
    ragged = (run.n % whole > 0) | (run.k / run.taps % whole > 0)
    found: Mask = (run.groups > 1) & ragged
    return found


def _fewest(machine: Machine) -> int:
    """Channels of the shortest vector that oneDNN's kernels for groups take."""
    return min(_QUARTER, machine.lanes) if machine.lanes > 8 else machine.lanes


def vectors_of(run: Features, machine: Machine, choices: Choices) -> Array:
    """Lanes of the vectors that each convolution computes with.

    oneDNN's generated kernel takes the longest that fill a group's channels, those that come in and
    those that go out (``init_conf`` as above); those of channels-last maps it masks at their ends,
    unless a group has fewer channels than a whole one.
    """
    width = np.full(len(run), float(machine.lanes))
    inwards = run.k / run.taps
    grouped = choices.library & (choices.forms == "conv") & (run.groups > 1) & machine.framework
    few = (run.n < machine.lanes) & (inwards < machine.lanes)
    grouped &= (few | ~choices.channels_last) & ~choices.unfolded
    lanes = machine.lanes
    while lanes > _fewest(machine):
        grouped &= (run.n % lanes > 0) | (inwards % lanes > 0)
        lanes //= 2
        width[grouped] = lanes
    return width
