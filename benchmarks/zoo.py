"""The architectures of timm and torchvision, built without weights, and an outside MAC counter."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from costmodel.targets import load, torchvision_shim


def names(library: str | None = None) -> list[str]:
    """Every target, ``timm:…`` before ``torchvision:…``."""
    torchvision_shim.install()
    import timm
    import torchvision.models as tv

    groups = (tv, tv.segmentation, tv.optical_flow, tv.video)
    found = [f"timm:{name}" for name in timm.list_models()]
    found += [f"torchvision:{n}" for g in groups for n in tv.list_models(module=g)]
    return [name for name in found if library is None or name.startswith(f"{library}:")]


def build(target: str) -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
    """The model in eval mode, without weights where its constructor allows, and its own inputs."""
    loaded = load(target)
    assert loaded.inputs is not None
    return loaded.module.eval(), tuple(tensor.to("meta") for tensor in loaded.inputs.args)


def oracle(model: nn.Module, inputs: tuple[torch.Tensor, ...]) -> int:
    """MACs that torch's own counter sees, with attention decomposed into its two products."""
    if not all(t.is_meta for t in (*model.parameters(), *model.buffers())):
        model = model.to("meta")
    # The counter follows modules by their gradients and fails where a parameter is an argument.
    model.requires_grad_(False)
    with torch.no_grad(), FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        model(*inputs)
    flops = counter.get_total_flops()
    assert flops % 2 == 0
    return flops // 2
