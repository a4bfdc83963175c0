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
@click.option("--hw", multiple=True, metavar="NAME[:ENGINE]",
              help="Compare latency on this device; repeatable.")  # fmt: skip
@click.option("--batch", type=click.IntRange(min=1), metavar="N",
              help="Leading dimension of the inputs.")  # fmt: skip
@click.option("--dtype", metavar="D", help="Arithmetic of the predictions.")
@click.option("--execution", metavar="E", help="How it runs, as eager, compiled or tflite.")
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text",
              show_default=True, help="How to write it.")  # fmt: skip
def compare(
    targets: tuple[str, ...],
    symbols: tuple[str, ...],
    dims: str | None,
    inputs: tuple[str, ...],
    of: str,
    at: str | None,
    hw: tuple[str, ...],
    batch: int | None,
    dtype: str | None,
    execution: str | None,
    form: str,
) -> None:
    """Set TARGETs side by side, in numbers or as formulas.

    In numbers: counts, and latency on each --hw, with ratios to the first; where fewer MACs take
    longer, the ops to blame. As formulas, two targets with --dims or --symbols: each of --symbols
    and --input is given once for both targets, or once for each.

    \b
    costmodel compare examples/conv.py:StandardConv \\
        examples/depthwise_separable.py:DepthwiseSeparable \\
        --symbols "in_ch=C_in,out_ch=C_out,kernel=K" --dims N,H,W --at "K=3,C_in=256,C_out=256"
    """
    if not (symbols or dims or at or any(map(_symbolic, inputs))):
        options = {"dtype": dtype, "execution": execution}
        click.echo(_numbers(targets, hw, inputs, batch, options, form), nl=False)
        return
    if hw or batch or dtype or execution:
        raise CostModelError(
            "formulas know no device; leave out --hw, --batch and what goes with it"
        )
    click.echo(_formulas(targets, symbols, dims, inputs, of, at, form), nl=False)


def _symbolic(shape: str) -> bool:
    """Whether an input has a dimension that is no number."""
    from costmodel.inputs import parse

    try:
        parse(shape)
    except CostModelError:
        return True
    return False


def _numbers(
    targets: tuple[str, ...],
    hw: tuple[str, ...],
    inputs: tuple[str, ...],
    batch: int | None,
    options: dict[str, str | None],
    form: str,
) -> str:
    """The comparison of any number of targets in numbers."""
    import contextlib
    import json
    import sys

    from costmodel import compare as numbers

    # What a model's own code prints must not end up in the data.
    with contextlib.redirect_stdout(sys.stderr):
        found = numbers.compare(targets, hw, inputs or None, batch, **options)
    if form == "json":
        return json.dumps(found.to_dict(), indent=2, allow_nan=False, ensure_ascii=False) + "\n"
    return numbers.text(found)


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
