"""The number format of every storage under a dtype or under autocast.

The traced graph holds the model's own formats (mostly float32). A prediction in another format
replaces float32 by it, but where the model asks for float32 by name; ``amp-fp16`` and ``amp-bf16``
follow the framework's autocast lists op by op, which also inserts the conversions that autocast
launches.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass

from costmodel.hardware.peaks import computes_in
from costmodel.hardware.schema import CpuEngine, Engine
from costmodel.ir import Op, Recast, TensorSpec
from costmodel.rules.autocast import Policy, policy_of, returns_float32, widens_itself

BYTES = {"fp64": 8, "fp32": 4, "tf32": 4, "fp16": 2, "bf16": 2, "fp8": 1, "int8": 1, "int4": 0.5}
AMP = {"amp-fp16": "fp16", "amp-bf16": "bf16"}
#: Storages of copies count down from here; those of tensors from -1 up, of what ops keep for
#: themselves from a billion below.
_COPIES = -(10**12)
_CONVERTIBLE = ("float32", "float64", "float16", "bfloat16")


@dataclass(frozen=True, slots=True)
class Cast:
    """A tensor converted before op ``index`` runs; of a weight that autocast keeps, once.

    ``asked``: by the model itself, into memory of its own.
    """

    index: int
    spec: TensorSpec
    source: str
    target: str
    asked: bool = False


@dataclass(frozen=True)
class Formats:
    """Per op the format of its arithmetic and of its outputs, and the formats of its inputs."""

    compute: tuple[str, ...]
    inputs: tuple[Mapping[Hashable, str], ...]
    outputs: tuple[str, ...]
    casts: tuple[Cast, ...] = ()
    copied: frozenset[Recast] = frozenset()

    def stored(self, index: int, spec: TensorSpec) -> str:
        """The format that op ``index`` finds ``spec`` in."""
        return self.inputs[index].get(_name(spec), self.compute[index])

    def memory(self, spec: TensorSpec) -> int:
        """The number of the memory behind ``spec``; what the model has copied has its own."""
        if spec.recast is None or spec.recast not in self.copied:
            return spec.storage
        return _COPIES - spec.recast.number


def half_where_computed(dtype: str, engine: Engine) -> str:
    """``fp32`` for an ``fp16`` network on a CPU without half-precision arithmetic: runtimes then
    widen its weights as they load it, and every tensor is fp32."""
    if dtype == "fp16" and isinstance(engine, CpuEngine) and not computes_in(engine, "fp16"):
        return "fp32"
    return dtype


def formats_of(ops: Sequence[Op], dtype: str) -> Formats:
    """The formats of ``ops`` in schedule order under ``dtype``."""
    if dtype in AMP:
        return _followed(ops, "fp32", AMP[dtype], policy_of)
    if dtype in ("fp16", "bf16"):
        return _followed(ops, dtype, dtype, lambda _: "widest")
    return Formats((dtype,) * len(ops), ({},) * len(ops), (dtype,) * len(ops))


def size_of(spec: TensorSpec, dtype: str) -> int:
    """Bytes of a tensor stored as ``dtype``; integers and booleans keep their own size."""
    if spec.dtype not in _CONVERTIBLE:
        return int(spec.nbytes)
    return int(spec.distinct * BYTES[dtype])


def _followed(
    ops: Sequence[Op], first: str, low: str, policy_of: Callable[[Op], Policy]
) -> Formats:
    """The formats that ops hand on; inputs and weights come as ``first``."""
    held: dict[int, str] = {}
    cached: set[int] = set()
    recast: set[Recast] = set()
    copied: set[Recast] = set()
    compute, inputs, outputs, casts = [], [], [], []
    for index, op in enumerate(ops):
        floats = [s for s in op.inputs if s.dtype == "float32" and s.ndim > 0]
        asked = [_asked(s, held, first) for s in floats]
        now = [have or ("fp32" if "fp32" in asked else low) for have in asked]
        for spec, have in zip(floats, now, strict=True):
            if spec.recast is None or spec.recast in recast:
                continue
            recast.add(spec.recast)
            if have != (plain := held.get(spec.storage, first)):
                copied.add(spec.recast)
                casts.append(Cast(index, spec, plain, have, asked=True))
        policy = policy_of(op)
        wanted = _computed(policy, now, low) if now or policy == "lower" else first
        if returns_float32(op):
            policy, wanted = "float32", "fp32"
        converts = policy == "lower" or (policy == "float32" and not widens_itself(op, low))
        stored: dict[Hashable, str] = {}
        for spec, have in zip(floats, now, strict=True):
            if converts and have != wanted:
                weight = spec.kind == "parameter" and spec.recast not in copied
                if not weight or spec.storage not in cached:
                    casts.append(Cast(index, spec, have, wanted))
                if weight:
                    cached.add(spec.storage)
            stored[_name(spec)] = wanted if converts else have
        for spec in op.outputs:
            if spec.recast is not None:
                continue
            if spec.storage not in held or not any(s.storage == spec.storage for s in floats):
                held[spec.storage] = wanted
        compute.append(wanted)
        inputs.append(stored)
        outputs.append(wanted)
    return Formats(tuple(compute), tuple(inputs), tuple(outputs), tuple(casts), frozenset(copied))


def _computed(policy: Policy, now: Sequence[str], low: str) -> str:
    """The format that an op computes in, of those that its inputs have ``now``."""
    if policy == "lower":
        return low
    if policy == "input":
        return now[0]
    return "fp32" if policy == "float32" or "fp32" in now else low


def _asked(spec: TensorSpec, held: Mapping[int, str], first: str) -> str | None:
    """The format of a tensor; ``None`` for a weight that takes that of what it meets."""
    recast = spec.recast
    if recast is None:
        return held.get(spec.storage, first)
    if recast.to == "met":
        return None
    return "fp32" if recast.to == "float32" else held.get(recast.like, first)


def _name(spec: TensorSpec) -> Hashable:
    """What tells a tensor from its copies in other formats."""
    return spec.storage, spec.recast
