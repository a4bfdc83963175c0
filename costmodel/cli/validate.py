"""``costmodel validate``: predictions beside measured runs."""

from __future__ import annotations

import io
import json
import sys
from typing import TYPE_CHECKING, Any

import click

from costmodel.errors import CostModelError
from costmodel.files import write_atomic

if TYPE_CHECKING:
    from costmodel.validate import Validation


@click.command("validate")
@click.argument("files", nargs=-1, required=True, metavar="RUNS.csv ...")
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
@click.option("--jobs", type=click.IntRange(min=1), metavar="N", help="Processes.  [one a core]")
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
) -> None:
    """Compare predictions with measured runs.

    RUNS.csv has the columns device, software, execution, dtype, layout, threads, model,
    input_shape, batch, latency_ms, statistic, source; a file conv-DEVICE.csv of single
    convolutions has batch, c_in, c_out, kernel, size, stride, padding, latency_ms.
    """
    if calibration_out is not None and calibrate == "none":
        raise CostModelError("--calibration-out needs --calibrate one or families")
    if calibration is not None and calibrate != "none":
        raise CostModelError("--calibration and --calibrate exclude each other; give one")
    from costmodel import calibration as store
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
    _put(found, form, output)


def _put(found: Validation, form: str, output: str | None) -> None:
    from rich.console import Console

    from costmodel.validate import report

    if form == "table" and output is None and sys.stdout.isatty():
        report.render(found, Console(highlight=False))
        return
    if form == "json":
        document = report.to_dict(found)
        text = json.dumps(document, indent=1, allow_nan=False, ensure_ascii=False) + "\n"
    else:
        buffer = io.StringIO()
        report.render(found, Console(file=buffer, width=80, highlight=False))
        text = "\n".join(line.rstrip() for line in buffer.getvalue().splitlines()) + "\n"
    if output is None:
        click.echo(text, nl=False)
    else:
        write_atomic(output, text)
