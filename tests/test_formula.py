"""Formulas that a person can derive: each golden line says how, in a comment."""

from __future__ import annotations

import json
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import sympy
from click.testing import CliRunner
from torch import nn

from costmodel.cli import cli
from costmodel.errors import CostModelError
from costmodel.formula import Formula, formula
from costmodel.formula.growth import growth
from costmodel.formula.layout import lay_out
from costmodel.formula.render import json as as_json
from costmodel.formula.render import python, text
from costmodel.formula.text import UNICODE, write

SEPARABLE = "examples/depthwise_separable.py:DepthwiseSeparable"
IMAGE = "N x C_in x H x W"


def shown(found: Formula, quantity: str = "macs") -> str:
    return write(lay_out(found.tidy(), [quantity]).lines[0].trees[0], UNICODE)


def golden(builder: Any, inputs: Any, macs: str, params: str, **arguments: Any) -> Formula:
    found = formula(builder, inputs=inputs, **arguments)
    assert shown(found) == macs
    assert shown(found, "params") == params
    return found


def test_linear() -> None:
    # A row of I weights for each of O outputs, once for each of N rows; a bias for each output.
    golden(nn.Linear, "N x I", "N·I·O", "I·O + O", in_features="I", out_features="O")


def test_conv2d_with_every_argument() -> None:
    # Each of N·H_out·W_out·C_out outputs sums K·K taps in the C_in/g channels of its group. The
    # window of D·(K - 1) + 1 fits into H + 2P at ⌊(H + 2P - D(K - 1) - 1)/S⌋ + 1 places.
    found = golden(
        nn.Conv2d, IMAGE, "N·H_out·W_out·K²·C_in·C_out/g", "K²·C_in·C_out/g + C_out",
        in_channels="C_in", out_channels="C_out", kernel_size="K", stride="S", padding="P",
        dilation="D", groups="g",
    )  # fmt: skip
    where = {str(n): str(e) for n, e in lay_out(found, ["macs"]).where}
    assert where["H_out"] == "floor((-D*(K - 1) + H + 2*P - 1)/S) + 1"
    # 1·4·4·6 outputs of 3·3·(4/2) taps: stride 2 over 8 with padding 1.
    point = {"N": 1, "C_in": 4, "C_out": 6, "H": 8, "W": 8, "K": 3, "S": 2, "P": 1, "D": 1, "g": 2}
    assert found.evaluate(**point)["macs"] == 96 * 18
    with pytest.raises(CostModelError, match=r"outside the domain: .* g divides C_in"):
        found.evaluate(**{**point, "C_in": 5})


def test_conv_transpose2d() -> None:
    # Every input element is spread over K·K·C_out outputs, whatever stride and padding are.
    golden(
        nn.ConvTranspose2d, IMAGE, "N·H·W·K²·C_in·C_out", "K²·C_in·C_out + C_out",
        in_channels="C_in", out_channels="C_out", kernel_size="K", stride="S", padding="P",
    )  # fmt: skip


def test_depthwise_separable(example: Callable[[str], ModuleType]) -> None:
    # K·K taps in one channel for each of C_in outputs, then C_in taps for each of C_out. Two batch
    # norms have two parameters a channel.
    golden(
        example("depthwise_separable").DepthwiseSeparable, IMAGE, "N·H·W·(K²·C_in + C_in·C_out)",
        "K²·C_in + C_in·C_out + 2·C_in + 2·C_out", in_ch="C_in", out_ch="C_out", kernel="K",
    )  # fmt: skip


def test_grouped_and_shuffled(example: Callable[[str], ModuleType]) -> None:
    # ShuffleNet: 1x1 from C to C/4 in g groups, 3x3 depthwise on C/4, 1x1 back: C²/4g + 9C/4 +
    # C²/4g. The shuffle between them adds nothing.
    golden(
        example("shufflenet").ShuffleUnit, "N x C x H x W", "N·H·W·(C²/(2·g) + 9·C/4)",
        "C²/(2·g) + 21·C/4", in_ch="C", out_ch="C", groups="g",
    )  # fmt: skip


def test_squeeze_and_excitation(example: Callable[[str], ModuleType]) -> None:
    # Two products between vectors of C and C/r, a sample; the map's size does not matter.
    golden(
        example("squeeze_excitation").SqueezeExcitation, "N x C x H x W", "2·N·C²/r",
        "C·(2·C/r + 1 + 1/r)", channels="C", reduction="r",
    )  # fmt: skip


def test_bottleneck(example: Callable[[str], ModuleType]) -> None:
    # C_in·w to narrow, 9·w² in the middle, 4w² to widen, 4w·C_in in the projected shortcut.
    found = formula(example("bottleneck").Bottleneck, in_ch="C_in", width="w", inputs=IMAGE)
    assert shown(found) == "N·H·W·(5·C_in·w + 13·w²)"


def test_inverted_residual(example: Callable[[str], ModuleType]) -> None:
    # MobileNetV2, section 3: h·w·t·d'(d' + k² + d'') with k = 3.
    found = formula(
        example("inverted_residual").InvertedResidual, in_ch="C_in", out_ch="C_out", expand="t",
        inputs=IMAGE,
    )  # fmt: skip
    assert shown(found) == "N·H·W·C_in·t·(C_in + 9 + C_out)"


def test_mbconv(example: Callable[[str], ModuleType]) -> None:
    # The inverted residual with a K·K filter, tC² each way; its gate squeezes tC to C/4 and back.
    found = formula(
        example("mbconv").MBConv, in_ch="C", out_ch="C", kernel="K", expand="t",
        inputs="N x C x H x W",
    )  # fmt: skip
    N, H, W, C, K, t = (sympy.Symbol(s, integer=True, positive=True) for s in "NHWCKt")
    expected = N * H * W * (2 * t * C**2 + K**2 * t * C) + 2 * N * t * C * C / 4
    assert sympy.expand(found.tidy().macs - expected) == 0


def test_self_attention(example: Callable[[str], ModuleType]) -> None:
    # Three projections in and one out: 4d² a token; a token meets L keys and L values: 2·L·d.
    golden(
        example("attention").SelfAttention, "N x L x d", "N·L·(4·d² + 2·L·d)", "4·d² + 4·d",
        dim="d", heads="h",
    )  # fmt: skip


def test_transformer_encoder_layer(example: Callable[[str], ModuleType]) -> None:
    # Attention's 4d² + 2Ld and a feed-forward pair of d·4d each: 12d² + 2Ld a token.
    # Biases: 4d + 4d + d, and two norms of 2d.
    golden(
        example("attention").EncoderLayer, "N x L x d", "N·L·(12·d² + 2·L·d)", "12·d² + 13·d",
        dim="d", heads="h", hidden="4*d",
    )  # fmt: skip


def test_lstm() -> None:
    # Four gates see input and state: 4H(E + H) a step in the first layer, 4H(H + H) in the others.
    found = formula(nn.LSTM, input_size="E", hidden_size="H", num_layers="n", inputs="T x N x E")
    T, N, E, H, n = (sympy.Symbol(s, integer=True, positive=True) for s in "TNEHn")
    assert sympy.expand(found.macs - N * T * (4 * H * (E + H) + (n - 1) * 8 * H**2)) == 0
    assert found.method == "fitted exactly"


def test_vit_in_depth_width_and_resolution(example: Callable[[str], ModuleType]) -> None:
    # L = (R/16)² + 1 tokens; 12d² + 2Ld each a layer; a patch is 3·16² numbers; 1000 classes.
    found = formula(
        example("vit").VisionTransformer, depth="n", width="d", resolution="R",
        inputs="N x 3 x R x R",
    ).tidy()  # fmt: skip
    N, n, d, R = (sympy.Symbol(s, integer=True, positive=True) for s in "NndR")
    patches = R**2 / 256
    tokens = patches + 1
    expected = N * (n * tokens * (12 * d**2 + 2 * tokens * d) + patches * 768 * d + 1000 * d)
    assert sympy.expand(found.macs - expected) == 0
    assert found.evaluate(N=1, n=12, d=192, R=224)["params"] == 5_717_416
    with pytest.raises(CostModelError, match="R a multiple of 16"):
        found.evaluate(N=1, n=12, d=192, R=225)


def test_decoder_in_layers_hidden_and_length(example: Callable[[str], ModuleType]) -> None:
    # A layer as in an encoder; the head is d·V a token, tied to the embedding: V·d once.
    found = formula(
        example("decoder").Decoder, layers="n", hidden="d", heads="h", vocab="V", sequence="M",
        inputs="int64: N x L",
    )  # fmt: skip
    N, L, n, d, V, M = (sympy.Symbol(s, integer=True, positive=True) for s in "NLndVM")
    assert sympy.expand(found.macs - N * L * (n * (12 * d**2 + 2 * L * d) + d * V)) == 0
    assert sympy.expand(found.params - (n * (12 * d**2 + 13 * d) + 2 * d + V * d + M * d)) == 0


# -- what it says of itself ------------------------------------------------------------------


def test_the_branch_that_was_not_taken_is_outside(example: Callable[[str], ModuleType]) -> None:
    found = formula(
        example("inverted_residual").InvertedResidual, in_ch="a", out_ch="b", inputs="N x a x H x W"
    )
    with pytest.raises(CostModelError, match="a ≠ b; not so at N=1, H=8, W=8, a=4, b=4"):
        found.evaluate(N=1, H=8, W=8, a=4, b=4)


def test_batch_one_is_inside_where_it_agrees() -> None:
    found = formula(nn.Conv2d, in_channels=3, out_channels=8, kernel_size=3, inputs="N x 3 x H x W")
    assert found.evaluate(N=1, H=5, W=5)["macs"] == 9 * 27 * 8


def test_growth_names_the_family_that_wins(example: Callable[[str], ModuleType]) -> None:
    found = formula(
        example("depthwise_separable").DepthwiseSeparable, in_ch="C", out_ch="C",
        inputs="N x C x H x W",
    )  # fmt: skip
    [width] = [g for g in growth(found) if g.symbol.name == "C"]
    assert (width.degree, dict(width.families)) == (2, {"depthwise": 1, "pointwise": 2})
    assert dict(width.shares) == {"depthwise": 0, "pointwise": 1}


def test_python_source_counts_the_same(example: Callable[[str], ModuleType]) -> None:
    found = formula(
        example("squeeze_excitation").SqueezeExcitation, channels="C", reduction="r",
        inputs="N x C x H x W",
    )  # fmt: skip
    space: dict[str, Any] = {}
    exec(python(found), space)  # noqa: S102 - our own output is what is tested
    counted = space["cost_of_SqueezeExcitation"](N=2, H=4, W=4, C=100, r=16)
    said = found.evaluate(N=2, H=4, W=4, C=100, r=16)
    assert counted == {name: said[name] for name in counted}
    with pytest.raises(ValueError, match="outside the domain"):
        space["cost_of_SqueezeExcitation"](N=2, H=4, W=4, C=8, r=16)


def test_function_is_exact_over_arrays(example: Callable[[str], ModuleType]) -> None:
    import numpy as np

    found = formula(
        example("squeeze_excitation").SqueezeExcitation, channels="C", reduction="r",
        inputs="N x C x H x W",
    )  # fmt: skip
    widths = np.array([64, 100, 256])
    values = found.function("bytes")(N=1, H=7, W=7, C=widths, r=16)
    assert values.dtype == np.int64
    assert values.tolist() == [
        found.evaluate(N=1, H=7, W=7, C=int(c), r=16)["bytes"] for c in widths
    ]


def test_repeated_blocks_collapse(example: Callable[[str], ModuleType]) -> None:
    found = formula(example("decoder").Decoder(layers=4), inputs="int64: N x L")
    lines = text(found, ["macs"], "module").splitlines()
    assert lines[lines.index("layers.*.qkv  ×4") + 1] == "  MACs = 196,608·N·L"


def test_an_op_without_a_rule_makes_a_lower_bound() -> None:
    import torch

    class Odd(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.linalg.matrix_exp(x)

    found = formula(Odd(), inputs="N x 4 x 4")
    if found.unsupported:
        assert "lower bounds: no rule knows" in text(found)
    else:
        assert found.ops != 0


# -- the command -----------------------------------------------------------------------------


def run(*words: str) -> Any:
    return CliRunner().invoke(cli, words, prog_name="costmodel")


@pytest.fixture(autouse=True)
def in_repository(monkeypatch: pytest.MonkeyPatch, repository: Any) -> None:
    monkeypatch.chdir(repository)


def test_command_prints_the_formula() -> None:
    result = run("formula", SEPARABLE, "--symbols", "in_ch=C_in,out_ch=C_out", "--dims", "N,H,W")
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        "MACs = N·H·W·(9·C_in + C_in·C_out)",
        "Parameters = C_in·C_out + 11·C_in + 2·C_out",
        # Float32, each op: 7 reads or writes of C_in maps and 5 of C_out, and the weights.
        "Bytes = N·H·W·(28·C_in + 20·C_out) + 4·(C_in·C_out + 13·C_in + 4·C_out)",
        "Ops = N·H·W·(3·C_in + 3·C_out)",
        "for whole N, H, W, C_in, C_out ≥ 1",
    ]


def test_json_keeps_the_contract() -> None:
    result = run(
        "formula", SEPARABLE, "--symbols", "in_ch=C_in,out_ch=C_out", "--dims", "N,H,W",
        "--format", "json",
    )  # fmt: skip
    data = json.loads(result.stdout)
    assert data["schema"] == 1
    assert data["symbols"]["C_in"] == "input channels"
    assert data["total"]["macs"] == "H*N*W*(C_in*C_out + 9*C_in)"
    assert data["rows"][0]["name"] == "depthwise.conv2d"
    assert data["domain"] == []


def test_json_of_floors_is_exact() -> None:
    found = formula(nn.Conv2d, in_channels=1, out_channels=1, kernel_size=3, stride=2, padding=1,
                    inputs="N x 1 x H x W")  # fmt: skip
    data = json.loads(as_json(found))
    exact = sympy.sympify(data["total"]["macs"], {"N": sympy.Symbol("N")})
    assert exact.subs({"N": 1, "H": 7, "W": 9}) == 4 * 5 * 9
    assert data["tidy"]["assumptions"] == ["H, W multiples of 2"]


def test_compare_reduces_the_ratio() -> None:
    # Per pixel K²·C_in·C_out against K²·C_in + C_in·C_out: 9·256² and 9·256 + 256².
    result = run(
        "compare", "examples/conv.py:StandardConv(bias=False)", SEPARABLE,
        "--symbols", "in_ch=C_in,out_ch=C_out,kernel=K", "--dims", "N,H,W",
        "--at", "K=3,C_in=256,C_out=256",
    )  # fmt: skip
    assert result.exit_code == 0
    assert "B/A = 1/C_out + 1/K²\n" in result.stdout
    assert "B/A falls as C_out grows, towards 1/K²\n" in result.stdout
    assert "A 589,824, B 67,840, B/A 0.1150\n" in result.stdout


def test_compare_grouped_convolution() -> None:
    arguments = "in_ch=C_in,out_ch=C_out,kernel=K"
    result = run(
        "compare", "examples/conv.py:StandardConv", "examples/conv.py:StandardConv",
        "--symbols", arguments, "--symbols", f"{arguments},groups=g", "--dims", "N,H,W",
    )  # fmt: skip
    assert "B/A = 1/g\n" in result.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--symbols", "in_ch=3.5"], "'3.5' is neither a symbol nor whole-number arithmetic"),
        (["--symbols", "width=w"], "has no argument 'width' to stand for w; its arguments are"),
        (["--symbols", "in_ch"], "write ARGUMENT=SYMBOL, as in in_ch=C_in"),
        (["--dims", "N,Q"], "no dimension Q in an input of 1x64x56x56"),
        (["--symbols", "in_ch=__import__('os')"], "is neither a symbol nor"),
        ([], "no symbols asked for; name some with --dims N,H,W"),
    ],
)
def test_bad_input_is_one_line(words: list[str], message: str) -> None:
    result = run("formula", SEPARABLE, *words)
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stderr.count("\n") == 1


def test_bad_points_are_one_line_each() -> None:
    found = formula(nn.Linear, in_features="I", out_features="O", inputs="N x I")
    with pytest.raises(CostModelError, match="no symbol Q; the formula has N, I, O"):
        found.evaluate(N=1, I=2, O=3, Q=4)
    with pytest.raises(CostModelError, match=r"I=2\.5: a symbol stands for a positive integer"):
        found.evaluate(N=1, I=2.5, O=3)  # type: ignore[arg-type]
    with pytest.raises(CostModelError, match="no value for O"):
        found.evaluate(N=1, I=2)


def test_a_count_that_no_polynomial_fits_is_refused() -> None:
    class Doubling(nn.Sequential):
        def __init__(self, blocks: int = 3) -> None:
            super().__init__(*(nn.Linear(2**i, 2 ** (i + 1)) for i in range(int(blocks))))

    with pytest.raises(CostModelError, match="its counts are no polynomial of n, by traces at n ="):
        formula(Doubling, blocks="n", inputs="N x 1")
