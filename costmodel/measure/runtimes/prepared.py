"""A model made ready to be called under one runtime, and what runtimes share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from costmodel.errors import CostModelError

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

#: Largest difference from eager execution, relative to the largest output, that a conversion may
#: make. Random networks amplify rounding; a wrong conversion is wrong by a factor.
TOLERANCE = 0.05


@dataclass(frozen=True, slots=True)
class How:
    """What is asked of a runtime, in the vocabulary of the run format."""

    threads: int
    dtype: str = "fp32"
    layout: str = "nchw"
    mode: str = "eval"


@dataclass(frozen=True, slots=True)
class Prepared:
    """``run`` makes one inference, or one training step, on inputs that are already there.

    ``threads`` is what the runtime says that it uses, not what it was asked for; 1 on a GPU.
    """

    run: Callable[[], object]
    software: str
    execution: str
    threads: int


def release(package: str, name: str | None = None) -> str:
    """``torch 2.13.0``: a package and its version, without the build that it is."""
    return f"{name or package} {version(package).partition('+')[0]}"


def leaves(value: Any) -> list[Tensor]:
    """The tensors in what a model returned, in order."""
    import torch
    from torch.utils import _pytree as pytree

    return [leaf for leaf in pytree.tree_leaves(value) if isinstance(leaf, torch.Tensor)]


def reference(model: nn.Module, inputs: Sequence[Tensor]) -> Tensor:
    """The first output of eager execution, which a converted model has to reproduce."""
    import torch

    with torch.inference_mode():
        return leaves(model(*inputs))[0]


def check(runtime: str, expected: Tensor, found: Any) -> None:
    """Refuse a conversion that computes something else: its time would mean nothing.

    ``found`` is array-like, of as many elements as ``expected``. Raises `CostModelError`.
    """
    import numpy as np

    want, have = np.asarray(expected).ravel(), np.asarray(found).ravel()
    if want.size != have.size:
        raise CostModelError(
            f"{runtime}: the converted model returns {have.size} numbers where eager execution "
            f"returns {want.size}; choose another --execution"
        )
    worst = float(np.abs(want - have).max(initial=0.0))
    if not worst <= TOLERANCE * float(np.abs(want).max(initial=0.0)) + 1e-6:
        raise CostModelError(
            f"{runtime}: the converted model's output differs from eager execution by {worst:.3g}; "
            "choose another --execution"
        )


@contextmanager
def torch_threads(threads: int) -> Iterator[int]:
    """torch with that many threads for a while; gives how many it says it has."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield torch.get_num_threads()
    finally:
        torch.set_num_threads(before)


def autocast(dtype: str, device: str) -> torch.autocast:
    """Autocast for ``amp-fp16`` and ``amp-bf16``, and none for other dtypes."""
    import torch

    low = {"amp-fp16": torch.float16, "amp-bf16": torch.bfloat16}.get(dtype)
    return torch.autocast(device, dtype=low or torch.bfloat16, enabled=low is not None)
