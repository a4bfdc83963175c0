"""The number format of every storage under a dtype or under autocast.

The traced graph holds the model's own formats (mostly float32). A prediction in another format
replaces float32 by it; ``amp-fp16`` and ``amp-bf16`` follow the framework's autocast lists op by
op, which also inserts the conversions that autocast launches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from costmodel.hardware.peaks import computes_in
from costmodel.hardware.schema import CpuEngine, Engine
from costmodel.ir import Op, TensorSpec
from costmodel.rules.autocast import policy_of

BYTES = {"fp64": 8, "fp32": 4, "tf32": 4, "fp16": 2, "bf16": 2, "fp8": 1, "int8": 1, "int4": 0.5}
AMP = {"amp-fp16": "fp16", "amp-bf16": "bf16"}
_CONVERTIBLE = ("float32", "float64", "float16", "bfloat16")


@dataclass(frozen=True, slots=True)
class Cast:
    """A tensor converted before op ``index`` runs; ``cached`` when done once for a weight."""

    index: int
    spec: TensorSpec
    source: str
    target: str


@dataclass(frozen=True)
class Formats:
    """Per op the format of its arithmetic; per (op, tensor) the format in memory."""

    compute: tuple[str, ...]
    inputs: tuple[dict[int, str], ...]
    outputs: tuple[str, ...]
    casts: tuple[Cast, ...]


def half_where_computed(dtype: str, engine: Engine) -> str:
    """``fp32`` for an ``fp16`` network on a CPU without half-precision arithmetic: runtimes then
    widen its weights as they load it, and every tensor is fp32."""
    if dtype == "fp16" and isinstance(engine, CpuEngine) and not computes_in(engine, "fp16"):
        return "fp32"
    return dtype


def formats_of(ops: Sequence[Op], dtype: str) -> Formats:
    """The formats of ``ops`` in schedule order under ``dtype``."""
    if dtype in AMP:
        return _autocast(ops, AMP[dtype])
    stored = [dict.fromkeys((s.storage for s in op.inputs), dtype) for op in ops]
    return Formats((dtype,) * len(ops), tuple(stored), (dtype,) * len(ops), ())


def size_of(spec: TensorSpec, dtype: str) -> int:
    """Bytes of a tensor stored as ``dtype``; integers and booleans keep their own size."""
    if spec.dtype not in _CONVERTIBLE:
        return int(spec.nbytes)
    return int(spec.distinct * BYTES[dtype])


def _autocast(ops: Sequence[Op], low: str) -> Formats:
    held: dict[int, str] = {}
    cached: set[int] = set()
    compute, inputs, outputs, casts = [], [], [], []
    for index, op in enumerate(ops):
        floats = [s for s in op.inputs if s.dtype == "float32" and s.ndim > 0]
        policy = policy_of(op)
        now = [held.get(s.storage, "fp32") for s in floats]
        met = [have for s, have in zip(floats, now, strict=True) if not s.recast]
        if policy == "lower":
            wanted = low
        elif policy == "float32":
            wanted = "fp32"
        elif policy == "input":
            wanted = now[0] if now else "fp32"
        else:
            wanted = "fp32" if "fp32" in met or not now else low
        stored = {}
        for spec, have in zip(floats, now, strict=True):
            convert = have != wanted and (policy in ("lower", "float32") or spec.recast)
            if convert and spec.kind == "parameter" and not spec.recast:
                convert = spec.storage not in cached
                cached.add(spec.storage)
            if convert:
                casts.append(Cast(index, spec, have, wanted))
            converted = policy in ("lower", "float32") or spec.recast
            stored[spec.storage] = wanted if converted else have
        for spec in op.outputs:
            if spec.storage not in held or not any(s.storage == spec.storage for s in floats):
                held[spec.storage] = wanted
        compute.append(wanted)
        inputs.append(stored)
        outputs.append(wanted)
    return Formats(tuple(compute), tuple(inputs), tuple(outputs), tuple(casts))
