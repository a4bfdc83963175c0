"""Accuracy tables: a CSV with a row a trained network, timm's results format among them.

Needed columns are ``model`` and ``top1``; ``img_size`` is the side of the image that the accuracy
was measured at. timm writes ``ARCHITECTURE.TRAINING``: the part before the dot says what it costs.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

from costmodel.errors import CostModelError


@dataclass(frozen=True, slots=True)
class Score:
    """One trained network. ``target`` and ``input`` say what to analyse ("" for its own input)."""

    model: str
    target: str
    input: str
    top1: float


def read(path: str | Path) -> list[Score]:
    """The rows of an accuracy table.

    Raises `CostModelError` naming a missing column, or the line of a value that is no number.
    """
    try:
        with Path(path).open(newline="") as file:
            reader = csv.DictReader(file)
            columns = reader.fieldnames or []
            rows = list(reader)
    except OSError as error:
        raise CostModelError(f"{path}: {error.strerror}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise CostModelError(f"{path} is no CSV file: {error}") from error
    for name in ("model", "top1"):
        if name not in columns:
            have = ", ".join(columns) or "none"
            raise CostModelError(
                f"{path} has no column {name!r}, but {have}; an accuracy table needs model and "
                "top1, and may have img_size"
            )
    return [_score(path, number, row) for number, row in enumerate(rows, 2)]


def _score(path: str | Path, line: int, row: dict[str, str]) -> Score:
    model = (row["model"] or "").strip()
    try:
        top1 = float(row["top1"])
        size = int(float(row.get("img_size") or 0))
    except (TypeError, ValueError):
        raise CostModelError(
            f"{path}:{line}: top1 and img_size of {model} must be numbers"
        ) from None
    own = ":" in model or model.endswith((".py", ".pt2"))
    target = model if own else f"timm:{model.partition('.')[0]}"
    return Score(model, target, f"1x3x{size}x{size}" if size else "", top1)
