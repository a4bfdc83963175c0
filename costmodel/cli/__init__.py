"""The ``costmodel`` command: a group that imports a command's module only when it is called.

The help lines live in the table below so that ``costmodel --help`` imports no command, and so no
torch. Every failure ends in one line on stderr and a status that a script can act on.
"""

from __future__ import annotations

import contextlib
import difflib
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import click

from costmodel.errors import CostModelError

#: Commands and their help. Command ``x`` is the attribute ``x`` of the module ``costmodel.cli.x``.
COMMANDS = {
    "analyze": "Count a model's MACs, bytes and parameters; predict latency.",
    "formula": "Derive a model's cost as formulas in its dimensions.",
    "compare": "Set models side by side, with ratios.",
    "roofline": "Draw models under the roofs of a device.",
    "plot": "Draw modules, layers, memory, validation, Pareto front, scaling.",
    "scale": "Show how cost grows in depth, width and resolution.",
    "pick": "Find the networks that fit a budget.",
    "hw": "List, show, check and calibrate device profiles.",
    "measure": "Time models on this machine.",
    "validate": "Compare predictions with measured runs.",
    "sweep": "Analyse whole model libraries in parallel.",
    "check": "Hold a model to a budget, as in continuous integration.",
    "diff": "Show what changed in cost between two reports.",
}

#: Exit status of a wrong call or an input that cannot be used.
BAD_INPUT = 2
#: As a shell reports a program that SIGINT or SIGPIPE ended.
INTERRUPTED, BROKEN_PIPE = 130, 141


class LazyGroup(click.Group):
    """A group over `COMMANDS` that turns every failure into one line and an exit status."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The commands whose module is installed, in the order of the table."""
        return [name for name in COMMANDS if find_spec(f"{__name__}.{name}")]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.list_commands(ctx):
            return None
        command: click.Command = getattr(import_module(f"{__name__}.{cmd_name}"), cmd_name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        known = self.list_commands(ctx)
        if args and not args[0].startswith("-") and args[0] not in known:
            near = difflib.get_close_matches(args[0], known, n=1)
            hint = f"did you mean '{near[0]}'?" if near else f"commands are {', '.join(known)}"
            ctx.fail(f"no command '{args[0]}'; {hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        if names := self.list_commands(ctx):
            with formatter.section("Commands"):
                formatter.write_dl([(name, COMMANDS[name]) for name in names])

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command and flush, while a closed pipe or an interrupt can still be caught."""
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except BrokenPipeError:
            _discard_stdout()
            ctx.exit(BROKEN_PIPE)
        except KeyboardInterrupt:
            click.echo("costmodel: interrupted", err=True)
            ctx.exit(INTERRUPTED)
        return result

    def main(  # type: ignore[override]
        self, args: Sequence[str] | None = None, prog_name: str | None = None, **extra: Any
    ) -> None:
        """Run and exit: 0 done, 1 the answer is no, 2 bad usage or input.

        ``--debug`` is taken wherever it stands, and lets the exception through.
        """
        words = list(sys.argv[1:] if args is None else args)
        debug = "--debug" in words
        extra["standalone_mode"] = False
        try:
            status = super().main(
                [word for word in words if word != "--debug"], prog_name or self.name, **extra
            )
        except click.exceptions.NoArgsIsHelpError as error:
            error.show()
            status = BAD_INPUT
        except Exception as error:
            if debug:
                raise
            if isinstance(error, OSError):
                _discard_stdout()
            click.echo(f"costmodel: error: {' '.join(explain(error).split())}", err=True)
            status = BAD_INPUT
        sys.exit(status if isinstance(status, int) else 0)


def explain(error: Exception) -> str:
    """What went wrong, for someone who has never seen the code."""
    match error:
        case click.UsageError(ctx=click.Context() as ctx):
            return f"{error.format_message().rstrip('.')} (try {ctx.command_path} --help)"
        case click.ClickException():
            return error.format_message()
        case CostModelError():
            return str(error)
        case MemoryError():
            return "out of memory; try a smaller --batch or --input"
        case OSError(strerror=str() as reason, filename=None):
            return f"cannot write the output: {reason}"
        case OSError(strerror=str() as reason, filename=name):
            return f"{os.fsdecode(name)}: {reason}"
    return f"internal error, {type(error).__name__}: {error}; --debug shows where"


def _discard_stdout() -> None:
    """Point stdout at nothing, so that the interpreter's last flush cannot fail once more."""
    stdout = sys.__stdout__
    if stdout is not None and sys.stdout is stdout:
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stdout.fileno())


def _print_version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if not wanted or ctx.resilient_parsing:
        return
    from importlib.metadata import PackageNotFoundError, version

    try:
        number = version("torch-costmodel")
    except PackageNotFoundError:
        number = "of a checkout that is not installed"
    click.echo(f"costmodel {number}")
    ctx.exit()


@click.group(
    "costmodel",
    cls=LazyGroup,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.option("--version", is_flag=True, is_eager=True, expose_value=False,
              callback=_print_version, help="Show the version and exit.")  # fmt: skip
@click.option("--debug", is_flag=True, expose_value=False, help="Show a traceback on errors.")
@click.pass_context
def cli(ctx: click.Context) -> None:
    """What a PyTorch model costs, exactly, and what that takes on a device."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


def main() -> None:
    """Entry point of the ``costmodel`` command."""
    cli.main()
