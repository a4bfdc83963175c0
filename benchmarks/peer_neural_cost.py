"""neural-cost's zero-shot prediction of networks that were measured here, beside ours.

    python -m venv peer && peer/bin/pip install neural-cost==0.11.1 torch==2.13.0 timm
    peer/bin/python benchmarks/peer_neural_cost.py predict RUNS.csv [--threads 1] > peer.csv
    python benchmarks/peer_neural_cost.py compare RUNS.csv peer.csv --hw host.yaml

``predict`` runs in the peer's own environment, from which this project must be importable (for
the models and their weights alone): the peer calibrates itself by its own microbenchmarks, and
predicts each eager row as its validation does, from per-op costs and the kernels that it counts.
``compare`` prints both errors on the rows that both predict.
"""

from __future__ import annotations

import argparse
import csv
import statistics
import sys
from collections.abc import Iterator, Sequence


def main() -> None:
    """Read the arguments and do one of the two."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("what", choices=("predict", "compare"))
    parser.add_argument("runs")
    parser.add_argument("peer", nargs="?")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--hw", default="host")
    arguments = parser.parse_args()
    if arguments.what == "predict":
        predict(arguments.runs, arguments.threads)
    else:
        compare(arguments.runs, arguments.peer, arguments.hw)


def predict(runs: str, threads: int) -> None:
    """One line a row: model, batch, predicted milliseconds, or why there is none."""
    import torch
    from neural_cost import detect_hardware
    from neural_cost.adapters import TorchAdapter
    from neural_cost.validation import ValidationCase

    from costmodel.measure.weights import materialise

    torch.set_num_threads(threads)
    adapter = TorchAdapter(use_profiler=False)
    hardware, _ = detect_hardware()
    calibration = adapter.calibrate("cpu")
    out = csv.writer(sys.stdout)
    out.writerow(("model", "batch", "predicted_ms", "why"))
    for model, batch, measured in _eager(runs):
        try:
            module, inputs = materialise(model, (), batch)
            module.eval()
            with torch.inference_mode():
                operations = adapter.operations(module, inputs)
                kernels = adapter.trace_kernels(module, inputs)
            case = ValidationCase.from_operations(
                model, operations, measured / 1e3, hardware, kernels=len(kernels),
                calibration=calibration,
                extra_kernels=[(k.bytes, k.python_dispatch) for k in kernels if not k.heavy],
            )  # fmt: skip
            out.writerow((model, batch, case.calibrated_seconds * 1e3, ""))
        except Exception as error:
            out.writerow((model, batch, "", f"{type(error).__name__}: {error}"[:200]))
        sys.stdout.flush()


def _eager(runs: str) -> Iterator[tuple[str, int, float]]:
    with open(runs, newline="") as file:
        for row in csv.DictReader(file):
            if row["execution"] == "eager":
                yield row["model"], int(row["batch"]), float(row["latency_ms"])


def compare(runs: str, peer: str, hw: str) -> None:
    """Print mean and median error of both, over the rows that both predict."""
    from costmodel.validate import validate

    with open(peer, newline="") as file:
        theirs = {
            (row["model"], int(row["batch"])): float(row["predicted_ms"])
            for row in csv.DictReader(file)
            if row["predicted_ms"]
        }
    found, _ = validate([runs], hw=hw)
    pairs = [
        (abs(item.latency / item.row.measured - 1),
         abs(theirs[key] / item.row.run.latency_ms - 1))
        for group in found.groups
        if group.execution == "eager"
        for item in group.predicted
        if (key := (item.row.run.model, item.row.run.batch)) in theirs
    ]  # fmt: skip
    if not pairs:
        sys.exit("no row is predicted by both")
    print(f"{len(pairs)} rows that both predict")
    for name, errors in zip(("costmodel", "neural-cost 0.11.1"), zip(*pairs, strict=True),
                            strict=True):  # fmt: skip
        print(_line(name, errors))


def _line(name: str, errors: Sequence[float]) -> str:
    mean, median = statistics.mean(errors), statistics.median(errors)
    return f"{name:20s} MAPE {mean:6.1%}   median {median:6.1%}"


if __name__ == "__main__":
    main()
