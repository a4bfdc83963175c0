"""Pictures: the data that they are drawn from, labels that do not overlap, files that open."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner
from drawn import faults
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import costmodel as cm
import costmodel.cli as frame
from costmodel.errors import CostModelError
from costmodel.plot import (
    labels,
    layers,
    memory,
    modules,
    pareto,
    roofs,
    scaling,
    style,
    validation,
)
from costmodel.plot import roofline as picture
from costmodel.plot.measured import matching, read_runs
from costmodel.plot.names import common, label, short
from costmodel.plot.points import points_of
from costmodel.rules import registry

CONV = "examples/conv.py:StandardConv(in_ch=16, out_ch=32)"
STARTS = {"png": b"\x89PNG", "pdf": b"%PDF", "svg": b"<?xml"}


def net() -> nn.Module:
    block = [nn.Conv2d(16, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU()]
    return nn.Sequential(nn.Conv2d(3, 16, 1), *block, *block, nn.Flatten(), nn.Linear(4096, 10))


@pytest.fixture(scope="module")
def report() -> cm.Report:
    return cm.analyze(net(), "1x3x16x16", hw="rpi4")


@pytest.fixture(scope="module")
def panel(report):
    return picture.data("net", report.prediction)


def run(*words: str):
    return CliRunner().invoke(frame.cli, list(words))


# -- the data of a roofline ----------------------------------------------------------------------


def test_points_hold_all_kernels_and_all_the_time(report, panel):
    kernels = report.prediction.kernels
    drawn = sum(point["count"] for point in panel["points"])
    assert drawn + panel["not_drawn"]["kernels"] == len(kernels)
    shares = sum(point["share"] for point in panel["points"]) + panel["not_drawn"]["share"]
    assert shares == pytest.approx(1)
    for point in panel["points"]:
        assert point["intensity"] == point["flops"] / point["bytes"]
        assert point["flops_per_s"] == pytest.approx(point["flops"] / point["latency_s"])


def test_alike_kernels_share_a_point(report):
    kernel = report.prediction.kernels[0]
    assert [len(point.kernels) for point in points_of([kernel] * 5)] == [5]


def test_no_point_is_above_the_highest_roofs(report):
    for hw in ("pixel8", "rpi4", "rtx4090", "h100-sxm"):
        found = picture.data("net", cm.predict(report.table, hw))
        top = max(roof["flops_per_s"] for roof in found["roofs"]["compute"])
        side = max(roof["bytes_per_s"] for roof in found["roofs"]["memory"])
        for point in found["points"]:
            assert point["flops_per_s"] <= top * (1 + 1e-9)
            assert point["flops_per_s"] <= point["intensity"] * side * (1 + 1e-9)


def test_the_network_is_its_kernels_together(report, panel):
    flops = sum(kernel.flops for kernel in report.prediction.kernels)
    whole = panel["network"]
    assert whole["flops_per_s"] == flops / report.latency_s
    assert whole["flops_per_s_low"] <= whole["flops_per_s"] <= whole["flops_per_s_high"]


def test_roofs_of_a_raspberry_pi_are_the_data_sheets():
    # Four Cortex-A72 at 1.8 GHz: 8 FLOPs and 16 bytes a cycle each; LPDDR4-3200, 32 bits.
    found = roofs.to_dict(roofs.setting("rpi4"))
    rates = {tuple(r["dtypes"]): r["flops_per_s"] for r in found["roofs"]["compute"]}
    assert rates[("fp32",)] == pytest.approx(4 * 8 * 1.8e9)
    speeds = {r["level"]: r["bytes_per_s"] for r in found["roofs"]["memory"]}
    assert speeds["DRAM"] == 12.8e9
    assert speeds["L1"] == pytest.approx(4 * 16 * 1.8e9)
    (ridge,) = [r for r in found["ridges"] if r["dtypes"] == ["fp32"] and r["level"] == "DRAM"]
    assert ridge["intensity"] == pytest.approx(57.6 / 12.8)


def test_roofs_of_a_gpu_are_those_of_its_dtype():
    found = roofs.to_dict(roofs.setting("rtx4090", dtype="fp16"))
    active = [roof for roof in found["roofs"]["compute"] if roof["active"]]
    assert [roof["flops_per_s"] for roof in active] == [165.2e12]
    assert "fp16" in active[0]["dtypes"]
    assert any("fp16 vector" in roof["dtypes"] for roof in found["roofs"]["compute"])


# -- measured runs -------------------------------------------------------------------------------

HEADER = (
    "device,software,execution,dtype,layout,threads,model,input_shape,batch,latency_ms,"
    "statistic,source\n"
)


def write_run(path: Path, model: str = CONV, threads: str = "4", batch: int = 1) -> str:
    path.write_text(
        f'{HEADER}rpi4,ncnn,ncnn,fp32,nchw,{threads},"{model}",16x32x32,{batch},2.5,mean,here\n'
    )
    return str(path)


@pytest.mark.parametrize(
    ("threads", "batch", "count"), [("4", 1, 1), ("", 1, 1), ("1", 1, 0), ("4", 2, 0)]
)
def test_a_measured_run_must_agree_in_everything(tmp_path, threads, batch, count):
    report = cm.analyze(nn.Conv2d(16, 32, 3), "1x16x32x32", hw="rpi4", execution="ncnn")
    runs = read_runs([write_run(tmp_path / "runs.csv", "here", threads, batch)])
    found = matching(runs, "here", report.table.info.inputs, report.prediction)
    assert len(found) == count


def test_runs_that_fit_no_panel_are_an_error(tmp_path, monkeypatch, repository):
    monkeypatch.chdir(repository)
    path = write_run(tmp_path / "runs.csv", model="another")
    done = run("roofline", CONV, "--input", "1x16x32x32", "--hw", "rpi4", "--measured", path,
               "--format", "json")  # fmt: skip
    assert done.exit_code == 2
    assert "none of the 1 measured runs" in done.stderr


# -- the commands --------------------------------------------------------------------------------


def test_json_has_a_panel_for_each_model_and_device(monkeypatch, repository, tmp_path):
    monkeypatch.chdir(repository)
    path = write_run(tmp_path / "runs.csv")
    done = run("roofline", CONV, CONV.replace("32", "8"), "--input", "1x16x32x32", "--hw", "rpi4",
               "--hw", "rtx4090", "--measured", path, "--format", "json")  # fmt: skip
    assert done.exit_code == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["schema"] == 1
    assert [panel["hw"] for panel in found["panels"]] == ["rpi4:cpu", "rtx4090:gpu"] * 2
    assert [run["latency_s"] for run in found["panels"][0]["measured"]] == [0.0025]
    assert not found["panels"][1]["measured"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--hw", "rpi4"], "name a file for the figure"),
        (["--hw", "rpi4", "-o", "figure.gif"], "must end in .png, .svg, .pdf or .html"),
        (["--hw", "rpi44", "-o", "figure.png"], "rpi44"),
    ],
)
def test_what_cannot_be_drawn_is_said_before_tracing(words, said):
    done = run("roofline", "no_such_file.py", *words)
    assert done.exit_code == 2
    assert said in done.stderr


@pytest.mark.parametrize("form", ["png", "svg", "pdf"])
def test_a_figure_is_a_file_of_its_format_and_the_same_each_time(form, panel, tmp_path):
    first, second = tmp_path / f"a.{form}", tmp_path / f"b.{form}"
    for path in (first, second):
        style.save(picture.draw([panel], columns="one"), path)
    assert first.read_bytes().startswith(STARTS[form])
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize("dark", [False, True])
def test_pictures_are_as_wide_as_paper_columns(panel, dark):
    for columns, inches in (("one", 3.5), ("two", 7.16)):
        made = picture.draw([panel, panel], columns=columns, dark=dark, overlay=dark)
        assert made.get_size_inches()[0] == inches
        assert len(made.axes) == (1 if dark else 2)


@pytest.fixture(scope="module")
def panels(needs: Callable[[str], None]) -> list[dict]:
    """Three networks on three devices, whose roofs lie near one another and far apart."""
    names = ("mobilenetv3_large_100", "resnet50", "vit_base_patch16_224")
    needs("timm")
    reports = {f"timm:{name}": cm.analyze(f"timm:{name}") for name in names}
    return [
        picture.data(target, cm.predict(found.table, hw))
        for target, found in reports.items()
        for hw in ("pixel8", "rpi4", "rtx4090")
    ]


@pytest.mark.parametrize(
    ("columns", "shape"),
    [("one", "single"), ("two", "single"), ("two", "rows"), ("two", "all"), ("one", "overlay")],
)
def test_no_text_of_a_roofline_overlaps_another_or_leaves_its_axes(panels, columns, shape):
    groups = {
        "single": [[panel] for panel in panels],
        "rows": [panels[:2] + panels[3:5], panels[1:3] + panels[7:9], panels[::2][:4]],
        "all": [panels],
        "overlay": [panels],
    }[shape]
    for group in groups:
        made = picture.draw(group, columns=columns, overlay=shape == "overlay")
        assert faults(made) == []
        for axes in made.axes:
            texts = [text.get_text() for text in axes.texts]
            if texts:  # the prediction's own roofs have their names wherever they are drawn
                assert any(text.startswith("DRAM ") for text in texts)
                assert any(text.startswith("fp32") for text in texts)


def test_texts_that_overlap_or_leave_are_found():
    with style.styled():
        made = style.figure("one", 2.0)
        axes = made.subplots()
        for x, y, text in ((0.2, 0.2, "one"), (0.22, 0.22, "two"), (0.95, 0.6, "out of it")):
            axes.text(x, y, text)
        axes.text(0.1, 0.6, "turned", rotation=45, rotation_mode="anchor")
        assert faults(made) == ["'out of it' leaves the axes", "'one' over 'two'"]


def test_plot_draws_a_model_and_prints_its_data(monkeypatch, repository, tmp_path):
    monkeypatch.chdir(repository)
    words = [CONV, "--input", "1x16x32x32"]
    for kind in ("modules", "layers", "memory"):
        path = tmp_path / f"{kind}.svg"
        assert run("plot", kind, *words, "-o", str(path)).exit_code == 0
        assert path.read_bytes().startswith(b"<?xml")
        assert json.loads(run("plot", kind, *words, "--format", "json").stdout)["schema"] == 1
    done = run("plot", "pareto", str(tmp_path / "modules.svg"), "-o", str(tmp_path / "p.svg"))
    assert done.exit_code == 2
    assert "is not JSON; give the file that costmodel pick" in done.stderr


# -- the other pictures --------------------------------------------------------------------------


def test_modules_fill_their_parent_from_the_left(report):
    found = modules.data(report)
    top = [module for module in found["modules"] if module["level"] == 1]
    assert sum(module["share"] for module in top) == pytest.approx(1)
    assert [m["start"] for m in top] == pytest.approx(
        [sum(m["share"] for m in top[:i]) for i in range(len(top))]
    )
    assert modules.draw(found).axes


def test_layers_keep_the_exact_counts(report):
    found = layers.data(report)
    assert sum(layer["macs"] for layer in found["layers"]) == report.macs
    assert sum(layer["bytes"] for layer in found["layers"]) == report.table.total.bytes
    assert layers.draw(found, columns="one").axes


def test_the_peak_of_the_memory_picture_is_the_reports(report):
    found = memory.data(report)
    assert found["peak"]["bytes"] == report.peak_activation_bytes == max(found["bytes"])
    assert memory.draw(found, dark=True).axes


def test_the_validation_picture_counts_what_is_in_the_band():
    common_key = {"hw": "rpi4", "execution": "ncnn", "layout": "nchw", "dtype": "fp32", "tier": "x"}
    rows = [
        {**common_key, "model": str(predicted), "measured_ms": 10.0, "predicted_ms": predicted}
        for predicted in (9.1, 10.9, 11.1, 20.0)
    ]
    found = validation.data({"rows": rows})
    assert [series["within_band"] for series in found["series"]] == [0.5]
    assert validation.draw(found).axes
    with pytest.raises(CostModelError, match="no predicted runs"):
        validation.data({"rows": []})


@given(st.lists(st.tuples(st.integers(1, 6), st.integers(1, 6)), min_size=1, max_size=12))
def test_the_front_is_what_nothing_dominates(points):
    points = [(float(cost), float(value)) for cost, value in points]
    wanted = [
        not any(c <= cost and v >= value and (c, v) != (cost, value) for c, v in points)
        for cost, value in points
    ]
    assert pareto.front(points) == wanted


def test_the_pareto_picture_names_its_corners():
    rows = [
        {"target": f"timm:net{i}", "latency_s": 10.0 ** (i - 3), "top1": 60 + 5 * i, "pareto": True}
        for i in range(4)
    ] + [{"target": "bad", "latency_s": 5.0, "top1": 50.0}, {"target": "unknown", "top1": None}]
    found = pareto.data({"rows": rows})
    assert (found["left_out"], sum(p["pareto"] for p in found["points"])) == (1, 4)
    made = pareto.draw(found)
    (axes,) = made.axes
    assert {"net0", "net1", "net2", "net3"} <= {t.get_text() for t in axes.texts}
    assert axes.get_xlabel() == "latency (ms)"
    assert faults(made) == []
    # No name lies on the stair, whose steps are drawn in these corners.
    corners = axes.transData.transform([(10.0**i, 60 + 5 * i) for i in range(4)])
    renderer = made.canvas.get_renderer()
    for text in axes.texts:
        box = text.get_window_extent(renderer)
        for (x0, y0), (x1, y1) in itertools.pairwise(corners):
            flat = box.y0 < y0 < box.y1 and box.x0 < x1 and x0 < box.x1
            steep = box.x0 < x1 < box.x1 and box.y0 < y1 and y0 < box.y1
            assert not flat, text.get_text()
            assert not steep, text.get_text()


def test_scaling_curves_start_at_one():
    rows = [
        {"phi": phi, "ratio": 2.1**phi, "two_to_phi": 2.0**phi, "coefficient_ratio": 1.9**phi,
         "latency_s": {"rpi4": 0.1 * 3**phi}}
        for phi in range(3)
    ]  # fmt: skip
    found = scaling.data({"rows": rows, "nominal_factor": 1.92})
    assert all(points[0][1] == pytest.approx(1) for points in found["curves"].values())
    assert found["curves"]["latency on rpi4"][2][1] == pytest.approx(9)
    assert scaling.draw(found).axes


# -- small parts ---------------------------------------------------------------------------------


def test_every_family_has_a_class_and_every_class_differs_in_marker_and_colour():
    families = {rule.family for rule in registry._RULES.values() if isinstance(rule.family, str)}
    assert {style.class_of(family) for family in families} <= set(style.CLASSES)
    looks = list(style.CLASSES.values())
    assert (
        len({look.colour for look in looks}) == len({look.marker for look in looks}) == len(looks)
    )


@pytest.mark.parametrize(
    ("paths", "name"),
    [
        (["a.b"], "a.b"),
        (["blocks.0.mlp.fc1", "blocks.11.mlp.fc1"], "blocks.*.mlp.fc1"),
        (["blocks.0.conv_pw", "blocks.1.0.conv_pwl"], "blocks.*.conv_pw/conv_pwl"),
        (["a.0", "a.1"], "convolution"),
    ],
)
def test_many_alike_have_one_name(paths, name):
    assert common(paths, "convolution") == name


def test_labels_keep_the_end_of_a_long_name():
    assert label("a" * 30 + ".conv", 2, 10) == "…aaaa.conv ×2"


@pytest.mark.parametrize(
    ("value", "text"),
    [(68.3e9, "68.3 G"), (12.0, "12 "), (1.008e12, "1.01 T"), (0, "0 "), (0.0025, "2.5 m"),
     (999.9, "1 k")],
)  # fmt: skip
def test_short_numbers(value, text):
    assert short(value) == text


def test_a_label_goes_to_the_nearest_free_place_or_nowhere():
    frame_box = labels.Box(0, 0, 100, 100)
    found = labels.place((20, 10), (50, 50), 2, [labels.around(50, 50, 2)], frame_box)
    assert found is not None
    assert math.isclose(found[1], 2, abs_tol=1)
    assert labels.place((20, 10), (50, 50), 2, [frame_box], frame_box) is None
    assert labels.place((200, 10), (50, 50), 2, [], frame_box) is None


def test_a_label_without_a_line_is_clearly_nearest_to_its_own_marker():
    frame_box = labels.Box(0, 0, 200, 200)
    dots = [labels.around(x, y, 4) for x in range(26, 80, 12) for y in (38, 50, 62)]
    box, far = labels.place((20, 10), (50, 50), 5, dots, frame_box, (), [dots[7]], near=16)
    assert far - 5 <= 16  # alone it would stand among them, without a line
    box, far = labels.place((20, 10), (50, 50), 5, dots, frame_box, (), dots, near=16)
    assert far - 5 > 16
    assert labels.clear([box], dots)
