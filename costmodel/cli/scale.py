"""``costmodel scale``: growth in depth, width and resolution."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace

import click
from click.core import ParameterSource

from costmodel.errors import CostModelError
from costmodel.files import write_atomic


@click.command("scale")
@click.argument("target", required=False)
@click.option("--family", metavar="NAME", help="A released family: efficientnet or resnet.")
@click.option("--alpha", type=float, default=1.2, show_default=True, help="Depth a unit of phi.")
@click.option("--beta", type=float, default=1.1, show_default=True, help="Width a unit of phi.")
@click.option("--gamma", type=float, default=1.15, show_default=True,
              help="Resolution a unit of phi.")  # fmt: skip
@click.option("--phi", type=click.IntRange(1, 12), default=7, show_default=True, metavar="N",
              help="The last phi.")  # fmt: skip
@click.option("--size", type=click.IntRange(min=8), default=224, show_default=True,
              help="Image size at phi = 0.")  # fmt: skip
@click.option("--channels", type=click.IntRange(min=1), default=3, help="Channels of the image.")
@click.option("--depth-argument", default="depth", metavar="NAME",
              help="The builder's depth multiplier.")  # fmt: skip
@click.option("--width-argument", default="width", metavar="NAME",
              help="The builder's width multiplier.")  # fmt: skip
@click.option("--hw", multiple=True, metavar="NAME[:ENGINE]", help="Add latency; repeatable.")
@click.option("--search", "searching", is_flag=True,
              help="Find constants that double the MACs, or the latency on each --hw.")  # fmt: skip
@click.option("--plot", metavar="FILE", help="Draw the curve: .png, .svg or .pdf.")
@click.option("--format", "form", type=click.Choice(("table", "json")), default="table",
              show_default=True)  # fmt: skip
@click.option("-o", "--output", metavar="FILE", help="Write there instead of to stdout.")
@click.pass_context
def scale(
    ctx: click.Context,
    target: str | None,
    family: str | None,
    alpha: float,
    beta: float,
    gamma: float,
    phi: int,
    size: int,
    channels: int,
    depth_argument: str,
    width_argument: str,
    hw: tuple[str, ...],
    searching: bool,
    plot: str | None,
    form: str,
    output: str | None,
) -> None:
    """Show how cost grows in depth, width and resolution.

    TARGET makes networks from multipliers: FILE.py:NAME(depth=…, width=…). Exits with 1 when
    alpha·beta²·gamma² is more than 5 % from 2; with --family, other constants than the family's
    own are checked against its networks.
    """
    if (target is None) == (family is None):
        raise CostModelError("give a TARGET with depth and width multipliers, or --family NAME")
    if min(alpha, beta, gamma) < 1:
        raise CostModelError("alpha, beta and gamma must be at least 1: networks grow with phi")
    from costmodel import scaling
    from costmodel.scaling import text

    with contextlib.redirect_stdout(sys.stderr), _status() as say:
        search = None
        if target is None:
            networks = scaling.builder_of(str(family)) if searching else None
            found = scaling.scale_released(str(family), hw, say)
            if _given(ctx, "alpha", "beta", "gamma"):
                found = replace(found, constants=scaling.Constants(alpha, beta, gamma))
        else:
            networks = scaling.Family(target, size, channels, depth_argument, width_argument)
            constants = scaling.Constants(alpha, beta, gamma)
            found = scaling.scale(networks, constants, range(phi + 1), hw, say)
        if searching and networks is not None:
            from costmodel.scaling.search import search as run

            search = run(networks, hw, say)
    if plot is not None:
        from costmodel.plot import scaling as picture
        from costmodel.plot import style

        style.save(picture.draw(picture.data(found.to_dict())), plot)
    if form == "json":
        document = found.to_dict() | ({"search": search.to_dict()} if search else {})
        page = json.dumps(document, indent=2, allow_nan=False, ensure_ascii=False) + "\n"
    else:
        page = text.report(found) + (f"\n{text.search_report(search)}" if search else "")
    if output is None:
        click.echo(page, nl=False)
    else:
        write_atomic(output, page)
    if found.constants is not None and not found.constants.doubles:
        click.echo(
            f"costmodel: alpha·beta²·gamma² = {found.constants.factor:.4f}, not 2: by that factor "
            "the cost grows a unit of phi",
            err=True,
        )
        ctx.exit(1)


def _given(ctx: click.Context, *names: str) -> bool:
    """Whether any of the options stands in the command, rather than its default."""
    return any(ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE for name in names)


@contextlib.contextmanager
def _status() -> Iterator[Callable[[str], None]]:
    """What is being traced, on a terminal's stderr; silent in a pipe."""
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda _: None
        return
    with console.status("") as status:
        yield status.update
