"""``costmodel analyze``: count a model, and predict its latency on a device."""

from __future__ import annotations

import contextlib
import json
import sys
from typing import TYPE_CHECKING, Any

import click

from costmodel.errors import CostModelError
from costmodel.files import write_atomic

if TYPE_CHECKING:
    from costmodel.measure.gap import Gap
    from costmodel.report import Report

FORMATS = ("table", "json", "csv", "markdown", "html")
POSITIVE = click.IntRange(min=1)


@click.command("analyze")
@click.argument("target")
@click.option(
    "--input",
    "inputs",
    multiple=True,
    metavar="SHAPE",
    help="Input shape, as 1x3x224x224 or int64:1x128; repeatable.",
)
@click.option("--batch", type=POSITIVE, metavar="N", help="Leading dimension of the inputs.")
@click.option(
    "--hw",
    multiple=True,
    metavar="NAME[:ENGINE]",
    help="Predict latency on this device; repeatable for --format html.",
)
@click.option("--dtype", metavar="D", help="Arithmetic of the prediction, as fp16.")
@click.option("--execution", metavar="E", help="How it runs, as eager, compiled or tflite.")
@click.option("--layout", metavar="L", help="Memory layout, nchw or nhwc.")
@click.option("--threads", type=POSITIVE, metavar="N", help="CPU threads.")
@click.option("--mode", type=click.Choice(("eval", "train")), default="eval", show_default=True)
@click.option("--depth", type=POSITIVE, metavar="K", help="Levels of the module tree.")
@click.option("--by", type=click.Choice(("op", "module", "family")), help="What a line stands for.")
@click.option(
    "--measured",
    metavar="MS|RUNS.csv",
    help="A measured latency: add where it goes between the ideal roof and the run.",
)
@click.option("--format", "form", type=click.Choice(FORMATS), default="table", show_default=True)
@click.option("-o", "--output", metavar="FILE", help="Write there instead of to stdout.")
@click.option("--strict", is_flag=True, help="Exit with 1 if an op has no cost rule.")
@click.pass_context
def analyze(
    ctx: click.Context,
    /,
    target: str,
    inputs: tuple[str, ...],
    hw: tuple[str, ...],
    form: str,
    by: Any,
    depth: int | None,
    output: str | None,
    strict: bool,
    measured: str | None,
    **options: Any,
) -> None:
    """Count a model's MACs, bytes and parameters; predict latency.

    TARGET is FILE.py, FILE.py:NAME(width=0.5), package.module:NAME, timm:NAME,
    torchvision:NAME, hf:CONFIG_DIR, hf:BertConfig or FILE.pt2.
    """
    options["hw"] = hw[0] if hw else None
    if len(hw) > 1 and form != "html":
        raise CostModelError("only a page shows several devices; give one --hw or --format html")
    _check_device(options, measured, form)
    from costmodel.api import analyze as run

    # What the model's own code prints must not end up in the data.
    with contextlib.redirect_stdout(sys.stderr):
        report = run(target, inputs or None, **options)
    found = None if measured is None else _gap(report, measured)
    _put(report, form, by, depth, output, hw, found)
    if strict and not report.complete:
        names = ", ".join(f"{item.op} ({item.count} ×)" for item in report.unsupported)
        click.echo(f"costmodel: no cost rule for {names}; totals are lower bounds", err=True)
        ctx.exit(1)


def _check_device(options: dict[str, Any], measured: str | None, form: str) -> None:
    """Options of a prediction mean nothing without a device."""
    if measured is not None and form in ("csv", "html"):
        raise CostModelError("--measured goes with --format table, json or markdown")
    if options["hw"] is None:
        if measured is not None:
            raise CostModelError("--measured is about a device; add --hw NAME")
        for name in ("dtype", "execution", "layout", "threads"):
            if options[name] is not None:
                raise CostModelError(f"--{name} is about a device; add --hw NAME")


def _gap(report: Report, measured: str) -> Gap:
    """Where the measured time goes: milliseconds, or the run of this setting in a file."""
    from costmodel.measure.gap import gap

    assert report.prediction is not None
    try:
        seconds = float(measured) * 1e-3
    except ValueError:
        seconds = _run_of(report, measured)
    return gap(report.table, report.prediction, seconds)


def _run_of(report: Report, path: str) -> float:
    """Seconds of the run in a file that is of the report's model and setting; their median."""
    from statistics import median

    from costmodel.plot.measured import matching, read_runs

    assert report.prediction is not None
    runs = read_runs([path])
    found = matching(runs, report.target, report.table.info.inputs, report.prediction)
    if not found:
        raise CostModelError(
            f"none of the {len(runs)} runs in {path} is of this model, input and setting: model, "
            "input_shape, batch, device, execution, dtype, layout and threads must agree"
        )
    return float(median(run["latency_s"] for run in found))


def _put(
    report: Report,
    form: str,
    by: Any,
    depth: int | None,
    output: str | None,
    hw: tuple[str, ...],
    gap: Gap | None,
) -> None:
    if form == "table" and output is None and sys.stdout.isatty():
        from rich.console import Console

        from costmodel.report.terminal import render

        render(report, Console(highlight=False), by or "module", depth)
        if gap is not None:
            click.echo("\n" + _gap_text(gap, form), nl=False)
        return
    text = _text(report, form, by, depth, hw, gap)
    if output is None:
        click.echo(text, nl=False)
    else:
        write_atomic(output, text)


def _gap_text(gap: Gap, form: str) -> str:
    from costmodel.report import gap as words

    return words.markdown(gap) if form == "markdown" else words.text(gap)


def _text(
    report: Report, form: str, by: Any, depth: int | None, hw: tuple[str, ...], gap: Gap | None
) -> str:
    from costmodel.report import formats, terminal

    match form:
        case "json":
            found = formats.to_dict(report, by, depth)
            if gap is not None:
                found["gap"] = gap.to_dict()
            return json.dumps(found, indent=2, allow_nan=False, ensure_ascii=False) + "\n"
        case "csv":
            return formats.to_csv(report, by, depth)
        case "markdown":
            page_text = formats.to_markdown(report, by or "module", depth)
            return page_text if gap is None else f"{page_text}\n{_gap_text(gap, form)}"
        case "html":
            from costmodel.report.html import render as page

            return page(report, hw[1:] or None)
    words = terminal.text(report, by or "module", depth)
    return words if gap is None else f"{words}\n{_gap_text(gap, form)}"
