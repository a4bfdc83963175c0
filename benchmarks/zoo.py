"""The architectures of timm and torchvision, built without weights, and an outside MAC counter."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

#: torchvision's inputs where they are not one image of 224 × 224.
VIDEO = {"mvit": (16, 224), "s3d": (16, 224), "swin3d": (16, 224)}


def names(library: str | None = None) -> list[str]:
    """Every target, ``timm:…`` before ``torchvision:…``."""
    _load_torchvision()
    import timm
    import torchvision.models as tv

    groups = (tv, tv.segmentation, tv.optical_flow, tv.video)
    found = [f"timm:{name}" for name in timm.list_models()]
    found += [f"torchvision:{n}" for g in groups for n in tv.list_models(module=g)]
    return [name for name in found if library is None or name.startswith(f"{library}:")]


def build(target: str) -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
    """The model in eval mode, on the meta device unless its constructor refuses, and its inputs."""
    _load_torchvision()
    library, _, name = target.partition(":")
    try:
        with torch.device("meta"):
            model = _create(library, name)
    except (RuntimeError, NotImplementedError, TypeError, ValueError):
        model = _create(library, name)
    shapes = [(1, *model.default_cfg["input_size"])] if library == "timm" else _shapes(name)
    return model.eval(), tuple(torch.empty(shape, device="meta") for shape in shapes)


def _create(library: str, name: str) -> nn.Module:
    if library == "timm":
        import timm

        return timm.create_model(name)
    import torchvision.models as tv

    options: dict[str, Any] = {}
    if name in tv.list_models(module=tv.segmentation):
        options = {"weights": None, "weights_backbone": None}
    return tv.get_model(name, **options)


def _shapes(name: str) -> list[tuple[int, ...]]:
    import torchvision.models as tv

    if name in tv.list_models(module=tv.optical_flow):
        return [(1, 3, 520, 960)] * 2
    if name in tv.list_models(module=tv.video):
        frames, size = next((v for k, v in VIDEO.items() if name.startswith(k)), (16, 112))
        return [(1, 3, frames, size, size)]
    if name in tv.list_models(module=tv.segmentation):
        return [(1, 3, 520, 520)]
    return [(1, 3, 299, 299) if name == "inception_v3" else (1, 3, 224, 224)]


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


def _load_torchvision() -> None:
    """Import torchvision, also where its compiled extension cannot be loaded."""
    try:
        import torchvision  # noqa: F401
    except RuntimeError:
        library = torch.library.Library("torchvision", "DEF")
        library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _KEEP.append(library)
        import torchvision  # noqa: F401


_KEEP: list[torch.library.Library] = []
