"""ncnn on the CPU, converted by pnnx. It takes one sample at a time: a batch is a loop."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from costmodel.errors import CostModelError
from costmodel.measure.runtimes.prepared import How, Prepared, check, reference, release

if TYPE_CHECKING:
    from torch import Tensor, nn

PACKAGES = ("ncnn", "pnnx")
DTYPES = ("fp32",)
LAYOUTS = ("nchw",)
MODES = ("eval",)
DEVICES = ("cpu",)
_LETTERS = {"float32": "f32", "float16": "f16", "int64": "i64", "int32": "i32", "bool": "u8"}


def software() -> str:
    """Name and version, as the column of a run file has them."""
    return release("ncnn")


@contextmanager
def prepare(model: nn.Module, inputs: tuple[Tensor, ...], how: How) -> Iterator[Prepared]:
    """A network in fp32 throughout: no 16-bit storage, which ncnn would choose by itself."""
    import ncnn
    import numpy as np

    model.eval()
    net = ncnn.Net()
    net.opt.num_threads = how.threads
    for name in ("fp16_packed", "fp16_storage", "fp16_arithmetic", "bf16_storage"):
        setattr(net.opt, f"use_{name}", False)
    with tempfile.TemporaryDirectory(prefix="costmodel-") as folder:
        param, weights = _convert(model, tuple(x[:1] for x in inputs), Path(folder))
        if net.load_param(str(param)) or net.load_model(str(weights)):
            raise CostModelError(f"ncnn cannot load what pnnx made; {_unknown(param)}")
    samples = [_sample(inputs, index) for index in range(len(inputs[0]))]
    run = _runner(net, samples)
    check("ncnn", reference(model, inputs), np.stack([np.array(mat) for mat in run()]))
    yield Prepared(run, software(), "ncnn", net.opt.num_threads)


def _convert(model: nn.Module, inputs: tuple[Tensor, ...], folder: Path) -> tuple[Path, Path]:
    """The two files of an ncnn network. Raises `CostModelError` with what pnnx said."""
    import pnnx
    import torch

    with torch.no_grad():
        torch.jit.trace(model, inputs, check_trace=False).save(folder / "model.pt")  # type: ignore[no-untyped-call]
    shapes = ",".join(
        f"{list(x.shape)}{_LETTERS[str(x.dtype).removeprefix('torch.')]}".replace(" ", "")
        for x in inputs
    )
    done = subprocess.run(
        [pnnx.EXEC_PATH, "model.pt", f"inputshape={shapes}", "fp16=0"],
        cwd=folder, capture_output=True, text=True, errors="replace",
    )  # fmt: skip
    param, weights = folder / "model.ncnn.param", folder / "model.ncnn.bin"
    if done.returncode or not (param.is_file() and weights.is_file()):
        said = (done.stderr.strip() or done.stdout.strip() or "nothing").splitlines()[-1]
        raise CostModelError(f"ncnn: pnnx cannot convert this model; it says: {said}")
    return param, weights


def _unknown(param: Path) -> str:
    """The layers that pnnx had no ncnn layer for keep their name in PyTorch, with a dot."""
    layers = {line.split()[0] for line in param.read_text().splitlines()[2:] if line.strip()}
    unknown = sorted(layer for layer in layers if "." in layer or "_" in layer)
    return f"it has no layer for {', '.join(unknown)}" if unknown else "choose another --execution"


def _sample(inputs: Sequence[Tensor], index: int) -> list[Any]:
    """One sample of a batch as ncnn's arrays, which have no batch dimension."""
    import ncnn
    import torch

    def array(x: Tensor) -> Any:
        return (x if x.is_floating_point() else x.to(torch.int32)).contiguous().numpy()

    return [ncnn.Mat(array(x[index])).clone() for x in inputs]


def _runner(net: Any, samples: Sequence[Sequence[Any]]) -> Callable[[], list[Any]]:
    names, first = net.input_names(), net.output_names()[0]

    def run() -> list[Any]:
        outputs = []
        for sample in samples:
            extractor = net.create_extractor()
            for name, mat in zip(names, sample, strict=True):
                extractor.input(name, mat)
            status, output = extractor.extract(first)
            if status:
                raise CostModelError(f"ncnn stops with status {status}; choose another --execution")
            outputs.append(output)
        return outputs

    return run
