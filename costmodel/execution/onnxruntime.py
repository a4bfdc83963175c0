"""ONNX Runtime's own kernels (MLAS): folded batch norm, fused activations, blocked channels.

3x3 convolutions run directly on blocks of channels; nothing is copied and nothing transformed. Maps
stay in blocks from op to op where every op in between knows them; where one does not, they are
reordered before it and after it (``onnxruntime/core/optimizer/nchwc_transformer.cc``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from math import prod

from costmodel.execution.formats import size_of
from costmodel.execution.fusion import FOLDED, Fusing, Group, fused, is_weight, plain_kernel
from costmodel.execution.kernel import Access, Kernel
from costmodel.execution.turns import Turn, turns
from costmodel.ir import Op, TensorSpec
from costmodel.rules import interpolation, pooling
from costmodel.rules.copies import JOINS, makes_contiguous
from costmodel.rules.epilogues import (
    ADDITIONS,
    HARD,
    LEAKY,
    MULTIPLICATIONS,
    RELU,
    SIGMOID,
    SMOOTH,
    TANH,
)
from costmodel.rules.geometry import Geometry
from costmodel.rules.loops import GELU, sigmoids
from costmodel.table import Row

DTYPES = ("fp32", "fp16", "int8")
FUSING = Fusing(
    activations=RELU | HARD | (SIGMOID | TANH | LEAKY),
    additions=True,
    of_maps=True,
    strided=False,
    turned=True,
)
#: The number of channels of a block follows the length of a vector.
TAKES_LANES = True
#: Channels that are moved into blocks together, the last block filled up: 116 and 232 are taken,
#: 58 are not, as profiles of version 1.32 show (older sources want whole blocks).
_ALIGNED = 4
#: Elements whose copies take as long as to begin a row of them, and as one of a window with
#: strides, which is copied alone: of grouped and depthwise convolutions on a Zen 4 at 3.4 GHz a row
#: took 4.4 ns, an element 0.18, and 0.6 with strides (``MlasConvIm2Col`` in onnxruntime/core/mlas).
_BEGUN, _STRIDED = 24, 3
#: Sigmoids whose time the error function of an exact GELU takes: on a Zen 4 a SiLU and a sigmoid
#: took 1.1 cycles an element, traffic included, a GELU 2.4 (``MlasComputeErf``,
#: ``MlasComputeLogistic``).
_SIGMOIDS = {GELU: 3}
#: Ops that take blocks where all of their inputs have them, and are of one shape.
_POINTWISE = RELU | SMOOTH - LEAKY | ADDITIONS | MULTIPLICATIONS
#: Ops that take blocks where all inputs have whole ones, as batch norms do.
_KNOWN = JOINS | interpolation.OF_MAPS
#: Dimensions of a batch of maps.
_MAP = 4
#: The axes of maps with channels last, put first, and of others, put last.
_FIRST, _LAST = (0, 3, 1, 2), (0, 2, 3, 1)


def kernels(rows: Sequence[Row], dtype: str, lanes: int = 0) -> list[Kernel]:
    """The kernels of one run; int8 rescales every output in three more operations.

    ``lanes``: fp32 values of a vector of the x86 cores, 0 on others. Blocks have 16 channels with
    AVX-512 and 8 without it (``NchwcBlockSize`` in onnxruntime/core/mlas/lib/platform.cpp); on Arm
    there are none, unless a build asks for them (``MLAS_USE_ARM_NEON_NCHWC``).
    """
    groups = fused(rows, FUSING)
    # What computes on data in another order has them lie as it reads them.
    found = [replace(plain_kernel(group, dtype), strided=False) for group in groups]
    found = [_by_mlas(group, kernel) for group, kernel in zip(groups, found, strict=True)]
    if dtype == "int8":
        found = [replace(k, ops=k.ops + 3 * sum(a.nbytes for a in k.writes)) for k in found]
    block = (16 if lanes >= 16 else 8) if dtype == "fp32" and lanes else 0
    *before, after = _turns_of(groups, rows)
    made = list(_reordered(groups, found, before, _same(rows, "value"), block))
    made += [_turned(turn, rows[-1].op, dtype) for turn in after]
    storages = _same(rows, "storage")
    return [_renamed(kernel, storages) for kernel in made] if storages else made


def _by_mlas(group: Group, kernel: Kernel) -> Kernel:
    """The kernel with what the functions of its library take."""
    slow = kernel.transcendentals * sigmoids(group.head.op, _SIGMOIDS)
    return replace(kernel, transcendentals=slow)


def _same(rows: Sequence[Row], name: str) -> dict[int, int]:
    """Values, or storages, that copies for contiguity make, and those that they copy: to a runtime
    without strides they are the same."""
    found: dict[int, int] = {}
    for row in rows:
        if makes_contiguous(row.op):
            source = getattr(row.op.inputs[0], name)
            found[getattr(row.op.out, name)] = found.get(source, source)
    return found


def _renamed(kernel: Kernel, storages: Mapping[int, int]) -> Kernel:
    reads, writes = (
        tuple(replace(a, storage=storages.get(a.storage, a.storage)) for a in accesses)
        for accesses in (kernel.reads, kernel.writes)
    )
    return replace(kernel, reads=reads, writes=writes)


def _turns_of(groups: Sequence[Group], rows: Sequence[Row]) -> list[list[Turn]]:
    """What moves before each group, and after the last one."""
    due = turns(rows)
    place = {id(row): number for number, row in enumerate(rows)}
    found: list[list[Turn]] = []
    for group in groups:
        members = {place[id(row)] for row in group.rows}
        ready = [at for at in due if at <= min(members) or at in members]
        found.append([turn for at in ready for turn in due.pop(at)])
    return [*found, [turn for some in due.values() for turn in some]]


def _turned(turn: Turn, op: Op, dtype: str) -> Kernel:
    access = Access(turn.spec.storage, turn.times * size_of(turn.spec, dtype))
    return Kernel(
        (f"{op.name}.turn",), op.module, "movement", "move", dtype, 0, 0, (access,), (access,),
        strided=turn.axes[-1] != len(turn.axes) - 1, remapped=turn.times * turn.places,
        dispatches=turn.times, over=-access.nbytes,
    )  # fmt: skip


def _reordered(
    groups: Sequence[Group],
    launched: Sequence[Kernel],
    turned: Sequence[Sequence[Turn]],
    same: Mapping[int, int],
    block: int,
) -> Iterator[Kernel]:
    """The kernels with what turns their operands, puts maps into blocks, and out of them."""
    blocked: set[int] = set()
    plain: set[int] = set()

    def lies(spec: TensorSpec) -> bool:
        return same.get(spec.value, spec.value) in blocked

    for group, kernel, due in zip(groups, launched, turned, strict=True):
        wanted, made = _blocks(group, kernel, lies, block) if block else (False, False)
        if block and not wanted:
            kernel = replace(kernel, unfolded=_unfolded(kernel.geometry))
        left = []
        for turn in due:
            if wanted and turn.axes == _FIRST:
                continue  # blocks are filled from either order
            if turn.axes != _LAST or not lies(turn.spec):
                left.append(turn)  # others are emptied in the new order at once
        for spec in (*(turn.spec for turn in due), *_operands(group)):
            value = same.get(spec.value, spec.value)
            if wanted and not lies(spec):
                blocked.add(value)
                yield _reorder(kernel, spec, "in")
            elif not wanted and lies(spec) and value not in plain:
                plain.add(value)
                yield _reorder(kernel, spec, "out")
        for turn in left:
            yield _turned(turn, group.head.op, kernel.dtype)
        yield kernel
        for spec in (*group.tail.op.outputs, *group.tail.op.writes):
            (blocked.add if made else blocked.discard)(spec.value)
            plain.discard(spec.value)
    for spec in groups[-1].tail.op.outputs if groups else ():
        if lies(spec):
            yield _reorder(launched[-1], spec, "out")


def _operands(group: Group) -> Iterator[TensorSpec]:
    """What a group reads that is neither a weight nor its own."""
    own = {spec.value for row in group.rows[:-1] for spec in row.op.outputs}
    for row in group.rows:
        for spec in row.op.inputs:
            if not is_weight(spec) and spec.value not in own:
                yield spec


def _blocks(
    group: Group, kernel: Kernel, lies: Callable[[TensorSpec], bool], block: int
) -> tuple[bool, bool]:
    """Whether a kernel takes its inputs in blocks, and whether it gives its output in blocks.

    ``lies``: whether a map is in blocks already.
    """
    op, g = group.head.op, kernel.geometry
    if g is not None and g.kind in ("conv", "depthwise") and len(g.spatial) == _MAP - 2:
        channels = g.k // prod(g.taps)
        fits = _fits(g, channels, block)
        return fits and channels * g.groups >= block, fits
    specs = [spec for spec in op.inputs if not is_weight(spec)]
    if not specs or any(spec.ndim != _MAP for spec in specs):
        return False, False
    whole = all(int(spec.shape[1]) % block == 0 for spec in specs)
    if op.target in pooling.OF_MAPS:
        return whole, whole  # other inputs are put into blocks for it
    inside = all(map(lies, specs))
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


def _unfolded(g: Geometry | None) -> int:
    """What a convolution of maps outside of blocks copies ahead of its product."""
    if g is None or g.kind not in ("conv", "depthwise") or not g.spatial or prod(g.taps) == 1:
        return 0
    elements = g.groups * g.m * g.k
    if max(g.stride) > 1:
        return elements * _STRIDED
    # A single channel a group makes a vector, which is multiplied as it lies.
    return elements // int(g.spatial[-1]) * _BEGUN + elements * (g.n > 1)


def _reorder(kernel: Kernel, spec: TensorSpec, way: str) -> Kernel:
    access = Access(spec.storage, size_of(spec, kernel.dtype))
    return Kernel(
        (f"{kernel.names[0]}.{way}",), kernel.module, "movement", "move", kernel.dtype, 0, 0,
        (access,), (access,), over=-access.nbytes,
    )  # fmt: skip
