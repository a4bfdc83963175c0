"""Architectures of transformers: complete, and to the MAC what torch's own counter says.

Each comes from its configuration, some with fewer layers. A model that asks for values runs for
real on zeros; the oracle does the same then. Mixtures of experts are counted by hand as well, for
torch's counter does not see their grouped products.
"""

from __future__ import annotations

import os

import pytest
import torch
import torch.utils._pytree as pytree
from counting import flop_counter, table

from costmodel.preserve import with_data
from costmodel.targets import load
from costmodel.tracer import trace

os.environ["TRANSFORMERS_VERBOSITY"] = "critical"
pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

DENSE = """
BertModel(num_hidden_layers=2)
RobertaModel(num_hidden_layers=2)
DistilBertModel(n_layers=2)
AlbertModel(num_hidden_layers=2)
ElectraModel(num_hidden_layers=2)
MPNetModel(num_hidden_layers=2)
FNetModel(num_hidden_layers=2)
ModernBertModel(num_hidden_layers=2)
XLNetModel(n_layer=2)
EsmModel(num_hidden_layers=2,vocab_size=33,pad_token_id=1)
FunnelModel()
DebertaV2Model(num_hidden_layers=1,hidden_size=64,intermediate_size=128,num_attention_heads=4)
LongformerModel(num_hidden_layers=1,attention_window=64)
NystromformerModel(num_hidden_layers=1)
RoFormerModel(num_hidden_layers=1)
CanineModel(num_hidden_layers=1)
GPT2LMHeadModel(n_layer=2)
GPTNeoXForCausalLM(num_hidden_layers=2)
GPTJForCausalLM(n_layer=2)
OPTForCausalLM(num_hidden_layers=2)
BloomForCausalLM(n_layer=2)
FalconForCausalLM(num_hidden_layers=2)
LlamaForCausalLM(num_hidden_layers=2)
MistralForCausalLM(num_hidden_layers=2)
Qwen2ForCausalLM(num_hidden_layers=2)
Qwen3ForCausalLM(num_hidden_layers=2)
GemmaForCausalLM(num_hidden_layers=2)
Gemma2ForCausalLM(num_hidden_layers=2)
PhiForCausalLM(num_hidden_layers=2)
Phi3ForCausalLM(num_hidden_layers=2,pad_token_id=0)
StableLmForCausalLM(num_hidden_layers=2)
CohereForCausalLM(num_hidden_layers=2)
OlmoForCausalLM(num_hidden_layers=2)
MptForCausalLM(n_layers=2)
MambaForCausalLM(num_hidden_layers=1)
Mamba2ForCausalLM(num_hidden_layers=2)
RwkvForCausalLM(num_hidden_layers=1)
RecurrentGemmaForCausalLM(num_hidden_layers=3)
xLSTMForCausalLM(num_hidden_layers=2)
T5Model(num_layers=2)
MT5Model(num_layers=2)
BartModel(encoder_layers=2,decoder_layers=2)
PegasusModel(encoder_layers=2,decoder_layers=2)
MarianModel(encoder_layers=2,decoder_layers=2)
ProphetNetModel(num_encoder_layers=2,num_decoder_layers=2)
ViTModel(num_hidden_layers=2)
DeiTModel(num_hidden_layers=2)
BeitModel(num_hidden_layers=2)
SwinModel()
ConvNextModel()
SegformerModel()
Dinov2Model(num_hidden_layers=2)
MobileViTModel()
LevitModel()
VivitModel(num_hidden_layers=2)
DetrModel()
YolosModel(num_hidden_layers=2)
Wav2Vec2Model(num_hidden_layers=2)
HubertModel(num_hidden_layers=2)
WavLMModel(num_hidden_layers=2)
WhisperModel(encoder_layers=2,decoder_layers=2)
Speech2TextModel(encoder_layers=2,decoder_layers=2)
ASTModel(num_hidden_layers=2)
SEWModel(num_hidden_layers=2)
CLIPModel()
SiglipModel()
ChineseCLIPModel()
GroupViTModel()
FlavaModel()
LlavaForConditionalGeneration()
GitModel()
""".split()  # noqa: SIM905


@pytest.mark.parametrize("name", DENSE)
def test_an_architecture_is_complete_and_agrees_with_torchs_counter(name):
    target = load(f"hf:{name}")
    result = table(target.module, *target.inputs.args, kwargs=target.inputs.kwargs)
    assert result.unsupported == ()
    assert result.total.params == sum(p.numel() for p in target.module.parameters())
    args, kwargs = target.inputs.args, dict(target.inputs.kwargs)
    if result.info.tracer == "cpu":
        (note,) = result.info.notes
        assert "needs values" in note
        device = "cpu"
    else:
        device = "meta"

    def place(x):
        return torch.zeros(x.shape, dtype=x.dtype, device=device)

    args, kwargs = pytree.tree_map_only(torch.Tensor, place, (args, kwargs))
    model = target.module.requires_grad_(False)
    if device == "cpu":
        with with_data(model):
            assert result.total.macs == flop_counter(model, args, kwargs)
    else:
        assert result.total.macs == flop_counter(model.to("meta"), args, kwargs)


def test_at_least_forty_architectures():
    assert len({name.partition("(")[0] for name in DENSE}) >= 40


# -- mixtures of experts --------------------------------------------------------------------------

#: Name, layers with experts, experts a token, hidden width, width of an expert.
EXPERTS = [
    ("MixtralForCausalLM(num_hidden_layers=2)", 2, 2, 4096, 14336),
    ("Qwen2MoeForCausalLM(num_hidden_layers=2)", 2, 4, 2048, 1408),
    ("Qwen3MoeForCausalLM(num_hidden_layers=2)", 2, 8, 2048, 768),
    ("OlmoeForCausalLM(num_hidden_layers=2)", 2, 8, 2048, 2048),
    ("DeepseekV3ForCausalLM(num_hidden_layers=4)", 1, 8, 7168, 2048),
    ("GptOssForCausalLM(num_hidden_layers=2)", 2, 4, 2880, 2880),
    ("JambaForCausalLM(num_hidden_layers=4,attn_layer_offset=1,attn_layer_period=4)", 2, 2, 4096,
     14336),
]  # fmt: skip


@pytest.mark.parametrize(("name", "layers", "chosen", "hidden", "width"), EXPERTS)
def test_a_mixture_of_experts_counts_the_experts_that_are_chosen(
    name, layers, chosen, hidden, width
):
    target = load(f"hf:{name}")
    ids = target.inputs.kwargs.get("input_ids") if target.inputs.kwargs else target.inputs.args[0]
    result = table(target.module, *target.inputs.args, kwargs=target.inputs.kwargs)
    grouped = result.filter_by(op="aten._grouped_mm").total
    # every token meets its experts, three products each (two for GPT-OSS, one twice as wide)
    assert grouped.macs == layers * ids.numel() * chosen * 3 * hidden * width
    assert result.complete
    assert result.info.tracer == "meta"
    assert result.total.params == sum(p.numel() for p in target.module.parameters())
    # and everything else is as torch counts it; in bfloat16, where torch can run the products
    args, kwargs = pytree.tree_map_only(
        torch.Tensor, lambda x: x.to("meta"), (target.inputs.args, dict(target.inputs.kwargs))
    )
    model = target.module.to("meta", torch.bfloat16).requires_grad_(False)
    assert result.total.macs - grouped.macs == flop_counter(model, args, kwargs)


def test_a_capacity_drops_tokens_when_all_want_one_expert():
    # Switch routes by value and so runs on zeros: all 128 tokens tie for the first of 8 experts,
    # which takes 64. A router in use spreads them; equal load would give 128 · 2 · d · d_ff.
    target = load(
        "hf:SwitchTransformersModel(num_layers=2,num_decoder_layers=2,"
        "num_sparse_encoder_layers=1,num_sparse_decoder_layers=1)"
    )
    result = table(target.module, *target.inputs.args, kwargs=target.inputs.kwargs)
    assert result.complete
    assert result.info.tracer == "cpu"
    experts = sum(r.cost.macs for r in result if ".experts." in r.op.module)
    assert experts == 2 * 64 * 2 * 768 * 2048


def test_a_model_too_large_to_run_for_its_values_is_one_clear_line():
    from costmodel.errors import CostModelError

    target = load("hf:NllbMoeModel()")
    with pytest.raises(CostModelError, match=r"needs values, and its \d+ GB .* do not fit"):
        trace(target.module, target.inputs.args, target.inputs.kwargs)
