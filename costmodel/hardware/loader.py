"""Device profiles by name or by file: shipped or installed ones, and the machine in hand."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache
from importlib.metadata import entry_points
from os import PathLike, fspath
from pathlib import Path
from typing import Any

from costmodel.errors import CostModelError
from costmodel.hardware.catalog import FOLDER, nearest
from costmodel.hardware.checked import check_file
from costmodel.hardware.host import HOST, load_host
from costmodel.hardware.schema import Profile

#: Other distributions add profiles here: a folder of YAML files, or a function returning paths.
ENTRY_POINT_GROUP = "costmodel.hardware"


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
