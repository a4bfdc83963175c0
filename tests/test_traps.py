"""Cases that cost counters get wrong. MACs of matrix work only, in eval mode, unless said."""

from __future__ import annotations

import warnings

import pytest
import torch
import torch.nn.functional as F
from counting import meta, table
from torch import nn

from costmodel.targets import load

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:torch")


def timm_table(name: str, size: int = 224):
    return table(load(f"timm:{name}").module, (1, 3, size, size))


# -- functions outside modules --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("function", "shapes", "macs"),
    [
        # 3·3·16 taps for each of 32 × 32 × 32 outputs
        (lambda x, w: F.conv2d(x, w, padding=1), [(1, 16, 32, 32), (32, 16, 3, 3)], 4_718_592),
        # without padding 30 × 30 × 32 outputs
        (F.conv2d, [(1, 16, 32, 32), (32, 16, 3, 3)], 4_147_200),
        # 8 products of (64 × 32) by (32 × 64)
        (lambda x: x @ x.mT, [(1, 8, 64, 32)], 1_048_576),
        (
            lambda q, k: torch.einsum("bhid,bhjd->bhij", q, k),
            [(1, 8, 64, 32), (1, 8, 64, 32)],
            1_048_576,
        ),
        (torch.mv, [(7, 11), (11,)], 7 * 11),
        (torch.dot, [(13,), (13,)], 13),
        (lambda w, v: w @ v, [(7, 11), (11,)], 7 * 11),
        (lambda a, b: a @ b, [(13,), (13,)], 13),
        # 2 products of 4 heads: 128 · 128 · 16 each
        (F.scaled_dot_product_attention, [(1, 4, 128, 16)] * 3, 2_097_152),
        # interpolation is no matrix work
        (lambda x: F.interpolate(x, scale_factor=2, mode="bilinear"), [(1, 8, 16, 16)], 0),
    ],
)
def test_a_function_outside_any_module(function, shapes, macs):
    result = table(function, *shapes)
    assert result.total.macs == macs
    assert isinstance(result.total.macs, int)
    assert result.complete


def test_interpolation_counts_its_taps_as_operations():
    # 4 taps of a multiply and an add for each of 8 · 32 · 32 outputs
    result = table(lambda x: F.interpolate(x, scale_factor=2, mode="bilinear"), (1, 8, 16, 16))
    assert result.total.ops == 8 * 32 * 32 * 4 * 2


def test_a_linear_on_a_batch_of_sequences():
    # 5 · 100 positions, 3 inputs for each of 8 outputs
    result = table(nn.Linear(3, 8), (5, 100, 3))
    assert result.total.macs == 12_000
    assert result.total.params == 3 * 8 + 8


# -- attention ------------------------------------------------------------------------------------


def test_attention_moves_its_inputs_and_output_alone():
    # q, k, v read and the result written: 4 tensors of 4 · 128 · 16 floats, no 128 × 128 matrix
    total = table(F.scaled_dot_product_attention, *[(1, 4, 128, 16)] * 3).total
    assert total.bytes_read == 3 * 4 * 128 * 16 * 4
    assert total.bytes_written == 4 * 128 * 16 * 4


def test_causal_attention_counts_the_full_product_and_says_what_the_mask_spares():
    total = table(
        lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True),
        *[(1, 4, 128, 16)] * 3,
    ).total
    assert total.macs == 2 * 4 * 128 * 128 * 16
    # scores above the diagonal: 128 · 127 / 2 for each head, used in both products
    assert total.masked_macs == 4 * (128 * 127 // 2) * (16 + 16)


class SelfAttention(nn.Module):
    def __init__(self, **options):
        super().__init__()
        self.attention = nn.MultiheadAttention(64, 4, **options)

    def forward(self, x):
        return self.attention(x, x, x, need_weights=False)[0]


@pytest.mark.parametrize("device", ["meta", "cpu"])
@pytest.mark.parametrize("trainable", [True, False])
@pytest.mark.parametrize("batch_first", [True, False])
def test_multihead_attention_with_and_without_its_fast_path(device, trainable, batch_first):
    # four projections of 128 · 64 · 64, and two products of 128 · 128 · 64
    model = SelfAttention(batch_first=batch_first).to(device).requires_grad_(trainable)
    shape = (1, 128, 64) if batch_first else (128, 1, 64)
    result = table(model, torch.zeros(shape, device=device))
    assert result.total.macs == 4 * 128 * 64 * 64 + 2 * 128 * 128 * 64 == 4_194_304
    assert result.total.params == 4 * 64 * 64 + 4 * 64
    assert result.complete


@pytest.mark.parametrize("trainable", [True, False])
def test_a_transformer_encoder_layer(trainable):
    # the attention above, and two linears of 128 · 64 · 256
    layer = nn.TransformerEncoderLayer(64, 4, 256, batch_first=True).requires_grad_(trainable)
    result = table(layer, (1, 128, 64))
    assert result.total.macs == 4_194_304 + 2 * 128 * 64 * 256 == 8_388_608
    assert result.complete


# -- convolutions ---------------------------------------------------------------------------------


def test_a_transposed_convolution_scatters_each_input():
    # C_in · C_out · k² · H_in · W_in
    result = table(nn.ConvTranspose2d(32, 8, 4, stride=2), (1, 32, 16, 16))
    assert result.total.macs == 32 * 8 * 16 * 16 * 16 == 1_048_576


@pytest.mark.parametrize("groups", [1, 2, 4, 8, 16, 32, 64])
def test_a_grouped_convolution_trains_at_three_times_its_forward(groups):
    model = nn.Conv2d(64, 64, 3, padding=1, groups=groups)
    forward = table(model, (2, 64, 8, 8)).total.macs
    assert forward == 2 * 64 * 8 * 8 * 9 * 64 // groups
    x = meta(2, 64, 8, 8).requires_grad_()
    trained = table(nn.Sequential(nn.Conv2d(64, 64, 1), model), x, mode="train")
    grouped = trained.filter_by(module="1").total.macs
    assert grouped == 3 * forward


# -- control flow, sharing, odd modules -----------------------------------------------------------


class Branching(nn.Module):
    def __init__(self):
        super().__init__()
        self.prefix = nn.Parameter(torch.zeros(8, 16))
        self.small = nn.Linear(16, 4)
        self.large = nn.Linear(16, 4)
        self.wide = nn.Linear(4, 4)

    def forward(self, x):
        x = x @ self.prefix
        return torch.cond(x.sum() > 0, self.small, lambda y: self.wide(self.large(y)), (x,))


def test_cond_counts_the_larger_branch_and_says_so():
    result = table(Branching(), (5, 8))
    assert result.total.macs == 5 * 8 * 16 + 5 * 16 * 4 + 5 * 4 * 4
    (note,) = result.info.notes
    assert "torch.cond" in note
    assert "larger branch (false)" in note


class Sharing(nn.Module):
    def __init__(self):
        super().__init__()
        shared = nn.Linear(8, 8)
        self.left = nn.Sequential(shared, nn.ReLU())
        self.right = nn.Sequential(shared, nn.Tanh())

    def forward(self, x):
        return self.left(x) + self.right(x)


def test_a_module_used_under_two_parents_has_its_macs_twice_and_its_parameters_once():
    result = table(Sharing(), (3, 8))
    assert result.total.macs == 2 * 3 * 8 * 8
    assert result.total.params == 8 * 8 + 8
    modules = {row.op.module for row in result if row.op.target == "aten.linear"}
    assert modules == {"left.0", "right.0"}


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(1000, 16)
        self.head = nn.Linear(16, 1000, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, ids):
        return self.head(self.embedding(ids))


def test_a_tied_embedding_and_head_have_one_weight_and_the_heads_macs():
    result = table(Tied(), meta(2, 5, dtype=torch.int64))
    assert result.total.params == 16_000
    assert result.total.macs == 2 * 5 * 16 * 1000
    lookup = result.filter_by(op="aten.embedding").total
    assert lookup.macs == 0
    assert lookup.bytes_read == 2 * 5 * 16 * 4 + 2 * 5 * 8  # the rows that are gathered, the ids


class MyLinear(nn.Linear):
    pass


class Raw(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(8, 3))

    def forward(self, x):
        return x @ self.weight.T


@pytest.mark.parametrize(
    "model",
    [nn.Linear(3, 8, bias=False), MyLinear(3, 8, bias=False), nn.Sequential(MyLinear(3, 8, False)),
     Raw(), Raw().requires_grad_(False)],
    ids=["bare root", "subclass root", "subclass inside", "raw parameter", "frozen"],
)  # fmt: skip
def test_however_a_weight_is_held(model):
    result = table(model, (10, 3))
    assert result.total.macs == 10 * 3 * 8
    assert result.total.params == 24


# -- recurrent ------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_first", [True, False])
def test_a_bidirectional_lstm_of_two_layers(batch_first):
    # 4H(I + H) a step: I = 10, then 2 · 20 from the two directions; 2 directions, 3 · 7 steps
    model = nn.LSTM(10, 20, num_layers=2, bidirectional=True, batch_first=batch_first)
    result = table(model, (3, 7, 10))
    assert result.total.macs == 2 * (4 * 20 * (10 + 20) + 4 * 20 * (40 + 20)) * 21
    assert result.total.params == sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("bias", [True, False])
def test_a_projected_lstm(bias):
    # 4H(I + P) a step for the gates, H · P for the projection; 22 + biases a unit for the cell
    model = nn.LSTM(10, 20, proj_size=6, num_layers=2, bias=bias)
    result = table(model, (7, 3, 10))
    gates = 4 * 20 * (10 + 6) + 4 * 20 * (6 + 6)
    assert result.total.macs == (gates + 2 * 20 * 6) * 21
    assert result.total.ops == 2 * (22 * 20 + (160 if bias else 0)) * 21


def test_a_gru():
    # 3H(I + H) a step
    result = table(nn.GRU(10, 20), (7, 3, 10))
    assert result.total.macs == 3 * 20 * (10 + 20) * 21


class Packed(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = nn.LSTM(8, 16)

    def forward(self, x):
        packed = nn.utils.rnn.pack_padded_sequence(x, [5, 3, 2])
        return nn.utils.rnn.pad_packed_sequence(self.rnn(packed)[0])[0]


def test_a_packed_sequence_counts_the_steps_that_are_there():
    result = table(Packed(), (5, 3, 8))
    assert result.total.macs == (5 + 3 + 2) * 4 * 16 * (8 + 16)
    assert result.complete


# -- quantised ------------------------------------------------------------------------------------


def test_a_dynamically_quantised_linear_reads_int8_weights():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        quantise = torch.ao.quantization.quantize_dynamic
        model = quantise(nn.Sequential(nn.Linear(64, 64)), {nn.Linear}, dtype=torch.qint8)
        result = table(model, torch.zeros(1, 64))
    assert result.total.macs == 4_096
    assert result.total.params == 64 * 64 + 64
    # the input in fp32, 64 × 64 weights in one byte each, the bias in fp32
    assert result.filter_by(op="quantized.linear_dynamic").total.bytes_read == 256 + 4096 + 256
    assert result.complete


# -- ops that do no arithmetic, or little ---------------------------------------------------------


def shuffle(x, groups):
    n, c, h, w = x.shape
    return x.view(n, groups, c // groups, h, w).transpose(1, 2).contiguous().view(n, c, h, w)


def test_a_channel_shuffle_costs_its_copy_alone():
    total = table(lambda x: shuffle(x, 4), (1, 8, 4, 4)).total
    assert (total.macs, total.ops) == (0, 0)
    assert total.bytes_read == total.bytes_written == 8 * 4 * 4 * 4


def test_batch_norm_in_eval_is_a_multiply_and_an_add():
    total = table(nn.BatchNorm2d(8), (2, 8, 4, 4)).total
    assert (total.macs, total.ops) == (0, 2 * 2 * 8 * 4 * 4)


def test_dropout_in_eval_costs_nothing():
    total = table(nn.Sequential(nn.Dropout(), nn.Dropout2d()), (2, 8, 4, 4)).total
    assert (total.ops, total.bytes_read, total.bytes_written) == (0, 0, 0)


def test_squeeze_and_excitation_is_a_small_share_of_its_backbone(example):
    module = example("squeeze_excitation")
    gated = table(module.model(), *module.example_inputs())
    gates = sum(row.cost.macs for row in gated if ".gate." in row.op.module)
    # two products of C²/16 for each of the blocks (3, 4, 6, 3) of 256, 512, 1024, 2048 channels
    squared = 3 * 256**2 + 4 * 512**2 + 6 * 1024**2 + 3 * 2048**2
    assert gates == 2 * squared // 16
    assert 0 < gates < 0.01 * gated.total.macs


def test_the_batch_multiplies_and_is_never_divided_out():
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 5))
    one, four = (table(model, (n, 3, 8, 8)).total for n in (1, 4))
    assert (four.macs, four.ops, four.params) == (4 * one.macs, 4 * one.ops, one.params)


@torch.library.custom_op("costmodel_traps::mystery", mutates_args=())
def mystery(x: torch.Tensor) -> torch.Tensor:
    return x.clone()


@mystery.register_fake
def _(x):
    return torch.empty_like(x)


class Mysterious(nn.Module):
    def forward(self, x):
        return torch.ops.costmodel_traps.mystery(x)


def test_an_op_that_nobody_knows_is_named_with_its_module():
    result = table(nn.Sequential(nn.Linear(4, 4), Mysterious()), (2, 4))
    assert not result.complete
    (unknown,) = result.unsupported
    assert (unknown.op, unknown.count, unknown.module) == ("costmodel_traps.mystery", 1, "1")
    assert result.total.macs == 2 * 4 * 4


# -- whole networks -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "macs", "params"),
    [
        ("mobilenetv3_large_100", 216.590, 5_483_032),
        ("efficientnet_b0", 385.815, 5_288_548),
        ("resnet50", 4_089.184, 25_557_032),
        ("vit_base_patch16_224", 17_563.828, 86_567_656),
        ("convnext_tiny", 4_455.531, 28_589_128),
        ("swin_tiny_patch4_window7_224", 4_490.567, 28_288_354),
    ],
)
def test_a_network_at_224(name, macs, params):
    result = timm_table(name)
    assert round(result.total.macs / 1e6, 3) == macs
    assert result.total.params == params
    assert result.complete


@pytest.mark.parametrize(
    ("variant", "size", "macs", "digits"),
    [(0, 224, 385.8, 1), (1, 240, 686.8, 1), (2, 260, 993.6, 1), (3, 300, 1_827.1, 1),
     (4, 380, 4_393.8, 1), (5, 456, 10_266, 0), (6, 528, 19_068, 0), (7, 600, 37_746, 0)],
)  # fmt: skip
def test_efficientnet_at_its_native_size(variant, size, macs, digits):
    result = timm_table(f"efficientnet_b{variant}", size)
    assert round(result.total.macs / 1e6, digits) == macs
