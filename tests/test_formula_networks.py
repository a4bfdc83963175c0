"""Whole networks in N, H and W, equal to traces with numbers at five sizes each."""

from __future__ import annotations

import time
from typing import Any

import pytest
from click.testing import CliRunner

from costmodel import targets
from costmodel.cli import cli
from costmodel.errors import CostModelError
from costmodel.formula.command import formula_of
from costmodel.inputs import make
from costmodel.table import cost
from costmodel.tracer import trace

NETWORKS = [
    "timm:resnet50",
    "timm:mobilenetv3_large_100",
    "timm:efficientnet_b0",
    "torchvision:shufflenet_v2_x1_0",
    "timm:convnext_tiny",
]
#: Batch, height, width: square and not, multiples of 32 and not.
SIZES = [(1, 224, 224), (2, 192, 256), (3, 225, 199), (1, 97, 130), (5, 64, 71)]


@pytest.mark.parametrize("target", NETWORKS)
def test_equals_traces_at_five_sizes(target: str) -> None:
    found = formula_of(target, None, "N,H,W")
    module = targets.load(target).module
    for n, h, w in SIZES:
        said = found.evaluate(N=n, H=h, W=w)
        counted = cost(trace(module, make(f"{n}x3x{h}x{w}").args)).total
        for name in ("macs", "ops", "params", "bytes_read", "bytes_written"):
            assert said[name] == getattr(counted, name), (name, n, h, w)
    tidy = found.tidy()
    assert tidy.evaluate(N=1, H=224, W=224) == found.evaluate(N=1, H=224, W=224)
    with pytest.raises(CostModelError, match="H a multiple of"):
        tidy.evaluate(N=1, H=225, W=224)


def test_resnet50_without_floors() -> None:
    # 4,089,184,256 MACs at 224², of which 2,048,000 in the classifier, which sees no H or W.
    result: Any = CliRunner().invoke(cli, ["formula", "timm:resnet50", "--dims", "N,H,W"])
    lines = result.stdout.splitlines()
    assert lines[0] == "MACs = N·(81,456·H·W + 2,048,000)"
    assert 81_456 * 224 * 224 + 2_048_000 == 4_089_184_256
    assert lines[-1] == "for whole N, H, W ≥ 1 with H, W multiples of 32"


def test_a_fixed_size_is_said() -> None:
    found = formula_of("timm:vit_base_patch16_224", None, "N,H,W")
    assert [s.name for s in found.symbols] == ["N"]
    assert found.fixed == {"H": 224, "W": 224}
    assert found.notes[0].startswith("H = 224, W = 224 are fixed by the model")
    assert found.evaluate(N=2)["macs"] == 2 * 17_563_828_224


def test_windowed_attention_ends_with_a_clear_word() -> None:
    start = time.process_time()
    found = formula_of("timm:swin_tiny_patch4_window7_224", None, "N,H,W")
    assert time.process_time() - start < 60
    assert found.notes[0].startswith("H = 224, W = 224 are fixed by the model")
    assert found.evaluate(N=3)["macs"] == 3 * 4_490_566_656
