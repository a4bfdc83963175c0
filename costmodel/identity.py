"""Which tensors are the same: numbers for storages and for contents, and tensors as specs."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch.multiprocessing.reductions import StorageWeakRef

from costmodel.ir import Dim, Kind, Recast, TensorSpec

_CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}
_DTYPES = {
    value: name
    for name, value in vars(torch).items()
    if isinstance(value, torch.dtype) and str(value) == f"torch.{name}"
}


class Identities:
    """Numbers storages and contents in the order in which they are first seen.

    Two tensors share a ``storage`` number when they share memory, and a ``value`` number when they
    are the same elements of it, in whatever order. Tensors may die: then their ids
    and addresses are free for others, and `freed` notes the `clock` at which a storage went.
    """

    def __init__(self, forget: Callable[[int], None]) -> None:
        self.clock = 0
        self.freed: dict[int, int] = {}
        self._forget = forget
        self.kinds: dict[int, Kind] = {}
        self._storages: dict[int, int] = {}
        self._values: dict[tuple[Any, ...], int] = {}
        self._specs: dict[int, TensorSpec] = {}
        self._seen: dict[int, Any] = {}
        self._watched: list[Any] = []
        self._held: list[Any] = []

    def hold(self, value: Any) -> None:
        """Keep something alive until the trace is done."""
        self._held.append(value)

    def storage_of(self, tensor: torch.Tensor) -> int:
        """The number of the memory behind ``tensor``."""
        try:
            storage = tensor.untyped_storage()
            key = storage._cdata
        except (NotImplementedError, RuntimeError):  # opaque: sparse, mkldnn
            storage, key = None, -id(tensor)
        number = self._storages.get(key)
        if number is None:
            number = self._storages[key] = len(self._storages)
            if storage is None:
                self._held.append(tensor)
                return number
            # The one keeps the address from being used again, the other tells when the bytes go.
            self._held.append(_reference(storage))
            self._watched.append(weakref.ref(storage, lambda _: self._note(number)))
        return number

    def alias(self, twin: torch.Tensor, original: torch.Tensor) -> None:
        """Treat the memory of ``twin`` as that of ``original``."""
        number = self.storage_of(original)
        self._storages[twin.untyped_storage()._cdata] = number
        self._held.append(twin)

    def forget(self, tensor: torch.Tensor) -> None:
        """The shape or strides of ``tensor`` may have changed in place."""
        self._specs.pop(id(tensor), None)

    def spec(self, tensor: torch.Tensor) -> TensorSpec:
        """What an op sees of ``tensor``."""
        known = self._specs.get(id(tensor))
        if known is not None:
            return known
        spec = self._describe(tensor)
        key = id(tensor)
        self._specs[key] = spec
        if key not in self._seen:
            self._seen[key] = weakref.ref(tensor, lambda _: self._drop(key))
        return spec

    def origin(self, tensor: torch.Tensor) -> TensorSpec | int:
        """Whose format ``tensor`` has: what is known of it, or the number of its storage, or -1."""
        known = self._specs.get(id(tensor))
        if known is not None:
            return known
        try:
            return self._storages.get(tensor.untyped_storage()._cdata, -1)
        except (NotImplementedError, RuntimeError):
            return -1

    def recast(self, tensor: torch.Tensor, recast: Recast) -> None:
        """``tensor`` is the answer of a conversion that did nothing."""
        self._specs[id(tensor)] = replace(self.spec(tensor), recast=recast)

    def close(self) -> None:
        """The trace is done: what dies from now on is none of its business."""
        self._watched.clear()
        self._seen.clear()

    def _note(self, storage: int) -> None:
        self.freed[storage] = self.clock

    def _drop(self, key: int) -> None:
        self._specs.pop(key, None)
        self._seen.pop(key, None)
        self._forget(key)

    def _describe(self, tensor: torch.Tensor) -> TensorSpec:
        storage = self.storage_of(tensor)
        shape = tuple(tensor.shape)
        concrete = all(type(d) is int for d in shape)
        if not concrete:
            shape = tuple(dim_of(d) for d in shape)
        try:
            contiguous = tensor.is_contiguous()
            dense = _CHANNELS_LAST.get(len(shape))
            last = dense is not None and tensor.is_contiguous(memory_format=dense)
            offset = dim_of(tensor.storage_offset())
            strides: Sequence[Any] = tensor.stride()
        except (NotImplementedError, RuntimeError):
            contiguous, last, offset, strides = True, False, 0, ()
        expanded = tuple(
            i for i, s in enumerate(strides) if type(s) is int and s == 0 and shape[i] != 1
        )
        region: Any
        if contiguous or not concrete or not all(type(s) is int for s in strides):
            region, strides = _size(shape, expanded), ()
        else:
            region = _region(shape, strides)
        value = self._values.setdefault((storage, offset, region), len(self._values))
        kind = self.kinds.get(storage, "activation")
        name = dtype_name(tensor.dtype)
        return TensorSpec(
            shape, name, value, storage, kind, expanded, contiguous, last, tuple(strides)
        )


_reference: Any = StorageWeakRef


def _size(shape: tuple[Dim, ...], expanded: tuple[int, ...]) -> Dim:
    size: Dim = 1
    for i, extent in enumerate(shape):
        if i not in expanded:
            size = size * extent
    return size


def _region(shape: Sequence[int], strides: Sequence[int]) -> Any:
    """The set of addresses, the same for every order of the dimensions: merged (stride, extent).

    Addresses that fill a block collapse to its size, so a permuted tensor equals a plain one.
    """
    runs: list[tuple[int, int]] = []
    for stride, extent in sorted(zip(strides, shape, strict=True)):
        if extent == 1 or stride == 0:
            continue
        if runs and stride == runs[-1][0] * runs[-1][1]:
            runs[-1] = (runs[-1][0], runs[-1][1] * extent)
        else:
            runs.append((stride, extent))
    if not runs:
        return 1 if 0 not in shape else 0
    return runs[0][1] if len(runs) == 1 and runs[0][0] == 1 else tuple(runs)


def dtype_name(dtype: torch.dtype) -> str:
    """``float32`` for ``torch.float32``."""
    return _DTYPES.get(dtype) or str(dtype).removeprefix("torch.")


def dim_of(size: Any) -> Dim:
    """An ``int``, or the sympy expression behind a ``SymInt``."""
    if type(size) is int:
        return size
    node = getattr(size, "node", None)
    if node is None:
        return size
    from costmodel.expressions import expression  # sympy: only where sizes are symbols

    return expression(node.expr)
