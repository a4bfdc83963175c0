"""Reading measured runs: every column, every way to be wrong, families and folds."""

from __future__ import annotations

from pathlib import Path

import pytest

from costmodel.errors import CostModelError
from costmodel.validate.predict_rows import settings_of
from costmodel.validate.runs import COLUMNS, Convolution, Run, read

HEADER = ",".join(COLUMNS)
GOOD = {
    "device": "rpi4", "software": "ncnn", "execution": "ncnn", "dtype": "fp32", "layout": "nchw",
    "threads": "4", "model": "torchvision:resnet18", "input_shape": "3x224x224", "batch": "1",
    "latency_ms": "120.5", "statistic": "min", "source": "here",
}  # fmt: skip
MACHINES = Path(__file__).parents[1] / "benchmarks" / "host"
DATA = Path(__file__).parents[1].parent / "shared" / "data"


def line(**changes: str) -> str:
    return ",".join({**GOOD, **changes}[name] for name in COLUMNS)


def written(folder: Path, *lines: str, name: str = "runs.csv") -> Path:
    path = folder / name
    path.write_text("\n".join(lines) + "\n")
    return path


def test_a_row_is_read_field_by_field(tmp_path: Path) -> None:
    runs, skipped = read(written(tmp_path, HEADER, line()))
    assert not skipped
    assert runs == [
        Run("rpi4", "ncnn", "ncnn", "fp32", "nchw", 4, "torchvision:resnet18", "3x224x224", 1,
            120.5, "min", "here")
    ]  # fmt: skip


def test_columns_may_come_in_any_order_with_others_between(tmp_path: Path) -> None:
    order = (*reversed(COLUMNS), "comment")
    fields = {**GOOD, "comment": "x"}
    runs, skipped = read(
        written(tmp_path, ",".join(order), ",".join(fields[name] for name in order))
    )
    assert not skipped
    assert runs[0].latency_ms == 120.5
    assert runs[0].model == "torchvision:resnet18"


@pytest.mark.parametrize("column", COLUMNS)
def test_a_missing_column_is_named(tmp_path: Path, column: str) -> None:
    rest = [name for name in COLUMNS if name != column]
    path = written(tmp_path, ",".join(rest), ",".join(GOOD[name] for name in rest))
    with pytest.raises(CostModelError, match=rf"runs\.csv has no column {column};"):
        read(path)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"latency_ms": "-3"}, "latency_ms '-3' is not a positive number"),
        ({"latency_ms": "0"}, "latency_ms '0' is not a positive number"),
        ({"latency_ms": "nan"}, "latency_ms 'nan' is not a positive number"),
        ({"latency_ms": "inf"}, "latency_ms 'inf' is not a positive number"),
        ({"latency_ms": "fast"}, "latency_ms 'fast' is not a positive number"),
        ({"batch": "0"}, "batch '0' is not a positive whole number"),
        ({"batch": "1.5"}, "batch '1.5' is not a positive whole number"),
        ({"threads": "all"}, "threads 'all' is not a positive whole number"),
        ({"layout": "chwn"}, "layout 'chwn' is neither nchw nor nhwc"),
        ({"input_shape": "3,224"}, "13 fields where the header has 12"),
        ({"input_shape": "big"}, "input_shape 'big' is no shape"),
        ({"model": ""}, "model is empty"),
        ({"device": ""}, "device is empty"),
    ],
)
def test_a_bad_line_is_skipped_with_its_reason(
    tmp_path: Path, changes: dict[str, str], why: str
) -> None:
    runs, skipped = read(written(tmp_path, HEADER, line(**changes), line()))
    assert len(runs) == 1
    assert len(skipped) == 1
    assert skipped[0].why.startswith(why)
    assert skipped[0].place.endswith("runs.csv:2")


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"device": "rpi44"}, "rpi44"),
        ({"device": "rpi4:npu"}, "npu"),
        ({"execution": "magic"}, "unknown execution 'magic'"),
        ({"dtype": "fp7"}, "no dtype 'fp7'"),
    ],
)
def test_an_unknown_device_execution_or_dtype_is_skipped(
    tmp_path: Path, changes: dict[str, str], why: str
) -> None:
    runs, _ = read(written(tmp_path, HEADER, line(**changes), line()))
    pairs, skipped = settings_of(runs)
    assert [run.device for run, _ in pairs] == ["rpi4"]
    assert why in skipped[0].why


def test_no_threads_means_those_of_the_profile(tmp_path: Path) -> None:
    runs, _ = read(written(tmp_path, HEADER, line(threads=""), line(threads="2")))
    assert [run.threads for run in runs] == [None, 2]
    (_, default), (_, two) = settings_of(runs)[0]
    assert default.threads == default.profile.default.threads
    assert two.threads == 2


def test_hw_takes_its_own_rows_and_unknown_devices(tmp_path: Path) -> None:
    lines = [line(), line(device="mine"), line(device="rpi5"), line(device="rpi4:gpu")]
    runs, _ = read(written(tmp_path, HEADER, *lines))
    pairs, skipped = settings_of(runs, "rpi4")
    assert [chosen.hw for _, chosen in pairs][:2] == ["rpi4:cpu", "rpi4:cpu"]
    assert "measured on rpi5, not on rpi4" in [item.why for item in skipped]


def test_a_run_says_who_calls_an_accelerator(tmp_path: Path) -> None:
    npu = {"device": "galaxy-s24:npu", "software": "onnx", "execution": "npu", "dtype": "int8"}
    runs, _ = read(written(tmp_path, HEADER, line(**npu), line()))
    assert [chosen.caller for _, chosen in settings_of(runs)[0]] == ["onnx", None]


def test_host_is_whichever_calibrated_machine_is_named(tmp_path: Path) -> None:
    lines = [line(device=device, execution="eager") for device in ("host", "epyc-genoa", "rpi4")]
    runs, _ = read(written(tmp_path, HEADER, *lines))
    pairs, skipped = settings_of(runs, str(MACHINES / "epyc-genoa-vm/profile.yaml"))
    assert [run.device for run, _ in pairs] == ["host", "epyc-genoa"]
    assert len(skipped) == 1
    pairs, skipped = settings_of(runs, "rpi4")
    assert [run.device for run, _ in pairs] == ["rpi4"]
    assert skipped[0].why == "measured on host, not on rpi4"


@pytest.mark.parametrize(
    ("content", "why"),
    [(b"", "is empty"), (b"\xff\xfe\x00", "UTF-8"), (b"a,b\n1,2\n", "has no columns device")],
)
def test_a_file_that_is_no_run_file_is_refused(tmp_path: Path, content: bytes, why: str) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes(content)
    with pytest.raises(CostModelError, match=why):
        read(path)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(CostModelError, match=r"cannot read .*no\.csv: No such file"):
        read(tmp_path / "no.csv")


def test_single_convolutions_are_told_by_their_header(tmp_path: Path) -> None:
    head = "batch,c_in,c_out,kernel,size,stride,padding,latency_ms,kernel_name"
    path = written(tmp_path, head, "3,425,264,3,7,1,1,0.469,x", "3,425,264,9,7,1,0,0.4,x",
                   "3,425,264,3,7,1,-1,0.4,x", name="conv-t4.csv")  # fmt: skip
    runs, skipped = read(path)
    assert len(runs) == 1
    run = runs[0]
    assert (run.device, run.execution, run.dtype, run.batch) == ("t4", "eager", "fp32", 3)
    assert run.convolution == Convolution(425, 264, 3, 7, 1, 1)
    assert run.family == "conv 256-511 channels"
    assert [item.why for item in skipped] == [
        "a window of 9 does not fit into 7",
        "padding '-1' is not a whole number",
    ]


@pytest.mark.parametrize(
    ("model", "family"),
    [
        ("timm:resnet50", "resnet"),
        ("timm:tf_efficientnet_b0", "efficientnet"),
        ("timm:vit_base_patch16_224", "vit"),
        ("timm:mobilenetv3_large_100", "mobilenetv"),
        ("torchvision:regnet_x_3_2gf", "regnet"),
        ("torchvision:inception_v3(transform_input=False)", "inception"),
        ("timm:res2net50_14w_8s", "res"),
        ("timm:legacy_xception", "xception"),
    ],
)
def test_families(model: str, family: str) -> None:
    run = Run("d", "", "eager", "fp32", "nchw", None, model, "3x224x224", 1, 1.0)
    assert run.family == family


def test_every_public_run_file_is_read_whole() -> None:
    if not DATA.exists():
        pytest.skip(f"the measured runs are not at {DATA}")
    rows = 0
    for path in sorted(DATA.glob("runs/*.csv")) + sorted(DATA.glob("kernels/*.csv")):
        runs, skipped = read(path)
        pairs, unknown = settings_of(runs)
        assert not skipped, path
        # ncnn's int8 on a graphics card runs on the host's CPU, which the profile lacks.
        strange = {item.why for item in unknown if not item.why.startswith("ncnn runs int8")}
        assert not strange, path
        rows += len(pairs)
    assert rows > 9000
