"""A helper for tests: hold a model to a budget.

from costmodel.testing import assert_within

def test_cost():
    assert_within(Net(), "1x3x224x224", macs="300M", params="5M", latency_ms={"pixel8": 12})
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from costmodel.budget import Finding, of_table, parse, text


def assert_within(
    model: Any,
    inputs: Any = None,
    *,
    latency_ms: Mapping[str, float] | None = None,
    **limits: float | str,
) -> list[Finding]:
    """Assert that a model (a module or a target) is within ``limits``.

    ``limits`` are those of a budget file (``macs``, ``params``, ``peak_activation_bytes``, …) as
    numbers or text like ``"300M"``. Returns what was found; an ``AssertionError`` shows the table.
    Raises `CostModelError` for limits that do not exist.
    """
    from costmodel.api import analyze

    report = analyze(model, inputs)
    entry = {"target": report.target, "latency_ms": dict(latency_ms or {}), **limits}
    found = of_table(parse("assert_within", entry), report.table)
    exceeded = [finding for finding in found if finding.exceeded]
    assert not exceeded, f"over budget\n{text(found)}"
    return found
