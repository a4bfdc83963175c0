"""One sentence that says what to do next, computed from the prediction alone."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from costmodel.prediction import Bound, Prediction
from costmodel.report.units import percent

if TYPE_CHECKING:
    from costmodel.table import CostTable

#: What a family is called in a sentence, where its name alone does not say it.
FAMILY_WORDS = {
    "convolution": "dense convolution",
    "depthwise": "depthwise convolution",
    "grouped": "grouped convolution",
    "pointwise": "1×1 convolution",
    "matmul": "matrix products",
    "elementwise": "elementwise work",
    "movement": "copying",
}


@dataclass(frozen=True, slots=True)
class Claim:
    """The largest part of the latency: kernels of one family with one bound, and their share."""

    family: str
    bound: Bound
    share: float
    kernels: int


def claim(prediction: Prediction) -> Claim | None:
    """The family and bound that take most of the time; ``None`` without kernels."""
    time: dict[tuple[str, Bound], list[float]] = defaultdict(list)
    for kernel in prediction.kernels:
        time[kernel.family, kernel.bound].append(kernel.latency_s)
    whole = sum(kernel.latency_s for kernel in prediction.kernels)
    if whole <= 0:
        return None
    (family, bound), parts = max(time.items(), key=lambda item: sum(item[1]))
    return Claim(family, bound, sum(parts) / whole, len(parts))


def saved(
    prediction: Prediction, *, compute: float = 1.0, memory: float = 1.0, overhead: float = 1.0
) -> float:
    """The share of the latency that goes if a resource needs that fraction of its time.

    ``memory=0.5`` is half the bytes or twice the bandwidth. Inside a kernel compute and memory
    overlap, so the busy part scales with the larger of the two; overhead adds to it.
    """
    before = after = 0.0
    for kernel in prediction.kernels:
        fixed = min(kernel.overhead_s, kernel.latency_s)
        roof = max(kernel.compute_s, kernel.memory_s)
        new = max(compute * kernel.compute_s, memory * kernel.memory_s)
        before += kernel.latency_s
        after += overhead * fixed + (kernel.latency_s - fixed) * (new / roof if roof else 1.0)
    return 1 - after / before if before else 0.0


def advice(prediction: Prediction) -> str:
    """What takes most of the time, and how much halving each resource's time would save."""
    found = claim(prediction)
    if found is None:
        return "Nothing to speed up: no kernel takes any time."
    share, family = percent(found.share), _words(found.family)
    bytes_, flops = (percent(saved(prediction, **{k: 0.5})) for k in ("memory", "compute"))
    match found.bound:
        case "memory":
            how = _fewer_bytes(prediction)
            return (
                f"{share} of the time is memory-bound {family}: half the bytes ({how}) would "
                f"save {bytes_} of the whole, twice the FLOP/s {flops}."
            )
        case "compute":
            return (
                f"{share} of the time is compute-bound {family}: twice the FLOP/s (lower "
                f"precision, or half the MACs) would save {flops} of the whole, half the bytes "
                f"{bytes_}."
            )
    fixed = percent(saved(prediction, overhead=0.5))
    return (
        f"{share} of the time is the overhead of {found.kernels} kernels of {family}: half of it "
        f"(fusion, a larger batch) would save {fixed} of the whole, twice the FLOP/s {flops}, half "
        f"the bytes {bytes_}."
    )


def without_device(table: CostTable) -> str:
    """Where the MACs and the bytes sit, while no device says what they cost."""
    families = table.group_by("family")
    total = table.total
    parts = []
    for label, name in (("MACs", "macs"), ("bytes", "bytes")):
        whole = getattr(total, name)
        if whole:
            top = max(families, key=lambda family: getattr(families[family], name))
            share = percent(float(getattr(families[top], name) / whole))
            parts.append(f"{share} of the {label} are {_words(top)}")
    if not parts:
        return "This model does no work that counts."
    return f"{', '.join(parts)}; --hw NAME tells which of it takes the time."


def _words(family: str) -> str:
    return FAMILY_WORDS.get(family, family.replace("_", " "))


def _fewer_bytes(prediction: Prediction) -> str:
    smaller = "int8" if prediction.dtype in ("fp16", "bf16", "amp-fp16", "fp8") else "fp16"
    return f"{smaller} or fusion" if prediction.execution == "eager" else smaller
