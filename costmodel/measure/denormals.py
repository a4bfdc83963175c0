"""Numbers too small for a normal float, which random weights have and a trained network's do not.

Signals fade in random weights, and a softmax of random scores has values that only a denormal
number can hold. Some processors take many times as long for them: EfficientNetV2-B0 27 instead of
20 ms. Training leaves none.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def flushed() -> Iterator[None]:
    """Let this thread, and those that it starts meanwhile, take denormal numbers for zero."""
    import torch

    before = not torch.tensor(1e-38).mul(0.1).item()
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)
