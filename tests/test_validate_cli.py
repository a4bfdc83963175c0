"""``costmodel validate`` end to end on a few small networks, and its cache of traces."""

from __future__ import annotations

import ast
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from costmodel import cache, serial
from costmodel.cli import cli
from costmodel.errors import CostModelError
from costmodel.ir import ops_of
from costmodel.rules.autocast import policy_of
from costmodel.validate.predict_rows import rows_of, settings_of
from costmodel.validate.runs import COLUMNS, Run
from costmodel.validate.tracing import Subject, Tracer, _resized, activations_of, subject_of

_ROOT = Path(cache.__file__).parent
HEADER = ",".join(COLUMNS)
NET = """
from torch import nn

def model(width=8):
    return nn.Sequential(nn.Conv2d(3, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, 4, 1))
"""


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COSTMODEL_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def net(tmp_path: Path) -> str:
    folder = tmp_path / "code"
    folder.mkdir()
    (folder / "net.py").write_text(NET)
    return str(folder / "net.py")


def runs_file(folder: Path, *rows: tuple[str, int, str, str, str]) -> Path:
    """Rows of (model, batch, latency, device, shape) in eager amp-fp16, channels last."""
    lines = [
        f"{device},torch,eager,amp-fp16,nhwc,,{model},{shape},{batch},{latency},mean,test"
        for model, batch, latency, device, shape in rows
    ]
    path = folder / "runs.csv"
    path.write_text("\n".join([HEADER, *lines]) + "\n")
    return path


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["validate", *map(str, arguments), "--jobs", "1"])


def document(*arguments: object) -> dict[str, Any]:
    result = run(*arguments, "--format", "json")
    assert result.exit_code == 0, result.stderr
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def test_the_json_is_that_of_the_contract(tmp_path: Path, net: str) -> None:
    path = runs_file(
        tmp_path,
        (net, 64, "5.0", "rtx4090", "3x64x64"),
        (f"{net}:model(width=16)", 64, "6.0", "rtx4090", "3x64x64"),
        (net, 64, "-1", "rtx4090", "3x64x64"),
        (net, 64, "5.0", "rtx40900", "3x64x64"),
        ("timm:resnet_of_nobody", 1, "5.0", "rtx4090", "3x64x64"),
        (net, 64, "5.0", "rtx4090", "5x64x64"),
    )
    found = document(path)
    assert list(found) == ["schema", "groups", "rows", "skipped"]
    assert found["schema"] == 1
    (group,) = found["groups"]
    expected = {"hw": "rtx4090", "execution": "eager", "layout": "nhwc", "dtype": "amp-fp16",
                "tier": "datasheet", "rows": 2}  # fmt: skip
    assert {key: group[key] for key in expected} == expected
    for key in ("mape", "median_ape", "within_10", "within_20", "bias", "interval_coverage"):
        assert isinstance(group[key], float)
    assert set(group["baselines"]) == {"k_macs", "k_macs_activations"}
    assert len(found["rows"]) == 2
    row = found["rows"][0]
    assert row["model"] == net
    assert (row["input_shape"], row["batch"], row["measured_ms"]) == ("3x64x64", 64, 5.0)
    assert row["error"] == pytest.approx(row["predicted_ms"] / 5.0 - 1)
    assert 0 < row["low_ms"] <= row["predicted_ms"] <= row["high_ms"]
    errors = [abs(row["error"]) for row in found["rows"]]
    assert group["mape"] == pytest.approx(sum(errors) / 2)
    reasons = [item["why"] for item in found["skipped"]]
    assert len(reasons) == 4
    for reason, part in zip(
        reasons, ("latency_ms '-1'", "rtx40900", "resnet_of_nobody", "Invalid channel"), strict=True
    ):
        assert part in reason


def test_the_table_fits_80_columns_and_lists_skipped_rows(tmp_path: Path, net: str) -> None:
    path = runs_file(tmp_path, (net, 8, "5.0", "rtx4090", "3x64x64"), (net, 8, "x", "t4", "3x8x8"))
    result = run(path)
    assert result.exit_code == 0
    assert max(map(len, result.stdout.splitlines())) <= 80
    for text in ("rtx4090 eager nhwc", "MAPE", "Worst rows", "Skipped: 1 rows", "latency_ms 'x'"):
        assert text in result.stdout
    assert "\x1b" not in result.stdout


def test_a_second_run_is_the_same_and_traces_nothing(
    tmp_path: Path, net: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = runs_file(tmp_path, (net, 8, "5.0", "rtx4090", "3x64x64"),
                     (net, 16, "9.0", "rtx4090", "3x64x64"))  # fmt: skip
    first = document(path)
    monkeypatch.setattr(Tracer, "_trace", lambda *_: pytest.fail("traced again"))
    assert document(path) == first


def test_a_missing_column_ends_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "runs.csv"
    path.write_text("device,model\nrtx4090,timm:resnet50\n")
    result = run(path)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith(f"costmodel: error: {path} has no columns software, execution")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (("--calibration-out", "x.yaml"), "needs --calibrate one or families"),
        (("--calibration", "x.yaml", "--calibrate", "one"), "exclude each other"),
        (("--calibration", "nowhere.yaml"), "cannot read nowhere.yaml"),
        (("--calibrate", "all"), "'all' is not one of"),
    ],
)
def test_options_that_make_no_sense(
    tmp_path: Path, net: str, options: tuple[str, ...], why: str
) -> None:
    result = run(runs_file(tmp_path, (net, 8, "5.0", "rtx4090", "3x64x64")), *options)
    assert result.exit_code == 2
    assert why in result.stderr


def test_a_calibration_is_made_written_and_used(tmp_path: Path, net: str) -> None:
    models = [net, f"{net}:model(width=32)", f"{net}:model(width=64)"]
    rows = [(model, 256, "40.0", "rtx4090", "3x128x128") for model in models]
    path, file = runs_file(tmp_path, *rows), tmp_path / "c.yaml"
    made = document(path, "--calibrate", "one", "--calibration-out", file)
    assert made["groups"][0]["tier"] == "one-network"
    assert made["groups"][0]["rows"] == 2
    assert made["groups"][0]["basis"] == f"{models[1]}, 1 run"
    used = document(path, "--calibration", file)
    assert used["groups"][0]["tier"] == "calibrated"
    predicted = {row["model"]: row["predicted_ms"] for row in used["rows"]}
    for row in made["rows"]:
        assert predicted[row["model"]] == pytest.approx(row["predicted_ms"])


def test_one_group_too_small_to_calibrate_is_said(tmp_path: Path, net: str) -> None:
    path = runs_file(tmp_path, (net, 8, "5.0", "rtx4090", "3x64x64"))
    found = document(path, "--calibrate", "families")
    assert not found["groups"]
    assert found["skipped"][0]["why"] == "calibrating on families needs at least two of them"


def subject(net: str, batch: int = 2, *, last: bool = False) -> Subject:
    return Subject(net, "3x8x8", batch, last)


def test_the_trace_has_the_batch_and_the_memory_format(net: str) -> None:
    table = Tracer().table(subject(net, 4, last=True))
    assert table.info.inputs[0].shape == (4, 3, 8, 8)
    assert table.info.inputs[0].channels_last
    assert table.rows[0].op.out.channels_last
    assert not Tracer().table(subject(net, 4)).rows[0].op.out.channels_last
    assert activations_of(table) == 4 * (8 + 4) * 64


def test_the_cache_tells_subjects_and_contents_apart(net: str) -> None:
    def key(target: str = net, **setting: object) -> str | None:
        return cache.key_of(target, setting)

    keys = {key(batch=1), key(batch=2), key(f"{net}:model(width=4)", batch=1)}
    assert len(keys) == 3
    assert key(batch=1) == key(batch=1)
    before = key(batch=1)
    neighbour = Path(net).with_name("blocks.py")
    neighbour.write_text("x = 1\n")
    assert key(batch=1) != before
    assert cache.key_of("os:getcwd", {}) is None


def stored() -> list[Path]:
    return sorted(cache.folder().rglob("*.json.z"))


def test_a_damaged_entry_is_traced_again(net: str) -> None:
    first = Tracer().table(subject(net))
    (path,) = stored()
    whole = path.read_bytes()
    for damage in (b"", b"garbage", whole[: len(whole) // 2]):
        path.write_bytes(damage)
        assert Tracer().table(subject(net)).total == first.total
        assert len(path.read_bytes()) > len(whole) // 2


def _imported_by(path: Path) -> set[Path]:
    """Modules of costmodel that a file imports by name, the package itself left out."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("costmodel"):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            for name in (node.module or "", *names):
                place = _ROOT.parent / name.replace(".", "/")
                found |= {
                    f for f in (place.with_suffix(".py"), place / "__init__.py") if f.exists()
                }
    return found - {_ROOT / "__init__.py"}


def test_the_cache_is_keyed_on_every_module_that_makes_a_trace() -> None:
    reached, ahead = set(), [_ROOT / "tracer.py", _ROOT / "targets" / "__init__.py"]
    while ahead:
        file = ahead.pop()
        if file not in reached:
            reached.add(file)
            ahead += _imported_by(file)
    neutral = {_ROOT / "errors.py", _ROOT / "files.py", _ROOT / "rules" / "__init__.py"}
    assert reached - neutral <= set(cache._python_files(_ROOT))


def test_a_cache_that_cannot_be_written_costs_only_time(
    net: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("COSTMODEL_CACHE", str(tmp_path / "file"))
    assert Tracer().table(subject(net)).total.macs == 2 * 64 * (27 * 8 + 8 * 4)


def test_the_cache_is_where_the_platform_keeps_caches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cache.folder() == tmp_path / "cache"
    monkeypatch.delenv("COSTMODEL_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    if os.name == "posix" and os.uname().sysname == "Linux":
        assert cache.folder() == tmp_path / "xdg" / "costmodel"


def test_a_stored_trace_is_the_trace(net: str) -> None:
    made = Tracer()._trace(subject(net, last=True))
    again = serial.loads(serial.dumps(made))
    assert ops_of(again) == ops_of(made)
    assert again.graph["info"] == made.graph["info"]
    with pytest.raises(CostModelError, match="not a stored trace"):
        serial.loads('{"format": 99}')


@pytest.mark.parametrize(
    ("model", "shape", "text"),
    [
        ("timm:vit_tiny", "3x96x96", "timm:vit_tiny(img_size=96)"),
        ("timm:vit_tiny()", "3x96x64", "timm:vit_tiny(img_size=(96,64))"),
        ("timm:vit_tiny(depth=2)", "3x96x96", "timm:vit_tiny(depth=2,img_size=96)"),
        ("timm:vit_tiny(img_size=64)", "3x96x96", None),
        ("torchvision:vit_b_16", "3x96x96", None),
    ],
)
def test_timm_models_are_made_for_another_size(model: str, shape: str, text: str | None) -> None:
    assert _resized(Subject(model, shape, 1, False)) == text


def test_a_vision_transformer_runs_at_another_size(needs: Callable[[str], None]) -> None:
    needs("timm")
    found = Tracer().table(Subject("timm:vit_tiny_patch16_224(depth=1)", "3x96x96", 1, False))
    assert found.total.macs > 0
    assert found.complete


def test_vision_transformers_have_the_norms_of_their_day(needs: Callable[[str], None]) -> None:
    needs("timm")

    tracer = Tracer()  # which keeps the model that it built last

    def norms(model: str, software: str) -> set[str]:
        run = Run(
            "rtx4090", software, "eager", "amp-fp16", "nchw", None, model, "3x224x224", 1, 1.0
        )
        rows = tracer.table(subject_of(run)).rows
        return {policy_of(row.op) for row in rows if row.op.target == "aten.layer_norm"}

    plain, own = "timm:vit_tiny_patch16_224(depth=1)", "timm:eva02_tiny_patch14_224(depth=1)"
    assert norms(plain, "torch 2.4") == {"float32"}
    assert norms(plain, "torch 2.13.0") == {"lower"}
    assert norms(own, "torch 2.4") == {"lower"}
    runs = [
        Run("rtx4090", software, "eager", "amp-fp16", "nchw", None, plain, "3x224x224", 1, 1.0)
        for software in ("torch 2.4", "torch 2.13.0")
    ]
    rows, _ = rows_of(settings_of(runs)[0])
    assert rows[0].work.kernels != rows[1].work.kernels
