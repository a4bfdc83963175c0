"""A model under each runtime: one small file a runtime, converted from the model, not imitated.

Each module has ``PACKAGES``, ``DTYPES``, ``LAYOUTS``, ``MODES``, ``DEVICES``, ``software()`` and
``prepare(model, inputs, how)``, a context manager of a `Prepared`.
"""

from __future__ import annotations

import importlib
import logging
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from types import ModuleType
from typing import TYPE_CHECKING

from costmodel.errors import CostModelError
from costmodel.measure.runtimes.prepared import How, Prepared

if TYPE_CHECKING:
    from torch import Tensor, nn

#: Runtimes, named as the executions that predict them. Each is a module of this package.
RUNTIMES = ("eager", "compiled", "onnxruntime", "xnnpack", "ncnn")
#: Those that run on PyTorch's threads; the others have pools of their own.
ON_TORCH_THREADS = ("eager", "compiled")


def module_of(runtime: str) -> ModuleType:
    """The module of a runtime, its packages not imported. Raises `CostModelError` on others."""
    if runtime not in RUNTIMES:
        raise CostModelError(
            f"nothing measures execution {runtime!r}; choose one of {', '.join(RUNTIMES)}"
        )
    return importlib.import_module(f"{__name__}.{runtime}")


def software(runtime: str) -> str:
    """The runtime's name and version, as a run file has them."""
    return str(module_of(runtime).software())


def refuse(
    runtime: str,
    dtype: str = "fp32",
    layout: str = "nchw",
    mode: str = "eval",
    device: str = "cpu",
) -> None:
    """Raise `CostModelError` where a runtime is not installed or cannot do what is asked."""
    module = module_of(runtime)
    if missing := [name for name in module.PACKAGES if find_spec(name) is None]:
        raise CostModelError(
            f"{runtime} needs {' and '.join(missing)}, not installed here; try: "
            "pip install 'torch-costmodel[runtimes]'"
        )
    asked = (
        ("dtype", dtype, module.DTYPES),
        ("layout", layout, module.LAYOUTS),
        ("mode", mode, module.MODES),
        ("device", device, module.DEVICES),
    )
    for option, value, known in asked:
        if value not in known:
            raise CostModelError(
                f"{runtime} has no --{option} {value} here; it has {', '.join(known)}"
            )


@contextmanager
def prepare(
    runtime: str,
    model: nn.Module,
    inputs: tuple[Tensor, ...],
    *,
    threads: int,
    dtype: str = "fp32",
    layout: str = "nchw",
    mode: str = "eval",
) -> Iterator[Prepared]:
    """A model converted for a runtime, called once, and ready to be timed.

    The device is that of the inputs; ``model`` is changed in place (mode, dtype, memory format).
    Files of the conversion vanish at the end. Raises `CostModelError` in one line where the
    runtime is not installed, cannot do what is asked, or fails at the model.
    """
    refuse(runtime, dtype, layout, mode, inputs[0].device.type)
    module = module_of(runtime)
    with ExitStack() as stack:
        try:
            with _quiet():
                prepared: Prepared = stack.enter_context(
                    module.prepare(model, inputs, How(threads, dtype, layout, mode))
                )
                prepared.run()
        except CostModelError:
            raise
        except Exception as error:
            said = " ".join(str(error).split())[:300] or "no message"
            raise CostModelError(
                f"{runtime} cannot run this model: {type(error).__name__}: {said}"
            ) from error
        yield prepared


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the remarks of exporters, which say nothing about the model."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


__all__ = ["RUNTIMES", "Prepared", "module_of", "prepare", "refuse", "software"]
