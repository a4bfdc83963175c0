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
    """What takes most of the time, and what halving the time of each resource would save."""
    found = claim(prediction)
    if found is None:
        return "Nothing to speed up: no kernel takes any time."
    remedies = [
        (saved(prediction, memory=0.5), "half the bytes", _fewer_bytes(prediction)),
        (saved(prediction, compute=0.5), "twice the FLOP/s", "lower precision"),
        (saved(prediction, overhead=0.5), "half the overhead", "fusion, a larger batch"),
    ]
    (best, what, how), *others = sorted(remedies, key=lambda remedy: -remedy[0])
    rest = ", ".join(f"{name} {percent(part)}" for part, name, _ in others)
    return (
        f"{percent(found.share)} of the time is {found.bound}-bound {_words(found.family)}: {what} "
        f"({how}) would save {percent(best)} of the whole, {rest}."
    )


def without_device(table: CostTable) -> str:
    """Where the MACs and the bytes sit, while no device says what they cost."""
    families, total = table.group_by("family"), table.total
    found: dict[str, list[str]] = {}
    for label, name in (("MACs", "macs"), ("bytes", "bytes")):
        if whole := getattr(total, name):
            top = max(families, key=lambda family: getattr(families[family], name))
            share = percent(float(getattr(families[top], name) / whole))
            found.setdefault(top, []).append(f"{share} of the {label}")
    if not found:
        return "This model does no work that counts."
    claims = ", ".join(f"{' and '.join(parts)} are {_words(f)}" for f, parts in found.items())
    return f"{claims}; --hw NAME tells which of it takes the time."


def _words(family: str) -> str:
    return FAMILY_WORDS.get(family, family.replace("_", " "))


def _fewer_bytes(prediction: Prediction) -> str:
    smaller = "int8" if prediction.dtype in ("fp16", "bf16", "amp-fp16", "fp8") else "fp16"
    return f"{smaller} or fusion" if prediction.execution == "eager" else smaller
