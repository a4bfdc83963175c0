"""The machine in hand: detection from files as Linux and macOS write them, the stored calibration,
and what a prediction says of each."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

import costmodel as cm
from costmodel.cli import cli
from costmodel.errors import CostModelError
from costmodel.hardware import check_file, cpu_peak, host, load_profile, processor
from costmodel.hardware.processor import Cores, Facts, linux, mac
from costmodel.machine import constants
from costmodel.machine.constants import constants_of
from costmodel.setting import setting

X86 = """\
processor\t: {n}
vendor_id\t: {vendor}
cpu family\t: {family}
model\t\t: {model}
model name\t: {name}
cpu MHz\t\t: 2596.138
flags\t\t: fpu sse2 {flags}

"""
ARM = """\
processor\t: {n}
Features\t: fp asimd evtstrm
CPU implementer\t: 0x41
CPU part\t: {part}

"""


def tree(root: Path, cpuinfo: str, files: dict[str, str]) -> Path:
    """A file system root with ``/proc/cpuinfo``, 8 GB of memory, and more files."""
    whole = {"proc/cpuinfo": cpuinfo, "proc/meminfo": "MemTotal:  7812500 kB\n", **files}
    for name, text in whole.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def cpu(n: int, core: int, shared: str, freq: int | None = None, **caches: str) -> dict[str, str]:
    """The files of one CPU below ``/sys``; ``shared`` share the third cache."""
    base = f"sys/devices/system/cpu/cpu{n}"
    files = {f"{base}/topology/core_id": str(core), f"{base}/topology/physical_package_id": "0"}
    if freq is not None:
        files[f"{base}/cpufreq/cpuinfo_max_freq"] = str(freq)
    for index, (level, size) in enumerate(caches.items()):
        folder = f"{base}/cache/index{index}"
        files |= {
            f"{folder}/level": level[1],
            f"{folder}/type": "Data" if level == "l1" else "Unified",
            f"{folder}/size": size,
            f"{folder}/shared_cpu_list": shared if level == "l3" else str(n),
        }
    return files


def genoa(root: Path, more: dict[str, str] | None = None) -> Path:
    text = "".join(
        X86.format(n=n, vendor="AuthenticAMD", family=25, model=17, name="AMD EPYC",
                   flags="avx2 avx512f hypervisor")
        for n in range(4)
    )  # fmt: skip
    files: dict[str, str] = {}
    for n in range(4):  # two threads a core: CPUs 0 and 2 are one core
        files |= cpu(n, n % 2, "0-3", l1="32K", l2="1024K", l3="32768K")
    return tree(root, text, files | (more or {}))


def test_threads_of_a_core_are_one_core_and_caches_are_read(tmp_path):
    found = linux(genoa(tmp_path), range(4))
    assert found.cores == (Cores("x86", 2, 2.596138, 32.0, 1024.0, False),)
    assert (found.threads, found.l3_mb, found.l3_count) == (4, 32.0, 1)
    assert found.memory_gb == 8.0
    assert (found.virtual, found.clock_from, found.quota) == (True, "cpuinfo", None)


def test_affinity_counts(tmp_path):
    assert linux(genoa(tmp_path), {0, 2}).cores[0].count == 1
    with pytest.raises(CostModelError, match="no processor that may be used"):
        linux(genoa(tmp_path), {77})


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/cpu.max": "150000 100000\n",
          "sys/fs/cgroup/a/b/cpu.max": "max 100000\n"}, 1.5),
        ({"proc/self/cgroup": "3:cpu,cpuacct:/x\n", "sys/fs/cgroup/cpu/x/cpu.cfs_quota_us": "50000",
          "sys/fs/cgroup/cpu/x/cpu.cfs_period_us": "100000"}, 0.5),
        ({"proc/self/cgroup": "3:cpu:/../..\n", "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1"}, None),
    ],
)  # fmt: skip
def test_the_quota_of_a_container_limits_the_cores(tmp_path, files, quota):
    found = linux(genoa(tmp_path, files), range(4))
    assert found.quota == quota
    assert host._count(host.profile_of(found)) == (2 if quota is None else 1)


def test_zen4_in_a_virtual_machine(tmp_path):
    profile = host.profile_of(linux(genoa(tmp_path), range(4)))
    assert profile.kind == "host"
    assert profile.chip == "AMD EPYC (family 25, model 17)"
    assert profile.engines["cpu"].clusters[0].core == "zen4"
    # two cores x two 256-bit FMA pipes x 8 lanes x 2 FLOPs x 2.596 GHz
    assert cpu_peak(profile, "cpu", "fp32") == pytest.approx(2 * 32 * 2.596e9)
    assert "boost clock is unknown" in profile.sources["engines.cpu.clusters.0.clock_ghz"]
    assert "assumed" in profile.sources["memory.gb_per_s"]
    assert profile.memory.gb_per_s == 40.0


@pytest.mark.parametrize(
    ("vendor", "family", "model", "flags", "core"),
    [
        ("GenuineIntel", 6, 85, "avx2 avx512f", "skylake-x"),
        ("GenuineIntel", 6, 106, "avx2 avx512f", "x86-avx512"),
        ("GenuineIntel", 6, 207, "avx2 avx512f amx_tile", "sapphire-rapids-amx"),
        ("GenuineIntel", 6, 207, "avx2 avx512f", "sapphire-rapids"),
        # A server that a hypervisor gives the number of a desktop.
        ("GenuineIntel", 6, 167, "avx2 avx512f amx_tile", "sapphire-rapids-amx"),
        ("AuthenticAMD", 25, 33, "avx2", "x86-avx2"),
        ("AuthenticAMD", 25, 97, "avx2 avx512f", "zen4"),
        ("AuthenticAMD", 26, 68, "avx2 avx512f", "x86-avx512"),
    ],
)
def test_a_core_is_known_by_its_numbers_or_by_its_widest_vectors(
    tmp_path, vendor, family, model, flags, core
):
    text = X86.format(n=0, vendor=vendor, family=family, model=model, name="CPU", flags=flags)
    found = linux(tree(tmp_path, text, cpu(0, 0, "0", 4_600_000, l1="32K")), {0})
    (cluster,) = host.profile_of(found).engines["cpu"].clusters
    assert (cluster.core, cluster.clock_ghz, cluster.l2_kb) == (core, 4.6, None)


def test_a_hybrid_processor_has_two_clusters(tmp_path):
    text = "".join(
        X86.format(n=n, vendor="GenuineIntel", family=6, model=154, name="i7", flags="avx2")
        for n in range(3)
    )
    files = {"sys/devices/cpu_atom/cpus": "1-2\n"}
    for n, clock in enumerate((4_700_000, 3_500_000, 3_500_000)):
        files |= cpu(n, n, "0-2", clock, l1="48K", l2="1280K")
    clusters = host.profile_of(linux(tree(tmp_path, text, files), range(3))).engines["cpu"].clusters
    assert [(c.core, c.count) for c in clusters] == [("golden-cove", 1), ("gracemont", 2)]


def test_arm_parts(tmp_path):
    text = "".join(ARM.format(n=n, part=p) for n, p in enumerate(("0xd05", "0xd0b", "0xfff")))
    files = {k: v for n in range(3) for k, v in cpu(n, n, "0-2", 2_000_000).items()}
    clusters = host.profile_of(linux(tree(tmp_path, text, files), range(3))).engines["cpu"].clusters
    assert [c.core for c in clusters] == ["cortex-a76", "arm-neon", "cortex-a55"]
    assert clusters[0].l1d_kb is None


def test_without_vectors_there_is_one_clear_line(tmp_path):
    text = X86.format(n=0, vendor="GenuineIntel", family=6, model=23, name="Core 2", flags="ssse3")
    with pytest.raises(CostModelError, match="no AVX2 and no Advanced SIMD; describe it"):
        host.profile_of(linux(tree(tmp_path, text, {}), {0}))


def test_mac():
    said = {
        "hw.memsize": "17179869184", "hw.physicalcpu": "8", "hw.logicalcpu": "8",
        "machdep.cpu.brand_string": "Apple M1 Pro", "hw.perflevel0.physicalcpu": "6",
        "hw.perflevel1.physicalcpu": "2", "hw.perflevel0.l1dcachesize": "131072",
        "hw.perflevel0.l2cachesize": "12582912", "hw.perflevel0.cpusperl2": "3",
        "hw.perflevel1.l1dcachesize": "65536",
    }  # fmt: skip
    profile = host.profile_of(mac(said))
    clusters = profile.engines["cpu"].clusters
    assert [(c.core, c.count, c.l1d_kb) for c in clusters] == [
        ("apple-firestorm", 6, 128.0), ("apple-icestorm", 2, 64.0)]  # fmt: skip
    assert clusters[0].l2_shared
    assert profile.sources["engines.cpu.clusters.0.clock_ghz"].startswith("derived: assumed")
    with pytest.raises(CostModelError, match="sysctl tells no"):
        mac({})


def test_another_system_says_so(monkeypatch):
    monkeypatch.setattr(processor.platform, "system", lambda: "Windows")
    with pytest.raises(CostModelError, match="describe it in a profile file"):
        processor.facts()


# The profile called host


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """A known machine, and the path of its calibration, which is not there yet."""
    found = linux(genoa(tmp_path / "root"), range(4))
    monkeypatch.setattr(host, "facts", lambda: found)
    path = tmp_path / "settings" / "host.yaml"
    monkeypatch.setenv("COSTMODEL_HOST", str(path))
    host.detect.cache_clear()
    yield path
    host.detect.cache_clear()


def calibrated(path: Path, **changes) -> dict:
    made = host.document(host.facts()) | changes
    made.pop("notes", None)
    made["measured"] = {
        "date": "2026-11-23",
        "software": {"torch": "2.13.0"},
        "gb_per_s": {"l1": 300.0, "dram": 30.0},
        "tflops": {"fp32": 0.1},
        "constants": {"eager": {"matrix_efficiency": 0.9, "convolution_efficiency": 0.3}},
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(host.as_yaml(made))
    return made


def predict(**options):
    table = cm.cost(cm.trace("torch.nn:Linear(64, 64)", "1x64"))
    return cm.predict(table, "host", **options)


def test_a_detected_host_says_that_it_is_not_calibrated(here):
    found = predict()
    assert found.hw == "host:cpu"
    assert found.notes[0] == host.UNCALIBRATED
    assert found.basis == "datasheet"


def test_a_stored_calibration_is_used_and_said(here):
    calibrated(here)
    assert load_profile("host").measured.gb_per_s["dram"] == 30.0
    found = predict()
    assert found.basis == "calibrated"
    assert found.validated.startswith("microbenchmarks on this machine, 2026-11-23")
    assert host.UNCALIBRATED not in found.notes
    assert predict(execution="onnxruntime").basis == "datasheet"


def test_measured_constants_replace_the_shipped_ones_and_yield_to_a_calibration(here):
    calibrated(here)
    chosen = setting("host")
    assert chosen.constants()["matrix_efficiency"] == 0.9
    assert chosen.constants({"matrix_efficiency": 0.4})["matrix_efficiency"] == 0.4
    other = setting("host", execution="ncnn").constants()["matrix_efficiency"]
    assert other == setting("i9-10940x", execution="ncnn").constants()["matrix_efficiency"]
    # A compiled network calls the libraries that eager execution was measured on.
    assert setting("host", execution="compiled").constants()["matrix_efficiency"] == 0.9
    assert predict().latency_s < predict(calibration={"matrix_efficiency": 0.05}).latency_s


def test_a_network_compiled_for_a_host_takes_what_it_shares_with_the_eager_calibration(
    here, monkeypatch
):
    """A calibration names every constant that eager execution has, of which compiled networks may
    need some only."""
    made = calibrated(here)
    eager, compiled = constants_of("x86/eager"), dict(constants_of("x86/compiled"))
    del compiled["apart_cycles"]
    known = {**constants.blocks(), "x86/compiled": compiled}
    monkeypatch.setattr(constants, "blocks", lambda: known)
    measured = {name: (c.low + 3 * c.high) / 4 for name, c in eager.items()}
    made["measured"]["constants"]["eager"] = measured
    here.write_text(host.as_yaml(made))
    chosen = setting("host", execution="compiled")
    shipped = {c.name: c.value if c.here is None else c.here for c in compiled.values()}
    assert not chosen.is_x86 or chosen.constants() == shipped | {
        name: value for name, value in measured.items() if name in compiled
    }
    assert predict(execution="compiled").basis == "calibrated"


def test_a_measured_residual_is_the_interval(here):
    made = calibrated(here)
    made["measured"]["residual"] = {"eager": {"low": 0.9, "high": 1.2}}
    here.write_text(host.as_yaml(made))
    found = predict()
    assert found.interval_s == (found.latency_s * 0.9, found.latency_s * 1.2)
    assert found.validated == "microbenchmarks on this machine, 2026-11-23"


def test_a_calibration_of_another_machine_is_not_used(here):
    calibrated(here, chip="Another CPU")
    found = load_profile("host")
    assert found.measured is None
    assert "of another machine (Another CPU, 2 cores)" in found.notes
    assert found.notes in predict().notes


def test_hw_list_and_show_have_the_host(here):
    listed = CliRunner().invoke(cli, ["hw", "list"])
    assert listed.stdout.splitlines()[-1].split()[0] == "host"
    shown = CliRunner().invoke(cli, ["hw", "show", "host"])
    assert shown.exit_code == 0
    assert host.UNCALIBRATED in shown.stdout
    calibrated(here)
    again = CliRunner().invoke(cli, ["hw", "show", "host"]).stdout
    assert "measured.gb_per_s.dram" in again


def test_a_malformed_calibration_names_the_file(here):
    calibrated(here)
    here.write_text(here.read_text().replace("dram", "disk"))
    with pytest.raises(CostModelError, match=r"host\.yaml: measured\.gb_per_s\.disk"):
        load_profile("host")


def test_the_detected_profile_is_a_file_that_the_checker_takes(here, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(host.as_yaml(host.document(host.facts())))
    assert check_file(path).name == "host"
    assert yaml.safe_load(path.read_text())["sources"]


def test_this_very_machine_is_detected():
    found = processor.facts()
    assert isinstance(found, Facts)
    assert sum(c.count for c in found.cores) >= 1
    assert host.profile_of(found).memory.capacity_gb > 0
