"""``FILE.pt2``: a program that ``torch.export.save`` wrote.

The archive is read with weights-only semantics: a tensor in it that would need arbitrary pickle is
refused, and so are archives with pickled custom objects. What remains trusted is torch's own
reader of the graph, which evaluates the archive's symbolic shape expressions: open only files
whose origin you trust, as torch.export.load itself says.
"""

from __future__ import annotations

import logging
import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from costmodel.errors import CostModelError
from costmodel.inputs import Inputs, Shape
from costmodel.targets.build import Builder, failure, quiet
from costmodel.targets.call import Call

_FORCE = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"


def from_pt2(call: Call) -> Builder:
    """The exported program of an archive, with the inputs that it was exported with."""
    path = Path(call.place)
    if not path.is_file():
        raise CostModelError(f"{call.place}: no such file; write it with torch.export.save")
    _refuse_pickles(path)
    try:
        with _weights_only(), quiet(logging.ERROR):
            program = torch.export.load(path)
    except Exception as error:
        raise failure(call.place, "read it as an exported program", error) from error

    def inputs(_: nn.Module) -> Inputs:
        if program.example_inputs is not None:
            args, kwargs = program.example_inputs
            return Inputs(tuple(args), dict(kwargs))
        return Inputs(tuple(_from_node(program, name) for name in _user_inputs(program)))

    def construct() -> nn.Module:
        with quiet():
            return torch.export.unflatten(program)

    return Builder(call.text, construct, inputs=inputs)


def _refuse_pickles(path: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            names = [Path(name).name for name in archive.namelist()]
    except (zipfile.BadZipFile, OSError) as error:
        raise CostModelError(
            f"{path}: not an archive of torch.export.save; write it with that"
        ) from error
    for prefix in ("custom_obj_", "opaque_obj_"):
        if any(name.startswith(prefix) for name in names):
            raise CostModelError(
                f"{path}: holds pickled objects, which could run code; export the model without "
                "custom classes"
            )


@contextmanager
def _weights_only() -> Iterator[None]:
    """Make every ``torch.load`` inside refuse pickles that are not tensors."""
    before = os.environ.get(_FORCE)
    os.environ[_FORCE] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[_FORCE]
        else:
            os.environ[_FORCE] = before


def _user_inputs(program: Any) -> list[str]:
    return [str(name) for name in program.graph_signature.user_inputs]


def _from_node(program: Any, name: str) -> Any:
    """A tensor like the placeholder's; a symbolic dimension takes its hint."""
    node = next(node for node in program.graph.nodes if node.name == name)
    value = node.meta["val"]
    dims = tuple(int(extent) for extent in value.shape)
    return Shape(dims, str(value.dtype).removeprefix("torch.")).tensor()
