"""``costmodel formula``: the cost of a model as algebra."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

Command = Callable[..., Any]
_FORMATS = ("text", "latex", "markdown", "python", "json")
QUANTITY = ("macs", "params", "bytes", "flops", "ops")


def symbolic_options(several: bool) -> Callable[[Command], Command]:
    """The options that say which numbers become symbols; ``several``: for more than one target."""

    def add(function: Command) -> Command:
        options = (
            click.option(
                "--input",
                "inputs",
                multiple=True,
                metavar="SHAPE",
                help='Input shape in symbols, "N x C_in x H x W" or "int64: N x L".',
            ),
            click.option(
                "--dims", metavar="N,H,W", help="Dimensions of the input that are symbols."
            ),
            click.option(
                "--symbols",
                multiple=several,
                metavar="ARG=SYMBOL,…",
                help='Constructor arguments that are symbols: "in_ch=C_in,out_ch=C_out".',
            ),
        )
        for option in options:
            function = option(function)
        return function

    return add


@click.command("formula")
@click.argument("target")
@symbolic_options(several=False)
@click.option("--of", type=click.Choice(QUANTITY), help="One count; otherwise several.")
@click.option(
    "--by",
    type=click.Choice(["op", "module", "family", "total"]),
    default="total",
    show_default=True,
    help="A line for each op, module or op family, or the total.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(_FORMATS),
    default="text",
    show_default=True,
    help="How to write it.",
)
@click.option("--exact", is_flag=True, help="Keep floors instead of assuming sizes that divide.")
@click.option("--growth", is_flag=True, help="Add how the count grows in each symbol.")
@click.option("-o", "--output", metavar="FILE", help="Write to FILE instead of stdout.")
def formula(
    target: str,
    symbols: str | None,
    dims: str | None,
    inputs: tuple[str, ...],
    of: str | None,
    by: str,
    form: str,
    exact: bool,
    growth: bool,
    output: str | None,
) -> None:
    """Derive the cost of TARGET as formulas in its dimensions.

    \b
    costmodel formula examples/depthwise_separable.py:DepthwiseSeparable \\
        --symbols "in_ch=C_in,out_ch=C_out" --dims N,H,W
    """
    from costmodel.formula import render
    from costmodel.formula.command import formula_of

    found = formula_of(target, symbols, dims, inputs)
    quantities = (of,) if of else render.USUAL
    shown = found if exact or form in ("python", "json") else found.tidy()
    if form == "json":
        page = render.json(found, by)
    elif form == "python":
        page = render.python(shown, quantities)
    else:
        page = getattr(render, form)(shown, quantities, by)
        if growth:
            page += render.growth_text(found.tidy(), of or "macs")
    if output:
        from costmodel.files import write_atomic

        write_atomic(output, page)
    else:
        click.echo(page, nl=False)
