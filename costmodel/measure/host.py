"""The machine in hand: which cores to run on, what it is called, and who else uses it."""

from __future__ import annotations

import os
import platform
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from costmodel.errors import CostModelError
from costmodel.measure.timing import Timing

#: Cores of foreign load, and the spread of the samples, above which a result is called noisy.
BUSY, STOLEN, SPREAD = 0.25, 0.02, 0.2
#: GPUs whose driver's name is not the profile's.
_GPUS = {
    "h100 80gb hbm3": "h100-sxm",
    "h200": "h200-sxm",
    "rtx pro 6000 blackwell max-q workstation edition": "rtx-pro-6000-maxq",
    "amd instinct mi300x": "mi300x",
}
_SIBLINGS = "/sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"


def cores() -> list[int]:
    """Logical cores that this process may run on, the second threads of a core last."""
    try:
        allowed = sorted(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS
        return list(range(os.cpu_count() or 1))
    return sorted(allowed, key=lambda number: (not _is_first(number), number))


def _is_first(number: int) -> bool:
    try:
        siblings = Path(_SIBLINGS.format(number)).read_text()
    except OSError:
        return True
    return int(re.split(r"[,-]", siblings.strip())[0]) == number


def default_threads() -> int:
    """One thread a physical core that this process may run on."""
    return sum(map(_is_first, cores()))


def check_threads(threads: int) -> None:
    """Raise `CostModelError` where there are fewer cores than threads."""
    if threads > (available := len(cores())):
        raise CostModelError(
            f"--threads {threads}: this process may use {available} cores; give at most that"
        )


def pin(threads: int) -> None:
    """Keep this process, and what it starts, on as many cores as it has threads."""
    with suppress(AttributeError):
        os.sched_setaffinity(0, cores()[:threads])


def cpu_model() -> str:
    """The processor's name as the operating system gives it."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            name, _, value = line.partition(":")
            if name.strip() in ("model name", "Model") and value.strip():
                return value.strip()
    return platform.processor() or platform.machine()


def gpu_device(title: str) -> str:
    """The profile of a GPU by the name that its driver gives, else that name in our spelling.

    ``NVIDIA GeForce RTX 4090`` is ``rtx4090``, ``Tesla V100-SXM2-16GB`` is ``v100-sxm2-16gb``.
    """
    from costmodel.hardware import profile_names

    name = re.sub(r"nvidia|geforce|tesla", "", title.lower()).strip()
    name = _GPUS.get(name, re.sub(r"sxm[34]", "sxm", name))
    plain = re.sub(r"[^a-z0-9]", "", name)
    for profile in profile_names():
        if profile.replace("-", "") == plain:
            return profile
    return re.sub(r"[^a-z0-9]+", "-", name).strip("-")


def check_device(device: str) -> None:
    """Raise `CostModelError` where CUDA is asked for and there is no GPU. Imports torch then."""
    if device == "cuda":
        import torch

        if not torch.cuda.is_available():
            raise CostModelError("no CUDA GPU here; leave --device out")


@dataclass
class Load:
    """Cores that other processes used on average, and that the hypervisor kept from us."""

    others: float = 0.0
    stolen: float = 0.0


@contextmanager
def watched() -> Iterator[Load]:
    """Fills a `Load` at the end of the block; zeros where the system does not say."""
    load = Load()
    before, began = _jiffies(), time.perf_counter()
    mine = sum(os.times()[:4])
    yield load
    seconds = max(time.perf_counter() - began, 1e-9)
    after = _jiffies()
    if before and after:
        busy, stolen = (after[i] - before[i] for i in range(2))
        load.others = max(0.0, (busy - (sum(os.times()[:4]) - mine)) / seconds)
        load.stolen = max(0.0, stolen / seconds)


def _jiffies() -> tuple[float, float] | None:
    """Seconds that all cores were busy, and that a hypervisor kept from them, since boot."""
    try:
        fields = Path("/proc/stat").read_text().splitlines()[0].split()[1:]
        ticks = [int(value) / os.sysconf("SC_CLK_TCK") for value in fields]
    except (OSError, ValueError, IndexError):
        return None
    user, nice, system, _, _, irq, soft, stolen = ticks[:8]
    return user + nice + system + irq + soft, stolen


def remarks(load: Load, timing: Timing) -> list[str]:
    """One line if the machine was too noisy for the result to be relied on, else none."""
    reasons = []
    if not timing.stable:
        reasons.append("the time never settled")
    if timing.spread > SPREAD:
        reasons.append(f"p10 to p90 is {timing.spread:.0%} of the median")
    if load.others > BUSY:
        reasons.append(f"other processes used {load.others:.1f} cores")
    if load.stolen > STOLEN:
        reasons.append(f"the hypervisor took {load.stolen:.2f} cores")
    return [f"noisy, measure again on an idle machine: {', '.join(reasons)}"] if reasons else []
