"""GPUs by the name that their driver gives: which shipped profile describes one."""

from __future__ import annotations

from typing import Any

from costmodel.hardware.catalog import FOLDER
from costmodel.hardware.loader import load_profile
from costmodel.hardware.records import read_mapping
from costmodel.hardware.schema import GpuEngine

_PREFIXES = ("NVIDIA ", "Tesla ")


def engine_named(name: str) -> tuple[str, dict[str, Any]] | None:
    """The profile of the GPU called ``name`` and its engine as plain values, its memory included.

    ``None`` for a GPU that no shipped profile describes.
    """
    for prefix in _PREFIXES:
        name = name.removeprefix(prefix)
    known = read_mapping(FOLDER / "gpus.yaml").get(name)
    if known is None:
        return None
    profile = load_profile(known)
    engine = profile.engines["gpu"]
    assert isinstance(engine, GpuEngine)
    whole = engine.model_copy(update={"memory": engine.memory or profile.memory})
    return known, whole.model_dump(mode="json", exclude_none=True)
