"""How fast formulas are found, and how fast they are evaluated: one line each.

python benchmarks/formula.py
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import sys
import time
from pathlib import Path

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
NETWORKS = (
    "timm:resnet50", "timm:mobilenetv3_large_100", "timm:efficientnet_b0",
    "torchvision:shufflenet_v2_x1_0", "timm:convnext_tiny", "timm:vit_base_patch16_224",
    "timm:swin_tiny_patch4_window7_224",
)  # fmt: skip
POINTS = 1_000_000


def main() -> None:
    """Print seconds for every network, after imports, and for a million points of one block."""
    import numpy as np

    from costmodel import formula, targets
    from costmodel.formula.command import formula_of

    sys.path.insert(0, str(EXAMPLES))
    from inverted_residual import InvertedResidual

    block = formula(InvertedResidual, in_ch="C_in", out_ch="C_out", expand="t",
                    inputs="N x C_in x H x W")  # fmt: skip
    chance = np.random.default_rng(0)
    columns = {s.name: chance.integers(2, 513, POINTS) for s in block.symbols}
    count = block.function("macs")
    start = time.perf_counter()
    values = count(**columns)
    took = time.perf_counter() - start
    first = {name: int(column[0]) for name, column in columns.items()}
    assert int(values[0]) == block.evaluate(**first)["macs"]
    print(f"MobileNetV2 block, {POINTS:,} points: {took:.3f} s")
    for target in ("timm:resnet18", "torchvision:resnet18"):
        targets.load(target)  # the libraries' imports are not what is timed
    for target in NETWORKS:
        start, cpu = time.perf_counter(), time.process_time()
        found = formula_of(target, None, "N,H,W")
        took, cpu = time.perf_counter() - start, time.process_time() - cpu
        names = ", ".join(s.name for s in found.symbols)
        print(f"{target} in {names}: {took:.1f} s ({cpu:.1f} s of CPU)")


if __name__ == "__main__":
    main()
