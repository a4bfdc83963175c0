"""How threads share a product out: GFLOP/s for each second of CPU time that they take, by shape.

    python benchmarks/shares.py --threads 14 --rows 197

Many threads run in turn on however few cores there are, and Linux tells what each took. Threads
that pack or read more than their share of a product take longer all together than one alone would.
They must not wait for each other awake (set below, before PyTorch is loaded); where MKL makes them
wait inside of a product, the figure is near 0 and says nothing of a machine with a core for each.
`costmodel.machine.x86_choices` has its grids of threads from here.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.table import Table

EXTENTS = (384, 512, 640, 768, 832, 896, 1024, 1040, 1152, 1280, 1408, 1536, 2048, 4096)
#: OpenMP's threads sleep while they wait, and MKL takes as many as it is told.
ENVIRONMENT = {
    "OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "0", "MKL_DYNAMIC": "FALSE",
    "MKL_ENABLE_INSTRUCTIONS": "AVX512",
}  # fmt: skip
#: FLOPs of the calls that are timed together, and how often; the fastest counts.
FLOPS, TIMES = 4e9, 2


def main() -> None:
    """Read the arguments, and print one row for each k."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--threads", type=int, default=14)
    parser.add_argument("--rows", type=int, default=197)
    parser.add_argument("--extents", type=int, nargs="+", default=EXTENTS)
    asked = parser.parse_args()
    os.environ.update(ENVIRONMENT)
    import torch

    torch.set_num_threads(asked.threads)
    title = f"{asked.rows} rows, {asked.threads} threads, torch {torch.__version__}: GFLOP/s a core"
    table = Table("k \\ n", *map(str, asked.extents), title=title)
    for k in asked.extents:
        found = [_gflops(asked.rows, k, n) for n in asked.extents]
        table.add_row(str(k), *(f"{rate:.0f}" for rate in found))
    Console(width=100).print(table)


def _gflops(m: int, k: int, n: int) -> float:
    import torch
    from torch.nn.functional import linear

    weight, bias, x = torch.randn(n, k), torch.randn(n), torch.randn(m, k)
    flops = 2 * m * k * n
    with torch.inference_mode():
        linear(x, weight, bias)
        taken = min(
            _cpu_seconds(lambda: linear(x, weight, bias), int(FLOPS // flops) + 2)
            for _ in range(TIMES)
        )
    return flops / taken / 1e9


def _cpu_seconds(call: Callable[[], object], times: int) -> float:
    """Seconds of CPU time of all of this program's threads, for one call."""
    before = _taken()
    for _ in range(times):
        call()
    return (_taken() - before) / times


def _taken() -> float:
    """Of each thread, the first figure of ``schedstat`` is the nanoseconds that it has run for."""
    tasks = Path("/proc/self/task").glob("*/schedstat")
    return sum(int(path.read_text().split()[0]) for path in tasks) / 1e9


if __name__ == "__main__":
    main()
