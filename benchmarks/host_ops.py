"""Time networks op by op on this machine, for how near predictions come to each op.

    python benchmarks/host_ops.py benchmarks/host/HOST

writes ``ops.json`` into the folder: ten networks at every setting in `SETTINGS`, each measured and
profiled as ``costmodel validate --measure`` does. ``host_accuracy.py`` puts what they say about the
predictions of the folder's profile into ``host.md``, the experiment on bounds among it
(`costmodel.validate.bounds`).
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from costmodel.files import write_atomic
from costmodel.measure.job import Job
from costmodel.measure.per_op import OpRun
from costmodel.measure.worker import Worker
from costmodel.validate.bounds import Case, Trial, cases
from costmodel.validate.measured import Network, Timed, predicted, timed

NETWORKS = (
    "resnet18", "resnet50", "mobilenetv2_100", "mobilenetv3_large_100", "efficientnet_b0",
    "regnety_008", "vit_tiny_patch16_224", "mixer_s32_224", "convnext_atto", "densenet121",
)  # fmt: skip
#: Threads and batch.
Place = tuple[int, int]
SETTINGS: tuple[Place, ...] = ((1, 1), (1, 8), (2, 1), (2, 8))
#: What changes a bound: another batch, or other threads.
EXPERIMENTS: dict[str, tuple[Place, Place]] = {
    "one thread, batch 8, then 1": ((1, 8), (1, 1)),
    "one thread, batch 1, then 8": ((1, 1), (1, 8)),
    "batch 8, one thread, then two": ((1, 8), (2, 8)),
    "batch 8, two threads, then one": ((2, 8), (1, 8)),
}
BOUNDS = {"compute": "arithmetic", "memory": "traffic", "overhead": "issuing"}
FILE = "ops.json"
HEAD = f"""\
### Op by op

{len(NETWORKS)} networks, each measured and profiled as `costmodel validate --measure` does
(`benchmarks/host_ops.py`). **by op**: the sum of the ops' absolute errors over the measured time.

| threads | batch | ops | networks' error | by op | at most |
|---:|---:|---:|---:|---:|---:|"""
TRIALS = f"""
### Whether the bound of an op holds

The same networks, an op a case (`costmodel.validate.bounds`): the share of cases whose time changes
as that of the bound foretells, by their number, by their time, and by the bound.

| experiment | ops | agree | of the time | {" | ".join(BOUNDS.values())} |
|---|---:|---:|---:|---:|---:|---:|"""


def main() -> None:
    """Time the networks, write the file."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    found = []
    for threads, batch in SETTINGS:
        for name in NETWORKS:
            job = Job(f"timm:{name}", "eager", batch=batch, threads=threads)
            print(f"{job.target}, batch {batch}, threads: {threads}", flush=True)
            with Worker(threads) as worker:
                found.append(timed(job, worker, print))
    write_atomic(folder / FILE, "[\n" + ",\n".join(map(_line, found)) + "\n]\n")


def section(folder: Path, profile: Path | str) -> Iterator[str]:
    """The lines on ops in ``host.md``; none for a machine whose ops were not timed."""
    if not (folder / FILE).exists():
        return
    networks: dict[Place, list[Network]] = {}
    for item in json.loads((folder / FILE).read_text()):
        found = _timed(item)
        place = found.job.threads, found.job.batch or 1
        networks.setdefault(place, []).append(predicted(found, str(profile)))
    yield HEAD
    for place, some in networks.items():
        ops = [network.ops for network in some if network.ops is not None]
        errors = [op.error for op in ops]
        whole = [abs(n.predicted.latency / n.predicted.row.measured - 1) for n in some]
        yield (
            f"| {place[0]} | {place[1]} | {sum(len(op.rows) for op in ops)} | "
            f"{statistics.mean(whole):.1%} | {statistics.mean(errors):.0%} | {max(errors):.0%} |"
        )
    yield TRIALS
    for text, (before, after) in EXPERIMENTS.items():
        if before in networks and after in networks:
            yield _trial(text, zip(networks[before], networks[after], strict=True))


def _trial(text: str, pairs: Iterator[tuple[Network, Network]]) -> str:
    tried = [case for pair in pairs for case in cases(*pair) if case.tries]
    whole = Trial(tuple(tried))
    shares = [_share([case for case in tried if case.bound == bound]) for bound in BOUNDS]
    return (
        f"| {text} | {len(tried)} | {whole.agreement:.0%} | {whole.agreement_by_time:.0%} | "
        f"{' | '.join(shares)} |"
    )


def _share(tried: Sequence[Case]) -> str:
    return f"{Trial(tuple(tried)).agreement:.0%}" if tried else "–"


def _line(found: Timed) -> str:
    """One network as JSON; an op is its name and two times in nanoseconds."""
    ops = [(op.name, round(op.seconds * 1e9), round(op.before_s * 1e9)) for op in found.ops or ()]
    return json.dumps({"job": asdict(found.job), "fields": found.fields, "ops": ops})


def _timed(item: dict[str, object]) -> Timed:
    job, fields, ops = item["job"], item["fields"], item["ops"]
    assert isinstance(job, dict)
    assert isinstance(fields, dict)
    assert isinstance(ops, list)
    runs = tuple(OpRun(name, ns * 1e-9, before * 1e-9) for name, ns, before in ops)
    return Timed(Job(**job | {"inputs": tuple(job["inputs"])}), fields, runs)


if __name__ == "__main__":
    main()
