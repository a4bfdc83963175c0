"""Where eager PyTorch's results land in memory: how long ago it was last touched.

    python benchmarks/addresses.py timm:resnet18 timm:vit_tiny_patch16_224 --batch 1 8

Every op of a warm run tells the addresses of its tensors. For each network: the share of what is
written where more than `NEAR` times as much had been touched since the memory was, how much that is
in the mean, over a footprint (weights and twice the largest result), and the heap over the largest
result. `costmodel.machine.x86_traffic` takes its share of scattered writes from here. Not seen is
what libraries ask for themselves, nor ops in place, whose operand the op before has just written.
"""

from __future__ import annotations

import argparse
import statistics
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from costmodel.measure.allocator import keep_freed_memory
from costmodel.measure.weights import materialise

#: Bytes of the grains in which memory is followed.
GRAIN = 2**15
#: Sizes of a result that may be touched before the memory that it takes counts as far away.
NEAR = 3.2
#: Address and bytes.
Block = tuple[int, int]


class Addresses(TorchDispatchMode):
    """Notes what each op reads and writes; views write nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.ops: list[tuple[list[Block], list[Block]]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        read = _blocks((args, kwargs))
        found = func(*args, **(kwargs or {}))
        operands = {address for address, _ in read}
        written = [block for block in _blocks(found) if block[0] not in operands]
        if written:
            self.ops.append((read, written))
        return found


@dataclass(frozen=True)
class Count:
    """Of one network; bytes, and the share of them that is far away."""

    far: float
    distance: float
    footprint: int
    heap: int
    largest: int


def count(target: str, batch: int) -> Count:
    """Follow one warm run after another."""
    model, inputs = materialise(target, (), batch)
    model.eval()
    with torch.no_grad():
        for _ in range(3):
            model(*inputs)
        with Addresses() as first:
            model(*inputs)
        with Addresses() as second:
            model(*inputs)
    touched: OrderedDict[int, None] = OrderedDict()
    far: list[tuple[int, int]] = []
    total = 0
    for number, (read, written) in enumerate(first.ops + second.ops):
        if number >= len(first.ops):
            for block in written:
                total += block[1]
                since = _since(touched, block)
                if since > NEAR * block[1] + GRAIN:
                    far.append((block[1], since))
        for block in (*read, *written):
            for grain in _grains(block):
                touched[grain] = None
                touched.move_to_end(grain)
    weights = sum(parameter.numel() * 4 for parameter in model.parameters())
    largest = max(size for _, written in second.ops for _, size in written)
    scattered = sum(size for size, _ in far)
    return Count(
        scattered / total,
        sum(size * since for size, since in far) / max(scattered, 1),
        weights + 2 * largest,
        len(touched) * GRAIN - weights,
        largest,
    )


def _since(touched: OrderedDict[int, None], block: Block) -> int:
    """Distinct bytes touched since the block's middle was; all of them, if it never was."""
    grains = _grains(block)
    middle, passed = grains[len(grains) // 2], 0
    for grain in reversed(touched):
        if grain == middle:
            break
        passed += 1
    return passed * GRAIN


def _grains(block: Block) -> range:
    return range(block[0] // GRAIN, (block[0] + block[1] - 1) // GRAIN + 1)


def _blocks(found: Any) -> list[Block]:
    return [
        (leaf.untyped_storage().data_ptr(), leaf.numel() * leaf.element_size())
        for leaf in tree_leaves(found)
        if isinstance(leaf, torch.Tensor) and leaf.numel() > 1
    ]


def main() -> None:
    """Print a line a network, and the means."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("targets", nargs="+")
    parser.add_argument("--batch", type=int, nargs="+", default=[1])
    asked = parser.parse_args()
    keep_freed_memory()
    torch.set_num_threads(1)
    for batch in asked.batch:
        counts = []
        for target in asked.targets:
            found = count(target, batch)
            counts.append(found)
            print(f"{target:36} batch {batch}  far {found.far:4.0%}  distance over footprint "
                  f"{found.distance / found.footprint:5.2f}  heap over largest "
                  f"{found.heap / found.largest:5.1f}", flush=True)  # fmt: skip
        mean = statistics.mean(found.far for found in counts)
        print(f"mean of {len(counts)}, batch {batch}: far {mean:.0%}")


if __name__ == "__main__":
    main()
