"""The roofs of the machine in hand: matrix products for the peaks, streams for the memory levels.

Streams are McCalpin's copy and triad (STREAM, 1995) and a sum, over working sets from the first
cache to main memory. The sum reads one small vector again and again within a single call, so that
the time to issue an op does not hide what the first level delivers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

from costmodel.hardware.catalog import core
from costmodel.hardware.schema import CpuEngine, DType, Level, Point, Profile
from costmodel.measure.runtimes.prepared import torch_threads
from costmodel.measure.timing import Call, time_calls

#: Sizes of square matrix products.
SIZES = (128, 256, 512, 1024, 2048)
#: Bytes that one call of a sum reads, however small its vector.
_READ_AT_ONCE = 2**24
#: A working set is inside a level if it takes at most this share of it, and outside from this.
_INSIDE, _OUTSIDE = 0.75, 4.0
#: torch's names of the formats, and bytes an element.
_FORMATS: dict[DType, tuple[str, int]] = {
    "fp32": ("float32", 4), "bf16": ("bfloat16", 2), "fp16": ("float16", 2),
}  # fmt: skip

Say = Callable[[str], None]


class _Benchmark(NamedTuple):
    """One kernel: what it counts as, where its data lies, and how to set it up."""

    kernel: str
    dtype: DType
    working_set_kb: float
    flops: int
    nbytes: int
    make: Callable[[], Call]


def measure_roofs(profile: Profile, seconds: float, say: Say = lambda _: None) -> list[Point]:
    """Products by size and dtype and streams by working set, on one thread and on all cores.

    ``seconds`` is shared by all of them. A product on all cores follows the same one on one thread,
    for the machine may be another minutes later. Leaves torch's number of threads as it was.
    """
    engine = profile.engines[profile.default.engine]
    assert isinstance(engine, CpuEngine)
    teams = sorted({1, engine.cores})
    work = [(threads, product) for product in _products(engine) for threads in teams]
    work += [
        (threads, stream)
        for threads in teams
        for stream in _streams(working_sets(engine, threads), threads)
    ]
    found = []
    for index, (threads, each) in enumerate(work):
        say(f"roofs {index + 1}/{len(work)}: {each.kernel} {each.dtype}, threads: {threads}")
        with torch_threads(threads):
            limit = seconds / len(work)
            took = time_calls(each.make(), min_seconds=limit / 2, min_runs=5, max_seconds=limit)
        # A neighbour only ever slows a run down: the fast end is what the machine can do.
        us = round(1e6 * took.p10_s, 3)
        found.append(
            Point(kernel=each.kernel, dtype=each.dtype, threads=threads, flops=each.flops,
                  working_set_kb=round(each.working_set_kb, 3), bytes=each.nbytes, us=us)
        )  # fmt: skip
    return found


def peaks(points: Sequence[Point]) -> dict[DType, float]:
    """TFLOP/s by dtype: the fastest product of all."""
    products = [point for point in points if point.kernel == "product"]
    return {
        dtype: max(p.flops / p.us for p in products if p.dtype == dtype) / 1e6
        for dtype in dict.fromkeys(p.dtype for p in products)
    }


def bandwidths(points: Sequence[Point], engine: CpuEngine) -> dict[Level, float]:
    """GB/s by memory level: the fastest stream whose working set lies in the level alone."""
    most = max((point.threads for point in points), default=1)
    streams = [p for p in points if p.kernel != "product" and p.threads == most]
    bounds = levels(engine, most)
    found: dict[Level, float] = {}
    for index, (level, kb) in enumerate(bounds):
        below = bounds[index - 1][1] if index else 0.0
        rates = [
            p.bytes / p.us / 1e3
            for p in streams
            if below * (_OUTSIDE if level == "dram" else 1.0) < p.working_set_kb <= kb * _INSIDE
            and (p.kernel == "sum" or level != "l1")
        ]
        if rates:
            found[level] = max(rates)
    return found


def levels(engine: CpuEngine, threads: int) -> list[tuple[Level, float]]:
    """The memory levels and the KB that ``threads`` threads have of each, main memory last."""
    first = engine.clusters[0]
    found: list[tuple[Level, float]] = [("l1", (first.l1d_kb or 32.0) * threads)]
    if first.l2_kb:
        found.append(("l2", first.l2_kb * (1 if first.l2_shared else threads)))
    if engine.l3_mb:
        found.append(("l3", engine.l3_mb * 1024 * engine.l3_count))
    return [*found, ("dram", float("inf"))]


def working_sets(engine: CpuEngine, threads: int) -> list[float]:
    """KB: two sizes inside each cache, and one beyond the last, 128 MB to 4 GB."""
    sizes: list[float] = []
    last = 0.0
    for _, kb in levels(engine, threads)[:-1]:
        sizes += [max(1.5 * last, kb / 4), kb * _INSIDE]
        last = kb
    return sorted({*sizes, min(max(last * 1.1 * _OUTSIDE, 2.0**17), 2.0**22)})


def _products(engine: CpuEngine) -> Iterator[_Benchmark]:
    """Square matrix products in the formats that the cores have arithmetic for."""
    rates = core(engine.clusters[0].core).flops_per_cycle
    for dtype, (name, size) in _FORMATS.items():
        if dtype in rates:
            for n in SIZES:
                nbytes = 3 * n * n * size
                make = partial(_product, n, name)
                yield _Benchmark("product", dtype, nbytes / 1024, 2 * n**3, nbytes, make)


def _streams(sizes: Sequence[float], threads: int) -> Iterator[_Benchmark]:
    """Sum, copy and triad over each working set of ``sizes`` KB, all threads together."""
    for kb in sizes:
        one, two, three = (max(16, int(kb * 256 / count) // 16 * 16) for count in (1, 2, 3))
        own = max(16, one // threads)
        again = max(1, _READ_AT_ONCE // (4 * one))
        read = own * threads * again
        make = partial(_sum, threads, again, own)
        yield _Benchmark("sum", "fp32", kb, read, 4 * read, make)
        yield _Benchmark("copy", "fp32", kb, 0, 8 * two, partial(_copy, two))
        yield _Benchmark("triad", "fp32", kb, 2 * three, 12 * three, partial(_triad, three))


def _product(n: int, name: str) -> Call:
    import torch

    a, b, out = (torch.ones(n, n, dtype=getattr(torch, name)) for _ in range(3))
    return lambda: torch.mm(a, b, out=out)


def _sum(threads: int, again: int, length: int) -> Call:
    import torch

    # Outputs are shared out in order: each thread reads a vector of its own, `again` times.
    rows = torch.ones(threads, 1, length).expand(threads, again, length)
    return lambda: rows.sum(2)


def _copy(length: int) -> Call:
    import torch

    x, out = torch.ones(length), torch.empty(length)
    return lambda: out.copy_(x)


def _triad(length: int) -> Call:
    import torch

    x, y, out = torch.ones(length), torch.ones(length), torch.empty(length)
    return lambda: torch.add(x, y, alpha=3.0, out=out)
