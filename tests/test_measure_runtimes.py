"""Each runtime on a small network: converted, run, and held to what eager execution computes."""

from __future__ import annotations

from importlib.util import find_spec

import pytest
import torch
from torch import nn

from costmodel.errors import CostModelError
from costmodel.measure import time_calls
from costmodel.measure.runtimes import RUNTIMES, module_of, prepare, refuse, software
from costmodel.measure.runtimes.prepared import check
from costmodel.measure.weights import randomise

CONVERTED = ("onnxruntime", "xnnpack", "ncnn")


def net() -> nn.Module:
    model = nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU6(),
        nn.Conv2d(16, 16, 3, padding=1, groups=16), nn.Hardswish(), nn.AdaptiveAvgPool2d(1),
        nn.Flatten(), nn.Linear(16, 10),
    )  # fmt: skip
    randomise(model)
    return model


def image(batch: int = 1) -> torch.Tensor:
    return torch.randn(batch, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def needs(runtime: str) -> None:
    missing = [name for name in module_of(runtime).PACKAGES if find_spec(name) is None]
    if missing:
        pytest.skip(f"{', '.join(missing)} not installed: pip install 'torch-costmodel[runtimes]'")


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("runtime", ["eager", *CONVERTED])
def test_a_runtime_computes_what_eager_computes_and_says_what_it_is(runtime, batch):
    needs(runtime)
    expected = net().eval()(image(batch)).detach()
    with prepare(runtime, net(), (image(batch),), threads=1) as prepared:
        out = prepared.run()
        assert (prepared.execution, prepared.threads) == (runtime, 1)
        assert prepared.software == software(runtime)
        assert time_calls(prepared.run, min_seconds=0.01, max_seconds=0.1).median_s > 0
    if runtime == "ncnn":
        assert len(out) == batch, "one sample at a time"
        return
    found = torch.as_tensor(out if runtime == "eager" else out[0])
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["eval", "train"])
def test_a_compiled_model_runs_and_trains(mode):
    with prepare("compiled", net(), (image(),), threads=1, mode=mode) as prepared:
        prepared.run()
        assert (prepared.execution, prepared.threads) == ("compiled", 1)


@pytest.mark.parametrize("runtime", ["onnxruntime", "xnnpack"])
def test_int8_is_quantised_and_not_merely_called_so(runtime, monkeypatch):
    """The output of eight bits is near that of eager, and not equal to it."""
    needs(runtime)
    expected = net().eval()(image(2)).detach()
    with prepare(runtime, net(), (image(2),), threads=1, dtype="int8") as prepared:
        error = (torch.as_tensor(prepared.run()[0]) - expected).abs().max() / expected.abs().max()
    assert 1e-4 < error < 0.2


@pytest.mark.parametrize("dtype", ["fp32", "bf16", "fp16", "amp-bf16"])
@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
def test_eager_computes_in_the_dtype_and_the_layout_that_are_asked_for(dtype, layout):
    seen = []
    model = net()
    model[0].register_forward_hook(lambda _, args, out: seen.append((args[0], out)))
    with prepare("eager", model, (image(),), threads=1, dtype=dtype, layout=layout) as prepared:
        prepared.run()
    given, out = seen[-1]
    low = {"fp32": torch.float32, "fp16": torch.float16}.get(dtype, torch.bfloat16)
    assert out.dtype == low
    assert given.dtype == (torch.float32 if dtype == "amp-bf16" else low)
    last = given.is_contiguous(memory_format=torch.channels_last)
    assert last == (layout == "nhwc")


def test_a_training_step_goes_forward_backward_and_moves_the_weights():
    model = net()
    before = model[0].weight.detach().clone()
    with prepare("eager", model, (image(2),), threads=1, mode="train") as prepared:
        moved = (model[0].weight.detach() - before).abs().max()
        prepared.run()
    assert model.training
    assert 0 < moved < 1e-3, "each step does the same work"
    assert model[0].weight.grad is not None


def test_the_threads_are_those_of_the_runtime_and_torch_gets_its_own_back():
    before = torch.get_num_threads()
    for runtime in ("eager", *CONVERTED):
        needs(runtime)
        with prepare(runtime, net(), (image(),), threads=2) as prepared:
            assert prepared.threads == 2, runtime
    assert torch.get_num_threads() == before


def test_files_of_a_conversion_vanish(tmp_path, monkeypatch):
    import tempfile

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for runtime in ("onnxruntime", "ncnn"):
        needs(runtime)
        with prepare(runtime, net(), (image(),), threads=1) as prepared:
            prepared.run()
    assert list(tmp_path.glob("costmodel-*")) == []


@pytest.mark.parametrize("runtime", CONVERTED)
def test_a_runtime_that_is_not_installed_says_what_to_install(runtime, monkeypatch):
    import costmodel.measure.runtimes as package

    monkeypatch.setattr(package, "find_spec", lambda _: None)
    with pytest.raises(CostModelError, match=rf"^{runtime} needs .*torch-costmodel\[runtimes\]"):
        refuse(runtime)


@pytest.mark.parametrize(
    ("runtime", "asked", "word"),
    [
        ("ncnn", {"dtype": "int8"}, "ncnn has no --dtype int8 here; it has fp32"),
        ("eager", {"dtype": "int8"}, "eager has no --dtype int8 here"),
        ("xnnpack", {"layout": "nhwc"}, "no --layout nhwc here; it has nchw"),
        ("onnxruntime", {"mode": "train"}, "no --mode train here; it has eval"),
        ("onnxruntime", {"device": "cuda"}, "no --device cuda here; it has cpu"),
        ("tflite", {}, "nothing measures execution 'tflite'"),
    ],
)
def test_what_a_runtime_has_not_is_said_in_one_line(runtime, asked, word):
    if runtime in RUNTIMES:
        needs(runtime)
    with pytest.raises(CostModelError, match=word):
        refuse(runtime, **asked)


class Sorting(nn.Module):
    """Control flow over values, which no exporter follows."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * 2 if float(x.sum()) > 0 else x * 3


@pytest.mark.parametrize("runtime", ["onnxruntime", "xnnpack"])
def test_a_conversion_that_fails_is_one_line_with_the_converters_word(runtime):
    needs(runtime)
    with (
        pytest.raises(CostModelError, match=f"^{runtime} cannot run this model: ") as caught,
        prepare(runtime, Sorting(), (image(),), threads=1),
    ):
        pass
    assert "\n" not in str(caught.value)


def test_what_the_caller_raises_while_timing_is_not_the_runtimes_failure():
    with (
        pytest.raises(KeyError),
        prepare("eager", net(), (image(),), threads=1),
    ):
        raise KeyError("mine")


def test_a_conversion_that_computes_something_else_is_refused():
    right = torch.tensor([1.0, -2.0])
    check("ncnn", right, [1.001, -2.001])
    for wrong, word in (
        ([1.0, 2.0], "differs"),
        ([1.0], "1 numbers"),
        ([1.0, float("nan")], "dif"),
    ):
        with pytest.raises(CostModelError, match=word):
            check("ncnn", right, wrong)


def test_idle_threads_of_onnxruntime_leave_the_cores_to_other_sessions():
    pytest.importorskip("onnxruntime")
    from costmodel.measure.runtimes.onnxruntime import options_for

    options = options_for(2)
    assert options.intra_op_num_threads == 2
    assert options.get_session_config_entry("session.force_spinning_stop") == "1"
