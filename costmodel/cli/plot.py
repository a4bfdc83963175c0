"""``costmodel plot``: the other pictures, each also as the data that it is drawn from."""

from __future__ import annotations

import contextlib
import json
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import click

from costmodel.errors import CostModelError

#: Pictures of a model, and pictures of what another command wrote with ``--format json``.
OF_MODELS = ("modules", "layers", "memory")
OF_FILES = {"validation": "validate", "pareto": "pick", "scaling": "scale"}


@click.command("plot")
@click.argument("kind", type=click.Choice((*OF_MODELS, *OF_FILES)))
@click.argument("source")
@click.option("-o", "--output", metavar="FILE", help="The figure, .png, .svg or .pdf.")
@click.option("--format", "form", type=click.Choice(("json",)),
              help="Print the data of the figure instead of drawing.")  # fmt: skip
@click.option("--input", "inputs", multiple=True, metavar="SHAPE",
              help="Input shape, as 1x3x224x224 or int64:1x128; repeatable.")  # fmt: skip
@click.option("--hw", metavar="NAME[:ENGINE]", help="For modules: their time on this device.")
@click.option("--columns", type=click.Choice(("one", "two")), default="two", show_default=True,
              help="Width in columns of a paper.")  # fmt: skip
@click.option("--dark", is_flag=True, help="On a dark ground.")
def plot(
    kind: str,
    source: str,
    output: str | None,
    form: str | None,
    inputs: tuple[str, ...],
    hw: str | None,
    columns: Any,
    dark: bool,
) -> None:
    """Draw one picture of SOURCE.

    \b
    modules      time (or MACs) by module, as an icicle     SOURCE: a TARGET
    layers       MACs and bytes along the depth             SOURCE: a TARGET
    memory       live activations and their peak            SOURCE: a TARGET
    validation   predicted against measured                 SOURCE: JSON of validate
    pareto       accuracy against latency                   SOURCE: JSON of pick
    scaling      growth against its promise                 SOURCE: JSON of scale
    """
    from costmodel.plot import style

    if form is None and (output is None or style.suffix(output) == "html"):
        raise CostModelError("name a file for the figure, as -o figure.svg, or --format json")
    picture = import_module(f"costmodel.plot.{kind}")
    if kind in OF_FILES:
        found = _from_file(kind, source, picture)
    else:
        found = picture.data(_report(source, inputs, hw))
    if form == "json":
        text = json.dumps(found, indent=1, allow_nan=False, ensure_ascii=False) + "\n"
        if output is None:
            click.echo(text, nl=False)
        else:
            from costmodel.files import write_atomic

            write_atomic(output, text)
        return
    assert output is not None
    style.save(picture.draw(found, columns=columns, dark=dark), output)


def _report(target: str, inputs: tuple[str, ...], hw: str | None) -> Any:
    from costmodel.api import analyze

    # What the model's own code prints must not end up in the data.
    with contextlib.redirect_stdout(sys.stderr):
        return analyze(target, inputs or None, hw)


def _from_file(kind: str, source: str, picture: Any) -> dict[str, Any]:
    wanted = f"give the file that costmodel {OF_FILES[kind]} --format json -o FILE wrote"
    try:
        document = json.loads(Path(source).read_text(encoding="utf-8"))
    except OSError as error:
        raise CostModelError(f"cannot read {source}: {error.strerror}; {wanted}") from error
    except ValueError as error:
        raise CostModelError(f"{source} is not JSON; {wanted}") from error
    if not isinstance(document, dict) or not isinstance(document.get("rows"), list):
        raise CostModelError(f"{source} has no rows; {wanted}")
    try:
        found: dict[str, Any] = picture.data(document)
    except (KeyError, TypeError) as error:
        raise CostModelError(f"{source} is of another command ({error}); {wanted}") from error
    return found
