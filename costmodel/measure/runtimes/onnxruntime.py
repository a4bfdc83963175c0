"""ONNX Runtime on the CPU: the model through torch's exporter, all graph optimisations on."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from costmodel.measure.runtimes.prepared import How, Prepared, check, reference, release

if TYPE_CHECKING:
    from torch import Tensor, nn

PACKAGES = ("onnxruntime", "onnx", "onnxscript")
DTYPES = ("fp32", "int8")
LAYOUTS = ("nchw",)
MODES = ("eval",)
DEVICES = ("cpu",)


def software() -> str:
    """Name and version, as the column of a run file has them."""
    return release("onnxruntime")


@contextmanager
def prepare(model: nn.Module, inputs: tuple[Tensor, ...], how: How) -> Iterator[Prepared]:
    """A session on the exported graph; int8 is static quantisation calibrated on the inputs."""
    import torch

    model.eval()
    options = options_for(how.threads)
    with tempfile.TemporaryDirectory(prefix="costmodel-") as folder:
        path = Path(folder) / "model.onnx"
        torch.onnx.export(model, inputs, path, dynamo=True, verbose=False)
        names = [put.name for put in _session(path, options).get_inputs()]
        feed = {name: tensor.numpy() for name, tensor in zip(names, inputs, strict=True)}
        if how.dtype == "int8":
            path = _quantised(path, feed)
        session = _session(path, options)
        if how.dtype == "fp32":
            check("onnxruntime", reference(model, inputs), session.run(None, feed)[0])
        used = session.get_session_options().intra_op_num_threads
        yield Prepared(lambda: session.run(None, feed), software(), "onnxruntime", used)


def options_for(threads: int) -> Any:
    """What every session is opened with."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # As `costmodel.measure.denormals`; ncnn does so unless told otherwise.
    options.add_session_config_entry("session.set_denormal_as_zero", "1")
    # Idle threads go on looking for work: twelve sessions of two threads that took turns on two
    # cores took five times as long as one by itself, which takes 2 % longer without that.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    return options


def _session(path: Path, options: Any) -> Any:
    import onnxruntime

    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def _quantised(path: Path, feed: dict[str, Any]) -> Path:
    from onnxruntime.quantization import CalibrationDataReader, quantize_static

    class Once(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.rest = iter([feed])

        def get_next(self) -> Any:
            return next(self.rest, None)

    result = path.with_name("quantised.onnx")
    quantize_static(path, result, Once())
    return result
