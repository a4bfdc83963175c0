"""ONNX Runtime's own kernels (MLAS): folded batch norm, fused activations, blocked channels.

3x3 convolutions run directly on blocks of channels; nothing is copied and nothing transformed. Maps
stay in blocks from op to op where every op in between knows them; where one does not, they are
reordered before it and after it (``onnxruntime/core/optimizer/nchwc_transformer.cc``).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from math import prod

from costmodel.execution.fusion import FOLDED, Fusing, Group, fused, plain_kernel
from costmodel.execution.kernel import Access, Kernel
from costmodel.rules import interpolation, pooling
from costmodel.rules.copies import JOINS
from costmodel.rules.epilogues import (
    ADDITIONS,
    HARD,
    LEAKY,
    MULTIPLICATIONS,
    RELU,
    SIGMOID,
    TANH,
)
from costmodel.rules.geometry import Geometry
from costmodel.table import Row

DTYPES = ("fp32", "fp16", "int8")
FUSING = Fusing(
    activations=RELU | HARD | (SIGMOID | TANH | LEAKY),
    additions=True,
    strided=False,
)
#: The number of channels of a block follows the length of a vector.
BLOCKED_BY_LANES = True
#: Channels that are moved into blocks together, the last block filled up: 116 and 232 are taken,
#: 58 are not, as profiles of version 1.32 show (older sources want whole blocks).
_ALIGNED = 4
#: Ops that take blocks where all of their inputs have them, and are of one shape.
_POINTWISE = RELU | SIGMOID | TANH | ADDITIONS | MULTIPLICATIONS
#: Ops that take blocks where all inputs have whole ones, as batch norms do.
_KNOWN = JOINS | interpolation.OF_MAPS
#: Dimensions of a batch of maps.
_MAP = 4


def kernels(rows: Sequence[Row], dtype: str, lanes: int = 0) -> list[Kernel]:
    """The kernels of one run; int8 rescales every output in three more operations.

    ``lanes``: fp32 values of a vector of the x86 cores, 0 on others. Blocks have 16 channels with
    AVX-512 and 8 without it (``NchwcBlockSize`` in onnxruntime/core/mlas/lib/platform.cpp); on Arm
    there are none, unless a build asks for them (``MLAS_USE_ARM_NEON_NCHWC``).
    """
    groups = fused(rows, FUSING)
    found = [plain_kernel(group, dtype) for group in groups]
    if dtype == "int8":
        return [replace(k, ops=k.ops + 3 * sum(a.nbytes for a in k.writes)) for k in found]
    if dtype != "fp32" or not lanes:
        return found
    return list(_reordered(groups, found, 16 if lanes >= 16 else 8))


def _reordered(groups: Sequence[Group], launched: Sequence[Kernel], block: int) -> Iterator[Kernel]:
    """The kernels with what puts maps into blocks, and out of them."""
    blocked: set[int] = set()
    plain: set[int] = set()
    for group, kernel in zip(groups, launched, strict=True):
        maps = [a for a in kernel.reads if not a.weight]
        wanted, made = _blocks(group, kernel, blocked, block)
        for access in maps:
            if wanted and access.storage not in blocked:
                blocked.add(access.storage)
                yield _reorder(kernel, access, "in")
            elif not wanted and access.storage in blocked - plain:
                plain.add(access.storage)
                yield _reorder(kernel, access, "out")
        yield kernel
        for access in kernel.writes:
            (blocked.add if made else blocked.discard)(access.storage)
            plain.discard(access.storage)


def _blocks(group: Group, kernel: Kernel, blocked: set[int], block: int) -> tuple[bool, bool]:
    """Whether a kernel takes its inputs in blocks, and whether it gives its output in blocks."""
    op, g = group.head.op, kernel.geometry
    if op.inputs and all(extent == 1 for extent in op.inputs[0].shape[2:]):
        return False, False  # one position is the same in either order
    if g is not None and g.kind in ("conv", "depthwise") and len(g.spatial) == _MAP - 2:
        channels = g.k // prod(g.taps)
        fits = _fits(g, channels, block)
        return fits and channels * g.groups >= block, fits
    specs = [spec for spec in op.inputs if spec.kind == "activation"]
    if not specs or any(spec.ndim != _MAP for spec in specs):
        return False, False
    whole = all(int(spec.shape[1]) % block == 0 for spec in specs)
    if op.target in pooling.OF_MAPS:
        return whole, whole  # other inputs are put into blocks for it
    inside = all(spec.storage in blocked for spec in specs)
    if op.target.removesuffix("_") in _POINTWISE:
        inside &= len({spec.shape for spec in specs}) == 1
        return inside, inside
    inside &= whole and (op.target in _KNOWN or group.head.family == FOLDED)
    return inside, inside


def _fits(g: Geometry, channels: int, block: int) -> bool:
    """Whether a convolution has a kernel for blocks: the first one takes its few channels as they
    lie, a group has to have whole blocks of its own."""
    if g.groups == 1:
        return channels < block or channels % _ALIGNED == 0
    if channels == 1 and g.n == 1:
        return g.groups % _ALIGNED == 0
    return channels % block == 0 and g.n % block == 0


def _reorder(kernel: Kernel, access: Access, way: str) -> Kernel:
    return Kernel(
        (f"{kernel.names[0]}.{way}",), kernel.module, "movement", "move", kernel.dtype, 0, 0,
        (access,), (access,),
    )  # fmt: skip
