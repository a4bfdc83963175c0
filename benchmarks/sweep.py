"""Analyse every architecture of timm and torchvision, beside torch's own MAC counter.

    python benchmarks/sweep.py [--workers 2] [--match REGEX] [--fresh]

One line of JSON a model goes to ``sweep/models.jsonl`` as soon as it is known; a second run does
what is missing. The report is ``benchmarks/sweep.md``.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing as mp
import os
import re
import sys
import time
import traceback
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))
RESULTS = ROOT / "sweep" / "models.jsonl"
REPORT = ROOT / "benchmarks" / "sweep.md"


def analyse(target: str) -> dict[str, Any]:
    """One model: our counts, the oracle's, and how long each step took."""
    import zoo

    import costmodel.table
    import costmodel.tracer

    row: dict[str, Any] = {"model": target}
    try:
        clock = [time.process_time()]
        model, inputs = zoo.build(target)
        clock.append(time.process_time())
        graph = costmodel.tracer.trace(model, inputs)
        table = costmodel.table.cost(graph)
        total = table.total
        clock.append(time.process_time())
        row |= {
            "input": [list(x.shape) for x in inputs],
            "macs": total.macs,
            "params": total.params,
            "ops": len(table),
            "tracer": table.info.tracer,
            "unsupported": [f"{u.op} in {u.module}" for u in table.unsupported],
            "true_params": sum(
                {
                    p.data_ptr() if not p.is_meta else id(p): p.numel() for p in model.parameters()
                }.values()
            ),
        }
        row["oracle"] = zoo.oracle(model, inputs)
        clock.append(time.process_time())
        row["seconds"] = [round(b - a, 3) for a, b in pairwise(clock)]
    except Exception as error:
        row["error"] = f"{type(error).__name__}: {error}"[:500]
        row["traceback"] = traceback.format_exc()[-1500:]
    return row


def _worker(target: str) -> dict[str, Any]:
    import torch

    torch.set_num_threads(1)
    return analyse(target)


def run(targets: Iterable[str], workers: int) -> None:
    """Analyse what is not in `RESULTS` yet or failed there, with a bar on stderr."""
    from rich.console import Console
    from rich.progress import track

    RESULTS.parent.mkdir(exist_ok=True)
    rows = [row for row in load() if "error" not in row]
    RESULTS.write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = {row["model"] for row in rows}
    missing = [target for target in targets if target not in done]
    pool = mp.get_context("spawn").Pool(workers, maxtasksperchild=150)
    with pool, RESULTS.open("a") as file:
        results = pool.imap_unordered(_worker, missing)
        for row in track(results, "sweep", len(missing), console=Console(stderr=True)):
            file.write(json.dumps(row) + "\n")
            file.flush()


def load() -> list[dict[str, Any]]:
    """The results so far."""
    if not RESULTS.exists():
        return []
    return [json.loads(line) for line in RESULTS.read_text().splitlines()]


def wrong(row: dict[str, Any]) -> str | None:
    """What is not as it should be about a result, if anything."""
    if "error" in row:
        return str(row["error"])
    if row["unsupported"]:
        return "unsupported: " + ", ".join(row["unsupported"])
    if row["macs"] != row["oracle"]:
        return f"{row['macs']:,} MACs, FlopCounterMode has {row['oracle']:,}"
    if row["params"] != row["true_params"]:
        return f"{row['params']:,} parameters, the model has {row['true_params']:,}"
    return None


def report(rows: list[dict[str, Any]]) -> str:
    """The results as Markdown."""
    from importlib.metadata import version

    names = ("torch", "timm", "torchvision")
    lines = [
        "# Every architecture of timm and torchvision",
        "",
        "Written by `make sweep`, with " + ", ".join(f"{n} {version(n)}" for n in names) + ".",
        "Each model is built without weights at its default input size, traced, and counted twice:",
        "by costmodel, and by torch's `FlopCounterMode` on the meta device with the mathematical",
        "attention backend (its FLOPs halved). *Right* means: no unsupported op, the same MACs to",
        "the last one, and the parameters that the module itself has. Times are of the CPU.",
        "",
        "| library | models | right | on meta | ops | build | trace and count | FlopCounterMode |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for library in ("timm", "torchvision"):
        group = [row for row in rows if row["model"].startswith(f"{library}:")]
        times = [sum(row["seconds"][i] for row in group if "seconds" in row) for i in range(3)]
        lines.append(
            f"| {library} | {len(group)} | {sum(wrong(row) is None for row in group)} "
            f"| {sum(row.get('tracer') == 'meta' for row in group)} "
            f"| {sum(row.get('ops', 0) for row in group):,} | "
            + " | ".join(f"{t:.0f} s" for t in times)
            + " |"
        )
    differences = [(row["model"], reason) for row in rows if (reason := wrong(row))]
    lines += ["", "## Differences", ""]
    if differences:
        lines += ["| model | difference |", "|---|---|"]
        lines += [f"| {model} | {reason} |" for model, reason in sorted(differences)]
    else:
        lines.append("None.")
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--match", default="", help="only targets that this expression finds")
    parser.add_argument("--fresh", action="store_true", help="forget earlier results")
    options = parser.parse_args()
    import zoo

    if options.fresh:
        RESULTS.unlink(missing_ok=True)
    started = time.monotonic()
    run([name for name in zoo.names() if re.search(options.match, name)], options.workers)
    rows = sorted(load(), key=lambda row: row["model"])
    REPORT.write_text(report(rows))
    bad = sum(wrong(row) is not None for row in rows)
    print(f"{len(rows)} models, {bad} wrong, {time.monotonic() - started:.0f} s; see {REPORT}",
          file=sys.stderr)  # fmt: skip
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
