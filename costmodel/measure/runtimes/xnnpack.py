"""ExecuTorch with the XNNPACK backend: the exported program, lowered and run from memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from costmodel.errors import CostModelError
from costmodel.measure.runtimes.prepared import How, Prepared, check, reference, release

if TYPE_CHECKING:
    from torch import Tensor, nn

PACKAGES = ("executorch",)
DTYPES = ("fp32", "int8")
LAYOUTS = ("nchw",)
MODES = ("eval",)
DEVICES = ("cpu",)


def software() -> str:
    """Name and version, as the column of a run file has them."""
    return f"{release('executorch')} (XNNPACK)"


@contextmanager
def prepare(model: nn.Module, inputs: tuple[Tensor, ...], how: How) -> Iterator[Prepared]:
    """The lowered program; int8 is static quantisation calibrated on the inputs.

    Ops that XNNPACK does not take run in ExecuTorch's portable kernels, as they would on a phone;
    a program of which XNNPACK takes nothing is refused.
    """
    import torch
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower
    from executorch.extension.pybindings import portable_lib

    model.eval()
    exported = torch.export.export(model, inputs)
    if how.dtype == "int8":
        exported = torch.export.export(_quantised(exported.module(), inputs), inputs)
    lowered = to_edge_transform_and_lower(exported, partitioner=[XnnpackPartitioner()])
    if "executorch_call_delegate" not in lowered.exported_program().graph_module.code:
        raise CostModelError(
            "xnnpack takes no op of this model, so ExecuTorch would run it without it; choose "
            "another --execution"
        )
    # A loaded program holds on to the threads that it found, and reads from the buffer for ever.
    portable_lib._unsafe_reset_threadpool(how.threads)
    buffer = lowered.to_executorch().buffer
    program = portable_lib._load_for_executorch_from_buffer(buffer)
    if how.dtype == "fp32":
        check("xnnpack", reference(model, inputs), program.forward(inputs)[0])
    used = portable_lib._threadpool_get_thread_count()
    yield Prepared(lambda: program.forward(inputs), software(), "xnnpack", used)


def _quantised(module: nn.Module, inputs: tuple[Tensor, ...]) -> nn.Module:
    import torch
    from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import (
        XNNPACKQuantizer,
        get_symmetric_quantization_config,
    )
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    quantizer = XNNPACKQuantizer().set_global(get_symmetric_quantization_config())
    observed = prepare_pt2e(module, quantizer)
    with torch.no_grad():
        observed(*inputs)
    quantised: nn.Module = convert_pt2e(observed)
    return quantised
