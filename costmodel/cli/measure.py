"""``costmodel measure``: times of models on this machine."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from costmodel.measure.rows import Row
    from costmodel.measure.run import Result

POSITIVE = click.IntRange(min=1)


@click.command("measure")
@click.argument("targets", nargs=-1, required=True, metavar="TARGET ...")
@click.option("--input", "inputs", multiple=True, metavar="SHAPE",
              help="Input shape, as 1x3x224x224 or int64:1x128; repeatable.")  # fmt: skip
@click.option("--batch", "batches", multiple=True, type=POSITIVE, metavar="N",
              help="Leading dimension of the inputs; repeatable.")  # fmt: skip
@click.option("--execution", "executions", multiple=True, metavar="E",
              help="eager, compiled, onnxruntime, xnnpack, ncnn; repeatable, or with commas.  "
              "[eager]")  # fmt: skip
@click.option("--dtype", default="fp32", show_default=True, metavar="D",
              help="fp32, fp16, bf16, amp-fp16, amp-bf16 or int8.")  # fmt: skip
@click.option("--layout", type=click.Choice(("nchw", "nhwc")), default="nchw", show_default=True)
@click.option("--threads", type=POSITIVE, metavar="N", help="CPU threads.  [one a core]")
@click.option("--mode", type=click.Choice(("eval", "train")), default="eval", show_default=True)
@click.option("--device", type=click.Choice(("cpu", "cuda")), default="cpu", show_default=True)
@click.option("--seconds", type=click.FloatRange(min=0, min_open=True), default=0.5,
              show_default=True, metavar="S", help="How long each is timed at least.")  # fmt: skip
@click.option("--format", "form", type=click.Choice(("table", "csv")), default="table",
              show_default=True)  # fmt: skip
@click.option("-o", "--output", metavar="RUNS.csv",
              help="Append rows there; what is there already is not measured again.")  # fmt: skip
@click.pass_context
def measure(
    ctx: click.Context,
    /,
    targets: tuple[str, ...],
    batches: tuple[int, ...],
    executions: tuple[str, ...],
    threads: int | None,
    form: str,
    output: str | None,
    **options: Any,
) -> None:
    """Time models on this machine.

    TARGET is FILE.py, FILE.py:NAME(width=0.5), package.module:NAME, timm:NAME,
    torchvision:NAME, hf:CONFIG_DIR, hf:BertConfig or FILE.pt2. The weights are random. A train
    step is the forward pass, the backward pass and a step of SGD. Latencies are of a whole batch.
    """
    from costmodel.measure import host
    from costmodel.measure.job import Job
    from costmodel.measure.run import measure as run

    threads = threads or host.default_threads()
    host.check_threads(threads)
    host.check_device(options["device"])
    jobs = [
        Job(target, execution, batch=batch, threads=threads, **options)
        for target in dict.fromkeys(targets)
        for execution in chosen(executions)
        for batch in dict.fromkeys(batches or (None,))
    ]
    results: list[Result] = []
    try:
        with progress(len(jobs)) as advance:
            for result in run(jobs, threads, output, say):
                results.append(result)
                advance()
                if output is None and form == "csv" and result.row is not None:
                    _put_csv(result.row, first=_rows(results) == [result.row])
    finally:
        _report(results, len(jobs), form, output)
    if not any(result.row or result.known for result in results):
        ctx.exit(2)
    if not all(result.row or result.known for result in results):
        ctx.exit(1)


def chosen(executions: Sequence[str]) -> list[str]:
    """The executions that are asked for. Raises `CostModelError` on one that nothing measures."""
    from costmodel.measure.runtimes import module_of

    names = [name.strip() for text in executions or ("eager",) for name in text.split(",")]
    for name in names:
        module_of(name)
    return list(dict.fromkeys(names))


def _rows(results: Sequence[Result]) -> list[Row]:
    return [result.row for result in results if result.row is not None]


def say(line: str) -> None:
    click.echo(f"costmodel: {line}", err=True)


def _report(results: Sequence[Result], jobs: int, form: str, output: str | None) -> None:
    """The table, or what was added to the file, also of a list that was cut off."""
    if output is None:
        if form == "table" and (rows := _rows(results)):
            _put_table(rows)
        return
    if not results:
        return
    known = sum(result.known for result in results)
    added = len(_rows(results)) - sum(result.known and result.row is not None for result in results)
    failed = sum(result.row is None and not result.known for result in results)
    parts = [f"{added} rows added"]
    parts += [f"{known} there already"] * (known > 0)
    parts += [f"{failed} failed"] * (failed > 0)
    parts += [f"{jobs - len(results)} not reached"] * (jobs > len(results))
    click.echo(f"{output}: {', '.join(parts)}", err=True)


def _put_csv(row: Row, first: bool) -> None:
    from costmodel.measure.rows import HEADER

    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, HEADER, lineterminator="\n")
    if first:
        writer.writeheader()
    writer.writerow(row)
    click.echo(buffer.getvalue(), nl=False)
    sys.stdout.flush()


def _put_table(rows: Sequence[Row]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=160)
    table = Table(box=None, pad_edge=False)
    for name in ("model", "input", "batch", "execution", "dtype", "threads", "ms", "p10–p90"):
        table.add_column(name, justify="left" if name in ("model", "execution") else "right")
    for row in rows:
        table.add_row(
            row["model"], row["input_shape"], row["batch"], row["execution"], row["dtype"],
            row["threads"], _short(row["latency_ms"]),
            f"{_short(row['p10_ms'])}–{_short(row['p90_ms'])}",
        )  # fmt: skip
    console.print(table)


def _short(milliseconds: str) -> str:
    value = float(milliseconds)
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"


@contextmanager
def progress(total: int) -> Iterator[Any]:
    """A progress bar on a terminal's stderr."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bars:
        bar = bars.add_task("measure", total=total)
        yield lambda: bars.advance(bar)
