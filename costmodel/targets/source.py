"""Models in the user's own code: ``FILE.py``, ``FILE.py:NAME(…)``, ``package.module:NAME(…)``."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from costmodel.errors import CostModelError
from costmodel.inputs import Inputs
from costmodel.targets import torchvision_shim
from costmodel.targets.build import Builder, declared, failure
from costmodel.targets.call import Call


def from_file(call: Call) -> Builder:
    """The model of a Python file, run on its own with its folder importable."""
    path = Path(call.place)
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "there is no such file"
        raise CostModelError(f"{call.place}: {what}; give the path of a Python file with a model")
    path = path.resolve()
    spec = importlib.util.spec_from_file_location(f"costmodel_target_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module.__name__] = module
    torchvision_shim.install()
    try:
        with importable(path.parent):
            spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        sys.modules.pop(module.__name__, None)
        raise failure(call.place, "import the file", error, path.parent) from error
    return _builder(call, module, path.parent)


def from_module(call: Call) -> Builder:
    """The model of an importable module; the current folder is importable too."""
    torchvision_shim.install()
    try:
        with importable(Path.cwd()):
            module = importlib.import_module(call.place)
    except ModuleNotFoundError as error:
        raise CostModelError(
            f"{call.place}: {error}; install it or run where it can be imported"
        ) from error
    except (Exception, SystemExit) as error:
        raise failure(call.place, "import the module", error) from error
    folder = Path(module.__file__).parent if module.__file__ else None
    return _builder(call, module, folder)


@contextmanager
def importable(folder: Path) -> Iterator[None]:
    """Put a folder first on ``sys.path`` for a while."""
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))


def _builder(call: Call, module: ModuleType, folder: Path | None) -> Builder:
    name = call.name if call.name is not None else _only_model(call.place, module)
    found: Any = module
    for part in name.split("."):
        if not hasattr(found, part):
            raise CostModelError(f"{call.place} has no {name}; {_choices(name, module)}")
        found = getattr(found, part)
    examples = getattr(module, "example_inputs", None)

    def inputs(_: nn.Module) -> Inputs | None:
        return declared(examples()) if callable(examples) else None

    if isinstance(found, nn.Module):
        if call.called:
            raise CostModelError(f"{call.text}: {name} is a model already; leave out the (…)")
        return Builder(call.text, lambda: found, inputs=inputs, folder=folder)
    if not callable(found):
        raise CostModelError(
            f"{call.text}: {name} is a {type(found).__name__}; name a class or a function that "
            "makes a model"
        )

    def construct(*args: Any, **kwargs: Any) -> Any:
        if folder is None:
            return found(*args, **kwargs)
        with importable(folder):
            return found(*args, **kwargs)

    construct.__wrapped__ = found  # type: ignore[attr-defined]
    return Builder(call.text, construct, call.args, call.kwargs, inputs, folder)


def _only_model(place: str, module: ModuleType) -> str:
    if hasattr(module, "model"):
        return "model"
    classes = _classes(module)
    if len(classes) == 1:
        return classes[0]
    if not classes:
        raise CostModelError(
            f"{place} has no model: define `model`, or one nn.Module subclass, in it"
        )
    raise CostModelError(
        f"{place} has {len(classes)} models, {' and '.join(classes)}; name one, as in "
        f"{place}:{classes[0]}"
    )


def _classes(module: ModuleType) -> list[str]:
    return [
        name
        for name, value in vars(module).items()
        if isinstance(value, type)
        and issubclass(value, nn.Module)
        and value.__module__ == module.__name__
    ]


def _choices(name: str, module: ModuleType) -> str:
    near = difflib.get_close_matches(name, [n for n in vars(module) if n[0] != "_"], n=3)
    choices = near or _classes(module)[:5]
    return f"did you mean {' or '.join(choices)}?" if choices else "it defines no nn.Module"
