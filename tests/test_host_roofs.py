"""Measured roofs: which stream counts for which level, what they change in the profile of this
machine, the command that measures, and the picture."""

from __future__ import annotations

import sys
import types
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner
from matplotlib.text import Text

from costmodel.cli import cli
from costmodel.errors import CostModelError
from costmodel.hardware import Cluster, CpuEngine, check_file, cpu_peak, host, load_profile, peak
from costmodel.hardware.catalog import FOLDER
from costmodel.hardware.checked import check
from costmodel.hardware.gpus import engine_named
from costmodel.hardware.processor import Cores, Facts
from costmodel.hardware.records import read_mapping
from costmodel.hardware.schema import Point
from costmodel.measure import hostprofile, roofs
from costmodel.measure.calibrate import Fitted
from costmodel.measure.timing import Timing
from costmodel.plot import roof_points, style

#: Two cores of 2 GHz, each with 32 KB and 1 MB, and 16 MB for both. The core is zen4: 32 fp32
#: FLOPs a cycle, so 128 GFLOP/s together.
FACTS = Facts(
    "AMD EPYC", "AuthenticAMD", 25, 17, frozenset({"avx512f"}),
    (Cores("x86", 2, 2.0, 32.0, 1024.0),), 2, "cpuinfo", 8.0, l3_mb=16.0,
)  # fmt: skip
ENGINE = CpuEngine(
    kind="cpu",
    clusters=[Cluster(core="zen4", count=2, clock_ghz=2.0, l1d_kb=32.0, l2_kb=1024.0)],
    l3_mb=16.0,
)


def stream(kernel: str, kb: float, rate: float, threads: int = 2) -> Point:
    """A stream of ``rate`` GB/s."""
    return Point(kernel=kernel, dtype="fp32", threads=threads, working_set_kb=kb, flops=1000,
                 bytes=10**6, us=1e3 / rate)  # fmt: skip


def product(rate: float, dtype: str = "fp32", threads: int = 2) -> Point:
    """A matrix product of ``rate`` GFLOP/s."""
    return Point(kernel="product", dtype=dtype, threads=threads, working_set_kb=3072.0,
                 flops=2 * 512**3, bytes=3 * 2**20, us=2 * 512**3 / rate / 1e3)  # fmt: skip


POINTS = [
    stream("sum", 24.0, 150.0), stream("sum", 48.0, 300.0), stream("copy", 48.0, 900.0),
    stream("sum", 512.0, 200.0), stream("triad", 1536.0, 210.0), stream("copy", 2000.0, 700.0),
    stream("sum", 8192.0, 90.0), stream("copy", 20000.0, 80.0), stream("triad", 131072.0, 30.0),
    stream("sum", 131072.0, 28.0), stream("sum", 131072.0, 60.0, threads=1),
    product(100.0), product(140.0), product(260.0, "bf16"), product(66.0, threads=1),
]  # fmt: skip


def test_a_level_has_the_fastest_stream_that_lies_in_it_alone():
    # 48 KB is 3/4 of both first-level caches. A copy there measures the call, not the cache: the
    # sum counts. 2000 KB is more than 3/4 of both second levels, 20000 KB less than 4 x the third.
    assert roofs.bandwidths(POINTS, ENGINE) == pytest.approx(
        {"l1": 300.0, "l2": 210.0, "l3": 90.0, "dram": 30.0}
    )
    assert roofs.peaks(POINTS) == pytest.approx({"fp32": 0.140, "bf16": 0.260})


def test_working_sets_lie_in_every_level_and_beyond():
    for threads in (1, 2):
        sizes = roofs.working_sets(ENGINE, threads)
        points = [stream("sum", kb, 10.0, threads) for kb in sizes]
        assert set(roofs.bandwidths(points, ENGINE)) == {"l1", "l2", "l3", "dram"}
        assert sizes[-1] == 2**17


def test_measured_figures_replace_assumed_ones_and_say_so():
    made = hostprofile.with_roofs(FACTS, POINTS)
    assert made["memory"]["gb_per_s"] == 30.0
    assert made["sources"]["memory.gb_per_s"].startswith("measured: ")
    # 140 GFLOP/s on two cores at 32 a cycle take 2.1875 GHz, more than the 2.0 that was stated
    assert made["engines"]["cpu"]["clusters"][0]["clock_ghz"] == pytest.approx(2.188)
    assert "at least" in made["sources"]["engines.cpu.clusters.0.clock_ghz"]
    assert "notes" not in made


def test_the_format_that_needs_the_highest_clock_shows_it():
    # 300 GFLOP/s of bf16 on two cores at 64 a cycle take 2.34 GHz, 140 of fp32 at 32 only 2.19
    made = hostprofile.with_roofs(FACTS, [product(140.0), product(300.0, "bf16")])
    assert made["engines"]["cpu"]["clusters"][0]["clock_ghz"] == pytest.approx(2.344)
    assert "64 bf16" in made["sources"]["engines.cpu.clusters.0.clock_ghz"]


def test_cores_that_slow_one_another_down_get_a_clock_for_all_of_them():
    # 96 GFLOP/s on two cores are 48 on each, where one alone reaches 60: at 2 GHz, 1.6 together
    made = hostprofile.with_roofs(FACTS, [product(60.0, threads=1), product(96.0)])
    cluster = made["engines"]["cpu"]["clusters"][0]
    assert (cluster["clock_ghz"], cluster["all_core_ghz"]) == (2.0, pytest.approx(1.6))
    assert "all cores" in made["sources"]["engines.cpu.clusters.0.all_core_ghz"]
    # two that are no slower together leave it open
    free = hostprofile.with_roofs(FACTS, POINTS)
    assert "all_core_ghz" not in free["engines"]["cpu"]["clusters"][0]


def test_a_product_on_all_cores_follows_the_same_on_one(monkeypatch):
    monkeypatch.setattr(roofs, "time_calls", lambda *_, **__: Timing(1.0, 1.0, 1.0, 5, True))
    points = roofs.measure_roofs(hostprofile.check(hostprofile.document(FACTS), Path("x")), 1.0)
    products = [(p.flops, p.dtype, p.threads) for p in points if p.kernel == "product"]
    pairs = list(zip(products[::2], products[1::2], strict=True))
    assert all(one[:2] == two[:2] and (one[2], two[2]) == (1, 2) for one, two in pairs)


def test_the_clock_of_all_cores_is_that_of_most_large_products():
    """A neighbour slowed one of four on all cores, and a small one is not shared out well."""
    assert all_core_clock({128: 0.4, 256: 0.85, 512: 0.8, 1024: 0.5, 2048: 0.8}) == 1.6


def test_no_product_on_all_cores_is_above_their_peak():
    # 108 GFLOP/s on two cores at 32 a cycle take 1.6875 GHz, whatever most products show
    assert all_core_clock({256: 0.9, 512: 0.8, 1024: 0.5, 2048: 0.8}) == 1.688


def all_core_clock(shares: dict[int, float]) -> float:
    """By products of these sizes, of which one core computes 60 GFLOP/s, and two so much of 120."""
    points = []
    for size, share in shares.items():
        for threads, rate in ((1, 60.0), (2, 120.0 * share)):
            flops = 2 * size**3
            points.append(product(rate, threads=threads).model_copy(
                update={"flops": flops, "us": flops / rate / 1e3}))  # fmt: skip
    (cluster,) = hostprofile.with_roofs(FACTS, points)["engines"]["cpu"]["clusters"]
    return float(cluster["all_core_ghz"])


def test_a_slower_product_leaves_the_stated_clock():
    # no core runs at the 7 GHz that 900 GFLOP/s would take: a unit that it is not known to have did
    made = hostprofile.with_roofs(
        FACTS, [product(100.0), product(900.0, "bf16"), stream("sum", 48.0, 300.0)]
    )
    assert made["engines"]["cpu"]["clusters"][0]["clock_ghz"] == 2.0
    assert made["memory"]["gb_per_s"] == 40.0
    assert made["sources"]["memory.gb_per_s"].startswith("derived: assumed")


def test_every_kernel_counts_what_it_does(monkeypatch):
    """Each benchmark's call is run once for real; the time is made up."""
    calls = []

    def timed(call, **limits):
        calls.append(call())
        assert limits["max_seconds"] <= 1.0
        return Timing(2e-3, 1e-3, 3e-3, 5, True)

    monkeypatch.setattr(roofs, "time_calls", timed)
    monkeypatch.setattr(roofs, "SIZES", (64,))
    points = roofs.measure_roofs(host.profile_of(FACTS), 40.0)
    assert {p.threads for p in points} == {1, 2}
    assert {p.us for p in points} == {1000.0}  # the 10th percentile
    first = points[0]
    assert (first.kernel, first.flops, first.bytes) == ("product", 2 * 64**3, 3 * 64 * 64 * 4)
    assert {(p.kernel, p.dtype) for p in points} == {
        ("product", "fp32"), ("product", "bf16"), ("sum", "fp32"), ("copy", "fp32"),
        ("triad", "fp32"),
    }  # fmt: skip
    for point, result in zip(points, calls, strict=True):
        if point.kernel == "triad":  # x + 3 y over ones: two reads and a write of 4 bytes
            assert result[0] == 4.0
            assert point.bytes == 12 * result.numel()
        elif point.kernel == "sum":  # every element read once is one addition of a one
            assert point.flops == result.sum().item()
            assert point.bytes == 4 * point.flops


def test_a_known_gpu_is_a_second_engine(monkeypatch):
    import torch

    heard = []
    made = hostprofile.with_roofs(FACTS, POINTS)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "NVIDIA Unheard 1")
    hostprofile._add_gpu(made, heard.append)
    assert heard == ["the GPU NVIDIA Unheard 1 is left out: no profile describes it"]
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "NVIDIA H100 80GB HBM3")
    hostprofile._add_gpu(made, heard.append)
    profile = check(made, Path("host"))
    shipped = load_profile("h100-sxm")
    assert peak(profile, "gpu", "bf16") == peak(shipped, "gpu", "bf16")
    assert profile.engines["gpu"].memory == shipped.memory
    assert profile.default.engine == "cpu"


def test_every_named_gpu_has_a_profile():
    for name, profile in read_mapping(FOLDER / "gpus.yaml").items():
        for prefix in ("", "NVIDIA ", "Tesla "):
            assert engine_named(prefix + name)[0] == profile
    assert engine_named("Voodoo 2") is None


# The command


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """`FACTS` as this machine, its roofs made up, and what `fit_constants` was called with."""
    asked = {}

    def fit_constants(profile, runtimes, *, threads, seconds, advance):
        asked.update(profile=profile, runtimes=runtimes, threads=threads, seconds=seconds)
        advance("fitting")
        return {"eager": Fitted({"matrix_efficiency": 0.87654321}, {"1": 1.23456}, 12)}

    fake = types.ModuleType("costmodel.measure.calibrate")
    fake.fit_constants = fit_constants
    monkeypatch.setitem(sys.modules, "costmodel.measure.calibrate", fake)
    monkeypatch.setattr(hostprofile, "facts", lambda: FACTS)
    monkeypatch.setattr(hostprofile, "measure_roofs", lambda *_: POINTS)
    monkeypatch.setattr(host, "facts", lambda: FACTS)
    monkeypatch.setenv("COSTMODEL_HOST", str(tmp_path / "settings" / "host.yaml"))
    host.detect.cache_clear()
    yield asked
    host.detect.cache_clear()


def calibrate(*words: str):
    return CliRunner().invoke(cli, ["hw", "calibrate", "--runtimes", "eager", *words])


SUMMARY = """\
measured       rate          of
products fp32  140 GFLOP/s   peak 140 GFLOP/s
products bf16  260 GFLOP/s   peak 280.1 GFLOP/s
streams l1     300 GB/s
streams l2     210 GB/s
streams l3     90 GB/s
streams dram   30 GB/s
eager          constants: 1  12 microbenchmarks
"""


def test_calibrate_keeps_the_profile_and_writes_it_where_it_is_asked(machine, tmp_path):
    path = tmp_path / "mine.yaml"
    done = calibrate("-o", str(path), "--seconds", "40")
    assert done.exit_code == 0, done.stderr
    assert done.stdout == SUMMARY
    assert "use it as --hw host" in done.stderr
    assert "eager: only 12 microbenchmarks fitted into the time; give more --seconds" in done.stderr
    assert machine["runtimes"] == ("eager",)
    assert machine["threads"] == 2
    assert machine["seconds"] == pytest.approx(30.0)
    assert machine["profile"].memory.gb_per_s == 30.0
    found = load_profile("host")
    assert found == check_file(path)
    assert found.measured.constants == {"eager": {"matrix_efficiency": 0.8765}}
    assert found.measured.probe_ms == {"eager": {"1": 1.235}}
    assert CliRunner().invoke(cli, ["hw", "check", str(path)]).stdout == "ok\n"
    assert cpu_peak(found, "cpu", "fp32") == pytest.approx(140e9, rel=1e-3)
    assert len(yaml.safe_load(path.read_text())["measured"]["points"]) == len(POINTS)


def test_calibrate_without_a_file_only_keeps(machine, tmp_path):
    assert calibrate().exit_code == 0
    assert load_profile("host").measured is not None
    assert {p.name for p in tmp_path.iterdir()} == {"settings"}


def test_an_unwritable_file_is_said_and_the_calibration_is_kept(machine, tmp_path):
    done = calibrate("-o", str(tmp_path / "nowhere" / "x.yaml"))
    assert done.exit_code == 2
    assert "cannot write" in done.stderr
    assert load_profile("host").measured is not None


def test_a_runtime_that_does_not_exist_is_refused_before_anything_is_measured(machine):
    done = CliRunner().invoke(cli, ["hw", "calibrate", "--runtimes", "eager,tensorrt"])
    assert done.exit_code == 2
    assert "tensorrt" in done.stderr
    assert machine == {}
    assert calibrate("--plot", "roofs.html").exit_code == 2
    assert machine == {}


def test_measured_roofs_are_those_of_the_roofline(machine):
    from costmodel.plot.roofs import memory_roofs
    from costmodel.setting import setting

    calibrate()
    found = {r.names[0]: (r.rate, r.origin) for r in memory_roofs(setting("host"))}
    assert found["L2"] == (210e9, "measured")
    one = {r.names[0]: r.origin for r in memory_roofs(setting("host", threads=1))}
    assert one["L1"] == "data sheet"


# The picture


def test_the_picture_shows_every_point_and_no_text_over_another(machine, tmp_path):
    path = tmp_path / "roofs.png"
    assert calibrate("--plot", str(path)).exit_code == 0
    assert path.read_bytes().startswith(b"\x89PNG")
    data = roof_points.data(load_profile("host"))
    assert len(data["points"]) == len(POINTS)
    assert data["roofs"]["memory"][0] == {
        "level": "DRAM", "bytes_per_s": 30e9, "origin": "measured"}  # fmt: skip
    for columns in ("one", "two"):
        made = roof_points.draw(data, columns=columns)
        made.draw_without_rendering()
        left, right = made.axes
        renderer = made.canvas.get_renderer()
        upright = [t for a in (left, right) for t in a.texts if not t.get_rotation()]
        assert {t.get_text() for t in upright} >= {"L1", "L2", "L3"}
        straight = [Text.get_window_extent(t, renderer) for t in upright]
        for i, one in enumerate(straight):
            assert not any(one.overlaps(two) for two in straight[i + 1 :])
        assert len(left.texts) + len(right.texts) >= 4 + 2 + 3  # levels, formats, caches
        assert not left.get_tightbbox(renderer).overlaps(right.get_tightbbox(renderer))


def test_a_profile_without_measured_roofs_cannot_be_drawn(tmp_path: Path):
    with pytest.raises(CostModelError, match="no measured roofs"):
        roof_points.data(load_profile("rpi4"))
    assert style.suffix(tmp_path / "x.png") == "png"
