"""Score calibrated hosts on networks that were measured on them, and write ``host.md``.

    costmodel hw calibrate -o benchmarks/host/HOST/profile.yaml
    python benchmarks/host_rounds.py eager --threads 1 --batch 1 8 -o benchmarks/host/HOST
    python benchmarks/host_fit.py benchmarks/host/HOST eager
    python benchmarks/host_accuracy.py benchmarks/host/HOST ...

A folder holds a machine: its profile, the runs measured on it, its microbenchmarks, and what else
there is to say of them (``notes.md``). No network shaped the constants of the profile. Beside the
errors stands how far the measurements themselves spread (10th to 90th percentile, as a share of the
median): no prediction can be nearer than that.
"""

from __future__ import annotations

import argparse
import csv
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from host_ops import section

from costmodel.files import write_atomic
from costmodel.hardware import load_profile
from costmodel.machine import residuals as intervals
from costmodel.validate import Group, Validation, validate
from costmodel.validate.spread import dump, merged, residuals

REPORT = Path(__file__).with_name("host.md")
PROFILE, NOTES = "profile.yaml", "notes.md"
HEAD = """\
# How near predictions come to the machine in hand

Written by `benchmarks/host_accuracy.py`. Profiles are calibrated by microbenchmarks alone: no
network was measured for their constants. Rows are networks, medians of at least three runs, most
of seven or more.

- **zero-shot**: microbenchmarks only. **one network**: constants fitted on one network, the
  others scored.
- **spread**: mean over the rows of (90th − 10th percentile) / median of the measurement itself.
"""
MACHINE = """\
## {name}: {title}

Calibrated on {date}; profile, microbenchmarks and runs are in `benchmarks/host/{name}`.

| execution | threads | batch | rows | zero-shot | median | bias | one network | spread |
|---|---:|---:|---:|---:|---:|---:|---:|---:|"""


def main() -> None:
    """Read the arguments, score, write the report."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--residuals", action="store_true",
                        help="also make intervals of calibrated hosts from the errors")  # fmt: skip
    parser.add_argument("-o", "--output", default=str(REPORT))
    arguments = parser.parse_args()
    lines = [HEAD]
    for folder in arguments.folders:
        profile, runs = folder / PROFILE, sorted(map(str, folder.glob("*-threads-*.csv")))
        found, _ = validate(runs, tiers=("none", "one"), hw=str(profile), jobs=arguments.jobs)
        notes = folder / NOTES
        lines += [*report(found, profile, runs), "", *section(folder, profile)]
        lines += ["", notes.read_text()] if notes.exists() else [""]
        if arguments.residuals:
            keep_residuals(found)
            intervals.document.cache_clear()
    write_atomic(arguments.output, "\n".join(lines).rstrip() + "\n")


def keep_residuals(found: Validation) -> None:
    """Put the errors into ``residuals.yaml``, under the tiers of measured devices."""
    document = residuals(
        replace(group, tier=intervals.tier_on(group.predicted[0].row.setting, group.tier))
        for group in found.groups
    )
    write_atomic(intervals.FILE, dump(merged(document, intervals.document())))


def report(found: Validation, profile: Path, runs: Sequence[str]) -> Iterator[str]:
    """The lines of one machine in ``host.md``."""
    known = load_profile(profile)
    measured = known.measured
    yield MACHINE.format(
        name=profile.parent.name, title=known.title, date=measured.date if measured else "no date"
    )
    spreads = {key: value for path in runs for key, value in spread_of(path).items()}
    cold = [group for group in found.groups if group.tier == "datasheet"]
    warm = {_name(g): g for g in found.groups if g.tier == "one-network"}
    for group in cold:
        yield from _lines(group, warm.get(_name(group)), spreads)
    yield ""
    yield "### The rows that are farthest off"
    yield ""
    yield "| execution | network | batch | measured ms | predicted ms | error |"
    yield "|---|---|---:|---:|---:|---:|"
    items = [(group, item) for group in cold for item in group.predicted]
    items.sort(key=lambda pair: -abs(pair[1].latency / pair[1].row.measured - 1))
    for group, item in items[:12]:
        run = item.row.run
        yield (
            f"| {group.execution}{', ' + run.mode if run.mode == 'train' else ''} | {run.model} | "
            f"{run.batch} | {run.latency_ms:.1f} | "
            f"{item.latency * 1e3:.1f} | {item.latency / item.row.measured - 1:+.0%} |"
        )
    for skipped in found.skipped:
        yield f"\nNot scored: {skipped.model}: {skipped.why}"


def _mode(group: Group) -> str:
    """All runs of a group are inference or all are training steps."""
    return group.predicted[0].row.run.mode


def _name(group: Group) -> tuple[str, ...]:
    return group.execution, group.layout, group.dtype, _mode(group)


def _errors(group: Group | None) -> dict[tuple[int, int, str], float]:
    """(Threads, batch, network) -> relative error."""
    return {
        (i.row.run.threads or 0, i.row.run.batch, i.row.run.model): i.latency / i.row.measured - 1
        for i in (group.predicted if group else ())
    }


def _lines(
    group: Group, warm: Group | None, spreads: Mapping[tuple[object, ...], float]
) -> Iterator[str]:
    errors, fitted = _errors(group), _errors(warm)
    mode = _mode(group)
    kind = group.execution if mode == "eval" else f"{group.execution}, {mode}"
    for threads, batch in sorted({key[:2] for key in errors}):
        these = [e for key, e in errors.items() if key[:2] == (threads, batch)]
        those = [e for key, e in fitted.items() if key[:2] == (threads, batch)]
        spread = [
            value for key, value in spreads.items()
            if key[:4] == (group.execution, mode, threads, batch)
        ]  # fmt: skip
        one = f"{statistics.mean(map(abs, those)):.1%}" if those else "–"
        yield (
            f"| {kind} | {threads} | {batch} | {len(these)} | "
            f"{statistics.mean(map(abs, these)):.1%} | {statistics.median(map(abs, these)):.1%} | "
            f"{statistics.mean(these):+.1%} | {one} | {statistics.mean(spread):.1%} |"
        )


def spread_of(path: str) -> dict[tuple[object, ...], float]:
    """(Execution, mode, threads, batch, network) -> spread of a run file's measurements."""
    with open(path, newline="") as file:
        return {
            (row["execution"], row["mode"], int(row["threads"]), int(row["batch"]), row["model"]):
            (float(row["p90_ms"]) - float(row["p10_ms"])) / float(row["latency_ms"])
            for row in csv.DictReader(file)
        }  # fmt: skip


if __name__ == "__main__":
    main()
