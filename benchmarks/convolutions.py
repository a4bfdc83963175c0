"""The drift in the published timings of single convolutions, and constants fitted without it.

    python benchmarks/convolutions.py [--write] ../shared/data/kernels/conv-*.csv

The publisher (NeuSight, ASPLOS 2025: ``neusight/Dataset``, ``dims.py`` and ``collect.py``) times
5,000 random convolutions in one process, in the order of ``random.seed(42)``, with a host that
waits for the GPU every time, and starts ``torch.profiler`` once after each. Every start makes what
follows a little later: small convolutions take longer the later they came, whatever their shape.
The files are in another order; this script restores the first one, fits how much later a
convolution is for each that came before it, beside the constants of fp32 convolutions, and writes
``benchmarks/convolutions.md``. ``--write`` puts the constants into ``constants.yaml``.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml
from fit_constants import dump, load, rounded
from scipy.optimize import least_squares
from scipy.stats import spearmanr

from costmodel.files import write_atomic
from costmodel.machine.constants import constants_of, values_of
from costmodel.machine.times import Latencies
from costmodel.validate.fit import NOISE, PRIOR, Space, measured_of, seconds_of
from costmodel.validate.predict_rows import Row
from costmodel.validate.score import Array, Mask
from costmodel.validate.tiers import folds_of

REPORT = Path(__file__).with_name("convolutions.md")
#: Of this checkout, whichever is installed.
CONSTANTS = REPORT.parents[1] / "costmodel" / "machine" / "constants.yaml"
#: The blocks whose fp32 convolutions share constants, and the one that predicts these files.
BLOCKS, BLOCK = ("gpu/eager", "server-gpu/eager", "gpu/compiled"), "server-gpu/eager"
#: What the fit moves; traffic and overlap are those of whole networks.
FREE = (
    "simt_efficiency", "winograd_efficiency", "tile_fill", "tail_waves", "patch_efficiency",
    "filter_efficiency",
)  # fmt: skip
POWER, START = "core_power_share", "start_us"
#: No part of a convolution: the host, which the fit knows as `Host`.
UNISSUED = {START: 0.0, "dispatch_us": 0.0}
#: Predicted seconds up to which the host's share of a row is plain to see.
SMALL = 600e-6


@dataclass(frozen=True)
class Host:
    """Seconds until the first kernel starts: at the campaign's begin, and more for each row since.

    Multiplied by (1, position).
    """

    first: float
    each: float

    def late(self, position: Array) -> Array:
        seconds: Array = self.first + self.each * position
        return seconds


@dataclass(frozen=True)
class Device:
    """The rows of one file: predicted and measured seconds, and how many were timed before each."""

    name: str
    rows: tuple[Row, ...]
    seconds: Latencies
    measured: Array
    position: Array

    def error(self, constants: Mapping[str, float], host: Host) -> Array:
        """(predicted - measured) / measured, the host's share as ``host`` has it."""
        predicted = self.seconds({**constants, **UNISSUED}) + host.late(self.position)
        return predicted / self.measured - 1


def campaign(count: int = 5000) -> dict[tuple[int, ...], int]:
    """(batch, input channels, output channels, size) -> how many were timed before it."""
    draw = random.Random(42).randint
    found: dict[tuple[int, ...], int] = {}
    place = 0
    while place < count:
        batch, c_in, c_out, kernel, size, _, _ = (
            draw(low, high)
            for low, high in ((1, 64), (3, 2048), (3, 2048), (3, 3), (5, 256), (1, 1), (1, 1))
        )
        if 2 * c_in * c_out * kernel**2 * size**2 / 1e9 <= 1:
            found[batch, c_in, c_out, size] = place
            place += 1
    return found


def main() -> None:
    """Read the arguments, fit, write the report and, if asked, the constants."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("files", nargs="+")
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    devices = devices_of(load(arguments.files, BLOCK, 1))
    start = values_of(BLOCK)
    fitted, hosts = fit(devices, start, (*FREE, POWER))
    without = {}
    for device in devices:
        others = [other for other in devices if other is not device]
        prior = values_of(BLOCK, without=device.name)
        without[device.name] = published(others, fit(others, prior, FREE)[0])
    lines = report(devices, fitted, hosts, without)
    write_atomic(REPORT, "\n".join(lines) + "\n")
    if arguments.write:
        write(published(devices, fitted), without, sorted(d.name for d in devices))


def devices_of(rows: Sequence[Row]) -> list[Device]:
    """The rows by device, each with its position; a row that is none of the campaign's ends it."""
    order = campaign()
    found = []
    for name in dict.fromkeys(row.setting.profile.name for row in rows):
        own = tuple(row for row in rows if row.setting.profile.name == name)
        seconds = seconds_of(own)
        assert seconds is not None
        shapes = [(r.run.batch, c.c_in, c.c_out, c.size) for r in own if (c := r.run.convolution)]
        if not all(shape in order for shape in shapes):
            sys.exit(f"{name}: not the campaign that this script knows")
        position = np.array([order[shape] for shape in shapes], float)
        found.append(Device(name, own, seconds, measured_of(own), position))
    return found


def fit(
    devices: Sequence[Device],
    start: Mapping[str, float],
    free: Sequence[str],
    seen: Mask | None = None,
) -> tuple[dict[str, float], dict[str, Host]]:
    """Constants and, for each device, its host, on the rows ``seen`` of each."""
    known = constants_of(BLOCK)
    space = Space(tuple(known[name] for name in free), start)
    many = len(free)
    low, high = space.bounds
    mask: Mask | slice = slice(None) if seen is None else seen

    def hosts(x: Array) -> list[Host]:
        return [Host(a * 1e-4, b * 1e-7) for a, b in x[many:].reshape(-1, 2)]

    def residuals(x: Array) -> Array:
        constants = space.values(x[:many])
        errors = [d.error(constants, h)[mask] for d, h in zip(devices, hosts(x), strict=True)]
        return np.concatenate([*(np.log1p(e) / NOISE for e in errors), x[:many] / PRIOR])

    found = least_squares(
        residuals,
        np.concatenate([np.clip(np.zeros(many), low, high), np.ones(2 * len(devices))]),
        bounds=(np.r_[low, np.zeros(2 * len(devices))], np.r_[high, np.full(2 * len(devices), 99)]),
        loss="soft_l1", diff_step=1e-3, max_nfev=40, xtol=1e-4, ftol=1e-4,
    ).x  # fmt: skip
    names = [device.name for device in devices]
    return space.values(found[:many]), dict(zip(names, hosts(found), strict=True))


def published(devices: Sequence[Device], constants: Mapping[str, float]) -> dict[str, float]:
    """The constants with the start that explains the rows where their position is not known."""
    own = dict(constants)

    def error(start: float) -> float:
        tried = {**own, START: start}
        return sum(float(np.abs(d.seconds(tried) / d.measured - 1).mean()) for d in devices)

    limits = constants_of(BLOCK)[START]
    own[START] = min(np.arange(limits.low, limits.high, 5.0).tolist(), key=error)
    return own


def report(
    devices: Sequence[Device],
    fitted: Mapping[str, float],
    hosts: Mapping[str, Host],
    without: Mapping[str, Mapping[str, float]],
) -> Iterator[str]:
    """The lines of ``convolutions.md``."""
    yield from INTRODUCTION
    for device in devices:
        host, drift = hosts[device.name], hosts[device.name].each * device.position
        busy = device.seconds({**fitted, **UNISSUED})
        small = busy < SMALL
        rank = spearmanr(device.position[small], (device.measured - busy)[small]).statistic
        least = unforeseen(busy + host.first, drift)
        raw = device.seconds(without[device.name]) / device.measured - 1
        known = device.error(without[device.name], host)
        yield (
            f"| {device.name} | {rank:.2f} | {host.first * 1e6:.0f} | {host.each * 1e9:.0f} | "
            f"{100 * least:.1f} | {mape(raw)} | {mape(known)} | {mape(octaves(device))} |"
        )


def unforeseen(exact: Array, drift: Array) -> float:
    """The mean relative error of the best predictions that know ``exact`` but not which drift."""
    some = np.quantile(drift, np.linspace(0.01, 0.99, 50))
    seconds = exact[:, None, None]
    # Rows x predicted drift x true drift.
    errors = np.abs(some[None, :, None] - some) / (seconds + some)
    return float(errors.mean(axis=2).min(axis=1).mean())


def octaves(device: Device) -> Array:
    """Errors with constants and host fitted on the device's other octaves of input channels."""
    found = np.zeros(len(device.rows))
    start = values_of(BLOCK, without=device.name)
    for held in folds_of(device.rows):
        constants, hosts = fit([device], start, (*FREE, POWER), ~held)
        found[held] = device.error(constants, hosts[device.name])[held]
    return found


def mape(errors: Array) -> str:
    return f"{100 * np.abs(errors).mean():.1f}"


INTRODUCTION = """\
# Single convolutions: what the host adds

Written by `benchmarks/convolutions.py`. The three files of single fp32 convolutions were timed in
one process a device, one convolution after the other, with a profiler started after each. Their
order is known (the generator of the shapes is seeded), and with it a row's **position**: how many
came before. What measured times have beyond the predicted arithmetic and traffic hardly depends on
the shape and grows with the position, on every device: the host issues later and later.

- **rank**: Spearman's correlation of that excess with the position, over convolutions predicted to
  take less than 0.6 ms. The position is no input of any prediction.
- **first**, **a thousand**: µs until the kernel starts, for the first convolution and more for
  each thousand since, fitted beside the constants of the model.
- **perfect**: the mean error (%) to expect on the published times of a model that predicts the time
  on the GPU exactly, knows the drift of the host and, of a row, all but its position.
- **held out**: constants fixed on the other two devices, as published, and with the **position
  known** (first and a thousand are the device's own).
- **octaves held out**: constants and drift fitted on the device's other octaves of input channels.

| device | rank | first | a thousand | perfect | held out | position known | octaves held out |
|---|---:|---:|---:|---:|---:|---:|---:|""".splitlines()


def write(
    value: Mapping[str, float],
    without: Mapping[str, Mapping[str, float]],
    devices: Sequence[str],
) -> None:
    """Put the fit into ``constants.yaml``."""
    document = yaml.safe_load(CONSTANTS.read_text())
    for block in BLOCKS:
        for name in (*FREE, START):
            document[block][name] |= {
                "value": rounded(value[name]),
                "fixed_on": list(devices),
                "without": {device: rounded(found[name]) for device, found in without.items()},
            }
        document[block][POWER]["value"] = rounded(value[POWER])
    write_atomic(CONSTANTS, dump(document))


if __name__ == "__main__":
    main()
