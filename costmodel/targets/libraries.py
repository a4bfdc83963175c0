"""Models of timm and torchvision: never pretrained, at the input size that the library declares."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from importlib import import_module
from typing import Any

from torch import nn

from costmodel.errors import CostModelError
from costmodel.inputs import Inputs, Shape
from costmodel.targets.build import Builder, quiet
from costmodel.targets.call import Call
from costmodel.targets.torchvision_shim import install

#: Frames of a clip where torchvision does not say how many: what its video models were trained on.
FRAMES = 16
#: Size that torchvision's optical-flow recipe resizes to, and that its detection models work at.
FLOW, DETECTION = (520, 960), (800, 800)


def imported(package: str) -> Any:
    """An optional library, with torchvision made importable first."""
    install()
    try:
        return import_module(package)
    except ModuleNotFoundError as error:
        raise CostModelError(
            f"{package} is not installed; try: pip install 'torch-costmodel[{package}]'"
        ) from error


def no_such(what: str, name: str, known: Iterable[str]) -> CostModelError:
    """The error for an unknown name, with the nearest known ones."""
    near = difflib.get_close_matches(name, list(known), n=3, cutoff=0.5)
    hint = f"did you mean {', '.join(near)}?" if near else f"see the list of {what}'s models"
    return CostModelError(f"{what} has no model {name!r}; {hint}")


def from_timm(call: Call) -> Builder:
    """``timm:NAME(…)``: arguments go to ``timm.create_model``."""
    timm = imported("timm")
    name = _named(call)
    if not timm.is_model(name.partition(".")[0]):
        raise no_such("timm", name, timm.list_models())
    _no_weights(call)
    if call.args:
        raise CostModelError(f"{call.text}: timm takes keywords only, as in {name}(num_classes=10)")

    def construct(**kwargs: Any) -> Any:
        with quiet():
            return timm.create_model(name, pretrained=False, **kwargs)

    def inputs(module: nn.Module) -> Inputs | None:
        return timm_inputs(module, call.kwargs.get("img_size"), call.kwargs.get("in_chans"))

    return Builder(call.text, construct, (), call.kwargs, inputs)


def timm_inputs(module: nn.Module, size: Any = None, channels: Any = None) -> Inputs | None:
    """One image at the input size in a timm model's configuration; ``None`` for other models."""
    config = getattr(module, "pretrained_cfg", None) or getattr(module, "default_cfg", None)
    declared = config.get("input_size") if isinstance(config, dict) else None
    if not declared:
        return None
    height, width = _pair(size) if size else declared[1:]
    return Inputs((Shape((1, channels or declared[0], height, width)).tensor(),))


def from_torchvision(call: Call) -> Builder:
    """``torchvision:NAME(…)``: arguments go to the builder of that name."""
    models = imported("torchvision").models
    name = _named(call)
    if name not in models.list_models():
        raise no_such("torchvision", name, models.list_models())
    _no_weights(call)
    function: Callable[..., Any] = models.get_model_builder(name)
    if ".detection." in function.__module__ and install() is not None:
        raise CostModelError(
            f"{call.text}: detection models call torchvision's compiled extension, which does not "
            "load here; install the torchvision that was built for this torch"
        )
    kwargs = dict(call.kwargs)
    if "quantization" not in function.__module__:
        # Detection and segmentation would fetch a backbone even where no weights are asked for.
        weights = [k for k in _parameters(function) if k.startswith("weights")]
        kwargs = {**dict.fromkeys(weights), **kwargs}

    def inputs(module: nn.Module) -> Inputs | None:
        return _torchvision_inputs(models.get_model_weights(name), module)

    def construct(*args: Any, **kwargs: Any) -> Any:
        with quiet():
            return function(*args, **kwargs)

    return Builder(call.text, construct, call.args, kwargs, inputs)


def _torchvision_inputs(weights: Any, module: nn.Module) -> Inputs | None:
    """What the transforms of the published weights would feed; nothing is downloaded.

    A module that was made for one ``image_size`` takes that size.
    """
    entries = list(weights)
    if not entries:
        return None
    entry = getattr(weights, "DEFAULT", entries[0])
    preset = getattr(entry.transforms, "func", entry.transforms).__name__
    options = getattr(entry.transforms, "keywords", {})
    own = getattr(module, "image_size", None)
    size = _pair(own or options.get("crop_size") or options.get("resize_size") or 224)
    match preset:
        case "OpticalFlow":
            frame = Shape((1, 3, *FLOW))
            return Inputs((frame.tensor(), frame.tensor()))
        case "ObjectDetection":
            return Inputs(([Shape((3, *DETECTION)).tensor()],))
        case "VideoClassification":
            frames = max(FRAMES, entry.meta.get("min_temporal_size", 1))
            return Inputs((Shape((1, 3, frames, *size)).tensor(),))
    return Inputs((Shape((1, 3, *size)).tensor(),))


def _named(call: Call) -> str:
    if call.name is None:
        raise CostModelError(f"{call.text}: no model is named; write {call.place}:resnet50")
    return call.name


def _no_weights(call: Call) -> None:
    for name in ("pretrained", "weights", "weights_backbone", "checkpoint_path"):
        if call.kwargs.get(name):
            raise CostModelError(
                f"{call.text}: {name} would fetch weights, which no cost depends on; leave it out"
            )


def _parameters(function: Callable[..., Any]) -> list[str]:
    import inspect

    return list(inspect.signature(function).parameters)


def _pair(size: Any) -> tuple[int, int]:
    """``224`` or ``(256,)`` or ``(384, 224)`` as height and width."""
    if isinstance(size, int):
        return size, size
    sizes = tuple(int(value) for value in size)
    return (sizes[0], sizes[-1])


def take_norms_of_torch(module: Any) -> None:
    """Let a vision transformer call layer norms as ``torch.nn`` does; other networks stay."""
    timm = imported("timm")
    if isinstance(module, timm.models.VisionTransformer):
        for part in module.modules():
            if type(part) is timm.layers.LayerNorm:
                part.__class__ = nn.LayerNorm
