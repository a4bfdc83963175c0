"""The machine in hand as a profile: from its stored calibration, else as far as it can be detected.

Detection finds what the system tells, and assumes the rest: every figure's source says which.
``COSTMODEL_HOST`` names another file for the calibration.
"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from costmodel.errors import CostModelError
from costmodel.hardware.catalog import FOLDER, core
from costmodel.hardware.checked import check, check_file
from costmodel.hardware.processor import Cores, Facts, facts
from costmodel.hardware.records import read_mapping
from costmodel.hardware.schema import CpuEngine, Profile

#: The name of its profile; there is no file of that name among the profiles.
HOST = "host"
#: What a prediction says that rests on detection alone.
UNCALIBRATED = "host: detected, not calibrated; costmodel hw calibrate measures it"
_SERVER = ("epyc", "xeon", "neoverse", "graviton", "ampere")


def load_host() -> Profile:
    """This machine: its stored calibration if that was made on it, else what is detected.

    The detected profile says in its notes that it is not calibrated, and why. Raises
    `CostModelError` where nothing can be detected or the stored file is malformed.
    """
    found = detect()
    path = stored()
    if not path.is_file():
        return found
    kept = _cached(path, path.stat().st_mtime_ns)
    if same_machine(kept, found):
        return kept
    other = f"host: detected; {path} is of another machine ({kept.chip}, {_count(kept)} cores)"
    return found.model_copy(update={"notes": f"{other}: costmodel hw calibrate measures this one"})


def stored() -> Path:
    """Where the calibration of this machine is kept: a configuration file of the user's."""
    chosen = os.environ.get("COSTMODEL_HOST")
    if chosen:
        return Path(chosen)
    if sys.platform == "darwin":
        base = Path.home() / "Library" / "Application Support"
    elif sys.platform == "win32":
        base = Path(os.environ.get("APPDATA") or Path.home() / "AppData" / "Roaming")
    else:
        base = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    return base / "costmodel" / "host.yaml"


def same_machine(one: Profile, other: Profile) -> bool:
    """Whether two profiles are of the same processor with as many cores."""
    return (one.chip, _count(one)) == (other.chip, _count(other))


@cache
def detect() -> Profile:
    """What this machine tells of itself, without any measurement."""
    return profile_of(facts())


def profile_of(found: Facts) -> Profile:
    """The profile that a machine's facts give."""
    return check(document(found), Path(HOST))


def document(found: Facts) -> dict[str, Any]:
    """The profile of a machine as plain values, each figure's source saying how sure it is."""
    known, assumed = _known(found), _table()["otherwise"]
    groups = sorted(
        (_cluster(group, found, known) for group in found.cores),
        key=lambda c: -core(c["core"]).flops_per_cycle["fp32"] * c["clock_ghz"],
    )
    clusters = _within(groups, found.quota)
    count = sum(cluster["count"] for cluster in clusters)
    server = any(name in found.model.lower() for name in _SERVER)
    rate, why = _bandwidth(known, assumed, server, count)
    engine: dict[str, Any] = {"kind": "cpu", "clusters": clusters}
    if found.l3_mb:
        engine |= {"l3_mb": found.l3_mb, "l3_count": found.l3_count}
    return {
        "schema": 1,
        "name": HOST,
        "title": f"This machine, {found.model}",
        "kind": "host",
        "chip": _chip(found),
        "process_nm": known.get("process_nm", assumed["process_nm"]),
        "default": {"engine": "cpu", "execution": "eager", "layout": "nchw", "threads": count,
                    "dtype": "fp32"},
        "memory": {"type": known.get("memory", assumed["memory"]),
                   "capacity_gb": round(found.memory_gb, 1), "gb_per_s": rate},
        "engines": {"cpu": engine},
        "power": {"max_w": float(assumed["watts_a_core"] * count)},
        "notes": UNCALIBRATED,
        "sources": {
            "process_nm": "derived: of this line of processors" if "process_nm" in known
            else "derived: assumed, unknown for this processor",
            "memory.capacity_gb": "detected: what the operating system tells",
            "memory.gb_per_s": f"derived: assumed, {why}",
            "engines.cpu": f"detected: what the operating system tells{_threads(found)}",
            "engines.cpu.clusters": f"detected: the system's cores and caches{_limited(found)}",
            **_clock_sources(found, clusters),
            "power.max_w": f"derived: assumed, {assumed['watts_a_core']} W a core",
        },
    }  # fmt: skip


def as_yaml(document: Mapping[str, Any]) -> str:
    """A profile's plain values as the text of its file."""
    return yaml.safe_dump(dict(document), sort_keys=False, allow_unicode=True, width=100)


@cache
def _cached(path: Path, _modified: int) -> Profile:
    return check_file(path)


@cache
def _table() -> dict[str, Any]:
    return read_mapping(FOLDER / "cpus.yaml")


def _count(profile: Profile) -> int:
    return sum(e.cores for e in profile.engines.values() if isinstance(e, CpuEngine))


def _chip(found: Facts) -> str:
    """The processor's name, with CPUID's numbers, as hypervisors hide names."""
    if found.family is None:
        return found.model
    return f"{found.model} (family {found.family}, model {found.number})"


def _known(found: Facts) -> dict[str, Any]:
    """The line of ``cpus.yaml`` for this processor; empty where there is none."""
    for line in _table()["x86"]:
        same = (line["vendor"], line["family"]) == (found.vendor, found.family)
        if same and any(low <= (found.number or 0) <= high for low, high in line["models"]):
            return dict(line)
    for name, line in _table()["apple"].items():
        if found.model.startswith(f"Apple {name}"):
            return dict(line)
    return {}


def _cluster(group: Cores, found: Facts, known: Mapping[str, Any]) -> dict[str, Any]:
    clock = group.clock_ghz or _table()["otherwise"]["clock_ghz"]
    named = {
        "core": _core_of(group.kind, found, known),
        "count": group.count,
        "clock_ghz": round(clock, 3),
        "l1d_kb": group.l1d_kb,
    }
    return named | ({"l2_kb": group.l2_kb, "l2_shared": group.l2_shared} if group.l2_kb else {})


def _core_of(kind: str, found: Facts, known: Mapping[str, Any]) -> str:
    """The core of ``cores.yaml``: the known one, else a generic one of the widest vectors."""
    part = _table()["arm"].get(kind)
    if part is not None:
        return str(part)
    slow = kind in ("x86-efficient", "efficiency")
    if "amx" in known and "amx_tile" in found.flags:  # a hypervisor may hide it
        return str(known["amx"])
    if "core" in known:
        return str(known.get("efficient", known["core"]) if slow else known["core"])
    for flag, name in _table()["otherwise"]["cores"].items():
        if any(have.startswith(flag) for have in found.flags):
            return str(name)
    machine = platform.machine()
    raise CostModelError(
        f"cannot tell what cores {found.model} ({machine}) has: no AVX2 and no Advanced SIMD; "
        "describe it in a profile file (--hw my.yaml)"
    )


def _within(clusters: list[dict[str, Any]], quota: float | None) -> list[dict[str, Any]]:
    """The fastest cores, as many as the quota of time amounts to, one at least."""
    if quota is None:
        return clusters
    left, kept = max(1, int(quota)), []
    for cluster in clusters:
        taken = min(left, cluster["count"])
        if taken:
            kept.append({**cluster, "count": taken})
        left -= taken
    return kept


def _bandwidth(
    known: Mapping[str, Any], assumed: Mapping[str, Any], server: bool, count: int
) -> tuple[float, str]:
    if "gb_per_s" in known:
        return float(known["gb_per_s"]), "the plain chip of this name"
    if not server:
        return float(assumed["desktop_gb_per_s"]), "two channels of DDR4-3200; not measured"
    own = assumed["server_gb_per_s_a_core"] * count
    if own < assumed["server_gb_per_s"]:
        each = assumed["server_gb_per_s_a_core"]
        return float(own), f"{each} GB/s for each core of a server; not measured"
    return float(assumed["server_gb_per_s"]), "eight channels of DDR4-3200; not measured"


def _threads(found: Facts) -> str:
    total = sum(group.count for group in found.cores)
    many = found.threads // max(total, 1)
    return f"; {many} threads a core" if many > 1 else ""


def _limited(found: Facts) -> str:
    if found.quota is None:
        return ""
    return f", within a control group's quota of {found.quota:g} cores"


def _clock_sources(found: Facts, clusters: list[dict[str, Any]]) -> dict[str, str]:
    """Where the clocks are from, one entry a cluster, and what is unknown about them."""
    guest = " in a virtual machine" if found.virtual else ""
    said = {
        "cpufreq": "detected: the highest that cpufreq gives",
        "sysctl": "detected: the highest that sysctl gives",
        "cpuinfo": f"detected: /proc/cpuinfo{guest}; the boost clock is unknown",
        "nothing": "derived: assumed; the system tells no clock",
    }[found.clock_from]
    return {f"engines.cpu.clusters.{i}.clock_ghz": said for i in range(len(clusters))}
