"""Kernels as arrays: one number a kernel, so that numpy times a whole run at once."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from costmodel.execution.formats import BYTES
from costmodel.execution.kernel import Kernel, nbytes
from costmodel.machine.times import Array
from costmodel.rules.geometry import Geometry

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Features:
    """Arrays over the kernels of a run, in schedule order.

    ``fresh`` are bytes read that no earlier kernel of the run touched or that are weights;
    ``near`` is a list of (bytes, distance): what was touched before, and how many bytes have
    moved since; ``left``: how many have at the end, by storage; ``positions`` are those of one
    sample's output, ``elements`` those of the largest activation. Extents as in
    `costmodel.rules.geometry.Geometry`, 0 where there is no product.
    """

    macs: Array
    ops: Array
    transcendentals: Array
    rows: Array
    scalars: Array
    serial: Array
    blocks: Array
    surprises: Array
    fresh: Array
    written: Array
    in_place: Array
    near: tuple[tuple[Array, Array], ...]
    left: Mapping[int, float]
    groups: Array
    m: Array
    n: Array
    k: Array
    taps: Array
    window: Array
    stride: Array
    steps: Array
    patches: Array
    small_patches: Array
    positions: Array
    elements: Array
    dispatches: Array
    strided: Mask
    inside: Mask
    indexed: Mask
    channels_last: Mask
    turned: Mask
    remapped: Array
    pointers: Array
    unfolded: Array
    stretches: Array
    apart: Array
    line: Array
    sweep: Array
    scattered: Mask
    kind: NDArray[np.str_]
    family: NDArray[np.str_]
    dtype: NDArray[np.str_]

    def __len__(self) -> int:
        return len(self.macs)

    @property
    def read(self) -> Array:
        """All bytes read."""
        return self.fresh + sum(found for found, _ in self.near)

    @property
    def moved(self) -> Array:
        """All bytes read and written."""
        return self.read + self.written


#: What is not one array over the kernels.
_NESTED = ("near", "left")


def _columns(run: Features) -> dict[str, NDArray[Any]]:
    """The arrays over kernels by name."""
    return {f.name: getattr(run, f.name) for f in fields(Features) if f.name not in _NESTED}


def joined(runs: Sequence[Features]) -> Features:
    """The kernels of several runs, one run after the other, of which there is no common end."""
    every = [_columns(run) for run in runs]
    columns: dict[str, Any] = {name: np.concatenate([c[name] for c in every]) for name in every[0]}
    near = tuple(
        (np.concatenate([a for a, _ in pairs]), np.concatenate([b for _, b in pairs]))
        for pairs in zip(*(run.near for run in runs), strict=True)
    )
    return Features(**columns, near=near, left={})


def distinct(run: Features, *more: Array) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Places of kernels that differ, and for every kernel which of those is its equal.

    ``more`` are further arrays over the kernels that tell them apart.
    """
    coded = [_coded(column) for column in _columns(run).values()]
    coded += [*(array for pair in run.near for array in pair), *more]
    table = np.ascontiguousarray(np.array(coded).T)
    keys = table.view(np.dtype((np.void, table.itemsize * table.shape[1]))).ravel()
    _, first, place = np.unique(keys, return_index=True, return_inverse=True)
    return first, place.ravel()


def taken(run: Features, places: NDArray[np.intp]) -> Features:
    """The kernels at ``places``, of which there is no common end."""
    picked: dict[str, Any] = {name: column[places] for name, column in _columns(run).items()}
    return Features(**picked, near=tuple((a[places], b[places]) for a, b in run.near), left={})


def _coded(values: NDArray[Any]) -> Array:
    """Names as numbers, so that equal kernels are equal bytes."""
    numbers = np.unique(values, return_inverse=True)[1] if values.dtype.kind == "U" else values
    return numbers.astype(float)


#: Operands of one kernel whose reuse is followed; the smaller ones beyond count as fresh.
_FOLLOWED = 3


def features_of(kernels: Sequence[Kernel], before: Mapping[int, float] | None = None) -> Features:
    """The arrays of ``kernels``; ``before`` as in `costmodel.machine.caches.touches`."""
    reuse, left = _reuse(kernels, before or {})
    extents = [_extents(kernel) for kernel in kernels]

    def column(values: Sequence[float]) -> Array:
        return np.array(values, dtype=float)

    return Features(
        macs=column([k.macs for k in kernels]),
        ops=column([k.ops for k in kernels]),
        transcendentals=column([k.transcendentals for k in kernels]),
        rows=column([k.rows for k in kernels]),
        scalars=column([k.scalars for k in kernels]),
        serial=column([k.serial for k in kernels]),
        blocks=column([k.blocks for k in kernels]),
        surprises=column([k.surprises for k in kernels]),
        fresh=column([fresh for fresh, _ in reuse]),
        written=column([nbytes(k.writes) for k in kernels]),
        in_place=column([k.in_place for k in kernels]),
        near=tuple(
            (column([near[i][0] for _, near in reuse]), column([near[i][1] for _, near in reuse]))
            for i in range(_FOLLOWED)
        ),
        left=left,
        groups=column([e[0] for e in extents]),
        m=column([e[1] for e in extents]),
        n=column([e[2] for e in extents]),
        k=column([e[3] for e in extents]),
        taps=column([e[4] for e in extents]),
        window=column([e[5] for e in extents]),
        stride=column([e[6] for e in extents]),
        steps=column([e[7] for e in extents]),
        patches=column([_patches(k.geometry, PATCH) for k in kernels]),
        small_patches=column([_patches(k.geometry, SMALL_PATCH) for k in kernels]),
        positions=column([_positions(k.geometry) for k in kernels]),
        elements=column([_elements(k) for k in kernels]),
        dispatches=column([k.dispatches for k in kernels]),
        strided=np.array([k.strided for k in kernels], dtype=bool),
        inside=np.array([k.inside for k in kernels], dtype=bool),
        indexed=np.array([k.indexed for k in kernels], dtype=bool),
        channels_last=np.array([k.channels_last for k in kernels], dtype=bool),
        turned=np.array([k.turned for k in kernels], dtype=bool),
        remapped=column([k.remapped for k in kernels]),
        pointers=column([k.pointers for k in kernels]),
        unfolded=column([k.unfolded for k in kernels]),
        stretches=column([k.walk.stretches if k.walk else 0 for k in kernels]),
        apart=column([k.walk.apart if k.walk else 0 for k in kernels]),
        line=column([k.walk.line if k.walk else 0 for k in kernels]),
        sweep=column([k.walk.sweep if k.walk else 0 for k in kernels]),
        scattered=np.array([k.scattered for k in kernels], dtype=bool),
        kind=np.array([k.geometry.kind if k.geometry else k.unit for k in kernels], dtype=str),
        family=np.array([k.family for k in kernels], dtype=str),
        dtype=np.array([k.dtype for k in kernels], dtype=str),
    )


#: Winograd computes squares of this many outputs in each direction: with few transforms, or few
#: values between them.
PATCH, SMALL_PATCH = 4, 2


def _elements(kernel: Kernel) -> float:
    """Elements of the largest activation that a kernel reads or writes: what its loops walk."""
    sizes = [a.nbytes for a in (*kernel.reads, *kernel.writes) if not a.weight]
    return max(sizes, default=0) / max(BYTES[kernel.dtype], 1.0)


def _positions(geometry: Geometry | None) -> float:
    """Output positions of one sample; 0 where there are none."""
    return float(math.prod(geometry.spatial)) if geometry and geometry.spatial else 0.0


def _patches(geometry: Geometry | None, side: int) -> float:
    """Squares of ``side`` x ``side`` outputs that cover a convolution's output, all samples."""
    if geometry is None or not geometry.spatial:
        return 0.0
    covered = exact = 1.0
    for extent in geometry.spatial:
        covered *= -(-extent // side)
        exact *= extent
    return float(geometry.m) / exact * covered


def _extents(kernel: Kernel) -> tuple[float, ...]:
    g = kernel.geometry
    if g is None:
        return (1, 0, 0, 0, 1, 1, 1, 1)
    taps = 1
    for extent in g.taps:
        taps *= extent
    return (
        g.groups,
        g.m,
        g.n,
        g.k,
        taps,
        max(g.taps, default=1),
        max(g.stride, default=1),
        g.steps,
    )


def _reuse(
    kernels: Sequence[Kernel], before: Mapping[int, float]
) -> tuple[list[tuple[float, list[tuple[float, float]]]], dict[int, float]]:
    """Per kernel its fresh bytes, and its largest re-read operands with their reuse distance.
    Last, how many bytes moved since each storage was touched.

    The distance is the bytes moved since the operand was last touched, itself included: it is
    still in a cache that holds more than that (least recently used, fully associative).
    """
    last = {storage: -moved for storage, moved in before.items()}
    clock = 0.0
    found = []
    for kernel in kernels:
        fresh = 0.0
        near: list[tuple[float, float]] = []
        for access in kernel.reads:
            if access.weight or access.storage not in last:
                fresh += access.nbytes
            else:
                near.append((access.nbytes, clock - last[access.storage] + access.nbytes))
        near.sort(reverse=True)
        fresh += sum(size for size, _ in near[_FOLLOWED:])
        near = near[:_FOLLOWED] + [(0.0, np.inf)] * (_FOLLOWED - len(near))
        found.append((fresh, near))
        clock += nbytes(kernel.reads) + nbytes(kernel.writes)
        for access in (*kernel.reads, *kernel.writes):
            last[access.storage] = clock
    return found, {storage: clock - at for storage, at in last.items()}
