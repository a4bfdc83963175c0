"""The cost table: exact sums over any grouping, and each weight once."""

from __future__ import annotations

import pytest
import torch
from counting import meta, table
from torch import nn

from costmodel.errors import CostModelError
from costmodel.targets import load


class Net(nn.Module):
    """Two blocks that share a projection, an unused layer, and a tied head."""

    def __init__(self):
        super().__init__()
        shared = nn.Linear(8, 8, bias=False)
        self.a = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), shared)
        self.b = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), shared)
        self.unused = nn.Linear(8, 3)
        self.register_buffer("scale", torch.ones(8))

    def forward(self, x):
        for block in (self.a, self.b):
            x = block(x) * self.scale
        return x


@pytest.fixture
def net():
    return table(Net(), (4, 8))


def test_totals_are_the_sums_of_the_rows(net):
    assert net.total.macs == 4 * 4 * 64
    # two biases, two relus, two scales, of 4 · 8 each
    assert net.total.ops == 6 * 32
    assert net.total.flops == 2 * net.total.macs + net.total.ops
    assert net.total.bytes == sum(row.cost.bytes for row in net)
    assert net.total.params == 2 * 72 + 64 + 27
    assert net.total.buffers == 8
    assert net.total.calls == len(net) == 8


@pytest.mark.parametrize("by", ["op", "module", "family"])
@pytest.mark.parametrize("depth", [0, 1, 2, None])
def test_every_grouping_adds_up_to_the_whole(net, by, depth):
    groups = net.group_by(by, depth)
    for field in ("macs", "ops", "bytes_read", "bytes_written", "calls"):
        assert sum(getattr(g, field) for g in groups.values()) == getattr(net.total, field)
    if by == "module":
        assert sum(g.params for g in groups.values()) == net.total.params


def test_modules_at_a_depth_hold_what_is_below_them(net):
    groups = net.group_by("module", 1)
    # the shared projection belongs to the first that holds it, its work to who calls it
    assert (groups["a"].macs, groups["b"].macs) == (512, 512)
    assert (groups["a"].params, groups["b"].params) == (72 + 64, 72)
    assert groups["unused"].params == 27
    assert groups["unused"].calls == 0
    assert groups[""].ops == 2 * 32


def test_filters(net):
    linears = net.filter_by(op="aten.linear")
    assert (linears.total.calls, linears.total.macs) == (4, net.total.macs)
    assert linears.total.params == 2 * 72 + 64
    assert net.filter_by(module="b").total.macs == 512
    assert net.filter_by(module="b.0").total.params == 72
    assert net.filter_by(family="matmul", module="a").total.calls == 2
    assert net.filter_by(phase="backward").total.calls == 0
    assert net.filter_by(op="aten.nothing").total.macs == 0


def test_a_module_filter_takes_whole_names():
    model = nn.ModuleDict({"b": nn.Linear(2, 2), "b2": nn.Linear(2, 2)})
    model.forward = lambda x: model["b2"](model["b"](x))
    assert table(model, (1, 2)).filter_by(module="b").total.macs == 4


def test_a_grouping_that_does_not_exist_is_one_clear_line(net):
    with pytest.raises(
        CostModelError, match="cannot group by 'layer'; choose op, module or family"
    ):
        net.group_by("layer")


def test_families_tell_convolutions_apart():
    groups = table(load("timm:mobilenetv2_035").module, (1, 3, 96, 96)).group_by("family")
    assert groups["pointwise"].macs > groups["depthwise"].macs > 0
    assert groups["convolution"].calls == 1
    assert groups["batch_norm"].macs == 0


def test_unknown_ops_are_counted_most_frequent_first():
    @torch.library.custom_op("costmodel_table::unknown", mutates_args=())
    def unknown(x: torch.Tensor) -> torch.Tensor:
        return x.clone()

    unknown.register_fake(torch.empty_like)

    def run(x):
        return torch.ops.costmodel_table.unknown(torch.ops.costmodel_table.unknown(x))

    result = table(run, (2,))
    assert not result.complete
    assert [(u.op, u.count) for u in result.unsupported] == [("costmodel_table.unknown", 2)]
    assert list(result.group_by("family")) == ["unsupported"]


def test_an_empty_model_has_an_empty_table():
    result = table(nn.Identity(), meta(2, 3))
    assert len(result) == 0
    assert result.complete
    assert result.total.macs == 0
    assert result.peak_activation_bytes == 24
