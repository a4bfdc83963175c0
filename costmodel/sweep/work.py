"""One task of a sweep: a network, traced once, on every device and in every dtype asked for.

This is all that a worker runs, whoever started it. It never raises: a network that cannot be
analysed is a row with the reason.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from costmodel.errors import CostModelError
from costmodel.table import CostTable, cost

#: Columns of a sweep and their types: the schema of the file.
COLUMNS: Mapping[str, type] = {
    "target": str, "input": str, "hw": str, "dtype": str, "execution": str, "layout": str,
    "threads": int, "macs": int, "ops": int, "flops": int, "params": int, "bytes_read": int,
    "bytes_written": int, "peak_activation_bytes": int, "memory_bytes": int, "complete": bool,
    "latency_s": float, "low_s": float, "high_s": float, "energy_j": float, "basis": str,
    "validated": str, "error": str,
}  # fmt: skip
KEY = ("target", "input", "hw", "dtype")

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Task:
    """A network and where to predict it. ``input`` is empty for the network's own input.

    ``settings`` are pairs of a device and a dtype; an empty dtype is the device's default.
    """

    target: str
    input: str
    settings: tuple[tuple[str, str], ...]

    @property
    def keys(self) -> list[tuple[str, str, str, str]]:
        """The keys of its rows."""
        return [(self.target, self.input, hw, dtype) for hw, dtype in self.settings]


def work(task: Task) -> list[Row]:
    """The rows of a task, in the order of its settings."""
    try:
        table = _table(task)
        common = _counts(table)
    except CostModelError as error:
        return [_row(task, hw, dtype, {"error": str(error)}) for hw, dtype in task.settings]
    except Exception as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        return [_row(task, hw, dtype, {"error": reason}) for hw, dtype in task.settings]
    return [
        _row(task, hw, dtype, common | _prediction(table, hw, dtype)) for hw, dtype in task.settings
    ]


def _table(task: Task) -> CostTable:
    from costmodel import cache
    from costmodel.api import trace

    def make() -> Any:
        # What a model's own code prints or warns of must not end up in the data.
        quiet = io.StringIO()
        with (
            contextlib.redirect_stdout(quiet),
            contextlib.redirect_stderr(quiet),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")
            return _first(
                lambda text: trace(text, task.input or None), _spellings(task.target, task.input)
            )

    return cost(cache.cached(task.target, {"sweep": task.input}, make))


def _first(make: Any, texts: Sequence[str]) -> Any:
    """What the first text that works makes; the first failure if none does."""
    failure: CostModelError | None = None
    for text in texts:
        try:
            return make(text)
        except CostModelError as error:
            failure = failure or error
    assert failure is not None
    raise failure


def _spellings(target: str, shape: str) -> list[str]:
    """The target, and for timm also built for the image size, as position embeddings need."""
    dims = shape.rpartition(":")[2].split("x")
    if not target.startswith("timm:") or "(" in target or len(dims) != 4:
        return [target]
    return [target, f"{target}(img_size=({dims[2]},{dims[3]}))"]


def _counts(table: CostTable) -> Row:
    total = table.total
    return {
        "macs": int(total.macs),
        "ops": int(total.ops),
        "flops": int(total.flops),
        "params": int(total.params),
        "bytes_read": int(total.bytes_read),
        "bytes_written": int(total.bytes_written),
        "peak_activation_bytes": table.peak_activation_bytes,
        "complete": table.complete,
    }


def _prediction(table: CostTable, hw: str, dtype: str) -> Row:
    from costmodel.execution.formats import AMP, BYTES
    from costmodel.roofline import predict

    try:
        found = predict(table, hw, dtype=dtype or None)
    except CostModelError as error:
        return {"error": str(error)}
    except Exception as error:
        return {"error": f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"}
    width = BYTES[AMP.get(found.dtype, found.dtype)]
    weights = sum(int(w.numel) for w in table.info.weights)
    memory = weights * width + (table.peak_activation_bytes or 0) * width / 4
    return {
        "execution": found.execution, "layout": found.layout, "threads": found.threads,
        "memory_bytes": int(memory), "latency_s": found.latency_s, "low_s": found.interval_s[0],
        "high_s": found.interval_s[1], "energy_j": found.energy_j, "basis": found.basis,
        "validated": found.validated,
    }  # fmt: skip


def _row(task: Task, hw: str, dtype: str, values: Row) -> Row:
    key = {"target": task.target, "input": task.input, "hw": hw, "dtype": dtype}
    return {name: (key | values).get(name) for name in COLUMNS}
