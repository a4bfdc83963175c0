"""``costmodel check``: hold models to a budget."""

from __future__ import annotations

import contextlib
import json
import sys
from dataclasses import asdict

import click


@click.command("check")
@click.argument("budget", metavar="BUDGET.toml")
@click.option("--format", "form", type=click.Choice(("table", "json")), default="table",
              show_default=True)  # fmt: skip
@click.pass_context
def check(ctx: click.Context, budget: str, form: str) -> None:
    """Hold models to a budget, as in continuous integration.

    BUDGET.toml has tables [[model]] with target and limits on macs, flops, params, bytes,
    peak_activation_bytes, and [model.latency_ms] by device. Exits with 1 when one is exceeded.
    """
    from costmodel import budget as budgets

    limits = budgets.read(budget)
    with contextlib.redirect_stdout(sys.stderr):
        found = budgets.check(limits)
    if form == "json":
        rows = [{**asdict(f), "exceeded": f.exceeded} for f in found]
        click.echo(json.dumps({"schema": 1, "rows": rows}, indent=2, allow_nan=False))
    else:
        click.echo(budgets.text(found), nl=False)
    over = sum(finding.exceeded for finding in found)
    if over:
        click.echo(f"costmodel: {over} of {len(found)} limits exceeded", err=True)
        ctx.exit(1)
