"""The measured runs that belong beside a prediction."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from costmodel.errors import CostModelError

if TYPE_CHECKING:
    from costmodel.ir import TensorSpec
    from costmodel.prediction import Prediction
    from costmodel.validate.runs import Run


def read_runs(files: Sequence[str | Path]) -> list[Run]:
    """The networks' runs of CSV files in the run format. Raises `CostModelError`."""
    from costmodel.validate.runs import read

    return [run for file in files for run in read(file)[0] if run.convolution is None]


def matching(
    runs: Sequence[Run], target: str, inputs: Sequence[TensorSpec], prediction: Prediction
) -> list[dict[str, Any]]:
    """Runs of the same model, input, batch, device, execution, dtype and layout.

    Threads must agree where the run names them.
    """
    shapes = ["x".join(map(str, spec.shape[1:])) for spec in inputs]
    found = []
    for run in runs:
        same = (
            run.model == target
            and run.input_shape.rpartition(":")[2] in shapes
            and run.batch == prediction.batch
            and _engine(run.device) == prediction.hw
            and run.execution == prediction.execution
            and run.dtype == prediction.dtype
            and run.layout == prediction.layout
            and run.threads in (None, prediction.threads)
        )
        if same:
            found.append(
                {
                    "latency_s": run.latency_ms * 1e-3,
                    "statistic": run.statistic,
                    "software": run.software,
                    "source": run.source,
                }
            )
    return found


def _engine(device: str) -> str:
    """``rpi4`` is ``rpi4:cpu``; an unknown device is itself and matches nothing."""
    from costmodel.hardware import resolve

    try:
        profile, engine = resolve(device)
    except CostModelError:
        return device
    return f"{profile.name}:{engine}"
