"""Train mode: the backward pass costs twice the forward, less what nobody needs."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from counting import Function, flop_counter, meta, table
from torch import nn

from costmodel.errors import CostModelError
from costmodel.targets import load

NETWORKS = [
    "resnet18", "mobilenetv2_100", "mobilenetv3_small_100", "efficientnet_b0", "regnety_002",
    "convnext_atto", "mixer_s32_224", "vit_tiny_patch16_224", "deit_tiny_distilled_patch16_224",
    "swin_tiny_patch4_window7_224", "shvit_s1", "repvgg_a0",
]  # fmt: skip


@pytest.mark.parametrize("name", NETWORKS)
def test_training_is_three_times_the_forward_less_the_first_inputs_gradient(name):
    # each product has two backward products of its own size, one for the weight (or the second
    # operand), one for the input; the pictures want no gradient
    model = load(f"timm:{name}").module
    x = meta(2, 3, 224, 224)
    forward, trained = table(model, x), table(model, x, mode="train")
    first = sum(
        row.cost.macs
        for row in trained
        if row.op.phase == "forward" and any(s.kind == "input" for s in row.op.inputs)
    )
    assert first > 0
    assert trained.total.macs == 3 * forward.total.macs - first
    assert trained.complete
    assert trained.total.params == forward.total.params


@pytest.mark.parametrize("name", ["resnet18", "vit_tiny_patch16_224", "mixer_s32_224"])
def test_torchs_counter_agrees_where_nothing_is_grouped(name):
    model = load(f"timm:{name}").module
    x = meta(1, 3, 224, 224)
    ours = table(model, x, mode="train").total.macs
    assert ours == flop_counter(model, [x], train=True)


def test_torchs_counter_forgets_the_groups_of_a_backward_convolution():
    model, x = nn.Conv2d(8, 8, 3, groups=8, device="meta"), meta(1, 8, 6, 6)
    x.requires_grad_()
    forward = 8 * 16 * 9
    # ours: forward, input and weight; theirs: a weight gradient as if every channel met every other
    graph = table(nn.Sequential(nn.Conv2d(8, 8, 1), model), meta(1, 8, 6, 6), mode="train")
    assert graph.filter_by(module="1").total.macs == 3 * forward
    assert flop_counter(model, [x], train=True) == 2 * forward + 8 * forward


class Attention(nn.Module):
    def __init__(self, **options):
        super().__init__()
        self.project = nn.Linear(64, 192)
        self.options = options

    def forward(self, x):
        q, k, v = self.project(x).view(2, 128, 3, 4, 16).permute(2, 0, 3, 1, 4)
        return F.scaled_dot_product_attention(q, k, v, **self.options)


@pytest.mark.parametrize("options", [{}, {"dropout_p": 0.1}, {"attn_mask": meta(128, 128)}])
def test_attention_stays_fused(options):
    result = table(Attention(**options), (2, 128, 64), mode="train")
    scores = 2 * 4 * 128 * 128
    attention = result.filter_by(family="attention")
    assert [row.op.phase for row in attention] == ["forward", "backward"]
    assert [row.cost.macs for row in attention] == [scores * 32, 2 * scores * 32]
    assert f"{scores * 16} MACs more" in attention.rows[1].cost.note
    largest = max(spec.numel for row in result for spec in row.op.outputs)
    assert largest == 2 * 128 * 192  # the projection, not the 2 · 4 · 128² scores


def test_causal_attention_spares_half_of_its_backward_too():
    attention = table(Attention(is_causal=True), (2, 128, 64), mode="train")
    spared = 2 * 4 * (128 * 127 // 2) * 32
    assert attention.total.masked_macs == 3 * spared


def test_attention_that_no_fused_kernel_serves_keeps_its_macs():
    # a value wider than the key: 16 + 24 MACs a score forward, twice that backward
    project = nn.Linear(8, 4 * (16 + 16 + 24))

    def run(x):
        q, k, v = project(x).view(1, 32, 4, 56).transpose(1, 2).split([16, 16, 24], dim=-1)
        return F.scaled_dot_product_attention(q, k, v)

    model = Function(run)
    model.project = project
    x = meta(1, 32, 8)
    linear = 32 * 8 * 4 * 56
    assert table(model, x, mode="train").total.macs == 3 * 4 * 32 * 32 * 40 + 2 * linear


def test_a_frozen_layer_has_no_weight_gradient():
    model = nn.Sequential(nn.Linear(8, 16), nn.Linear(16, 32), nn.Linear(32, 4))
    model[1].requires_grad_(False)
    total = table(model, (5, 8), mode="train").total
    first, second, third = 5 * 8 * 16, 5 * 16 * 32, 5 * 32 * 4
    assert total.macs == 2 * first + 2 * second + 3 * third
    assert total.params == sum(p.numel() for p in model.parameters())


def test_backward_ops_belong_to_the_module_whose_forward_made_them():
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 3))
    rows = table(model, (2, 3, 8, 8), mode="train").rows
    where = {row.op.target: row.op.module for row in rows if row.op.phase == "backward"}
    assert where["aten.native_batch_norm_backward"] == "1"
    assert where["aten.threshold_backward"] == "2"
    found = [r.op.module for r in rows if r.op.target == "aten.convolution_backward"]
    assert found == ["3", "0"]


@pytest.mark.parametrize(
    ("optimizer", "state"),
    [
        (lambda p: torch.optim.SGD(p, 0.1), 0),
        (lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, foreach=True), 1),
        (lambda p: torch.optim.Adam(p, foreach=False), 2),
        (lambda p: torch.optim.AdamW(p, foreach=True), 2),
        (torch.optim.RMSprop, 1),
        (torch.optim.Adagrad, 1),
    ],
    ids=["sgd", "momentum", "adam", "adamw", "rmsprop", "adagrad"],
)
def test_an_optimisers_step_is_a_phase_of_its_own(optimizer, state):
    model = nn.Linear(8, 16)
    plain = table(model, (5, 8), mode="train")
    stepped = table(model, (5, 8), mode="train", optimizer=optimizer)
    step = stepped.filter_by(phase="optimizer")
    assert stepped.complete
    assert step.total.macs == 0
    assert step.total.ops >= (1 + state) * (8 * 16 + 16)
    assert stepped.total.macs == plain.total.macs
    assert step.total.bytes_written >= (1 + state) * 4 * (8 * 16 + 16)


def test_gradients_of_a_real_model_are_left_alone():
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
    model(torch.ones(3, 4)).sum().backward()
    before = {n: p.grad.clone() for n, p in model.named_parameters()}
    state = {n: t.clone() for n, t in model.state_dict().items()}
    parameters = list(model.parameters())
    table(model, torch.ones(3, 4), mode="train", optimizer=lambda p: torch.optim.SGD(p, 1.0))
    assert all(torch.equal(p.grad, before[n]) for n, p in model.named_parameters())
    assert all(torch.equal(t, state[n]) for n, t in model.state_dict().items())
    assert all(a is b for a, b in zip(parameters, model.parameters(), strict=True))


def test_a_recurrent_layer_trains_at_three_times_its_forward_but_for_its_first_state():
    # the state before the first of 5 steps is zeros: 4 · 16 · 16 for 3 samples and 2 layers less
    model = nn.LSTM(8, 16, num_layers=2)
    forward = table(model, (5, 3, 8)).total.macs
    trained = table(nn.Sequential(nn.Linear(8, 8), model), (5, 3, 8), mode="train")
    assert trained.filter_by(module="1").total.macs == 3 * forward - 2 * 3 * 4 * 16 * 16


def test_nothing_to_train_is_one_clear_line():
    with pytest.raises(CostModelError, match=r"nothing to train.*--mode eval"):
        table(nn.Linear(3, 3).requires_grad_(False), (1, 3), mode="train")
