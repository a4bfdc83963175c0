"""Predict every measured run under three tiers, and write ``benchmarks/accuracy.md``.

    python benchmarks/accuracy.py [--data ../shared/data] [--jobs 2] [--residuals] [FILE ...]

``--residuals`` also writes ``costmodel/machine/residuals.yaml``, from which intervals are made
(devices that are not scored now keep their entries); the report's coverage is that of the new file,
each device held out.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from costmodel.files import write_atomic
from costmodel.machine import residuals as intervals
from costmodel.machine.constants import blocks
from costmodel.validate import TIERS, Choice, Group, validate
from costmodel.validate.report import error_of, percent, worst
from costmodel.validate.runs import Skipped
from costmodel.validate.score import score
from costmodel.validate.spread import dump, merged, residuals
from costmodel.validate.tiers import with_intervals

ROOT = Path(__file__).resolve().parents[1]
REPORT = ROOT / "benchmarks" / "accuracy.md"
SHORT: dict[Choice, str] = {"none": "data sheet", "one": "one network", "families": "calibrated"}
WORST_ROWS, WORST_FAMILIES = 25, 6
#: How near the coverage of a group is to come to the claim.
NEAR = 0.05
TIER_NOTES = """\
- **data sheet**: constants that were fixed without any run of the device. `*`: not so, because
  there is no other device to fix this class on.
- **one network**: one network is measured on the device (MobileNetV2, else ResNet-50, else the one
  of median MACs), constants are fitted on it, held as much as data sheets have proved right for
  the class on other devices, the other networks are scored.
- **calibrated**: constants fitted on the device's runs, the mean of fits that each leave families
  out, scored on families that none of those fits saw.
  A family is a network's name up to its first digit or underscore, or a single convolution's octave
  of input channels.
- Beside them, **k·MACs** and **k·(MACs + λ·activations)**, always fitted on the device's own runs,
  on other families than those scored.""".splitlines()


@dataclass(frozen=True)
class File:
    """A run file and its groups, under all tiers."""

    name: str
    groups: tuple[Group, ...]
    skipped: tuple[Skipped, ...]


def main() -> None:
    """Score the files, refresh the residuals if asked, write the report."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", default=str(ROOT.parent / "shared" / "data"))
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--residuals", action="store_true")
    parser.add_argument("-o", "--output", default=str(REPORT))
    parser.add_argument("files", nargs="*")
    arguments = parser.parse_args()
    data = Path(arguments.data)
    paths = [Path(f) for f in arguments.files] or [
        *sorted(data.glob("runs/*.csv")), *sorted(data.glob("kernels/*.csv"))
    ]  # fmt: skip
    if not paths:
        sys.exit(f"no measured runs under {data}; name a folder with --data")
    files = [scored(path, arguments.jobs) for path in paths]
    if arguments.residuals:
        found = residuals(group for file in files for group in file.groups)
        document = merged(found, intervals.document())
        write_atomic(intervals.FILE, dump(document))
        intervals.document.cache_clear()
        files = [replace(f, groups=tuple(map(renewed, f.groups))) for f in files]
    write_atomic(arguments.output, "\n".join(report(files)) + "\n")


def scored(path: Path, jobs: int) -> File:
    """One file under all tiers."""
    start = time.perf_counter()
    found, _ = validate([path], tiers=tuple(TIERS), jobs=jobs)
    print(f"{path.name}: {time.perf_counter() - start:.0f} s", file=sys.stderr, flush=True)
    return File(path.stem, found.groups, found.skipped)


def renewed(group: Group) -> Group:
    """The group with intervals, and their coverage, from the present residuals."""
    tier = next(choice for choice, name in TIERS.items() if name == group.tier)
    items = with_intervals([(item.row, item.latency) for item in group.predicted], tier)
    inside = [i.interval[0] <= i.row.measured <= i.interval[1] for i in items]
    share = sum(inside) / len(inside)
    return replace(group, predicted=items, score=replace(group.score, interval_coverage=share))


def report(files: Sequence[File]) -> Iterator[str]:
    """The lines of ``accuracy.md``."""
    yield "# How accurate predictions are"
    yield ""
    yield (
        "Written by `benchmarks/accuracy.py` from public measured runs (origins in the README): "
        f"{sum(len(unique_rows(f)) for f in files):,} rows. Errors are |predicted − measured| / "
        "measured, in percent; nothing is left out but what the last section lists."
    )
    yield ""
    yield from TIER_NOTES
    yield ""
    yield from _by_file(files)
    yield from _by_group(files)
    yield from _families(files)
    yield from _worst(files)
    yield from _constants()
    yield from _skipped(files)


def unique_rows(file: File) -> set[tuple[object, ...]]:
    """The rows of a file, whatever tiers scored them."""
    return {(i.row.run, g.hw, g.dtype, g.layout) for g in file.groups for i in g.predicted}


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """A Markdown table; all columns but the first are figures."""
    yield f"| {' | '.join(head)} |"
    yield f"|---|{'---:|' * (len(head) - 1)}"
    for row in rows:
        yield f"| {' | '.join(row)} |"
    yield ""


def _by_file(files: Sequence[File]) -> Iterator[str]:
    yield "## By file of runs: mean absolute percentage error"
    yield ""
    head = ["file", "rows", *SHORT.values(), "median", "±10 %", "k·MACs", "k·(MACs + λ·act.)"]
    rows = []
    for file in files:
        cells = [f"{file.name}", str(len(unique_rows(file)))]
        best = None
        for choice in SHORT:
            merged = _merged([g for g in file.groups if g.tier == TIERS[choice]])
            cells.append("–" if merged is None else percent(merged[0]) + merged[3])
            best = merged or best
        median, within = (best[1], best[2]) if best else (math.nan, math.nan)
        base = _baselines([g for g in file.groups if g.tier == TIERS["none"]])
        rows.append([*cells, percent(median), f"{100 * within:.0f}", *base])
    yield from table(head, rows)
    yield "Median and share within ±10 % are those of the best-informed tier."
    yield ""


def _merged(groups: Sequence[Group]) -> tuple[float, float, float, str] | None:
    errors = np.array([abs(error_of(item)) for g in groups for item in g.predicted])
    if not len(errors):
        return None
    mark = "" if all(g.honest for g in groups) else "*"
    return float(errors.mean()), float(np.median(errors)), float((errors <= 0.1).mean()), mark


def _baselines(groups: Sequence[Group]) -> list[str]:
    cells = []
    for name in ("k_macs", "k_macs_activations"):
        known = [g for g in groups if not math.isnan(g.baselines[name])]
        rows = sum(g.score.rows for g in known)
        total = sum(g.baselines[name] * g.score.rows for g in known)
        cells.append(percent(total / rows) if rows else "–")
    return cells


def _by_group(files: Sequence[File]) -> Iterator[str]:
    yield "## By device, execution, layout and number format"
    yield ""
    head = ["device", "tier", "rows", "MAPE", "median", "±10", "±20", "bias", "Spearman",
            "in interval", "k·MACs", "k·(M+λA)"]  # fmt: skip
    rows = []
    for group in (g for file in files for g in file.groups):
        s = group.score
        rows.append([
            f"{group.hw} {group.execution} {group.layout} {group.dtype}",
            group.tier + ("" if group.honest else "*"), str(s.rows), percent(s.mape),
            percent(s.median_ape), f"{100 * s.within_10:.0f}", f"{100 * s.within_20:.0f}",
            f"{100 * s.bias:+.1f}", "–" if math.isnan(s.spearman) else f"{s.spearman:.3f}",
            f"{100 * s.interval_coverage:.0f}",
            *(percent(value) for value in group.baselines.values()),
        ])  # fmt: skip
    yield from table(head, rows)
    yield from _coverage(files)


def _coverage(files: Sequence[File]) -> Iterator[str]:
    claimed = float(intervals.document()["coverage"])
    yield f"Intervals claim {100 * claimed:.0f} %. They held, over all rows and over devices alike:"
    yield ""
    for choice, name in TIERS.items():
        groups = [g for f in files for g in f.groups if g.tier == name]
        rows = sum(g.score.rows for g in groups)
        if not rows:
            continue
        share = sum(g.score.interval_coverage * g.score.rows for g in groups) / rows
        devices = float(np.mean([g.score.interval_coverage for g in groups]))
        figures = f"{100 * share:.0f} % of rows; {100 * devices:.0f} % in the mean group"
        near = sum(_near(g.score.interval_coverage, claimed) for g in groups)
        chance = sum(near_by_chance(g.score.rows, claimed) for g in groups)
        yield (
            f"- {SHORT[choice]}: {figures}; {near} of {len(groups)} groups within "
            f"{100 * NEAR:.0f} points (chance alone would leave {chance:.0f})"
        )
    yield ""
    yield (
        "Chance: as if every row fell into its interval by itself, with the share claimed. Rows of "
        "one device are off together, so that groups are all in or all out more often than that."
    )
    yield ""


def near_by_chance(rows: int, claimed: float) -> float:
    """The probability that a share of so many independent rows is within `NEAR` of the claim."""

    def probability(held: int) -> float:
        ways = math.lgamma(rows + 1) - math.lgamma(held + 1) - math.lgamma(rows - held + 1)
        return math.exp(ways + held * math.log(claimed) + (rows - held) * math.log(1 - claimed))

    return sum(probability(held) for held in range(rows + 1) if _near(held / rows, claimed))


def _near(share: float, claimed: float) -> bool:
    return abs(share - claimed) <= NEAR + 1e-9


def _families(files: Sequence[File]) -> Iterator[str]:
    yield "## Families that carry the error"
    yield ""
    yield "The families that add most to a file's total error: rows, MAPE and bias in percent."
    yield ""
    for choice in ("none", "families"):
        rows = []
        for file in files:
            items = [i for g in file.groups if g.tier == TIERS[choice] for i in g.predicted]
            if len(items) < 100:
                continue
            found = score(
                [i.row.measured for i in items], [i.latency for i in items],
                [i.interval for i in items], [i.row.run.family for i in items],
            )  # fmt: skip
            shown = list(found.by_family.items())[:WORST_FAMILIES]
            text = "; ".join(
                f"{name} {f.rows}: {percent(f.mape)} ({100 * f.bias:+.0f})" for name, f in shown
            )
            rows.append([file.name, text])
        if rows:
            yield from table([f"file, tier {SHORT[choice]}", "families"], rows)


def _worst(files: Sequence[File]) -> Iterator[str]:
    yield "## Worst rows of the calibrated tier"
    yield ""
    groups = [g for file in files for g in file.groups if g.tier == TIERS["families"]]
    rows = []
    for group, item in worst(groups)[:WORST_ROWS]:
        run = item.row.run
        rows.append([
            f"{group.hw} {group.execution} {group.layout} {group.dtype}",
            f"{run.model} {run.input_shape}", str(run.batch), f"{run.latency_ms:.4g}",
            f"{item.latency * 1e3:.4g}", f"{100 * error_of(item):+.0f}",
        ])  # fmt: skip
    yield from table(["device", "model", "batch", "measured ms", "predicted ms", "error %"], rows)


def _constants() -> Iterator[str]:
    yield "## Constants"
    yield ""
    seen: dict[int, str] = {}
    for block, entries in blocks().items():
        key = hash(tuple((c.name, c.value, c.meaning) for c in entries.values()))
        if key in seen:
            yield f"**{block}**: those of {seen[key]}."
            yield ""
            continue
        seen[key] = block
        free = [c for c in entries.values() if c.low < c.high]
        yield f"**{block}**: {len(free)} constants."
        yield ""
        rows = [
            [c.name, f"{c.value:g}", f"{c.low:g} to {c.high:g}", c.unit if c.unit != 1 else "",
             ", ".join(c.fixed_on), c.meaning]
            for c in entries.values()
        ]  # fmt: skip
        yield from table(["constant", "value", "limits", "unit", "fixed on", "meaning"], rows)


def _skipped(files: Sequence[File]) -> Iterator[str]:
    yield "## Rows that were not scored"
    yield ""
    counts: dict[tuple[str, str, str], int] = {}
    for file in files:
        for item in file.skipped:
            key = (file.name, item.model or item.place, item.why)
            counts[key] = counts.get(key, 0) + 1
    if not counts:
        yield "None."
        return
    rows = [[name, model, str(n), why] for (name, model, why), n in counts.items()]
    yield from table(["file", "model", "times", "why"], rows)


if __name__ == "__main__":
    main()
