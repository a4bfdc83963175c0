"""``costmodel diff``: what changed in cost between two reports."""

from __future__ import annotations

import json

import click

from costmodel.files import write_atomic


@click.command("diff")
@click.argument("old", metavar="OLD.json")
@click.argument("new", metavar="NEW.json")
@click.option("--format", "form", type=click.Choice(("markdown", "json")), default="markdown",
              show_default=True)  # fmt: skip
@click.option("-o", "--output", metavar="FILE", help="Write there instead of to stdout.")
@click.option("--exit-code", is_flag=True, help="Exit with 1 if anything changed.")
@click.pass_context
def diff(
    ctx: click.Context, old: str, new: str, form: str, output: str | None, exit_code: bool
) -> None:
    """Show what changed in cost between two reports.

    OLD.json and NEW.json are written by costmodel analyze --format json. The output is Markdown,
    as for a comment on a pull request.
    """
    from costmodel import difference

    found = difference.difference(difference.read(old), difference.read(new))
    if form == "json":
        page = json.dumps(found.to_dict(), indent=2, allow_nan=False, ensure_ascii=False) + "\n"
    else:
        page = difference.text(found)
    if output is None:
        click.echo(page, nl=False)
    else:
        write_atomic(output, page)
    if exit_code and not found.empty:
        ctx.exit(1)
