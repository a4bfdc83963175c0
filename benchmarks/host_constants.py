"""Make the shipped constants of x86 CPUs from the hosts that were calibrated.

    python benchmarks/host_constants.py eager onnxruntime xnnpack ncnn

A constant's value is the geometric mean of those in the profiles of ``benchmarks/host``; where one
is 0, the plain mean. What the others agree on is what each host gets that is to be predicted as if
it had never been measured (``without``). Microbenchmarks alone stand behind all of them.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path

import yaml
from fit_constants import FILE, dump, rounded, update

from costmodel.files import write_atomic
from costmodel.hardware import load_profile

FOLDER = Path(__file__).with_name("host")


def main() -> None:
    """Put the means of every runtime named into ``constants.yaml``."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("runtimes", nargs="+")
    asked = parser.parse_args()
    document = yaml.safe_load(FILE.read_text())
    for runtime in asked.runtimes:
        block = document[f"x86/{runtime}"]
        hosts = constants_of_hosts(runtime)
        update(block, {
            name: shipped({host: found[name] for host, found in hosts.items() if name in found})
            for name in block
            if any(name in found for found in hosts.values())
        })  # fmt: skip
    write_atomic(FILE, dump(document))


def constants_of_hosts(runtime: str) -> dict[str, dict[str, float]]:
    """Host -> the constants that were fitted on its microbenchmarks of ``runtime``."""
    found = {}
    for path in sorted(FOLDER.glob("*/profile.yaml")):
        profile = load_profile(path)
        if profile.measured is not None and runtime in profile.measured.constants:
            found[profile.name] = profile.measured.constants[runtime]
    return found


def shipped(by_host: dict[str, float]) -> dict[str, object]:
    """The fields of one constant."""
    entry: dict[str, object] = {
        "value": rounded(mean(list(by_host.values()))), "fixed_on": sorted(by_host),
    }  # fmt: skip
    if len(by_host) > 1:
        entry["without"] = {
            host: rounded(mean([v for other, v in by_host.items() if other != host]))
            for host in sorted(by_host)
        }
    return entry


def mean(values: Sequence[float]) -> float:
    """The geometric mean; the plain one where a value is 0."""
    if min(values) > 0:
        return math.exp(sum(map(math.log, values)) / len(values))
    return sum(values) / len(values)


if __name__ == "__main__":
    main()
