"""A TARGET on the command line, as a module and what to call it with.

``FILE.py``, ``FILE.py:NAME(width=0.5)``, ``package.module:NAME(…)``, ``timm:NAME(…)``,
``torchvision:NAME(…)``, ``hf:CONFIG_DIR``, ``hf:BertConfig(…)``, ``FILE.pt2``. Nothing is
downloaded, arguments are literals, and weights are not allocated where the code allows it.
"""

from __future__ import annotations

from costmodel.targets.build import Builder, Target, build
from costmodel.targets.call import Call, parse


def builder(text: str) -> Builder:
    """The recipe behind a target, its file or library imported but nothing built.

    Raises `CostModelError` when the target cannot be found or its file cannot be imported.
    """
    call = parse(text)
    match call.scheme:
        case "file":
            from costmodel.targets.source import from_file as find
        case "module":
            from costmodel.targets.source import from_module as find
        case "timm":
            from costmodel.targets.libraries import from_timm as find
        case "torchvision":
            from costmodel.targets.libraries import from_torchvision as find
        case "hf":
            from costmodel.targets.huggingface import from_hf as find
        case "pt2":
            from costmodel.targets.exported import from_pt2 as find
    return find(call)


def load(text: str) -> Target:
    """The model that a target names, and its default inputs where it declares some.

    Raises `CostModelError` with one line about what is wrong, where, and what to do.
    """
    return build(builder(text))


__all__ = ["Builder", "Call", "Target", "build", "builder", "load", "parse"]
