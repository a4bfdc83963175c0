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
from collections.abc import Iterator
from pathlib import Path

import yaml

from costmodel.files import write_atomic
from costmodel.hardware import load_profile
from costmodel.hardware.host import as_yaml
from costmodel.measure.calibrate import Timed, fitted
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
    points = list(read(asked.folder / asked.points, asked.runtime))
    found = fitted(load_profile(profile), asked.runtime, points)
    document = yaml.safe_load(profile.read_text())
    document["measured"]["constants"][asked.execution or asked.runtime] = {
        name: float(f"{value:.4g}") for name, value in found.items()
    }
    write_atomic(profile, as_yaml(document))


def read(path: Path, runtime: str) -> Iterator[Timed]:
    """The points of a runtime."""
    known = {benchmark.name: benchmark for benchmark in microbenchmarks()}
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            if row["runtime"] == runtime:
                yield Timed(known[row["name"]], int(row["threads"]), float(row["us"]) * 1e-6)


if __name__ == "__main__":
    main()
