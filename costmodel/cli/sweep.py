"""``costmodel sweep``: whole model libraries on many devices, into one file."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any

import click

from costmodel.errors import CostModelError


@click.command("sweep")
@click.argument("targets", nargs=-1)
@click.option("--accuracy", metavar="CSV", help="Add the networks of an accuracy table.")
@click.option("--library", type=click.Choice(("timm",)), help="Add every network of a library.")
@click.option("--match", metavar="REGEX", help="Only networks whose target this finds.")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="At most N networks.")
@click.option("--hw", multiple=True, required=True, metavar="NAME[:ENGINE]",
              help="A device; repeatable.")  # fmt: skip
@click.option("--dtype", "dtypes", multiple=True, metavar="D",
              help="A dtype; repeatable.  [each device's default]")  # fmt: skip
@click.option("--input", "shape", metavar="SHAPE", help="Input of TARGETs.  [their own]")
@click.option("--jobs", type=click.IntRange(min=1), metavar="N", help="Processes.  [one a core]")
@click.option("--scheduler", metavar="ADDRESS", help="Run on a Dask cluster, tcp://HOST:PORT.")
@click.option("--retry", is_flag=True, help="Do failed networks again.")
@click.option("-o", "--output", required=True, metavar="FILE",
              help="A .parquet or .duckdb file; one that is there is completed.")  # fmt: skip
def sweep(
    targets: tuple[str, ...],
    accuracy: str | None,
    library: str | None,
    match: str | None,
    limit: int | None,
    hw: tuple[str, ...],
    dtypes: tuple[str, ...],
    shape: str | None,
    jobs: int | None,
    scheduler: str | None,
    retry: bool,
    output: str,
) -> None:
    """Analyse whole model libraries in parallel.

    Each network is traced once and predicted on every device in every dtype. A network that fails
    is a row with its reason. A sweep that was cut off goes on where it stopped.
    """
    from costmodel import sweep as engine

    networks = _networks(targets, accuracy, library, shape)
    if match is not None:
        networks = [n for n in networks if _finds(match, n[0])]
    networks = list(dict.fromkeys(networks))[:limit]
    if not networks:
        raise CostModelError("no networks to sweep; give TARGETs, --accuracy CSV or --library timm")
    runner = engine.cluster(scheduler) if scheduler else engine.local(jobs or _cores())
    with _bar() as progress:
        rows = engine.sweep(
            networks, hw, output, dtypes=dtypes or ("",), runner=runner, retry=retry,
            progress=progress,
        )  # fmt: skip
    failed = {row["target"] for row in rows if row["error"]}
    note = f"; {len(failed)} failed, see the column error" if failed else ""
    click.echo(f"{output}: {len(rows)} rows{note}", err=True)


def _networks(
    targets: tuple[str, ...], accuracy: str | None, library: str | None, shape: str | None
) -> list[tuple[str, str]]:
    found = [(target, shape or "") for target in targets]
    if accuracy is not None:
        from costmodel.accuracy import read

        found += [(score.target, score.input) for score in read(accuracy)]
    if library == "timm":
        from costmodel.targets.libraries import imported

        found += [(f"timm:{name}", "") for name in imported("timm").list_models()]
    return found


def _finds(pattern: str, text: str) -> bool:
    import re

    try:
        return re.search(pattern, text) is not None
    except re.error as error:
        raise CostModelError(f"--match {pattern!r} is no regular expression: {error}") from error


def _cores() -> int:
    return min(8, os.cpu_count() or 1)


@contextlib.contextmanager
def _bar() -> Iterator[Any]:
    """A progress bar on a terminal's stderr."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bars:
        bar = bars.add_task("sweep")
        yield lambda done, total: bars.update(bar, completed=done, total=total)
