"""Eager PyTorch: every op that does work is a kernel of its own; views are free.

Composite ops launch what PyTorch's own kernels launch: a dense convolution adds its bias in a
second pass (cuDNN's forward takes none), as does a linear layer of what is not contiguous, a norm
first copies such an input, a group norm reads it twice, and autocast converts tensors in kernels of
their own. Fused attention writes its heads interleaved, (batch, length, heads, width) in memory, so
gathering them afterwards is a view.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import replace

from costmodel.errors import CostModelError
from costmodel.execution.formats import AMP, BYTES, Cast, Formats, formats_of, size_of
from costmodel.execution.kernel import Access, Kernel, Unit
from costmodel.execution.own_loops import by_own_loops
from costmodel.execution.walk import dense, rearranges, walk_of
from costmodel.hardware.catalog import core
from costmodel.hardware.schema import CpuEngine, Profile
from costmodel.ir import Op, TensorSpec
from costmodel.rules import distinct_bytes
from costmodel.rules.geometry import Geometry, geometry_of, multiplies_first
from costmodel.rules.loops import (
    MISH,
    SOFTPLUS,
    TANH_GELU,
    indexed,
    maps_in_turn,
    measures_first,
    rows_in_blocks,
    scalars,
    sigmoids,
    surprises,
    transcendentals,
)
from costmodel.rules.loops import rows as rows_of
from costmodel.table import Row

#: PyTorch itself runs, on whose host and libraries time depends.
FRAMEWORK = True
#: Every op answers in the order of its operands.
KEEPS_MEMORY_FORMAT = True
#: Elements of a loop that ATen gives a thread (``at::internal::GRAIN_SIZE``).
GRAIN = 32768
#: Dimensions of the tensors that fused attention takes.
_FUSED_RANK = 4
#: Storages of what an op keeps for itself count down from here; those of tensors count from -1 up.
_OWN = -(10**9)
#: What an evaluation by Sleef's accurate functions takes, in sigmoids of ATen's own vectors: 2.0
#: instead of 0.46 ns an element for a GELU by tanh, 1.7 for a softplus, 4.5 for a Mish (eager and
#: compiled alike, PyTorch 2.13 on one core of an Emerald Rapids).
_SIGMOIDS = {TANH_GELU: 4, SOFTPLUS: 2, MISH: 5}
DTYPES = ("fp32", "tf32", "fp16", "bf16", "fp64", "amp-fp16", "amp-bf16")


def engine_on(dtype: str, profile: Profile, engine: str) -> str:
    """The engine asked for.

    Raises `CostModelError` for formats that PyTorch runs in loops without vectors on x86, which no
    machine model describes (``mkldnn_fp16_device_check`` and ``mkldnn_bf16_device_check`` in
    ATen/native/mkldnn/Utils.h).
    """
    unit, low = profile.engines[engine], AMP.get(dtype, dtype)
    if isinstance(unit, CpuEngine) and low in ("fp16", "bf16"):
        kinds = [core(cluster.core) for cluster in unit.clusters]
        x86 = [kind for kind in kinds if kind.isa.startswith("x86")]
        converted = low == "bf16" and all("v4" in kind.isa for kind in x86)
        if not converted and any(low not in kind.flops_per_cycle for kind in x86):
            raise CostModelError(
                f"{profile.name}:{engine} has no {low} arithmetic, and PyTorch no vector code for "
                "it there: it would run many times slower than fp32; use --dtype fp32"
            )
    return engine


def kernels(rows: Sequence[Row], dtype: str) -> list[Kernel]:
    """The kernels of one eager run, in order."""
    return [by_own_loops(row, kernel) for row, kernel in launches(rows, dtype)]


def launches(rows: Sequence[Row], dtype: str) -> Iterator[tuple[Row, Kernel]]:
    """The kernels of one run in order, each with its op, whoever writes their loops."""
    ops = [row.op for row in rows]
    formats = formats_of(ops, dtype)
    casts: dict[int, list[Cast]] = {}
    for cast in formats.casts:
        casts.setdefault(cast.index, []).append(cast)
    interleaved: set[int] = set()
    for index, row in enumerate(rows):
        if row.family == "attention" and row.op.inputs[0].ndim == _FUSED_RANK:
            interleaved.update(spec.storage for spec in row.op.outputs)
        elif row.family == "movement" and _gathers(row.op, interleaved):
            continue
        for cast in casts.get(index, ()):
            yield row, _conversion(cast, row.op, formats)
        for kernel in _launches(index, row, formats):
            yield row, kernel


def _gathers(op: Op, interleaved: set[int]) -> bool:
    """Whether the op only brings the heads of an attention's output together."""
    inputs = op.inputs
    return len(inputs) == 1 and inputs[0].storage in interleaved


def _launches(index: int, row: Row, formats: Formats) -> Iterator[Kernel]:
    op, cost = row.op, row.cost
    if cost is not None and not (cost.macs or cost.ops or cost.bytes):
        return
    main = kernel_of(index, row, formats)
    if row.family in ("normalization", "softmax") and op.inputs and _scattered(op.inputs[0]):
        yield _copy_of(op, op.inputs[0], formats, index)
        main = replace(main, strided=False)
    for spec in _interleaved_factors(row):
        yield _copy_of(op, spec, formats, index)
    if measures_first(op):
        yield _moments_of(main)
    if row.family == "attention" and main.geometry is not None and op.inputs[0].ndim != _FUSED_RANK:
        yield from _step_by_step(main, main.geometry)
        return
    bias = _separate_bias(op, main)
    if bias is not None:
        yield replace_ops(main, main.ops - int(op.out.numel))
        yield bias
    else:
        yield main


def _step_by_step(whole: Kernel, g: Geometry) -> Iterator[Kernel]:
    """Attention as two products around a softmax, which PyTorch falls back to.

    Its fused kernels take (batch, heads, length, width) and nothing else. Query and key are scaled
    and all three copied, so that matrices lie one after another; source: ``check_tensor_shapes``
    in aten/src/ATen/native/transformers/sdp_utils_cpp.h, ``_scaled_dot_product_attention_math``.
    """
    (name,), dtype = whole.names, whole.dtype
    operands = whole.reads[:3] if len(whole.reads) > 2 else whole.reads[:1] * 3
    scores, *copies = (_OWN - 4 * whole.writes[0].storage - i for i in range(4))
    plain = replace(whole, macs=0, ops=0, geometry=None, transcendentals=0, rows=0, scalars=0)
    product = replace(plain, family="matmul", macs=whole.macs // 2, strided=False)
    found = []
    for part, operand, copy in zip(("query", "key", "value"), operands, copies, strict=True):
        scaled = 0 if part == "value" else int(operand.nbytes / BYTES[dtype])
        found.append(Access(copy, operand.nbytes))
        yield replace(
            plain, names=(f"{name}.{part}",), family="movement", ops=scaled,
            unit="vector" if scaled else "move", strided=True, reads=(operand,),
            writes=(found[-1],),
        )  # fmt: skip
    table = Access(scores, int(g.groups * g.m * g.n * BYTES[dtype]))
    yield replace(product, names=(f"{name}.scores",), reads=tuple(found[:2]), writes=(table,),
                  geometry=replace(g, kind="gemm"))  # fmt: skip
    yield replace(
        plain, names=(f"{name}.softmax",), family="softmax", unit="vector", ops=whole.ops,
        reads=(table, *whole.reads[3:]), writes=(table,), strided=False,
        transcendentals=whole.transcendentals, rows=whole.rows,
    )  # fmt: skip
    yield replace(product, reads=(table, found[2]), geometry=replace(g, kind="gemm", n=g.k, k=g.n))


def kernel_of(index: int, row: Row, formats: Formats) -> Kernel:
    """The kernel of one op, nothing fused into it."""
    op, cost = row.op, row.cost
    reads = _accesses(op.inputs, formats, lambda spec: formats.stored(index, spec))
    writes = _accesses((*op.outputs, *op.writes), formats, lambda _: formats.outputs[index])
    if cost is not None:
        reads = _scaled(reads, cost.bytes_read, distinct_bytes(op.inputs))
        writes = _scaled(writes, cost.bytes_written, distinct_bytes((*op.outputs, *op.writes)))
    macs, ops = (int(cost.macs), int(cost.ops)) if cost is not None else (0, 0)
    unit: Unit = "matrix" if macs else "vector" if ops else "move"
    return Kernel(
        (op.name,),
        op.module,
        row.family,
        unit,
        formats.compute[index],
        macs,
        ops,
        reads,
        writes,
        geometry_of(op) if macs else None,
        strided=rearranges(op),
        transcendentals=transcendentals(op) * sigmoids(op, _SIGMOIDS) if ops else 0,
        rows=rows_of(op) if ops else 0,
        scalars=scalars(op, ops),
        indexed=indexed(op),
        serial=maps_in_turn(op),
        blocks=rows_in_blocks(op),
        surprises=surprises(op, ops),
        channels_last=_maps_last(row),
        turned=bool(macs) and op.inputs[0].contiguous and _channels_last(op.out),
    )


def replace_ops(kernel: Kernel, ops: int) -> Kernel:
    """The kernel with another count of scalar operations."""
    return replace(kernel, ops=max(ops, 0))


def _accesses(
    specs: Sequence[TensorSpec], formats: Formats, stored: Callable[[TensorSpec], str]
) -> tuple[Access, ...]:
    seen: dict[Hashable, Access] = {}
    for spec in specs:
        memory = formats.memory(spec)
        if (memory, spec.value) not in seen:
            weight = spec.kind in ("parameter", "buffer") and memory == spec.storage
            access = Access(memory, size_of(spec, stored(spec)), weight)
            seen[memory, spec.value] = access
    return tuple(seen.values())


def _scaled(accesses: tuple[Access, ...], wanted: object, traced: object) -> tuple[Access, ...]:
    """Accesses shrunk to what the rule says: an embedding reads only the rows that it picks."""
    if wanted == traced or not traced or not isinstance(wanted, int):
        return accesses
    share = wanted / int(traced)  # type: ignore[call-overload]
    return tuple(Access(a.storage, int(a.nbytes * share), a.weight) for a in accesses)


def _interleaved_factors(row: Row) -> list[TensorSpec]:
    """Factors of a product that are copied first: heads that are neither batch nor rows.

    Libraries take a matrix or its transpose, and one stride from matrix to matrix
    (``at::matmul`` folds batch dimensions, aten/src/ATen/native/LinearAlgebra.cpp).
    """
    if row.family != "matmul":
        return []
    return [
        spec
        for spec in row.op.inputs
        if spec.ndim > 3 and spec.kind == "activation" and _scattered(spec)
    ]


def _scattered(spec: TensorSpec) -> bool:
    return not spec.contiguous


def _maps_last(row: Row) -> bool:
    """Whether a product or batch norm meets maps in this order; its output tells of its kernel."""
    op, cost = row.op, row.cost
    ordered = row.family == "batch_norm" or (cost is not None and bool(cost.macs))
    either = op.out.channels_last and op.out.contiguous  # as of one position
    return ordered and (_channels_last(op.out) or (either and _channels_last(op.inputs[0])))


def _channels_last(spec: TensorSpec) -> bool:
    """Whether the order shows it: a single position has its channels innermost in any order."""
    return spec.channels_last and not spec.contiguous


def _conversion(cast: Cast, op: Op, formats: Formats) -> Kernel:
    spec, memory = cast.spec, formats.memory(cast.spec)
    source = spec.storage if cast.asked else memory
    weight = spec.kind in ("parameter", "buffer") and source == spec.storage
    return Kernel(
        (f"{op.name}.cast",),
        op.module,
        "movement",
        "move",
        cast.target,
        0,
        0,
        (Access(source, size_of(spec, cast.source), weight),),
        (Access(memory, size_of(spec, cast.target), False),),
    )


def _copy_of(op: Op, spec: TensorSpec, formats: Formats, index: int) -> Kernel:
    dtype = formats.stored(index, spec)
    access = Access(formats.memory(spec), size_of(spec, dtype))
    return Kernel(
        (f"{op.name}.contiguous",), op.module, "movement", "move", dtype, 0, 0, (access,),
        (access,), strided=True, walk=walk_of((spec,), dense(spec)),
        turned=_channels_last(spec),
    )  # fmt: skip


def _moments_of(norm: Kernel) -> Kernel:
    """The kernel that finds means and deviations, for another one to read everything again.

    On a CPU a thread does both for one group after another, which its cache holds.
    """
    (name,) = norm.names
    return replace(
        norm, names=(f"{name}.moments",), ops=0, writes=(), rows=0, transcendentals=0, inside=True
    )


def _separate_bias(op: Op, main: Kernel) -> Kernel | None:
    """A bias that PyTorch adds in place, reading and writing again: cuDNN's convolution takes none,
    a product none beside a tensor that is not contiguous."""
    geometry = main.geometry
    if geometry is None or not (geometry.kind == "conv" or multiplies_first(op)):
        return None
    bias = op.args[2] if len(op.args) > 2 else op.kwargs.get("bias")
    if not isinstance(bias, TensorSpec):
        return None
    out = main.writes[0]
    return Kernel(
        (f"{op.name}.bias",), op.module, "elementwise", "vector", main.dtype, 0,
        int(op.out.numel), (out,), (out,), inside=geometry.kind == "conv",
    )  # fmt: skip
