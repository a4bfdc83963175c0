"""A sample of timm and torchvision: complete, and to the MAC what torch's own counter says.

One model a family, the small ones, and whatever exercises a rule that the others do not. The whole
libraries are counted so by ``make sweep``; its report is ``benchmarks/sweep.md``.
"""

from __future__ import annotations

import json

import pytest
from counting import flop_counter, table

from costmodel.targets import load

TIMM = """
bat_resnext26ts beit3_base_patch16_224 beit_base_patch16_224 botnet26t_256 cait_xxs24_224
coat_lite_mini coatnet_pico_rw_224 convit_tiny convmixer_1536_20 convnext_atto convnextv2_pico
cpubone_nano cs3darknet_focus_s cspnext_tiny darknet17 davit_tiny deit_tiny_distilled_patch16_224
densenet121 dla34 dpn48b eca_halonext26ts eca_vovnet39b edgenext_xx_small efficientformer_l1
efficientformerv2_s0 efficientnet_b0 efficientnet_cc_b0_4e efficientnetv2_rw_t efficientvim_m1
efficientvit_b0 efficientvit_m0 ese_vovnet19b_dw eva02_tiny_patch14_224 fasternet_t0 fastvit_t8
fbnetc_100 flexivit_small focalnet_tiny_srf gcresnext26ts gcvit_xxtiny gernet_s ghostnet_050
ghostnetv2_100 gmixer_12_224 halonet26t hardcorenas_a hgnet_tiny hgnetv2_b0 hiera_tiny_224
iformer_t inception_next_atto inception_v3 lambda_resnet26t lcnet_050 legacy_xception levit_128s
lowformer_b0 mambaout_femto maxvit_rmlp_pico_rw_256 mixer_s32_224 mixnet_s mnasnet_050
mobilenet_edgetpu_v2_l mobilenetv1_100 mobilenetv2_035 mobilenetv3_small_050
mobilenetv4_hybrid_medium mobileone_s0 mobilevit_xxs mobilevitv2_050 mvitv2_tiny nest_tiny
nf_resnet26 nfnet_l0 pit_ti_224 poolformer_s12 pvt_v2_b0 rdnet_tiny regnetx_002 regnety_002
regnetz_005 repghostnet_050 repvgg_a0 repvit_m0_9 res2net50_48w_2s resmlp_12_224 resnest14d
resnet18 resnet26t resnetv2_18 rexnet_100 sam2_hiera_tiny samvit_base_patch16 seresnet18
selecsls42 shvit_s1 skresnet18 spnasnet_100 starnet_s1 swiftformer_xs swin_tiny_patch4_window7_224
swinv2_cr_tiny_224 swinv2_tiny_window8_256 test_vit3 tf_efficientnet_lite0 tf_mixnet_s
tiny_vit_5m_224 tinynet_e tnt_s_patch16_224 tresnet_m twins_pcpvt_small twins_svt_small vgg11
visformer_tiny vit_base_patch16_siglip_224 vit_srelpos_medium_patch16_224 vit_tiny_r_s16_p8_384
vitamin_small_224 volo_d1_224 wide_resnet50_2 xcit_nano_12_p16_224
""".split()  # noqa: SIM905

TORCHVISION = """
alexnet densenet121 efficientnet_v2_s googlenet lraspp_mobilenet_v3_large maxvit_t mc3_18
mnasnet0_5 mobilenet_v3_small mvit_v1_b r2plus1d_18 raft_small regnet_y_400mf s3d
shufflenet_v2_x0_5 squeezenet1_1 swin_v2_t vit_b_32
""".split()  # noqa: SIM905

NAMES = [f"timm:{name}" for name in TIMM] + [f"torchvision:{name}" for name in TORCHVISION]


@pytest.mark.filterwarnings("ignore:The default weight initialization:FutureWarning")
@pytest.mark.parametrize("name", NAMES)
def test_a_network_is_complete_and_agrees_with_torchs_counter(name):
    target = load(name)
    inputs = [x.to("meta") for x in target.inputs.args]
    result = table(target.module, *inputs)
    assert result.unsupported == ()
    assert result.info.tracer == "meta"
    assert result.total.params == sum(p.numel() for p in target.module.parameters())
    model = target.module.to("meta").requires_grad_(False)
    assert result.total.macs == flop_counter(model, inputs)


def test_the_sample_is_of_at_least_sixty_families():
    assert len({name.partition("_")[0] for name in TIMM}) >= 60


def test_the_last_sweep_found_no_difference(repository):
    report = (repository / "benchmarks" / "sweep.md").read_text()
    assert report.rstrip().endswith("## Differences\n\nNone.")
    rows = [
        line.split("|") for line in report.splitlines() if line.startswith(("| timm", "| torchv"))
    ]
    counts = {row[1].strip(): (int(row[2]), int(row[3])) for row in rows}
    assert counts["timm"][0] >= 1371
    assert counts["torchvision"][0] >= 97
    assert all(models == right for models, right in counts.values()), json.dumps(counts)
