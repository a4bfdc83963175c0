"""Numbers for people: four significant digits and an SI prefix. Files get exact integers."""

from __future__ import annotations

_LARGE = ("", "k", "M", "G", "T", "P", "E")
_SMALL = ("", "m", "µ", "n", "p")


def count(value: int | None) -> str:
    """``568.7 M`` for 568740352; below ten thousand the number itself."""
    if value is None:
        return "unknown"
    if value < 10_000:
        return str(value)
    return _scaled(float(value), 1000.0, _LARGE).rstrip()


def size(value: int | None) -> str:
    """``78.04 MB``, in powers of ten."""
    if value is None:
        return "unknown"
    return f"{value} B" if value < 1000 else f"{_scaled(float(value), 1000.0, _LARGE)}B"


def seconds(value: float) -> str:
    """``12.30 ms``."""
    return f"{_scaled(value, 1000.0, _LARGE if value >= 1 else _SMALL)}s"


def joules(value: float) -> str:
    """``14.00 mJ``."""
    return f"{_scaled(value, 1000.0, _LARGE if value >= 1 else _SMALL)}J"


def percent(share: float) -> str:
    """``71 %``; a share that rounds to nothing is ``<1 %``."""
    return "<1 %" if 0 < share < 0.005 else f"{100 * share:.0f} %"


def _scaled(value: float, step: float, prefixes: tuple[str, ...]) -> str:
    if value <= 0:
        return "0 "
    steps = 0
    if prefixes is _SMALL:
        while value < 0.99995 and steps < len(prefixes) - 1:
            value, steps = value * step, steps + 1
    else:
        while value >= 999.95 and steps < len(prefixes) - 1:
            value, steps = value / step, steps + 1
    digits = 3 if value < 10 else 2 if value < 100 else 1
    return f"{value:.{digits}f} {prefixes[steps]}"
