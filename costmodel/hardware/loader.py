"""Device profiles by name or by file, checked: no unknown key, no figure without a source."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from importlib.metadata import entry_points
from os import PathLike, fspath
from pathlib import Path
from typing import Any

from costmodel.errors import CostModelError
from costmodel.hardware.catalog import FOLDER, architecture, core, nearest
from costmodel.hardware.energy import memory_types
from costmodel.hardware.records import build, read_mapping, require_sources
from costmodel.hardware.schema import CpuEngine, GpuEngine, Memory, Profile

#: Other distributions add profiles here: a folder of YAML files, or a function returning paths.
ENTRY_POINT_GROUP = "costmodel.hardware"
#: The profile of the machine in hand (`costmodel.hardware.host`); there is no file of that name.
HOST = "host"
#: How far a stated bandwidth may sit from transfer rate x bus width (data sheets round).
_BANDWIDTH_TOLERANCE = 0.02


def profile_names() -> list[str]:
    """The names of all installed profiles, sorted. Reads no file."""
    return sorted(profile_paths())


def profile_paths() -> dict[str, Path]:
    """Installed profiles: name to file. Ours win over a third party's of the same name."""
    found: dict[str, Path] = {}
    for point in entry_points(group=ENTRY_POINT_GROUP):
        for path in _files_of(point.load(), point.name):
            found.setdefault(path.stem, path)
    return {**found, **_shipped()}


def load_profile(name_or_path: str | Path) -> Profile:
    """The profile called ``pixel8``, of the file ``./my.yaml``, or of this machine (``host``).

    Raises `CostModelError` when there is none (offering the nearest names) or when the file is
    malformed (naming the file, the key and the reason).
    """
    text = str(name_or_path)
    if isinstance(name_or_path, Path) or text.endswith((".yaml", ".yml")):
        return check_file(Path(name_or_path))
    if text.lower() == HOST:
        from costmodel.hardware.host import load_host

        return load_host()
    path = _shipped().get(text.lower()) or profile_paths().get(text.lower())
    if path is None:
        raise CostModelError(
            f"no device is called {text!r}{nearest(text, [*profile_names(), HOST])}"
            " ('costmodel hw list' shows all; a file must end in .yaml)"
        )
    return _cached(path, path.stat().st_mtime_ns)


def resolve(hw: str | PathLike[str]) -> tuple[Profile, str]:
    """``"pixel8:gpu"``, ``"./my.yaml:gpu"`` or the path of a file as profile and engine name.

    Without an engine, the profile's default one. Raises `CostModelError` for an unknown device or
    an engine that the device lacks.
    """
    named = fspath(hw)
    name, separator, engine = named.rpartition(":")
    if not separator or "/" in engine or "\\" in engine:
        name, engine = named, ""
    profile = load_profile(name)
    chosen = engine.lower() or profile.default.engine
    if chosen not in profile.engines:
        raise CostModelError(
            f"{profile.name} has no engine {engine!r}; it has {', '.join(profile.engines)}"
        )
    return profile, chosen


def check_file(path: Path) -> Profile:
    """Read, check and complete the profile in ``path``. Raises `CostModelError` in one line."""
    return check(read_mapping(path), path)


def check(data: Mapping[str, Any], path: Path) -> Profile:
    """Check and complete the profile in ``data``, which came from ``path``. Raises as above."""
    profile = build(Profile, data, path)
    require_sources(data, path)
    if profile.default.engine not in profile.engines:
        raise CostModelError(
            f"{path}: default.engine: {profile.default.engine!r} is none of the engines"
            f" ({', '.join(profile.engines)})"
        )
    _check_memory(profile.memory, path, "memory")
    engines = {}
    for name, engine in profile.engines.items():
        where = f"engines.{name}"
        if not isinstance(engine, CpuEngine) and engine.memory is not None:
            _check_memory(engine.memory, path, f"{where}.memory")
        try:
            if isinstance(engine, CpuEngine):
                for index, cluster in enumerate(engine.clusters):
                    where = f"engines.{name}.clusters.{index}.core"
                    core(cluster.core)
            elif isinstance(engine, GpuEngine):
                where = f"engines.{name}.architecture"
                engine = _with_peaks(engine)
                if engine.host is not None:
                    where = f"engines.{name}.host.core"
                    core(engine.host.core)
        except CostModelError as error:
            raise CostModelError(f"{path}: {where}: {error}") from error
        engines[name] = engine
    return profile.model_copy(update={"engines": engines})


@cache
def _cached(path: Path, _modified: int) -> Profile:
    return check_file(path)


@cache
def _shipped() -> dict[str, Path]:
    return {path.stem: path for path in sorted((FOLDER / "profiles").glob("*.yaml"))}


def _files_of(value: Any, point: str) -> Iterator[Path]:
    places = value() if callable(value) else value
    if isinstance(places, (str, Path)):
        places = [places]
    if not isinstance(places, Iterable):
        raise CostModelError(
            f"entry point {ENTRY_POINT_GROUP}:{point} gives {places!r}; it must give a folder,"
            " or a function that returns paths"
        )
    for place in places:
        path = Path(place)
        if path.is_dir():
            yield from sorted(path.glob("*.yaml"))
        elif path.is_file():
            yield path
        else:
            raise CostModelError(f"entry point {ENTRY_POINT_GROUP}:{point}: no such path: {path}")


def _check_memory(memory: Memory, path: Path, where: str) -> None:
    known = memory_types()
    if memory.type not in known:
        raise CostModelError(
            f"{path}: {where}.type: {memory.type!r} is none of {', '.join(known)}; take the nearest"
        )
    if memory.bus_bits is None or memory.mt_per_s is None:
        return
    expected = memory.bus_bits * memory.mt_per_s / 8000
    if abs(memory.gb_per_s / expected - 1) > _BANDWIDTH_TOLERANCE:
        raise CostModelError(
            f"{path}: {where}.gb_per_s: is {memory.gb_per_s:g}, but {memory.bus_bits} bits at"
            f" {memory.mt_per_s:g} MT/s give {expected:.4g}; correct one of them"
        )


def _with_peaks(gpu: GpuEngine) -> GpuEngine:
    """Fill the peaks that the vendor does not publish from the architecture."""
    shared = architecture(gpu.architecture)
    cycles = gpu.multiprocessors * gpu.clock_ghz * 1e9

    def fill(published: dict[Any, float], per_cycle: dict[Any, float]) -> dict[Any, float]:
        return {dtype: flops * cycles / 1e12 for dtype, flops in per_cycle.items()} | published

    return gpu.model_copy(
        update={
            "vector_tflops": fill(gpu.vector_tflops, shared.vector_flops_per_cycle),
            "matrix_tflops": fill(gpu.matrix_tflops, shared.matrix_flops_per_cycle),
        }
    )
