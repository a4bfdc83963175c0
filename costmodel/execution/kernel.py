"""One kernel as a machine sees it: work, extents, and the memory that it touches."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from costmodel.execution.walk import Walk
from costmodel.rules.geometry import Geometry

Unit = Literal["matrix", "vector", "move"]


@dataclass(frozen=True, slots=True)
class Access:
    """Bytes of one storage that a kernel reads or writes; ``weight``: it is the model's own."""

    storage: int
    nbytes: int
    weight: bool = False


@dataclass(frozen=True, slots=True)
class Kernel:
    """A kernel that an execution launches.

    ``unit`` says which engine does the work: matrix, vector, or none (a copy). ``dtype`` is the
    format of the arithmetic. ``dispatches`` counts calls that the host makes for it. ``strided``
    marks access that runs across memory (a transposition), which no cache line serves whole;
    ``walk`` says how PyTorch's loops do.
    ``transcendentals`` are the elements among ``ops`` that go through an exponential or the like,
    ``rows`` what a norm or softmax treats one by one, ``scalars`` operations that run one by one,
    ``surprises`` the branches in them that go another way than a processor guesses. ``over``: bytes
    that are written in the place of an operand of another name; below 0, bytes that are not written
    in the place of an operand although its name is the same.
    ``inside``: cuDNN makes a pass of its own, CPU libraries do it inside the kernel before.
    ``indexed``: threads of a GPU compute where each of their elements lies, and read it alone.
    ``serial`` are steps that every thread of a GPU takes in turn, each a wait for memory;
    ``blocks`` rows that it gives a block of threads each. ``channels_last``: the maps of a
    convolution or batch norm have their channels innermost. ``turned``: a map is copied from that
    order to channels first, or back. ``remapped``: elements whose places are computed one by one.
    ``pointers``: rows of input that an indirect convolution looks up, for one tile of channels.
    ``unfolded``: elements of windows that are copied next to each other for a product, one by one;
    what it takes to begin a row of them counts as further ones.
    ``scattered``: what is written goes where the allocator finds room, seldom to the block that was
    freed last.
    ``samples``: a runtime takes that many one after another; counts and extents are those of all.
    """

    names: tuple[str, ...]
    module: str
    family: str
    unit: Unit
    dtype: str
    macs: int
    ops: int
    reads: tuple[Access, ...]
    writes: tuple[Access, ...]
    geometry: Geometry | None = None
    dispatches: int = 1
    strided: bool = False
    transcendentals: int = 0
    rows: int = 0
    scalars: int = 0
    surprises: int = 0
    over: int = 0
    inside: bool = False
    indexed: bool = False
    serial: int = 0
    blocks: int = 0
    channels_last: bool = False
    turned: bool = False
    remapped: int = 0
    pointers: int = 0
    unfolded: int = 0
    samples: int = 1
    walk: Walk | None = None
    scattered: bool = False

    @property
    def flops(self) -> int:
        return 2 * self.macs + self.ops

    @property
    def nbytes(self) -> int:
        return nbytes(self.reads) + nbytes(self.writes)

    @property
    def in_place(self) -> int:
        """Bytes written where an operand was read, whose cache lines are already there."""
        operands = {access.storage for access in self.reads if not access.weight}
        return self.over + nbytes(access for access in self.writes if access.storage in operands)


def nbytes(accesses: Iterable[Access]) -> int:
    """Bytes of all accesses."""
    return sum(access.nbytes for access in accesses)
