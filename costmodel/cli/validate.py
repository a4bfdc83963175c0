"""``costmodel validate``: predictions beside measured runs."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from costmodel.cli.measure import POSITIVE, chosen, progress, say
from costmodel.errors import CostModelError
from costmodel.files import write_atomic

if TYPE_CHECKING:
    from costmodel.validate import Validation
    from costmodel.validate.measured import Measured, Network


@click.command("validate")
@click.argument("files", nargs=-1, metavar="[RUNS.csv ...]")
@click.option("--hw", metavar="NAME", help="Predict with this profile; skip other devices' rows.")
@click.option(
    "--calibrate",
    type=click.Choice(("none", "one", "families")),
    default="none",
    show_default=True,
    help="What may be known of the device: nothing, one network, the other families.",
)
@click.option("--calibration", metavar="FILE", help="Use the constants of a calibration file.")
@click.option("--calibration-out", metavar="FILE", help="Write the calibration that was made.")
@click.option("--jobs", type=POSITIVE, metavar="N", help="Processes.  [one a core]")
@click.option("--measure", "targets", multiple=True, metavar="TARGET",
              help="Measure this model here, too, and its ops; repeatable.")  # fmt: skip
@click.option("--input", "inputs", multiple=True, metavar="SHAPE",
              help="With --measure: input shape, as 1x3x224x224; repeatable.")  # fmt: skip
@click.option("--batch", "batches", multiple=True, type=POSITIVE, metavar="N",
              help="With --measure: leading dimension; repeatable.")  # fmt: skip
@click.option("--execution", "executions", multiple=True, metavar="E",
              help="With --measure: eager, compiled, ...; repeatable, or with commas.  "
              "[eager]")  # fmt: skip
@click.option("--threads", type=POSITIVE, metavar="N",
              help="With --measure: CPU threads.  [one a core]")  # fmt: skip
@click.option("--seconds", type=click.FloatRange(min=0, min_open=True), metavar="S",
              help="With --measure: how long each is timed at least.  [0.5]")  # fmt: skip
@click.option("--format", "form", type=click.Choice(("table", "json")), default="table",
              show_default=True)  # fmt: skip
@click.option("-o", "--output", metavar="FILE", help="Write there instead of to stdout.")
def validate(
    files: tuple[str, ...],
    hw: str | None,
    calibrate: Any,
    calibration: str | None,
    calibration_out: str | None,
    jobs: int | None,
    form: str,
    output: str | None,
    targets: tuple[str, ...],
    **how: Any,
) -> None:
    """Compare predictions with measured runs.

    RUNS.csv has the columns device, software, execution, dtype, layout, threads, model,
    input_shape, batch, latency_ms, statistic, source; a file conv-DEVICE.csv of single
    convolutions has batch, c_in, c_out, kernel, size, stride, padding, latency_ms.

    --measure runs models on this machine instead, or as well, and says which ops are mispredicted;
    they are predicted for --hw host unless another profile is named.
    """
    _check(files, targets, how)
    if calibration_out is not None and calibrate == "none":
        raise CostModelError("--calibration-out needs --calibrate one or families")
    if calibration is not None and calibrate != "none":
        raise CostModelError("--calibration and --calibrate exclude each other; give one")
    if targets and (calibration is not None or calibrate != "none"):
        raise CostModelError(
            "--calibrate and --calibration are for files of runs; measure into one first: "
            "costmodel measure TARGET -o RUNS.csv"
        )
    from costmodel import calibration as store
    from costmodel.validate import Validation
    from costmodel.validate import validate as run
    from costmodel.validate.predict_rows import default_jobs

    given = store.load(calibration) if calibration is not None else None
    found, made = run(
        files, tiers=(calibrate,), hw=hw, jobs=jobs or default_jobs(), calibration=given
    )
    if calibration_out is not None:
        if not made.entries:
            raise CostModelError("no group could be calibrated; see the reasons without the option")
        store.save(made, calibration_out)
    if not targets:
        _put(found, None, form, output)
        return
    here = _measured(targets, hw or "host", **how)
    both = Validation(
        found.groups + here.validation.groups, found.skipped + here.validation.skipped
    )
    _put(both, here.networks, form, output)


def _check(files: Sequence[str], targets: Sequence[str], how: dict[str, Any]) -> None:
    """Raise `CostModelError` where there is nothing to do, or an option has nothing to act on."""
    if not files and not targets:
        raise CostModelError("nothing to validate; give RUNS.csv or --measure TARGET")
    names = {"inputs": "--input", "batches": "--batch", "executions": "--execution"}
    for name, value in how.items():
        if value and not targets:
            raise CostModelError(f"{names.get(name, f'--{name}')} needs --measure TARGET")


def _measured(
    targets: Sequence[str],
    hw: str,
    *,
    inputs: tuple[str, ...],
    batches: tuple[int, ...],
    executions: tuple[str, ...],
    threads: int | None,
    seconds: float | None,
) -> Measured:
    from costmodel.measure import host
    from costmodel.measure.job import Job
    from costmodel.setting import setting
    from costmodel.validate.measured import measure_and_predict

    known = setting(hw)
    device = "cuda" if known.profile.engines[known.engine].kind == "gpu" else "cpu"
    threads = threads or host.default_threads()
    host.check_threads(threads)
    host.check_device(device)
    jobs = [
        Job(target, execution, inputs, batch, threads=threads, device=device,
            seconds=seconds or 0.5)
        for target in dict.fromkeys(targets)
        for execution in chosen(executions)
        for batch in dict.fromkeys(batches or (None,))
    ]  # fmt: skip
    with progress(len(jobs)) as advance:
        return measure_and_predict(jobs, hw, say, advance)


def _put(
    found: Validation, networks: Sequence[Network] | None, form: str, output: str | None
) -> None:
    """Write the result. ``networks`` are those that were measured now, if that was asked for."""
    from rich.console import Console

    from costmodel.validate import report

    if form == "json":
        document = report.to_dict(found)
        if networks is not None:
            from costmodel.validate import measured_report

            document["per_op"] = measured_report.to_list(networks)
        text = json.dumps(document, indent=1, allow_nan=False, ensure_ascii=False) + "\n"
    elif output is None and sys.stdout.isatty():
        _render(found, networks, Console(highlight=False))
        return
    else:
        buffer = io.StringIO()
        _render(found, networks, Console(file=buffer, width=80, highlight=False))
        text = "\n".join(line.rstrip() for line in buffer.getvalue().splitlines()) + "\n"
    if output is None:
        click.echo(text, nl=False)
        return
    try:
        write_atomic(output, text)
    except CostModelError:
        if networks is not None:  # what was measured is not to be lost
            click.echo(text, nl=False)
        raise


def _render(found: Validation, networks: Sequence[Network] | None, console: Any) -> None:
    from costmodel.validate import report

    report.render(found, console)
    if networks:
        from costmodel.validate import measured_report

        console.print()
        measured_report.render(networks, console)
