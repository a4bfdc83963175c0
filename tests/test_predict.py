"""Predictions are right in kind on every profile: physics that no constant may break."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from costmodel.errors import CostModelError
from costmodel.execution import compiled, eager, kernels_of
from costmodel.hardware import load_profile, profile_names
from costmodel.hardware.loader import profile_paths
from costmodel.hardware.schema import CpuEngine, GpuEngine
from costmodel.machine import gpu, products
from costmodel.machine.constants import blocks, values_of
from costmodel.machine.features import features_of
from costmodel.roofline import predict, timer_of, times_of
from costmodel.setting import Setting, setting
from costmodel.table import CostTable, cost
from costmodel.tracer import trace

SETTINGS = [
    f"{name}:{engine}" for name in profile_names() for engine in sorted(load_profile(name).engines)
]


class Separable(nn.Module):
    """A stem, a depthwise-separable pair, attention-free: every kind of kernel but few of them."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, stride=2, padding=1)
        self.depthwise = nn.Conv2d(width, width, 3, padding=1, groups=width, bias=False)
        self.norm = nn.BatchNorm2d(width)
        self.pointwise = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.head = nn.Linear(4 * width, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.norm(self.depthwise(self.stem(x))))
        return self.head(torch.relu(self.pointwise(x)).mean((2, 3)))


def table_of(model: nn.Module, *shape: int) -> CostTable:
    return cost(trace(model.to("meta"), (torch.empty(*shape, device="meta"),)))


@pytest.fixture(scope="module")
def table() -> CostTable:
    return table_of(Separable(), 4, 3, 64, 64)


def latency(table: CostTable, chosen: Setting) -> float:
    kernels = kernels_of(table.rows, chosen.execution, chosen.dtype)
    return float(times_of(kernels, chosen).latency.sum())


@pytest.mark.parametrize("hw", SETTINGS)
def test_every_engine_predicts_with_shares_that_add_up(table: CostTable, hw: str) -> None:
    prediction = predict(table, hw)
    assert prediction.latency_s > 0
    assert prediction.interval_s[0] <= prediction.latency_s <= prediction.interval_s[1]
    assert prediction.interval_s[0] < prediction.interval_s[1]
    assert sum(prediction.bound.values()) == pytest.approx(1.0)
    assert sum(k.latency_s for k in prediction.kernels) == pytest.approx(prediction.latency_s)
    assert prediction.energy_j is not None
    assert prediction.energy_interval_j is not None
    low, high = prediction.energy_interval_j
    assert 0 < low <= prediction.energy_j <= high
    # A kernel is never faster than its arithmetic or its traffic alone, up to what overlaps.
    for kernel in prediction.kernels:
        assert kernel.latency_s >= max(kernel.compute_s, kernel.memory_s) * (1 - 1e-9)


@pytest.mark.parametrize("hw", SETTINGS)
def test_less_bandwidth_is_never_faster(table: CostTable, hw: str) -> None:
    chosen = setting(hw)
    memory = chosen.profile.memory
    halved = memory.model_copy(update={"gb_per_s": memory.gb_per_s / 2})
    slower = chosen.profile.model_copy(update={"memory": halved})
    assert latency(table, replace(chosen, profile=slower)) >= latency(table, chosen) * (1 - 1e-12)


@pytest.mark.parametrize("hw", SETTINGS)
def test_a_lower_peak_is_never_faster(table: CostTable, hw: str) -> None:
    chosen = setting(hw)
    engine = chosen.profile.engines[chosen.engine]
    if isinstance(engine, CpuEngine):
        clusters = [
            c.model_copy(
                update={
                    "clock_ghz": c.clock_ghz / 2,
                    "all_core_ghz": c.all_core_ghz / 2 if c.all_core_ghz else None,
                }
            )
            for c in engine.clusters
        ]
        weaker = engine.model_copy(update={"clusters": clusters})
    else:
        halved = {
            name: {dtype: rate / 2 for dtype, rate in getattr(engine, name).items()}
            for name in ("vector_tflops", "matrix_tflops")
        }
        if isinstance(engine, GpuEngine):  # the power limit must not give back what we take
            halved["vector_tflops"] = {k: v / 4 for k, v in engine.vector_tflops.items()}
        weaker = engine.model_copy(update=halved)
    engines = {**chosen.profile.engines, chosen.engine: weaker}
    slower = chosen.profile.model_copy(update={"engines": engines})
    assert latency(table, replace(chosen, profile=slower)) >= latency(table, chosen) * (1 - 1e-12)


@pytest.mark.parametrize("hw", ["pixel8", "rpi4", "rtx4090", "a100-sxm-80gb", "i9-10940x"])
def test_a_larger_batch_is_never_faster(hw: str) -> None:
    times = [predict(table_of(Separable(), n, 3, 64, 64), hw).latency_s for n in (1, 2, 8, 64)]
    assert times == sorted(times)


def test_a_profile_may_be_given_as_a_path(table: CostTable) -> None:
    path = profile_paths()["rpi4"]
    assert path.name == "rpi4.yaml"
    assert predict(table, path) == predict(table, str(path)) == predict(table, "rpi4")


def test_depthwise_is_memory_bound_and_its_pointwise_partner_compute_bound() -> None:
    """3x3 depthwise: 9 MACs for each element moved. 1x1, 512 to 512: 512 MACs for each."""

    class Pair(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.depthwise = nn.Conv2d(512, 512, 3, padding=1, groups=512, bias=False)
            self.pointwise = nn.Conv2d(512, 512, 1, bias=False)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.pointwise(self.depthwise(x))

    prediction = predict(table_of(Pair(), 256, 512, 14, 14), "rtx4090", dtype="fp16", layout="nhwc")
    bounds = {kernel.family: kernel.bound for kernel in prediction.kernels}
    assert bounds == {"depthwise": "memory", "pointwise": "compute"}


def test_batch_one_on_a_server_gpu_is_bound_by_its_host() -> None:
    prediction = predict(table_of(Separable(), 1, 3, 64, 64), "v100-sxm2-16gb")
    assert prediction.bound["overhead"] > 0.9


def test_fewer_threads_are_never_faster(table: CostTable) -> None:
    # Cores of one cluster: more of them never slow a kernel by more than waking them costs.
    one, four = (predict(table, "rpi4", threads=n).latency_s for n in (1, 4))
    assert four < one


def test_more_threads_than_cores_are_predicted_as_many_as_there_are(table: CostTable) -> None:
    four, eight = (predict(table, "rpi4", threads=n) for n in (4, 8))
    assert eight.latency_s == four.latency_s
    note = "rpi4:cpu has 4 cores: predicted with 4 threads, not 8"
    assert (note in eight.notes, note in four.notes) == (True, False)


def test_no_efficiency_exceeds_one_and_no_overhead_is_negative() -> None:
    for block, constants in blocks().items():
        for name, constant in constants.items():
            assert constant.low <= constant.value <= constant.high, (block, name)
            assert constant.low >= 0, (block, name)
            assert constant.meaning, (block, name)
            if name.endswith(("efficiency", "share")):
                assert constant.high <= 1, (block, name)


def test_the_host_holds_back_a_queue_that_drains() -> None:
    """Kernels of 1 s issued every 2 s end at 3, 5, 7; of 3 s, the device is the bottleneck."""
    issued = np.array([2.0, 4.0, 6.0])
    assert np.cumsum(gpu.after_host(np.full(3, 1.0), issued)).tolist() == [3, 5, 7]
    assert np.cumsum(gpu.after_host(np.full(3, 3.0), issued)).tolist() == [5, 8, 11]


def test_a_wave_more_costs_a_wave_more() -> None:
    """With one 32x32 tile a multiprocessor, 133 tiles on 132 of them take two waves."""
    constants = {"matrix_efficiency": 1.0, "tile_reload": 0.0}

    def seconds(groups: float) -> float:
        one = np.array([1.0])
        return float(
            products.product_seconds(
                32 * one, 32 * one, 64 * one, groups * one, 132, 1e12 * one, constants
            )[0]
        )

    assert seconds(133) == pytest.approx(2 * seconds(132))
    # 2 x 32 x 32 x 64 FLOPs at 1e12/132 FLOP/s.
    assert seconds(132) == pytest.approx(2 * 32 * 32 * 64 / (1e12 / 132))


def test_winograd_takes_over_where_channels_are_many() -> None:
    """F(4x4, 3x3) needs 36 products where the direct way needs 144: up to four times fewer."""
    wide = table_of(nn.Conv2d(512, 512, 3, padding=1, bias=False), 32, 512, 28, 28)
    strided = table_of(nn.Conv2d(512, 512, 3, stride=2, padding=1, bias=False), 32, 512, 28, 28)
    constants = values_of("server-gpu/eager")

    def compute(table: CostTable) -> float:
        chosen = setting("v100-sxm2-16gb", dtype="fp32", execution="eager")
        kernels = kernels_of(table.rows, "eager", "fp32")
        return float(timer_of(kernels, chosen)(constants).compute.sum())

    # The strided one has a quarter of the MACs and no Winograd: 4x less work, barely less time.
    assert compute(wide) < 2 * compute(strided)


def test_autocast_inserts_the_casts_that_the_framework_does() -> None:
    """Linear in fp16 from fp32: input and both weights are cast; a layer norm returns to fp32."""
    model = nn.Sequential(nn.Linear(8, 8), nn.LayerNorm(8), nn.Linear(8, 8))
    names = [k.names[0] for k in eager.kernels(table_of(model, 2, 8).rows, "amp-fp16")]
    assert names == [
        "0.linear.cast", "0.linear.cast", "0.linear.cast", "0.linear",
        "1.layer_norm.cast", "1.layer_norm",
        "2.linear.cast", "2.linear.cast", "2.linear.cast", "2.linear",
    ]  # fmt: skip


def test_norms_of_timm_stay_in_the_low_format() -> None:
    """A norm called from timm's layers takes and gives fp16: none of its data is converted back."""
    rows = table_of(nn.Sequential(nn.Linear(8, 8), nn.LayerNorm(8), nn.Linear(8, 8)), 2, 8).rows
    fast = [
        replace(row, op=replace(row.op, source="lib/timm/layers/norm.py:89"))
        if row.op.target == "aten.layer_norm" else row
        for row in rows
    ]  # fmt: skip
    plain, found = (eager.kernels(r, "amp-fp16") for r in (rows, fast))
    norm = {k.names[0]: k for k in found}["1.layer_norm"]
    assert norm.dtype == "fp16"
    upcast = {k.names[0]: k for k in plain}["1.layer_norm"]
    assert upcast.writes[0].nbytes == 2 * norm.writes[0].nbytes
    casts = [k.names[0] for k in found if k.names[0].startswith(("1.", "2."))]
    assert casts.count("2.linear.cast") == 2  # weight and bias; the activation is fp16 already


def test_inductor_fuses_what_lies_between_products() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(16, 16, 3, padding=1, bias=False)
            self.norm = nn.BatchNorm2d(16)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.relu(self.norm(self.conv(x))) + x

    table = table_of(Block(), 2, 16, 8, 8)
    launched = compiled.kernels(table.rows, "fp32")
    assert [k.names for k in launched] == [
        ("conv.conv2d",),
        ("norm.batch_norm", "relu", "add"),
    ]
    # 2 x 16 x 8 x 8 floats: the convolution's output and x in, the sum out; four norm vectors.
    plane = 2 * 16 * 8 * 8 * 4
    assert launched[1].nbytes == 3 * plane + 4 * 16 * 4


class Joining(nn.Module):
    """Convolutions whose outputs are put one after another, at first through sigmoids if asked."""

    def __init__(self, parts: int, through: bool = False) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(4, 4, 1, bias=False) for _ in range(parts))
        self.through = through

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        parts = [conv(x) for conv in self.convs]
        return torch.relu(torch.cat([p.sigmoid() for p in parts] if self.through else parts, 1))


@pytest.mark.parametrize(
    ("parts", "lanes", "apart"),
    [(2, 0, False), (8, 0, False), (9, 0, True), (2, 16, True), (9, 8, True), (1, 16, False)],
)
def test_inductor_reads_what_it_put_together_in_another_loop(
    parts: int, lanes: int, apart: bool
) -> None:
    """Always on a CPU, and on a GPU of more than eight parts: the whole is written, and read."""
    rows = table_of(Joining(parts), 2, 4, 8, 8).rows
    run = compiled.kernels(rows, "fp32", lanes)[parts:]
    assert [k.names for k in run] == ([("cat",), ("relu",)] if apart else [("cat", "relu")])
    whole = parts * 2 * 4 * 8 * 8 * 4
    assert [k.nbytes for k in run] == [2 * whole] * len(run)
    if apart:
        assert run[1].reads[0].storage == run[0].writes[0].storage
        assert len(run[0].reads) == parts


def test_inductor_computes_the_parts_of_a_whole_where_they_will_lie() -> None:
    run = compiled.kernels(table_of(Joining(2, through=True), 2, 4, 8, 8).rows, "fp32", 16)
    assert [k.names for k in run[2:]] == [("sigmoid", "sigmoid_1", "cat"), ("relu",)]


def test_inductor_writes_where_an_operand_ends_and_takes_roots_inside() -> None:
    """Norm and ReLU of 8 x 4 x 4: one kernel, over the convolution's output; a root an element.
    An operand that is read again keeps its place."""

    class Reused(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv2d(8, 8, 1, bias=False), nn.BatchNorm2d(8)
            self.again = nn.Conv2d(8, 8, 1, bias=False)

        def forward(self, x: torch.Tensor, kept: bool = False) -> torch.Tensor:
            y = self.conv(x)
            z = self.again(torch.relu(self.norm(y)))
            return z @ y if kept else z

    for kept, over in ((False, 4 * 8 * 16), (True, 0)):
        model = Reused().eval().to("meta")
        model.forward = partial(model.forward, kept=kept)  # type: ignore[method-assign]
        norm = compiled.kernels(table_of(model, 1, 8, 4, 4).rows, "fp32")[1]
        assert norm.family == "batch_norm"
        assert (norm.in_place, norm.transcendentals) == (over, 8 * 16)


def test_a_maximum_surprises_at_every_new_one() -> None:
    """Windows of four noise values: 1/2 + 1/3 + 1/4 new maxima after the first, two guesses each;
    an average has none, and inductor's code has no branches."""
    model = nn.MaxPool2d(2)
    rows = table_of(model, 1, 8, 8, 8).rows
    (pooled,) = eager.kernels(rows, "fp32")
    assert pooled.surprises == round(2 * 8 * 16 * (1 / 2 + 1 / 3 + 1 / 4))
    assert compiled.kernels(rows, "fp32")[0].surprises == 0
    (mean,) = eager.kernels(table_of(nn.AvgPool2d(2), 1, 8, 8, 8).rows, "fp32")
    assert mean.surprises == 0


def test_fusion_makes_no_cycle() -> None:
    """y = relu(x); z = conv(y) + y: the addition can't join the kernel that feeds the conv."""

    class Loop(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(4, 4, 1, bias=False)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = torch.relu(x)
            return torch.sigmoid(y) + self.conv(y)

    launched = compiled.kernels(table_of(Loop(), 1, 4, 4, 4).rows, "fp32")
    names = [k.names for k in launched]
    assert names == [("relu", "sigmoid"), ("conv.conv2d",), ("add",)]


def test_reuse_distance_counts_what_moved_in_between(table: CostTable) -> None:
    run = features_of(kernels_of(table.rows, "eager", "fp32"))
    distance = run.near[0][1]
    seen = distance[np.isfinite(distance)]
    assert (seen >= run.near[0][0][np.isfinite(distance)]).all()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"hw": "pixel88"}, "pixel8"),
        ({"hw": "pixel8:tpu"}, "cpu"),
        ({"hw": "pixel8", "execution": "torchscript"}, "unknown execution"),
        ({"hw": "rtx4090", "dtype": "fp12"}, "no dtype"),
        ({"hw": "rtx4090", "layout": "nwhc"}, "unknown layout 'nwhc'; choose nchw or nhwc"),
        ({"hw": "rtx4090", "calibration": {"warp_speed": 1.0}}, "warp_speed"),
        ({"hw": "rtx4090", "calibration": {"matrix_efficiency": 1.3}}, "no machine does that"),
    ],
)
def test_bad_settings_say_what_and_where(
    table: CostTable, options: dict[str, object], words: str
) -> None:
    with pytest.raises(CostModelError, match=words):
        predict(table, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("execution", ["tflite", "xnnpack", "paddle-lite", "ncnn"])
def test_runtimes_widen_half_precision_where_no_core_computes_in_it(
    table: CostTable, execution: str
) -> None:
    narrow, wide = (
        predict(table, "snapdragon-625", dtype=dtype, execution=execution)
        for dtype in ("fp16", "fp32")
    )
    assert narrow.latency_s == wide.latency_s
    assert "snapdragon-625:cpu has no fp16 arithmetic: run as fp32" in narrow.notes
    half, single = (
        predict(table, "pixel8", dtype=dtype, execution="tflite") for dtype in ("fp16", "fp32")
    )
    assert half.latency_s < single.latency_s


@pytest.mark.parametrize(
    ("hw", "dtype", "refused"),
    [
        ("i7-12700h", "fp16", True),
        ("i7-12700h", "amp-bf16", True),
        ("epyc-genoa", "fp16", True),
        ("epyc-genoa", "bf16", False),  # AVX-512 BF16
        ("i9-10940x", "bf16", False),  # oneDNN converts to fp32 in AVX-512 registers
        ("snapdragon-x-elite", "fp16", False),
    ],
)
def test_formats_that_pytorch_has_no_vector_code_for_are_refused(
    hw: str, dtype: str, refused: bool
) -> None:
    if refused:
        with pytest.raises(CostModelError, match=f"{hw}:cpu has no .*use --dtype fp32"):
            setting(hw, dtype=dtype, execution="eager")
    else:
        assert setting(hw, dtype=dtype, execution="eager").dtype == dtype


def test_small_runs_on_a_gpu_take_what_their_host_takes_to_issue_them() -> None:
    small = table_of(Separable(8), 1, 3, 16, 16)
    server, new = (predict(small, hw, execution="eager") for hw in ("l40s", "h100-sxm"))
    # 6 instructions a cycle at 3.8 GHz instead of 4 at 3.6; the GPU itself hardly counts
    assert server.latency_s / new.latency_s == pytest.approx(22.8 / 14.4, rel=0.02)
    assert "most of this is the host issuing ops; assumed host: Intel Broadwell at 3.6 GHz" in (
        server.notes
    )
    assert not any("assumed host" in note for note in new.notes)


def test_an_assumed_host_widens_the_interval_by_what_other_hosts_would_take() -> None:
    small = table_of(Separable(8), 1, 3, 16, 16)
    found = predict(small, "rtx4090", execution="eager")
    low, high = (bound / found.latency_s for bound in found.interval_s)
    large = predict(table_of(Separable(), 256, 3, 224, 224), "rtx4090", execution="eager")
    narrow, wide = (bound / large.latency_s for bound in large.interval_s)
    # hosts.yaml: desktops from 0.7 to 2.2 of the assumed one's times
    assert low / narrow == pytest.approx(0.7, rel=0.03)
    assert high / wide == pytest.approx(2.2, rel=0.03)
