"""Activation memory: by hand on small graphs, and beside torch's own tracker on networks."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from counting import meta, table
from torch import nn
from torch.distributed._tools.mem_tracker import MemTracker

from costmodel.ir import info_of, ops_of
from costmodel.memory import lifetimes, peak_bytes, timeline
from costmodel.targets import load
from costmodel.tracer import FusedAttention, trace

K = 1024
NETWORKS = [
    "resnet18", "mobilenetv2_100", "efficientnet_b0", "vit_tiny_patch16_224", "convnext_atto",
    "swin_tiny_patch4_window7_224", "densenet121", "regnety_002", "mixer_s32_224",
    "mobilenetv3_small_100", "vgg11",
]  # fmt: skip


def tracked(model: nn.Module, x: torch.Tensor, train: bool) -> int:
    """Bytes at the peak that torch's tracker holds for neither parameter nor buffer."""
    model.train(train)
    tracker = MemTracker()
    tracker.track_external(model)
    # attention fused, as on every device: on meta torch would take the mathematical form
    with tracker, FusedAttention(), torch.set_grad_enabled(train):
        output = model(x)
        if train:
            output.backward(torch.empty_like(output))
    (peak,) = tracker.get_tracker_snapshot("peak").values()
    found = {getattr(kind, "name", kind): size for kind, size in peak.items()}
    return found["Total"] - found["PARAM"] - found["BUFFER"]


@pytest.mark.parametrize("mode", ["eval", "train"])
@pytest.mark.parametrize("name", NETWORKS)
def test_a_networks_peak_is_what_torchs_tracker_sees(name, mode):
    model, x = load(f"timm:{name}").module, meta(2, 3, 224, 224)
    ours = table(model, x, mode=mode).peak_activation_bytes
    # The tracker does not know the pictures, which were there before; we count the model's inputs.
    theirs = tracked(model, x, mode == "train") + 2 * 3 * 224 * 224 * 4
    if (name, mode) == ("vgg11", "eval"):
        # In their run max_pool2d also makes an int64 index for each of its 2 · 64 · 112 · 112
        # outputs and drops it; an op that is kept whole has no such inner tensor.
        theirs -= 2 * 64 * 112 * 112 * 8
    assert ours == pytest.approx(theirs, rel=0.05)


def test_a_chain_holds_an_ops_input_and_output():
    # 1 KiB each: a relu's input and output live while it runs; the first input stays to the end
    graph = trace(nn.Sequential(*[nn.ReLU() for _ in range(5)]), (meta(256),))
    ops, info = ops_of(graph), info_of(graph)
    assert timeline(ops, info) == [2 * K, 3 * K, 3 * K, 3 * K, 3 * K]
    assert peak_bytes(ops, info) == 3 * K
    # a planner drops the input after the first op
    assert timeline(ops, info, planned=True) == [2 * K] * 5


def test_in_place_ops_and_views_hold_nothing_more():
    result = table(nn.Sequential(nn.ReLU(inplace=True), nn.Flatten(), nn.ReLU(True)), (4, 64))
    assert result.peak_activation_bytes == K


def test_a_residual_holds_its_shortcut():
    def residual(x):
        y = F.relu(x + 1)
        z = F.relu(F.relu(y))
        return y + z

    ops, info = (f(trace_of(residual)) for f in (ops_of, info_of))
    # x, y, relu's input and output; then x, y, z and the sum
    assert peak_bytes(ops, info) == 4 * K


def trace_of(function):
    from counting import Function

    return trace(Function(function), (meta(256),))


def test_weights_are_no_activations():
    result = table(nn.Linear(256, 256), (1, 256))
    assert result.peak_activation_bytes == 2 * K


def test_training_keeps_what_the_backward_pass_reads_and_the_gradients():
    # x (1 KiB), each layer's output (1 KiB), the weight gradients (256 KiB each) stay
    model = nn.Sequential(nn.Linear(256, 256, bias=False), nn.Linear(256, 256, bias=False))
    result = table(model, (1, 256), mode="train")
    assert 2 * 256 * K + 3 * K <= result.peak_activation_bytes <= 2 * 256 * K + 8 * K


def test_lifetimes_lie_within_the_schedule():
    graph = trace(load("timm:resnet18").module, (meta(1, 3, 64, 64),))
    ops, info = ops_of(graph), info_of(graph)
    for planned in (False, True):
        lives = lifetimes(ops, info, planned)
        assert all(0 <= life.first <= life.last < len(ops) for life in lives)
    assert peak_bytes(ops, info, planned=True) <= peak_bytes(ops, info)
