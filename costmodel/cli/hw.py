"""``costmodel hw``: list the device profiles, show one with its sources, check a file."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from costmodel.errors import CostModelError

if TYPE_CHECKING:
    from costmodel.hardware import Profile

#: Seconds between two lines of progress that do not go to a terminal.
_EVERY = 5.0
#: Microbenchmarks of a runtime from which more of them hardly bring its constants nearer.
_MANY = 80


@click.group()
def hw() -> None:
    """List, show, check and calibrate device profiles."""


@hw.command("list")
def list_profiles() -> None:
    """List the installed profiles: peak FP32 rate of the default engine, memory bandwidth."""
    from costmodel.hardware import load_profile, peak, profile_names
    from costmodel.hardware.host import HOST

    rows = []
    for name in [*profile_names(), HOST]:
        try:
            profile = load_profile(name)
            flops = peak(profile, profile.default.engine, "fp32")
        except CostModelError as error:  # another distribution's profile, or a host in the dark
            click.echo(f"skipped: {error}", err=True)
            continue
        bandwidth = f"{_digits(profile.memory.gb_per_s)} GB/s"
        rows.append((name, profile.title, profile.default.engine, _rate(flops), bandwidth))
    _print_devices(rows)


@hw.command()
@click.argument("name")
def show(name: str) -> None:
    """Show all that the profile NAME (or a file) says, with the source of every figure."""
    from costmodel.hardware import (
        CpuEngine,
        GpuEngine,
        architecture,
        core,
        energy,
        peak,
        resolve,
    )

    profile, _ = resolve(name)
    default = profile.default
    click.echo(f"{profile.name}: {profile.title} ({profile.kind}), {profile.chip}")
    threads = f", {default.threads} threads" if default.threads else ""
    click.echo(
        f"default: {default.engine}, {default.execution}, {default.layout}, {default.dtype}"
        f"{threads}"
    )
    if profile.notes:
        click.echo(f"note: {profile.notes}")
    for label in profile.engines:
        click.echo(f"\n{profile.name}:{label}, peaks over the whole engine")
        cost = energy(profile, label)
        rows = [
            (dtype, _rate(peak(profile, label, dtype), dtype), f"{_span(joules)} pJ/MAC")
            for dtype, joules in cost.pj_per_mac.items()
        ]
        _print_aligned([("dtype", "peak", "energy: typical (range)"), *rows])
        per_byte = ", ".join(f"{k} {_span(v)}" for k, v in cost.pj_per_byte.items())
        click.echo(f"{_span(cost.pj_per_op)} pJ/op; pJ/byte: {per_byte}")
        click.echo(f"{_span(cost.idle_w)} W at rest, {_digits(cost.max_w)} W at most")
    _print_record(profile.name, profile, ("process_nm", "memory", "engines", "power", "measured"))
    for unit in profile.engines.values():
        if isinstance(unit, CpuEngine):
            for name in dict.fromkeys(cluster.core for cluster in unit.clusters):
                _print_record(name, core(name))
        elif isinstance(unit, GpuEngine):
            _print_record(unit.architecture, architecture(unit.architecture))


@hw.command()
@click.argument("file", type=click.Path(path_type=Path))
def check(file: Path) -> None:
    """Check a profile FILE of your own; print ok, or what is wrong and where."""
    from costmodel.hardware import check_file

    check_file(file)
    click.echo("ok")


@hw.command()
@click.option("-o", "--output", metavar="FILE", help="Write the profile there too.")
@click.option("--seconds", type=click.FloatRange(min=5), default=80.0, show_default=True,
              help="About how long to measure.")  # fmt: skip
@click.option("--runtimes", metavar="E,E...", default="eager", show_default=True,
              help="Executions to fit, as eager,ncnn; converting for the mobile ones takes "
              "minutes each, to be given in --seconds.")  # fmt: skip
@click.option("--plot", metavar="FIGURE", help="Draw the measured roofs, .png, .svg or .pdf.")
def calibrate(output: str | None, seconds: float, runtimes: str, plot: str | None) -> None:
    """Measure this machine, and keep the result as the profile `host`.

    Microbenchmarks only, no network: matrix products, streams through the memory levels, and what
    the runtimes' machine models need. Quit other programs first.
    """
    from costmodel.hardware import check_file
    from costmodel.measure.hostprofile import calibrate_host, save
    from costmodel.plot import roof_points, style

    if plot is not None and style.suffix(plot) == "html":
        raise CostModelError(f"cannot draw {plot}: its name must end in .png, .svg or .pdf")
    chosen = _runtimes(runtimes)
    click.echo(f"measuring {', '.join(chosen)} for about {seconds:.0f} s", err=True)
    with _progress() as say:
        document = calibrate_host(chosen, seconds, say)
    kept = save(document, output)
    profile = check_file(kept)
    if plot is not None:
        style.save(roof_points.draw(roof_points.data(profile)), plot)
    _print_aligned(_summary(profile))
    click.echo(f"kept in {kept}; use it as --hw host", err=True)
    for execution, points in (profile.measured.fitted_on if profile.measured else {}).items():
        if points < _MANY:
            click.echo(
                f"{execution}: only {points} microbenchmarks fitted into the time; give more "
                "--seconds for nearer predictions",
                err=True,
            )


def _runtimes(named: str) -> tuple[str, ...]:
    """The executions to fit. Raises `CostModelError` for one that cannot be measured here."""
    from costmodel.measure.runtimes import refuse

    chosen = tuple(dict.fromkeys(filter(None, (name.strip() for name in named.split(",")))))
    if not chosen:
        raise CostModelError("--runtimes names none; give some, as eager,ncnn")
    for name in chosen:
        refuse(name)
    return chosen


@contextmanager
def _progress() -> Iterator[Callable[[str], None]]:
    """A line on stderr: replaced in place on a terminal, one every few seconds elsewhere."""
    last = 0.0

    def say(text: str) -> None:
        nonlocal last
        if sys.stderr.isatty():
            width = shutil.get_terminal_size().columns - 1
            click.echo(f"\r{text[:width]:<{width}}", err=True, nl=False)
        elif time.monotonic() - last > _EVERY:
            click.echo(text, err=True)
            last = time.monotonic()

    try:
        yield say
    finally:
        if sys.stderr.isatty():
            click.echo(err=True)


def _summary(profile: Profile) -> list[tuple[str, ...]]:
    """What was measured: peaks, bandwidths, and how many constants of each execution."""
    from costmodel.hardware import peak

    measured = profile.measured
    assert measured is not None
    rows: list[tuple[str, ...]] = [("measured", "rate", "of")]
    for dtype, tflops in measured.tflops.items():
        top = peak(profile, profile.default.engine, dtype)
        rows.append((f"products {dtype}", _rate(tflops * 1e12, dtype), f"peak {_rate(top, dtype)}"))
    for level, rate in measured.gb_per_s.items():
        rows.append((f"streams {level}", f"{_digits(rate)} GB/s", ""))
    for execution, constants in measured.constants.items():
        points = measured.fitted_on[execution]
        rows.append((execution, f"constants: {len(constants)}", f"{points} microbenchmarks"))
    return rows


def _print_record(title: str, record: Any, keys: Sequence[str] = ()) -> None:
    """Every figure of a record, then where each comes from."""
    data = record.model_dump(mode="json", exclude_none=True)
    (data.get("measured") or {}).pop("points", None)  # hundreds of them; the file has them
    sources = data.pop("sources")
    click.echo(f"\n{title}: figures")
    _print_aligned(leaf for key in keys or data for leaf in _leaves(key, data.get(key)))
    click.echo(f"{title}: sources")
    for key, source in sources.items():
        click.echo(f"  {key}: {source}")


def _leaves(key: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for name, item in value.items():
            yield from _leaves(f"{key}.{name}", item)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _leaves(f"{key}.{index}", item)
    elif value is not None:
        yield key, _digits(value) if isinstance(value, float) else str(value)


def _print_devices(rows: Sequence[tuple[str, ...]]) -> None:
    """Aligned columns; on a terminal the device's title gives way so that each row is one line."""
    header = ("name", "device", "engine", "peak fp32", "memory")
    if not sys.stdout.isatty():
        _print_aligned([header, *rows])
        return
    widths = [max(len(cell) for cell in column) for column in zip(header, *rows, strict=True)]
    room = shutil.get_terminal_size().columns - sum(widths) + widths[1] - 2 * (len(widths) - 1)
    room = max(room, len("device"))
    fitted = [(row[0], _shortened(row[1], room), *row[2:]) for row in rows]
    _print_aligned([header, *fitted], bold_header=True)


def _shortened(text: str, room: int) -> str:
    return text if len(text) <= room else f"{text[: room - 1].rstrip()}\N{HORIZONTAL ELLIPSIS}"


def _print_aligned(rows: Iterable[tuple[str, ...]], bold_header: bool = False) -> None:
    table = list(rows)
    widths = [max(len(cell) for cell in column) for column in zip(*table, strict=True)]
    for index, row in enumerate(table):
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        click.secho("  ".join(cells).rstrip(), bold=True if bold_header and index == 0 else None)


def _rate(flops: float, dtype: str = "fp32") -> str:
    what = "OP/s" if dtype.startswith("int") else "FLOP/s"
    scales = ((1e12, f"T{what}"), (1e9, f"G{what}"), (1e6, f"M{what}"))
    factor, unit = next((scale for scale in scales if flops >= scale[0]), scales[-1])
    return f"{_digits(flops / factor)} {unit}"


def _span(value: Any) -> str:
    low, typical, high = (
        _digits(float(f"{v:.2g}")) for v in (value.low, value.typical, value.high)
    )
    return f"{typical} ({low} to {high})"


def _digits(value: float) -> str:
    """Four significant digits, without an exponent."""
    text = f"{value:.4g}"
    return f"{value:.0f}" if "e+" in text else f"{value:.7f}".rstrip("0") if "e-" in text else text
