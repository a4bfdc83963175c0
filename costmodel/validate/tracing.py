"""The op table of a measured run: its network at its shape, batch and memory format."""

from __future__ import annotations

import contextlib
import math
import re
import sys
import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from costmodel import cache
from costmodel.errors import CostModelError
from costmodel.execution import keeps_memory_format
from costmodel.ir import TensorSpec, TraceInfo, Weight
from costmodel.rules import cost_of, family_of
from costmodel.rules.convolution import convolution_of_image
from costmodel.table import CostTable, Row, cost
from costmodel.validate.runs import Mode, Run

if TYPE_CHECKING:
    import networkx as nx


#: Vision transformers of timm, and the PyTorch of the years in which their layer norms were those
#: of ``torch.nn``. Today's are timm's own, which autocast treats otherwise
#: (`costmodel.rules.autocast`): networks with a norm before the first block and without one took
#: the same time then, as only sums in float32 make them.
_PLAIN, _PLAIN_UNDER = re.compile(r"timm:(vit|deit|flexivit)"), re.compile(r"torch 2\.[0-5]\b")


@dataclass(frozen=True, slots=True)
class Subject:
    """What has to be traced.

    ``plain_norms``: of a time when timm's vision transformers took the norms of ``torch.nn``.
    """

    model: str
    shape: str
    batch: int
    channels_last: bool
    mode: Mode = "eval"
    plain_norms: bool = False

    @property
    def input(self) -> str:
        """The input as costmodel writes it: ``1x3x224x224``, ``int64:1x128``."""
        dtype, colon, dims = self.shape.rpartition(":")
        return f"{dtype}{colon}{self.batch}x{dims}"


def subject_of(run: Run) -> Subject:
    """What the run measured."""
    last = run.layout == "nhwc" and keeps_memory_format(run.execution)
    plain = bool(_PLAIN.match(run.model) and _PLAIN_UNDER.match(run.software))
    return Subject(run.model, run.input_shape, run.batch, last, run.mode, plain)


@dataclass
class Tracer:
    """Traces subjects, and keeps the last model built: rows of one model come together."""

    _built: dict[tuple[str, str, bool], Any] = field(default_factory=dict)

    def table(self, subject: Subject) -> CostTable:
        """The cost table of a subject, its trace read from the cache if it is there.

        Raises `CostModelError` when the model cannot be built or run at that shape.
        """
        setting = {"input": subject.input, "channels_last": subject.channels_last}
        if subject.mode != "eval":
            setting["mode"] = subject.mode
        if subject.plain_norms:
            setting["plain_norms"] = True
        return cost(cache.cached(subject.model, setting, lambda: self._trace(subject)))

    def _trace(self, subject: Subject) -> nx.DiGraph[int]:
        # What a model's own code prints or warns of must not end up in the data.
        with contextlib.redirect_stdout(sys.stderr), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return self._run(subject)

    def _run(self, subject: Subject) -> nx.DiGraph[int]:
        key = (subject.model, subject.shape, subject.plain_norms)
        if key in self._built:
            return _trace(self._built[key], subject)
        self._built.clear()
        first: CostModelError | None = None
        for text in (subject.model, _resized(subject)):
            if text is None:
                continue
            try:
                module = _build(text, subject.plain_norms)
                graph = _trace(module, subject)
            except CostModelError as error:
                first = first or error
            else:
                self._built[key] = module
                return graph
        assert first is not None
        raise first


def _build(text: str, plain_norms: bool) -> Any:
    from costmodel.targets import load
    from costmodel.targets.libraries import take_norms_of_torch

    module = load(text).module
    if plain_norms:
        take_norms_of_torch(module)
    return module


def _trace(module: Any, subject: Subject) -> nx.DiGraph[int]:
    from costmodel import tracer
    from costmodel.inputs import parse

    tensor = parse(subject.input).tensor()
    return tracer.trace(module, (tensor,), mode=subject.mode, channels_last=subject.channels_last)


def _resized(subject: Subject) -> str | None:
    """The timm target made for another image size, as position embeddings and windows need."""
    dims = subject.shape.rpartition(":")[2].split("x")
    if not subject.model.startswith("timm:") or "img_size" in subject.model or len(dims) != 3:
        return None
    size = f"img_size=({dims[1]},{dims[2]})" if dims[1] != dims[2] else f"img_size={dims[1]}"
    name = subject.model.removesuffix(")")
    if name == subject.model:
        return f"{name}({size})"
    return f"{name}{size})" if name.endswith("(") else f"{name},{size})"


def convolution_table(run: Run) -> CostTable:
    """The table of a single convolution without bias: one row, no tracing."""
    shape = run.convolution
    assert shape is not None
    out = (shape.size + 2 * shape.padding - shape.kernel) // shape.stride + 1
    x = TensorSpec(
        (run.batch, shape.c_in, shape.size, shape.size), value=0, storage=0, kind="input"
    )
    dims = (shape.c_out, shape.c_in, shape.kernel, shape.kernel)
    weight = TensorSpec(dims, value=1, storage=1, kind="parameter")
    y = TensorSpec((run.batch, shape.c_out, out, out), value=2, storage=2)
    op = convolution_of_image(x, weight, y, shape.stride, shape.padding)
    info = TraceInfo((x,), (Weight(("weight",), dims, "float32", 1, "parameter"),), (y,))
    return CostTable((Row(op, cost_of(op), family_of(op)),), info)


def activations_of(table: CostTable) -> int:
    """Elements that matrix ops write: what the field calls a network's activations."""
    return sum(
        math.prod(spec.shape)
        for row in table.rows
        if row.cost is not None and row.cost.macs
        for spec in row.op.outputs
    )
