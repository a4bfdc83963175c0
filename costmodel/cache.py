"""Traces on disk, found by content: what was traced, how, and by which versions of everything.

A cache may be shared by processes: an entry appears whole or not at all, and one that cannot be
read is traced again. Nothing in it is ever executed. ``COSTMODEL_CACHE`` names another folder.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import zlib
from collections.abc import Callable, Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from costmodel import rules, serial
from costmodel.errors import CostModelError
from costmodel.files import write_atomic
from costmodel.targets.call import Call, parse

if TYPE_CHECKING:
    import networkx as nx

#: Libraries that a trace depends on.
LIBRARIES = ("torch", "torchvision", "timm", "transformers")
#: Own modules that say what a trace holds. Cost rules do: which composite ops stay whole, and which
#: of two branches has more work.
SOURCES = (
    "control_flow.py", "conversions.py", "dataflow.py", "dispatch.py", "expressions.py",
    "identity.py", "inputs.py", "ir.py", "modules.py", "origins.py", "preserve.py", "recorder.py",
    "serial.py", "shapes.py", "targets", "tracer.py", "weights.py", "rules/registry.py",
    *(f"rules/{family}.py" for family in rules.FAMILIES),
)  # fmt: skip


def folder() -> Path:
    """Where traces are kept: ``COSTMODEL_CACHE``, else the platform's place for caches."""
    chosen = os.environ.get("COSTMODEL_CACHE")
    if chosen:
        return Path(chosen)
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "costmodel"
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA")
        return (Path(base) if base else Path.home() / "AppData" / "Local") / "costmodel" / "Cache"
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "costmodel"


def cached(
    target: str, setting: Mapping[str, Any], make: Callable[[], nx.DiGraph[int]]
) -> nx.DiGraph[int]:
    """The graph of ``target`` traced as ``setting`` says: read from disk, else made and stored.

    ``setting`` holds JSON values (shapes, batch, layout). A target whose code cannot be pinned
    down (an installed module of the user's) is made each time. A folder that cannot be written
    costs time, not the answer.
    """
    key = key_of(target, setting)
    if key is None:
        return make()
    path = folder() / "traces" / key[:2] / f"{key}.json.z"
    found = _read(path)
    if found is not None:
        return found
    graph = make()
    _write(path, graph)
    return graph


def key_of(target: str, setting: Mapping[str, Any]) -> str | None:
    """The name of an entry; ``None`` when what the target's code is cannot be told."""
    content = _content(parse(target))
    if content is None:
        return None
    document = {"target": target, "content": content, "setting": setting, "versions": _versions()}
    return _digest(json.dumps(document, sort_keys=True).encode())


def _read(path: Path) -> nx.DiGraph[int] | None:
    try:
        return serial.loads(zlib.decompress(path.read_bytes()).decode())
    except (OSError, zlib.error, UnicodeDecodeError, CostModelError):
        return None


def _write(path: Path, graph: nx.DiGraph[int]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, zlib.compress(serial.dumps(graph).encode(), 3))
    except (OSError, CostModelError):
        return


def _content(call: Call) -> str | None:
    """What the target's own files say: a model file may import its neighbours."""
    place = Path(call.place)
    match call.scheme:
        case "timm" | "torchvision":
            return ""
        case "file":
            files = sorted(place.parent.glob("*.py"))
        case "pt2":
            files = [place]
        case "hf" if call.name and Path(call.name).is_dir():
            files = sorted(Path(call.name).glob("*.json"))
        case "hf":
            return ""
        case _:
            return None
    return _hash_of(files)


@cache
def _versions() -> dict[str, str]:
    """Versions of the libraries, and of our own code, that made a trace."""
    root = Path(__file__).parent
    found = {
        "costmodel": _hash_of(sorted(_python_files(root))) or "",
        "rules": _digest("\n".join(rules.targets()).encode()),  # of plug-ins too
    }
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _python_files(root: Path) -> list[Path]:
    places = [root / name for name in SOURCES]
    return [f for p in places for f in (p.glob("*.py") if p.is_dir() else [p]) if f.exists()]


def _hash_of(files: list[Path]) -> str | None:
    try:
        return _digest(b"\0".join(f.name.encode() + b"\0" + f.read_bytes() for f in files))
    except OSError:
        return None


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
