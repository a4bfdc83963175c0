"""Measuring models on the machine in hand: runtimes, timing, weights, and the file of runs.

Nothing here predicts. `costmodel.measure.timing` times any call, `costmodel.measure.runtimes` makes
a call of a model under a runtime, and the rest carries that from a target to a row of a run file.
"""

from __future__ import annotations

from costmodel.measure.timing import Timing, time_calls

__all__ = ["Timing", "time_calls"]
