"""What changed between two reports of ``costmodel analyze --format json``."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from costmodel.errors import CostModelError


@dataclass(frozen=True, slots=True)
class Change:
    """A figure before and after; ``None`` where it was absent."""

    what: str
    old: float | None
    new: float | None

    @property
    def share(self) -> float | None:
        """The relative change."""
        if not self.old or self.new is None:
            return None
        return self.new / self.old - 1


@dataclass(frozen=True)
class Difference:
    """Changes of totals, of the prediction, and of modules; only what differs."""

    totals: tuple[Change, ...]
    prediction: tuple[Change, ...]
    modules: tuple[Change, ...]
    notes: tuple[str, ...] = ()

    @property
    def empty(self) -> bool:
        """Whether nothing changed."""
        return not (self.totals or self.prediction or self.modules or self.notes)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "schema": 1,
            **{
                part: [{"what": c.what, "old": c.old, "new": c.new} for c in getattr(self, part)]
                for part in ("totals", "prediction", "modules")
            },
            "notes": list(self.notes),
        }


def read(path: str | Path) -> dict[str, Any]:
    """A report. Raises `CostModelError` when the file is none."""
    try:
        document = json.loads(Path(path).read_text())
    except OSError as error:
        raise CostModelError(f"{path}: {error.strerror}") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise CostModelError(f"{path} is no JSON: {error}") from error
    if not isinstance(document, dict) or not {"totals", "ops", "schema"} <= document.keys():
        raise CostModelError(f"{path} is no report; write one with costmodel analyze --format json")
    return document


def difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> Difference:
    """What differs between two reports."""
    notes = _notes(old, new, ("target", "inputs", "mode", "complete"))
    one, other = old.get("prediction"), new.get("prediction")
    if one and other:
        notes += _notes(one, other, ("hw", "dtype", "execution", "layout", "threads"))
    return Difference(
        tuple(_changes(old["totals"], new["totals"])),
        tuple(_changes(_timed(one), _timed(other))),
        tuple(_changes(_by_module(old), _by_module(new))),
        tuple(notes),
    )


def _notes(old: Mapping[str, Any], new: Mapping[str, Any], names: Sequence[str]) -> list[str]:
    return [
        f"{name}: {_plain(old.get(name))} -> {_plain(new.get(name))}"
        for name in names
        if old.get(name) != new.get(name)
    ]


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _timed(prediction: Mapping[str, Any] | None) -> dict[str, float]:
    if not prediction:
        return {}
    names = ("latency_s", "energy_j")
    return {name: prediction[name] for name in names if prediction.get(name) is not None}


def _by_module(report: Mapping[str, Any]) -> dict[str, int]:
    found: dict[str, int] = {}
    for op in report["ops"]:
        name = f"{op['module'] or '(itself)'}: MACs"
        found[name] = found.get(name, 0) + op["macs"]
    return {name: value for name, value in found.items() if value}


def _changes(old: Mapping[str, float], new: Mapping[str, float]) -> list[Change]:
    return [
        Change(name, old.get(name), new.get(name))
        for name in dict.fromkeys([*old, *new])
        if old.get(name) != new.get(name)
    ]


def text(found: Difference, modules: int = 20) -> str:
    """Markdown for a pull request: a table of what changed, or a sentence that nothing did."""
    if found.empty:
        return "No change in cost.\n"
    lines = [f"{note}  " for note in found.notes]
    if lines:
        lines.append("")
    changes = (*found.totals, *found.prediction, *found.modules[:modules])
    if changes:
        lines += ["| | before | after | change |", "|---|---:|---:|---:|"]
        lines += [
            f"| {c.what} | {_shown(c.what, c.old)} | {_shown(c.what, c.new)} | {_share(c)} |"
            for c in changes
        ]
    more = len(found.modules) - modules
    if more > 0:
        lines += ["", f"… and {more} more modules."]
    return "\n".join(lines) + "\n"


def _share(change: Change) -> str:
    if change.old is None:
        return "new"
    if change.new is None:
        return "gone"
    return "" if change.share is None else f"{100 * change.share:+.2f} %"


def _shown(what: str, value: float | None) -> str:
    from costmodel.report.units import joules, seconds

    if value is None:
        return ""
    if what == "latency_s":
        return seconds(value)
    return joules(value) if what == "energy_j" else f"{int(value):,}"
