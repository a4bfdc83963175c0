"""The parts that many devices share, looked up by name: CPU cores, GPU architectures, hosts."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

from costmodel.errors import CostModelError
from costmodel.hardware.records import RecordT, build, read_mapping, require_sources
from costmodel.hardware.schema import Core, GpuArchitecture, Host

FOLDER = Path(__file__).parent


@cache
def core(name: str) -> Core:
    """The CPU core called ``name`` (``cores.yaml``). Raises `CostModelError` when unknown."""
    return _entry(Core, FOLDER / "cores.yaml", name, "core")


@cache
def architecture(name: str) -> GpuArchitecture:
    """The GPU generation called ``name`` (``architectures.yaml``). Raises `CostModelError`."""
    return _entry(GpuArchitecture, FOLDER / "architectures.yaml", name, "GPU architecture")


@cache
def usual_host(kind: str) -> Host:
    """The core that issues a board's kernels in a usual ``"server"`` or ``"desktop"``."""
    return _entry(Host, FOLDER / "hosts.yaml", kind, "host")


def core_names() -> list[str]:
    """Every core that a cluster may name."""
    return list(_file(FOLDER / "cores.yaml"))


def architecture_names() -> list[str]:
    """Every architecture that a GPU engine may name."""
    return list(_file(FOLDER / "architectures.yaml"))


def nearest(name: str, known: Iterable[str]) -> str:
    """The end of an error message: the known names most like ``name``."""
    close = difflib.get_close_matches(name.lower(), list(known), n=3, cutoff=0.5)
    return f"; did you mean {' or '.join(close)}?" if close else ""


@cache
def _file(path: Path) -> dict[str, Any]:
    return read_mapping(path)


def _entry(model: type[RecordT], path: Path, name: str, what: str) -> RecordT:
    entries = _file(path)
    if name not in entries:
        raise CostModelError(f"no {what} is called {name!r}{nearest(name, entries)}")
    data = _inherit(entries, name)
    record = build(model, data, path, f"{name}.")
    require_sources(data, path, f"{name}.")
    return record


def _inherit(entries: dict[str, Any], name: str) -> dict[str, Any]:
    """The entry with what it does not say itself taken from the one that it is ``like``."""
    own = dict(entries[name])
    parent = own.pop("like", None)
    if parent is None:
        return own
    inherited = _inherit(entries, parent)
    sources = {**inherited["sources"], **own.pop("sources", {})}
    return {**inherited, **own, "sources": sources}
