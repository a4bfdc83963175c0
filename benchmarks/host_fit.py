"""Fit the constants of a host's profile on microbenchmarks that were timed in rounds.

    python benchmarks/host_rounds.py eager --threads 1 --batch 1 8 -o benchmarks/host/HOST
    python benchmarks/host_fit.py benchmarks/host/HOST eager

The points of every thread count in ``microbenchmarks.csv`` count, as in ``costmodel hw calibrate``,
which fits in the same way what it timed itself. ``--points`` names another table of the folder,
``--execution`` the execution whose constants they are, if not the runtime's own.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import yaml
from host_rounds import PROBE

from costmodel.files import write_atomic
from costmodel.hardware import load_profile
from costmodel.hardware.host import as_yaml
from costmodel.machine.constants import constants_of
from costmodel.measure.calibrate import Session, Timed, at_one_pace, fitted
from costmodel.measure.hostprofile import rounded
from costmodel.measure.microbench import microbenchmarks


def main() -> None:
    """Fit, and put the constants into the profile."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("runtime")
    parser.add_argument("--execution")
    parser.add_argument("--points", default="microbenchmarks.csv")
    asked = parser.parse_args()
    profile = asked.folder / "profile.yaml"
    points, paces = read(asked.folder / asked.points, asked.runtime)
    found = fitted(load_profile(profile), asked.runtime, points)
    document = yaml.safe_load(profile.read_text())
    measured, execution = document["measured"], asked.execution or asked.runtime
    # Loops of compilers have no use for what PyTorch's own take.
    known = constants_of(f"x86/{execution}")
    measured["constants"][execution] = rounded({n: v for n, v in found.items() if n in known})
    measured.setdefault("fitted_on", {})[execution] = len(points)
    if paces:
        measured.setdefault("probe_ms", {})[execution] = rounded(
            {str(team): milliseconds for team, milliseconds in paces.items()}
        )
    write_atomic(profile, as_yaml(document))


def read(path: Path, runtime: str) -> tuple[list[Timed], dict[int, float]]:
    """The points of a runtime at one pace, and the probes of that pace where the table has them."""
    known = {benchmark.name: benchmark for benchmark in microbenchmarks(runtime)}
    points: dict[int, list[Timed]] = {}
    probes: dict[int, dict[int, float]] = {}
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            if row["runtime"] != runtime:
                continue
            threads, name, us = int(row["threads"]), row["name"], float(row["us"])
            if name.startswith(PROBE):
                probes.setdefault(threads, {})[int(name.removeprefix(PROBE))] = us * 1e-3
            elif name in known:  # older tables have some that are none of its own
                points.setdefault(threads, []).append(Timed(known[name], threads, us * 1e-6))
    return at_one_pace(
        [Session(tuple(some), probes.get(threads, {})) for threads, some in points.items()]
    )


if __name__ == "__main__":
    main()
