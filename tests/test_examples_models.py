"""The examples are the networks of their papers: parameters and MACs as published or by hand.

Plain torch, so that these numbers are an outside witness for costmodel's own.
"""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

NAMES = [
    "attention", "bottleneck", "conv", "decoder", "depthwise_separable", "inverted_residual",
    "lstm", "mbconv", "mobilenet_v1", "reparam", "scalable", "search",
    "shufflenet", "squeeze_excitation", "vit",
]  # fmt: skip
#: Worked exercises, which print instead of defining a network.
EXERCISES = ["doorbell", "train_twins"]


def params(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def macs(module: nn.Module, *shape: int) -> int:
    """MACs of matrix work, counted by torch on a copy without data."""
    module, x = module.to("meta", torch.float32).eval(), torch.empty(shape, device="meta")
    with torch.no_grad(), FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        module(x)
    return counter.get_total_flops() // 2


def disturb_norms(module: nn.Module) -> nn.Module:
    """Give every batch norm statistics and weights far from the identity."""
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm2d):
            for value in (norm.weight.data, norm.running_var):
                value.uniform_(0.5, 2.0)
            for value in (norm.bias.data, norm.running_mean):
                value.normal_()
    return module.eval()


# -- every example --------------------------------------------------------------------------------


def test_the_list_of_examples_is_complete(repository):
    assert sorted(path.stem for path in (repository / "examples").glob("*.py")) == sorted(
        NAMES + EXERCISES
    )


@pytest.mark.parametrize("name", NAMES)
def test_an_example_runs_on_its_own_inputs_with_and_without_data(example, name):
    module = example(name)
    inputs = module.example_inputs()
    with torch.no_grad():
        real = module.model().eval()(*inputs)
        with torch.device("meta"):
            meta = module.model().eval()
        shape = meta(*(x.to("meta") for x in inputs)).shape
    assert torch.isfinite(real).all()
    assert real.shape == shape
    assert real.shape[0] == inputs[0].shape[0]


# Parameters, million MACs at 224x224. The sources are in the examples' docstrings; parameters of
# MobileNetV2, ResNet and EfficientNet are those of the weights that torchvision and timm publish.
NETWORKS = {
    "mobilenet_v1 1.0": (lambda e: e("mobilenet_v1").MobileNetV1(), 4_231_976, 568.740),
    "mobilenet_v1 0.5": (lambda e: e("mobilenet_v1").MobileNetV1(0.5), 1_331_592, 149.497),
    "mobilenet_v1 0.25": (lambda e: e("mobilenet_v1").MobileNetV1(0.25), 470_072, 41.030),
    "mobilenet_v2 1.0": (lambda e: e("inverted_residual").MobileNetV2(), 3_504_872, 300.774),
    "mobilenet_v2 0.5": (lambda e: e("inverted_residual").MobileNetV2(0.5), 1_968_680, 97.132),
    "mobilenet_v2 0.35": (lambda e: e("inverted_residual").MobileNetV2(0.35), 1_677_128, 59.286),
    "resnet50": (lambda e: e("bottleneck").ResNet(), 25_557_032, 4089.184),
    "resnet101": (lambda e: e("bottleneck").ResNet((3, 4, 23, 3)), 44_549_160, 7801.405),
    "resnet50 ungated": (
        lambda e: e("squeeze_excitation").SEResNet50(reduction=None), 25_557_032, 4089.184
    ),
    "efficientnet_b0": (lambda e: e("mbconv").efficientnet(), 5_288_548, 385.815),
}  # fmt: skip


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_has_the_published_parameters_and_macs(example, name):
    build, parameters, million = NETWORKS[name]
    with torch.device("meta"):
        network = build(example)
    assert params(network) == parameters
    assert macs(network, 1, 3, 224, 224) / 1e6 == pytest.approx(million, abs=0.0005)


# -- convolutions, dense to depthwise -------------------------------------------------------------


def test_the_separable_block_has_an_eighth_of_the_standard_parameters(example):
    separable = example("depthwise_separable").DepthwiseSeparable(64, 128)
    standard = example("conv").StandardConv(64, 128)
    # 9·64 + 64·128 weights, 2·(64 + 128) of batch norm; 9·64·128 weights and 128 biases.
    assert params(separable) == 9 * 64 + 64 * 128 + 2 * (64 + 128) == 9_152
    assert params(standard) == 9 * 64 * 128 + 128 == 73_856


@pytest.mark.parametrize("out_ch", [32, 128, 256])
def test_the_separable_share_of_macs_is_one_over_c_out_plus_one_over_k_squared(example, out_ch):
    separable = example("depthwise_separable").DepthwiseSeparable(64, out_ch)
    standard = example("conv").StandardConv(64, out_ch)
    shape = (1, 64, 28, 28)
    # a/b == 1/C_out + 1/9, multiplied out
    assert macs(separable, *shape) * 9 * out_ch == macs(standard, *shape) * (9 + out_ch)


@pytest.mark.parametrize("groups", [1, 2, 4, 8, 16, 32, 64])
def test_groups_divide_the_parameters_and_macs_exactly(example, groups):
    build = example("conv").StandardConv
    grouped = build(64, 64, groups=groups, bias=False)
    assert params(grouped) * groups == params(build(64, 64, bias=False)) == 9 * 64 * 64
    assert macs(grouped, 1, 64, 14, 14) * groups == 9 * 64 * 64 * 14 * 14


# -- ShuffleNet -----------------------------------------------------------------------------------


def test_channel_shuffle_interleaves_the_groups(example):
    x = torch.arange(8).view(1, 8, 1, 1)
    y = example("shufflenet").channel_shuffle(x, 4)
    assert y.flatten().tolist() == [0, 2, 4, 6, 1, 3, 5, 7]


def test_without_the_shuffle_the_groups_never_meet(example):
    unit = example("shufflenet").ShuffleUnit(240, 240, groups=3).eval()
    for weight in unit.parameters():
        nn.init.uniform_(weight, 0.1, 1.0)
    x = torch.rand(1, 240, 4, 4)
    nudged = x.clone()
    nudged[:, :80] += 1  # the first group only
    with torch.no_grad():
        reached = (unit(nudged) - unit(x)).abs().amax((0, 2, 3)) > 0
        unit.shuffle = nn.Identity()
        apart = (unit(nudged) - unit(x)).abs().amax((0, 2, 3)) > 0
    assert reached.all()
    assert apart[:80].all()
    assert not apart[80:].any()


@pytest.mark.parametrize(("groups", "million"), [(1, 143), (2, 140), (3, 137), (4, 133), (8, 137)])
def test_shufflenet_keeps_its_cost_as_groups_buy_width(example, groups, million):
    with torch.device("meta"):
        network = example("shufflenet").ShuffleNet(groups)
    # Table 1 of the paper; its figures for 4 and 8 groups are 1 % below the network it describes.
    assert macs(network, 1, 3, 224, 224) / 1e6 == pytest.approx(million, rel=0.011)


def test_shufflenet_of_three_groups_has_1_87_million_parameters(example):
    assert params(example("shufflenet").ShuffleNet(3)) == 1_865_728


# -- squeeze and excitation -----------------------------------------------------------------------


def test_the_gates_cost_two_small_layers_each(example):
    module = example("squeeze_excitation")
    with torch.device("meta"):
        gated, plain = module.SEResNet50(), module.SEResNet50(reduction=None)
    # 2·C²/16 MACs a gate at C = 256, 512, 1024, 2048 in 3, 4, 6, 3 blocks; the same weights, and
    # C + C/16 biases.
    widths = [256] * 3 + [512] * 4 + [1024] * 6 + [2048] * 3
    extra = sum(2 * c * c // 16 for c in widths)
    assert params(gated) - params(plain) == extra + sum(c + c // 16 for c in widths)
    assert params(gated) == 28_088_024
    shape = (1, 3, 224, 224)
    assert macs(gated, *shape) - macs(plain, *shape) == extra
    assert extra < macs(plain, *shape) / 1000


def test_a_gate_scales_channels_within_zero_and_one(example):
    block = example("squeeze_excitation").SqueezeExcitation(32, 4).eval()
    x = torch.rand(2, 32, 5, 5) + 0.1
    with torch.no_grad():
        gate = block(x) / x
    assert gate.min() >= 0
    assert gate.max() <= 1
    assert torch.allclose(gate, gate[:, :, :1, :1].expand_as(gate))


# -- EfficientNet ---------------------------------------------------------------------------------


def test_b0_to_b7_have_the_released_parameters(example):
    with torch.device("meta"):
        family = [params(example("mbconv").released(index)) for index in range(8)]
    assert family == [
        5_288_548, 7_794_184, 9_109_994, 12_233_232,
        19_341_616, 30_389_784, 43_040_704, 66_347_960,
    ]  # fmt: skip


def test_a_step_of_compound_scaling_overshoots_because_layers_are_rounded_up(example):
    module = example("mbconv")
    with torch.device("meta"):
        base, scaled = module.efficientnet(0), module.efficientnet(1)
    assert (module.resolution(0), module.resolution(1)) == (224, 256)
    # Seven stages of 1, 2, 2, 3, 3, 4, 1 layers, each times 1.2 and rounded up: 23/16, not 1.2.
    assert (len(base.blocks), len(scaled.blocks)) == (16, 2 + 3 + 3 + 4 + 4 + 5 + 2)
    nominal = module.ALPHA * module.BETA**2 * module.GAMMA**2
    assert nominal == pytest.approx(1.9203, abs=5e-5)
    ratio = macs(scaled, 1, 3, 256, 256) / macs(base, 1, 3, 224, 224)
    assert nominal < ratio < nominal * (23 / 16) / module.ALPHA


# -- re-parameterised blocks ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"stride": 2},
        {"out_ch": 48},
        {"groups": 16, "copies": 4},
        {"groups": 4, "copies": 2},
        {"kernel": 1, "copies": 3},
        {"kernel": 5},
    ],
    ids=str,
)
def test_folding_leaves_the_output_and_one_convolution(example, options):
    torch.manual_seed(0)
    options = {"in_ch": 16, "out_ch": 16, **options}
    block = disturb_norms(example("reparam").ReparamBlock(**options)).double()
    x = torch.randn(2, 16, 9, 9, dtype=torch.float64)
    with torch.no_grad():
        before = block(x)
        after = block.reparameterize()(x)
    assert before.abs().max() > 1
    assert (after - before).abs().max() <= 1e-5
    single = example("conv").StandardConv(
        16, options["out_ch"], options.get("kernel", 3), options.get("stride", 1),
        groups=options.get("groups", 1),
    )  # fmt: skip
    assert params(block) == params(single)
    assert macs(block, 1, 16, 8, 8) == macs(single, 1, 16, 8, 8)


def test_folding_in_single_precision_and_twice(example):
    torch.manual_seed(0)
    block = example("reparam").mobileone_block(32, 64).eval()
    x = torch.randn(1, 32, 14, 14)
    with torch.no_grad():
        before = block(x)
        for half in block:
            assert half.reparameterize() is half.reparameterize()
        assert torch.allclose(block(x), before, atol=1e-5)
    # depthwise 9·32, pointwise 32·64, and their biases
    assert params(block) == 9 * 32 + 32 + 32 * 64 + 64


# -- sequences ------------------------------------------------------------------------------------


def test_the_encoder_layer_costs_what_its_products_say(example):
    module = example("attention")
    n, d, hidden = 128, 64, 256
    layer = module.EncoderLayer(d, 4, hidden)
    assert macs(layer, 1, n, d) == 4 * n * d * d + 2 * n * n * d + 2 * n * d * hidden == 8_388_608
    assert macs(module.SelfAttention(d), 1, n, d) == 4_194_304


def test_causal_attention_does_not_see_the_future(example):
    attention = example("attention").SelfAttention(16, 2, causal=True).eval()
    x = torch.randn(1, 6, 16)
    later = x.clone()
    later[:, 4:] += 1
    with torch.no_grad():
        change = (attention(later) - attention(x)).abs().amax((0, 2))
    assert change[:4].max() == 0
    assert change[4:].min() > 0


def test_vit_tiny_and_its_three_dials(example):
    build = example("vit").VisionTransformer
    with torch.device("meta"):
        assert params(build()) == 5_717_416
        assert params(build(depth=24)) - params(build()) == 12 * (12 * 192 * 192 + 13 * 192)
        # 14x14 patches and the class token; 4·n·d² + 8·n·d² + 2·n²·d a block
        n, d = 197, 192
        blocks = 12 * (12 * n * d * d + 2 * n * n * d)
        assert macs(build(), 1, 3, 224, 224) == 196 * 3 * 256 * d + blocks + d * 1000
        assert build(resolution=384).position.shape == (1, 577, 192)


def test_the_decoder_is_gpt_2_small_and_ties_its_embedding(example):
    build = example("decoder").Decoder
    with torch.device("meta"):
        tied = build(12, 768, 12, 1024, 50_257)
        loose = build(12, 768, 12, 1024, 50_257, tied=False)
    assert params(tied) == 124_439_808
    assert params(loose) - params(tied) == 50_257 * 768


def test_the_lstm_has_four_gates_per_layer_and_direction(example):
    embed, hidden = 128, 256
    net = example("lstm").SequenceClassifier(embed=embed, hidden=hidden)
    # Two directions, two layers; the second reads both directions. Two bias vectors per gate.
    gates = 2 * 4 * hidden * ((embed + hidden + 2) + (2 * hidden + hidden + 2))
    assert params(net.lstm) == gates
