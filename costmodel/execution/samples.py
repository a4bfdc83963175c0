"""Runtimes whose tensors have no batch dimension: the kernels of one of several samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from costmodel.execution.kernel import Access, Kernel
from costmodel.rules.geometry import Geometry

_COUNTED = (
    "macs", "ops", "transcendentals", "rows", "scalars", "surprises", "over", "remapped",
    "pointers",
)  # fmt: skip


def samples_of(kernels: Sequence[Kernel]) -> int:
    """How many samples the kernels of a run take one after another."""
    return kernels[0].samples if kernels else 1


def of_one(kernels: Sequence[Kernel]) -> list[Kernel]:
    """What is launched for each sample.

    What is made of weights alone belongs to no sample: the loop makes it again for each.
    """
    if samples_of(kernels) == 1:
        return list(kernels)
    shared: set[int] = set()
    found = []
    for kernel in kernels:
        if all(access.weight or access.storage in shared for access in kernel.reads):
            shared.update(access.storage for access in kernel.writes)
            found.append(replace(kernel, samples=1))
        else:
            found.append(_of_one(kernel, shared))
    return found


def _of_one(kernel: Kernel, shared: set[int]) -> Kernel:
    def share(access: Access) -> Access:
        if access.weight or access.storage in shared:
            return access
        return replace(access, nbytes=access.nbytes // kernel.samples)

    counts: dict[str, Any] = {name: getattr(kernel, name) // kernel.samples for name in _COUNTED}
    return replace(
        kernel,
        **counts,
        reads=tuple(map(share, kernel.reads)),
        writes=tuple(map(share, kernel.writes)),
        geometry=kernel.geometry and _extents(kernel, kernel.geometry),
        samples=1,
    )


def _extents(kernel: Kernel, geometry: Geometry) -> Geometry:
    """Samples are rows of a product with weights; where activations are multiplied with one
    another, each has matrices of its own."""
    own = geometry.groups != 1 and not any(access.weight for access in kernel.reads)
    name = "groups" if own else "m"
    return replace(geometry, **{name: max(getattr(geometry, name) // kernel.samples, 1)})
