"""What the operating system says of the processor in hand: facts, without any interpretation.

Cores are those that this process may use: its CPU affinity and its control group's quota count,
and the threads of one core are one core.
"""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from costmodel.errors import CostModelError


@dataclass(frozen=True)
class Cores:
    """Equal cores: a name of their kind, GHz at most (``None``: unknown), caches in KB.

    ``kind`` is ``x86``, ``x86-efficient``, ``performance``, ``efficiency`` or an Arm part
    (``"0x41:0xd0b"``).
    """

    kind: str
    count: int
    clock_ghz: float | None = None
    l1d_kb: float | None = None
    l2_kb: float | None = None
    l2_shared: bool = False


@dataclass(frozen=True)
class Facts:
    """A machine. ``quota`` is the number of cores' worth of time that a control group grants."""

    model: str
    vendor: str
    family: int | None
    number: int | None
    flags: frozenset[str]
    cores: tuple[Cores, ...]
    threads: int
    clock_from: str
    memory_gb: float
    l3_mb: float | None = None
    l3_count: int = 1
    quota: float | None = None
    virtual: bool = False


def facts() -> Facts:
    """The facts of this machine. Raises `CostModelError` where the system does not tell them."""
    match platform.system():
        case "Linux":
            return linux()
        case "Darwin":
            return mac(_sysctl())
    raise CostModelError(
        f"cannot detect the processor on {platform.system()}; describe it in a profile file and "
        "name that (--hw my.yaml)"
    )


def linux(root: Path = Path("/"), available: Collection[int] | None = None) -> Facts:
    """The facts that ``/proc`` and ``/sys`` under ``root`` tell. ``available`` are CPU numbers."""
    processors = {int(b["processor"]): b for b in _blocks(root / "proc/cpuinfo")}
    if available is None:
        available = os.sched_getaffinity(0)
    usable = sorted(set(available) & set(processors))
    if not usable:
        raise CostModelError(f"{root / 'proc/cpuinfo'} lists no processor that may be used")
    first = processors[usable[0]]
    flags = frozenset((first.get("flags") or first.get("features") or "").split())
    system = root / "sys/devices/system/cpu"
    slow = set(_numbers(_text(root / "sys/devices/cpu_atom/cpus")))
    per_core: dict[tuple[str, ...], int] = {}
    for cpu in usable:  # the threads of one core are one core
        topology = system / f"cpu{cpu}/topology"
        place = (_text(topology / "physical_package_id"), _text(topology / "core_id") or str(cpu))
        per_core.setdefault(place, cpu)
    groups: dict[tuple[str, float | None], list[int]] = {}
    for cpu in per_core.values():
        kind = _part(processors[cpu]) or ("x86-efficient" if cpu in slow else "x86")
        groups.setdefault((kind, _cpufreq(system / f"cpu{cpu}")), []).append(cpu)
    clock_from = "cpufreq"
    if any(clock is None for _, clock in groups):
        running = [float(b["cpu mhz"]) / 1000 for b in processors.values() if "cpu mhz" in b]
        clock_from = "cpuinfo" if running else "nothing"
        stated = max(running, default=None)
        groups = {(k, c or stated): cpus for (k, c), cpus in groups.items()}
    threads_a_core = max(1, round(len(usable) / len(per_core)))
    cores = tuple(
        Cores(kind, len(cpus), clock, *_caches(system / f"cpu{cpus[0]}/cache", threads_a_core))
        for (kind, clock), cpus in groups.items()
    )
    thirds = [_cache(system / f"cpu{cpu}/cache", 3) for cpu in usable]
    known = {shared: size for size, shared in filter(None, thirds)}
    return Facts(
        model=first.get("model name") or _text(root / "proc/device-tree/model") or "unknown CPU",
        vendor=first.get("vendor_id", first.get("cpu implementer", "")),
        family=_integer(first.get("cpu family")),
        number=_integer(first.get("model")),
        flags=flags,
        cores=cores,
        threads=len(usable),
        clock_from=clock_from,
        memory_gb=_memory_gb(root / "proc/meminfo"),
        l3_mb=max(known.values()) / 1024 if known else None,
        l3_count=max(1, len(known)),
        quota=_quota(root),
        virtual="hypervisor" in flags,
    )


def mac(said: dict[str, str]) -> Facts:
    """The facts in the output of ``sysctl`` on macOS, as name -> value."""
    try:
        memory = int(said["hw.memsize"]) / 1e9
        total = int(said["hw.physicalcpu"])
    except (KeyError, ValueError) as error:
        raise CostModelError(
            f"sysctl tells no {error}; describe the machine in a profile file (--hw my.yaml)"
        ) from error

    def level(index: int, kind: str, count: int) -> Cores:
        prefix = f"hw.perflevel{index}."
        l1 = int(said.get(f"{prefix}l1dcachesize", said.get("hw.l1dcachesize", 0)))
        l2 = int(said.get(f"{prefix}l2cachesize", said.get("hw.l2cachesize", 0)))
        shared = int(said.get(f"{prefix}cpusperl2", 1)) > 1
        return Cores(kind, count, _hertz(said), l1 / 1024 or None, l2 / 1024 or None, shared)

    if "hw.perflevel1.physicalcpu" in said:
        cores: tuple[Cores, ...] = (
            level(0, "performance", int(said["hw.perflevel0.physicalcpu"])),
            level(1, "efficiency", int(said["hw.perflevel1.physicalcpu"])),
        )
    else:
        cores = (level(0, "x86", total),)
    features = (
        said.get("machdep.cpu.features", "") + " " + said.get("machdep.cpu.leaf7_features", "")
    )
    l3 = int(said.get("hw.l3cachesize", 0)) / 2**20
    return Facts(
        model=said.get("machdep.cpu.brand_string", "unknown CPU"),
        vendor=said.get("machdep.cpu.vendor", "Apple"),
        family=_integer(said.get("machdep.cpu.family")),
        number=_integer(said.get("machdep.cpu.model")),
        flags=frozenset(features.lower().split()) or frozenset({"asimd"}),
        cores=cores,
        threads=int(said.get("hw.logicalcpu", total)),
        clock_from="sysctl" if _hertz(said) else "nothing",
        memory_gb=memory,
        l3_mb=l3 or None,
    )


def _sysctl() -> dict[str, str]:
    try:
        done = subprocess.run(
            ["sysctl", "hw", "machdep.cpu"], capture_output=True, text=True, timeout=10
        )
    except OSError as error:
        raise CostModelError(f"cannot run sysctl: {error.strerror}") from error
    lines = (line.partition(": ") for line in done.stdout.splitlines())
    return {name: value for name, _, value in lines}


def _hertz(said: dict[str, str]) -> float | None:
    return int(said["hw.cpufrequency_max"]) / 1e9 if "hw.cpufrequency_max" in said else None


def _text(path: Path) -> str:
    """What a small file holds; nothing where there is none."""
    try:
        return path.read_text(errors="replace").strip().rstrip("\0")
    except OSError:
        return ""


def _integer(text: str | None) -> int | None:
    return int(text) if text and text.isdigit() else None


def _blocks(path: Path) -> Iterator[dict[str, str]]:
    """The paragraphs of ``/proc/cpuinfo`` that describe a processor."""
    for block in _text(path).split("\n\n"):
        pairs = (line.partition(":") for line in block.splitlines())
        found = {key.strip().lower(): value.strip() for key, _, value in pairs}
        if found.get("processor", "").isdigit():
            yield found


def _part(block: dict[str, str]) -> str | None:
    """Implementer and part of an Arm core."""
    if "cpu part" not in block:
        return None
    return f"{block.get('cpu implementer', '')}:{block['cpu part']}".lower()


def _cpufreq(cpu: Path) -> float | None:
    text = _text(cpu / "cpufreq/cpuinfo_max_freq")
    return int(text) / 1e6 if text.isdigit() else None


def _caches(folder: Path, threads_a_core: int) -> tuple[float | None, float | None, bool]:
    """KB of the first and of the second level of one CPU, and whether cores share the second."""
    first, second = _cache(folder, 1), _cache(folder, 2)
    shared = second is not None and len(list(_numbers(second[1]))) > threads_a_core
    return first[0] if first else None, second[0] if second else None, shared


def _cache(folder: Path, level: int) -> tuple[float, str] | None:
    """KB of the data cache of a level, and the CPUs that share it."""
    for index in sorted(folder.glob("index*")):
        same = _text(index / "level") == str(level)
        size = _text(index / "size")
        if same and _text(index / "type") != "Instruction" and size:
            unit = {"K": 1.0, "M": 1024.0}.get(size[-1])
            kb = float(size[:-1]) * unit if unit else float(size) / 1024
            return kb, _text(index / "shared_cpu_list")
    return None


def _numbers(text: str) -> Iterator[int]:
    """``"0-3,8"`` as 0, 1, 2, 3, 8."""
    for part in filter(None, text.split(",")):
        low, _, high = part.partition("-")
        yield from range(int(low), int(high or low) + 1)


def _memory_gb(path: Path) -> float:
    for line in _text(path).splitlines():
        name, _, rest = line.partition(":")
        if name == "MemTotal":
            return int(rest.split()[0]) * 1024 / 1e9
    raise CostModelError(f"{path} does not tell the size of the memory")


def _quota(root: Path) -> float | None:
    """Cores' worth of time by the control groups of this process, version 2 or 1."""
    limits = []
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        unified = controllers == ""
        if not unified and "cpu" not in controllers.split(","):
            continue
        top = root / "sys/fs/cgroup" / ("" if unified else "cpu")
        place = top / path.lstrip("/")
        while True:
            if unified:
                quota, _, period = _text(place / "cpu.max").partition(" ")
            else:
                quota = _text(place / "cpu.cfs_quota_us")
                period = _text(place / "cpu.cfs_period_us")
            if quota.isdigit() and period.isdigit():
                limits.append(int(quota) / int(period))
            if place == top:
                break
            place = place.parent
    return min(limits, default=None)
