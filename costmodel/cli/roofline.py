"""``costmodel roofline``: models under the roofs of devices."""

from __future__ import annotations

import contextlib
import json
import sys
from typing import Any

import click

from costmodel.errors import CostModelError

POSITIVE = click.IntRange(min=1)


@click.command("roofline")
@click.argument("targets", nargs=-1, required=True, metavar="TARGET...")
@click.option("--hw", multiple=True, required=True, metavar="NAME[:ENGINE]",
              help="A device; repeatable.")  # fmt: skip
@click.option("-o", "--output", metavar="FILE",
              help="The figure, .png, .svg, .pdf or .html; the data with --format.")  # fmt: skip
@click.option("--format", "form", type=click.Choice(("json",)),
              help="Print the figure's points and roofs instead of drawing.")  # fmt: skip
@click.option("--input", "inputs", multiple=True, metavar="SHAPE",
              help="Input shape, as 1x3x224x224 or int64:1x128; repeatable.")  # fmt: skip
@click.option("--batch", type=POSITIVE, metavar="N", help="Leading dimension of the inputs.")
@click.option("--dtype", metavar="D", help="Arithmetic, as fp16.")
@click.option("--execution", metavar="E", help="How it runs, as eager, compiled or tflite.")
@click.option("--layout", metavar="L", help="Memory layout, nchw or nhwc.")
@click.option("--threads", type=POSITIVE, metavar="N", help="CPU threads.")
@click.option("--mode", type=click.Choice(("eval", "train")), default="eval", show_default=True)
@click.option("--measured", multiple=True, metavar="RUNS.csv",
              help="Measured runs to draw beside the predictions; repeatable.")  # fmt: skip
@click.option("--overlay", is_flag=True, help="One panel a device, coloured by model.")
@click.option("--columns", type=click.Choice(("one", "two")), default="two", show_default=True,
              help="Width in columns of a paper.")  # fmt: skip
@click.option("--labels", type=click.IntRange(min=0), default=6, show_default=True, metavar="N",
              help="Kernels that are named in a panel, at most.")  # fmt: skip
@click.option("--dark", is_flag=True, help="On a dark ground.")
def roofline(
    targets: tuple[str, ...],
    hw: tuple[str, ...],
    output: str | None,
    form: str | None,
    inputs: tuple[str, ...],
    batch: int | None,
    mode: str,
    measured: tuple[str, ...],
    overlay: bool,
    columns: Any,
    labels: int,
    dark: bool,
    **options: Any,
) -> None:
    """Draw models under the roofs of devices, both axes logarithmic.

    A point is a kernel, or several alike; its area is its share of the time. The star is the whole
    network. A panel for each model and device, or with --overlay one for each device.

    \b
    costmodel roofline timm:resnet50 --hw rpi4 --hw rtx4090 -o resnet50.svg
    """
    from costmodel.plot import style

    if form is None:
        if output is None:
            raise CostModelError("name a file for the figure, as -o roofline.svg, or --format json")
        style.suffix(output)
    panels = _panels(targets, hw, inputs, batch, mode, measured, options)
    _put(panels, form, output, overlay, columns, labels, dark)


def _panels(
    targets: tuple[str, ...],
    hw: tuple[str, ...],
    inputs: tuple[str, ...],
    batch: int | None,
    mode: Any,
    measured: tuple[str, ...],
    options: dict[str, Any],
) -> list[dict[str, Any]]:
    from costmodel.plot import roofline as picture
    from costmodel.plot.measured import matching, read_runs
    from costmodel.roofline import predict
    from costmodel.setting import setting

    settings = {name: setting(name, **options) for name in hw}
    runs = read_runs(measured)
    from costmodel.api import analyze

    panels = []
    for target in targets:
        # What the model's own code prints must not end up in the data.
        with contextlib.redirect_stdout(sys.stderr):
            report = analyze(target, inputs or None, batch=batch, mode=mode)
        if not report.complete:
            names = ", ".join(item.op for item in report.unsupported)
            click.echo(f"costmodel: {target}: no cost rule for {names}: not drawn", err=True)
        for name in hw:
            found = predict(report.table, name, **options)
            beside = matching(runs, target, report.table.info.inputs, found)
            panels.append(picture.data(target, found, beside, settings[name]))
    if runs and not any(panel["measured"] for panel in panels):
        raise CostModelError(
            f"none of the {len(runs)} measured runs is of these models, inputs and settings: "
            "model, input_shape, batch, device, execution, dtype, layout and threads must agree"
        )
    return panels


def _put(
    panels: list[dict[str, Any]],
    form: str | None,
    output: str | None,
    overlay: bool,
    columns: Any,
    labels: int,
    dark: bool,
) -> None:
    from costmodel.files import write_atomic
    from costmodel.plot import roofline as picture
    from costmodel.plot import style

    if form == "json":
        document = picture.document(panels)
        text = json.dumps(document, indent=1, allow_nan=False, ensure_ascii=False) + "\n"
        if output is None:
            click.echo(text, nl=False)
        else:
            write_atomic(output, text)
        return
    assert output is not None
    if style.suffix(output) == "html":
        from costmodel.report.html import roofline_page

        write_atomic(output, roofline_page(panels))
        return
    style.save(
        picture.draw(panels, columns=columns, dark=dark, overlay=overlay, labelled=labels), output
    )
