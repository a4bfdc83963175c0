"""``costmodel compare``: models side by side, as formulas or in numbers."""

from __future__ import annotations

import click

from costmodel.cli.formula import QUANTITY, symbolic_options
from costmodel.errors import CostModelError


@click.command("compare")
@click.argument("targets", nargs=-1, required=True, metavar="TARGET TARGET …")
@symbolic_options(several=True)
@click.option(
    "--of",
    type=click.Choice(QUANTITY),
    default="macs",
    show_default=True,
    help="The count that formulas are compared in.",
)
@click.option("--at", metavar="K=3,C_in=256", help="A point at which to evaluate formulas.")
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text",
              show_default=True, help="How to write it.")  # fmt: skip
def compare(
    targets: tuple[str, ...],
    symbols: tuple[str, ...],
    dims: str | None,
    inputs: tuple[str, ...],
    of: str,
    at: str | None,
    form: str,
) -> None:
    """Set the costs of two TARGETs side by side as formulas.

    Each of --symbols and --input is given once for both targets, or once for each.

    \b
    costmodel compare examples/conv.py:StandardConv \\
        examples/depthwise_separable.py:DepthwiseSeparable \\
        --symbols "in_ch=C_in,out_ch=C_out,kernel=K" --dims N,H,W --at "K=3,C_in=256,C_out=256"
    """
    if not (symbols or dims or inputs):
        raise CostModelError("say which sizes are symbols: --dims N,H,W, --symbols in_ch=C_in")
    click.echo(_formulas(targets, symbols, dims, inputs, of, at, form), nl=False)


def _formulas(
    targets: tuple[str, ...],
    symbols: tuple[str, ...],
    dims: str | None,
    inputs: tuple[str, ...],
    of: str,
    at: str | None,
    form: str,
) -> str:
    """The comparison of two targets as formulas."""
    from costmodel.formula import compare as comparing
    from costmodel.formula.command import formula_of, parse_point

    if len(targets) != 2:
        raise CostModelError(f"formulas are compared two at a time, not {len(targets)}")
    point = parse_point(at or "")
    each = [_one_each(given, name) for given, name in ((symbols, "--symbols"), (inputs, "--input"))]
    found = [
        formula_of(target, each[0][i], dims, [shape for shape in (each[1][i],) if shape])
        for i, target in enumerate(targets)
    ]
    result = comparing.compare_formulas(found[0], found[1], of)
    write = comparing.json if form == "json" else comparing.text
    return write(result, point)


def _one_each(given: tuple[str, ...], option: str) -> tuple[str | None, str | None]:
    if len(given) > 2:
        raise CostModelError(
            f"{option} is given {len(given)} times; give it once, or once a target"
        )
    if not given:
        return None, None
    return given[0], given[-1]
