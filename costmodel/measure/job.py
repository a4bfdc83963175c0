"""One measurement: what to measure, and how to do it in this process."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from costmodel.errors import CostModelError
from costmodel.measure import host
from costmodel.measure.timing import cuda_clock, time_calls, wall_clock


@dataclass(frozen=True, slots=True)
class Job:
    """A target under one execution. ``batch`` is ``None`` where its inputs say it.

    ``seconds`` is how long samples are taken at least.
    """

    target: str
    execution: str
    inputs: tuple[str, ...] = ()
    batch: int | None = None
    dtype: str = "fp32"
    layout: str = "nchw"
    threads: int = 1
    mode: str = "eval"
    device: str = "cpu"
    seconds: float = 0.5


def describe(job: Job) -> dict[str, str]:
    """The columns that tell the measurement from others, without doing it.

    Raises `CostModelError` where the target or the runtime cannot be had.
    """
    from costmodel.measure.runtimes import refuse, software

    refuse(job.execution, job.dtype, job.layout, job.mode, job.device)
    shape, batch = _shape(job.target, job.inputs, job.batch)
    return {
        "device": _device(job.device),
        "software": software(job.execution),
        "execution": job.execution,
        "dtype": job.dtype,
        "layout": job.layout,
        "threads": str(1 if job.device == "cuda" else job.threads),
        "model": job.target,
        "input_shape": shape,
        "batch": str(batch),
        "mode": job.mode,
    }


def perform(job: Job) -> tuple[dict[str, str], list[str]]:
    """Measure: the whole row, and words about noise. Raises `CostModelError` in one line."""
    import torch

    from costmodel.measure.pace import beside, probe, threads_beside
    from costmodel.measure.runtimes import prepare
    from costmodel.measure.weights import materialise

    row = describe(job)
    clock = wall_clock
    paces: dict[int, list[float]] = {}
    with ExitStack() as stack:
        model, inputs = materialise(job.target, job.inputs, job.batch)
        if job.device == "cuda":
            inputs = tuple(tensor.to("cuda") for tensor in inputs)
            clock = cuda_clock
        prepared = stack.enter_context(
            prepare(
                job.execution, model, inputs, threads=job.threads, dtype=job.dtype,
                layout=job.layout, mode=job.mode,
            )
        )  # fmt: skip
        team = threads_beside(job.execution, prepared.threads)
        if job.device == "cpu":
            pace, paces = probe(), {threads: [] for threads in sorted({1, team})}

        def aside() -> None:
            for threads, taken in paces.items():
                taken.append(pace(threads))

        load = stack.enter_context(host.watched())
        try:
            timing = time_calls(
                prepared.run, min_seconds=job.seconds, max_seconds=max(10.0, 4 * job.seconds),
                clock=clock, aside=aside if paces else None,
            )  # fmt: skip
        except Exception as error:
            said = " ".join(str(error).split())[:300]
            raise CostModelError(
                f"{job.target} stopped while it was timed: {type(error).__name__}: {said}"
            ) from error

    def rounds(taken: Sequence[float] | None) -> str:
        return f"{beside(taken, timing.median_s):.6g}" if taken else ""

    where = torch.cuda.get_device_name() if job.device == "cuda" else host.cpu_model()
    row |= {
        "threads": str(prepared.threads),
        "latency_ms": f"{timing.median_s * 1e3:.6g}",
        "statistic": "median",
        "source": f"measured {dt.date.today():%Y-%m-%d} on {where}",
        "p10_ms": f"{timing.p10_s * 1e3:.6g}",
        "p90_ms": f"{timing.p90_s * 1e3:.6g}",
        "runs": str(timing.runs),
        "probe_ms": rounds(paces.get(team)),
        "probe_1_ms": rounds(paces.get(1) if team > 1 else None),
    }
    return row, host.remarks(load, timing)


@lru_cache(maxsize=64)
def _shape(target: str, shapes: tuple[str, ...], batch: int | None) -> tuple[str, int]:
    """The input shape without its batch, as the run format writes it, and the batch."""
    import torch
    from torch.utils import _pytree as pytree

    from costmodel import api

    inputs = api.prepare(target, shapes or None, batch=batch).inputs
    tensors = [
        leaf
        for leaf in pytree.tree_leaves((inputs.args, dict(inputs.kwargs or {})))
        if isinstance(leaf, torch.Tensor) and leaf.ndim
    ]
    if not tensors:
        raise CostModelError(f"{target} takes no tensor; give its shape with --input")
    return " ".join(map(_text, tensors)), tensors[0].shape[0]


def _text(tensor: Any) -> str:
    dtype = str(tensor.dtype).removeprefix("torch.")
    prefix = "" if dtype == "float32" else f"{dtype}:"
    return prefix + ("x".join(map(str, tensor.shape[1:])) or "1")


def _device(name: str) -> str:
    """``host``, or the GPU's profile. Raises `CostModelError` where there is no GPU."""
    host.check_device(name)
    if name == "cpu":
        return "host"
    import torch

    return host.gpu_device(torch.cuda.get_device_name())
