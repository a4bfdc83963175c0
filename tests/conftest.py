"""What every test stands on: one thread, no display, no colour, and the examples by name."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import settings

# Before torch or matplotlib is imported: workers share the cores, and nothing may open a window.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["MPLBACKEND"] = "Agg"
os.environ["COLUMNS"] = "80"
os.environ["COSTMODEL_HOST"] = "/no/calibration/of/this/machine.yaml"
for name in ("FORCE_COLOR", "PYTHONUNBUFFERED"):  # either changes what a subprocess writes
    os.environ.pop(name, None)

settings.register_profile("tests", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("tests")

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def repository() -> Path:
    """The checkout: examples, specs and files that are not in the wheel."""
    return REPOSITORY


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The measured tables that lie beside the checkout; skips where they are absent."""
    folder = REPOSITORY.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no measured tables at {folder}")
    return folder


@pytest.fixture(scope="session")
def needs() -> Callable[[str], None]:
    """``needs("timm")`` skips where a package is absent. It imports nothing: torchvision, and what
    imports it, can be only after `costmodel.targets` has seen to it."""

    def check(package: str) -> None:
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")

    return check


@pytest.fixture(scope="session")
def example() -> Callable[[str], ModuleType]:
    """``example("vit")`` imports ``examples/vit.py`` without installing it anywhere."""

    def load(name: str) -> ModuleType:
        path = REPOSITORY / "examples" / f"{name}.py"
        spec = importlib.util.spec_from_file_location(f"examples_{name}", path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load
