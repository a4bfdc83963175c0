"""Fit the constants of machine models to measured runs, and write ``constants.yaml``.

    python benchmarks/fit_constants.py gpu/eager ../shared/data/runs/rtx*-eager-*.csv

For each block named, over all rows of the files that belong to it: the value of every constant
fitted on all devices, and for each device the value fitted on the others (``without``), which the
data-sheet tier of ``costmodel validate`` uses for that device. With no other device, what was known
without it stands in, and the fit begins there. A constant whose ``low`` equals its ``high`` is left
alone, and so is one that other devices fixed, or none, or that is named by ``--hold``. Values are
rounded to three digits. Devices weigh alike, and so do the files of a device.

    python benchmarks/fit_constants.py x86/compiled RUNS.csv benchmarks/host/*/compiled-*.csv \\
        --from x86/eager --hold apart_cycles,stretch_cycles

A machine that ``costmodel hw calibrate`` has measured is a device like others, without what was
measured. ``--from``: fits begin at the constants of another block, where it has them.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import yaml

from costmodel.files import write_atomic
from costmodel.machine import constants as store
from costmodel.validate.fit import fit_all, one_by_one, seconds_of, thin
from costmodel.validate.predict_rows import Row, processes, rows_of, settings_of
from costmodel.validate.runs import read
from costmodel.validate.score import Array

FILE = Path(store.__file__).with_name("constants.yaml")


def main() -> None:
    """Read the arguments, fit every block, write the file, print what changed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("blocks", help="block, or several with commas: gpu/eager,gpu/compiled")
    parser.add_argument("files", nargs="+")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--rows", type=int, default=240, help="rows that a fit looks at")
    parser.add_argument("--from", dest="origin", metavar="BLOCK", help="where fits begin")
    parser.add_argument("--hold", default="", help="constants that stay, with commas")
    parser.add_argument("--dry-run", action="store_true")
    arguments = parser.parse_args()
    document = yaml.safe_load(FILE.read_text())
    for block in arguments.blocks.split(","):
        rows = load(arguments.files, block, arguments.jobs)
        if not rows:
            sys.exit(f"no row of these files belongs to {block}")
        before_it = document[block]
        own = {name: dict(fields) for name, fields in before_it.items()}
        fixed = {
            name: () if name in arguments.hold.split(",") else fields["fixed_on"]
            for name, fields in own.items()
        }
        update(own, fit_block(rows, block, arguments.rows, fixed, arguments.origin))
        # Blocks that are one object stay one.
        document |= {name: own for name, found in document.items() if found is before_it}
    if not arguments.dry_run:
        write_atomic(FILE, dump(document))


def load(files: Sequence[str], block: str, jobs: int) -> list[Row]:
    """The rows of the files that a block predicts."""
    with TemporaryDirectory() as folder:
        pairs = [
            (run, chosen)
            for file in files
            for run, chosen in settings_of(read(file)[0], unmeasured(Path(file), Path(folder)))[0]
            if chosen.block == block
        ]
    with processes(jobs) as pool:
        return rows_of(pairs, pool, block)[0]


def unmeasured(runs: Path, folder: Path) -> str | None:
    """The profile of the machine that a file of runs lies beside, without what was measured there;
    ``None`` where runs name their devices."""
    profile = runs.with_name("profile.yaml")
    if not profile.exists():
        return None
    document = yaml.safe_load(profile.read_text())
    document.pop("measured", None)
    document["sources"] = {
        place: source for place, source in document["sources"].items()
        if not place.startswith("measured")
    }  # fmt: skip
    bare = folder / f"{runs.parent.name}.yaml"
    bare.write_text(yaml.safe_dump(document))
    return str(bare)


def fit_block(
    rows: Sequence[Row],
    block: str,
    most: int,
    fixed: Mapping[str, Sequence[str]],
    origin: str | None = None,
) -> dict[str, dict[str, Any]]:
    """Constant -> its new ``value``, ``fixed_on`` and ``without``; ``fixed``: on which devices each
    was, and those of others are not among what is found."""
    devices = sorted({row.setting.profile.name for row in rows})
    prior = before(block, devices, origin)
    held = {name: prior[name] for name, known in fixed.items() if not {*known} & {*devices}}
    fitted = fit(rows, prior, held, devices, most)
    print(f"{block}: all {len(rows)} rows, {', '.join(devices)}", error(rows, fitted), flush=True)
    without = {}
    for device in devices:
        others = [row for row in rows if row.setting.profile.name != device]
        left_out = [row for row in rows if row.setting.profile.name == device]
        begin = before(block, devices, origin, unseen=device) | held
        without[device] = fit(others, begin, held, [d for d in devices if d != device], most)
        print(f"  {device} held out:", error(left_out, without[device]), flush=True)
    return {
        name: {
            "value": rounded(value),
            "fixed_on": devices,
            "without": {device: rounded(found[name]) for device, found in without.items()},
        }
        for name, value in fitted.items()
        if name not in held
    }


def before(
    block: str, devices: Sequence[str], origin: str | None = None, *, unseen: str | None = None
) -> dict[str, float]:
    """Where a fit begins: what was assumed before any run, or what is known without the only
    device; where block ``origin`` has a constant, what it is there without ``unseen``."""
    only = devices[0] if len(devices) == 1 else None
    others = store.constants_of(origin) if origin else {}
    found = {}
    for name, constant in store.constants_of(block).items():
        known = constant.ignoring(only) if only else constant.prior
        if name in others:
            known = others[name].ignoring(unseen)
        elif known is None:
            known = constant.ignoring(unseen)
        found[name] = constant.value if known is None else known
    return found


def fit(
    rows: Sequence[Row],
    prior: Mapping[str, float],
    held: Mapping[str, float],
    devices: Sequence[str],
    most: int,
) -> dict[str, float]:
    """The constants fitted on rows, every device weighing alike; those ``held`` stay."""
    if not rows:
        return dict(prior)
    each = max(1, most // len(devices))
    parts = [thin([r for r in rows if r.setting.profile.name == name], each) for name in devices]
    chosen = [row for part in parts for row in part]
    timed = [seconds_of(part) or one_by_one(part) for part in parts]

    def joint(constants: Mapping[str, float]) -> Array:
        values = {**constants, **held}  # which the fit leaves alone, as nothing depends on them
        return np.concatenate([seconds(values) for seconds in timed])

    return {**fit_all(chosen, prior, most=len(chosen), seconds=joint), **held}


def error(rows: Sequence[Row], constants: Mapping[str, float]) -> str:
    """The mean absolute percentage error over (at most 200 of the) rows."""
    errors = [abs(row.predicted(constants) / row.measured - 1) for row in thin(rows, 200)]
    return f"MAPE {100 * sum(errors) / len(errors):.1f} %"


def update(entries: dict[str, dict[str, Any]], found: Mapping[str, Mapping[str, Any]]) -> None:
    """Put the fit into a block, and print the values that moved."""
    for name, fields in found.items():
        print(f"    {name}: {entries[name]['value']:g} -> {fields['value']:g}")
        known = entries[name].get("prior")  # which stands in where a device is not named
        without = {device: value for device, value in fields["without"].items() if value != known}
        entry = {**entries[name], **fields, "without": without}
        entries[name] = entry if without else {k: v for k, v in entry.items() if k != "without"}


def rounded(value: float) -> float:
    """Three significant digits: more would claim what no run says."""
    return float(f"{value:.3g}")


def dump(document: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> str:
    """``constants.yaml``: one line a constant; blocks that are one object are written once."""
    names: dict[int, str] = {}
    uses = [id(entries) for entries in document.values()]
    lines = []
    for block, entries in document.items():
        if id(entries) in names:
            lines.append(f"{block}: *{names[id(entries)]}")
            continue
        names[id(entries)] = block.replace("/", "-")
        anchor = f" &{names[id(entries)]}" if uses.count(id(entries)) > 1 else ""
        lines.append(f"{block}:{anchor}")
        for name, fields in entries.items():
            text = yaml.safe_dump(
                dict(fields), default_flow_style=True, sort_keys=False, width=10**6
            )
            lines.append(f"  {name}: {text.strip()}")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
