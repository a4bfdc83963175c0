"""Where an op comes from: a name of its own, and the line of the user's code that called it."""

from __future__ import annotations

import os
import sys
from functools import cache
from types import FrameType

import torch

_OURS = ("<", os.path.dirname(torch.__file__), os.path.dirname(os.path.abspath(__file__)))


class Names:
    """Gives out names that are unique within one trace: ``layer1.conv2d``, ``layer1.conv2d_1``."""

    def __init__(self) -> None:
        self._given: dict[str, int] = {}

    def unique(self, module: str, target: str) -> str:
        """A name for an op of a module."""
        short = target.rpartition(".")[2]
        stem = f"{module}.{short}" if module else short
        while True:
            count = self._given.get(stem, 0)
            self._given[stem] = count + 1
            if count == 0:
                return stem
            name = f"{stem}_{count}"
            if name not in self._given:
                self._given[name] = 1
                return name


def source_line() -> str | None:
    """``file:line`` of the innermost frame outside torch and this package."""
    frame: FrameType | None = sys._getframe(3)
    while frame is not None:
        if not _is_ours(frame.f_code.co_filename):
            return f"{frame.f_code.co_filename}:{frame.f_lineno}"
        frame = frame.f_back
    return None


@cache
def _is_ours(filename: str) -> bool:
    return filename.startswith(_OURS)
