"""Short names for many alike: ``blocks.*.mlp.fc1 ×12``."""

from __future__ import annotations

import math
from collections.abc import Sequence


def common(paths: Sequence[str], otherwise: str) -> str:
    """One path for several: what differs is ``*``, or ``a/b`` at the end.

    ``otherwise`` stands for ends of more than three kinds.
    """
    split = [path.split(".") for path in dict.fromkeys(paths)]
    if len(split) == 1:
        return ".".join(split[0])
    ends = list(dict.fromkeys(parts[-1] for parts in split))
    if len(ends) > 3 or any(end.isdigit() for end in ends[1:]):
        return otherwise
    head = _prefix([parts[:-1] for parts in split])
    inner = [parts[len(head) : -1] for parts in split]
    shortest = min(map(len, inner))
    tail = _prefix([parts[::-1][: max(0, shortest - 1)] for parts in inner])[::-1]
    middle = ["*"] if any(inner) else []
    return ".".join([*head, *middle, *tail, "/".join(ends)])


def label(name: str, count: int = 1, longest: int = 26) -> str:
    """A name that fits a figure: its end, and how many it stands for."""
    short = name if len(name) <= longest else "…" + name[-(longest - 1) :]
    return f"{short} ×{count}" if count > 1 else short


def short(value: float) -> str:
    """Three significant digits and an SI prefix, ready for a unit: ``68.3 G``."""
    value = float(f"{value:.3g}")
    exponent = min(max(math.floor(math.log10(abs(value)) / 3 + 1e-9), -4), 6) if value else 0
    scaled = f"{value / 1000**exponent:.3g}"
    return f"{scaled} {'pnµm kMGTPE'[exponent + 4].strip()}"


def _prefix(split: Sequence[Sequence[str]]) -> list[str]:
    found = []
    for column in zip(*split, strict=False):
        if len(set(column)) > 1:
            break
        found.append(column[0])
    return found
