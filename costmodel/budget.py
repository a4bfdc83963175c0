"""Cost budgets: limits on counts and predicted latency, held in continuous integration.

A budget is a TOML file with one table a network:

    [[model]]
    target = "net.py:Net(width=2)"
    input = "1x3x224x224"          # optional
    macs = "300M"                  # a number, or text with k, M, G
    params = 5_000_000
    peak_activation_bytes = "8MB"
    [model.latency_ms]
    pixel8 = 12.5
    "rtx4090" = 1.0
"""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from costmodel.errors import CostModelError

#: What can be limited besides latency, by the name in a budget.
COUNTS = ("macs", "flops", "ops", "params", "bytes_read", "bytes_written", "bytes",
          "peak_activation_bytes")  # fmt: skip
_PREFIX = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([kMGT]?)B?\s*")


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of one network; latencies in seconds by device."""

    target: str
    input: str | None = None
    counts: Mapping[str, int] = field(default_factory=dict)
    latency_s: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Finding:
    """One figure beside its limit. Counts are exact integers, latencies seconds."""

    target: str
    what: str
    limit: float
    value: float

    @property
    def exceeded(self) -> bool:
        return self.value > self.limit

    @property
    def over(self) -> float:
        """The share by which the limit is exceeded; negative below it."""
        return self.value / self.limit - 1 if self.limit else math.inf


def read(path: str | Path) -> list[Limits]:
    """The networks of a budget file.

    Raises `CostModelError` for a file that is no TOML, an unknown key, and a limit that is no
    positive number.
    """
    try:
        document = tomllib.loads(Path(path).read_text())
    except OSError as error:
        raise CostModelError(f"{path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise CostModelError(f"{path} is no TOML: {error}") from error
    models = document.get("model")
    extra = [key for key in document if key != "model"]
    if extra or not isinstance(models, list) or not models:
        raise CostModelError(
            f'{path} needs tables [[model]] with target = "…" and limits'
            + (f", not {extra[0]!r}" if extra else "")
        )
    return [parse(path, entry) for entry in models]


def parse(path: str | Path, entry: Mapping[str, Any]) -> Limits:
    """The limits of one table; ``path`` says in messages where it stands."""
    rest = dict(entry)
    target = rest.pop("target", None)
    if not isinstance(target, str):
        raise CostModelError(f'{path}: a [[model]] has no target = "…"')
    shape = rest.pop("input", None)
    latency = rest.pop("latency_ms", {})
    if not isinstance(latency, dict):
        raise CostModelError(f"{path}: latency_ms of {target} needs devices, as in pixel8 = 12.5")
    for name in rest:
        if name not in COUNTS:
            raise CostModelError(
                f"{path}: no limit {name!r} for {target}; choose {', '.join(COUNTS)}, latency_ms"
            )
    counts = {name: math.floor(_number(path, name, value)) for name, value in rest.items()}
    times = {hw: _number(path, hw, value) * 1e-3 for hw, value in latency.items()}
    if not counts and not times:
        raise CostModelError(f'{path}: {target} has no limit; give one, as macs = "300M"')
    return Limits(target, shape, counts, times)


def _number(path: str | Path, name: str, value: Any) -> float:
    if isinstance(value, str) and (found := _SIZE.fullmatch(value)):
        value = float(found[1]) * _PREFIX[found[2]]
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < math.inf:
        raise CostModelError(
            f'{path}: the limit {name} = {value!r} is no positive number; write 300000000 or "300M"'
        )
    return value


def check(limits: Sequence[Limits]) -> list[Finding]:
    """Every limited figure beside its limit. Raises `CostModelError` for a network or device that
    cannot be used, and for one whose counts are only lower bounds."""
    from costmodel.api import analyze

    found = []
    for each in limits:
        report = analyze(each.target, each.input)
        found += of_table(each, report.table)
    return found


def of_table(limits: Limits, table: Any) -> list[Finding]:
    """The findings about a network that has been costed."""
    from costmodel.roofline import predict

    if not table.complete:
        missing = table.unsupported[0]
        raise CostModelError(
            f"{limits.target}: no cost rule for {missing.op}, so that its counts are lower bounds; "
            "a budget needs all of them"
        )
    total = table.total
    values = {name: getattr(total, name) for name in COUNTS if name != "peak_activation_bytes"}
    values["peak_activation_bytes"] = table.peak_activation_bytes
    found = [
        Finding(limits.target, name, limit, int(values[name]))
        for name, limit in limits.counts.items()
    ]
    for hw, limit in limits.latency_s.items():
        found.append(Finding(limits.target, f"latency {hw}", limit, predict(table, hw).latency_s))
    return found


def text(findings: Sequence[Finding]) -> str:
    """A table like a diff: ``+`` before what exceeds its limit."""
    from costmodel.report.units import seconds
    from costmodel.scaling.text import columns

    def shown(finding: Finding, value: float) -> str:
        return seconds(value) if finding.what.startswith("latency") else f"{int(value):,}"

    lines = [
        [f"{'+' if f.exceeded else ' '} {f.target}", f.what, shown(f, f.limit), shown(f, f.value),
         f"{100 * f.over:+.1f} %"]
        for f in findings
    ]  # fmt: skip
    return "\n".join(columns([["  network", "what", "limit", "found", ""], *lines])) + "\n"
