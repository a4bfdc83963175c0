"""Let torchvision be imported where its compiled extension cannot be loaded.

torchvision's wheel for CUDA does not load beside a CPU build of torch, and then its import fails
on operators that nobody defined. Models need only two of them to exist when the package is read.
"""

from __future__ import annotations

import sys
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

_SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"


@cache
def install() -> Any:
    """Define ``torchvision::nms`` and ``qnms`` if torchvision's extension does not.

    Call it before importing torchvision, timm or transformers. Returns the library that holds the
    definitions (they live as long as it does), or ``None`` where nothing was missing.
    """
    found = find_spec("torchvision")
    if found is None or found.origin is None or "torchvision" in sys.modules:
        return None
    import torch

    for extension in Path(found.origin).parent.glob("_C*.so"):
        try:
            torch.ops.load_library(str(extension))  # type: ignore[no-untyped-call]
        except OSError:
            continue
    if hasattr(torch.ops.torchvision, "nms"):
        return None
    library = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
    for name in ("nms", "qnms"):
        library.define(f"{name}{_SCHEMA}")  # type: ignore[no-untyped-call]
    return library
