"""Which op made each tensor and which wrote its memory last, and so what flows from op to op."""

from __future__ import annotations

from dataclasses import dataclass, field

from costmodel.ir import Dim, Op, TensorSpec


@dataclass
class Dataflow:
    """The ops so far and the bytes on the edges between them, by the ops' indices.

    A tensor is known by the ``id`` of the object, its memory by the spec's ``storage``.
    """

    ops: list[Op] = field(default_factory=list)
    edges: dict[tuple[int, int], Dim] = field(default_factory=dict)
    _maker: dict[int, int] = field(default_factory=dict)
    _writer: dict[int, int] = field(default_factory=dict)

    def read(self, tensor: int, spec: TensorSpec, index: int) -> None:
        """Op ``index`` reads: an edge from the op that made the tensor or wrote its memory last."""
        made = self._maker.get(tensor)
        written = self._writer.get(spec.storage) if self._writer else None
        if written is not None and (made is None or made < written):
            made = written  # overwritten since: only the last writer's contents are read
        if made is not None and made != index:
            edge = (made, index)
            self.edges[edge] = self.edges.get(edge, 0) + spec.nbytes

    def made(self, tensor: int, index: int) -> None:
        """Op ``index`` returned the tensor."""
        self._maker[tensor] = index

    def same(self, tensor: int, original: int) -> None:
        """The object is another name of ``original``."""
        made = self._maker.get(original)
        if made is not None:
            self._maker[tensor] = made

    def written(self, spec: TensorSpec, index: int) -> None:
        """Op ``index`` wrote the memory behind ``spec``."""
        self._writer[spec.storage] = index

    def forget(self, tensor: int) -> None:
        """The object is gone; its ``id`` is free for another."""
        self._maker.pop(tensor, None)

    def copy(self) -> Dataflow:
        """The state as it is now."""
        tables = (dict(table) for table in (self.edges, self._maker, self._writer))
        return Dataflow(list(self.ops), *tables)  # type: ignore[arg-type]

    def restore(self, state: Dataflow) -> None:
        """Go (back) to a state that `copy` gave."""
        vars(self).update(vars(state.copy()))
