"""ncnn: batch norm folded, activations in the epilogue, Winograd, im2col, fp16 where the core can.

On Armv8.2 cores with half-precision arithmetic "fp32" networks are stored and computed in fp16
(`use_fp16_storage`, `use_fp16_arithmetic`, on by default). int8 applies to convolutions and fully
connected layers; what lies between them stays in floating point (`costmodel.execution.quantised`).
Its tensors have no batch dimension: a batch is a loop of runs (`costmodel.execution.samples`).
Vulkan's layers dispatch their parts one by one (`costmodel.execution.vulkan`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from costmodel.execution.formats import BYTES
from costmodel.execution.fusion import Fusing, fused, plain_kernel
from costmodel.execution.kernel import Kernel
from costmodel.execution.quantised import quantised
from costmodel.execution.vulkan import MIN_CHANNELS, dispatched
from costmodel.execution.winograd import applies, best, im2col, winograd
from costmodel.hardware.catalog import core
from costmodel.hardware.peaks import cpu_of
from costmodel.hardware.schema import CpuEngine, Engine, Profile
from costmodel.rules.epilogues import HARD, LEAKY, RELU, SIGMOID
from costmodel.rules.geometry import factors_of
from costmodel.table import Row

DTYPES = ("fp32", "fp16", "int8")
FUSING = Fusing(activations=RELU | HARD | (SIGMOID | LEAKY))
WINOGRAD = (2, 4, 6)
#: Its benchmark table has a row for each kind of core, the big ones first, and no column for it.
BENCHMARK_PINS_CORES = True
SAMPLE_BY_SAMPLE = True
#: Rows that its packed layouts hold side by side, at least.
_PACKED = 4
#: Dimensions of a map with its batch.
_MAP = 4


def format_on(dtype: str, engine: Engine) -> str:
    """What ncnn runs a ``dtype`` network as on an engine: half precision and the int8 dot product
    wherever every core has them, Vulkan's layers on a GPU."""
    has = _extensions(engine)
    if dtype == "int8":
        return "int8-dotprod" if "dotprod" in has else "int8"
    floating = "fp16" if "fp16" in has else "fp32"
    return floating if isinstance(engine, CpuEngine) else f"{floating}-vulkan"


def engine_on(dtype: str, profile: Profile, engine: str) -> str:
    """ncnn's Vulkan layers have no int8: such a network runs on the CPU, whatever was asked for."""
    if dtype != "int8" or profile.engines[engine].kind != "gpu":
        return engine
    return cpu_of(profile, engine, "ncnn runs int8 on the CPU")


def _extensions(engine: Engine) -> frozenset[str]:
    if isinstance(engine, CpuEngine):
        isas = (core(cluster.core).isa.split("+")[1:] for cluster in engine.clusters)
        return frozenset.intersection(*map(frozenset, isas))
    return frozenset(engine.vector_tflops)


def kernels(rows: Sequence[Row], dtype: str) -> list[Kernel]:
    """The kernels of one run; ``dtype`` is what `format_on` says, or one of `DTYPES`."""
    narrow = dtype.startswith("int8")
    floating = "fp16" if dtype.startswith("fp16") or dtype == "int8-dotprod" else "fp32"
    groups = fused(rows, FUSING)
    plain = [
        plain_kernel(group, "int8" if narrow and _products(group.head) else floating, floating)
        for group in groups
    ]
    size = BYTES[floating]
    if dtype.endswith("-vulkan"):
        return [dispatched(kernel, size) for kernel in plain]
    plain = [_bordered(kernel, size) for kernel in plain]
    plain = [_reshaped(k, g.head, size) for k, g in zip(plain, groups, strict=True)]
    return [_algorithm(kernel, dtype == "int8-dotprod") for kernel in quantised(plain, size)]


def _algorithm(kernel: Kernel, dotprod: bool) -> Kernel:
    geometry = kernel.geometry
    if geometry is None or geometry.kind != "conv" or geometry.transposed:
        return kernel
    if applies(geometry) and _worth(kernel):
        if kernel.dtype != "int8":
            return winograd(kernel, best(geometry, WINOGRAD))
        if not dotprod:  # transformed elements need 16 bits, and so do their products
            return replace(winograd(kernel, best(geometry, WINOGRAD[:2])), dtype="int16")
    return im2col(kernel)


def _products(row: Row) -> bool:
    return bool(row.cost is not None and row.cost.macs) and row.family != "attention"


def _worth(kernel: Kernel) -> bool:
    geometry = kernel.geometry
    assert geometry is not None
    return bool(min(geometry.n, geometry.k // 9) >= MIN_CHANNELS)


def _bordered(kernel: Kernel, size: float) -> Kernel:
    """A padded convolution first copies its input into a larger tensor with the border in place
    (`make_padding`): a load and a store an element, and the copy's bytes."""
    geometry = kernel.geometry
    if geometry is None or not geometry.padded or geometry.transposed:
        return kernel
    source = max((a for a in kernel.reads if not a.weight), key=lambda a: a.nbytes)
    elements = int(source.nbytes / size)
    copy = replace(source, nbytes=int(elements * BYTES[kernel.dtype]))
    return replace(kernel, ops=kernel.ops + elements, writes=(*kernel.writes, copy))


def _reshaped(kernel: Kernel, row: Row, size: float) -> Kernel:
    """pnnx makes rows of a linear layer's input where that is a map with channels last, and a map
    of what comes out. Its rows are packed, so that this second reshape finds the place of every
    element by dividing (1.0.20261020 on x86: about 110 ns an element, on one thread)."""
    factors = factors_of(row.op)
    if kernel.geometry is None or kernel.geometry.kind != "gemm" or factors is None:
        return kernel
    source, weight = factors
    if source.ndim < _MAP or weight.kind != "parameter":
        return kernel
    if math.prod(source.shape[1:-1]) % _PACKED:  # rows of one sample
        return kernel
    return replace(kernel, remapped=int(kernel.writes[0].nbytes / size))
