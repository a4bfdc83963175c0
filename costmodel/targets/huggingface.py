"""Models of transformers, from a configuration alone: ``hf:CONFIG_DIR``, ``hf:BertConfig(…)``.

A folder holds a ``config.json``; a name is a configuration class, or a model class
(``hf:LlamaForCausalLM(num_hidden_layers=2)``). Arguments override the configuration. Nothing is
downloaded and no code of the folder is run.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn

from costmodel.errors import CostModelError
from costmodel.inputs import Inputs, Shape
from costmodel.targets.build import Builder, failure, quiet
from costmodel.targets.call import Call
from costmodel.targets.libraries import imported, no_such

#: Tokens of a text, samples of a sound, frames of a spectrogram, where the model fixes none.
TOKENS, SAMPLES, FRAMES, PIXELS = 128, 16_000, 512, 224


def from_hf(call: Call) -> Builder:
    """The builder of a transformers model with random weights."""
    transformers = imported("transformers")
    if call.name is None or call.args:
        raise CostModelError(f"{call.text}: write hf:CONFIG_DIR or hf:BertConfig(num_labels=2)")
    try:
        with quiet():
            config, model_class = _configuration(transformers, call.name, dict(call.kwargs))
    except CostModelError:
        raise
    except Exception as error:
        raise failure(call.text, "read the configuration", error) from error
    if getattr(config, "use_cache", False) is True:
        config.use_cache = False  # one forward pass, without the copies into a cache

    def construct() -> Any:
        with quiet():
            model = (model_class or _class_for(transformers, config))(config)
        assume_plain_sequences()
        return model

    return Builder(call.text, construct, inputs=hf_inputs)


def _configuration(transformers: Any, name: str, options: dict[str, Any]) -> tuple[Any, Any]:
    """The configuration, and the model class if the name is one."""
    if Path(name).is_dir():
        if not (Path(name) / "config.json").is_file():
            raise CostModelError(f"{name} has no config.json; give the folder of a configuration")
        read = transformers.AutoConfig.from_pretrained
        return read(name, local_files_only=True, trust_remote_code=False, **options), None
    found = getattr(transformers, name, None) if name.isidentifier() else None
    if isinstance(found, type) and issubclass(found, transformers.PreTrainedConfig):
        return found(**options), None
    if isinstance(found, type) and issubclass(found, transformers.PreTrainedModel):
        model_class: Any = found
        return model_class.config_class(**options), found
    if "/" in name or "." in name:
        raise CostModelError(f"{name}: there is no such folder; names are not downloaded")
    known = [known for known in dir(transformers) if known.endswith("Config")]
    raise no_such("transformers", name, known)


def _class_for(transformers: Any, config: Any) -> Any:
    """The class that the configuration names, else the bare model, else the first that takes it."""
    for name in config.architectures or ():
        if hasattr(transformers, name):
            return getattr(transformers, name)
    mapped = transformers.MODEL_MAPPING.get(type(config), None)
    if isinstance(mapped, (tuple, list)):
        mapped = mapped[0]
    if mapped is not None:
        return mapped
    stem = type(config).__name__.removesuffix("Config")
    for name in (f"{stem}Model", f"{stem}ForConditionalGeneration", f"{stem}ForCausalLM"):
        if hasattr(transformers, name):
            return getattr(transformers, name)
    raise CostModelError(
        f"no model class is registered for {type(config).__name__}; name one, as in hf:{stem}Model"
    )


def assume_plain_sequences() -> None:
    """Let transformers prepare masks on meta tensors: one sequence a row, and no padding.

    It looks into position ids for packed sequences, and into masks for padding, which tensors
    without data cannot answer. Tensors with data are looked into as before. Does nothing while
    transformers has not been imported.
    """
    masking: Any = sys.modules.get("transformers.masking_utils")
    for name, answer in (("find_packed_sequence_indices", None), ("fast_all", True)):
        original = getattr(masking, name, None)
        if original is not None and not hasattr(original, "__wrapped__"):
            setattr(masking, name, _unless_meta(original, answer))


def _unless_meta(function: Callable[[Any], Any], answer: Any) -> Callable[[Any], Any]:
    @functools.wraps(function)
    def look(tensor: Any) -> Any:
        return answer if tensor.is_meta else function(tensor)

    return look


def hf_inputs(module: nn.Module) -> Inputs | None:
    """What a transformers model takes, by the names in its signature and its configuration."""
    config: Any = getattr(module, "config", None)
    main: Any = getattr(module, "main_input_name", None)
    if config is None or not isinstance(main, str):
        return None
    takes = inspect.signature(module.forward).parameters
    shapes = {main: _shape(main, config)}
    if main == "input_ids" and "pixel_values" in takes and _encodes_both(config):
        shapes["pixel_values"] = _shape("pixel_values", config)
    if getattr(config, "is_encoder_decoder", False) and "decoder_input_ids" in takes:
        shapes["decoder_input_ids"] = _shape("decoder_input_ids", config)
    if None in shapes.values():
        return None
    return Inputs((), {name: shape.tensor() for name, shape in shapes.items() if shape})


def _encodes_both(config: Any) -> bool:
    """Whether text and image go through separate towers, not the image into the text."""
    tokens = ("image_token_id", "image_token_index")
    return hasattr(config, "vision_config") and not any(hasattr(config, name) for name in tokens)


def _shape(name: str, config: Any) -> Shape | None:
    match name:
        case "input_ids" | "decoder_input_ids":
            text = getattr(config, "text_config", None) or config
            longest = _first(text, "max_position_embeddings", "n_positions") or TOKENS
            return Shape((1, min(TOKENS, longest) if longest > 0 else TOKENS), "int64")
        case "pixel_values" | "pixel_values_videos":
            return _pixels(getattr(config, "vision_config", None) or config, name)
        case "input_values":
            if mels := _first(config, "num_mel_bins"):
                return Shape((1, _first(config, "max_length") or FRAMES, mels))
            return Shape((1, SAMPLES))
        case "input_features":
            sound = getattr(config, "audio_config", None) or config
            width = _first(sound, "input_feat_per_channel", "feature_projection_input_dim")
            if width:
                return Shape((1, FRAMES, width))
            mels, positions = _first(sound, "num_mel_bins"), _first(sound, "max_source_positions")
            return Shape((1, mels, 2 * positions)) if mels and positions else None
    return None


def _pixels(config: Any, name: str) -> Shape:
    size = _first(config, "image_size", "input_size") or PIXELS
    if isinstance(size, dict):
        size = (size.get("height", PIXELS), size.get("width", PIXELS))
    height, width = (size, size) if isinstance(size, int) else (size[0], size[-1])
    channels = _first(config, "num_channels", "in_channels", "in_chans") or 3
    frames = _first(config, "num_frames", "frames_per_clip")
    if frames or name == "pixel_values_videos":
        return Shape((1, frames or 16, channels, height, width))
    return Shape((1, channels, height, width))


def _first(config: Any, *names: str) -> Any:
    """The first of these settings that is there."""
    found = (getattr(config, name, None) for name in names)
    return next((value for value in found if value is not None), None)
